//! `weir status`: asks the running gateway how it is.

use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, Parser};
use serde_json::{Value, json};

use super::arguments::{Command, WrongUse, unknown_option};
use super::help;
use super::place::{EXIT_FAILURE, EXIT_WARNING, Place, escaped};
use super::{EXIT_UNAVAILABLE, say};
use crate::shell::control::ask;
use crate::units::Bytes;

/// Longer than the server waits for the loop.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    place: Place,
    json: bool,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, WrongUse> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::STATUS)),
            Arg::Long("dir") => options.place.set_dir(parser.value()?),
            Arg::Long("json") => options.json = true,
            Arg::Value(value) => options.place.set_file(value)?,
            wrong => return Err(unknown_option(&wrong, "weir status", &["--dir", "--json", "--help"])),
        }
    }
    Ok(Command::Status(options))
}

pub(super) fn status(options: &Options) -> ExitCode {
    let found = match options.place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let answer = match ask(&found.dir, &json!({ "do": "status" }), PATIENCE) {
        Ok(answer) => answer,
        Err(error) => {
            if options.json {
                say(&format!("{}\n", json!({ "ok": false, "error": error.to_string() })));
            }
            eprintln!("weir status: {error}");
            return ExitCode::from(EXIT_UNAVAILABLE);
        }
    };
    say(&if options.json { format!("{answer}\n") } else { text(&answer) });
    match answer["health"]["state"].as_str() {
        Some("ready") => ExitCode::SUCCESS,
        Some("degraded") => ExitCode::from(EXIT_WARNING),
        _ => ExitCode::from(EXIT_FAILURE),
    }
}

fn text(answer: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), escaped);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let health = &answer["health"];
    let mut text = format!("{} for {} s\n", word(&health["state"]), health["for_seconds"]);
    for reason in list(&health["reasons"]) {
        let subject = reason["subject"].as_str().filter(|subject| !subject.is_empty());
        let subject = subject.map(|subject| format!(" {}", escaped(subject))).unwrap_or_default();
        text +=
            &format!("  {}: {}{subject}: {}\n", word(&reason["state"]), word(&reason["reason"]), word(&reason["text"]));
    }
    let gateway = &answer["gateway"];
    if gateway.is_null() {
        return text + "the loop does not answer, so there are no numbers\n";
    }
    let books = &gateway["books"];
    text += &format!(
        "up           {} s, process {}, version {}, commit {}\n",
        gateway["uptime_seconds"],
        answer["pid"],
        word(&answer["version"]),
        gateway["commit"]
    );
    let up = |up: &Value| if up.as_bool() == Some(true) { "up" } else { "away" };
    text += &format!(
        "broker       {}, {} connections so far\n",
        up(&gateway["broker"]["up"]),
        gateway["broker"]["connections"]
    );
    for sink in list(&gateway["sinks"]) {
        text += &format!("sink         {}: {}\n", word(&sink["name"]), up(&sink["up"]));
    }
    text += &format!(
        "messages     {} received: {} delivered, {} filtered, {} aggregated, {} dead-lettered, {} expired, {} dropped, {} wait\n",
        books["received"],
        books["delivered"],
        books["filtered"],
        books["aggregated"],
        books["dead_lettered"],
        books["expired"],
        books["dropped"],
        books["pending"]
    );
    let bytes = |value: &Value| Bytes(value.as_u64().unwrap_or(0));
    for lane in list(&gateway["lanes"]) {
        text += &format!(
            "lane         {}: {} records wait, {} of {}\n",
            word(&lane["name"]),
            lane["records"],
            bytes(&lane["bytes"]),
            bytes(&lane["bytes_max"])
        );
    }
    for function in list(&gateway["functions"]) {
        text += &format!(
            "function     {} {}: {} calls, {} failed\n",
            word(&function["name"]),
            word(&function["version"]),
            function["invocations"],
            function["errors"]
        );
    }
    let memory = &gateway["memory"];
    text + &format!("memory       {} of {} planned\n", bytes(&memory["resident"]), bytes(&memory["planned"]))
}
