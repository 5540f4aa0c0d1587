//! `weir replay`: the calls of a recording made again, with the same version of a function or another one.
//!
//! - State, settings, times and random bytes are those of the recording; the same version gives the same answer, byte for byte.
//! - The same module has the recorded limits; another one those of its own manifest.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};
use serde_json::{Value, json};

use super::super::arguments::WrongUse;
use super::super::place::{self, EXIT_NO_STORE, escaped};
use super::super::store::lines::ascii;
use super::super::{DEFAULT_FILE, EXIT_CONFIG, modules, say, site};
use super::{EXIT_DATA, unknown};
use crate::harness::recording::{Call, Line, Recorded, VERSION};
use crate::harness::{Difference, Harness};
use crate::manifest::Manifest;
use crate::strict::Faults;

/// Longest line of a recording.
const LINE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Options {
    recording: PathBuf,
    function: String,
    config: PathBuf,
    shown_max: usize,
    json: bool,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Option<Options>, WrongUse> {
    const KNOWN: [&str; 5] = ["--function", "--config", "--limit", "--json", "--help"];
    let (mut recording, mut function, mut json, mut shown_max) = (None, None, false, 10);
    let mut config = PathBuf::from(DEFAULT_FILE);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Short('f') | Arg::Long("function") => function = Some(parser.value()?.string()?),
            Arg::Long("config") => config = PathBuf::from(parser.value()?),
            Arg::Short('n') | Arg::Long("limit") => shown_max = parser.value()?.parse()?,
            Arg::Long("json") => json = true,
            Arg::Value(value) => super::super::arguments::only_file(&mut recording, value)?,
            wrong => return Err(unknown(&wrong, "weir replay", &KNOWN)),
        }
    }
    let recording = recording.ok_or_else(|| WrongUse::of("weir replay wants the FILE that `weir record` wrote"))?;
    let function =
        function.ok_or_else(|| WrongUse::of("weir replay wants --function: F, F@VERSION, or a function's folder"))?;
    Ok(Some(Options { recording, function, config, shown_max, json }))
}

/// Why it cannot be done, and how to end.
type Refused = (String, u8);

/// What came of all calls.
#[derive(Default)]
struct Summary {
    calls: u64,
    differing: u64,
    fuel_before: u64,
    fuel_now: u64,
    /// The first ones.
    shown: Vec<(u64, Call, Vec<Difference>)>,
}

pub(super) fn replay(options: &Options) -> ExitCode {
    match make(options) {
        Ok(same) if same => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(place::EXIT_WARNING),
        Err((why, code)) => {
            eprintln!("weir replay: {why}");
            ExitCode::from(code)
        }
    }
}

/// The function that is to answer.
fn candidate(options: &Options) -> Result<(Manifest, Vec<u8>), Refused> {
    let refuse = |why: String| (why, EXIT_CONFIG);
    let folder = Path::new(&options.function);
    if folder.join("function.toml").is_file() || options.function.contains('/') {
        return modules::read_bundle(folder).map_err(refuse);
    }
    let (name, version) = match options.function.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (&*options.function, None),
    };
    let file = options.config.display();
    let faults = Faults::default();
    let loaded = crate::config::load(&options.config, None, &site::Machine, &faults);
    let no_config =
        || refuse(format!("{file} cannot be read, where {name} would be; name its folder, or --config FILE"));
    let config = loaded.ok_or_else(no_config)?.config;
    let function = config.functions.into_iter().find(|function| function.manifest.name == name);
    let function = function.ok_or_else(|| refuse(format!("{file}: has no function `{}`", name.escape_debug())))?;
    let configured = &function.manifest.version;
    if let Some(version) = version.filter(|version| *version != configured) {
        let version = version.escape_debug();
        return Err(refuse(format!(
            "{file}: {name} is configured at version {configured}, not {version}; name the folder of that version"
        )));
    }
    let wasm = modules::read_module(&function.module).map_err(refuse)?;
    Ok((function.manifest, wasm))
}

fn make(options: &Options) -> Result<bool, Refused> {
    let (manifest, wasm) = candidate(options)?;
    let mut lines = Lines::open(&options.recording)?;
    let recorded = lines.functions(&manifest.name)?;
    let (mut harness, same_module, notes) = prepare(manifest, &wasm, &recorded)?;
    let mut summary = Summary::default();
    let mut ended = None;
    while let Some(line) = lines.next()? {
        match line {
            Line::Call(call) if call.function == recorded.name => {
                summary.calls += 1;
                let outcome = harness.call(&call.event, &mut modules::Standing);
                summary.fuel_before += call.outcome.fuel;
                summary.fuel_now += outcome.fuel;
                let differences = call.outcome.differences(&outcome);
                if !differences.is_empty() {
                    summary.differing += 1;
                    if summary.shown.len() < options.shown_max {
                        summary.shown.push((summary.calls, *call, differences));
                    }
                }
            }
            Line::End(end) => ended = Some(end.reason),
            _ => {}
        }
    }
    let told = Told { recorded: &recorded, harness: &harness, same_module, notes, ended, broke_off: lines.broke_off };
    say(&if options.json { told.document(&summary) } else { told.text(&summary, options) });
    Ok(summary.differing == 0)
}

/// The function with what the recording says of it.
fn prepare(mut manifest: Manifest, wasm: &[u8], recorded: &Recorded) -> Result<(Harness, bool, Vec<String>), Refused> {
    let mut notes = Vec::new();
    let digest = format!("{:016x}", crate::function::digest(wasm));
    let same = digest == recorded.digest;
    if same {
        manifest.limits = recorded.limits(&manifest.limits);
    }
    // The site's own settings stay, as far as the manifest knows them.
    let declares = !manifest.config.is_empty();
    for (key, value) in &recorded.config {
        match manifest.config.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.clone_from(value),
            None if declares => notes.push(format!("the setting `{key}` of the recording is none of this version")),
            None => manifest.config.push((key.clone(), value.clone())),
        }
    }
    manifest.config.sort_unstable();
    if manifest.name != recorded.name {
        notes.push(format!("the recording is of `{}`", recorded.name));
        // The name stands in what is kept, where the manifest says nothing else.
        manifest.rename(&recorded.name);
    }
    if recorded.warm {
        notes.push("the function was `warm`: what it kept in memory when the recording began is not known".to_owned());
    }
    let mut harness = Harness::load(manifest, wasm, 0, &mut modules::Standing)
        .map_err(|error| (format!("a gateway refuses the function: {error}"), EXIT_CONFIG))?;
    for (key, value) in &recorded.state {
        harness.restore_state(&key.0, &value.0);
    }
    Ok((harness, same, notes))
}

/// The lines of a recording.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: u64,
    /// A line that was read too early.
    kept: Option<Line>,
    /// The last line is not whole.
    broke_off: bool,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Refused> {
        let failed = |error: std::io::Error| (format!("{}: {}", path.display(), site::plain(&error)), EXIT_NO_STORE);
        let file = File::open(path).map_err(failed)?;
        let mut lines =
            Self { path: path.to_owned(), reader: BufReader::new(file), number: 0, kept: None, broke_off: false };
        match lines.next()? {
            Some(Line::Recording(head)) if head.version == VERSION => Ok(lines),
            Some(Line::Recording(head)) => Err((
                format!("{}: is of version {}, this weir reads {VERSION}", path.display(), head.version),
                EXIT_DATA,
            )),
            _ => Err((format!("{}: is no recording of `weir record`", path.display()), EXIT_DATA)),
        }
    }

    fn next(&mut self) -> Result<Option<Line>, Refused> {
        if let Some(line) = self.kept.take() {
            return Ok(Some(line));
        }
        let place = |number: u64| format!("{}:{number}", self.path.display());
        let mut text = Vec::new();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        read.map_err(|error| (format!("{}: {error}", self.path.display()), EXIT_DATA))?;
        self.number += 1;
        if text.is_empty() {
            return Ok(None);
        }
        if text.last() != Some(&b'\n') {
            if LINE_BYTES_MAX <= text.len() as u64 {
                return Err((format!("{}: is longer than {LINE_BYTES_MAX} bytes", place(self.number)), EXIT_DATA));
            }
            // The recorder was stopped in the middle of it.
            self.broke_off = true;
            return Ok(None);
        }
        let line = serde_json::from_slice(&text)
            .map_err(|error| (format!("{}: is no line of a recording: {error}", place(self.number)), EXIT_DATA))?;
        Ok(Some(line))
    }

    /// Reads the functions; the one of this name.
    fn functions(&mut self, name: &str) -> Result<Recorded, Refused> {
        let mut functions = Vec::new();
        while let Some(line) = self.next()? {
            match line {
                Line::Function(function) => functions.push(*function),
                other => {
                    self.kept = Some(other);
                    break;
                }
            }
        }
        let names: Vec<String> = functions.iter().map(|function| function.name.clone()).collect();
        // A recording of one function is meant for whatever is named.
        let only = functions.len() == 1;
        functions.into_iter().find(|function| only || function.name == name).ok_or_else(|| {
            let names = escaped(&names.join(", "));
            (format!("{}: has no calls of `{name}`; its functions: {names}", self.path.display()), EXIT_CONFIG)
        })
    }
}

/// What is said in the end.
struct Told<'a> {
    recorded: &'a Recorded,
    harness: &'a Harness,
    same_module: bool,
    notes: Vec<String>,
    ended: Option<String>,
    broke_off: bool,
}

impl Told<'_> {
    fn text(&self, summary: &Summary, options: &Options) -> String {
        let manifest = self.harness.manifest();
        let digest = self.harness.function().digest();
        let before = format!("{} {}", escaped(&self.recorded.version), escaped(&self.recorded.digest));
        let mut text = format!(
            "{}: {} calls recorded of {before}, made again by {} {digest:016x}{}\n",
            manifest.name,
            summary.calls,
            manifest.version,
            if self.same_module { ", the same module" } else { "" }
        );
        for (number, call, differences) in &summary.shown {
            text += &format!("call {number}: {}\n", escaped(&call.event.shown()));
            for difference in differences {
                let Difference { what, expected, got } = difference;
                text += &format!("  {what}\n    recorded  {}\n    now       {}\n", escaped(expected), escaped(got));
            }
        }
        let hidden = summary.differing.saturating_sub(summary.shown.len() as u64);
        if 0 < hidden && 0 < options.shown_max {
            text += &format!("and {hidden} more that differ (--limit shows more)\n");
        }
        self.notes.iter().for_each(|note| text += &format!("note: {}\n", escaped(note)));
        if self.ended.is_none() || self.broke_off {
            text += "note: the recording broke off before its end\n";
        }
        let verdict = match summary.differing {
            0 => "identical, byte for byte".to_owned(),
            differing => format!("{differing} of {} differ", summary.calls),
        };
        text + &format!("{verdict}; fuel {} recorded, {} now\n", summary.fuel_before, summary.fuel_now)
    }

    fn document(&self, summary: &Summary) -> String {
        let manifest = self.harness.manifest();
        let differing: Vec<Value> = summary
            .shown
            .iter()
            .map(|(number, call, differences)| json!({ "call": number, "event": call.event, "differences": differences }))
            .collect();
        let document = json!({
            "ok": summary.differing == 0, "function": manifest.name, "calls": summary.calls, "differing": summary.differing,
            "recorded": { "version": self.recorded.version, "digest": self.recorded.digest, "fuel": summary.fuel_before },
            "now": {
                "version": manifest.version, "digest": format!("{:016x}", self.harness.function().digest()),
                "fuel": summary.fuel_now,
            },
            "same_module": self.same_module, "notes": self.notes, "ended": self.ended, "broke_off": self.broke_off,
            "differences": differing,
        });
        format!("{}\n", ascii(&document.to_string()))
    }
}
