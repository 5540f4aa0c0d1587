//! How far upstream may have seen a lane that rolls up, and where live records begin.
//!
//! - A sink sends no record that is not *granted*: said so in a commit before. So what lies behind the grant upstream cannot
//!   have seen, and only that may be rolled up: folded into another record, it would count twice.
//! - A grant reaches two segments beyond the head at most: so much is pinned while upstream is away.
//! - Right behind the grant there is at most one *hole*: a run of [`super::ahead`] that was rolled up.
//! - A lane that drains live first has a *mark* where the backlog ended when upstream came back. What is delivered from there
//!   on, in order, is the run that begins at the mark.

use super::Lane;
use super::ahead::Point;
use super::lane::pages;
use crate::books::{Books, DropReason};
use crate::config::{Drain, FullPolicy};
use crate::effect::Release;
use crate::entry::{put_varint, take_count};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// The first record that is not granted; `None`: everything is.
    pub granted: Option<Point>,
    /// Where the backlog ended when upstream came back.
    pub mark: Option<Point>,
    /// Whether the sink has a connection.
    pub is_up: bool,
}

impl Lane {
    /// Whether old aggregates make room by being folded into coarser ones.
    pub(super) fn rolls_up(&self) -> bool {
        self.config.full == FullPolicy::RollUp
    }

    /// Upstream may have seen everything that is there.
    pub(super) fn grant_all(&mut self) {
        let end = Point { seq: self.next_seq, message: self.next_message };
        self.reach.granted = self.rolls_up().then_some(end);
    }

    fn has_hole(&self) -> bool {
        self.reach.granted.is_some_and(|granted| self.ahead.contains(granted.seq))
    }

    /// Where the run that begins at `from` ends; `from` itself if there is none.
    fn run_end(&self, from: Point) -> Point {
        let end = self.ahead.end_of(from.seq);
        end.map_or(from, |end| Point { seq: end.seq, message: end.message.max(from.message) })
    }

    /// The end of the hole; of what is granted if there is none. Passes that fold begin here.
    pub(super) fn hole_end(&self) -> Point {
        self.reach.granted.map_or(self.sealed_end(), |granted| self.run_end(granted))
    }

    /// Where live records begin, and the first of them that is not delivered; while a backlog lies before them.
    #[must_use]
    pub fn live(&self) -> Option<(u64, u64)> {
        self.reach.mark.map(|mark| (mark.seq, self.run_end(mark).seq))
    }

    /// The sink has a connection now, or has none any more. Whether that is to be said on flash.
    pub(super) fn set_up(&mut self, is_up: bool) -> bool {
        self.reach.is_up = is_up;
        let end = self.sealed_end();
        let has_backlog = self.head_seq < end.seq && !self.has_hole();
        if is_up && has_backlog && self.config.drain == Drain::LiveFirst && self.reach.mark.is_none() {
            self.reach.mark = Some(end);
            self.dirty = true;
        }
        self.dirty || self.is_starved()
    }

    /// Settles a record that lies behind the mark. False: it does not.
    pub(super) fn settle_live(&mut self, seq: u64, message: u64) -> bool {
        let Some(mark) = self.reach.mark.filter(|mark| mark.seq <= seq) else { return false };
        let through = self.run_end(mark);
        self.ahead.insert(through.seq, Point { seq: seq + 1, message: through.message + message }, message);
        true
    }

    /// Enters live records before `to` that the store cannot read any more as damaged. False: they are not live.
    pub(super) fn skip_live(&mut self, from_seq: u64, to: Point, books: &mut Books) -> bool {
        let Some(mark) = self.reach.mark.filter(|mark| mark.seq <= from_seq) else { return false };
        let through = self.run_end(mark);
        if through.seq < to.seq {
            let (records, messages) = through.until(to);
            let gone = self.ahead.within(through.seq, to.seq);
            let left = (records - gone.0, messages.saturating_sub(gone.1));
            self.ahead.insert(through.seq, to, messages);
            self.give_up(DropReason::Damaged, left, through.seq..to.seq, books);
        }
        true
    }

    /// The first number that a sink may not read, as of the last sealed batch.
    #[must_use]
    pub fn readable_seq(&self) -> u64 {
        self.reach.granted.map_or(self.sealed_seq(), |granted| granted.seq)
    }

    /// Moves the head to `to`, and past what has left from there on: (records, messages) passed that had not left.
    pub(super) fn advance(&mut self, to: Point) -> (u64, u64) {
        let from = Point { seq: self.head_seq, message: self.head_message };
        let to = Point { seq: to.seq.max(from.seq), message: to.message.max(from.message) };
        let (to, left) = self.ahead.pass(to);
        (self.head_seq, self.head_message) = (to.seq, to.message);
        self.dirty |= from != to;
        if self.reach.granted.is_some_and(|granted| granted.seq < to.seq) {
            self.reach.granted = self.rolls_up().then_some(to);
        }
        self.reach.mark = self.reach.mark.filter(|mark| to.seq < mark.seq);
        let (records, messages) = from.until(to);
        (records.saturating_sub(left.0), messages.saturating_sub(left.1))
    }

    /// How far sinks may be let go with the next commit, if that is further than now.
    pub(super) fn next_grant(&self) -> Option<Point> {
        let granted = self.reach.granted.filter(|_| self.rolls_up() && self.reach.is_up && self.fold.is_none())?;
        let third = self.extents.get(2).map(|third| Point { seq: third.first_seq, message: third.first_message });
        let limit = third.unwrap_or(self.sealed_end());
        (granted.seq < limit.seq && !self.has_hole()).then_some(limit)
    }

    /// Whether the sink waits for a commit to go on.
    pub(super) fn is_starved(&self) -> bool {
        self.next_grant().is_some()
    }

    /// Grants what the batch that was just sealed may.
    pub(super) fn grant(&mut self) {
        if let Some(grant) = self.next_grant() {
            self.reach.granted = Some(grant);
            self.dirty = true;
        }
    }

    /// What was rolled up leaves: the hole reaches to `end` now.
    pub(super) fn widen_hole(&mut self, index: usize, end: Point, releases: &mut Vec<Release>) {
        let from = self.hole_end();
        self.ahead.insert(from.seq, end, from.until(end).1);
        self.dirty = true;
        let _ = self.advance(Point { seq: self.head_seq, message: self.head_message });
        self.release(index, releases);
    }

    /// Bytes of the segments that have left once the hole reaches to `to_seq`.
    pub(super) fn freed_by(&self, to_seq: u64) -> u64 {
        let from_seq = self.reach.granted.map_or(to_seq, |granted| granted.seq);
        let pairs = self.extents.iter().zip(self.extents.iter().skip(1));
        let freed = pairs.filter(|(its, next)| from_seq <= its.first_seq && next.first_seq <= to_seq);
        freed.map(|(its, _)| pages(its.bytes)).sum()
    }

    /// Lets segments go of which every record has left before its turn.
    pub(super) fn release_left(&mut self, index: usize, releases: &mut Vec<Release>) {
        if self.ahead.is_empty() {
            return;
        }
        let mut at = 0;
        while at + 1 < self.extents.len() {
            let (its, next_seq) = (self.extents[at], self.extents[at + 1].first_seq);
            if self.ahead.end_of(its.first_seq).is_some_and(|end| next_seq <= end.seq) {
                self.extents.remove(at);
                releases.push(Release { lane: index, from_segment: its.segment, below_segment: its.segment + 1 });
            } else {
                at += 1;
            }
        }
    }

    /// Appends the numbers that must survive a restart.
    pub(super) fn save_reach(&self, out: &mut Vec<u8>) {
        for point in [self.reach.granted, self.reach.mark] {
            // Sequences begin at 1.
            let Point { seq, message } = point.unwrap_or_default();
            [seq, message].into_iter().for_each(|number| put_varint(out, number));
        }
        self.ahead.save(out);
    }

    /// Reads what [`Lane::save_reach`] wrote.
    pub(super) fn restore_reach(&mut self, from: &mut &[u8]) -> Option<()> {
        let mut point = || {
            let (seq, message) = (take_count(from)?, take_count(from)?);
            let within = Point { seq: seq.min(self.next_seq), message: message.min(self.next_message) };
            Some(Some(within).filter(|_| 0 < seq))
        };
        let (granted, mark) = (point()?, point()?);
        self.ahead = super::ahead::Ahead::restore(from)?;
        (self.reach.granted, self.reach.mark) = (granted, mark);
        if granted.is_none() || !self.rolls_up() && !self.has_hole() {
            self.grant_all();
        }
        Some(())
    }
}
