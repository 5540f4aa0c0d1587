//! Rolling up: the oldest records that upstream cannot have seen, read back, folded into coarser ones and appended anew.
//!
//! - A pass reads from the end of the hole on, in pieces, and changes nothing before its end; what it makes, and the hole that
//!   it leaves, are in one commit. A pass that is given up leaves no trace.
//! - Passes go on from one another, in a *sweep* over all that was there when it began: what is as coarse as may be is only
//!   appended again, and what makes room may lie behind it.
//! - Aggregates are additive partials, so every total stays what it was, to the last millionth.
//! - What is no aggregate is carried: appended again as it is, under another number. Loss records are not: what they tell is
//!   told anew. Nothing that a pass reads is lost but what cannot be read.
//! - Memory is bounded by [`costs::ROLL_UP`], what is appended by a part of the lane ([`APPENDED_DIVISOR`]).
//! - After a sweep that made hardly any room, no other is begun for a while: then the oldest leave.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::ahead::{Ahead, Point};
use super::{LOSS_RESERVE, Lane, losses};
use crate::books::{Books, DropReason};
use crate::budget::costs;
use crate::effect::Release;
use crate::manifest::MeterKind;
use crate::record::{Record, RecordKind};
use crate::store::Lost;
use crate::time::{Now, TimeQuality, WallMillis};
use crate::units::Millis;
use crate::window::{Aggregate, REVISION_ROLLED_UP, Stats};

/// A pass begins when less than this part of the lane is free.
const BEGIN_DIVISOR: u64 = 4;
/// A pass appends at most this part of the lane.
const APPENDED_DIVISOR: u64 = 16;
/// Memory of a group beside its texts and its sketch.
const GROUP_BYTES: usize = 350;

/// Records of a lane, as the store read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    /// Sequence of the first.
    pub first_seq: u64,
    /// The records, encoded one after another.
    pub records: &'a [u8],
    /// Records before the first that should be there and cannot be read.
    pub lost: Option<Lost>,
}

/// Window's start and end, meter, key, kind.
type Key = (WallMillis, WallMillis, String, Vec<u8>, u8);

#[derive(Debug)]
struct Group {
    unit: String,
    topic: String,
    kind: MeterKind,
    revision: u8,
    quality: TimeQuality,
    stats: Stats,
}

/// A pass.
#[derive(Debug)]
pub(super) struct Fold {
    from: Point,
    /// The next record.
    at: Point,
    /// The pass ends here at the latest.
    end_seq: u64,
    groups: BTreeMap<Key, Group>,
    /// Records that are appended as they are, encoded.
    carried: Vec<u8>,
    carried_count: u64,
    memory: usize,
    /// Bytes read, and bytes that are to be appended at most.
    read: usize,
    appended: usize,
    appended_max: usize,
    /// Records and messages that could not be read.
    damaged: (u64, u64),
}

impl Fold {
    fn new(from: Point, end_seq: u64, appended_max: usize) -> Self {
        Self {
            from,
            at: from,
            end_seq,
            groups: BTreeMap::new(),
            carried: Vec::new(),
            carried_count: 0,
            memory: 0,
            read: 0,
            appended: 0,
            appended_max,
            damaged: (0, 0),
        }
    }

    /// Takes records in until the pass is full; whether it is. What has left before its turn is passed over.
    fn take(&mut self, mut records: &[u8], ahead: &Ahead, roll_up: &[Millis]) -> bool {
        while !records.is_empty() && self.at.seq < self.end_seq {
            let before = records;
            let Some(record) = Record::take(&mut records) else { return true };
            let bytes = &before[..before.len() - records.len()];
            if !ahead.contains(self.at.seq) && !self.take_one(&record, bytes, roll_up) {
                return true;
            }
            self.read += bytes.len();
            self.at.seq += 1;
            self.at.message += u64::from(record.closes_message);
        }
        self.end_seq <= self.at.seq
    }

    /// False if there is no room for it.
    fn take_one(&mut self, record: &Record<'_>, bytes: &[u8], roll_up: &[Millis]) -> bool {
        let aggregate = (record.kind == RecordKind::Aggregate && !record.closes_message)
            .then(|| Aggregate::decode(record.payload))
            .flatten();
        let Some(aggregate) = aggregate else {
            if record.kind == RecordKind::Loss && !record.closes_message {
                return true;
            }
            let fits = self.fits(bytes.len(), bytes.len());
            if fits {
                self.carried.extend_from_slice(bytes);
                self.carried_count += 1;
            }
            return fits;
        };
        let (start_ms, end_ms) = coarser(aggregate.start_ms, aggregate.end_ms, roll_up);
        let key = (start_ms, end_ms, aggregate.meter.to_owned(), aggregate.key.to_vec(), aggregate.kind as u8);
        if let Some(group) = self.groups.get_mut(&key) {
            let before = sketch_bytes(&group.stats);
            group.stats.merge(&aggregate.stats);
            // Beyond the bound by what one merge adds, at most: then the pass ends.
            self.memory += sketch_bytes(&group.stats).saturating_sub(before);
            group.quality = group.quality.min(aggregate.quality);
            group.revision = REVISION_ROLLED_UP;
            return true;
        }
        let texts = 2 * (record.topic.len() + aggregate.unit.len() + aggregate.meter.len() + aggregate.key.len());
        // Sums and sketches grow by what is merged into them.
        let grown = if aggregate.kind == MeterKind::Distribution { 96 } else { 24 };
        if !self.fits(GROUP_BYTES + texts + sketch_bytes(&aggregate.stats), bytes.len() + grown) {
            return false;
        }
        let is_same = (start_ms, end_ms) == (aggregate.start_ms, aggregate.end_ms);
        let group = Group {
            unit: aggregate.unit.to_owned(),
            topic: record.topic.to_owned(),
            kind: aggregate.kind,
            revision: if is_same { aggregate.revision } else { REVISION_ROLLED_UP },
            quality: aggregate.quality,
            stats: aggregate.stats.into_owned(),
        };
        self.groups.insert(key, group);
        true
    }

    fn fits(&mut self, memory: usize, appended: usize) -> bool {
        let fits = self.memory + memory <= costs::ROLL_UP.as_usize() && self.appended + appended <= self.appended_max;
        if fits {
            self.memory += memory;
            self.appended += appended;
        }
        fits
    }
}

fn sketch_bytes(stats: &Stats) -> usize {
    stats.sketch.as_ref().map_or(0, |sketch| sketch.bytes())
}

/// How a sweep does so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    /// It ends here.
    end_seq: u64,
    read: usize,
    appended: usize,
    /// The next one waits for this number.
    again_seq: u64,
}

/// The next coarser window that the one lies in as a whole; itself if there is none.
fn coarser(start_ms: WallMillis, end_ms: WallMillis, roll_up: &[Millis]) -> (WallMillis, WallMillis) {
    let length_ms = end_ms - start_ms;
    let lengths = roll_up.iter().filter_map(|length| i64::try_from(length.0).ok());
    let found = lengths.into_iter().find(|coarse| length_ms < *coarse && coarse % length_ms.max(1) == 0);
    let window =
        |coarse: i64| (start_ms - start_ms.rem_euclid(coarse), start_ms - start_ms.rem_euclid(coarse) + coarse);
    found.map(window).filter(|window| window.0 <= start_ms && end_ms <= window.1).unwrap_or((start_ms, end_ms))
}

impl Lane {
    /// Whether there is little room and something to fold.
    pub(super) fn wants_fold(&self, segment_bytes: u64) -> bool {
        self.rolls_up()
            && self.fold.is_none()
            && self.sweep.again_seq <= self.next_seq
            && self.room(segment_bytes) < self.config.bytes_max.0 / BEGIN_DIVISOR
            // The newest segment is still being written.
            && self.extents.back().is_some_and(|newest| self.hole_end().seq < newest.first_seq)
    }

    /// Begins a pass if one is wanted: from where to read.
    pub(super) fn begin_fold(&mut self, segment_bytes: u64) -> Option<u64> {
        if !self.wants_fold(segment_bytes) {
            return None;
        }
        let (from, end_seq) = (self.hole_end(), self.extents.back()?.first_seq);
        if self.sweep.end_seq <= from.seq {
            self.sweep = Sweep { end_seq, ..Sweep::default() };
        }
        let end_seq = self.sweep.end_seq.min(end_seq);
        let appended_max = usize::try_from(self.config.bytes_max.0 / APPENDED_DIVISOR).unwrap_or(usize::MAX);
        self.fold = Some(Box::new(Fold::new(from, end_seq, appended_max)));
        Some(from.seq)
    }

    /// Goes on with the pass: from where to read on, if it is not over.
    pub(super) fn go_on_folding(
        &mut self,
        (index, segment_bytes): (usize, u64),
        fetched: &Fetched<'_>,
        now: Now,
        books: &mut Books,
        releases: &mut Vec<Release>,
    ) -> Option<u64> {
        let mut fold = self.fold.take()?;
        if fold.from != self.hole_end() {
            // The head has overtaken it.
            return None;
        }
        if let Some(lost) = fetched.lost {
            let until = Point { seq: lost.until_seq, message: lost.until_message };
            let (lost, gone) = (fold.at.until(until), self.ahead.within(fold.at.seq, until.seq));
            fold.damaged.0 += lost.0.saturating_sub(gone.0);
            fold.damaged.1 += lost.1.saturating_sub(gone.1);
            fold.at = until;
        }
        let is_over = fetched.records.is_empty() || fetched.first_seq != fold.at.seq;
        if !is_over && !fold.take(fetched.records, &self.ahead, &self.config.roll_up) {
            let next = fold.at.seq;
            self.fold = Some(fold);
            return Some(next);
        }
        self.end_fold(index, *fold, segment_bytes, now, books, releases);
        None
    }

    fn end_fold(
        &mut self,
        index: usize,
        fold: Fold,
        segment_bytes: u64,
        now: Now,
        books: &mut Books,
        releases: &mut Vec<Release>,
    ) {
        let mut encoded = fold.carried;
        let mut payload = Vec::new();
        for ((start_ms, end_ms, meter, key, _), group) in &fold.groups {
            let aggregate = Aggregate {
                meter,
                unit: &group.unit,
                kind: group.kind,
                key,
                start_ms: *start_ms,
                end_ms: *end_ms,
                revision: group.revision,
                quality: group.quality,
                stats: Cow::Borrowed(&group.stats),
            };
            payload.clear();
            aggregate.encode(&mut payload);
            let record = Record {
                kind: RecordKind::Aggregate,
                closes_message: false,
                at_ms: now.wall_ms,
                quality: now.quality,
                hops: 0,
                source: meter,
                topic: &group.topic,
                payload: &payload,
            };
            record.encode(&mut encoded);
        }
        self.sweep.read += fold.read;
        self.sweep.appended += encoded.len();
        let is_swept = self.sweep.end_seq <= fold.at.seq;
        let hardly = self.sweep.read * 3 < self.sweep.appended * 4;
        let after = self.frame_bytes(self.staged.records.len() + encoded.len() + LOSS_RESERVE as usize, segment_bytes);
        // What it reads leaves in the same commit.
        let fits = self.bytes() + after <= self.config.bytes_max.0 + self.freed_by(fold.at.seq);
        let stands_still = fold.at.seq == fold.from.seq;
        if !fits || stands_still || is_swept && hardly {
            self.sweep = Sweep { again_seq: self.next_seq + (self.records_pending() / 8).max(64), ..Sweep::default() };
        }
        if !fits || stands_still {
            return;
        }
        let (mut rest, from) = (encoded.as_slice(), fold.from);
        while let Some(record) = Record::take(&mut rest) {
            let _ = self.stage(&record);
        }
        self.give_up(DropReason::Damaged, fold.damaged, from.seq..fold.at.seq, books);
        let gone = self.ahead.within(from.seq, fold.at.seq).0;
        let rolled = (fold.at.seq - from.seq).saturating_sub(fold.damaged.0 + gone);
        self.totals.rolled_up += rolled;
        self.lose(losses::ROLLED_UP, (rolled, 0), from.seq..fold.at.seq);
        self.widen_hole(index, fold.at, releases);
    }

    /// Gives the pass up.
    pub(super) fn give_up_folding(&mut self) {
        self.fold = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_goes_into_the_next_coarser_one_that_holds_it() {
        let roll_up = [Millis(60_000), Millis(900_000), Millis(3_600_000)];
        for (window, want) in [
            ((61_000, 62_000), (60_000, 120_000)),
            ((60_000, 120_000), (0, 900_000)),
            ((900_000, 1_800_000), (0, 3_600_000)),
            ((0, 3_600_000), (0, 3_600_000)),
            ((-1_000, 0), (-60_000, 0)),
            // 7 s does not go into a minute, nor into any other here.
            ((7_000, 14_000), (7_000, 14_000)),
            // Of 45 s twenty make a quarter of an hour.
            ((45_000, 90_000), (0, 900_000)),
        ] {
            assert_eq!(coarser(window.0, window.1, &roll_up), want, "{window:?}");
        }
    }
}
