//! `weir dlq replay` and `weir dlq purge`: through the running gateway, or on the store of a stopped one.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::place::{EXIT_FAILURE, EXIT_IN_USE, EXIT_NO_STORE, EXIT_WARNING, Found, escaped};
use super::super::store::lines::ascii;
use super::super::{EXIT_CONFIG, EXIT_FLASH, EXIT_UNAVAILABLE, complain, examine, say};
use super::ReplayOptions;
use super::list::read;
use crate::shell::control::{AskError, ask};
use crate::shell::dlq::{LETTERS_MAX, Letters, Wanted};
use crate::shell::store::inspect::is_running;
use crate::shell::workbench::{Trouble, Workbench};

/// The gateway answers when the commit is on flash.
const PATIENCE: Duration = Duration::from_secs(70);

pub(super) fn replay(options: &ReplayOptions) -> ExitCode {
    let found = match options.place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let command = if options.purge { "weir dlq purge" } else { "weir dlq replay" };
    let wanted = match wanted(options, &found) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let running = is_running(&found.dir).unwrap_or(false);
    let outcome = if running { through_gateway(&found, &wanted) } else { on_store(options, &wanted) };
    let (outcomes, trouble) = match outcome {
        Ok(outcomes) => (outcomes, None),
        Err(Stopped { outcomes, why, code }) => (outcomes, Some((why, code))),
    };
    report(options, &outcomes);
    if let Some((why, code)) = trouble {
        eprintln!("{command}: {why}");
        return code;
    }
    let good = |one: &&Value| one["outcome"].as_str().is_some_and(|outcome| outcome != "dead-lettered");
    match outcomes.iter().filter(good).count() {
        count if count == outcomes.len() => ExitCode::SUCCESS,
        0 => ExitCode::from(EXIT_FAILURE),
        _ => ExitCode::from(EXIT_WARNING),
    }
}

/// In portions that are a commit each.
fn wanted(options: &ReplayOptions, found: &Found) -> Result<Vec<Wanted>, ExitCode> {
    let of = |letters| Wanted { purge: options.purge, letters, function: options.function.clone() };
    if !options.which.all {
        let portions = options.which.numbers.chunks(LETTERS_MAX);
        return Ok(portions.map(|numbers| of(Letters::These(numbers.to_vec()))).collect());
    }
    let letters = read(found, u64::MAX, &|_| true)?.letters;
    let (first, last) = (letters.first().map(|letter| letter.seq), letters.last().map(|letter| letter.seq));
    Ok(first.zip(last).map(|(from, through)| of(Letters::All { from, through })).into_iter().collect())
}

/// It did not come to an end.
struct Stopped {
    outcomes: Vec<Value>,
    why: String,
    code: ExitCode,
}

/// An answer, or why there is none and how to end.
type Answered = Result<Value, (String, ExitCode)>;

/// Has every portion answered, and what follows it.
fn all(wanted: &[Wanted], answer: &mut dyn FnMut(&Wanted) -> Answered) -> Result<Vec<Value>, Stopped> {
    let mut outcomes = Vec::new();
    for portion in wanted {
        let mut portion = portion.clone();
        loop {
            let answer = match answer(&portion) {
                Ok(answer) => answer,
                Err((why, code)) => return Err(Stopped { outcomes, why, code }),
            };
            outcomes.extend(answer["outcomes"].as_array().cloned().unwrap_or_default());
            match (answer["next"].as_u64(), &mut portion.letters) {
                (Some(next), Letters::All { from, .. }) if *from < next => *from = next,
                _ => break,
            }
        }
    }
    Ok(outcomes)
}

fn through_gateway(found: &Found, wanted: &[Wanted]) -> Result<Vec<Value>, Stopped> {
    all(wanted, &mut |portion| {
        ask(&found.dir, &portion.document(), PATIENCE).map_err(|error| match &error {
            AskError::NotRunning(_) => {
                (format!("{error} It has the store, but listens to nobody: stop it first"), ExitCode::from(EXIT_IN_USE))
            }
            _ => (error.to_string(), ExitCode::from(EXIT_UNAVAILABLE)),
        })
    })
}

fn on_store(options: &ReplayOptions, wanted: &[Wanted]) -> Result<Vec<Value>, Stopped> {
    let stopped = |why: String, code: u8| Stopped { outcomes: Vec::new(), why, code: ExitCode::from(code) };
    let Some(file) = options.place.file() else {
        return Err(stopped("wants gateway.toml".to_owned(), EXIT_CONFIG));
    };
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let examined = examine(file, None);
    let (Some(plan), false) = (&examined.plan, examined.refused) else {
        complain(&examined.faults);
        return Err(stopped(format!("{}: refused", file.display()), EXIT_CONFIG));
    };
    if !plan.loaded.config.store.dir.is_dir() {
        let why = format!("{}: no such folder", plan.loaded.config.store.dir.display());
        return Err(stopped(why, EXIT_NO_STORE));
    }
    crate::shell::logging::start(log::LevelFilter::Warn);
    let trouble = |trouble: Trouble| {
        let code = if trouble.is_in_use() { EXIT_IN_USE } else { EXIT_FLASH };
        (trouble.to_string(), ExitCode::from(code))
    };
    let mut bench = Workbench::open(plan, examined.functions).map_err(|error| {
        let (why, code) = trouble(error);
        Stopped { outcomes: Vec::new(), why, code }
    })?;
    let outcomes = all(wanted, &mut |portion| bench.take(portion).map_err(trouble));
    bench.close();
    outcomes
}

fn report(options: &ReplayOptions, outcomes: &[Value]) {
    if options.json {
        return say(&format!("{}\n", ascii(&json!({ "ok": true, "outcomes": outcomes }).to_string())));
    }
    if outcomes.is_empty() {
        return say("no dead letters\n");
    }
    let mut text = String::new();
    for one in outcomes {
        text += &match (one["outcome"].as_str(), one["refused"].as_str()) {
            (Some("purged"), _) => format!("{}: purged\n", one["seq"]),
            (Some("dead-lettered"), _) => format!("{}: replayed, and failed again: it is a new letter\n", one["seq"]),
            (Some("record"), _) => format!("{}: replayed; what came of it waits for upstream\n", one["seq"]),
            (Some(outcome), _) => format!("{}: replayed: {}\n", one["seq"], escaped(outcome)),
            (None, refused) => format!("{}: refused: {}\n", one["seq"], escaped(refused.unwrap_or("?"))),
        };
    }
    say(&text);
}
