//! `weir doctor`: tries everything that a gateway depends on, and says what to do about what does not work.
//!
//! - One line a finding; a finding that is not ok names its fix.
//! - Beside a running gateway it changes nothing: it connects under client identifiers of its own, and cleans up.

mod certificates;
mod links;
mod machine;

use std::process::ExitCode;

use lexopt::{Arg, Parser};
use serde_json::{Value, json};

use super::arguments::{Command, WrongUse, only_file, or_default, unknown_option};
use super::help;
use super::place::{EXIT_FAILURE, EXIT_WARNING, escaped};
use super::{examine, say};
use crate::strict::Severity;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warning,
    Failure,
}

/// One finding.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// What was looked at: `broker`, `sink cloud`, `disk`, ….
    what: String,
    text: String,
    /// What helps; empty if nothing needs to be done.
    fix: String,
}

/// The findings so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, what: &str, text: impl Into<String>) {
        self.add(Level::Ok, what, text, "");
    }

    fn warn(&mut self, what: &str, text: impl Into<String>, fix: &str) {
        self.add(Level::Warning, what, text, fix);
    }

    fn fail(&mut self, what: &str, text: impl Into<String>, fix: &str) {
        self.add(Level::Failure, what, text, fix);
    }

    fn add(&mut self, level: Level, what: &str, text: impl Into<String>, fix: &str) {
        self.0.push(Finding { level, what: what.to_owned(), text: text.into(), fix: fix.to_owned() });
    }

    fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    file: Option<std::path::PathBuf>,
    json: bool,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, WrongUse> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help::DOCTOR)),
            Arg::Long("json") => options.json = true,
            Arg::Value(value) => only_file(&mut options.file, value)?,
            wrong => return Err(unknown_option(&wrong, "weir doctor", &["--json", "--help"])),
        }
    }
    Ok(Command::Doctor(options))
}

pub(super) fn doctor(options: &Options) -> ExitCode {
    let file = or_default(options.file.clone());
    let mut findings = Findings::default();
    let examined = examine(&file, None);
    for fault in &examined.faults {
        let (key, text) = (&fault.key, &fault.text);
        let said =
            if key.is_empty() { format!("{}: {text}", fault.file) } else { format!("{}: {key}: {text}", fault.file) };
        let level = if fault.severity == Severity::Warning { Level::Warning } else { Level::Failure };
        let fix = if level == Level::Failure { "edit the file; `weir check` shows the whole plan" } else { "" };
        findings.add(level, "config", said, fix);
    }
    if let Some(plan) = &examined.plan {
        if !examined.refused {
            findings.ok("config", format!("{}: ok, fits board {}", file.display(), plan.loaded.board.name));
        }
        machine::look(plan, &mut findings);
        certificates::look(&plan.loaded.config, &mut findings);
        links::look(&plan.loaded.config, &mut findings);
    }
    say(&if options.json { document(&findings) } else { text(&findings) });
    match findings.worst() {
        Level::Ok => ExitCode::SUCCESS,
        Level::Warning => ExitCode::from(EXIT_WARNING),
        Level::Failure => ExitCode::from(EXIT_FAILURE),
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Failure => "failure",
    }
}

fn text(findings: &Findings) -> String {
    let wide = findings.0.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { level, what, text: said, fix } in &findings.0 {
        let fix = if fix.is_empty() { String::new() } else { format!(" -> {fix}") };
        text += &format!("{:<8} {what:<wide$}  {}\n", name(*level), escaped(&format!("{said}{fix}")));
    }
    let count = |level: Level| findings.0.iter().filter(|finding| finding.level == level).count();
    text + &format!("{} ok, {} warnings, {} failures\n", count(Level::Ok), count(Level::Warning), count(Level::Failure))
}

fn document(findings: &Findings) -> String {
    let list: Vec<Value> = findings
        .0
        .iter()
        .map(|finding| {
            json!({ "level": name(finding.level), "what": finding.what, "text": finding.text, "fix": finding.fix })
        })
        .collect();
    format!("{}\n", json!({ "worst": name(findings.worst()), "findings": list }))
}
