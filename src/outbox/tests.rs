//! Sequences, bounds, policies, expiry and damage of the outbox.

mod heads;
mod live;

use super::*;
use crate::books::DropReason;
use crate::dead_letter::Loss;
use crate::entry;
use crate::record::RecordKind;
use crate::time::TimeQuality;
use crate::units::Millis;

fn config(bytes_max: u64, full: FullPolicy, ttl: Option<u64>) -> LaneConfig {
    LaneConfig {
        name: "telemetry".into(),
        topics: vec!["#".parse().unwrap()],
        bytes_max: Bytes(bytes_max),
        ttl: ttl.map(Millis),
        full,
        roll_up: Vec::new(),
        drain: Drain::InOrder,
        priority: 0,
        sink: None,
    }
}

const fn at(wall_ms: i64) -> Now {
    Now { mono_us: 0, wall_ms, quality: TimeQuality::Synced }
}

fn record(payload: &[u8]) -> Record<'_> {
    Record {
        kind: RecordKind::Message,
        closes_message: false,
        at_ms: 0,
        quality: TimeQuality::Synced,
        hops: 0,
        source: "f",
        topic: "t",
        payload,
    }
}

/// An outbox, its books, and what was given to the store.
struct Rig {
    outbox: Outbox,
    books: Books,
    releases: Vec<Release>,
    batches: Vec<LaneBatch>,
    entries: Entries,
}

impl Rig {
    fn new(config: LaneConfig) -> Self {
        let outbox = Outbox::new(&[config], 8192);
        Self { outbox, books: Books::default(), releases: Vec::new(), batches: Vec::new(), entries: Entries::default() }
    }

    /// One message that makes one record of `len` bytes, in a commit of its own.
    fn message(&mut self, len: usize, wall_ms: i64) {
        self.books.received += 1;
        let payload = vec![7; len];
        match self.outbox.offer(0, &record(&payload), &mut self.books, &mut self.releases) {
            Offer::Queued { lane, sequence, start } => self.outbox.close_message(lane, sequence, start),
            other => panic!("{other:?}"),
        }
        self.seal(wall_ms);
        assert_eq!(self.books.residue(self.outbox.messages_pending()), 0);
        assert!(self.outbox.lanes()[0].bytes() <= self.outbox.lanes()[0].config().bytes_max.0);
    }

    fn seal(&mut self, wall_ms: i64) {
        let scratch = (&mut Vec::new(), &mut Vec::new());
        self.outbox.make_way(wall_ms, &mut self.books, &mut self.releases);
        self.outbox.seal(at(wall_ms), wall_ms, &mut self.batches, &mut self.entries, scratch);
    }

    fn settle(&mut self, sequence: u64, outcome: Outcome) {
        let settled = [Settled { sequence, closes_message: true, outcome }];
        self.outbox.settle(0, &settled, &mut self.books, &mut self.releases);
        assert_eq!(self.books.residue(self.outbox.messages_pending()), 0);
    }
}

#[test]
fn sequences_have_no_gap_and_a_full_lane_drops_its_oldest_segments_and_says_so() {
    let mut rig = Rig::new(config(40_000, FullPolicy::DropOldest, None));
    for at in 0..100 {
        rig.message(3000, at);
    }
    let mut next = 1;
    for batch in &rig.batches {
        assert_eq!(batch.first_seq, next);
        next += u64::from(batch.count);
    }
    let lane = &rig.outbox.lanes()[0];
    let dropped = lane.totals().dropped[DropReason::LaneFull as usize];
    assert!(0 < dropped && dropped + lane.records_pending() == lane.next_seq() - 1);
    let waiting = said_by(&rig.batches, |sequence| lane.head_seq() <= sequence);
    let said: u64 = waiting.iter().map(|(_, records, ..)| records).sum();
    assert!(0 < said && said <= dropped, "loss records say what went: {said} of {dropped}");
    assert_eq!(rig.releases[0].lane, 0);
}

#[test]
fn a_record_larger_than_the_lane_evicts_nothing() {
    let mut rig = Rig::new(config(20_000, FullPolicy::DropOldest, None));
    rig.message(100, 0);
    let large = vec![1; 30_000];
    assert_eq!(rig.outbox.offer(0, &record(&large), &mut rig.books, &mut rig.releases), Offer::NeverFits);
    assert_eq!(rig.outbox.lanes()[0].records_pending(), 1);
}

#[test]
fn a_lane_that_rejects_asks_for_back_pressure_before_it_is_full_and_ends_it_when_it_drains() {
    let mut rig = Rig::new(config(40_000, FullPolicy::Reject, None));
    let mut messages = 0;
    while !rig.outbox.is_blocked() {
        rig.message(3000, 0);
        messages += 1;
        assert!(messages < 20);
    }
    assert_eq!(rig.outbox.lanes()[0].totals().dropped.iter().sum::<u64>(), 0);
    for sequence in 1..=messages {
        rig.settle(sequence, Outcome::Delivered);
    }
    rig.message(100, 0);
    assert!(!rig.outbox.is_blocked());
}

#[test]
fn settled_records_that_were_dropped_meanwhile_count_once() {
    let mut rig = Rig::new(config(40_000, FullPolicy::DropOldest, None));
    for at in 0..50 {
        rig.message(3000, at);
    }
    let head = rig.outbox.lanes()[0].head_seq();
    rig.settle(1, Outcome::Delivered);
    assert_eq!((rig.books.delivered, rig.outbox.lanes()[0].head_seq()), (0, head));
    rig.settle(head, Outcome::Dropped(DropReason::Undeliverable));
    assert_eq!(rig.books.dropped[DropReason::Undeliverable as usize], 1);
}

#[test]
fn records_older_than_the_ttl_expire_with_their_segment_also_the_last_one() {
    let mut rig = Rig::new(config(1 << 20, FullPolicy::DropOldest, Some(1000)));
    rig.message(100, 0);
    rig.message(100, 200);
    rig.message(100, 600);
    let _ = rig.outbox.expire(1100, &mut rig.books, &mut rig.releases);
    assert_eq!(rig.books.expired, 0, "the youngest of the first segment may be 1100 - 250 old");
    assert!(rig.outbox.deadline_ms().is_some_and(|due| 1100 < due && due <= 1600));
    let _ = rig.outbox.expire(1600, &mut rig.books, &mut rig.releases);
    assert_eq!((rig.books.expired, rig.outbox.messages_pending()), (2, 1));
    let _ = rig.outbox.expire(1900, &mut rig.books, &mut rig.releases);
    assert_eq!((rig.books.expired, rig.outbox.messages_pending()), (3, 0));
    assert_eq!(rig.outbox.deadline_ms(), None);
    rig.message(100, 2000);
    let segments: Vec<u32> = rig.batches.iter().map(|batch| batch.segment).collect();
    assert_eq!(segments, [1, 1, 2, 3], "a number is never given twice");
}

#[test]
fn damage_behind_the_head_is_entered_in_the_books() {
    let mut rig = Rig::new(config(1 << 20, FullPolicy::DropOldest, None));
    for at in 0..5 {
        rig.message(100, at);
    }
    let lost = Lost { from_seq: 1, until_seq: 4, until_message: 3 };
    rig.outbox.gone(0, &lost, &mut rig.books, &mut rig.releases);
    assert_eq!(rig.books.dropped[DropReason::Damaged as usize], 3);
    assert_eq!((rig.outbox.messages_pending(), rig.books.residue(2)), (2, 0));
}

#[test]
fn records_that_damage_put_out_of_step_with_messages_settle_none_twice() {
    for until_message in [0, 2] {
        let mut rig = Rig::new(config(1 << 20, FullPolicy::DropOldest, None));
        rig.message(100, 0);
        rig.message(100, 1);
        let lost = Lost { from_seq: 1, until_seq: 2, until_message };
        rig.outbox.gone(0, &lost, &mut rig.books, &mut rig.releases);
        let settled = [Settled { sequence: 2, closes_message: true, outcome: Outcome::Delivered }];
        rig.outbox.settle(0, &settled, &mut rig.books, &mut rig.releases);
        assert_eq!((rig.outbox.messages_pending(), rig.books.residue(0)), (0, 0), "{until_message}");
    }
}

/// Reason, records, first and last of every loss record in the batches.
fn said(batches: &[LaneBatch]) -> Vec<(String, u64, u64, u64)> {
    said_by(batches, |_| true)
}

/// The same of those whose sequence `has`.
fn said_by(batches: &[LaneBatch], has: impl Fn(u64) -> bool) -> Vec<(String, u64, u64, u64)> {
    let mut said = Vec::new();
    for batch in batches {
        let mut bytes = batch.records.as_slice();
        let mut sequence = batch.first_seq;
        while let Some(record) = Record::take(&mut bytes) {
            sequence += 1;
            if record.kind == RecordKind::Loss && has(sequence - 1) {
                let loss = Loss::decode(record.payload).unwrap();
                said.push((loss.reason.into_owned(), loss.records, loss.first_seq, loss.through_seq));
            }
        }
    }
    said
}

#[test]
fn whatever_leaves_undelivered_is_said_once_by_a_record_behind_the_gap_also_after_a_restart() {
    let lost = |reason: &str, records, first, through| (reason.to_owned(), records, first, through);
    let mut rig = Rig::new(config(1 << 20, FullPolicy::DropOldest, Some(1000)));
    for at in [0, 10, 500, 510, 520] {
        rig.message(100, at);
    }
    rig.settle(1, Outcome::Delivered);
    rig.seal(530);
    assert!(rig.outbox.expire(1800, &mut rig.books, &mut rig.releases));
    assert_eq!(rig.books.expired, 4);
    rig.seal(1800);
    assert_eq!(said(&rig.batches), [], "an idle lane says nothing");

    let mut heads = Entries::default();
    rig.outbox.export(&mut heads);
    let entry = crate::entry::entries(heads.bytes()).next().unwrap().unwrap();
    let (key, value) = (entry.key, entry.value.unwrap().to_vec());
    let found =
        LaneRecovered { name: "telemetry".into(), extents: Vec::new(), next_seq: 6, next_message: 5, next_segment: 3 };
    rig.outbox = Outbox::new(&[config(1 << 20, FullPolicy::DropOldest, Some(1000))], 8192);
    rig.outbox.recover(vec![found]);
    rig.outbox.restore(&key, &value).unwrap();
    rig.message(100, 1900);
    assert_eq!(said(&rig.batches), [lost("expired", 4, 2, 5)]);

    rig.batches.clear();
    rig.settle(6, Outcome::Dropped(DropReason::Undeliverable));
    rig.message(100, 1910);
    rig.message(100, 1920);
    assert_eq!(said(&rig.batches), [lost("undeliverable", 1, 6, 6)]);
}

#[test]
fn losses_are_told_in_full_although_loss_records_were_lost_as_well() {
    let mut rig = Rig::new(config(40_000, FullPolicy::DropOldest, None));
    for at in 0..200 {
        rig.message(3000, at);
    }
    // Upstream is back: everything that is left arrives, and what comes meanwhile.
    let mut sequence = rig.outbox.lanes()[0].head_seq();
    let mut arrived = Vec::new();
    while sequence < rig.outbox.lanes()[0].next_seq() {
        arrived.push(sequence);
        let is_loss = !said_by(&rig.batches, |loss| loss == sequence).is_empty();
        let settled = [Settled { sequence, closes_message: !is_loss, outcome: Outcome::Delivered }];
        rig.outbox.settle(0, &settled, &mut rig.books, &mut rig.releases);
        rig.seal(300);
        sequence += 1;
    }
    let told: Vec<_> = said_by(&rig.batches, |sequence| arrived.contains(&sequence));
    let records: u64 = told.iter().map(|(_, records, ..)| records).sum();
    let last = told.last().unwrap();
    assert_eq!((records, last.3), (arrived[0] - 1, arrived[0] - 1), "{told:?}");
}

#[test]
fn a_lane_never_takes_more_flash_than_it_may_through_snapshots_and_segments_that_grow_old() {
    for ttl in [None, Some(400)] {
        for len in [50, 700, 3000] {
            let mut rig = Rig::new(config(24_576, FullPolicy::DropOldest, ttl));
            for wall_ms in 0..400 {
                rig.message(len, wall_ms * 7);
                if wall_ms % 3 == 0 {
                    rig.outbox.export(&mut Entries::default());
                }
                let segments: std::collections::BTreeSet<u32> =
                    rig.outbox.lanes()[0].extents.iter().map(|extent| extent.segment).collect();
                assert!(segments.len() as u64 * 8192 <= 24_576, "{ttl:?} {len}: segments {segments:?}");
            }
        }
    }
}
