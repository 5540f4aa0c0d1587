//! Effects: what the gateway decided, for the shell (or the simulator) to carry out.
//!
//! - The order is part of the meaning: **commit** `entries` and `lanes` in one atomic step → **then** send `acks` → **then** let
//!   released segments go and wake the sinks. If the commit fails, nothing of the rest may happen.
//! - Buffers are reused: an `Effects` is cleared, not dropped.

use crate::config::Qos;
use crate::entry::Entries;
use crate::printable::cut;
use crate::time::WallMillis;
use crate::units::Bytes;

/// Records for one lane, to be appended as one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneBatch {
    /// Index of the lane.
    pub lane: usize,
    /// Segment of the lane's log.
    pub segment: u32,
    /// Sequence of the first record.
    pub first_seq: u64,
    /// Records.
    pub count: u32,
    /// Records with `closes_message` in the lane before this batch.
    pub first_message: u64,
    /// Records with `closes_message` in this batch.
    pub messages: u32,
    /// When the batch was sealed, by [`crate::time::Timeline::age`].
    pub at_ms: WallMillis,
    /// The records, encoded.
    pub records: Vec<u8>,
}

/// An acknowledgement that is due after the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The connection it belongs to.
    pub epoch: u64,
    /// Packet identifier.
    pub packet_id: u16,
    /// QoS 1 or 2.
    pub qos: Qos,
}

/// Segments of a lane that hold nothing undelivered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Index of the lane.
    pub lane: usize,
    /// Every segment from this one on,
    pub from_segment: u32,
    /// and with a smaller number than this, may go.
    pub below_segment: u32,
}

/// Committed records that the gateway wants to see again ([`crate::event::Event::Fetched`]). Not part of the commit: to be
/// carried out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Index of the lane.
    pub lane: usize,
    /// The first one.
    pub from_seq: u64,
}

/// Bytes of records that a [`Read`] asks for: as many as fit, at least one.
pub const READ_BYTES: Bytes = Bytes::kib(64);

/// A line for the log, already bounded; the text may hold payload bytes and must be escaped when printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How urgent.
    pub level: log::Level,
    /// The function that said it, empty for the gateway.
    pub source: String,
    /// What it said.
    pub text: String,
}

/// One batch of effects.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Number of the commit.
    pub commit: u64,
    /// New values.
    pub entries: Entries,
    /// Records.
    pub lanes: Vec<LaneBatch>,
    /// Acknowledgements, in order of receipt.
    pub acks: Vec<Ack>,
    /// Segments to let go.
    pub releases: Vec<Release>,
    /// Records to be read, one for each lane at most.
    pub reads: Vec<Read>,
    /// Lines to log, at most [`LOG_LINES_MAX`].
    pub log: Vec<LogLine>,
    /// Lines that did not fit.
    pub log_lost: u64,
}

/// Most log lines that wait in one batch.
pub const LOG_LINES_MAX: usize = 256;
/// Most bytes of a waiting line's text: more than is printed of it. A topic alone may have 64 KiB.
pub const LOG_TEXT_MAX: usize = 2304;

impl Effects {
    /// Adds a log line, or counts it as lost. A text longer than [`LOG_TEXT_MAX`] is cut.
    pub fn say(&mut self, level: log::Level, source: &str, mut text: String) {
        if self.log.len() < LOG_LINES_MAX {
            if LOG_TEXT_MAX < text.len() {
                // One character more than is printed, so that the cut shows; and the rest of the room is given back.
                text.truncate(cut(&text, LOG_TEXT_MAX).len());
                text.shrink_to_fit();
            }
            self.log.push(LogLine { level, source: source.to_owned(), text });
        } else {
            self.log_lost += 1;
        }
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lanes.is_empty()
    }

    /// Forgets everything but the buffers.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.lanes.clear();
        self.acks.clear();
        self.releases.clear();
        self.reads.clear();
        self.log.clear();
        self.log_lost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_log_is_bounded_in_lines_and_bytes() {
        let mut effects = Effects::default();
        for _ in 0..LOG_LINES_MAX + 3 {
            effects.say(log::Level::Warn, "f", "ü".repeat(65_535));
        }
        assert_eq!((effects.log.len(), effects.log_lost), (LOG_LINES_MAX, 3));
        let held: usize = effects.log.iter().map(|line| line.text.capacity()).sum();
        assert!(held <= LOG_LINES_MAX * LOG_TEXT_MAX, "{held}");
        assert!(effects.log.iter().all(|line| line.text.chars().all(|c| c == 'ü')));
    }
}
