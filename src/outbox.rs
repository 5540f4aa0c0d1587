//! The outbox: records waiting for upstream, in lanes, oldest first. The bytes lie in the store; here is the ledger of them.
//!
//! - A sequence number is given once and never again; a lane's numbers have no gap.
//! - A lane's bytes on flash never exceed `bytes_max`, frames and padding included.
//! - A record that leaves undelivered is counted by reason, and said upstream in a loss record; none vanishes.
//! - A full lane may fold old aggregates into coarser ones instead (`fold`); how far upstream may have seen it is in `reach`.
//! - Memory is O(segments), not O(records): an [`Extent`] a segment.

mod fold;
mod losses;
mod reach;

use std::collections::VecDeque;

use crate::books::{Books, DropReason};
use crate::config::{FullPolicy, LaneConfig};
use crate::dead_letter::Loss;
use crate::effect::{LaneBatch, Read, Release};
use crate::entry::{Entries, Space, put_varint, take_varint};
use crate::frame::{self, place};
use crate::record::{Record, RecordKind};
use crate::store::{Extent, LaneRecovered, Lost};
use crate::time::Now;
use crate::units::Bytes;
pub use fold::Fetched;
use fold::{Fold, Sweep};
use losses::{EXPIRED, Losses, REASONS};
use reach::{Point, Reach};

/// The answer to [`Outbox::offer`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It has this sequence number in this lane.
    Queued {
        /// Index of the lane.
        lane: usize,
        /// Its number.
        sequence: u64,
        /// Where it starts among the lane's staged bytes; see [`Outbox::close_message`].
        start: usize,
    },
    /// No lane takes the topic.
    NoLane,
    /// Larger than the whole lane: waiting would not help.
    NeverFits,
}

/// How one record left its lane through the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Upstream has acknowledged it.
    Delivered,
    /// It was older than the lane's TTL.
    Expired,
    /// It can never be delivered, or its bytes are damaged.
    Dropped(DropReason),
}

/// One record that left a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its number.
    pub sequence: u64,
    /// Whether it settles a message.
    pub closes_message: bool,
    /// How it left.
    pub outcome: Outcome,
}

/// Record totals of a lane since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneTotals {
    /// Acknowledged by upstream.
    pub delivered: u64,
    /// Too old.
    pub expired: u64,
    /// Folded into coarser ones, or appended again, to make room.
    pub rolled_up: u64,
    /// Gone, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
}

/// One lane.
#[derive(Debug)]
pub struct Lane {
    config: LaneConfig,
    extents: VecDeque<Extent>,
    next_seq: u64,
    next_message: u64,
    head_seq: u64,
    head_message: u64,
    /// A segment's number is never given twice, also when every segment has gone.
    next_segment: u32,
    totals: LaneTotals,
    dirty: bool,
    losses: Losses,
    reach: Reach,
    /// A pass that is under way.
    fold: Option<Box<Fold>>,
    sweep: Sweep,
    /// Upstream has taken something since the last batch.
    reached: bool,
    staged: LaneBatch,
}

/// All lanes, in order of priority.
#[derive(Debug)]
pub struct Outbox {
    lanes: Vec<Lane>,
    segment_bytes: u64,
}

/// A segment takes records for this part of its lane's TTL at most.
const SEGMENTS_PER_TTL: u64 = 4;
/// The first record of a lane has this number.
const FIRST_SEQ: u64 = 1;
/// Room that is kept for the records that say what was lost, one for each reason.
const LOSS_RESERVE: u64 = 512;

/// Room that a lane with the policy `reject` keeps for what is already on its way.
const REJECT_RESERVE_DIVISOR: u64 = 8;

impl Outbox {
    /// Lanes as configured, empty. `segment_bytes` bounds one segment of a lane's log.
    #[must_use]
    pub fn new(configs: &[LaneConfig], segment_bytes: u64) -> Self {
        let lanes = configs.iter().map(|config| Lane::new(config.clone())).collect();
        Self { lanes, segment_bytes }
    }

    /// Takes over what the store found. A lane that is no longer configured is kept, to be drained by the sink of the first lane.
    pub fn recover(&mut self, found: Vec<LaneRecovered>) {
        for found in found {
            let index = self.lanes.iter().position(|lane| lane.config.name == found.name).unwrap_or_else(|| {
                self.lanes.push(Lane::new(self.orphan_config(&found.name)));
                self.lanes.len() - 1
            });
            let lane = &mut self.lanes[index];
            lane.extents = found.extents.into();
            lane.next_segment = found.next_segment;
            lane.next_seq = found.next_seq;
            lane.next_message = found.next_message;
            lane.head_seq = lane.head_seq.min(found.next_seq);
            lane.head_message = lane.head_message.min(found.next_message);
            // Unless its entry tells more, upstream may have seen everything.
            lane.reach = Reach::from(Point { seq: lane.next_seq, message: lane.next_message });
        }
    }

    fn orphan_config(&self, name: &str) -> LaneConfig {
        let config = self.lanes.first().map(|lane| &lane.config);
        LaneConfig {
            name: name.to_owned(),
            topics: Vec::new(),
            bytes_max: config.map_or(Bytes::mib(1), |lane| lane.bytes_max),
            ttl: None,
            full: FullPolicy::DropOldest,
            roll_up: Vec::new(),
            priority: u8::MAX,
            sink: config.and_then(|lane| lane.sink.clone()),
        }
    }

    /// Takes back a lane's head from its entry; call after [`Outbox::recover`].
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let name = core::str::from_utf8(key.get(1..)?).ok()?;
        let lane = self.lanes.iter_mut().find(|lane| lane.config.name == name)?;
        lane.restore(value)
    }

    /// Ends recovering: lets go what was delivered before the restart, and enters what the store could not read any more.
    pub fn recovered(&mut self, books: &mut Books, releases: &mut Vec<Release>) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.enter_damage(books);
            lane.release_hole(index, releases);
            lane.release(index, releases);
        }
    }

    /// The lanes, by index.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The lane that takes `topic`. What functions of this gateway take already (`taken`) must be named by more than `#`.
    #[must_use]
    pub fn lane_for(&self, topic: &str, taken: bool) -> Option<usize> {
        self.lanes.iter().position(|lane| {
            lane.config.topics.iter().any(|filter| !(taken && filter.as_str() == "#") && filter.matches(topic))
        })
    }

    /// The lane called `name`.
    #[must_use]
    pub fn lane_named(&self, name: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.config.name == name)
    }

    /// Offers a record to a lane; makes room by the lane's policy.
    pub fn offer(&mut self, lane: usize, record: &Record<'_>, books: &mut Books, releases: &mut Vec<Release>) -> Offer {
        let Some(chosen) = self.lanes.get_mut(lane) else { return Offer::NoLane };
        let staged = chosen.staged.records.len() + record.encoded_len();
        // Loss records join the frame, which ends on a page.
        let after = chosen.frame_bytes(staged + LOSS_RESERVE as usize, self.segment_bytes);
        if chosen.config.bytes_max.0 < after || frame::BODY_MAX as usize <= staged {
            return Offer::NeverFits;
        }
        chosen.make_room(lane, after, books, releases);
        let start = chosen.staged.records.len();
        let sequence = chosen.stage(record);
        Offer::Queued { lane, sequence, start }
    }

    /// Marks the record that was queued last as the one that settles its message.
    ///
    /// # Panics
    /// If `sequence` is not the last of the lane's staged records: the caller offers and closes within one message.
    pub fn close_message(&mut self, lane: usize, sequence: u64, start: usize) {
        self.lanes[lane].close_message(sequence, start);
    }

    /// Whether a lane with the policy `reject` is full: no further message may be taken until it drains. And whether one that
    /// is rolling up is: until it has.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.lanes.iter().any(|lane| {
            (lane.config.full == FullPolicy::Reject || lane.fold.is_some() || lane.wants_fold(self.segment_bytes))
                && lane.room(self.segment_bytes) < lane.config.bytes_max.0 / REJECT_RESERVE_DIVISOR
        })
    }

    /// Messages that wait in some lane.
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        self.lanes.iter().map(Lane::messages_pending).sum()
    }

    /// A sink has settled records, in order of their numbers; ones already dropped for room are passed over.
    pub fn settle(&mut self, lane: usize, settled: &[Settled], books: &mut Books, releases: &mut Vec<Release>) {
        let Some(chosen) = self.lanes.get_mut(lane) else { return };
        for record in settled {
            chosen.settle(record, books);
        }
        chosen.release(lane, releases);
    }

    /// The store cannot read some records any more: they are lost, counted, and passed over.
    pub fn gone(&mut self, lane: usize, lost: &Lost, books: &mut Books, releases: &mut Vec<Release>) {
        let Some(chosen) = self.lanes.get_mut(lane) else { return };
        chosen.skip_to(lost.until_seq, lost.until_message, books);
        chosen.release(lane, releases);
    }

    /// The sink of a lane has a connection now, or has none any more.
    pub fn upstream(&mut self, lane: usize, is_up: bool) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.reach.is_up = is_up;
        }
    }

    /// Whether some lane wants to roll up, which begins with a commit.
    #[must_use]
    pub fn wants_fold(&self) -> bool {
        self.lanes.iter().any(|lane| lane.wants_fold(self.segment_bytes))
    }

    /// Whether some sink waits for a commit to go on.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.lanes.iter().any(Lane::is_starved)
    }

    /// Records that were asked for have come: rolls them up. `None`: they cannot be read now.
    pub fn fetched(
        &mut self,
        lane: usize,
        fetched: Option<&Fetched<'_>>,
        now: Now,
        books: &mut Books,
        (releases, reads): (&mut Vec<Release>, &mut Vec<Read>),
    ) {
        let place = (lane, self.segment_bytes);
        let Some(chosen) = self.lanes.get_mut(lane) else { return };
        match fetched {
            Some(fetched) => {
                let next = chosen.go_on_folding(place, fetched, now, books, releases);
                reads.extend(next.map(|from_seq| Read { lane, from_seq }));
            }
            None => chosen.give_up_folding(),
        }
    }

    /// Lets whole segments go whose youngest record is older than the lane's TTL.
    /// Whether any did.
    ///
    /// `age_ms` is [`crate::time::Timeline::age`], and so are the times of batches and segments: a clock that is put right must
    /// not make records old.
    pub fn expire(&mut self, age_ms: i64, books: &mut Books, releases: &mut Vec<Release>) -> bool {
        let mut any = false;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.expire(age_ms, books) {
                any = true;
                lane.release(index, releases);
            }
        }
        any
    }

    /// When the next records expire, if some do, by [`crate::time::Timeline::age`].
    #[must_use]
    pub fn deadline_ms(&self) -> Option<i64> {
        self.lanes.iter().filter_map(Lane::expires_at).min()
    }

    /// Moves the staged records into `batches` and writes the changed heads.
    pub fn seal(
        &mut self,
        now: Now,
        age_ms: i64,
        batches: &mut Vec<LaneBatch>,
        entries: &mut Entries,
        (reads, scratch): (&mut Vec<Read>, &mut Vec<u8>),
    ) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.say_losses(now, self.segment_bytes);
            lane.seal_records(index, age_ms, self.segment_bytes, batches);
            lane.grant();
            reads.extend(lane.begin_fold(self.segment_bytes).map(|from_seq| Read { lane: index, from_seq }));
            if lane.dirty {
                lane.dirty = false;
                lane.save(entries, scratch);
            }
        }
    }

    /// Writes every head, for a snapshot.
    pub fn export(&self, entries: &mut Entries) {
        let mut scratch = Vec::new();
        for lane in &self.lanes {
            lane.save(entries, &mut scratch);
        }
    }

    /// Bytes staged for the next commit.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.staged.records.len()).sum()
    }
}

impl Lane {
    fn new(config: LaneConfig) -> Self {
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
        self.next_seq - self.head_seq - self.in_hole().0
    }

    /// Undelivered records that settle a message.
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        self.next_message - self.head_message - self.in_hole().1
    }

    /// Record totals.
    #[must_use]
    pub const fn totals(&self) -> &LaneTotals {
        &self.totals
    }

    /// Bytes on flash.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.bytes)).sum()
    }

    /// Bytes of flash that a frame with `records` bytes takes at most, behind what is there.
    fn frame_bytes(&self, records: usize, segment_bytes: u64) -> u64 {
        let body = u32::try_from(records).unwrap_or(frame::BODY_MAX).min(frame::BODY_MAX);
        let behind = |last: &Extent| (last.bytes, u64::from(place(last.bytes, body).end));
        match self.extents.back().map(behind) {
            Some((tail, end)) if end <= segment_bytes => end - u64::from(tail),
            // What is left of the last segment is not used any more.
            Some((tail, _)) => segment_bytes.saturating_sub(tail.into()) + u64::from(place(0, body).end),
            None => u64::from(place(0, body).end),
        }
    }

    fn room(&self, segment_bytes: u64) -> u64 {
        let staged = match self.staged.count {
            0 => 0,
            _ => self.frame_bytes(self.staged.records.len(), segment_bytes),
        };
        self.config.bytes_max.0.saturating_sub(self.bytes() + staged)
    }

    fn make_room(&mut self, index: usize, staged_after: u64, books: &mut Books, releases: &mut Vec<Release>) {
        // Fresh records are worth more to upstream than old ones, so the oldest segment makes room.
        while self.config.bytes_max.0 < self.bytes() + staged_after && self.drop_oldest(DropReason::LaneFull, books) {}
        self.release(index, releases);
    }

    /// Gives up every undelivered record of the oldest segment. False if there is no segment.
    fn drop_oldest(&mut self, reason: DropReason, books: &mut Books) -> bool {
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
    fn lose(&mut self, reason: usize, (records, messages): (u64, u64), range: core::ops::Range<u64>) {
        let (first_seq, through_seq) = (range.start, range.end - 1);
        self.losses.lose(reason, losses::Lost { records, messages, first_seq, through_seq });
        self.dirty = true;
    }

    /// Moves the head past the oldest segment and forgets it: (records, messages) that were undelivered in it.
    fn leave_oldest(&mut self) -> Option<(u64, u64)> {
        self.extents.pop_front()?;
        let (end_seq, end_message) = match self.extents.front() {
            Some(next) => (next.first_seq, next.first_message),
            None => (self.next_seq - u64::from(self.staged.count), self.next_message - u64::from(self.staged.messages)),
        };
        self.dirty = true;
        Some(self.advance(Point { seq: end_seq, message: end_message }))
    }

    fn stage(&mut self, record: &Record<'_>) -> u64 {
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

    fn close_message(&mut self, sequence: u64, start: usize) {
        assert_eq!(sequence + 1, self.next_seq, "only the newest record can be made the one that settles its message");
        Record::mark_closing(&mut self.staged.records[start..]);
        self.staged.messages += 1;
        self.next_message += 1;
    }

    fn settle(&mut self, record: &Settled, books: &mut Books) {
        if record.sequence < self.head_seq {
            return;
        }
        let message = u64::from(record.closes_message);
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
        let _ = self.advance(Point { seq: record.sequence + 1, message: self.head_message + message });
        self.dirty = true;
    }

    fn expire(&mut self, age_ms: i64, books: &mut Books) -> bool {
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
    fn expires_at(&self) -> Option<i64> {
        let ttl = self.config.ttl?;
        // A segment's youngest record is no younger than the first of the next one, or than a segment may grow old.
        let youngest = match (self.extents.front()?, self.extents.get(1)) {
            (_, Some(next)) => next.at_ms,
            (only, None) => only.at_ms.saturating_add_unsigned(ttl.0 / SEGMENTS_PER_TTL),
        };
        Some(youngest.saturating_add_unsigned(ttl.0))
    }

    /// Records between the head and the first one that the store still has are lost to damage.
    fn enter_damage(&mut self, books: &mut Books) {
        let (first_seq, first_message) = match self.extents.front() {
            Some(first) => (first.first_seq, first.first_message),
            None => (self.next_seq, self.next_message),
        };
        self.skip_to(first_seq, first_message, books);
    }

    /// Enters everything before `seq` that is undelivered as damaged; `message` are the messages closed before it.
    fn skip_to(&mut self, seq: u64, message: u64, books: &mut Books) {
        let before = self.head_seq;
        if before < seq {
            let (records, messages) = self.advance(Point { seq, message });
            if 0 < records {
                self.totals.dropped[DropReason::Damaged as usize] += records;
                books.drop(DropReason::Damaged, messages);
                self.lose(DropReason::Damaged as usize, (records, messages), before..self.head_seq);
            }
            self.dirty = true;
        }
    }

    /// Lets the store have back the segments before the head.
    fn release(&mut self, index: usize, releases: &mut Vec<Release>) {
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
    fn say_losses(&mut self, now: Now, segment_bytes: u64) {
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

    fn seal_records(&mut self, index: usize, age_ms: i64, segment_bytes: u64, batches: &mut Vec<LaneBatch>) {
        if self.staged.count == 0 {
            return;
        }
        let body = self.staged.records.len() as u32;
        // Records expire by whole segments, so a segment must not span much of the lane's TTL.
        let ttl = self.config.ttl;
        let grown_old = |last: &Extent| {
            ttl.is_some_and(|ttl| last.at_ms.saturating_add_unsigned(ttl.0 / SEGMENTS_PER_TTL) <= age_ms)
        };
        let (first_seq, first_message) = (self.staged.first_seq, self.staged.first_message);
        let grown = match self.extents.back_mut() {
            Some(last) if !grown_old(last) && u64::from(place(last.bytes, body).end) <= segment_bytes => {
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

    fn save(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
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

    fn restore(&mut self, mut value: &[u8]) -> Option<()> {
        let value = &mut value;
        self.head_seq = take_varint(value)?.min(self.next_seq);
        self.head_message = take_varint(value)?.min(self.next_message);
        let next_segment = u32::try_from(take_varint(value)?).ok()?;
        self.next_segment = self.next_segment.max(next_segment);
        self.totals.delivered = take_varint(value)?;
        self.totals.expired = take_varint(value)?;
        self.totals.rolled_up = take_varint(value)?;
        for number in &mut self.totals.dropped {
            *number = take_varint(value)?;
        }
        self.restore_reach(value)?;
        self.losses.restore(value)
    }
}

#[cfg(test)]
mod tests;
