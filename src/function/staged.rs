//! What one invocation wants to do, in bounded lists that are reused: messages, meter operations, log lines.
//!
//! - Nothing takes effect here: the gateway reads the lists after a verdict of 0 or more.
//! - A full list answers [`Full`]; what went before stays.
//! - All bytes lie in one buffer that is cleared, never shrunk, and bounded by the sum of the limits.

use std::ops::Range;

use crate::budget::costs::METER_KEY_MAX;
use crate::manifest::{Limits, MeterKind};

/// Longest key of a meter in bytes.
pub const METER_KEY_BYTES_MAX: usize = METER_KEY_MAX as usize;
/// Log lines of one invocation.
pub const LOG_LINES_MAX: usize = 32;

/// A list has reached its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A message to be emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emit<'a> {
    /// A valid topic name that the manifest allows.
    pub topic: &'a str,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// A value for a meter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterOp<'a> {
    /// Place of the meter in the manifest.
    pub meter: u16,
    /// `add`, `set` or `observe`: always the meter's own kind.
    pub kind: MeterKind,
    /// The key; `None`: the event's device (for an interval: the empty key).
    pub key: Option<&'a str>,
    /// Finite.
    pub value: f64,
}

/// A line for the log. Not escaped: who prints it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// 1 error … 4 debug.
    pub level: u8,
    /// As the guest wrote it, cut at the limit.
    pub text: &'a [u8],
}

#[derive(Clone, Debug)]
struct EmitAt {
    topic: Range<u32>,
    end: u32,
}

#[derive(Clone, Debug)]
struct MeterAt {
    meter: u16,
    kind: MeterKind,
    key: Range<u32>,
    value: f64,
}

#[derive(Clone, Debug)]
struct LogAt {
    level: u8,
    text: Range<u32>,
}

/// The staged lists of one function.
#[derive(Debug)]
pub struct Staged {
    bytes: Vec<u8>,
    emits: Vec<EmitAt>,
    meters: Vec<MeterAt>,
    logs: Vec<LogAt>,
    emit_bytes: usize,
    log_bytes: usize,
    log_cut: bool,
    emits_max: usize,
    emit_bytes_max: usize,
    meters_max: usize,
    log_bytes_max: usize,
}

impl Staged {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            bytes: Vec::new(),
            emits: Vec::new(),
            meters: Vec::new(),
            logs: Vec::new(),
            emit_bytes: 0,
            log_bytes: 0,
            log_cut: false,
            emits_max: usize::from(limits.emits),
            // Places are 32-bit numbers.
            emit_bytes_max: limits.emit_bytes.as_usize().min(1 << 28),
            meters_max: usize::from(limits.meter_ops),
            log_bytes_max: limits.log_bytes.as_usize().min(1 << 24),
        }
    }

    /// Messages, in the order of the calls.
    pub fn emits(&self) -> impl ExactSizeIterator<Item = Emit<'_>> {
        self.emits.iter().map(|emit| Emit {
            topic: self.text(&emit.topic),
            payload: &self.bytes[emit.topic.end as usize..emit.end as usize],
        })
    }

    /// Meter operations, in the order of the calls.
    pub fn meters(&self) -> impl ExactSizeIterator<Item = MeterOp<'_>> {
        self.meters.iter().map(|op| MeterOp {
            meter: op.meter,
            kind: op.kind,
            key: if op.key.is_empty() { None } else { Some(self.text(&op.key)) },
            value: op.value,
        })
    }

    /// Log lines, in the order of the calls.
    pub fn logs(&self) -> impl ExactSizeIterator<Item = LogLine<'_>> {
        self.logs.iter().map(|line| LogLine {
            level: line.level,
            text: &self.bytes[line.text.start as usize..line.text.end as usize],
        })
    }

    /// Whether the log limit cut or dropped a line.
    #[must_use]
    pub const fn log_cut(&self) -> bool {
        self.log_cut
    }

    /// Bytes of topics and payloads to be emitted.
    #[must_use]
    pub const fn emit_bytes(&self) -> usize {
        self.emit_bytes
    }

    fn text(&self, range: &Range<u32>) -> &str {
        core::str::from_utf8(&self.bytes[range.start as usize..range.end as usize])
            .expect("topics and keys are taken as `&str`")
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len() as u32
    }

    pub(super) fn emit(&mut self, topic: &str, payload: &[u8]) -> Result<(), Full> {
        let emit_bytes = self.emit_bytes + topic.len() + payload.len();
        if self.emits.len() == self.emits_max || self.emit_bytes_max < emit_bytes {
            return Err(Full);
        }
        self.emit_bytes = emit_bytes;
        let topic = self.keep(topic.as_bytes());
        let end = self.keep(payload).end;
        self.emits.push(EmitAt { topic, end });
        Ok(())
    }

    pub(super) fn meter(&mut self, meter: u16, kind: MeterKind, key: &str, value: f64) -> Result<(), Full> {
        if self.meters.len() == self.meters_max {
            return Err(Full);
        }
        let key = self.keep(key.as_bytes());
        self.meters.push(MeterAt { meter, kind, key, value });
        Ok(())
    }

    pub(super) fn log(&mut self, level: u8, text: &[u8]) {
        let room = self.log_bytes_max - self.log_bytes;
        let kept = &text[..text.len().min(room)];
        self.log_cut |= kept.len() < text.len() || self.logs.len() == LOG_LINES_MAX;
        if self.logs.len() == LOG_LINES_MAX || (kept.is_empty() && !text.is_empty()) {
            return;
        }
        self.log_bytes += kept.len();
        let text = self.keep(kept);
        self.logs.push(LogAt { level, text });
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.emits.clear();
        self.meters.clear();
        self.logs.clear();
        (self.emit_bytes, self.log_bytes, self.log_cut) = (0, 0, false);
    }

    /// Forgets effects but keeps the log: it may explain why the call failed.
    pub(super) fn drop_effects(&mut self) {
        self.emits.clear();
        self.meters.clear();
        self.emit_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, Fuel, Millis};

    fn staged() -> Staged {
        Staged::new(&Limits {
            memory: Bytes(0),
            fuel: Fuel(0),
            time: Millis(0),
            emits: 2,
            emit_bytes: Bytes(10),
            state: Bytes(0),
            log_bytes: Bytes(5),
            meter_ops: 1,
        })
    }

    #[test]
    fn lists_keep_their_order_and_refuse_what_passes_a_limit() {
        let mut staged = staged();
        assert_eq!(staged.emit("a/b", b"12345678"), Err(Full));
        assert_eq!(staged.emit("a/b", b"1"), Ok(()));
        assert_eq!(staged.meter(3, MeterKind::Gauge, "key", 1.5), Ok(()));
        assert_eq!(staged.meter(3, MeterKind::Gauge, "key", 1.5), Err(Full));
        assert_eq!(staged.emit("c", b""), Ok(()));
        assert_eq!(staged.emit("c", b""), Err(Full));
        let emits: Vec<_> = staged.emits().map(|emit| (emit.topic, emit.payload)).collect();
        assert_eq!(emits, [("a/b", &b"1"[..]), ("c", b"")]);
        assert_eq!(staged.meters().map(|op| op.key).collect::<Vec<_>>(), [Some("key")]);
        assert_eq!(staged.emit_bytes(), 5);
        staged.clear();
        assert_eq!((staged.emits().len(), staged.meters().len(), staged.emit_bytes()), (0, 0, 0));
    }

    #[test]
    fn the_log_is_cut_at_its_limit_and_says_so() {
        let mut staged = staged();
        staged.log(3, b"abc");
        assert!(!staged.log_cut());
        staged.log(1, b"defg");
        staged.log(1, b"h");
        assert_eq!(staged.logs().map(|line| line.text).collect::<Vec<_>>(), [&b"abc"[..], b"de"]);
        assert!(staged.log_cut());
        staged.drop_effects();
        assert_eq!(staged.logs().len(), 2);
        staged.clear();
        for _ in 0..100 {
            staged.log(1, b"");
        }
        assert_eq!(staged.logs().len(), LOG_LINES_MAX);
    }
}
