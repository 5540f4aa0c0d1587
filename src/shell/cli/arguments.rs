//! Arguments to a [`Command`]; whatever is not known names the nearest that is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

#[cfg(feature = "author")]
use super::write;
use super::{DEFAULT_FILE, dlq, doctor, help, record, status, store};
use crate::strict::nearest;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help(&'static str),
    Version,
    Check(CheckOptions),
    Plan {
        options: CheckOptions,
        all: bool,
    },
    Init {
        file: PathBuf,
        force: bool,
        board: Option<String>,
    },
    Run(RunOptions),
    Status(status::Options),
    Doctor(doctor::Options),
    Store(store::Options),
    Dlq(dlq::Options),
    Record(record::Options),
    #[cfg(feature = "author")]
    Write(write::Options),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckOptions {
    pub(super) file: PathBuf,
    pub(super) board: Option<String>,
    pub(super) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RunOptions {
    pub(super) file: PathBuf,
    pub(super) metrics: Option<SocketAddr>,
}

/// The command line is wrong: what, and what is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongUse(String);

impl WrongUse {
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for WrongUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for WrongUse {
    fn from(error: lexopt::Error) -> Self {
        Self(format!("{error}; see `weir --help`"))
    }
}

/// The commands of the help's table, and `help` itself.
fn commands() -> Vec<&'static str> {
    help::COMMANDS.iter().map(|(name, _)| *name).chain(["help"]).collect()
}

pub(super) fn parse(mut parser: Parser) -> Result<Command, WrongUse> {
    match parser.next()? {
        None => Err(WrongUse(format!("wants a command: {}; see `weir --help`", commands().join(", ")))),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(Command::Help(help::WEIR)),
        Some(Arg::Short('V') | Arg::Long("version")) => Ok(Command::Version),
        Some(Arg::Value(name)) => match name.to_string_lossy().as_ref() {
            "check" => check(&mut parser),
            "plan" => plan(&mut parser),
            "init" => init(&mut parser),
            "run" => run(&mut parser),
            "status" => status::parse(&mut parser),
            "doctor" => doctor::parse(&mut parser),
            "store" => store::parse(&mut parser),
            "dlq" => dlq::parse(&mut parser),
            "record" => record::parse(&mut parser),
            #[cfg(feature = "author")]
            name @ ("new" | "build" | "test" | "invoke" | "replay") => write::parse(name, &mut parser),
            #[cfg(not(feature = "author"))]
            name @ ("new" | "build" | "test" | "invoke" | "replay") => {
                Err(WrongUse(format!("{name}: is not in this build, which is for boards (no cargo feature `author`)")))
            }
            "help" => Ok(Command::Help(topic(&mut parser)?)),
            wrong => Err(unknown("command", wrong, "", &commands())),
        },
        Some(option) => Err(unknown_option(&option, "weir", &["--help", "--version"])),
    }
}

fn topic(parser: &mut Parser) -> Result<&'static str, WrongUse> {
    let Some(argument) = parser.next()? else { return Ok(help::WEIR) };
    let Arg::Value(name) = argument else { return Err(unknown_option(&argument, "weir help", &["--help"])) };
    let known = help::COMMANDS.iter().find(|(command, _)| name == *command);
    known.map(|(_, text)| *text).ok_or_else(|| unknown("command", &name.to_string_lossy(), "", &commands()))
}

fn check(parser: &mut Parser) -> Result<Command, WrongUse> {
    let (mut file, mut board, mut json) = (None, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::CHECK)),
            Arg::Short('b') | Arg::Long("board") => board = Some(parser.value()?.string()?),
            Arg::Long("json") => json = true,
            Arg::Value(value) => only_file(&mut file, value)?,
            wrong => return Err(unknown_option(&wrong, "weir check", &["--board", "--json", "--help"])),
        }
    }
    Ok(Command::Check(CheckOptions { file: or_default(file), board, json }))
}

fn plan(parser: &mut Parser) -> Result<Command, WrongUse> {
    let (mut file, mut board, mut json, mut all) = (None, None, false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::PLAN)),
            Arg::Short('b') | Arg::Long("board") => board = Some(parser.value()?.string()?),
            Arg::Short('a') | Arg::Long("all") => all = true,
            Arg::Long("json") => json = true,
            Arg::Value(value) => only_file(&mut file, value)?,
            wrong => return Err(unknown_option(&wrong, "weir plan", &["--board", "--all", "--json", "--help"])),
        }
    }
    if all && board.is_some() {
        return Err(WrongUse(String::from("--all plans for every board, --board for one; take one of the two")));
    }
    Ok(Command::Plan { options: CheckOptions { file: or_default(file), board, json }, all })
}

fn init(parser: &mut Parser) -> Result<Command, WrongUse> {
    let (mut file, mut force, mut board) = (None, false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::INIT)),
            Arg::Short('f') | Arg::Long("force") => force = true,
            Arg::Short('b') | Arg::Long("board") => board = Some(parser.value()?.string()?),
            Arg::Value(value) => only_file(&mut file, value)?,
            wrong => return Err(unknown_option(&wrong, "weir init", &["--force", "--board", "--help"])),
        }
    }
    Ok(Command::Init { file: or_default(file), force, board })
}

fn run(parser: &mut Parser) -> Result<Command, WrongUse> {
    let (mut file, mut metrics) = (None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::RUN)),
            Arg::Short('m') | Arg::Long("metrics") => metrics = Some(address(&parser.value()?.string()?)?),
            Arg::Value(value) => only_file(&mut file, value)?,
            wrong => return Err(unknown_option(&wrong, "weir run", &["--metrics", "--help"])),
        }
    }
    Ok(Command::Run(RunOptions { file: or_default(file), metrics }))
}

fn address(text: &str) -> Result<SocketAddr, WrongUse> {
    text.parse().map_err(|_| {
        WrongUse(format!("--metrics: `{text}` is not an address and a port, as in 127.0.0.1:9187 or [::1]:9187"))
    })
}

pub(super) fn only_file(file: &mut Option<PathBuf>, value: std::ffi::OsString) -> Result<(), WrongUse> {
    match file.replace(PathBuf::from(&value)) {
        None => Ok(()),
        Some(first) => {
            Err(WrongUse(format!("takes one FILE, got {} and {}", first.display(), value.to_string_lossy())))
        }
    }
}

pub(super) fn or_default(file: Option<PathBuf>) -> PathBuf {
    file.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

pub(super) fn unknown_option(wrong: &Arg<'_>, command: &str, known: &[&str]) -> WrongUse {
    let wrong = match wrong {
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(value) => value.to_string_lossy().into_owned(),
    };
    unknown("option", &wrong, command, known)
}

pub(super) fn unknown(what: &str, wrong: &str, command: &str, known: &[&str]) -> WrongUse {
    let meant = match nearest(wrong, known.iter().copied()) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; known: {}", known.join(", ")),
    };
    let of = if command.is_empty() { String::new() } else { format!(" of `{command}`") };
    WrongUse(format!("`{wrong}` is not a{}{what}{of}{meant}", if what == "option" { "n " } else { " " }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(Parser::from_args(line.split_whitespace())).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn commands_are_read() {
        let check = |file: &str, board: Option<&str>, json| {
            Ok(Command::Check(CheckOptions { file: file.into(), board: board.map(str::to_owned), json }))
        };
        for (line, want) in [
            ("check", check("gateway.toml", None, false)),
            ("check site.toml --board pi-5 --json", check("site.toml", Some("pi-5"), true)),
            ("check --board=pi-5", check("gateway.toml", Some("pi-5"), false)),
            ("init a.toml --force", Ok(Command::Init { file: "a.toml".into(), force: true, board: None })),
            ("run --help", Ok(Command::Help(help::RUN))),
            ("help check", Ok(Command::Help(help::CHECK))),
            ("--version", Ok(Command::Version)),
        ] {
            assert_eq!(parsed(line), want, "{line}");
        }
        let metrics = Some("127.0.0.1:9187".parse().unwrap());
        let run = Command::Run(RunOptions { file: "gateway.toml".into(), metrics });
        assert_eq!(parsed("run --metrics 127.0.0.1:9187"), Ok(run));
    }

    #[test]
    fn every_option_that_the_help_shows_is_one() {
        for (command, text) in help::COMMANDS {
            assert!(help::WEIR.contains(&format!("\n  {command} ")), "{command} is listed");
            assert_eq!(parsed(&format!("help {command}")), Ok(Command::Help(text)));
            let shown = text.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --"));
            let terms = shown.filter_map(|line| line.trim_start().split("  ").next());
            let names: Vec<&str> =
                terms.flat_map(|term| term.split([' ', ','])).filter(|word| word.starts_with('-')).collect();
            assert!(names.contains(&"--help"), "{command}: {names:?}");
            // A command with actions has the options of each.
            let actions = text.split_once("Actions:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
            let actions = actions.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
            let actions: Vec<&str> = actions.filter_map(|line| line.split_whitespace().next()).collect();
            let lines: Vec<String> = match actions.is_empty() {
                true => vec![command.to_owned()],
                false => actions.iter().map(|action| format!("{command} {action}")).collect(),
            };
            for name in names {
                let is_known = |line: &String| {
                    !parsed(&format!("{line} {name}")).is_err_and(|why| why.contains("is not an option"))
                };
                assert!(lines.iter().any(is_known), "{command} {name}");
            }
        }
    }

    #[test]
    fn wrong_use_names_what_is_right() {
        for (line, want) in [
            (
                "",
                "wants a command: init, check, plan, run, status, doctor, store, dlq, new, build, test, invoke, record, replay, help; see `weir --help`",
            ),
            ("chekc", "`chekc` is not a command; did you mean `check`?"),
            ("check --bord pi-5", "`--bord` is not an option of `weir check`; did you mean `--board`?"),
            ("check --xyz", "`--xyz` is not an option of `weir check`; known: --board, --json, --help"),
            ("init --forse", "`--forse` is not an option of `weir init`; did you mean `--force`?"),
            ("check a b", "takes one FILE, got a and b"),
            (
                "run --metrics 9187",
                "--metrics: `9187` is not an address and a port, as in 127.0.0.1:9187 or [::1]:9187",
            ),
        ] {
            assert_eq!(parsed(line), Err(String::from(want)), "{line}");
        }
        assert!(parsed("check --board").unwrap_err().contains("see `weir --help`"));
    }
}
