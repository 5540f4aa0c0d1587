//! What leaves a lane before its turn: live records, and letters among them.

use super::*;

fn live_first(bytes_max: u64) -> LaneConfig {
    LaneConfig { drain: Drain::LiveFirst, ..config(bytes_max, FullPolicy::DropOldest, None) }
}

/// What a new process finds: the last head that was sealed, and what lies in the segments.
fn restart(rig: &mut Rig) {
    let list: Vec<_> = entry::entries(rig.entries.bytes()).flatten().collect();
    let last = list.last().unwrap();
    let lane = &rig.outbox.lanes()[0];
    let found = LaneRecovered {
        name: "telemetry".into(),
        extents: lane.extents.iter().copied().collect(),
        next_seq: lane.next_seq,
        next_message: lane.next_message,
        next_segment: lane.next_segment,
    };
    rig.outbox = Outbox::new(&[lane.config().clone()], 8192);
    rig.outbox.recover(vec![found]);
    rig.outbox.restore(&last.key, last.value.unwrap()).unwrap();
    rig.outbox.recovered(&mut rig.books, &mut rig.releases);
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
    let mut rig = Rig::new(live_first(1 << 20));
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
    restart(&mut rig);
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
    let mut rig = Rig::new(live_first(40_000));
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
    let mut rig = Rig::new(live_first(1 << 20));
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

#[test]
fn segments_of_live_records_go_while_the_backlog_waits() {
    let mut rig = Rig::new(live_first(40_000));
    (0..4).for_each(|at| rig.message(3000, at));
    rig.outbox.upstream(0, true);
    // Ten times what the lane holds: each is delivered at once.
    for seq in 5..105 {
        rig.message(3000, seq);
        settle_run(&mut rig, seq as u64, 1);
    }
    let lane = &rig.outbox.lanes()[0];
    assert_eq!((lane.head_seq(), lane.records_pending(), rig.books.delivered), (1, 4, 100), "the backlog is all there");
    assert!(
        rig.releases
            .iter()
            .any(|release| 1 < release.from_segment && release.below_segment == release.from_segment + 1)
    );
}

#[test]
fn a_loss_record_that_went_ahead_is_not_told_again_when_the_backlog_goes() {
    let mut rig = Rig::new(live_first(40_000));
    (0..20).for_each(|at| rig.message(3000, at));
    rig.outbox.upstream(0, true);
    let (mark, _) = rig.outbox.lanes()[0].live().unwrap();
    rig.batches.clear();
    rig.message(100, 20);
    // A loss record waits before the mark already; it is lost below and told by the next one, behind the mark.
    (21..60).for_each(|at| rig.message(3000, at));
    let lost = rig.outbox.lanes()[0].totals().dropped[DropReason::LaneFull as usize];
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
    let told: u64 = said_by(&rig.batches, |seq| arrived.contains(&seq)).iter().map(|(_, records, ..)| records).sum();
    assert!(mark < arrived[0] && told == lost && lost + 1 == arrived[0], "{told} of {lost}");
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Letters taken out, a backlog and live records, damage, a full lane and restarts: each record leaves once.
#[test]
fn every_record_leaves_once_in_whatever_order() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let bytes_max = [40_000, 1 << 20][random.below(2) as usize];
        let mut rig = Rig::new(live_first(bytes_max));
        // Whether each record closes a message, from the first on; loss records close none.
        let mut closes = vec![false, true];
        let mut now = 0;
        rig.message(100, now);
        rig.batches.clear();
        for _ in 0..300 {
            now += 1;
            let lane = &rig.outbox.lanes()[0];
            let (head, sealed, live) = (lane.head_seq(), lane.sealed_seq(), lane.live());
            match random.below(10) {
                0..4 => rig.message(50 + random.below(3000) as usize, now),
                4 => {
                    let offer = rig.outbox.offer(0, &record(&[3; 500]), &mut rig.books, &mut rig.releases);
                    assert!(matches!(offer, Offer::Queued { .. }), "{offer:?}");
                    rig.seal(now);
                }
                5 => {
                    let seq = head + random.below(sealed - head + 1);
                    if closes.get(seq as usize) == Some(&false) {
                        let _ = rig.outbox.take_out(0, seq, DropReason::Purged, &mut rig.releases);
                    }
                }
                6 => {
                    rig.outbox.upstream(0, random.below(2) == 0);
                }
                7 if random.below(4) == 0 => restart(&mut rig),
                7 if random.below(4) == 0 => {
                    let end = live.map_or(sealed, |(mark, _)| mark);
                    let until_seq = (head + 1 + random.below(4)).min(end);
                    if head < until_seq && rig.outbox.lanes()[0].left_before_turn().next().is_none() {
                        let closed = closes[head as usize..until_seq as usize].iter().filter(|closes| **closes).count();
                        let until_message = rig.outbox.lanes()[0].head_message() + closed as u64;
                        let lost = Lost { from_seq: head, until_seq, until_message };
                        rig.outbox.gone(0, &lost, &mut rig.books, &mut rig.releases);
                    }
                }
                7 => {}
                way => {
                    let (from, end) = match live {
                        Some((_, through)) if way == 8 => (through, sealed),
                        Some((mark, _)) => (head, mark),
                        None => (head, sealed),
                    };
                    let settled: Vec<Settled> = (from..end.min(from + 1 + random.below(6)))
                        .map(|sequence| Settled {
                            sequence,
                            closes_message: closes[sequence as usize],
                            outcome: [Outcome::Delivered, Outcome::Expired][random.below(2) as usize],
                        })
                        .collect();
                    rig.outbox.settle(0, &settled, &mut rig.books, &mut rig.releases);
                }
            }
            rig.seal(now);
            for batch in rig.batches.drain(..) {
                let mut bytes = batch.records.as_slice();
                while let Some(record) = Record::take(&mut bytes) {
                    closes.push(record.closes_message);
                }
            }
            let lane = &rig.outbox.lanes()[0];
            assert_eq!(closes.len() as u64, lane.next_seq(), "seed {seed}");
            let waiting = |seq: &u64| !lane.has_left(*seq);
            let pending = (1..lane.next_seq()).filter(waiting).count() as u64;
            let messages = (1..lane.next_seq()).filter(waiting).filter(|seq| closes[*seq as usize]).count() as u64;
            assert_eq!((lane.records_pending(), lane.messages_pending()), (pending, messages), "seed {seed}");
            let totals = lane.totals();
            let left = totals.delivered + totals.expired + totals.dropped.iter().sum::<u64>();
            assert_eq!(left + pending + 1, lane.next_seq(), "seed {seed}");
            assert_eq!(rig.books.residue(messages), 0, "seed {seed}");
        }
    }
}
