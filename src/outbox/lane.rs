//! One lane: what is staged, what lies in which segment, and how it leaves.

use std::collections::VecDeque;

use super::fold::Sweep;
use super::losses::{self, EXPIRED, Losses, REASONS};
use super::reach::{Point, Reach, Settling};
use super::{FIRST_SEQ, LOSS_RESERVE, Lane, LaneTotals, Outcome, SEGMENTS_PER_TTL, Settled};
use crate::books::{Books, DropReason};
use crate::config::LaneConfig;
use crate::dead_letter::Loss;
use crate::effect::{LaneBatch, Release};
use crate::entry::{Entries, Space, put_varint, take_count};
use crate::frame::{self, PAGE, align_up, place};
use crate::record::{Record, RecordKind};
use crate::store::Extent;
use crate::time::Now;
use crate::units::Millis;

impl Lane {
    pub(super) fn new(config: LaneConfig) -> Self {
        Self {
            config,
            extents: VecDeque::new(),
            next_seq: FIRST_SEQ,
            next_message: 0,
            head_seq: FIRST_SEQ,
            head_message: 0,
            next_segment: 1,
            totals: LaneTotals::default(),
            dirty: false,
            losses: Losses::default(),
            reach: Reach::from(Point { seq: FIRST_SEQ, message: 0 }),
            fold: None,
            sweep: Sweep::default(),
            reached: false,
            staged: LaneBatch::default(),
        }
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

    /// Undelivered records.
    #[must_use]
    pub fn records_pending(&self) -> u64 {
        self.next_seq - self.head_seq - self.left_already().0
    }

    /// Undelivered records that settle a message.
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        self.next_message - self.head_message - self.left_already().1
    }

    /// Record totals.
    #[must_use]
    pub const fn totals(&self) -> &LaneTotals {
        &self.totals
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
    pub(super) fn drop_oldest(&mut self, reason: DropReason, books: &mut Books) -> bool {
        let before = self.head_seq;
        let Some((records, messages)) = self.leave_oldest() else { return false };
        if 0 < records {
            books.drop(reason, messages);
            self.totals.dropped[reason as usize] += records;
            self.lose(reason as usize, (records, messages), before..self.head_seq);
        }
        true
    }

    /// Notes that so many records and messages within the range left undelivered.
    pub(super) fn lose(&mut self, reason: usize, (records, messages): (u64, u64), range: core::ops::Range<u64>) {
        let (first_seq, through_seq) = (range.start, range.end - 1);
        self.losses.lose(reason, losses::Lost { records, messages, first_seq, through_seq });
        self.dirty = true;
    }

    /// Moves the head past the oldest segment and forgets it: (records, messages) that were undelivered in it.
    pub(super) fn leave_oldest(&mut self) -> Option<(u64, u64)> {
        self.extents.pop_front()?;
        let (end_seq, end_message) = match self.extents.front() {
            Some(next) => (next.first_seq, next.first_message),
            None => (self.next_seq - u64::from(self.staged.count), self.next_message - u64::from(self.staged.messages)),
        };
        self.dirty = true;
        Some(self.advance(Point { seq: end_seq, message: end_message }))
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
        if record.sequence < self.head_seq {
            return;
        }
        let message = u64::from(record.closes_message);
        let settling = self.settle_live(record.sequence, message);
        if settling == Settling::Before {
            return;
        }
        match record.outcome {
            Outcome::Delivered => {
                self.reached = true;
                self.totals.delivered += 1;
                books.delivered += message;
            }
            Outcome::Expired => {
                self.totals.expired += 1;
                books.expired += message;
                self.lose(EXPIRED, (1, message), record.sequence..record.sequence + 1);
            }
            Outcome::Dropped(reason) => {
                self.totals.dropped[reason as usize] += 1;
                books.drop(reason, message);
                self.lose(reason as usize, (1, message), record.sequence..record.sequence + 1);
            }
        }
        if settling == Settling::InOrder {
            let _ = self.advance(Point { seq: record.sequence + 1, message: self.head_message + message });
        }
        self.dirty = true;
    }

    pub(super) fn expire(&mut self, age_ms: i64, books: &mut Books) -> bool {
        let mut any = false;
        while self.expires_at().is_some_and(|at| at <= age_ms) {
            any = true;
            let before = self.head_seq;
            if let Some((records, messages)) = self.leave_oldest().filter(|(records, _)| 0 < *records) {
                self.totals.expired += records;
                books.expired += messages;
                self.lose(EXPIRED, (records, messages), before..self.head_seq);
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

    /// Records between the head and the first one that the store still has are lost to damage.
    pub(super) fn enter_damage(&mut self, books: &mut Books) {
        let (first_seq, first_message) = match self.extents.front() {
            Some(first) => (first.first_seq, first.first_message),
            None => (self.next_seq, self.next_message),
        };
        self.skip_to(Point { seq: first_seq, message: first_message }, books);
    }

    /// Enters everything before `to` that is undelivered as damaged.
    pub(super) fn skip_to(&mut self, to: Point, books: &mut Books) {
        let before = self.head_seq;
        if before < to.seq {
            let left = self.advance(to);
            self.enter_lost(left, before..self.head_seq, books);
            self.dirty = true;
        }
    }

    /// So many records and messages of the range are damaged.
    pub(super) fn enter_lost(&mut self, left: (u64, u64), range: core::ops::Range<u64>, books: &mut Books) {
        if 0 < left.0 {
            self.totals.dropped[DropReason::Damaged as usize] += left.0;
            books.drop(DropReason::Damaged, left.1);
            self.lose(DropReason::Damaged as usize, left, range);
        }
    }

    /// Lets the store have back the segments before the head.
    pub(super) fn release(&mut self, index: usize, releases: &mut Vec<Release>) {
        while self.extents.get(1).is_some_and(|next| next.first_seq <= self.head_seq) {
            self.extents.pop_front();
        }
        let below = self.extents.front().map_or(self.next_segment, |extent| extent.segment);
        match releases.iter_mut().find(|release| release.lane == index && release.from_segment == 0) {
            Some(release) => release.below_segment = release.below_segment.max(below),
            None => releases.push(Release { lane: index, from_segment: 0, below_segment: below }),
        }
    }

    /// Adds a loss record for each reason that has something to tell. Not in an idle lane without upstream: its loss record would
    /// itself expire there, and ask for the next one.
    pub(super) fn say_losses(&mut self, now: Now, segment_bytes: u64) {
        let has_room = || self.frame_bytes(LOSS_RESERVE as usize, segment_bytes) <= self.room(segment_bytes);
        let is_heard = self.reached && has_room();
        self.reached = false;
        if self.staged.count == 0 && !is_heard {
            return;
        }
        for reason in 0..REASONS {
            if let Some(lost) = self.losses.due(reason, self.head_seq) {
                let sequence = self.say_loss(now, losses::name(reason), lost);
                self.losses.told(reason, sequence, lost);
                self.dirty = true;
            }
        }
    }

    pub(super) fn say_loss(&mut self, now: Now, reason: &'static str, lost: losses::Lost) -> u64 {
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

    pub(super) fn save(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        scratch.clear();
        let head = [self.head_seq, self.head_message, u64::from(self.next_segment)];
        for number in head.into_iter().chain([self.totals.delivered, self.totals.expired, self.totals.rolled_up]) {
            put_varint(scratch, number);
        }
        for number in self.totals.dropped {
            put_varint(scratch, number);
        }
        self.save_reach(scratch);
        self.losses.save(scratch);
        entries.put(&[&[Space::Lane as u8], self.config.name.as_bytes()], scratch);
    }

    pub(super) fn restore(&mut self, mut value: &[u8]) -> Option<()> {
        let value = &mut value;
        self.head_seq = take_count(value)?.min(self.next_seq);
        self.head_message = take_count(value)?.min(self.next_message);
        let next_segment = u32::try_from(take_count(value)?).ok().filter(|segment| *segment <= frame::SEGMENT_MAX)?;
        self.next_segment = self.next_segment.max(next_segment);
        self.totals.delivered = take_count(value)?;
        self.totals.expired = take_count(value)?;
        self.totals.rolled_up = take_count(value)?;
        for number in &mut self.totals.dropped {
            *number = take_count(value)?;
        }
        self.restore_reach(value)?;
        self.losses.restore(value)
    }
}

/// Bytes on flash of so many: whole pages.
pub(super) fn pages(bytes: u32) -> u64 {
    u64::from(align_up(bytes, PAGE))
}

fn body_len(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(frame::BODY_MAX).min(frame::BODY_MAX)
}
