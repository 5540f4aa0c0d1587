//! A full disk is an ordinary day.

use super::rig::Rig;
use crate::store::CommitError;
use crate::store::mem_disk::MemDisk;

/// A rig whose disk has just become too full for records.
fn full(seed: u64, capacity: u64) -> Rig {
    let mut rig = Rig::new(&MemDisk::new(capacity), seed);
    // The reserve is for a state that grows by a quarter between two snapshots, not tenfold.
    rig.long_values = false;
    rig.open().unwrap();
    for _ in 0..30 {
        rig.commit([true, false], 40).unwrap();
        rig.keep_books().unwrap();
        rig.snapshot().unwrap();
        while rig.store().maintain().unwrap() {}
    }
    for _ in 0..10_000 {
        let due = rig.store().needs_snapshot();
        match if due { rig.snapshot() } else { rig.commit([true, true], 700) } {
            Ok(()) => {}
            Err(CommitError::Full) => return rig,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never filled");
}

#[test]
fn bookkeeping_goes_on_for_ever_on_a_disk_that_is_full_of_records() {
    for seed in 0..5 {
        let mut rig = full(seed, 400 * 1024);
        for round in 0..500 {
            if rig.store().needs_snapshot() {
                rig.snapshot().unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            }
            rig.keep_books().unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        }
        assert!(rig.store().stats().commits_full > 0);
        assert!(rig.open_and_check("on the full disk"));
    }
}

#[test]
fn a_full_disk_opens_and_loses_nothing() {
    for seed in 0..5 {
        let mut rig = full(seed, 400 * 1024);
        rig.tried = rig.acked.clone();
        let used = rig.disk.used();
        rig.disk.set_capacity(used);
        assert!(rig.open_and_check(&format!("seed {seed}")));
        rig.keep_books().unwrap();
    }
}

#[test]
fn a_refused_commit_leaves_no_trace_and_may_come_again_in_another_form() {
    for seed in 0..20 {
        let mut rig = full(seed, 300 * 1024 + seed * 3000);
        // Refused again and again, in other sizes and lanes, before and after opening.
        for bytes in [10, 4000, 700, 30] {
            let refused = rig.commit([true, bytes % 3 == 0], bytes);
            assert!(matches!(refused, Ok(()) | Err(CommitError::Full)), "{refused:?}");
        }
        rig.tried = rig.acked.clone();
        assert!(rig.open_and_check(&format!("seed {seed}, full")));
        rig.disk.set_capacity(u64::MAX);
        for bytes in [10, 4000, 700, 30] {
            rig.commit([true, bytes % 3 == 0], bytes).unwrap();
            rig.check_records(&format!("seed {seed}, room again"));
        }
        assert!(rig.open_and_check(&format!("seed {seed}, at last")));
    }
}

#[test]
fn room_given_up_by_one_lane_serves_the_next_commit_at_once() {
    let mut rig = full(3, 400 * 1024);
    let mut taken = 0;
    for _ in 0..200 {
        match rig.commit([true, false], 700) {
            Ok(()) => taken += 1,
            Err(_) => rig.release().unwrap(),
        }
        if rig.store().needs_snapshot() {
            rig.snapshot().unwrap();
        }
    }
    assert!(taken > 50, "{taken}");
    assert!(rig.disk.used() <= 400 * 1024);
}
