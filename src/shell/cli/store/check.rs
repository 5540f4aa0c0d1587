//! `weir store check`: what is there, what is wrong with it, and what a start would lose.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::place::{EXIT_FAILURE, EXIT_WARNING, Place, no_store};
use super::super::say;
use crate::outbox::Lane;
use crate::shell::store::inspect::{Inspection, inspect};
use crate::store::survey::FileSurvey;
use crate::units::Bytes;

/// How bad it is; the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Verdict {
    Sound,
    Look,
    Damaged,
}

pub(super) fn check(place: &Place, json: bool) -> ExitCode {
    let found = match place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let inspection = match inspect(&found.dir, found.config.as_ref()) {
        Ok(inspection) => inspection,
        Err(error) => return no_store("weir store check", &error),
    };
    let dir = found.dir.display().to_string();
    say(&if json { format!("{}\n", document(&dir, &inspection)) } else { text(&dir, &inspection) });
    match verdict(&inspection) {
        Verdict::Sound => ExitCode::SUCCESS,
        Verdict::Look => ExitCode::from(EXIT_WARNING),
        Verdict::Damaged => ExitCode::from(EXIT_FAILURE),
    }
}

/// What a start would make of it.
pub(in super::super) fn verdict(found: &Inspection) -> Verdict {
    if found.is_damaged() {
        Verdict::Damaged
    } else if notes(found).is_empty() {
        Verdict::Sound
    } else {
        Verdict::Look
    }
}

/// What somebody should look at.
pub(in super::super) fn notes(found: &Inspection) -> Vec<String> {
    let report = &found.recovered.report;
    let mut notes = Vec::new();
    if report.healed {
        notes.push("damage is healed from the keyed copy: nothing is lost by it".to_owned());
    }
    if report.bad_snapshots > 0 && !report.is_loss() && !report.healed {
        notes.push(format!(
            "{} damaged snapshots are set aside; an older one and the journal have everything",
            report.bad_snapshots
        ));
    }
    if !found.survey.quarantine.is_empty() {
        let bytes: u64 = found.survey.quarantine.iter().map(|(_, bytes)| bytes).sum();
        let files = found.survey.quarantine.len();
        notes.push(format!(
            "{files} files ({}) were set aside in quarantine/ by earlier starts; delete them when nobody needs them",
            Bytes(bytes)
        ));
    }
    match found.identity {
        (true, true) => {}
        (false, _) => {
            notes.push("the file `identity` is missing or unreadable; a start writes it anew from the data".to_owned())
        }
        (true, false) => notes.push("the file `identity` is not that of the data; a start writes it anew".to_owned()),
    }
    if found.recovered.entries.is_empty() && !report.is_loss() && !found.running {
        notes.push("the store is empty: nothing was ever committed, or its data is gone".to_owned());
    }
    notes
}

/// What a start would drop or lose, in words; empty: nothing.
pub(in super::super) fn losses(found: &Inspection) -> Vec<String> {
    let report = &found.recovered.report;
    let mut losses = Vec::new();
    let unfinished = report.torn_tails + report.uncommitted_frames;
    if unfinished > 0 && !found.running {
        losses.push(format!("{unfinished} unfinished writes are dropped: nothing of them was acknowledged"));
    }
    if report.bad_frames > 0 && !report.healed {
        losses.push(format!("{} commits are lost: what they changed keeps older values", report.bad_frames));
    }
    if report.empty_but_expected {
        losses.push("the snapshot that the journal builds on is lost: meters, state and books begin anew where the journal does not have them".to_owned());
    }
    if report.data_gone {
        losses.push(
            "the store is empty although it has held data: meters, state and what waited for upstream are gone"
                .to_owned(),
        );
    }
    for lane in &found.survey.lanes {
        let (records, messages) = missing(&lane.files);
        if records > 0 {
            losses.push(format!(
                "lane {}: {records} records are lost ({messages} messages); when the lane drains past them the books enter them as damaged, and a loss record says so upstream",
                lane.name
            ));
        }
    }
    losses
}

fn missing(files: &[FileSurvey]) -> (u64, u64) {
    files.iter().fold((0, 0), |sum, file| (sum.0 + file.missing, sum.1 + file.missing_messages))
}

/// What is wrong with a file, in words.
pub(super) fn damage(file: &FileSurvey, what: &str) -> String {
    let mut text = match file.bad_frames {
        0 => String::from("a piece is missing"),
        1 => String::from("1 broken frame"),
        count => format!("{count} broken frames"),
    };
    let _ = match (file.missing, file.missing_messages) {
        (0, _) => write!(text, "; no acknowledged {what} is lost by it"),
        (count, 0) => write!(text, "; {count} {what} lost"),
        (count, messages) => write!(text, "; {count} {what} lost ({messages} messages)"),
    };
    text
}

fn what(file: &FileSurvey) -> &'static str {
    match file.path.split('/').next() {
        Some("lanes") => "records",
        Some("snapshot") => "values",
        _ => "commits",
    }
}

/// The damaged files and what is wrong with each.
pub(super) fn damages(found: &Inspection) -> Vec<(&FileSurvey, String)> {
    found.survey.damaged().map(|file| (file, damage(file, what(file)))).collect()
}

fn text(dir: &str, found: &Inspection) -> String {
    let mut text = String::new();
    let (survey, report) = (&found.survey, &found.recovered.report);
    let state = match (found.running, found.moving) {
        (false, _) => "no gateway runs on it",
        (true, false) => "a gateway runs on it; read beside it",
        (true, true) => "a gateway runs on it and was busy: the newest figures may be behind",
    };
    let _ = writeln!(text, "{dir}: {state}");
    let bytes = |files: &[FileSurvey]| Bytes(files.iter().map(|file| file.bytes).sum());
    let frames: u64 = survey.journal.iter().map(|file| file.frames).sum();
    let range =
        commits(&survey.journal).map_or_else(String::new, |(first, last)| format!(", commits {first} to {last}"));
    let _ = writeln!(
        text,
        "journal      {} segments, {}, {frames} frames{range}; a start replays {}",
        survey.journal.len(),
        bytes(&survey.journal),
        report.replayed
    );
    for file in &survey.snapshots {
        let state = if file.bad_frames == 0 { format!("through commit {}", file.last) } else { "damaged".to_owned() };
        let _ = writeln!(text, "snapshot     {}, {}, {state}", file.path, Bytes(file.bytes));
    }
    let _ = writeln!(text, "entries      {}", found.recovered.entries.len());
    for lane in found.outbox.lanes() {
        let _ = writeln!(text, "lane         {}", lane_text(lane, files_of(found, &lane.config().name)));
    }
    let keyed = found.keyed_bytes.map_or_else(|| "none".to_owned(), |bytes| format!("{} in state/", Bytes(bytes)));
    let _ = writeln!(text, "keyed copy   {keyed}");
    let _ = writeln!(text, "reserve      {} free segments", survey.free_segments);
    for (file, damage) in damages(found) {
        let _ = writeln!(text, "damage       {}: {damage}", file.path);
    }
    notes(found).iter().for_each(|note| {
        let _ = writeln!(text, "note         {note}");
    });
    let losses = losses(found);
    losses.iter().for_each(|loss| {
        let _ = writeln!(text, "a start      {loss}");
    });
    if losses.is_empty() {
        text += "a start      loses nothing\n";
    }
    text += match verdict(found) {
        Verdict::Sound => "sound\n",
        Verdict::Look => "sound; see the notes\n",
        Verdict::Damaged if found.survey.damaged().all(|file| file.bad_frames == 0 && file.bytes == 0) => {
            "damaged before: nothing is left to repair; the loss enters the books when the lane drains past it\n"
        }
        Verdict::Damaged => {
            "damaged; `weir store repair` keeps copies of the damaged files, a start does the same without\n"
        }
    };
    text
}

fn commits(journal: &[FileSurvey]) -> Option<(u64, u64)> {
    let first = journal.iter().map(|file| file.first).find(|first| *first > 0)?;
    Some((first, journal.iter().map(|file| file.last).max().unwrap_or(first)))
}

fn files_of<'a>(found: &'a Inspection, lane: &str) -> &'a [FileSurvey] {
    found.survey.lanes.iter().find(|survey| survey.name == lane).map_or(&[], |survey| &survey.files)
}

fn lane_text(lane: &Lane, files: &[FileSurvey]) -> String {
    let gaps = match missing(files).0 {
        0 => "no gap".to_owned(),
        records => format!("{records} records missing"),
    };
    format!(
        "{}: {} records wait ({} messages), sequence {} up to {}, {} in {} segments, {gaps}",
        lane.config().name,
        lane.records_pending(),
        lane.messages_pending(),
        lane.head_seq(),
        lane.next_seq(),
        Bytes(lane.bytes()),
        files.len(),
    )
}

fn document(dir: &str, found: &Inspection) -> Value {
    let (survey, report) = (&found.survey, &found.recovered.report);
    let file = |file: &FileSurvey| {
        json!({
            "path": file.path, "bytes": file.bytes, "frames": file.frames, "first": file.first, "last": file.last,
            "records": file.records, "bad_frames": file.bad_frames, "missing": file.missing,
            "missing_messages": file.missing_messages,
        })
    };
    let lanes: Vec<Value> = found
        .outbox
        .lanes()
        .iter()
        .map(|lane| {
            let files = files_of(found, &lane.config().name);
            let (records, messages) = missing(files);
            json!({
                "name": lane.config().name, "records": lane.records_pending(), "messages": lane.messages_pending(),
                "head": lane.head_seq(), "next": lane.next_seq(), "bytes": lane.bytes(),
                "missing_records": records, "missing_messages": messages,
                "segments": files.iter().map(file).collect::<Vec<_>>(),
            })
        })
        .collect();
    let commits = commits(&survey.journal);
    let verdict = match verdict(found) {
        Verdict::Sound => "sound",
        Verdict::Look => "look",
        Verdict::Damaged => "damaged",
    };
    json!({
        "dir": dir, "verdict": verdict, "running": found.running, "moving": found.moving,
        "journal": {
            "segments": survey.journal.iter().map(file).collect::<Vec<_>>(),
            "frames": survey.journal.iter().map(|file| file.frames).sum::<u64>(),
            "first_commit": commits.map(|(first, _)| first), "last_commit": commits.map(|(_, last)| last),
            "replayed": report.replayed,
        },
        "snapshots": survey.snapshots.iter().map(file).collect::<Vec<_>>(),
        "entries": found.recovered.entries.len(),
        "lanes": lanes,
        "keyed_bytes": found.keyed_bytes,
        "free_segments": survey.free_segments,
        "quarantine": survey.quarantine.iter().map(|(path, bytes)| json!({ "path": path, "bytes": bytes })).collect::<Vec<_>>(),
        "report": {
            "torn_tails": report.torn_tails, "uncommitted_frames": report.uncommitted_frames,
            "lost_commits": report.bad_frames, "bad_snapshots": report.bad_snapshots,
            "quarantined_bytes": report.quarantined_bytes, "healed": report.healed,
            "empty_but_expected": report.empty_but_expected,
            "data_gone": report.data_gone,
        },
        "damage": damages(found).iter().map(|(file, text)| json!({ "path": file.path, "text": text })).collect::<Vec<_>>(),
        "notes": notes(found),
        "a_start_loses": losses(found),
    })
}
