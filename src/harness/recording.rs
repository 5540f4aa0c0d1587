//! A recording: calls of functions of a running gateway, one JSON document a line, so that they can be made again anywhere.
//!
//! - It begins with what the functions were: version, digest, settings, limits and durable state at that moment. Each call has its
//!   event whole and what came of it.
//! - Lines: `{"recording": …}`, then a `{"function": …}` for each function, `{"call": …}` in order, and `{"end": …}`; a recording that
//!   broke off has no end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::document::{Blob, Event};
use super::outcome::Outcome;
use crate::function::{Function, Invocation};
use crate::manifest::{InstancePolicy, Limits, Manifest};
use crate::time::WallMillis;
use crate::units::{Bytes, Fuel, Millis};

/// Version of this form.
pub const VERSION: u32 = 1;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Recording(Head),
    /// A function, before the first call.
    Function(Box<Recorded>),
    /// A call.
    Call(Box<Call>),
    /// The last.
    End(End),
}

/// What the recording is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub version: u32,
    /// The version of weir that recorded.
    pub weir: String,
    /// The gateway, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// When it began, ms since 1970.
    pub at: WallMillis,
}

/// A function as it was when the recording began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its name.
    pub name: String,
    /// The label of its version.
    pub version: String,
    /// [`Function::digest`], in hexadecimal.
    pub digest: String,
    /// Its instance stays between calls: what it keeps in memory is not recorded.
    #[serde(default)]
    pub warm: bool,
    /// Its settings.
    pub config: BTreeMap<String, String>,
    /// Its limits, in bytes, fuel, milliseconds and numbers.
    pub limits: BTreeMap<String, u64>,
    /// Its durable state.
    pub state: Vec<(Blob, Blob)>,
}

/// A call and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The function.
    pub function: String,
    /// What it was called with.
    pub event: Event,
    /// What it wanted.
    pub outcome: Outcome,
}

/// How the recording ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// For people.
    pub reason: String,
    /// Calls in it.
    pub calls: u64,
}

impl Recorded {
    /// The function as it is.
    #[must_use]
    pub fn of(manifest: &Manifest, function: &Function) -> Self {
        let state = function.state_entries().map(|(key, value)| (Blob(key.to_vec()), Blob(value.to_vec())));
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: format!("{:016x}", function.digest()),
            warm: manifest.instances == InstancePolicy::Warm,
            config: manifest.config.iter().cloned().collect(),
            limits: limits_as_numbers(&manifest.limits),
            state: state.collect(),
        }
    }

    /// The limits under which it ran; those that are not recorded are `otherwise`.
    #[must_use]
    pub fn limits(&self, otherwise: &Limits) -> Limits {
        let number = |key: &str, otherwise: u64| self.limits.get(key).copied().unwrap_or(otherwise);
        let small = |key: &str, otherwise: u16| u16::try_from(number(key, otherwise.into())).unwrap_or(otherwise);
        Limits {
            memory: Bytes(number("memory", otherwise.memory.0)),
            fuel: Fuel(number("fuel", otherwise.fuel.0)),
            time: Millis(number("time", otherwise.time.0)),
            emits: small("emits", otherwise.emits),
            emit_bytes: Bytes(number("emit-bytes", otherwise.emit_bytes.0)),
            state: Bytes(number("state", otherwise.state.0)),
            log_bytes: Bytes(number("log", otherwise.log_bytes.0)),
            meter_ops: small("meter-ops", otherwise.meter_ops),
        }
    }
}

fn limits_as_numbers(limits: &Limits) -> BTreeMap<String, u64> {
    let Limits { memory, fuel, time, emits, emit_bytes, state, log_bytes, meter_ops } = limits;
    let numbers = [
        ("memory", memory.0),
        ("fuel", fuel.0),
        ("time", time.0),
        ("emits", u64::from(*emits)),
        ("emit-bytes", emit_bytes.0),
        ("state", state.0),
        ("log", log_bytes.0),
        ("meter-ops", u64::from(*meter_ops)),
    ];
    numbers.into_iter().map(|(key, number)| (key.to_owned(), number)).collect()
}

impl Event {
    /// The event of an invocation, whole: called with it, a function answers the same.
    #[must_use]
    pub fn of(invocation: &Invocation<'_>) -> Self {
        let event = Self {
            kind: invocation.kind,
            topic: invocation.topic.to_owned(),
            device: Some(invocation.device.to_owned()),
            codec: invocation.codec,
            time: Some(invocation.time_ms),
            now: Some(invocation.now_ms),
            quality: Some(invocation.quality),
            time_from_payload: invocation.time_from_payload,
            qos: invocation.qos,
            retained: invocation.retained,
            chained: invocation.chained,
            replayed: invocation.replayed,
            sequence: Some(invocation.sequence),
            seed: Some(invocation.random_seed()),
            ..Self::default()
        };
        event.with_payload(invocation.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_were() {
        let limits = Limits { fuel: Fuel(7), emits: 3, log_bytes: Bytes(9), ..Limits::default() };
        let recorded = Recorded { limits: limits_as_numbers(&limits), ..Recorded::default() };
        assert_eq!(recorded.limits(&Limits::default()), limits);
        assert_eq!(Recorded::default().limits(&limits), limits);
    }

    #[test]
    fn a_line_says_what_it_is() {
        let line = Line::End(End { reason: "asked".to_owned(), calls: 2 });
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"end":{"reason":"asked","calls":2}}"#);
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
