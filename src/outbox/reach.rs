//! How far upstream may have seen a lane that rolls up, and the hole behind that.
//!
//! - A sink sends no record that is not *granted*: said so in a commit before. So what lies behind the grant upstream cannot
//!   have seen, and only that may be rolled up: folded into another record, it would count twice.
//! - A grant reaches two segments beyond the head at most: so much is pinned while upstream is away.
//! - Behind the grant there is at most one *hole*: numbers that were rolled up. The head jumps over it when it gets there.

use super::Lane;
use crate::config::FullPolicy;
use crate::effect::Release;
use crate::entry::{put_varint, take_varint};

/// A place in a lane: the records before it, and the messages that they close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub seq: u64,
    pub message: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// The first record that is not granted; meaningless where everything is.
    pub granted: Point,
    /// The end of the hole; `granted` if there is none.
    pub hole_end: Point,
    /// Whether the sink has a connection.
    pub is_up: bool,
}

impl From<Point> for Reach {
    /// Everything before is granted, and there is no hole.
    fn from(granted: Point) -> Self {
        Self { granted, hole_end: granted, is_up: false }
    }
}

impl Lane {
    /// Whether old aggregates make room by being folded into coarser ones.
    pub(super) fn rolls_up(&self) -> bool {
        self.config.full == FullPolicy::RollUp
    }

    fn has_hole(&self) -> bool {
        self.reach.granted.seq < self.reach.hole_end.seq
    }

    /// Records and messages in the hole.
    pub(super) fn in_hole(&self) -> (u64, u64) {
        let Reach { granted, hole_end, .. } = self.reach;
        if self.has_hole() { (hole_end.seq - granted.seq, hole_end.message - granted.message) } else { (0, 0) }
    }

    /// The first number that a sink may not read, as of the last sealed batch.
    #[must_use]
    pub fn readable_seq(&self) -> u64 {
        if self.rolls_up() || self.has_hole() { self.reach.granted.seq } else { self.sealed_seq() }
    }

    /// Moves the head to `to`, and over the hole if that is reached: (records, messages) passed that were not in it.
    pub(super) fn advance(&mut self, to: Point) -> (u64, u64) {
        let (mut to, mut rolled) = (to, (0, 0));
        if self.has_hole() && self.reach.granted.seq <= to.seq {
            rolled = self.in_hole();
            let Point { seq, message } = self.reach.hole_end;
            to = Point { seq: to.seq.max(seq), message: to.message.max(message) };
            self.reach.granted = self.reach.hole_end;
            self.dirty = true;
        }
        let records = to.seq.saturating_sub(self.head_seq).saturating_sub(rolled.0);
        let messages = to.message.saturating_sub(self.head_message).saturating_sub(rolled.1);
        self.head_seq = self.head_seq.max(to.seq);
        self.head_message = self.head_message.max(to.message);
        if self.reach.granted.seq < self.head_seq {
            self.reach.granted = Point { seq: self.head_seq, message: self.head_message };
            self.reach.hole_end = self.reach.granted;
        }
        (records, messages)
    }

    /// How far sinks may be let go with the next commit, if that is further than now.
    fn next_grant(&self) -> Option<Point> {
        let open = || self.rolls_up() && self.reach.is_up && !self.has_hole() && self.fold.is_none();
        let end = Point { seq: self.sealed_seq(), message: self.next_message - u64::from(self.staged.messages) };
        let limit =
            self.extents.get(2).map_or(end, |third| Point { seq: third.first_seq, message: third.first_message });
        open().then_some(limit).filter(|limit| self.reach.granted.seq < limit.seq)
    }

    /// Whether the sink waits for a commit to go on.
    pub(super) fn is_starved(&self) -> bool {
        self.next_grant().is_some()
    }

    /// Grants what the batch that was just sealed may.
    pub(super) fn grant(&mut self) {
        if let Some(grant) = self.next_grant() {
            (self.reach.granted, self.reach.hole_end) = (grant, grant);
            self.dirty = true;
        }
    }

    /// The hole reaches to `end` now. Segments that hold nothing else go.
    pub(super) fn widen_hole(&mut self, index: usize, end: Point, releases: &mut Vec<Release>) {
        self.reach.hole_end = end;
        self.dirty = true;
        if self.head_seq == self.reach.granted.seq {
            let _ = self.advance(end);
        }
        self.release_hole(index, releases);
        self.release(index, releases);
    }

    /// Bytes of the segments that lie in the hole once it reaches to `to_seq`.
    pub(super) fn freed_by(&self, to_seq: u64) -> u64 {
        let pairs = self.extents.iter().zip(self.extents.iter().skip(1));
        let freed = pairs.filter(|(its, next)| self.reach.granted.seq <= its.first_seq && next.first_seq <= to_seq);
        freed.map(|(its, _)| u64::from(its.bytes)).sum()
    }

    /// Lets segments go that lie in the hole.
    pub(super) fn release_hole(&mut self, index: usize, releases: &mut Vec<Release>) {
        let (from, to) = (self.reach.granted.seq, self.reach.hole_end.seq);
        let mut at = 0;
        while at + 1 < self.extents.len() {
            let (first_seq, end_seq) = (self.extents[at].first_seq, self.extents[at + 1].first_seq);
            if from <= first_seq && end_seq <= to && first_seq < end_seq {
                let segment = self.extents[at].segment;
                self.extents.remove(at);
                releases.push(Release { lane: index, from_segment: segment, below_segment: segment + 1 });
            } else {
                at += 1;
            }
        }
    }

    /// Appends the numbers that must survive a restart; a lane that grants everything says 0.
    pub(super) fn save_reach(&self, out: &mut Vec<u8>) {
        if !self.rolls_up() && !self.has_hole() {
            return put_varint(out, 0);
        }
        let Reach { granted, hole_end, .. } = self.reach;
        let (records, messages) = (hole_end.seq - granted.seq, hole_end.message - granted.message);
        [granted.seq, granted.message, records, messages].into_iter().for_each(|number| put_varint(out, number));
    }

    /// Reads what [`Lane::save_reach`] wrote.
    pub(super) fn restore_reach(&mut self, from: &mut &[u8]) -> Option<()> {
        let end = Point { seq: self.next_seq, message: self.next_message };
        let mut next = || take_varint(from);
        let within = |seq: u64, message: u64| Point { seq: seq.min(end.seq), message: message.min(end.message) };
        (self.reach.granted, self.reach.hole_end) = match next()? {
            0 => (end, end),
            seq => {
                let message = next()?;
                let (records, messages) = (next()?, next()?);
                (within(seq, message), within(seq.checked_add(records)?, message.checked_add(messages)?))
            }
        };
        Some(())
    }
}
