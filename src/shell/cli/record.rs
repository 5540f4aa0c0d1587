//! `weir record`: calls of a running gateway's functions, into a bounded file of the one who asks.
//!
//! - The gateway keeps a bounded tape and writes nothing; this program takes the lines and writes them. It ends at the first of its
//!   bounds: time, calls, bytes; or when the gateway ends it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};
use serde_json::{Value, json};

use super::arguments::{Command, WrongUse, unknown_option};
use super::place::{Found, Place};
use super::status::PATIENCE;
use super::{EXIT_CANNOT_CREATE, EXIT_UNAVAILABLE, help, say, site};
use crate::harness::recording::{End, Head, Line, VERSION};
use crate::shell::clock::Clock;
use crate::shell::control::ask;
use crate::units::{Bytes, Millis};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    place: Place,
    to: PathBuf,
    force: bool,
    span: Millis,
    calls_max: u64,
    bytes_max: Bytes,
    functions: Vec<String>,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, WrongUse> {
    const KNOWN: [&str; 8] = ["--to", "--for", "--calls", "--bytes-max", "--function", "--force", "--dir", "--help"];
    let (mut place, mut to, mut functions, mut force) = (Place::default(), None, Vec::new(), false);
    let (mut span, mut calls_max, mut bytes_max) = (Millis(60_000), u64::MAX, Bytes::mib(16));
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::RECORD)),
            Arg::Short('t') | Arg::Long("to") => to = Some(PathBuf::from(parser.value()?)),
            Arg::Long("for") => span = unit(parser, "--for")?,
            Arg::Long("bytes-max") => bytes_max = unit(parser, "--bytes-max")?,
            Arg::Short('n') | Arg::Long("calls") => calls_max = parser.value()?.parse()?,
            Arg::Short('f') | Arg::Long("function") => functions.push(parser.value()?.string()?),
            Arg::Long("force") => force = true,
            Arg::Long("dir") => place.set_dir(parser.value()?),
            Arg::Value(value) => place.set_file(value)?,
            wrong => return Err(unknown_option(&wrong, "weir record", &KNOWN)),
        }
    }
    let to = to.ok_or_else(|| WrongUse::of("weir record wants --to FILE, the file to write"))?;
    Ok(Command::Record(Options { place, to, force, span, calls_max, bytes_max, functions }))
}

/// A number with a unit, also without the blank: `30s`, `4MiB`.
fn unit<T: core::str::FromStr<Err = E>, E: core::fmt::Display>(
    parser: &mut Parser,
    option: &str,
) -> Result<T, WrongUse> {
    let text = parser.value()?.string()?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let spaced = format!("{} {}", &text[..digits], text[digits..].trim());
    spaced.trim().parse().map_err(|error| WrongUse::of(&format!("{option}: {error}")))
}

/// What has been written.
struct Written {
    file: std::fs::File,
    bytes: u64,
    calls: u64,
}

pub(super) fn record(options: &Options) -> ExitCode {
    let found = match options.place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let mut open = OpenOptions::new();
    // It holds what devices sent.
    open.write(true).mode(0o600);
    if options.force {
        open.create(true).truncate(true)
    } else {
        open.create_new(true)
    };
    let file = match open.open(&options.to) {
        Ok(file) => file,
        Err(error) => {
            let why = match error.kind() {
                std::io::ErrorKind::AlreadyExists => "is there already; --force overwrites it".to_owned(),
                _ => site::plain(&error),
            };
            eprintln!("weir record: {}: {why}", options.to.display());
            return ExitCode::from(EXIT_CANNOT_CREATE);
        }
    };
    let mut written = Written { file, bytes: 0, calls: 0 };
    match copy(options, &found, &mut written) {
        Ok(reason) => {
            let size = Bytes(written.bytes);
            say(&format!("{}: {} calls, {size}; ended: {reason}\n", options.to.display(), written.calls));
            ExitCode::SUCCESS
        }
        Err((why, code)) => {
            eprintln!("weir record: {why}");
            if written.calls == 0 {
                let _ = std::fs::remove_file(&options.to);
            }
            ExitCode::from(code)
        }
    }
}

/// Copies lines until a bound is reached; why it ended.
fn copy(options: &Options, found: &Found, written: &mut Written) -> Result<String, (String, u8)> {
    let asked =
        |request: &Value| ask(&found.dir, request, PATIENCE).map_err(|error| (error.to_string(), EXIT_UNAVAILABLE));
    let failed =
        |error: std::io::Error| (format!("{}: {}", options.to.display(), site::plain(&error)), EXIT_CANNOT_CREATE);
    let mut clock = Clock::default();
    let began = clock.now();
    let begun = asked(&json!({ "do": "record-begin", "functions": options.functions }))?;
    let id = begun["id"].as_u64().unwrap_or(0);
    let gateway = found.config.as_ref().map(|config| config.id.clone()).unwrap_or_default();
    let head = Head { version: VERSION, weir: env!("CARGO_PKG_VERSION").to_owned(), gateway, at: began.wall_ms };
    written.line(&Line::Recording(head)).map_err(failed)?;
    loop {
        let over = options.span.0.saturating_mul(1000) <= clock.now().mono_us.saturating_sub(began.mono_us);
        let answer = asked(&json!({ "do": "record-take", "id": id, "end": over }))?;
        let lines = answer["lines"].as_str().unwrap_or_default();
        for line in lines.lines() {
            let is_call = line.starts_with("{\"call\"");
            let full = is_call && options.bytes_max.0 < written.bytes + line.len() as u64 + END_BYTES;
            if !full {
                written.text(line).map_err(failed)?;
                written.calls += u64::from(is_call);
            }
            if full || (is_call && written.calls == options.calls_max) {
                let reason = if full { "--bytes-max is reached" } else { "--calls is reached" };
                // Whatever it still has is not wanted; should it not hear this, it forgets the recording by itself.
                let _ = asked(&json!({ "do": "record-take", "id": id, "end": true }));
                let end = End { reason: reason.to_owned(), calls: written.calls };
                written.line(&Line::End(end)).map_err(failed)?;
                return Ok(reason.to_owned());
            }
        }
        if answer["ended"] == true {
            let last = lines.lines().last().and_then(|line| serde_json::from_str::<Line>(line).ok());
            return Ok(match last {
                Some(Line::End(end)) if end.reason == "asked" => "--for is over".to_owned(),
                Some(Line::End(end)) => end.reason,
                _ => "by the gateway".to_owned(),
            });
        }
        if lines.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Room that is kept for the last line.
const END_BYTES: u64 = 256;

impl Written {
    fn line(&mut self, line: &Line) -> std::io::Result<()> {
        self.text(&serde_json::to_string(line).map_err(std::io::Error::other)?)
    }

    fn text(&mut self, line: &str) -> std::io::Result<()> {
        self.bytes += line.len() as u64 + 1;
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}
