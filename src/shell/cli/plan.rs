//! A plan as a table for people and as JSON for programs; `weir plan`, which adds how long the flash lasts and what more
//! would fit.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::arguments::CheckOptions;
use super::{EXIT_CONFIG, complain, examine, say};
use crate::board::BUILT_IN;
use crate::budget::{Ledger, More, Plan};
use crate::config::Source;
use crate::strict::{Fault, Severity};
use crate::units::Bytes;

/// The table: what is granted, what is wanted, and what is left.
pub(super) fn table(plan: &Plan) -> String {
    let (board, budget) = (&plan.loaded.board, &plan.budget);
    let mut text = String::new();
    ledger(&mut text, &format!("memory: board {} grants {}", board.name, budget.memory.room), &budget.memory);
    text.push('\n');
    ledger(&mut text, &format!("flash: board {} grants {}", board.name, budget.flash.room), &budget.flash);
    let writes = &budget.writes;
    let interval = plan.loaded.config.commit.interval;
    let _ =
        writeln!(text, "\nflash writes in a day at a commit interval of {interval}: {} are granted", writes.granted);
    for (bytes, what) in write_kinds(plan) {
        let more = if writes.granted < bytes { "; more than the board grants" } else { "" };
        let _ = writeln!(text, "{bytes:>12}  {what}{more}; the flash lasts {}", life(writes.life_days(bytes)));
    }
    let _ = writeln!(text, "\nsettings that a board may set");
    for setting in &plan.loaded.settings {
        let source = match setting.source {
            Source::File => "the file",
            Source::Board => "the board's default",
            Source::Weir => "weir's default",
        };
        let _ = writeln!(text, "{:>12}  {:22}  {source}", setting.value, setting.key);
    }
    text
}

/// Bytes a day, and when it is so much.
fn write_kinds(plan: &Plan) -> [(Bytes, &'static str); 3] {
    let writes = &plan.budget.writes;
    [
        (writes.idle, "no message comes"),
        (writes.steady, "messages come all the time, few in each commit"),
        (writes.worst, "every commit is full"),
    ]
}

/// A life for people: whole years are enough where there are many.
fn life(days: Option<u64>) -> String {
    match days {
        Some(days) if days < 730 => format!("{days} days"),
        Some(days) if days < 36_500 => format!("{:.1} years", days as f64 / 365.0),
        _ => String::from("longer than its maker says"),
    }
}

/// `weir plan`.
pub(super) fn plan(options: &CheckOptions, all: bool) -> ExitCode {
    if all {
        return every_board(options);
    }
    let examined = examine(&options.file, options.board.as_deref());
    if options.json {
        say(&document(examined.plan.as_ref(), &examined.faults, examined.refused));
    } else {
        if let Some(plan) = &examined.plan {
            let board = &plan.loaded.board;
            let clock = if board.rtc { "clock with a battery" } else { "no clock battery" };
            let cores = if board.cores == 1 { "1 core".to_owned() } else { format!("{} cores", board.cores) };
            say(&format!("{}: {}; {}, {cores}, {clock}\n\n", board.name, board.description, board.target));
            say(&(table(plan) + &room(plan)));
        }
        complain(&examined.faults);
    }
    if examined.refused { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS }
}

/// What more would fit, as text.
fn room(plan: &Plan) -> String {
    let Some(room) = plan.room() else { return String::new() };
    let mut text = String::from("\nfurther functions that would fit\n");
    for (kind, more) in [
        (format!("like {}, the smallest", room.smallest.0), &room.smallest.1),
        (String::from("of the mean size"), &room.average),
        (format!("like {}, the largest", room.largest.0), &room.largest.1),
    ] {
        let _ = writeln!(text, "{:>12}  {kind}: {} of memory, {} of flash each", more.fit, more.memory, more.flash);
    }
    text
}

/// One line for each board that is known.
fn every_board(options: &CheckOptions) -> ExitCode {
    let (mut text, mut documents) = (String::new(), Vec::new());
    let _ = writeln!(
        text,
        "{:18} {:>10} {:>10} {:>10} {:>10}  {:26} more functions",
        "board", "memory", "granted", "flash", "granted", "flash lasts (steady)"
    );
    for (board, _) in BUILT_IN {
        let examined = examine(&options.file, Some(board));
        let Some(plan) = &examined.plan else {
            complain(&examined.faults);
            return ExitCode::from(EXIT_CONFIG);
        };
        if options.json {
            documents.push(value(Some(plan), &examined.faults, examined.refused));
            continue;
        }
        let budget = &plan.budget;
        let fits = match plan.room() {
            _ if !plan.fits() => String::from("does not fit"),
            _ if examined.refused => String::from("refused: see `weir check`"),
            Some(room) => room.average.fit.to_string(),
            None => String::new(),
        };
        let (memory, flash, writes) = (&budget.memory, &budget.flash, &budget.writes);
        let _ = writeln!(
            text,
            "{board:18} {:>10} {:>10} {:>10} {:>10}  {:26} {fits}",
            memory.total(),
            memory.room,
            flash.total(),
            flash.room,
            life(writes.life_days(writes.steady))
        );
    }
    say(&if options.json { format!("{}\n", Value::from(documents)) } else { text });
    ExitCode::SUCCESS
}

fn ledger(text: &mut String, title: &str, ledger: &Ledger) {
    let _ = writeln!(text, "{title}");
    let wide = ledger.lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0);
    for line in &ledger.lines {
        let _ = writeln!(text, "{:>12}  {:wide$}  {}", line.bytes, line.what, line.key);
    }
    let total = ledger.total();
    let rest = match ledger.room.0.checked_sub(total.0) {
        Some(left) => format!("{} left", Bytes(left)),
        None => format!("{} too much", Bytes(total.0 - ledger.room.0)),
    };
    let _ = writeln!(text, "{total:>12}  sum; {rest}");
}

/// The same for programs: sizes in bytes, keys as in the configuration.
pub(super) fn document(plan: Option<&Plan>, faults: &[Fault], refused: bool) -> String {
    format!("{}\n", value(plan, faults, refused))
}

fn value(plan: Option<&Plan>, faults: &[Fault], refused: bool) -> Value {
    let faults: Vec<Value> = faults
        .iter()
        .map(|fault| {
            let severity = if fault.severity == Severity::Warning { "warning" } else { "refusal" };
            json!({ "severity": severity, "file": fault.file, "key": fault.key, "text": fault.text })
        })
        .collect();
    let mut document = json!({ "ok": !refused, "faults": faults });
    if let Some(plan) = plan {
        let (board, budget, config) = (&plan.loaded.board, &plan.budget, &plan.loaded.config);
        document["board"] = json!({
            "name": board.name, "target": board.target, "cores": board.cores, "rtc": board.rtc,
        });
        document["settings"] = plan
            .loaded
            .settings
            .iter()
            .map(|setting| json!({ "key": setting.key, "value": setting.value, "source": source_word(setting.source) }))
            .collect();
        document["functions"] = config.functions.iter().map(|function| json!(function.manifest.name)).collect();
        document["memory"] = ledger_value(&budget.memory);
        document["flash"] = ledger_value(&budget.flash);
        document["flash-writes-per-day"] = json!({
            "granted": budget.writes.granted.0, "idle": budget.writes.idle.0, "steady": budget.writes.steady.0,
            "worst": budget.writes.worst.0, "endurance": budget.writes.endurance.0,
        });
        let days = |bytes| json!(budget.writes.life_days(bytes));
        document["flash-life-days"] = json!({
            "idle": days(budget.writes.idle), "steady": days(budget.writes.steady), "worst": days(budget.writes.worst),
        });
        document["fits"] = json!(plan.fits());
        document["room"] = plan.room().map_or(Value::Null, |room| {
            json!({
                "smallest": more_value(Some(&room.smallest.0), &room.smallest.1), "average": more_value(None, &room.average),
                "largest": more_value(Some(&room.largest.0), &room.largest.1),
            })
        });
    }
    document
}

fn more_value(function: Option<&str>, more: &More) -> Value {
    json!({ "function": function, "memory": more.memory.0, "flash": more.flash.0, "fit": more.fit })
}

const fn source_word(source: Source) -> &'static str {
    match source {
        Source::File => "file",
        Source::Board => "board",
        Source::Weir => "default",
    }
}

fn ledger_value(ledger: &Ledger) -> Value {
    let lines: Vec<Value> =
        ledger.lines.iter().map(|line| json!({ "key": line.key, "what": line.what, "bytes": line.bytes.0 })).collect();
    json!({ "room": ledger.room.0, "total": ledger.total().0, "lines": lines })
}
