//! A clock that is set late, or steps: nothing is lost, and what is not marked is right.

use super::*;
use crate::time::TimeQuality::{Restored, Synced, Unset};
use crate::time::{Now, Shift, Timeline};

fn own(now: Now) -> FoldTime {
    let (event_ms, now_ms) = (now.wall_ms, now.wall_ms);
    FoldTime { event_ms, now_ms, quality: now.quality, is_own: true, clock: now.quality, hold_until_ms: i64::MIN }
}

const fn now(wall_s: i64, quality: TimeQuality) -> Now {
    Now { mono_us: 0, wall_ms: wall_s * SECOND, quality }
}

const fn shift(by_s: i64, was: TimeQuality) -> Shift {
    Shift { by_ms: by_s * SECOND, was, from_ms: 0 }
}

/// Emissions as (start s, revision, quality, count).
fn told(out: &mut Vec<(i64, u8, TimeQuality, u64)>) -> impl FnMut(&MeterDef, &Aggregate<'_>) + '_ {
    |_, a| out.push((a.start_ms / SECOND, a.revision, a.quality, a.stats.count))
}

#[test]
fn what_was_taken_in_1970_is_emitted_in_its_window_when_the_clock_is_set() {
    for kind in KINDS {
        let mut windows = Windows::new(vec![meter("f.m", kind, 60_000, 0, 10)]).unwrap();
        let mut out = Vec::new();
        for second in [40, 59, 60, 119, 125] {
            let at = FoldTime { hold_until_ms: 1000 * SECOND, ..own(now(second, Unset)) };
            let _ = windows.fold(at, 0, b"k", 1.0, &mut nothing).unwrap();
        }
        windows.close_due(130 * SECOND, &mut nothing);
        assert_eq!(windows.shift(shift(6_000_000, Unset), now(6_000_130, Synced), i64::MAX, &mut told(&mut out)), 3);
        assert_eq!(out, [(6_000_000, 0, Restored, 2), (6_000_060, 0, Restored, 2)], "the third is not over");
        let _ = windows.fold(own(now(6_000_131, Synced)), 0, b"k", 1.0, &mut nothing).unwrap();
        windows.close_due(6_000_180 * SECOND, &mut told(&mut out));
        assert_eq!(out[2..], [(6_000_120, 0, Restored, 2)]);
    }
}

#[test]
fn a_clock_that_proves_to_have_been_right_marks_nothing() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Gauge, 60_000, 0, 10)]).unwrap();
    let mut out = Vec::new();
    let _ = windows.fold(own(now(6_000_010, Restored)), 0, b"k", 1.0, &mut nothing).unwrap();
    let nearly = Shift { by_ms: 30, ..shift(0, Restored) };
    assert_eq!(windows.shift(nearly, now(6_000_011, Synced), i64::MAX, &mut nothing), 1);
    windows.close_due(6_000_060 * SECOND, &mut told(&mut out));
    assert_eq!(out, [(6_000_000, 0, Synced, 1)]);
}

#[test]
fn what_devices_timed_stays_where_it_is() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Counter, 60_000, 0, 10)]).unwrap();
    let mut out = Vec::new();
    let device = FoldTime { is_own: false, event_ms: 6_000_020 * SECOND, ..own(now(40, Unset)) };
    let _ = windows.fold(device, 0, b"k", 1.0, &mut nothing).unwrap();
    // Two clocks in one window: it stays, and is marked.
    let _ = windows.fold(own(now(40, Unset)), 0, b"k", 1.0, &mut nothing).unwrap();
    let _ = windows.fold(FoldTime { event_ms: 41_000, ..device }, 0, b"k", 1.0, &mut nothing).unwrap();
    assert_eq!(windows.shift(shift(6_000_000, Unset), now(6_000_040, Synced), i64::MAX, &mut nothing), 0);
    windows.close_due(7_000_000 * SECOND, &mut told(&mut out));
    assert_eq!(out, [(0, 0, Unset, 2), (6_000_000, 0, Unset, 1)]);
}

#[test]
fn a_step_of_a_set_clock_takes_the_open_windows_with_it_in_both_directions() {
    for by_s in [3600, -3600, 90, -90] {
        let mut windows = Windows::new(vec![meter("f.m", MeterKind::Counter, 60_000, 0, 10)]).unwrap();
        let mut out = Vec::new();
        for second in [6_000_001, 6_000_029] {
            let _ = windows.fold(own(now(second, Synced)), 0, b"k", 1.0, &mut nothing).unwrap();
        }
        let stepped = 6_000_030 + by_s;
        assert_eq!(windows.shift(shift(by_s, Synced), now(stepped, Synced), i64::MAX, &mut told(&mut out)), 1);
        let _ = windows.fold(own(now(stepped, Synced)), 0, b"k", 1.0, &mut told(&mut out)).unwrap();
        windows.close_due((stepped + 60) * SECOND, &mut told(&mut out));
        assert_eq!((windows.cells(), out.iter().map(|told| told.3).sum::<u64>()), (0, 3), "{by_s}: {out:?}");
        for (start, _, quality, _) in out {
            assert!((stepped - 60..=stepped).contains(&start) && quality == Restored, "{by_s}");
        }
    }
}

#[test]
fn a_step_back_keeps_no_late_value_waiting() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Counter, 1000, 0, 10)]).unwrap();
    let mut out = Vec::new();
    let device = FoldTime { is_own: false, event_ms: 6_000_000 * SECOND, ..own(now(6_003_600, Synced)) };
    let _ = windows.fold(device, 0, b"k", 1.0, &mut nothing).unwrap();
    assert_eq!(windows.shift(shift(-3600, Synced), now(6_000_000, Synced), i64::MAX, &mut nothing), 0);
    windows.close_due(6_000_001 * SECOND, &mut told(&mut out));
    assert_eq!(out, [(6_000_000, 2, Synced, 1)]);
}

#[test]
fn a_device_of_the_far_future_keeps_no_window_when_the_clock_is_set() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Counter, 60_000, 0, 10)]).unwrap();
    let mut out = Vec::new();
    for event_s in [6_000_100, 60_000_000] {
        let device = FoldTime { is_own: false, event_ms: event_s * SECOND, ..own(now(40, Unset)) };
        let _ = windows.fold(device, 0, b"k", 1.0, &mut nothing).unwrap();
    }
    let set = now(6_000_040, Synced);
    assert_eq!(windows.shift(shift(6_000_000, Unset), set, 6_000_340 * SECOND, &mut told(&mut out)), 0);
    assert_eq!((out.as_slice(), windows.cells()), (&[(60_000_000, 0, Unset, 1)][..], 1));
}

/// Own and foreign times, commits, crashes, a clock that is unset at every start and set some time later; everything that
/// upstream gets adds up, and what it gets unmarked is right.
#[test]
fn nothing_is_lost_and_what_is_not_marked_is_right_whatever_the_clock_does() {
    for seed in 0..600 {
        let mut random = Random(seed);
        let kind = KINDS[random.below(3) as usize];
        let length_ms = [1000, 60_000, 3_600_000][random.below(3) as usize];
        let meters = vec![meter("f.m", kind, length_ms, 2000, 6)];
        let mut windows = Windows::new(meters.clone()).unwrap();
        let (mut flash, mut timeline) = (Flash::default(), Timeline::default());
        let mut kept = timeline.kept(Now::default());
        // The true time, when this process began, what its clock said then, and when it is set.
        let mut truth_ms = 1_800_000_000_000 + random.below(1_000_000_000) as i64;
        let (mut start_ms, mut wrong_ms) = (truth_ms, random.below(100_000) as i64);
        let mut set_at_ms = truth_ms + random.below(200_000) as i64;
        let mut upstream: Vec<Aggregate<'static>> = Vec::new();
        let mut turn: Vec<Aggregate<'static>> = Vec::new();
        let (mut committed, mut folded) = (Vec::<(u64, i64)>::new(), Vec::new());
        for _ in 0..300 {
            truth_ms += random.below(2 * length_ms / 10) as i64;
            let mono_us = ((truth_ms - start_ms) * 1000) as u64;
            let is_set = set_at_ms <= truth_ms;
            let wall_ms = if is_set { truth_ms } else { wrong_ms + truth_ms - start_ms };
            let system = Now { mono_us, wall_ms, quality: if is_set { Synced } else { Unset } };
            let mut emit = |_: &MeterDef, aggregate: &Aggregate<'_>| turn.push(owned(aggregate));
            let (now, shift) = timeline.read(system);
            if let Some(shift) = shift {
                windows.shift(shift, now, now.wall_ms + 300_000, &mut emit);
            }
            match random.below(20) {
                0 => {
                    turn.clear();
                    folded.clear();
                    windows = flash.restart(&meters, &mut nothing);
                    (start_ms, wrong_ms) = (truth_ms, random.below(100_000) as i64);
                    set_at_ms = truth_ms + random.below(3) as i64 * 40_000;
                    timeline = Timeline::default();
                    let is_set = set_at_ms <= truth_ms;
                    let wall_ms = if is_set { truth_ms } else { wrong_ms };
                    timeline.restore(kept, Now { mono_us: 0, wall_ms, quality: if is_set { Synced } else { Unset } });
                }
                1..5 => {
                    let mut list = Entries::default();
                    windows.drain_dirty(&mut list);
                    flash.commit(&list);
                    kept = timeline.kept(system);
                    upstream.append(&mut turn);
                    committed.append(&mut folded);
                }
                5..9 => windows.close_due(now.wall_ms, &mut emit),
                _ => {
                    let key = random.below(4);
                    let is_own = random.below(3) > 0;
                    // A device knows the time.
                    let event_ms = if is_own { now.wall_ms } else { truth_ms - random.below(length_ms) as i64 };
                    let true_ms = if is_own { truth_ms } else { event_ms };
                    let at = FoldTime { event_ms, is_own, hold_until_ms: now.wall_ms + 20_000, ..own(now) };
                    let _ = windows.fold(at, 0, format!("{key}").as_bytes(), 1.0, &mut emit).unwrap();
                    folded.push((key, true_ms.div_euclid(length_ms as i64)));
                }
            }
        }
        let mut list = Entries::default();
        windows.close_all(&mut |_, aggregate| turn.push(owned(aggregate)));
        windows.drain_dirty(&mut list);
        flash.commit(&list);
        assert!(flash.0.keys().all(|key| key.len() == 5), "only the definition is left, seed {seed}");
        upstream.append(&mut turn);
        committed.append(&mut folded);
        for key in 0..4 {
            let name = format!("{key}");
            let its = || upstream.iter().filter(|aggregate| aggregate.key == name.as_bytes());
            let count = committed.iter().filter(|(its, _)| *its == key).count() as u64;
            assert_eq!(its().map(|aggregate| aggregate.stats.count).sum::<u64>(), count, "seed {seed}");
            let mut unmarked = BTreeMap::<i64, u64>::new();
            for aggregate in its().filter(|aggregate| aggregate.quality == Synced) {
                *unmarked.entry(aggregate.start_ms / length_ms as i64).or_default() += aggregate.stats.count;
            }
            for (window, count) in unmarked {
                let right = committed.iter().filter(|folded| **folded == (key, window)).count() as u64;
                assert!(count <= right, "seed {seed}: {count} unmarked in window {window}, {right} belong there");
            }
        }
    }
}
