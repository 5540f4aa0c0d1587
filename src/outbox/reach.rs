//! How far upstream may have seen a lane that rolls up, and the hole behind that.
//!
//! - A sink sends no record that is not *granted*: said so in a commit before. So what lies behind the grant upstream cannot
//!   have seen, and only that may be rolled up: folded into another record, it would count twice.
//! - A grant reaches two segments beyond the head at most: so much is pinned while upstream is away.
//! - Behind the grant there is at most one *hole*: numbers that were rolled up. The head jumps over it when it gets there.
//! - A lane that drains live first has a *mark* where the backlog ended when upstream came back. What is delivered from there
//!   on, in order, is a second hole, which begins at the mark.

use super::Lane;
use super::lane::pages;
use crate::config::{Drain, FullPolicy};
use crate::effect::Release;
use crate::entry::{put_varint, take_count};

/// A place in a lane: the records before it, and the messages that they close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub seq: u64,
    pub message: u64,
}

/// Where a settled record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    /// At the head, or before it.
    InOrder,
    /// Behind the backlog.
    Live,
    /// There, and settled already.
    Before,
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
    /// Where the backlog ended when upstream came back, and how far it is delivered from there on.
    pub live: Option<(Point, Point)>,
}

impl From<Point> for Reach {
    /// Everything before is granted, and there is no hole.
    fn from(granted: Point) -> Self {
        Self { granted, hole_end: granted, is_up: false, live: None }
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

    /// Records and messages behind the head that have left already.
    pub(super) fn left_already(&self) -> (u64, u64) {
        let Reach { granted, hole_end, live, .. } = self.reach;
        let rolled = if self.has_hole() { between(granted, hole_end) } else { (0, 0) };
        let live = live.map_or((0, 0), |(mark, through)| between(mark, through));
        (rolled.0 + live.0, rolled.1 + live.1)
    }

    /// Where live records begin, and the first of them that is not delivered; while a backlog lies before them.
    #[must_use]
    pub fn live(&self) -> Option<(u64, u64)> {
        self.reach.live.map(|(mark, through)| (mark.seq, through.seq))
    }

    /// The sink has a connection now, or has none any more.
    pub(super) fn set_up(&mut self, is_up: bool) {
        self.reach.is_up = is_up;
        let end = self.sealed_end();
        let has_backlog = self.head_seq < end.seq && !self.has_hole();
        if is_up && has_backlog && self.config.drain == Drain::LiveFirst && self.reach.live.is_none() {
            self.reach.live = Some((end, end));
        }
    }

    /// Moves the end of what is delivered live, if `record` lies there; the message that it closes, if it does.
    pub(super) fn settle_live(&mut self, seq: u64, message: u64) -> Settling {
        let Some((mark, through)) = &mut self.reach.live else { return Settling::InOrder };
        if seq < mark.seq {
            return Settling::InOrder;
        }
        if seq < through.seq {
            return Settling::Before;
        }
        *through = Point { seq: seq + 1, message: through.message + message };
        self.dirty = true;
        Settling::Live
    }

    /// Live records that the store cannot read any more. False: they are not live.
    pub(super) fn skip_live(&mut self, to: Point, from_seq: u64) -> Option<(u64, u64)> {
        let (mark, through) = self.reach.live.as_mut()?;
        if from_seq < mark.seq {
            return None;
        }
        let left = between(*through, to);
        *through = Point { seq: through.seq.max(to.seq), message: through.message.max(to.message) };
        self.dirty = true;
        Some(left)
    }

    /// The end of what is sealed.
    fn sealed_end(&self) -> Point {
        Point { seq: self.sealed_seq(), message: self.next_message - u64::from(self.staged.messages) }
    }

    /// The first number that a sink may not read, as of the last sealed batch.
    #[must_use]
    pub fn readable_seq(&self) -> u64 {
        if self.rolls_up() || self.has_hole() { self.reach.granted.seq } else { self.sealed_seq() }
    }

    /// Moves the head to `to`, and over the hole if that is reached: (records, messages) passed that were not in it.
    pub(super) fn advance(&mut self, to: Point) -> (u64, u64) {
        let (mut to, mut left) = (to, (0, 0));
        let over = |to: Point, end: Point| Point { seq: to.seq.max(end.seq), message: to.message.max(end.message) };
        if self.has_hole() && self.reach.granted.seq <= to.seq {
            left = between(self.reach.granted, self.reach.hole_end);
            to = over(to, self.reach.hole_end);
            self.reach.granted = self.reach.hole_end;
            self.dirty = true;
        }
        if let Some((mark, through)) = self.reach.live.take_if(|(mark, _)| mark.seq <= to.seq) {
            let (records, messages) = between(mark, through);
            left = (left.0 + records, left.1 + messages);
            to = over(to, through);
            self.dirty = true;
        }
        let records = to.seq.saturating_sub(self.head_seq).saturating_sub(left.0);
        let messages = to.message.saturating_sub(self.head_message).saturating_sub(left.1);
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
        freed.map(|(its, _)| pages(its.bytes)).sum()
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
        let Reach { granted, hole_end, live, .. } = self.reach;
        let rolled = (self.rolls_up() || self.has_hole()).then_some((granted, hole_end));
        // A mark alone is set anew by the next connection.
        let live = live.filter(|(mark, through)| mark.seq < through.seq);
        for range in [rolled, live] {
            let Some((from, to)) = range else {
                put_varint(out, 0);
                continue;
            };
            let (records, messages) = between(from, to);
            [from.seq, from.message, records, messages].into_iter().for_each(|number| put_varint(out, number));
        }
    }

    /// Reads what [`Lane::save_reach`] wrote.
    pub(super) fn restore_reach(&mut self, from: &mut &[u8]) -> Option<()> {
        let end = Point { seq: self.next_seq, message: self.next_message };
        let mut range = || {
            let mut next = || take_count(from);
            let seq = match next()? {
                // Sequences begin at 1.
                0 => return Some(None),
                seq => seq,
            };
            let message = next()?;
            let (records, messages) = (next()?, next()?);
            let within = |seq: u64, message: u64| Point { seq: seq.min(end.seq), message: message.min(end.message) };
            Some(Some((within(seq, message), within(seq.checked_add(records)?, message.checked_add(messages)?))))
        };
        (self.reach.granted, self.reach.hole_end) = range()?.unwrap_or((end, end));
        self.reach.live = range()?;
        Some(())
    }
}

/// Records and messages from one place to another.
fn between(from: Point, to: Point) -> (u64, u64) {
    (to.seq.saturating_sub(from.seq), to.message.saturating_sub(from.message))
}
