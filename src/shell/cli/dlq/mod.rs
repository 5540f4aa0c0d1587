//! `weir dlq list | show | replay | purge`: messages that no function could handle.

mod list;
mod replay;
mod trial;

use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use super::arguments::{Command, WrongUse, unknown, unknown_option};
use super::help;
use super::place::Place;

/// Which letters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Which {
    numbers: Vec<u64>,
    all: bool,
}

/// What is to be done with them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Options {
    List { place: Place, limit: u64, json: bool },
    Show { place: Place, number: u64, json: bool },
    Replay(ReplayOptions),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReplayOptions {
    place: Place,
    which: Which,
    purge: bool,
    function: Option<(String, Option<String>)>,
    trial: bool,
    bundle: Option<std::path::PathBuf>,
    json: bool,
}

/// What `list` prints when no limit is given.
const LIMIT: u64 = 1000;

pub(super) fn parse(parser: &mut Parser) -> Result<Command, WrongUse> {
    const VERBS: [&str; 4] = ["list", "show", "replay", "purge"];
    let verb = match parser.next()? {
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(help::DLQ)),
        Some(Arg::Value(verb)) => verb.string()?,
        Some(option) => return Err(unknown_option(&option, "weir dlq", &["--help"])),
        None => return Err(WrongUse::of("wants list, show, replay or purge; see `weir dlq --help`")),
    };
    let looks = matches!(verb.as_str(), "list" | "show");
    let replays = verb == "replay";
    if !VERBS.contains(&verb.as_str()) {
        return Err(unknown("command", &verb, "weir dlq", &VERBS));
    }
    let (mut options, mut limit) = (ReplayOptions::default(), LIMIT);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::DLQ)),
            Arg::Long("json") => options.json = true,
            Arg::Long("dir") if looks => options.place.set_dir(parser.value()?),
            Arg::Short('n') | Arg::Long("limit") if verb == "list" => limit = parser.value()?.parse()?,
            Arg::Long("all") if !looks => options.which.all = true,
            Arg::Short('f') | Arg::Long("function") if replays => {
                options.function = Some(function(&parser.value()?.string()?));
            }
            Arg::Long("try") if replays => options.trial = true,
            Arg::Long("bundle") if replays => options.bundle = Some(parser.value()?.into()),
            Arg::Value(value) => match value.to_str().and_then(|text| text.parse().ok()) {
                Some(number) if verb != "list" => options.which.numbers.push(number),
                _ => options.place.set_file(value)?,
            },
            wrong => {
                let known: &[&str] = match verb.as_str() {
                    "list" => &["--dir", "--limit", "--json", "--help"],
                    "show" => &["--dir", "--json", "--help"],
                    "replay" => &["--all", "--function", "--try", "--bundle", "--json", "--help"],
                    _ => &["--all", "--json", "--help"],
                };
                return Err(unknown_option(&wrong, &format!("weir dlq {verb}"), known));
            }
        }
    }
    let options = match verb.as_str() {
        "list" => Options::List { place: options.place, limit, json: options.json },
        "show" => match options.which.numbers.as_slice() {
            [number] => Options::Show { number: *number, place: options.place, json: options.json },
            _ => return Err(WrongUse::of("wants the number of one letter, as `weir dlq list` shows it")),
        },
        _ => {
            if options.which.all != options.which.numbers.is_empty() {
                return Err(WrongUse::of("wants the numbers of letters, or --all"));
            }
            if options.bundle.is_some() && !options.trial {
                return Err(WrongUse::of(
                    "--bundle goes with --try: to replay for good, put the function into gateway.toml first",
                ));
            }
            options.purge = verb == "purge";
            Options::Replay(options)
        }
    };
    Ok(Command::Dlq(options))
}

/// `F` or `F@VERSION`.
fn function(text: &str) -> (String, Option<String>) {
    match text.split_once('@') {
        Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
        None => (text.to_owned(), None),
    }
}

pub(super) fn run(options: &Options) -> ExitCode {
    match options {
        Options::List { place, limit, json } => list::list(place, *limit, *json),
        Options::Show { place, number, json } => list::show(place, *number, *json),
        Options::Replay(options) if options.trial => trial::trial(options),
        Options::Replay(options) => replay::replay(options),
    }
}
