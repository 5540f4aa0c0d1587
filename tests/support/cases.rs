//! Cases of a function: events in, effects out. The form is described in `functions/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A file of `cases/`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Case {
    /// The sentence that it proves.
    pub name: String,
    /// Settings in place of the manifest's.
    #[serde(default)]
    pub config: toml::Table,
    /// How payloads are read: `json`, `cbor` or `raw`.
    #[serde(default = "json")]
    pub codec: String,
    /// The function does not load; the reason holds this text.
    pub refused: Option<String>,
    /// Events, in order; the state goes from one to the next.
    #[serde(default)]
    pub step: Vec<Step>,
}

/// An event and what comes of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// `message` or `interval`.
    #[serde(default = "message")]
    pub kind: String,
    /// Topic name; `DEVICE` in place of nothing.
    pub topic: Option<String>,
    /// Device name.
    #[serde(default = "device")]
    pub device: String,
    /// Event time; without one, a second after the step before.
    pub time_ms: Option<i64>,
    /// 0, 1 or 2.
    #[serde(default = "one")]
    pub qos: u8,
    /// Text, or parts of it.
    pub payload: Option<Payload>,
    /// Bytes in hexadecimal; blanks do not count.
    pub payload_hex: Option<String>,
    /// The step is done so many times, and comes out alike.
    #[serde(default = "one")]
    pub repeat: u8,
    /// `keep`, `drop`, `done`, `error` (with `code` or `says`), `malformed` (the host keeps it from the function).
    pub verdict: String,
    /// Code of an error that the handler returned.
    pub code: Option<i32>,
    /// Text in the report of an error.
    pub says: Option<String>,
    /// All that is emitted, in order.
    #[serde(default)]
    pub emits: Vec<Emitted>,
    /// All that is metered, in order.
    #[serde(default)]
    pub meters: Vec<Metered>,
    /// All log lines, if it matters.
    pub logs: Option<Vec<String>>,
    /// The whole state behind the step, if it matters: key as text, value in hexadecimal.
    pub state: Option<BTreeMap<String, String>>,
}

/// A payload as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Payload {
    /// As it stands.
    Text(String),
    /// Joined.
    Parts(Vec<Part>),
}

/// A part of a payload.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// Many times.
    Repeated {
        /// What.
        repeat: String,
        /// How often.
        times: usize,
    },
}

/// An emitted message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emitted {
    /// Topic name.
    pub topic: String,
    /// Text.
    pub payload: String,
}

/// A meter operation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metered {
    /// The meter.
    pub name: String,
    /// `add`, `set` or `observe`.
    pub op: String,
    /// The key; without one, the event's device.
    pub key: Option<String>,
    /// Within 1e-9 of it.
    pub value: f64,
}

fn json() -> String {
    "json".to_owned()
}

fn message() -> String {
    "message".to_owned()
}

fn device() -> String {
    "device-1".to_owned()
}

const fn one() -> u8 {
    1
}

impl Step {
    /// The payload's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.payload, &self.payload_hex) {
            (Some(Payload::Text(text)), None) => text.clone().into_bytes(),
            (Some(Payload::Parts(parts)), None) => parts.iter().flat_map(Part::bytes).collect(),
            (None, Some(hex)) => from_hex(hex),
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => panic!("a step has `payload` or `payload-hex`, not both"),
        }
    }
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    assert!(digits.len().is_multiple_of(2), "`{text}` has half a byte");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Bytes in hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The cases in `folder`, with their files.
pub fn read_all(folder: &Path) -> Vec<(PathBuf, Case)> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let read = |file: PathBuf| {
        let case = toml::from_str(&fs::read_to_string(&file).unwrap());
        let case = case.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, case)
    };
    files.into_iter().map(read).collect()
}
