//! Dead letters and losses: what is kept of a message that could not be handled, and what is said of records that had to go.
//!
//! - A dead letter names function, version, kind of error and reason, and keeps the event whole: everything that the function was
//!   called with, and the seed of its random bytes. So it can be listed, understood, and run again with the same answer.
//! - A payload that found no room is cut, and `truncated` says so: such a letter cannot be replayed.
//! - Both are the payload of a [`crate::record::Record`] in postcard's encoding (its wire format 1.0), behind a version byte.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::config::Qos;
use crate::field::Codec;
use crate::function::EventKind;
use crate::time::{TimeQuality, WallMillis};

const VERSION: u8 = 2;

/// A message that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter<'a> {
    /// The function that failed; empty if no function was called.
    #[serde(borrow)]
    pub function: Cow<'a, str>,
    /// Its version label.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// [`crate::function::Function::digest`] of its module; 0 if no function was called.
    pub digest: u64,
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
    /// When it failed, gateway wall time: what `now_ms` answered.
    pub at_ms: WallMillis,
    /// The event's time: its arrival, the payload's own, or when its interval was due.
    pub event_ms: WallMillis,
    /// How far the gateway's clock, and with it both times, could be trusted.
    pub quality: TimeQuality,
    /// The event's time was taken from the payload.
    pub time_from_payload: bool,
    /// Message or interval.
    pub event: EventKind,
    /// The event's number in the books.
    pub sequence: u64,
    /// What seeded `random`: [`crate::function::Seed::Given`] for a replay.
    pub seed: u64,
    /// Functions that the message had passed.
    pub hops: u8,
    /// The message came from another function of the gateway.
    pub chained: bool,
    /// The broker had retained it.
    pub retained: bool,
    /// QoS that it was delivered with.
    pub qos: Qos,
    /// How its trigger reads the payload.
    pub codec: Codec,
    /// True length of the payload, bytes. Of a packet larger than `broker.packet-max`: with its properties.
    pub payload_len: u64,
    /// `payload` is only the beginning.
    pub truncated: bool,
    /// The original bytes, or their beginning.
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
            digest: u64::MAX,
            at_ms: 1_800_000_000_000,
            event_ms: -1,
            quality: TimeQuality::Restored,
            time_from_payload: true,
            event: EventKind::Interval,
            sequence: 7,
            seed: 0x0123_4567_89ab_cdef,
            hops: 3,
            chained: true,
            retained: true,
            qos: Qos::ExactlyOnce,
            codec: Codec::Cbor,
            payload_len: 9000,
            truncated: true,
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
        out[0] = VERSION + 1;
        assert_eq!(DeadLetter::decode(&out), None);
        assert_eq!(DeadLetter::decode(&[]), None);
    }
}
