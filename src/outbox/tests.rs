//! Sequences, bounds, policies, expiry and damage of the outbox.

use super::*;
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
        self.outbox.seal(
            at(wall_ms),
            wall_ms,
            &mut self.batches,
            &mut self.entries,
            (&mut Vec::new(), &mut Vec::new()),
        );
        assert_eq!(self.books.residue(self.outbox.messages_pending()), 0);
        assert!(self.outbox.lanes()[0].bytes() <= self.outbox.lanes()[0].config().bytes_max.0);
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
    rig.outbox.seal(at(530), 530, &mut rig.batches, &mut rig.entries, (&mut Vec::new(), &mut Vec::new()));
    assert!(rig.outbox.expire(1800, &mut rig.books, &mut rig.releases));
    assert_eq!(rig.books.expired, 4);
    rig.outbox.seal(at(1800), 1800, &mut rig.batches, &mut rig.entries, (&mut Vec::new(), &mut Vec::new()));
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
        rig.outbox.seal(at(300), 300, &mut rig.batches, &mut rig.entries, (&mut Vec::new(), &mut Vec::new()));
        sequence += 1;
    }
    let told: Vec<_> = said_by(&rig.batches, |sequence| arrived.contains(&sequence));
    let records: u64 = told.iter().map(|(_, records, ..)| records).sum();
    let last = told.last().unwrap();
    assert_eq!((records, last.3), (arrived[0] - 1, arrived[0] - 1), "{told:?}");
}

/// Settles so many records from this one on, all of them closing messages.
fn settle_run(rig: &mut Rig, first: u64, count: u64) {
    let settled: Vec<Settled> = (first..first + count)
        .map(|sequence| Settled { sequence, closes_message: true, outcome: Outcome::Delivered })
        .collect();
    rig.outbox.settle(0, &settled, &mut rig.books, &mut rig.releases);
    assert_eq!(rig.books.residue(rig.outbox.messages_pending()), 0);
}

#[test]
fn live_records_that_go_ahead_count_at_once_and_the_head_jumps_over_them() {
    let live_first = || LaneConfig { drain: Drain::LiveFirst, ..config(1 << 20, FullPolicy::DropOldest, None) };
    let mut rig = Rig::new(live_first());
    (0..50).for_each(|at| rig.message(100, at));
    rig.outbox.upstream(0, true);
    assert_eq!(rig.outbox.lanes()[0].live(), Some((51, 51)), "the backlog ends where upstream came back");
    (50..70).for_each(|at| rig.message(100, at));
    settle_run(&mut rig, 51, 10);
    settle_run(&mut rig, 1, 5);
    // What was settled once is so also when it is told again.
    settle_run(&mut rig, 55, 6);
    let lane = &rig.outbox.lanes()[0];
    assert_eq!((lane.head_seq(), lane.live(), lane.records_pending()), (6, Some((51, 61)), 55));
    assert_eq!(rig.books.delivered, 15);
    // A restart knows it.
    rig.message(100, 70);
    let list: Vec<_> = entry::entries(rig.entries.bytes()).flatten().collect();
    let last = list.last().unwrap();
    let found = LaneRecovered {
        name: "telemetry".into(),
        extents: rig.outbox.lanes()[0].extents.iter().copied().collect(),
        next_seq: 72,
        next_message: 71,
        next_segment: 9,
    };
    rig.outbox = Outbox::new(&[live_first()], 8192);
    rig.outbox.recover(vec![found]);
    rig.outbox.restore(&last.key, last.value.unwrap()).unwrap();
    let lane = &rig.outbox.lanes()[0];
    assert_eq!((lane.head_seq(), lane.live(), lane.records_pending()), (6, Some((51, 61)), 56));
    assert_eq!(rig.books.residue(rig.outbox.messages_pending()), 0);
    // The backlog ends, and what follows is what was not live yet.
    settle_run(&mut rig, 6, 45);
    let lane = &rig.outbox.lanes()[0];
    assert_eq!((lane.head_seq(), lane.live(), lane.records_pending()), (61, None, 11));
    settle_run(&mut rig, 61, 11);
    assert_eq!((rig.books.delivered, rig.outbox.lanes()[0].records_pending()), (71, 0));
}

#[test]
fn a_backlog_that_makes_room_takes_no_live_record_with_it() {
    let mut rig = Rig::new(LaneConfig { drain: Drain::LiveFirst, ..config(40_000, FullPolicy::DropOldest, None) });
    (0..4).for_each(|at| rig.message(3000, at));
    rig.outbox.upstream(0, true);
    (4..8).for_each(|at| rig.message(3000, at));
    settle_run(&mut rig, 5, 4);
    (8..30).for_each(|at| rig.message(3000, at));
    let dropped = rig.books.dropped[DropReason::LaneFull as usize];
    let pending = rig.outbox.messages_pending();
    assert_eq!((rig.books.delivered, dropped + pending), (4, 26), "the four count once");
}

#[test]
fn live_records_that_cannot_be_read_are_not_the_backlogs_loss() {
    let mut rig = Rig::new(LaneConfig { drain: Drain::LiveFirst, ..config(1 << 20, FullPolicy::DropOldest, None) });
    (0..50).for_each(|at| rig.message(100, at));
    rig.outbox.upstream(0, true);
    (50..70).for_each(|at| rig.message(100, at));
    settle_run(&mut rig, 51, 2);
    rig.outbox.gone(0, &Lost { from_seq: 53, until_seq: 56, until_message: 55 }, &mut rig.books, &mut rig.releases);
    assert_eq!(rig.books.residue(rig.outbox.messages_pending()), 0);
    let lane = &rig.outbox.lanes()[0];
    assert_eq!((lane.head_seq(), lane.live()), (1, Some((51, 56))));
    assert_eq!(rig.books.dropped[DropReason::Damaged as usize], 3);
}
