//! The envelope: records as JSON or CBOR documents for upstream. `docs/upstream.md` is the schema.
//!
//! - Every record gives one document, whatever its bytes: what cannot be read is sent as `damaged`, in base64.
//! - JSON is one line of valid UTF-8, without NaN or infinities. Times are whole milliseconds since 1970.
//! - A message's payload stands in JSON as JSON if it is JSON that every reader takes, else as text, else in base64; in
//!   CBOR it is a byte string.

pub mod base64;
pub mod parse;
mod writer;

pub use parse::{ParseError, ParsedAggregate, ParsedRecord, parse};

use crate::config::SinkFormat;
use crate::dead_letter::{DeadLetter, Loss};
use crate::field::Codec;
use crate::function::EventKind;
use crate::function::usage::{ErrorKind, UsageRecord};
use crate::manifest::MeterKind;
use crate::record::{Record, RecordKind};
use crate::time::TimeQuality;
use crate::window::sketch::Sketch;
use crate::window::{Aggregate, Stats};
use writer::Writer;

/// Version of the schema: the field `v`.
pub const VERSION: u64 = 1;
/// Quantiles that a distribution tells, and their names.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// Where a record comes from: with `seq` it is unique in the world and for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Gateway id.
    pub gateway: &'a str,
    /// Lane name.
    pub lane: &'a str,
    /// Sequence within the lane, without gaps.
    pub seq: u64,
}

/// Appends the document of one record to `out`.
pub fn write(format: SinkFormat, origin: Origin<'_>, record: &Record<'_>, out: &mut Vec<u8>) {
    let mut to = Writer::new(format, out);
    to.begin_map();
    to.field_u64("v", VERSION);
    to.field_str("gateway", origin.gateway);
    to.field_str("lane", origin.lane);
    to.field_u64("seq", origin.seq);
    to.field_str("kind", record.kind.name());
    to.field_i64("at", record.at_ms);
    to.field_str("quality", quality_name(record.quality));
    to.field_str("topic", record.topic);
    if !record.source.is_empty() {
        to.field_str("source", record.source);
    }
    if record.hops > 0 {
        to.field_u64("hops", u64::from(record.hops));
    }
    if body(&mut to, record).is_none() {
        to.field_bool("damaged", true);
        to.field_bytes("", record.payload);
    }
    to.end_map();
}

fn body(to: &mut Writer<'_>, record: &Record<'_>) -> Option<()> {
    match record.kind {
        RecordKind::Message => to.field_payload("payload", record.payload),
        RecordKind::Aggregate => aggregate(to, &Aggregate::decode(record.payload)?),
        RecordKind::DeadLetter => dead_letter(to, &DeadLetter::decode(record.payload)?),
        RecordKind::Loss => loss(to, &Loss::decode(record.payload)?),
        RecordKind::Usage => usage(to, &UsageRecord::decode(record.payload)?),
    }
    Some(())
}

fn aggregate(to: &mut Writer<'_>, aggregate: &Aggregate<'_>) {
    to.field_str("meter", aggregate.meter);
    to.field_str("unit", aggregate.unit);
    to.field_str("type", kind_name(aggregate.kind));
    to.field_text_or_bytes("key", aggregate.key);
    to.field_i64("start", aggregate.start_ms);
    to.field_i64("end", aggregate.end_ms);
    to.field_u64("revision", u64::from(aggregate.revision));
    to.field_bool("late", aggregate.late());
    to.field_str("window_quality", quality_name(aggregate.quality));
    to.field_u64("count", aggregate.stats.count);
    to.field_sum("sum", &aggregate.stats.sum);
    if aggregate.kind != MeterKind::Counter {
        gauge(to, &aggregate.stats);
    }
    if aggregate.kind == MeterKind::Distribution {
        distribution(to, &aggregate.stats);
    }
}

fn gauge(to: &mut Writer<'_>, stats: &Stats) {
    to.field_f64("min", stats.min);
    to.field_f64("max", stats.max);
    to.field_f64("mean", stats.mean());
    to.field_f64("first", stats.first);
    to.field_i64("first_at", stats.first_at_ms);
    to.field_f64("last", stats.last);
    to.field_i64("last_at", stats.last_at_ms);
}

fn distribution(to: &mut Writer<'_>, stats: &Stats) {
    to.field_f64("variance", stats.variance());
    to.field_f64("m2", stats.m2);
    let Some(sketch) = &stats.sketch else { return };
    for (name, q) in QUANTILES {
        if let Some(value) = stats.quantile(q) {
            to.field_f64(name, value);
        }
    }
    to.key("sketch");
    to.begin_map();
    to.field_f64("accuracy", sketch.accuracy());
    to.field_u64("level", u64::from(sketch.level()));
    let zero: u64 = sketch.bins().filter(|(sign, ..)| *sign == 0).map(|(.., count)| u64::from(count)).sum();
    to.field_u64("zero", zero);
    bins(to, "positive", sketch, 1);
    bins(to, "negative", sketch, -1);
    to.end_map();
}

fn bins(to: &mut Writer<'_>, name: &str, sketch: &Sketch, wanted: i32) {
    to.key(name);
    to.begin_array();
    for (_, power, count) in sketch.bins().filter(|(sign, ..)| *sign == wanted) {
        to.begin_array();
        to.i64(i64::from(power));
        to.u64(u64::from(count));
        to.end_array();
    }
    to.end_array();
}

fn dead_letter(to: &mut Writer<'_>, letter: &DeadLetter<'_>) {
    to.field_str("function", &letter.function);
    to.field_str("version", &letter.version);
    to.field_str("error", &letter.kind);
    to.field_str("message", &letter.message);
    to.field_str("device", &letter.device);
    to.field_str("message_topic", &letter.topic);
    to.field_i64("failed_at", letter.at_ms);
    to.field_i64("event_at", letter.event_ms);
    to.field_bool("time_from_payload", letter.time_from_payload);
    to.field_str("event", if letter.event == EventKind::Interval { "interval" } else { "message" });
    to.field_u64("sequence", letter.sequence);
    to.field_str("seed", &format!("{:016x}", letter.seed));
    to.field_str("digest", &format!("{:016x}", letter.digest));
    to.field_bool("chained", letter.chained);
    to.field_bool("retained", letter.retained);
    to.field_u64("qos", letter.qos as u64);
    to.field_str("codec", codec_name(letter.codec));
    to.field_u64("payload_len", letter.payload_len);
    to.field_bool("truncated", letter.truncated);
    if !letter.truncated {
        to.field_payload("payload", &letter.payload);
    } else {
        // The beginning of JSON may be JSON by chance, and another value.
        to.field_opaque_payload(&letter.payload);
    }
}

fn loss(to: &mut Writer<'_>, loss: &Loss<'_>) {
    to.field_str("reason", &loss.reason);
    to.field_u64("records", loss.records);
    to.field_u64("messages", loss.messages);
    to.field_u64("first_seq", loss.first_seq);
    to.field_u64("through_seq", loss.through_seq);
}

fn usage(to: &mut Writer<'_>, record: &UsageRecord) {
    let usage = &record.usage;
    to.field_i64("start", record.start_ms);
    to.field_i64("end", record.end_ms);
    to.field_u64("invocations", usage.invocations);
    to.key("errors");
    to.begin_map();
    for kind in ErrorKind::ALL.into_iter().filter(|kind| usage.errors_of(*kind) > 0) {
        to.field_u64(kind.name(), usage.errors_of(kind));
    }
    to.end_map();
    to.field_u64("fuel", usage.fuel);
    to.field_u64("time_us", usage.time_us);
    to.field_u64("bytes_in", usage.bytes_in);
    to.field_u64("bytes_out", usage.bytes_out);
    to.field_u64("peak_memory", usage.peak_memory);
    to.field_u64("instances", usage.instances);
}

const QUALITIES: [(TimeQuality, &str); 3] =
    [(TimeQuality::Unset, "unset"), (TimeQuality::Restored, "restored"), (TimeQuality::Synced, "synced")];
const KINDS: [(MeterKind, &str); 3] =
    [(MeterKind::Counter, "counter"), (MeterKind::Gauge, "gauge"), (MeterKind::Distribution, "distribution")];

/// The word for it upstream.
#[must_use]
pub fn quality_name(quality: TimeQuality) -> &'static str {
    QUALITIES[quality as usize].1
}

const fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "json",
        Codec::Cbor => "cbor",
        Codec::Raw => "raw",
    }
}

fn kind_name(kind: MeterKind) -> &'static str {
    KINDS[kind as usize].1
}

#[cfg(test)]
mod tests;
