//! Records: what a lane carries upstream, as bytes in the lane's log.
//!
//! - A record's sequence is not stored with it: it is its place in the lane (first of the frame + index).
//! - `closes_message` is set on the last record that a received message produced; delivering, expiring or dropping that
//!   record settles the message in the books. So messages are counted without remembering any.
//! - Form: `varint body_len, body`; body = `kind u8, flags u8, time i64 LE, hops u8, source_len varint, source,
//!   topic_len varint, topic, payload`.

use crate::entry::{put_varint, take, take_varint};
use crate::time::{TimeQuality, WallMillis};

/// What a record's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Bytes that a function emitted or kept, for `topic`.
    Message = 1,
    /// A partial aggregate of a meter: [`crate::window::Aggregate`] in its own encoding; `topic` is the meter's topic.
    Aggregate = 2,
    /// A message that no function could handle: [`crate::dead_letter::DeadLetter`].
    DeadLetter = 3,
    /// Records that left the lane undelivered: [`crate::dead_letter::Loss`].
    Loss = 4,
    /// A function's usage over a period: [`crate::function::usage::UsageRecord`].
    Usage = 5,
}

impl RecordKind {
    /// The inverse of `self as u8`.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Message),
            2 => Some(Self::Aggregate),
            3 => Some(Self::DeadLetter),
            4 => Some(Self::Loss),
            5 => Some(Self::Usage),
            _ => None,
        }
    }

    /// The inverse of [`RecordKind::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (1..=5).filter_map(Self::from_code).find(|kind| kind.name() == name)
    }

    /// The name used in the envelope upstream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Aggregate => "aggregate",
            Self::DeadLetter => "dead-letter",
            Self::Loss => "loss",
            Self::Usage => "usage",
        }
    }
}

/// One record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What `payload` is.
    pub kind: RecordKind,
    /// Settles one received message when it leaves the lane.
    pub closes_message: bool,
    /// When the record was made, gateway wall time.
    pub at_ms: WallMillis,
    /// How far `at_ms` can be trusted.
    pub quality: TimeQuality,
    /// How many functions the message passed.
    pub hops: u8,
    /// The function (or meter) that made it; empty for the gateway itself.
    pub source: &'a str,
    /// The topic it belongs on.
    pub topic: &'a str,
    /// Opaque here; see `kind`.
    pub payload: &'a [u8],
}

const CLOSES: u8 = 1;
const QUALITY_SHIFT: u8 = 1;
const FIXED: usize = 11;

impl<'a> Record<'a> {
    /// Bytes that [`Record::encode`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let body = self.body_len();
        varint_len(body as u64) + body
    }

    fn body_len(&self) -> usize {
        FIXED
            + varint_len(self.source.len() as u64)
            + self.source.len()
            + varint_len(self.topic.len() as u64)
            + self.topic.len()
            + self.payload.len()
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.body_len() as u64);
        out.push(self.kind as u8);
        out.push((u8::from(self.closes_message) * CLOSES) | ((self.quality as u8) << QUALITY_SHIFT));
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.push(self.hops);
        put_varint(out, self.source.len() as u64);
        out.extend_from_slice(self.source.as_bytes());
        put_varint(out, self.topic.len() as u64);
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(self.payload);
    }

    /// Sets `closes_message` on the encoded record at the front of `bytes`.
    pub fn mark_closing(bytes: &mut [u8]) {
        let body = bytes.iter().position(|byte| byte & 0x80 == 0).map_or(0, |end| end + 1);
        if let Some(flags) = bytes.get_mut(body + 1) {
            *flags |= CLOSES;
        }
    }

    /// Takes the next record off the front of `bytes`; `None` if it is cut short or not a record.
    pub fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let body_len = take_varint(bytes)?;
        let mut body = take(bytes, body_len)?;
        let fixed = take(&mut body, FIXED as u64)?;
        let source_len = take_varint(&mut body)?;
        let source = core::str::from_utf8(take(&mut body, source_len)?).ok()?;
        let topic_len = take_varint(&mut body)?;
        let topic = core::str::from_utf8(take(&mut body, topic_len)?).ok()?;
        Some(Self {
            kind: RecordKind::from_code(fixed[0])?,
            closes_message: fixed[1] & CLOSES != 0,
            quality: TimeQuality::from_code(fixed[1] >> QUALITY_SHIFT),
            at_ms: i64::from_le_bytes(fixed[2..10].try_into().ok()?),
            hops: fixed[10],
            source,
            topic,
            payload: body,
        })
    }
}

const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Record<'static> = Record {
        kind: RecordKind::Message,
        closes_message: true,
        at_ms: -5,
        quality: TimeQuality::Synced,
        hops: 2,
        source: "threshold",
        topic: "alerts/boiler-1",
        payload: b"{\"t\":91.5}",
    };

    #[test]
    fn a_record_comes_back_as_it_went() {
        let mut out = Vec::new();
        SAMPLE.encode(&mut out);
        Record { topic: "", source: "", payload: &[9; 200], closes_message: false, ..SAMPLE }.encode(&mut out);
        assert_eq!(
            SAMPLE.encoded_len(),
            out.len() - Record { topic: "", source: "", payload: &[9; 200], ..SAMPLE }.encoded_len()
        );
        let mut rest = out.as_slice();
        assert_eq!(Record::take(&mut rest), Some(SAMPLE));
        assert_eq!(Record::take(&mut rest).map(|record| record.payload.len()), Some(200));
        assert!(rest.is_empty() && Record::take(&mut rest).is_none());
    }

    #[test]
    fn a_record_can_be_made_the_one_that_settles_its_message() {
        for payload in [&[][..], &[0x80; 300]] {
            let mut out = Vec::new();
            let record = Record { closes_message: false, payload, ..SAMPLE };
            record.encode(&mut out);
            Record::mark_closing(&mut out);
            assert_eq!(Record::take(&mut out.as_slice()), Some(Record { closes_message: true, ..record }));
        }
    }

    #[test]
    fn a_cut_record_is_none() {
        let mut out = Vec::new();
        SAMPLE.encode(&mut out);
        for cut in 0..out.len() {
            assert_eq!(Record::take(&mut &out[..cut]), None);
        }
    }
}
