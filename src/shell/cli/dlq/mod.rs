//! `weir dlq list | show | replay | purge`: messages that no function could handle.

mod list;
mod replay;
mod trial;

use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use super::arguments::{Command, WrongUse, unknown, unknown_option};
use super::place::Place;

pub(super) const HELP: &str = "\
Dead letters: messages that no function could handle. They stay on flash until they are replayed, purged, delivered (if the lane
`dead-letter` has a sink) or make room for newer ones.

Usage: weir dlq list   [FILE | --dir DIR] [--limit N] [--json]
       weir dlq show   N [FILE | --dir DIR] [--json]
       weir dlq replay N…|--all [FILE] [--function F[@VERSION]] [--try] [--bundle DIR] [--json]
       weir dlq purge  N…|--all [FILE] [--json]

list     Number, time, function, error, device and topic of each. Reads only, also beside a running gateway.
show     One letter in full: what failed, and the message.
replay   Has the function that failed handle the message again, with its device, topic and time. The letter leaves, and what comes
         of the message is committed, in one step. Through the running gateway, or on its stopped store. If it fails again, there
         is a new letter.
         --try calls the function here and shows what it would do; nothing changes. --bundle DIR tries another version of it.
purge    Throws letters away. Counted as `purged`; said in a loss record where the lane has a sink.

Options:
      --dir DIR                 list, show: the data folder, where gateway.toml is not at hand
      --all                     Every letter that is there now
  -f, --function F[@VERSION]    Only letters of function F; and only if F is configured (or in the bundle) at this version
      --try                     Show the effects, change nothing
      --bundle DIR              A function's folder (function.toml and module) in place of the configured one; with --try
  -n, --limit N                 list: so many at most; 1000 by default
      --json                    One JSON document
  -h, --help                    This text

FILE is gateway.toml where none is given; a name that is a number is a letter.

Examples:
  weir dlq list
  weir dlq show 17
  weir dlq replay 17 --try --bundle functions/threshold-2 --function threshold@2.0.0
  weir dlq replay --all --function threshold@2.0.0
  weir dlq purge 3 4 5

Exit codes: 0 done (list: there are none), 1 list: there are letters; replay, purge: some were refused or failed again, 2 all were,
64 wrong use, 66 no store, 69 the gateway does not answer, 74 the disk fails, 75 a gateway that cannot be asked has the store,
78 gateway.toml refused.
";

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
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(HELP)),
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
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(HELP)),
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
