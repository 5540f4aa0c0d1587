//! The outbox: records waiting for upstream, in lanes, oldest first. The bytes lie in the store; here is the ledger of them.
//!
//! - A sequence number is given once and never again; a lane's numbers have no gap.
//! - A lane's bytes on flash never exceed `bytes_max`, frames and padding included.
//! - A record that leaves undelivered is counted by reason, and said upstream in a loss record; none vanishes.
//! - What leaves before its turn is in `ahead`: letters taken out one by one, live records, what was rolled up.
//! - A full lane may fold old aggregates into coarser ones instead (`fold`); how far upstream may have seen it is in `reach`.
//! - What is on flash of it is beside it (`heads`): a full disk may hold a batch back, but not what sinks have delivered.
//! - Memory is O(segments), not O(records): an [`Extent`] a segment.

mod ahead;
mod durable;
mod fold;
mod heads;
mod lane;
mod losses;
mod reach;
mod settled;

use std::collections::VecDeque;

use crate::books::Books;
use crate::config::{Drain, FullPolicy, LaneConfig};
use crate::effect::{LaneBatch, Read, Release};
use crate::entry::Entries;
use crate::frame::{self, PAGE, align_up};
use crate::record::Record;
use crate::store::{Extent, LaneRecovered, Lost};
use crate::time::Now;
use crate::units::Bytes;
pub use ahead::NotTaken;
use ahead::{Ahead, Point};
pub use fold::Fetched;
use fold::{Fold, Sweep};
pub use heads::Heads;
use losses::Losses;
use reach::Reach;
pub use settled::{LaneTotals, Outcome, Settled};

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
    /// Segments with smaller numbers have been let go.
    released_below: u32,
    totals: LaneTotals,
    dirty: bool,
    losses: Losses,
    /// Records behind the head that have left already.
    ahead: Ahead,
    reach: Reach,
    /// A pass that is under way.
    fold: Option<Box<Fold>>,
    sweep: Sweep,
    /// Upstream has taken something since the last batch.
    reached: bool,
    staged: LaneBatch,
}

/// All lanes, in order of priority.
#[derive(Debug, Default)]
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

/// This part of a segment is left for the outputs of the message that fills it.
const FRAME_DIVISOR: u64 = 8;
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
            lane.released_below = lane.segments_from();
            lane.grant_all();
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
            drain: Drain::InOrder,
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
            lane.ahead.cut(Point { seq: lane.next_seq, message: lane.next_message });
            lane.enter_damage(books);
            let _ = lane.advance(Point { seq: lane.head_seq, message: lane.head_message });
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

    /// Whether what is staged in some lane is about to be more than a segment: a frame that is larger needs room beside the
    /// segments, which a full disk does not have.
    #[must_use]
    pub fn fills_segment(&self) -> bool {
        let most = self.segment_bytes - self.segment_bytes / FRAME_DIVISOR;
        self.lanes.iter().any(|lane| most <= lane.staged.records.len() as u64)
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
        let until = Point { seq: lost.until_seq, message: lost.until_message };
        if !chosen.skip_live(lost.from_seq, until, books) {
            chosen.skip_to(until, books);
        }
        chosen.release(lane, releases);
    }

    /// The sink of a lane has a connection now, or has none any more. Whether a commit follows from it.
    pub fn upstream(&mut self, lane: usize, is_up: bool) -> bool {
        self.lanes.get_mut(lane).is_some_and(|lane| lane.set_up(is_up))
    }

    /// Whether some lane wants to roll up, which begins with a commit.
    #[must_use]
    pub fn wants_fold(&self) -> bool {
        self.lanes.iter().any(|lane| lane.wants_fold(self.segment_bytes))
    }

    /// Whether some sink waits for a commit to go on, or upstream, which listens, for the word that something was lost.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_starved() || lane.reached && lane.losses.is_due())
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

    /// Makes room for the segments that the next [`Outbox::seal`] begins because the newest ones have grown old: offers did not
    /// reckon with them.
    pub fn make_way(&mut self, age_ms: i64, books: &mut Books, releases: &mut Vec<Release>) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if 0 < lane.staged.count && lane.extents.back().is_some_and(|last| lane.has_grown_old(last, age_ms)) {
                let after =
                    lane.next_segment_bytes(lane.staged.records.len() + LOSS_RESERVE as usize, self.segment_bytes);
                lane.make_room(index, after, books, releases);
            }
        }
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
            lane.say_losses(now, age_ms, self.segment_bytes);
            lane.seal_records(index, age_ms, self.segment_bytes, batches);
            lane.grant();
            reads.extend(lane.begin_fold(self.segment_bytes).map(|from_seq| Read { lane: index, from_seq }));
            if lane.dirty {
                lane.dirty = false;
                lane.save(entries, scratch);
            }
        }
    }

    /// Writes every head, for a snapshot. Behind one the store goes on on a new page: so do the lanes here.
    pub fn export(&mut self, entries: &mut Entries) {
        let mut scratch = Vec::new();
        for lane in &mut self.lanes {
            lane.save(entries, &mut scratch);
            if let Some(last) = lane.extents.back_mut() {
                last.bytes = align_up(last.bytes, PAGE);
            }
        }
    }

    /// Bytes staged for the next commit.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.staged.records.len()).sum()
    }
}

#[cfg(test)]
mod tests;
