//! `weir store repair`.

use std::process::ExitCode;

use serde_json::json;

use super::super::place::{EXIT_FAILURE, EXIT_IN_USE, EXIT_WARNING, Place, no_store};
use super::super::{EXIT_FLASH, say};
use super::check::{Verdict, damages, losses, notes, verdict};
use crate::shell::store::OpenError;
use crate::shell::store::repair::{RepairError, Repaired, repair as carry_out};

pub(super) fn repair(place: &Place, json: bool) -> ExitCode {
    let found = match place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    crate::shell::logging::start(log::LevelFilter::Warn);
    match carry_out(&found.dir, found.config.as_ref()) {
        Ok(repaired) => {
            let dir = found.dir.display().to_string();
            say(&if json { document(&dir, &repaired) } else { text(&dir, &repaired) });
            match verdict(&repaired.before) {
                Verdict::Sound => ExitCode::SUCCESS,
                Verdict::Look => ExitCode::from(EXIT_WARNING),
                Verdict::Damaged => ExitCode::from(EXIT_FAILURE),
            }
        }
        Err(RepairError::Open(OpenError::Locked(dir))) => {
            eprintln!(
                "weir store repair: {}: a gateway runs on it, and repairs what it finds when it starts; stop it first, or use \
                 `weir store check`, which may run beside it",
                dir.display()
            );
            ExitCode::from(EXIT_IN_USE)
        }
        Err(RepairError::Inspect(error)) => no_store("weir store repair", &error),
        Err(error) => {
            eprintln!("weir store repair: {error}");
            ExitCode::from(EXIT_FLASH)
        }
    }
}

fn text(dir: &str, repaired: &Repaired) -> String {
    let mut text = String::new();
    for (file, damage) in damages(&repaired.before) {
        text += &format!("damage       {}: {damage}\n", file.path);
    }
    notes(&repaired.before).iter().for_each(|note| text += &format!("note         {note}\n"));
    let losses = losses(&repaired.before);
    losses.iter().for_each(|loss| text += &format!("cost         {loss}\n"));
    if let Some(copies) = &repaired.copies {
        text += &format!("copies       {}\n", copies.display());
    }
    text += &match (losses.is_empty(), repaired.snapshot) {
        (true, false) => format!("{dir}: nothing to repair\n"),
        (_, false) => format!("{dir}: good for a start\n"),
        (_, true) => format!("{dir}: repaired; a new snapshot says so\n"),
    };
    text
}

fn document(dir: &str, repaired: &Repaired) -> String {
    let damages: Vec<_> = damages(&repaired.before)
        .iter()
        .map(|(file, text)| {
            json!({ "path": file.path, "text": text, "missing": file.missing, "missing_messages": file.missing_messages })
        })
        .collect();
    let document = json!({
        "dir": dir, "damage": damages, "notes": notes(&repaired.before), "cost": losses(&repaired.before),
        "copies": repaired.copies, "snapshot": repaired.snapshot,
        "lost_commits": repaired.report.bad_frames, "healed": repaired.report.healed,
    });
    format!("{document}\n")
}
