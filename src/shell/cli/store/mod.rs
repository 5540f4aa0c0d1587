//! `weir store check | dump | repair`: what lies on flash, for people.

pub(super) mod check;
mod dump;
pub(super) mod lines;
mod repair;

use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use super::arguments::{Command, WrongUse, unknown, unknown_option};
use super::help;
use super::place::Place;

/// What is to be done with a store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Options {
    Check { place: Place, json: bool },
    Dump(dump::Wanted),
    Repair { place: Place, json: bool },
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, WrongUse> {
    const VERBS: [&str; 3] = ["check", "dump", "repair"];
    let verb = match parser.next()? {
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(help::STORE)),
        Some(Arg::Value(verb)) => verb.string()?,
        Some(option) => return Err(unknown_option(&option, "weir store", &["--help"])),
        None => return Err(WrongUse::of("wants check, dump or repair; see `weir store --help`")),
    };
    match verb.as_str() {
        "check" | "repair" => {
            let (mut place, mut json) = (Place::default(), false);
            let name = if verb == "check" { "weir store check" } else { "weir store repair" };
            while let Some(argument) = parser.next()? {
                match argument {
                    Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::STORE)),
                    Arg::Long("dir") => place.set_dir(parser.value()?),
                    Arg::Long("json") => json = true,
                    Arg::Value(value) => place.set_file(value)?,
                    wrong => return Err(unknown_option(&wrong, name, &["--dir", "--json", "--help"])),
                }
            }
            let check = verb == "check";
            Ok(Command::Store(if check { Options::Check { place, json } } else { Options::Repair { place, json } }))
        }
        "dump" => {
            let mut wanted = dump::Wanted::default();
            while let Some(argument) = parser.next()? {
                match argument {
                    Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::STORE)),
                    Arg::Long("dir") => wanted.place.set_dir(parser.value()?),
                    Arg::Short('k') | Arg::Long("kind") => wanted.set_kind(&parser.value()?.string()?)?,
                    Arg::Short('l') | Arg::Long("lane") => wanted.lane = Some(parser.value()?.string()?),
                    Arg::Long("from") => wanted.from = Some(parser.value()?.parse()?),
                    Arg::Short('n') | Arg::Long("limit") => wanted.limit = Some(parser.value()?.parse()?),
                    Arg::Value(value) => wanted.place.set_file(value)?,
                    wrong => {
                        let known = ["--dir", "--kind", "--lane", "--from", "--limit", "--help"];
                        return Err(unknown_option(&wrong, "weir store dump", &known));
                    }
                }
            }
            Ok(Command::Store(Options::Dump(wanted)))
        }
        wrong => Err(unknown("command", wrong, "weir store", &VERBS)),
    }
}

pub(super) fn run(options: &Options) -> ExitCode {
    match options {
        Options::Check { place, json } => check::check(place, *json),
        Options::Dump(wanted) => dump::dump(wanted),
        Options::Repair { place, json } => repair::repair(place, *json),
    }
}
