//! `weir test`: the cases of a function, played through the gateway's own code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};
use serde_json::{Value, json};

use super::super::arguments::WrongUse;
use super::super::place::{self, EXIT_NO_STORE, escaped};
use super::super::store::lines::ascii;
use super::super::{modules, say, site};
use super::{bundle, only_dir, or_here, title, unknown};
use crate::harness::{self, Case, Played};
use crate::manifest::Manifest;
use crate::shell::clock::Clock;
use crate::time::Stopwatch as _;
use crate::units::Bytes;

/// Largest file with a case.
const CASE_BYTES_MAX: u64 = 1 << 20;
/// Most cases of a function.
const CASES_MAX: usize = 10_000;

#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Options {
    dir: PathBuf,
    cases: Option<PathBuf>,
    case: Option<String>,
    json: bool,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Option<Options>, WrongUse> {
    let (mut options, mut dir) = (Options::default(), None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Long("cases") => options.cases = Some(parser.value()?.into()),
            Arg::Short('c') | Arg::Long("case") => options.case = Some(parser.value()?.string()?),
            Arg::Long("json") => options.json = true,
            Arg::Value(value) => only_dir(&mut dir, value)?,
            wrong => return Err(unknown(&wrong, "weir test", &["--cases", "--case", "--json", "--help"])),
        }
    }
    options.dir = or_here(dir);
    Ok(Some(options))
}

/// A case that was run.
struct Ran {
    file: PathBuf,
    name: String,
    /// The file is no case.
    faulty: Option<String>,
    played: Played,
    time_us: u64,
}

impl Ran {
    fn holds(&self) -> bool {
        self.faulty.is_none() && self.played.holds()
    }
}

pub(super) fn test(options: &Options) -> ExitCode {
    let (manifest, wasm) = match bundle("weir test", &options.dir) {
        Ok(bundle) => bundle,
        Err(code) => return code,
    };
    let folder = options.cases.clone().unwrap_or_else(|| options.dir.join("cases"));
    let files = match case_files(&folder) {
        Ok(files) if !files.is_empty() => files,
        Ok(_) => {
            eprintln!("weir test: {}: has no case (*.toml), so nothing is proved", folder.display());
            return ExitCode::from(EXIT_NO_STORE);
        }
        Err(why) => {
            eprintln!(
                "weir test: {}: {why}; cases are files of the form that docs/functions.md shows",
                folder.display()
            );
            return ExitCode::from(EXIT_NO_STORE);
        }
    };
    let digest = match modules::load_one(&manifest, &wasm) {
        Ok(function) => function.digest(),
        // A case may change the settings that the function refuses.
        Err(_) => 0,
    };
    let wanted = |ran: &Ran| options.case.as_ref().is_none_or(|text| ran.name.contains(text.as_str()));
    let mut clock = Clock::default();
    let began_us = clock.mono_us();
    let read = files.into_iter().map(|file| read(file, &folder)).filter(|(ran, _)| wanted(ran));
    let run: Vec<Ran> = read.map(|(ran, case)| play(ran, case, &manifest, &wasm, &mut clock)).collect();
    let took_us = clock.mono_us() - began_us;
    if run.is_empty() {
        eprintln!(
            "weir test: no case's name contains `{}`",
            options.case.as_deref().unwrap_or_default().escape_debug()
        );
        return ExitCode::from(EXIT_NO_STORE);
    }
    let failed = run.iter().filter(|ran| !ran.holds()).count();
    if options.json {
        let cases: Vec<Value> = run.iter().map(document).collect();
        let limits = json!({ "fuel": manifest.limits.fuel.0, "memory": manifest.limits.memory.0 });
        let document = json!({
            "ok": failed == 0, "function": manifest.name, "version": manifest.version, "digest": format!("{digest:016x}"),
            "module_bytes": wasm.len(), "limits": limits, "cases": cases, "time_us": took_us,
        });
        say(&format!("{}\n", ascii(&document.to_string())));
    } else {
        let limits = &manifest.limits;
        let title = title(&manifest, &wasm, digest);
        let mut text = format!("{title}; limits: fuel {}, memory {}\n", limits.fuel, limits.memory);
        run.iter().for_each(|ran| text += &row(ran));
        text += &format!("{} passed, {failed} failed, in {} ms\n", run.len() - failed, millis(took_us));
        say(&text);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(place::EXIT_WARNING) }
}

fn case_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| site::plain(&error))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "toml")).take(CASES_MAX).collect();
    files.sort();
    Ok(files)
}

fn read(file: PathBuf, folder: &Path) -> (Ran, Option<Case>) {
    let text = site::read_at_most(&file, CASE_BYTES_MAX)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned()));
    let case = text.and_then(|text| Case::parse(&text));
    let short = file.strip_prefix(folder).unwrap_or(&file).display().to_string();
    let (case, faulty) = match case {
        Ok(case) => (Some(case), None),
        Err(why) => (None, Some(why)),
    };
    let name = case.as_ref().map_or(short, |case| case.name.clone());
    (Ran { file, name, faulty, played: Played::default(), time_us: 0 }, case)
}

fn play(mut ran: Ran, case: Option<Case>, manifest: &Manifest, wasm: &[u8], clock: &mut Clock) -> Ran {
    if let Some(case) = case {
        let began_us = clock.mono_us();
        ran.played = harness::play(&case, manifest, wasm, clock);
        ran.time_us = clock.mono_us() - began_us;
    }
    ran
}

fn millis(us: u64) -> String {
    format!("{}.{:02}", us / 1000, us % 1000 / 10)
}

fn row(ran: &Ran) -> String {
    let mark = if ran.holds() { "ok  " } else { "FAIL" };
    let mut text = match &ran.faulty {
        Some(_) => format!("  {mark}  {}\n", escaped(&ran.name)),
        None => format!(
            "  {mark}  fuel {:>8}  memory {:>8}  {:>8} ms  {}\n",
            ran.played.fuel_max,
            Bytes(ran.played.memory).to_string(),
            millis(ran.time_us),
            escaped(&ran.name)
        ),
    };
    let indented = |text: &str| -> String { text.lines().map(|line| format!("          {line}\n")).collect() };
    if let Some(why) = &ran.faulty {
        text += &indented(&format!("{}: {why}", ran.file.display()));
    }
    if let Some(difference) = &ran.played.refused {
        text += &indented(&format!("{}\n{difference}", ran.file.display()));
    }
    for step in ran.played.steps.iter().filter(|step| !step.differences.is_empty()) {
        let input = escaped(&step.event.shown());
        text += &indented(&format!("{}, step {}: {input}", ran.file.display(), step.step));
        step.differences.iter().for_each(|difference| text += &indented(&difference.to_string()));
        text += &indented(&format!("fuel {}, memory {}", step.outcome.fuel, Bytes(step.outcome.memory)));
        text += &step.outcome.shown("          | ");
    }
    text
}

fn document(ran: &Ran) -> Value {
    let played = &ran.played;
    json!({
        "file": ran.file.display().to_string(), "name": ran.name, "holds": ran.holds(), "faulty": ran.faulty,
        "refused": played.refused, "fuel": played.fuel, "fuel_max": played.fuel_max, "memory": played.memory,
        "time_us": ran.time_us, "steps": played.steps,
    })
}
