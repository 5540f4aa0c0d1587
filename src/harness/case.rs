//! Cases of a function: events in, effects out. The form is described in `functions/README.md`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::document::{Event, words};
use crate::config::Qos;
use crate::field::Codec;
use crate::function::EventKind;
use crate::time::WallMillis;

/// Longest payload that a case builds of parts.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// A file of `cases/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Case {
    /// The sentence that it proves.
    pub name: String,
    /// Settings in place of the manifest's.
    #[serde(default)]
    pub config: toml::Table,
    /// How payloads are read: `json`, `cbor` or `raw`.
    #[serde(default, with = "words::codec")]
    pub codec: Codec,
    /// The function does not load; the reason holds this text.
    pub refused: Option<String>,
    /// Events, in order; the state goes from one to the next.
    #[serde(default)]
    pub step: Vec<Step>,
}

/// An event and what comes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// `message` or `interval`.
    #[serde(default, with = "words::kind")]
    pub kind: EventKind,
    /// Topic name; `DEVICE` in place of nothing.
    pub topic: Option<String>,
    /// Device name.
    #[serde(default = "device")]
    pub device: String,
    /// Event time; without one, a second after the step before.
    pub time_ms: Option<WallMillis>,
    /// 0, 1 or 2.
    #[serde(default, with = "words::qos")]
    pub qos: Qos,
    /// Text, or parts of it.
    payload: Option<Payload>,
    /// Bytes in hexadecimal; blanks do not count.
    payload_hex: Option<String>,
    /// The step is done so many times, and comes out alike.
    #[serde(default = "one")]
    pub repeat: u8,
    /// What the handler decides.
    pub verdict: Expected,
    /// Code of an error that the handler returned.
    pub code: Option<i32>,
    /// Text in the report of an error.
    pub says: Option<String>,
    /// All that is emitted, in order.
    #[serde(default)]
    pub emits: Vec<Emit>,
    /// All that is metered, in order.
    #[serde(default)]
    pub meters: Vec<Meter>,
    /// All log lines, if it matters.
    pub logs: Option<Vec<String>>,
    /// The whole state behind the step, if it matters: key as text, value in hexadecimal.
    pub state: Option<BTreeMap<String, String>>,
}

/// A verdict, as a case names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// The original bytes go on.
    Keep,
    /// The message is not wanted.
    Drop,
    /// What was emitted, metered or stored is all.
    Done,
    /// No verdict; `code` or `says` tell why.
    Error,
    /// The host keeps the event from the function.
    Malformed,
}

impl Expected {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Done => "done",
            Self::Error => "error",
            Self::Malformed => "malformed",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Payload {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Repeated { repeat: String, times: usize },
}

/// An emitted message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    /// Topic name.
    pub topic: String,
    /// Text.
    pub payload: String,
}

/// A meter operation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// The meter.
    pub name: String,
    /// `add`, `set` or `observe`.
    pub op: String,
    /// The key; without one, the event's device.
    pub key: Option<String>,
    /// Within 1e-9 of it.
    pub value: f64,
}

fn device() -> String {
    "device-1".to_owned()
}

const fn one() -> u8 {
    1
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let case: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if case.refused.is_none() && case.step.is_empty() {
            return Err("has neither a [[step]] nor `refused`, so it proves nothing".to_owned());
        }
        if case.refused.is_some() && !case.step.is_empty() {
            return Err("a function that is refused takes no step; leave `refused` or the steps out".to_owned());
        }
        for (index, step) in case.step.iter().enumerate() {
            step.check().map_err(|why| format!("step {}: {why}", index + 1))?;
        }
        Ok(case)
    }

    /// The settings as text, as a manifest has them.
    ///
    /// # Errors
    /// A setting is a text, a number or a truth value.
    pub fn settings(&self) -> Result<Vec<(&str, String)>, String> {
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => Ok(text.clone()),
            toml::Value::Integer(number) => Ok(number.to_string()),
            toml::Value::Float(number) => Ok(number.to_string()),
            toml::Value::Boolean(flag) => Ok(flag.to_string()),
            _ => Err("is no text, number or truth value".to_owned()),
        };
        let setting =
            |(key, value): (&'_ String, &toml::Value)| text(value).map_err(|why| format!("config.{key} {why}"));
        self.config.iter().map(|(key, value)| Ok((key.as_str(), setting((key, value))?))).collect()
    }
}

impl Step {
    fn check(&self) -> Result<(), String> {
        if self.payload.is_some() && self.payload_hex.is_some() {
            return Err("has `payload` and `payload-hex`; it wants one".to_owned());
        }
        if self.verdict == Expected::Error && self.code.is_none() && self.says.is_none() {
            return Err("an error wants `code` or `says`".to_owned());
        }
        if self.repeat == 0 {
            return Err("`repeat` is 0, so nothing is done".to_owned());
        }
        self.bytes().map(drop)
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        match (&self.payload, &self.payload_hex) {
            (Some(Payload::Text(text)), _) => Ok(text.clone().into_bytes()),
            (Some(Payload::Parts(parts)), _) => {
                let len: usize = parts.iter().map(Part::len).fold(0, usize::saturating_add);
                if PAYLOAD_BYTES_MAX < len {
                    return Err(format!("the payload has {len} bytes; at most {PAYLOAD_BYTES_MAX} are made"));
                }
                Ok(parts.iter().flat_map(Part::bytes).collect())
            }
            (None, Some(hex)) => from_hex(hex),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The event.
    #[must_use]
    pub fn event(&self, codec: Codec) -> Event {
        let event = Event {
            kind: self.kind,
            topic: self.topic.clone().unwrap_or_else(|| self.device.clone()),
            device: Some(self.device.clone()),
            codec,
            time: self.time_ms,
            qos: self.qos,
            ..Event::default()
        };
        event.with_payload(&self.bytes().expect("a case was checked when it was read"))
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Repeated { repeat, times } => repeat.len().saturating_mul(*times),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).map(|digit| digit as u8));
    let digits: Option<Vec<u8>> = digits.collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2));
    let digits =
        digits.ok_or_else(|| format!("`{}` is no whole number of bytes in hexadecimal", text.escape_debug()))?;
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_case_is_said() {
        let step = |line: &str| format!("name = \"a\"\n[[step]]\n{line}\n");
        for (text, want) in [
            ("name = \"a\"".to_owned(), "proves nothing"),
            (step("verdict = \"kep\""), "unknown variant `kep`"),
            (step("verdict = \"error\""), "step 1: an error wants `code` or `says`"),
            (step("verdict = \"keep\"\npayload-hex = \"0g\""), "step 1: `0g` is no whole number of bytes"),
            (step("verdict = \"keep\"\npayload-hex = \"012\""), "no whole number"),
            (step("verdict = \"keep\"\npayload = \"\"\npayload-hex = \"\""), "it wants one"),
            (step("verdict = \"keep\"\npayload = [{ repeat = \"0123456789\", times = 9999999 }]"), "at most"),
            (step("verdict = \"keep\"\nrepeat = 0"), "nothing is done"),
            (format!("refused = \"x\"\n{}", step("verdict = \"keep\"")), "leave `refused`"),
            (step("verdict = \"keep\"\nkind = \"tick\""), "`tick` is none of message, interval"),
        ] {
            let error = Case::parse(&text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
