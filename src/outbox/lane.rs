//! One lane: what is staged, what lies in which segment, and how it leaves.

use core::ops::Range;
use std::collections::VecDeque;

use super::ahead::{Ahead, Point};
use super::fold::Sweep;
use super::losses::{self, EXPIRED, Losses, REASONS};
use super::reach::Reach;
use super::{FIRST_SEQ, LOSS_RESERVE, Lane, LaneTotals, Outcome, SEGMENTS_PER_TTL, Settled};
use crate::books::{Books, DropReason};
use crate::config::LaneConfig;
use crate::dead_letter::Loss;
use crate::effect::{LaneBatch, Release};
use crate::frame::{self, PAGE, align_up, place};
use crate::record::{Record, RecordKind};
use crate::store::Extent;
use crate::time::Now;
use crate::units::Millis;

impl Lane {
    pub(super) fn new(config: LaneConfig) -> Self {
        let mut lane = Self {
            config,
            extents: VecDeque::new(),
            next_seq: FIRST_SEQ,
            next_message: 0,
            head_seq: FIRST_SEQ,
            head_message: 0,
            next_segment: 1,
            released_below: 1,
            totals: LaneTotals::default(),
            dirty: false,
            losses: Losses::default(),
            ahead: Ahead::default(),
            reach: Reach::default(),
            fold: None,
            sweep: Sweep::default(),
            reached: false,
            staged: LaneBatch::default(),
        };
        lane.grant_all();
        lane
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &LaneConfig {
        &self.config
    }

    /// The number of the oldest undelivered record.
    #[must_use]
    pub const fn head_seq(&self) -> u64 {
        self.head_seq
    }

    /// Messages settled with all records before [`Lane::head_seq`].
    #[must_use]
    pub const fn head_message(&self) -> u64 {
        self.head_message
    }

    /// Messages closed by all records.
    #[must_use]
    pub const fn next_message(&self) -> u64 {
        self.next_message
    }

    /// The number that the next record gets.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The first number that is not in a sealed batch.
    #[must_use]
    pub fn sealed_seq(&self) -> u64 {
        self.next_seq - u64::from(self.staged.count)
    }

    /// The end of what is sealed.
    pub(super) fn sealed_end(&self) -> Point {
        Point { seq: self.sealed_seq(), message: self.next_message - u64::from(self.staged.messages) }
    }

    /// Undelivered records.
    #[must_use]
    pub fn records_pending(&self) -> u64 {
        (self.next_seq - self.head_seq).saturating_sub(self.ahead.total().0)
    }

    /// Undelivered records that settle a message.
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        (self.next_message - self.head_message).saturating_sub(self.ahead.total().1)
    }

    /// Record totals.
    #[must_use]
    pub const fn totals(&self) -> &LaneTotals {
        &self.totals
    }

    /// Records that left undelivered, of which upstream is still to be told.
    #[must_use]
    pub fn losses_untold(&self) -> u64 {
        self.losses.untold()
    }

    /// Bytes on flash: a closed segment as a whole, the newest in whole pages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| pages(extent.bytes)).sum()
    }

    /// Bytes of records that wait for the next commit.
    #[must_use]
    pub const fn staged_bytes(&self) -> usize {
        self.staged.records.len()
    }

    /// Bytes of flash that a frame with `records` bytes takes at most, behind what is there.
    pub(super) fn frame_bytes(&self, records: usize, segment_bytes: u64) -> u64 {
        let body = body_len(records);
        match self.extents.back() {
            Some(last) if u64::from(place(last.bytes, body).end) <= segment_bytes => {
                pages(place(last.bytes, body).end) - pages(last.bytes)
            }
            _ => self.next_segment_bytes(records, segment_bytes),
        }
    }

    /// The same, if the frame begins a segment: what is left of the newest one is taken as well.
    pub(super) fn next_segment_bytes(&self, records: usize, segment_bytes: u64) -> u64 {
        let rest = self.extents.back().map_or(0, |last| segment_bytes.saturating_sub(pages(last.bytes)));
        rest + pages(place(0, body_len(records)).end)
    }

    /// Records expire by whole segments, so a segment must not span much of the lane's TTL.
    pub(super) fn has_grown_old(&self, last: &Extent, age_ms: i64) -> bool {
        let old = |ttl: Millis| last.at_ms.saturating_add_unsigned(ttl.0 / SEGMENTS_PER_TTL) <= age_ms;
        self.config.ttl.is_some_and(old)
    }

    pub(super) fn room(&self, segment_bytes: u64) -> u64 {
        let staged = match self.staged.count {
            0 => 0,
            _ => self.frame_bytes(self.staged.records.len(), segment_bytes),
        };
        self.config.bytes_max.0.saturating_sub(self.bytes() + staged)
    }

    pub(super) fn make_room(
        &mut self,
        index: usize,
        staged_after: u64,
        books: &mut Books,
        releases: &mut Vec<Release>,
    ) {
        // Fresh records are worth more to upstream than old ones, so the oldest segment makes room.
        while self.config.bytes_max.0 < self.bytes() + staged_after && self.drop_oldest(DropReason::LaneFull, books) {}
        self.release(index, releases);
    }

    /// Gives up every undelivered record of the oldest segment. False if there is no segment.
    fn drop_oldest(&mut self, reason: DropReason, books: &mut Books) -> bool {
        let first_seq = self.head_seq;
        let Some(left) = self.leave_oldest() else { return false };
        self.give_up(reason, left, first_seq..self.head_seq, books);
        true
    }

    /// Enters so many records and messages within the range as dropped.
    pub(super) fn give_up(&mut self, reason: DropReason, left: (u64, u64), range: Range<u64>, books: &mut Books) {
        books.drop(reason, left.1);
        self.totals.dropped[reason as usize] += left.0;
        self.lose(reason as usize, left, range);
    }

    /// Notes that so many records and messages within the range left undelivered.
    pub(super) fn lose(&mut self, reason: usize, (records, messages): (u64, u64), range: Range<u64>) {
        if 0 < records {
            let (first_seq, through_seq) = (range.start, range.end - 1);
            self.losses.lose(reason, losses::Lost { records, messages, first_seq, through_seq });
            self.dirty = true;
        }
    }

    /// Moves the head past the oldest segment and forgets it: (records, messages) that were undelivered in it.
    fn leave_oldest(&mut self) -> Option<(u64, u64)> {
        self.extents.pop_front()?;
        let end = match self.extents.front() {
            Some(next) => Point { seq: next.first_seq, message: next.first_message },
            None => self.sealed_end(),
        };
        self.dirty = true;
        Some(self.advance(end))
    }

    pub(super) fn stage(&mut self, record: &Record<'_>) -> u64 {
        if self.staged.count == 0 {
            self.staged.first_seq = self.next_seq;
            self.staged.first_message = self.next_message;
        }
        record.encode(&mut self.staged.records);
        self.staged.count += 1;
        if record.closes_message {
            self.staged.messages += 1;
            self.next_message += 1;
        }
        self.next_seq += 1;
        self.next_seq - 1
    }

    pub(super) fn close_message(&mut self, sequence: u64, start: usize) {
        assert_eq!(sequence + 1, self.next_seq, "only the newest record can be made the one that settles its message");
        Record::mark_closing(&mut self.staged.records[start..]);
        self.staged.messages += 1;
        self.next_message += 1;
    }

    pub(super) fn settle(&mut self, record: &Settled, books: &mut Books) {
        if self.has_left(record.sequence) {
            return;
        }
        // Damage may have put records and messages out of step: none is settled that does not wait.
        let sealed = self.sealed_end();
        let waits = self.head_message + self.ahead.total().1 < sealed.message;
        let message = u64::from(record.closes_message && waits);
        let its = record.sequence..record.sequence + 1;
        self.dirty = true;
        match record.outcome {
            Outcome::Delivered => {
                self.reached = true;
                self.totals.delivered += 1;
                books.delivered += message;
                self.losses.heard(record.sequence);
            }
            Outcome::Expired => {
                self.totals.expired += 1;
                books.expired += message;
                self.lose(EXPIRED, (1, message), its);
            }
            Outcome::Dropped(reason) => self.give_up(reason, (1, message), its, books),
        }
        if !self.settle_live(record.sequence, message) {
            let _ = self.advance(Point { seq: record.sequence + 1, message: self.head_message + message });
        }
        if self.head_seq == sealed.seq && self.head_message < sealed.message {
            books.drop(DropReason::Damaged, sealed.message - self.head_message);
            self.head_message = sealed.message;
        }
    }

    pub(super) fn expire(&mut self, age_ms: i64, books: &mut Books) -> bool {
        let mut any = false;
        while self.expires_at().is_some_and(|at| at <= age_ms) {
            any = true;
            let first_seq = self.head_seq;
            if let Some(left) = self.leave_oldest() {
                self.totals.expired += left.0;
                books.expired += left.1;
                self.lose(EXPIRED, left, first_seq..self.head_seq);
            }
        }
        any
    }

    /// When the oldest segment is older than the lane's TTL, with all that is in it.
    pub(super) fn expires_at(&self) -> Option<i64> {
        let ttl = self.config.ttl?;
        // A segment's youngest record is no younger than the first of the next one, or than a segment may grow old.
        let youngest = match (self.extents.front()?, self.extents.get(1)) {
            (_, Some(next)) => next.at_ms,
            (only, None) => only.at_ms.saturating_add_unsigned(ttl.0 / SEGMENTS_PER_TTL),
        };
        Some(youngest.saturating_add_unsigned(ttl.0))
    }

    /// Enters everything before `to` that is undelivered as damaged.
    pub(super) fn skip_to(&mut self, to: Point, books: &mut Books) {
        let first_seq = self.head_seq;
        if first_seq < to.seq {
            let left = self.advance(to);
            self.give_up(DropReason::Damaged, left, first_seq..self.head_seq, books);
        }
    }

    /// Lets the store have back the segments before the head, and those that left before their turn.
    pub(super) fn release(&mut self, index: usize, releases: &mut Vec<Release>) {
        while self.extents.get(1).is_some_and(|next| next.first_seq <= self.head_seq) {
            self.extents.pop_front();
        }
        self.let_go_below(index, self.segments_from(), releases);
        self.release_left(index, releases);
    }

    /// The number of the oldest segment, or of the next one.
    pub(super) fn segments_from(&self) -> u32 {
        self.extents.front().map_or(self.next_segment, |extent| extent.segment)
    }

    /// Only what leaves is said: who waits for room asks whether there is something.
    pub(super) fn let_go_below(&mut self, index: usize, below: u32, releases: &mut Vec<Release>) {
        if below <= self.released_below {
            return;
        }
        self.released_below = below;
        match releases.iter_mut().find(|release| release.lane == index && release.from_segment == 0) {
            Some(release) => release.below_segment = release.below_segment.max(below),
            None => releases.push(Release { lane: index, from_segment: 0, below_segment: below }),
        }
    }

    /// Adds a loss record for each reason that has something to tell. Not in an idle lane without upstream: its loss record would
    /// itself expire there, and ask for the next one.
    pub(super) fn say_losses(&mut self, now: Now, age_ms: i64, segment_bytes: u64) {
        let is_old = self.extents.back().is_some_and(|last| self.has_grown_old(last, age_ms));
        let bytes = if is_old { Self::next_segment_bytes } else { Self::frame_bytes };
        let is_heard = self.reached && bytes(self, LOSS_RESERVE as usize, segment_bytes) <= self.room(segment_bytes);
        self.reached = false;
        if self.staged.count == 0 && !is_heard {
            return;
        }
        for reason in 0..REASONS {
            if let Some(lost) = self.losses.due(reason) {
                let sequence = self.say_loss(now, losses::name(reason), lost);
                self.losses.told(reason, sequence, lost);
                self.dirty = true;
            }
        }
    }

    fn say_loss(&mut self, now: Now, reason: &'static str, lost: losses::Lost) -> u64 {
        let losses::Lost { records, messages, first_seq, through_seq } = lost;
        let mut payload = Vec::new();
        Loss { reason: reason.into(), records, messages, first_seq, through_seq }.encode(&mut payload);
        let record = Record {
            kind: RecordKind::Loss,
            closes_message: false,
            at_ms: now.wall_ms,
            quality: now.quality,
            hops: 0,
            source: "",
            topic: "weir/loss",
            payload: &payload,
        };
        self.stage(&record)
    }

    pub(super) fn seal_records(&mut self, index: usize, age_ms: i64, segment_bytes: u64, batches: &mut Vec<LaneBatch>) {
        if self.staged.count == 0 {
            return;
        }
        let body = self.staged.records.len() as u32;
        let is_old = self.extents.back().is_some_and(|last| self.has_grown_old(last, age_ms));
        let (first_seq, first_message) = (self.staged.first_seq, self.staged.first_message);
        let grown = match self.extents.back_mut() {
            Some(last) if !is_old && u64::from(place(last.bytes, body).end) <= segment_bytes => {
                last.bytes = place(last.bytes, body).end;
                last.segment
            }
            _ => {
                // A closed segment takes its whole file, as the store will say after a restart.
                if let Some(last) = self.extents.back_mut() {
                    last.bytes = last.bytes.max(u32::try_from(segment_bytes).unwrap_or(u32::MAX));
                }
                let segment = self.next_segment;
                self.next_segment += 1;
                self.dirty = true;
                let bytes = place(0, body).end;
                self.extents.push_back(Extent { segment, first_seq, first_message, bytes, at_ms: age_ms });
                segment
            }
        };
        // The next batch will be of about this size: its bytes are asked for once and not in many steps.
        let next = LaneBatch { records: Vec::with_capacity(body as usize), ..LaneBatch::default() };
        let mut sealed = core::mem::replace(&mut self.staged, next);
        sealed.lane = index;
        sealed.segment = grown;
        sealed.at_ms = age_ms;
        batches.push(sealed);
    }
}

/// Bytes on flash of so many: whole pages.
pub(super) fn pages(bytes: u32) -> u64 {
    u64::from(align_up(bytes, PAGE))
}

fn body_len(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(frame::BODY_MAX).min(frame::BODY_MAX)
}
