//! `weir store dump`: what is on flash, line by line.
//!
//! - Entries come with what their owner reads in them; open windows as the aggregate that they would give now; records as the
//!   documents that upstream would get (`docs/upstream.md`).

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::arguments::{WrongUse, unknown};
use super::super::place::{Place, no_store};
use super::lines::Lines;
use crate::books::{Books, DropReason};
use crate::config::SinkFormat;
use crate::entry::{Space, take_varint, unzigzag};
use crate::envelope::{self, Origin, base64};
use crate::function::ErrorKind;
use crate::function::Usage;
use crate::record::{Record, RecordKind};
use crate::shell::store::inspect::{Inspection, inspect};
use crate::time::TimeQuality;
use crate::window::Windows;

/// What is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Wanted {
    pub(super) place: Place,
    pub(super) lane: Option<String>,
    pub(super) from: Option<u64>,
    pub(super) limit: Option<u64>,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Entry,
    Meter,
    /// Of any kind, or of one.
    Record(Option<RecordKind>),
}

impl Wanted {
    pub(super) fn set_kind(&mut self, name: &str) -> Result<(), WrongUse> {
        const KNOWN: [&str; 8] = ["entry", "meter", "record", "message", "aggregate", "dead-letter", "loss", "usage"];
        self.kind = Some(match name {
            "entry" => Kind::Entry,
            "meter" => Kind::Meter,
            "record" => Kind::Record(None),
            other => match RecordKind::from_name(other) {
                Some(kind) => Kind::Record(Some(kind)),
                None => return Err(unknown("kind", other, "weir store dump", &KNOWN)),
            },
        });
        Ok(())
    }
}

pub(super) fn dump(wanted: &Wanted) -> ExitCode {
    let found = match wanted.place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let mut inspection = match inspect(&found.dir, found.config.as_ref()) {
        Ok(inspection) => inspection,
        Err(error) => return no_store("weir store dump", &error),
    };
    if let Some(lane) = &wanted.lane
        && inspection.outbox.lane_named(lane).is_none()
    {
        let names: Vec<&str> = inspection.outbox.lanes().iter().map(|lane| lane.config().name.as_str()).collect();
        eprintln!("weir store dump: {}", unknown("lane", lane, "", &names));
        return ExitCode::from(super::super::EXIT_USAGE);
    }
    // What only records have leaves the others out.
    let records_only = wanted.lane.is_some() || wanted.from.is_some();
    let wants = |kind: Kind| wanted.kind.map_or(!records_only, |wanted| wanted == kind);
    let mut lines = Lines::new(wanted.limit);
    let mut more = true;
    if wants(Kind::Entry) {
        more = entries(&inspection.recovered.entries, &mut lines);
    }
    if more && wants(Kind::Meter) {
        more = meters(&inspection.recovered.entries, &mut lines);
    }
    let mut outcome = Ok(());
    if let (true, None | Some(Kind::Record(_))) = (more, wanted.kind) {
        let kind = match wanted.kind {
            Some(Kind::Record(kind)) => kind,
            _ => None,
        };
        let gateway = found.config.as_ref().map_or("", |config| config.id.as_str());
        outcome = records(&mut inspection, wanted, kind, gateway, &mut lines);
    }
    lines.end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir store dump: {error}");
            ExitCode::from(super::super::EXIT_FLASH)
        }
    }
}

fn records(
    inspection: &mut Inspection,
    wanted: &Wanted,
    kind: Option<RecordKind>,
    gateway: &str,
    lines: &mut Lines,
) -> Result<(), String> {
    let lanes: Vec<(String, u64)> =
        inspection.outbox.lanes().iter().map(|lane| (lane.config().name.clone(), lane.head_seq())).collect();
    let mut document = Vec::new();
    for (name, head) in lanes.iter().filter(|(name, _)| wanted.lane.as_ref().is_none_or(|lane| lane == name)) {
        let mut more = true;
        inspection.records(name, wanted.from.unwrap_or(*head), &mut |seq, record| {
            if kind.is_none_or(|kind| kind == record.kind) {
                document.clear();
                envelope::write(SinkFormat::Json, Origin { gateway, lane: name, seq }, record, &mut document);
                more = lines.put("record", &String::from_utf8_lossy(&document));
            }
            more
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// Open windows, as the aggregates that they would give now. Whether more lines are wanted.
fn meters(entries: &BTreeMap<Vec<u8>, Vec<u8>>, lines: &mut Lines) -> bool {
    // Without a configured meter every cell is a stranger's, and strangers' cells come out as they are.
    let Ok(mut windows) = Windows::new(Vec::new()) else { return true };
    for (key, value) in entries.iter().filter(|(key, _)| key.first() == Some(&(Space::Cell as u8))) {
        // One that cannot be read is counted by the start, and stands among the entries.
        let _ = windows.restore(key, value);
    }
    let (mut payload, mut document, mut more) = (Vec::new(), Vec::new(), true);
    windows.restored(&mut |meter, aggregate| {
        payload.clear();
        document.clear();
        aggregate.encode(&mut payload);
        let record = Record {
            kind: RecordKind::Aggregate,
            closes_message: false,
            at_ms: aggregate.end_ms,
            quality: TimeQuality::Unset,
            hops: 0,
            source: &meter.name,
            topic: &meter.topic,
            payload: &payload,
        };
        envelope::write(SinkFormat::Json, Origin { gateway: "", lane: "", seq: 0 }, &record, &mut document);
        more = more && lines.put("meter", &String::from_utf8_lossy(&document));
    });
    more
}

fn entries(entries: &BTreeMap<Vec<u8>, Vec<u8>>, lines: &mut Lines) -> bool {
    entries.iter().all(|(key, value)| lines.put("entry", &entry(key, value).to_string()))
}

/// One entry, with what its owner reads in it.
fn entry(key: &[u8], value: &[u8]) -> Value {
    let (space, rest) = key.split_first().map_or((0, key), |(space, rest)| (*space, rest));
    let is = |wanted: Space| space == wanted as u8;
    let read = if is(Space::Books) && rest == b"books" {
        Books::restore(value).map(|books| ("books", books_value(&books)))
    } else if is(Space::Books) && rest == b"clock" {
        clock(value).map(|clock| ("clock", clock))
    } else if is(Space::Lane) {
        lane_head(value).map(|head| ("lane", json!({ "name": text(rest), "head": head })))
    } else if is(Space::Usage) {
        Usage::decode(value).map(|usage| ("usage", usage_value(rest, &usage)))
    } else if is(Space::State) {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let name = rest.get(end + 1..).unwrap_or_default();
        Some(("state", json!({ "function": text(&rest[..end]), "key": text(name), "value": text(value) })))
    } else if is(Space::Marks) {
        let commit = <[u8; 8]>::try_from(rest).map(u64::from_be_bytes).ok();
        Some(("marks", json!({ "commit": commit, "bytes": value.len() })))
    } else if is(Space::Cell) {
        Some(("cell", json!({ "bytes": value.len() })))
    } else {
        None
    };
    match read {
        Some((space, read)) => json!({ "space": space, "key": text(key), "read": read }),
        None => json!({ "space": null, "key": text(key), "value": text(value) }),
    }
}

/// Text as text, other bytes as `{"base64": …}`.
fn text(bytes: &[u8]) -> Value {
    match core::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            let mut out = Vec::new();
            base64::encode(bytes, &mut out);
            json!({ "base64": String::from_utf8_lossy(&out) })
        }
    }
}

fn books_value(books: &Books) -> Value {
    let dropped: serde_json::Map<String, Value> = DropReason::ALL
        .iter()
        .map(|reason| (reason.name().to_owned(), json!(books.dropped[*reason as usize])))
        .collect();
    json!({
        "received": books.received, "delivered": books.delivered, "filtered": books.filtered,
        "aggregated": books.aggregated, "dead-lettered": books.dead_lettered, "expired": books.expired,
        "duplicates": books.duplicates, "replayed": books.replayed, "dropped": dropped,
    })
}

fn clock(mut value: &[u8]) -> Option<Value> {
    let commit = take_varint(&mut value)?;
    let mut time = || take_varint(&mut value).map(unzigzag);
    let (wall_ms, age_ms) = (time()?, time()?);
    let quality = TimeQuality::from_code(*value.first()?);
    Some(json!({ "commit": commit, "wall_ms": wall_ms, "quality": envelope::quality_name(quality), "age_ms": age_ms }))
}

fn lane_head(mut value: &[u8]) -> Option<u64> {
    take_varint(&mut value)
}

fn usage_value(function: &[u8], usage: &Usage) -> Value {
    let errors: serde_json::Map<String, Value> = ErrorKind::ALL
        .into_iter()
        .filter(|kind| usage.errors_of(*kind) > 0)
        .map(|kind| (kind.name().to_owned(), json!(usage.errors_of(kind))))
        .collect();
    json!({
        "function": text(function), "invocations": usage.invocations, "fuel": usage.fuel, "time_us": usage.time_us,
        "bytes_in": usage.bytes_in, "bytes_out": usage.bytes_out, "peak_memory": usage.peak_memory, "errors": errors,
    })
}
