//! The envelope read back: for the simulator and the tests, which add up what arrived.
//!
//! - Reads what [`super::write`] writes as JSON; unknown fields are looked over, since later versions only add.
//! - Whoever adds up drops a (gateway, store, lane, seq) that was seen before: sinks deliver at least once.

use core::fmt;
use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{KINDS, QUALITIES, VERSION, base64};
use crate::manifest::MeterKind;
use crate::record::RecordKind;
use crate::time::{TimeQuality, WallMillis};
use crate::window::sketch::Sketch;
use crate::window::sum::Sum;
use crate::window::{Aggregate, Stats};

/// A record as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedRecord {
    /// Gateway id.
    pub gateway: String,
    /// Number of its store; empty if it has none.
    pub store: String,
    /// Lane.
    pub lane: String,
    /// Sequence within the lane.
    pub seq: u64,
    /// Kind.
    pub kind: RecordKind,
    /// When the record was made.
    pub at_ms: WallMillis,
    /// Quality of that.
    pub quality: TimeQuality,
    /// Topic.
    pub topic: String,
    /// Function or meter that made it; empty for the gateway.
    pub source: String,
    /// All fields, these included.
    pub fields: Map<String, Value>,
}

/// An aggregate as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedAggregate {
    /// `FUNCTION.METER`.
    pub meter: String,
    /// Unit.
    pub unit: String,
    /// Kind of meter.
    pub kind: MeterKind,
    /// Key.
    pub key: Vec<u8>,
    /// Start of the window.
    pub start_ms: WallMillis,
    /// End of the window.
    pub end_ms: WallMillis,
    /// See [`Aggregate::revision`].
    pub revision: u8,
    /// Worst quality of the values' times.
    pub quality: TimeQuality,
    /// The values.
    pub stats: Stats,
}

/// Why a document is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It is not JSON, or not a JSON object.
    NotJson(String),
    /// It is of a version that this reader does not know.
    Version(u64),
    /// A field is missing or is not what the schema says.
    Field(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(why) => write!(f, "not a JSON object: {why}"),
            Self::Version(version) => write!(f, "schema version {version}; this reader knows {VERSION}"),
            Self::Field(name) => write!(f, "the field `{name}` is missing or malformed"),
        }
    }
}

impl std::error::Error for ParseError {}

/// Reads one document.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(json: &[u8]) -> Result<ParsedRecord, ParseError> {
    let fields: Map<String, Value> =
        serde_json::from_slice(json).map_err(|error| ParseError::NotJson(error.to_string()))?;
    let from = Fields(&fields);
    match from.u64("v")? {
        VERSION => {}
        other => return Err(ParseError::Version(other)),
    }
    let kind = from.str("kind")?;
    let kind = RecordKind::from_name(kind).ok_or(ParseError::Field("kind"))?;
    Ok(ParsedRecord {
        gateway: from.str("gateway")?.to_string(),
        store: from.str("store").unwrap_or_default().to_string(),
        lane: from.str("lane")?.to_string(),
        seq: from.u64("seq")?,
        kind,
        at_ms: from.i64("at")?,
        quality: from.quality("quality")?,
        topic: from.str("topic")?.to_string(),
        source: from.str("source").unwrap_or_default().to_string(),
        fields,
    })
}

impl ParsedRecord {
    /// The aggregate, if the record is one and undamaged.
    ///
    /// # Errors
    /// A field is not what the schema says.
    pub fn aggregate(&self) -> Result<ParsedAggregate, ParseError> {
        let from = Fields(&self.fields);
        let kind = from.str("type")?;
        let kind = KINDS.iter().find(|(_, name)| *name == kind).ok_or(ParseError::Field("type"))?.0;
        Ok(ParsedAggregate {
            meter: from.str("meter")?.to_string(),
            unit: from.str("unit")?.to_string(),
            kind,
            key: from.text_or_bytes("key", "key_base64")?,
            start_ms: from.i64("start")?,
            end_ms: from.i64("end")?,
            revision: u8::try_from(from.u64("revision")?).map_err(|_| ParseError::Field("revision"))?,
            quality: from.quality("window_quality")?,
            stats: stats(&from, kind)?,
        })
    }

    /// The payload of a message or dead letter, as bytes; JSON comes back as an equal value, not as the same text.
    ///
    /// # Errors
    /// The record has none.
    pub fn payload(&self) -> Result<Vec<u8>, ParseError> {
        match self.fields.get("payload") {
            Some(json) => Ok(json.to_string().into_bytes()),
            None => Fields(&self.fields).text_or_bytes("text", "base64"),
        }
    }
}

impl ParsedAggregate {
    /// As an aggregate, to merge it.
    #[must_use]
    pub fn as_aggregate(&self) -> Aggregate<'_> {
        Aggregate {
            meter: &self.meter,
            unit: &self.unit,
            kind: self.kind,
            key: &self.key,
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            revision: self.revision,
            quality: self.quality,
            stats: Cow::Borrowed(&self.stats),
        }
    }
}

fn stats(from: &Fields<'_>, kind: MeterKind) -> Result<Stats, ParseError> {
    let mut sum = Sum::default();
    sum.add(from.f64("sum")?);
    let mut stats = Stats { count: from.u64("count")?, sum, ..Stats::default() };
    if kind != MeterKind::Counter {
        (stats.min, stats.max) = (from.f64("min")?, from.f64("max")?);
        (stats.first, stats.first_at_ms) = (from.f64("first")?, from.i64("first_at")?);
        (stats.last, stats.last_at_ms) = (from.f64("last")?, from.i64("last_at")?);
    }
    if kind == MeterKind::Distribution {
        stats.m2 = from.f64("m2")?;
        stats.sketch = Some(Box::new(sketch(from.0.get("sketch")).ok_or(ParseError::Field("sketch"))?));
    }
    Ok(stats)
}

fn sketch(from: Option<&Value>) -> Option<Sketch> {
    let from = from?.as_object()?;
    let level = u8::try_from(from.get("level")?.as_u64()?).ok()?;
    let side = |name: &str, sign: i32| -> Option<Vec<(i32, i32, u32)>> {
        from.get(name)?.as_array()?.iter().map(|bin| bin_of(bin, sign)).collect()
    };
    let mut bins = side("negative", -1)?;
    match u32::try_from(from.get("zero")?.as_u64()?).ok()? {
        0 => {}
        zero => bins.push((0, 0, zero)),
    }
    bins.extend(side("positive", 1)?);
    Sketch::from_bins(level, bins.into_iter())
}

fn bin_of(bin: &Value, sign: i32) -> Option<(i32, i32, u32)> {
    let [power, count] = bin.as_array()?.as_slice() else { return None };
    Some((sign, i32::try_from(power.as_i64()?).ok()?, u32::try_from(count.as_u64()?).ok()?))
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get<'a, T>(&'a self, name: &'static str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, ParseError> {
        self.0.get(name).and_then(read).ok_or(ParseError::Field(name))
    }

    fn str(&self, name: &'static str) -> Result<&str, ParseError> {
        self.get(name, Value::as_str)
    }

    fn u64(&self, name: &'static str) -> Result<u64, ParseError> {
        self.get(name, Value::as_u64)
    }

    fn i64(&self, name: &'static str) -> Result<i64, ParseError> {
        self.get(name, Value::as_i64)
    }

    fn f64(&self, name: &'static str) -> Result<f64, ParseError> {
        self.get(name, Value::as_f64)
    }

    fn quality(&self, name: &'static str) -> Result<TimeQuality, ParseError> {
        let text = self.str(name)?;
        QUALITIES.iter().find(|(_, known)| *known == text).map(|(quality, _)| *quality).ok_or(ParseError::Field(name))
    }

    fn text_or_bytes(&self, text: &'static str, bytes: &'static str) -> Result<Vec<u8>, ParseError> {
        match self.str(text) {
            Ok(text) => Ok(text.as_bytes().to_vec()),
            Err(_) => base64::decode(self.str(bytes)?).ok_or(ParseError::Field(bytes)),
        }
    }
}
