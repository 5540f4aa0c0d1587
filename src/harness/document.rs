//! An event as a document (JSON): what `weir invoke` is given, and what a recording holds.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::config::Qos;
use crate::envelope::base64;
use crate::field::Codec;
use crate::function::EventKind;
use crate::time::{TimeQuality, WallMillis};

/// Bytes: a JSON string where they are text, else `{"base64": …}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// For people: text as it is, other bytes in hexadecimal.
    #[must_use]
    pub fn shown(&self) -> String {
        match core::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
                crate::printable::Escaped(text).to_string()
            }
            _ => format!("0x{}", to_hex(&self.0)),
        }
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        if let Ok(text) = core::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &coded(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = match Value::deserialize(deserializer)? {
            Value::String(text) => Some(text.into_bytes()),
            Value::Object(map) => map.get("base64").and_then(Value::as_str).and_then(base64::decode),
            _ => None,
        };
        read.map(Self).ok_or_else(|| de::Error::custom("bytes are a text or {\"base64\": \"…\"}"))
    }
}

fn coded(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    String::from_utf8(text).expect("base64 is ASCII")
}

/// An event. Everything has a default; the payload is in one of `payload` (any JSON value, handed over in its compact form), `text`
/// and `base64`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// Message or interval.
    #[serde(with = "words::kind")]
    pub kind: EventKind,
    /// Topic name.
    pub topic: String,
    /// Device name; the topic where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The payload as a JSON value. `null` counts as none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// The payload as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The payload as bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// How fields are read: `json`, `cbor` or `raw`.
    #[serde(with = "words::codec")]
    pub codec: Codec,
    /// Event time, ms since 1970; a second after the event before where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<WallMillis>,
    /// What `now_ms` answers; the event time where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<WallMillis>,
    /// How far both times can be trusted: `synced` (the default), `restored`, `unset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<TimeQuality>,
    /// The event time was taken from the payload.
    #[serde(skip_serializing_if = "is_false")]
    pub time_from_payload: bool,
    /// 0, 1 or 2.
    #[serde(with = "words::qos")]
    pub qos: Qos,
    /// The broker had it retained.
    #[serde(skip_serializing_if = "is_false")]
    pub retained: bool,
    /// It came from another function.
    #[serde(skip_serializing_if = "is_false")]
    pub chained: bool,
    /// A dead letter that is handled once more.
    #[serde(skip_serializing_if = "is_false")]
    pub replayed: bool,
    /// Its number in the books; counted from 1 where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// What `random` is seeded with; taken from time, topic and payload where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(document: Value) -> Result<Self, String> {
        let event: Self = serde_json::from_value(document).map_err(|error| error.to_string())?;
        event.check()?;
        Ok(event)
    }

    fn check(&self) -> Result<(), String> {
        let payloads = [self.payload.is_some(), self.text.is_some(), self.base64.is_some()];
        if 1 < payloads.into_iter().filter(|given| *given).count() {
            return Err("has several of `payload`, `text` and `base64`; it wants one".to_owned());
        }
        match &self.base64 {
            Some(text) if base64::decode(text).is_none() => {
                Err("`base64` is no base64 (RFC 4648 §4, padded)".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// With these bytes as its payload: as `text` where they are text.
    #[must_use]
    pub fn with_payload(mut self, bytes: &[u8]) -> Self {
        (self.payload, self.text, self.base64) = match core::str::from_utf8(bytes) {
            _ if bytes.is_empty() => (None, None, None),
            Ok(text) => (None, Some(text.to_owned()), None),
            Err(_) => (None, None, Some(coded(bytes))),
        };
        self
    }

    /// The payload's bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> Vec<u8> {
        match (&self.payload, &self.text, &self.base64) {
            (Some(value), ..) => value.to_string().into_bytes(),
            (_, Some(text), _) => text.clone().into_bytes(),
            (.., Some(text)) => base64::decode(text).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.topic)
    }

    /// One line for people: what the function was given.
    #[must_use]
    pub fn shown(&self) -> String {
        let time = self.time.map(|time| format!(", time {time}")).unwrap_or_default();
        match self.kind {
            EventKind::Interval => format!("interval{time}"),
            EventKind::Message => {
                let payload = Blob(self.payload_bytes()).shown();
                let topic = if self.topic.is_empty() { "a message without a topic" } else { &self.topic };
                let device = match &self.device {
                    Some(device) if *device != self.topic => format!(" of {}", crate::printable::Escaped(device)),
                    _ => String::new(),
                };
                format!("{}{device}{time}: {payload}", crate::printable::Escaped(topic))
            }
        }
    }
}

/// Words and numbers in documents for types that the store writes in another form.
pub mod words {
    macro_rules! words {
        ($name:ident, $type:ty, $wants:literal, $take:ident, $read:expr, $write:expr) => {
            #[doc = $wants]
            pub mod $name {
                use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

                /// Reads it.
                ///
                /// # Errors
                /// Where it is none.
                pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                    let given = $take::deserialize(deserializer)?;
                    let read: fn(&$take) -> Option<$type> = $read;
                    read(&given).ok_or_else(|| de::Error::custom(format!("`{given}` is none of {}", $wants)))
                }

                /// Writes it.
                ///
                /// # Errors
                /// Those of the writer.
                pub fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                    let write: fn(&$type) -> _ = $write;
                    write(value).serialize(serializer)
                }
            }
        };
    }

    words!(
        kind,
        crate::function::EventKind,
        "message, interval",
        String,
        |word| match word.as_str() {
            "message" => Some(crate::function::EventKind::Message),
            "interval" => Some(crate::function::EventKind::Interval),
            _ => None,
        },
        |kind| match kind {
            crate::function::EventKind::Message => "message",
            crate::function::EventKind::Interval => "interval",
        }
    );
    words!(
        codec,
        crate::field::Codec,
        "json, cbor, raw",
        String,
        |word| match word.as_str() {
            "json" => Some(crate::field::Codec::Json),
            "cbor" => Some(crate::field::Codec::Cbor),
            "raw" => Some(crate::field::Codec::Raw),
            _ => None,
        },
        |codec| match codec {
            crate::field::Codec::Json => "json",
            crate::field::Codec::Cbor => "cbor",
            crate::field::Codec::Raw => "raw",
        }
    );
    words!(
        qos,
        crate::config::Qos,
        "0, 1, 2",
        u8,
        |number| match number {
            0 => Some(crate::config::Qos::AtMostOnce),
            1 => Some(crate::config::Qos::AtLeastOnce),
            2 => Some(crate::config::Qos::ExactlyOnce),
            _ => None,
        },
        |qos| *qos as u8
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payload_comes_as_a_value_a_text_or_bytes() {
        for (document, bytes) in [
            (json!({ "payload": { "b": [1, 2.5], "a": null } }), &br#"{"a":null,"b":[1,2.5]}"#[..]),
            (json!({ "payload": "hot" }), b"\"hot\""),
            (json!({ "text": "{\"temp\": 20}" }), b"{\"temp\": 20}"),
            (json!({ "base64": "AP8=" }), b"\0\xff"),
            (json!({}), b""),
        ] {
            assert_eq!(Event::parse(document).unwrap().payload_bytes(), bytes);
        }
    }

    #[test]
    fn what_is_wrong_with_an_event_is_said() {
        for (document, want) in [
            (json!({ "payload": 1, "text": "1" }), "wants one"),
            (json!({ "base64": "A" }), "no base64"),
            (json!({ "tpic": "a" }), "unknown field `tpic`"),
            (json!({ "codec": "xml" }), "`xml` is none of json, cbor, raw"),
            (json!({ "qos": 3 }), "`3` is none of 0, 1, 2"),
            (json!([1, 2]), "invalid type"),
        ] {
            let error = Event::parse(document).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let event = Event { topic: "a".to_owned(), qos: Qos::ExactlyOnce, seed: Some(u64::MAX), ..Event::default() };
        for bytes in [&b"text\n"[..], b"\xff", b""] {
            let event = event.clone().with_payload(bytes);
            let text = serde_json::to_string(&event).unwrap();
            let back = Event::parse(serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!((&back, &*back.payload_bytes()), (&event, bytes), "{text}");
        }
    }
}
