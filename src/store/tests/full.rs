//! A full disk is an ordinary day.

use super::rig::Rig;
use crate::store::CommitError;
use crate::store::disk::{Disk as _, DiskError, DiskFile as _};
use crate::store::mem_disk::MemDisk;
use crate::store::segment::{Base, Need, RESERVE};

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

#[test]
fn what_the_journal_can_let_go_is_room_for_a_lane() {
    let mut went = 0;
    for seed in 0..10 {
        let mut rig = full(seed, 400 * 1024);
        // The journal grows until it has taken what there was.
        while rig.store().journal.releasable() == 0 {
            rig.keep_books().unwrap();
        }
        let before = rig.store().journal.segments();
        assert!(rig.store().compact().unwrap(), "seed {seed}");
        assert!(rig.store().journal.segments() < before && !rig.store().compact().unwrap());
        went += u32::from(rig.commit([true, false], 700).is_ok());
        assert!(rig.open_and_check(&format!("seed {seed}")));
    }
    assert!(0 < went);
}

/// Segments of records without an end; the lane gives one and takes one, whatever else has the rest of the disk.
#[test]
fn what_a_lane_gives_it_may_have_again_although_the_journal_has_of_the_reserve() {
    for taken in 0..=RESERVE {
        let disk = MemDisk::default();
        let mut base = Base::open(disk.clone(), 8192, 8).unwrap();
        disk.clone().create_dir("lane").unwrap();
        disk.clone().create_dir("journal").unwrap();
        while base.replenish().unwrap() {}
        base.take("lane", 1, Need::Lane).unwrap();
        disk.set_capacity(disk.used());
        for number in 0..taken {
            base.take("journal", number as u32, Need::Journal).unwrap();
        }
        for number in 1..20 {
            assert_eq!(base.take("lane", number + 1, Need::Lane).err(), Some(DiskError::Full));
            base.give("lane", number, Need::Lane).unwrap();
            base.take("lane", number + 1, Need::Lane).unwrap();
        }
        assert_eq!(base.free_segments(), RESERVE - taken, "no lane has taken of the reserve");
    }
}

#[test]
fn a_frame_larger_than_a_segment_takes_the_room_of_free_ones() {
    let disk = MemDisk::default();
    let mut base = Base::open(disk.clone(), 8192, 16).unwrap();
    disk.clone().create_dir("lane").unwrap();
    while base.replenish().unwrap() {}
    let files: Vec<_> = (0..4).map(|number| base.take("lane", number, Need::Lane).unwrap()).collect();
    disk.set_capacity(disk.used());
    for number in 1..4 {
        base.give("lane", number, Need::Lane).unwrap();
    }
    assert_eq!(base.extend(&files[0], 3 * 8192), Ok(()));
    assert_eq!((files[0].len(), base.free_segments()), (Ok(3 * 8192), RESERVE + 1));
    assert_eq!(base.extend(&files[0], 5 * 8192), Err(DiskError::Full));
    assert_eq!(files[0].len(), Ok(3 * 8192), "what did not fit holds no room");
}

#[test]
fn a_lane_that_has_nothing_may_begin_and_the_journal_goes_on() {
    let disk = MemDisk::default();
    let mut base = Base::open(disk.clone(), 8192, 8).unwrap();
    disk.clone().create_dir("lane").unwrap();
    disk.clone().create_dir("journal").unwrap();
    while base.replenish().unwrap() {}
    disk.set_capacity(disk.used());
    assert_eq!(base.take("lane", 1, Need::Lane).err(), Some(DiskError::Full));
    base.take("lane", 1, Need::EmptyLane).unwrap();
    assert_eq!(base.take("lane", 2, Need::EmptyLane).err(), Some(DiskError::Full));
    base.take("journal", 1, Need::Journal).unwrap();
}
