//! A plan as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::budget::{Ledger, Plan};
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
    for (bytes, what) in [
        (writes.idle, "no message comes"),
        (writes.steady, "messages come all the time, few in each commit"),
        (writes.worst, "every commit is full"),
    ] {
        let more = if writes.granted < bytes { "; more than the board grants" } else { "" };
        let _ = writeln!(text, "{bytes:>12}  {what}{more}");
    }
    text
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
        document["functions"] = config.functions.iter().map(|function| json!(function.manifest.name)).collect();
        document["memory"] = ledger_value(&budget.memory);
        document["flash"] = ledger_value(&budget.flash);
        document["flash-writes-per-day"] = json!({
            "granted": budget.writes.granted.0, "idle": budget.writes.idle.0, "steady": budget.writes.steady.0,
            "worst": budget.writes.worst.0,
        });
    }
    format!("{document}\n")
}

fn ledger_value(ledger: &Ledger) -> Value {
    let lines: Vec<Value> =
        ledger.lines.iter().map(|line| json!({ "key": line.key, "what": line.what, "bytes": line.bytes.0 })).collect();
    json!({ "room": ledger.room.0, "total": ledger.total().0, "lines": lines })
}
