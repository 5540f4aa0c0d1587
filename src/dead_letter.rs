//! Dead letters and losses: what is kept of a message that could not be handled, and what is said of records that had to go.
//!
//! - A dead letter names function, version, kind of error and reason, and keeps the message (cut, with its true length), so that it
//!   can be listed, understood and replayed.
//! - Both are the payload of a [`crate::record::Record`] in postcard's encoding (its wire format 1.0), behind a version byte.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::time::WallMillis;

const VERSION: u8 = 1;

/// A message that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter<'a> {
    /// The function that failed; empty if no function was called.
    #[serde(borrow)]
    pub function: Cow<'a, str>,
    /// Its version label.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// Kind of error, one word: `trap`, `out-of-fuel`, `malformed`, `poison`, ….
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// What happened, for people.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Topic of the message.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// Its device, as far as it was known.
    #[serde(borrow)]
    pub device: Cow<'a, str>,
    /// When it failed, gateway wall time.
    pub at_ms: WallMillis,
    /// True length of the payload, bytes.
    pub payload_len: u64,
    /// Its first bytes.
    #[serde(borrow, with = "serde_bytes_cow")]
    pub payload: Cow<'a, [u8]>,
}

/// Records that left a lane undelivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss<'a> {
    /// Why: a name of [`crate::books::DropReason`].
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// How many records.
    pub records: u64,
    /// How many of them settled a message.
    pub messages: u64,
    /// Sequence of the first.
    pub first_seq: u64,
    /// Sequence of the last.
    pub through_seq: u64,
}

fn encode(value: &impl Serialize, out: &mut Vec<u8>) {
    out.push(VERSION);
    if let Ok(bytes) = postcard::to_allocvec(value) {
        out.extend_from_slice(&bytes);
    }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

impl<'a> DeadLetter<'a> {
    /// Appends the encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// Reads what [`DeadLetter::encode`] wrote; `None` if it is not that, or of a later version.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }
}

impl<'a> Loss<'a> {
    /// Appends the encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// Reads what [`Loss::encode`] wrote; `None` if it is not that, or of a later version.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }
}

/// Bytes as bytes: serde would write a sequence of numbers.
mod serde_bytes_cow {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ptr_arg, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(bytes: &Cow<'_, [u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, [u8]>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> DeadLetter<'static> {
        DeadLetter {
            function: "threshold".into(),
            version: "1.0.0".into(),
            kind: "trap".into(),
            message: "unreachable in handle".into(),
            topic: "plant/boiler-1/temperature".into(),
            device: "boiler-1".into(),
            at_ms: 1_800_000_000_000,
            payload_len: 9000,
            payload: vec![0xff; 4096].into(),
        }
    }

    #[test]
    fn both_come_back_as_they_went() {
        let mut out = Vec::new();
        sample().encode(&mut out);
        assert_eq!(DeadLetter::decode(&out), Some(sample()));
        let loss = Loss { reason: "lane-full".into(), records: 7, messages: 3, first_seq: 10, through_seq: 16 };
        let mut out = Vec::new();
        loss.encode(&mut out);
        assert_eq!(Loss::decode(&out), Some(loss));
    }

    #[test]
    fn a_cut_or_later_form_is_none() {
        let mut out = Vec::new();
        sample().encode(&mut out);
        assert_eq!(DeadLetter::decode(&out[..out.len() - 1]), None);
        out[0] = 2;
        assert_eq!(DeadLetter::decode(&out), None);
        assert_eq!(DeadLetter::decode(&[]), None);
    }
}
