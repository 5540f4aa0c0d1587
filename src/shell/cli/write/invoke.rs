//! `weir invoke`: events handed to a function here, without a gateway; what it wants is shown.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser};
use serde_json::{Value, json};

use super::super::arguments::WrongUse;
use super::super::place::{self, escaped};
use super::super::store::lines::ascii;
use super::super::{EXIT_CONFIG, say, site};
use super::{EXIT_DATA, bundle, only_dir, or_here, setting, unknown};
use crate::harness::{Event, Harness, Outcome, configure};
use crate::manifest::Manifest;
use crate::shell::clock::Clock;
use crate::time::Stopwatch as _;
use crate::units::Bytes;

/// Most bytes of events.
const EVENTS_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Options {
    dir: PathBuf,
    event: PathBuf,
    settings: Vec<(String, String)>,
    json: bool,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Option<Options>, WrongUse> {
    let (mut options, mut dir, mut event) = (Options::default(), None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Short('e') | Arg::Long("event") => event = Some(PathBuf::from(parser.value()?)),
            Arg::Long("set") => options.settings.push(setting(parser)?),
            Arg::Long("json") => options.json = true,
            Arg::Value(value) => only_dir(&mut dir, value)?,
            wrong => return Err(unknown(&wrong, "weir invoke", &["--event", "--set", "--json", "--help"])),
        }
    }
    options.dir = or_here(dir);
    options.event =
        event.ok_or_else(|| WrongUse::of("weir invoke wants --event FILE, or --event - for standard input"))?;
    Ok(Some(options))
}

pub(super) fn invoke(options: &Options) -> ExitCode {
    let refuse = |why: &str, code: u8| {
        eprintln!("weir invoke: {why}");
        ExitCode::from(code)
    };
    let (mut manifest, wasm) = match bundle("weir invoke", &options.dir) {
        Ok(bundle) => bundle,
        Err(code) => return code,
    };
    let settings = options.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
    if let Err(why) = configure(&mut manifest, settings) {
        return refuse(&why, EXIT_CONFIG);
    }
    let events = match read(&options.event) {
        Ok(events) => events,
        Err(why) => return refuse(&format!("{}: {why}", options.event.display()), EXIT_DATA),
    };
    let mut clock = Clock::default();
    let now_ms = clock.now().wall_ms;
    let mut harness = match Harness::load(manifest, &wasm, now_ms.saturating_sub(1000), &mut clock) {
        Ok(harness) => harness,
        Err(error) => return refuse(&format!("a gateway refuses the function: {error}"), EXIT_CONFIG),
    };
    if !options.json {
        harness.log().iter().for_each(|line| say(&format!("on_start: log {}\n", line.shown())));
    }
    let mut failed = false;
    for event in &events {
        let began_us = clock.mono_us();
        let outcome = harness.call(event, &mut clock);
        let took_us = clock.mono_us() - began_us;
        failed |= outcome.failed();
        say(&if options.json {
            document(event, &outcome, took_us)
        } else {
            text(event, &outcome, harness.manifest(), took_us)
        });
    }
    if failed { ExitCode::from(place::EXIT_WARNING) } else { ExitCode::SUCCESS }
}

/// One document, or several one behind another.
fn read(file: &Path) -> Result<Vec<Event>, String> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().take(EVENTS_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        bytes
    } else {
        site::read_at_most(file, EVENTS_BYTES_MAX)?
    };
    let documents = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
    let mut events = Vec::new();
    for document in documents {
        let number = events.len() + 1;
        let document = document.map_err(|error| format!("event {number}: {error}"))?;
        events.push(Event::parse(document).map_err(|why| format!("event {number}: {why}"))?);
    }
    match events.is_empty() {
        true => Err("has no event; one is {\"topic\": \"a\", \"payload\": {\"temp\": 21.5}}".to_owned()),
        false => Ok(events),
    }
}

fn document(event: &Event, outcome: &Outcome, took_us: u64) -> String {
    format!("{}\n", ascii(&json!({ "event": event, "outcome": outcome, "time_us": took_us }).to_string()))
}

fn text(event: &Event, outcome: &Outcome, manifest: &Manifest, took_us: u64) -> String {
    let limits = &manifest.limits;
    let mut text = format!(
        "{}  fuel {} of {}, memory {} of {}, {} us\n",
        outcome.verdict,
        outcome.fuel,
        limits.fuel,
        Bytes(outcome.memory),
        limits.memory,
        took_us
    );
    if outcome.failed() {
        text += &format!("  event   {}\n", escaped(&event.shown()));
    }
    text + &outcome.shown("  ")
}
