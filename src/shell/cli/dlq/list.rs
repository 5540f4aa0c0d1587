//! `weir dlq list` and `weir dlq show`: committed letters, read beside whoever runs.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::place::{EXIT_WARNING, Found, Place, escaped, no_store};
use super::super::store::lines::ascii;
use super::super::{EXIT_FLASH, say};
use crate::config::{DEAD_LETTER, SinkFormat};
use crate::dead_letter::DeadLetter;
use crate::envelope::{self, Origin};
use crate::function::EventKind;
use crate::record::{Record, RecordKind};
use crate::shell::store::inspect::inspect;
use crate::store::Recovered;
use crate::store_id::StoreId;
use crate::units::Bytes;

/// A letter, owned.
pub(super) struct Letter {
    pub(super) seq: u64,
    /// The record, encoded.
    pub(super) bytes: Vec<u8>,
}

impl Letter {
    pub(super) fn record(&self) -> Option<Record<'_>> {
        Record::take(&mut self.bytes.as_slice())
    }
}

/// What is in the lane of dead letters.
pub(super) struct Letters {
    pub(super) letters: Vec<Letter>,
    /// More than were asked for.
    pub(super) more: u64,
    /// The store as a start would find it.
    pub(super) recovered: Recovered,
}

impl Letters {
    fn store(&self) -> String {
        StoreId::of(&self.recovered.entries).unwrap_or_default().to_string()
    }
}

/// Reads the letters that wait, `wanted` of them, `limit` at most.
pub(super) fn read(found: &Found, limit: u64, wanted: &dyn Fn(u64) -> bool) -> Result<Letters, ExitCode> {
    let mut inspection = inspect(&found.dir, found.config.as_ref()).map_err(|error| no_store("weir dlq", &error))?;
    let mut letters = Letters { letters: Vec::new(), more: 0, recovered: Recovered::default() };
    let lane = inspection.outbox.lanes().iter().find(|lane| lane.config().name == DEAD_LETTER);
    if let Some(lane) = lane {
        let head = lane.head_seq();
        let left: Vec<u64> = (head..lane.next_seq()).filter(|seq| lane.has_left(*seq)).collect();
        let mut bytes = Vec::new();
        let reading = inspection.records(DEAD_LETTER, head, &mut |seq, record| {
            if record.kind != RecordKind::DeadLetter || left.binary_search(&seq).is_ok() || !wanted(seq) {
                return true;
            }
            if limit <= letters.letters.len() as u64 {
                letters.more += 1;
                return true;
            }
            bytes.clear();
            record.encode(&mut bytes);
            letters.letters.push(Letter { seq, bytes: bytes.clone() });
            true
        });
        if let Err(error) = reading {
            eprintln!("weir dlq: {}: {error}", found.dir.display());
            return Err(ExitCode::from(EXIT_FLASH));
        }
    }
    letters.recovered = inspection.recovered;
    Ok(letters)
}

pub(super) fn list(place: &Place, limit: u64, json: bool) -> ExitCode {
    let found = match place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let letters = match read(&found, limit, &|_| true) {
        Ok(letters) => letters,
        Err(code) => return code,
    };
    if json {
        let list: Vec<Value> =
            letters.letters.iter().filter_map(|letter| document(&found, &letters.store(), letter)).collect();
        say(&format!("{}\n", ascii(&json!({ "letters": list, "more": letters.more }).to_string())));
    } else if letters.letters.is_empty() {
        say("no dead letters\n");
    } else {
        let mut text = format!(
            "{:>8}  {:<20}  {:<24}  {:<14}  {:<16}  topic\n",
            "number", "failed at", "function", "error", "device"
        );
        letters.letters.iter().for_each(|letter| text += &line(letter));
        if letters.more > 0 {
            text += &format!("and {} more; --limit shows them\n", letters.more);
        }
        say(&text);
    }
    if letters.letters.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WARNING) }
}

fn line(letter: &Letter) -> String {
    let record = letter.record();
    let Some(dead) = record.as_ref().and_then(|record| DeadLetter::decode(record.payload)) else {
        return format!("{:>8}  (not readable by this version)\n", letter.seq);
    };
    let function = match dead.function.is_empty() {
        true => "(none was called)".to_owned(),
        false => format!("{}@{}", dead.function, dead.version),
    };
    format!(
        "{:>8}  {:<20}  {:<24}  {:<14}  {:<16}  {}\n",
        letter.seq,
        time(dead.at_ms),
        escaped(&function),
        escaped(&dead.kind),
        escaped(&dead.device),
        escaped(&dead.topic)
    )
}

fn document(found: &Found, store: &str, letter: &Letter) -> Option<Value> {
    let mut bytes = Vec::new();
    let gateway = found.config.as_ref().map_or("", |config| config.id.as_str());
    let origin = Origin { gateway, store, lane: DEAD_LETTER, seq: letter.seq };
    envelope::write(SinkFormat::Json, origin, &letter.record()?, &mut bytes);
    serde_json::from_slice(&bytes).ok()
}

pub(super) fn show(place: &Place, number: u64, json: bool) -> ExitCode {
    let found = match place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let letters = match read(&found, 1, &|seq| seq == number) {
        Ok(letters) => letters,
        Err(code) => return code,
    };
    let Some(letter) = letters.letters.first() else {
        eprintln!("weir dlq show: there is no dead letter {number}; `weir dlq list` shows those that are there");
        return ExitCode::from(EXIT_WARNING);
    };
    if json {
        say(&format!("{}\n", ascii(&document(&found, &letters.store(), letter).unwrap_or_default().to_string())));
    } else {
        say(&text(letter));
    }
    ExitCode::SUCCESS
}

fn text(letter: &Letter) -> String {
    let record = letter.record();
    let Some(dead) = record.as_ref().and_then(|record| DeadLetter::decode(record.payload)) else {
        return format!("{}: not readable by this version\n", letter.seq);
    };
    let function = match dead.function.is_empty() {
        true => "none was called".to_owned(),
        false => format!("{} version {}", escaped(&dead.function), escaped(&dead.version)),
    };
    let event = match dead.event {
        EventKind::Message => "message",
        EventKind::Interval => "interval",
    };
    let of = if dead.time_from_payload { "as its payload tells" } else { "as it came" };
    let mut text = format!("number       {}\nfailed at    {}\n", letter.seq, time(dead.at_ms));
    text += &format!("event        {event}, {} ({of})\n", time(dead.event_ms));
    text += &format!("function     {function}\nerror        {}\n", escaped(&dead.kind));
    // A report has several lines: each is escaped by itself.
    dead.message.lines().for_each(|line| text += &format!("  {}\n", escaped(line)));
    text += &format!("topic        {}\ndevice       {}\n", escaped(&dead.topic), escaped(&dead.device));
    let kept = dead.payload.len() as u64;
    let cut = if dead.truncated { format!(", of which the first {} are kept", Bytes(kept)) } else { String::new() };
    text += &format!("payload      {}{cut}\n", Bytes(dead.payload_len));
    match core::str::from_utf8(&dead.payload) {
        Ok(payload) => payload.lines().for_each(|line| text += &format!("  {}\n", escaped(line))),
        Err(_) => text += &hex(&dead.payload),
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, row) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("  {:04x}  {}\n", index * 16, digits.join(" "));
    }
    text
}

/// `2026-11-25 10:20:30Z`.
pub(super) fn time(wall_ms: i64) -> String {
    let seconds = wall_ms.div_euclid(1000);
    let of_day = seconds.rem_euclid(86_400);
    let day = crate::shell::tls::date_of_seconds(u64::try_from(seconds).unwrap_or(0));
    format!("{day} {:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
