//! `weir store check | dump | repair`: what lies on flash, for people.

pub(super) mod check;
mod dump;
pub(super) mod lines;
mod repair;

use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use super::arguments::{Command, WrongUse, unknown, unknown_option};
use super::place::Place;

pub(super) const HELP: &str = "\
Looks at what a gateway has on flash, and makes it good.

Usage: weir store check  [FILE | --dir DIR] [--json]
       weir store dump   [FILE | --dir DIR] [--kind KIND] [--lane LANE] [--from SEQ] [--limit N]
       weir store repair [FILE | --dir DIR] [--json]

check    Reads only, also on a read-only medium and beside a running gateway. Segments, frames, commits, lanes, gaps, damage, and
         what a start would lose.
dump     Prints entries, open windows and waiting records as lines of JSON. Reads only.
repair   Does what a start does: drops unfinished writes, sets aside what is damaged, and says what each file cost. Damaged files
         are copied to quarantine/ in the data folder first. Refused while a gateway runs.

Options:
      --dir DIR      The data folder (gateway.data-dir), where gateway.toml is not at hand
      --json         check, repair: one JSON document
  -k, --kind KIND    dump: entry, meter, record, or the records of one kind: message, aggregate, dead-letter, loss, usage
  -l, --lane LANE    dump: records of this lane only
      --from SEQ     dump: records from this sequence on, delivered ones that are still on flash included; default: what waits
  -n, --limit N      dump: so many lines at most
  -h, --help         This text

FILE is gateway.toml where neither is given.

Examples:
  weir store check /etc/weir/gateway.toml
  weir store dump --dir /var/lib/weir --kind dead-letter --limit 10
  weir store dump --kind meter | jq .sum
  systemctl stop weir && weir store repair && systemctl start weir

Exit codes: 0 sound (unfinished writes are no fault: nothing of them was acknowledged), 1 look at it (something was set aside,
or healed, or the store is empty), 2 damaged: something acknowledged is lost, 64 wrong use, 66 no store there, 74 the disk
fails, 75 a gateway runs (repair), 78 gateway.toml cannot be read.
";

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
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(HELP)),
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
                    Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(HELP)),
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
                    Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(HELP)),
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
