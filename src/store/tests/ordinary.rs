//! Days without faults.

use super::rig::{LANES, Rig, settings};
use crate::entry::Entries;
use crate::store::keyed::{Image, Keyed, NoKeyed, VALUE_MAX};
use crate::store::mem_disk::MemDisk;
use crate::store::{Commit, CommitError, Flush, LaneAppend, Report, Store};

#[test]
fn what_is_committed_is_there_after_an_orderly_end() {
    for seed in 0..20 {
        let mut rig = Rig::new(&MemDisk::default(), seed);
        rig.open().unwrap();
        for _ in 0..200 {
            rig.step().unwrap();
        }
        rig.check_records("running");
        rig.snapshot().unwrap();
        rig.open_and_check(&format!("seed {seed}"));
        assert_eq!(rig.recovered.report, Report::default());
    }
}

#[test]
fn a_small_commit_costs_one_sync_and_one_page_with_records_or_without() {
    const COMMITS: u64 = 20;
    for records in [false, true] {
        let mut rig = Rig::new(&MemDisk::default(), 1);
        rig.open().unwrap();
        rig.commit([true, true], 40).unwrap();
        let before = rig.store().stats();
        for _ in 0..COMMITS {
            if records {
                rig.append_small().unwrap();
            } else {
                rig.keep_books().unwrap();
            }
        }
        let after = rig.store().stats();
        assert_eq!(after.journal_bytes - before.journal_bytes, COMMITS * 4096);
        // And the syncs for new segments: of their zeros and of their names.
        let segments = COMMITS * 4096 / u64::from(settings().segment_bytes) + 1;
        assert!(after.syncs - before.syncs <= COMMITS + 2 * segments, "{}", after.syncs - before.syncs);
    }
}

#[test]
fn a_thousand_small_commits_overwrite_their_segments_in_place() {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, 3);
    rig.open().unwrap();
    for _ in 0..1000 {
        rig.commit([false, false], 40).unwrap();
        if rig.store().needs_snapshot() {
            rig.snapshot().unwrap();
        }
    }
    let stats = rig.store().stats();
    assert!(stats.fill_bytes <= settings().journal_bytes_max + 2 * 16 * 1024, "{stats:?}");
    assert!(disk.used() <= settings().journal_bytes_max + 2 * 16 * 1024 + 128 * 1024, "{}", disk.used());
    assert!(stats.syncs < 1000 + 3 * stats.snapshots + 500, "{stats:?}");
}

#[test]
fn reading_on_costs_what_is_returned_and_not_what_lies_before() {
    let mut rig = Rig::new(&MemDisk::default(), 5);
    rig.open().unwrap();
    for _ in 0..400 {
        rig.commit([true, false], 300).unwrap();
        if rig.store().needs_snapshot() {
            rig.snapshot().unwrap();
        }
    }
    let (mut seq, mut out, mut seen) = (1, Vec::new(), 0);
    loop {
        let batch = rig.store().read(LANES[0], seq, 1000, &mut out).unwrap();
        if batch.records == 0 {
            break;
        }
        (seq, seen) = (batch.first_seq + u64::from(batch.records), seen + batch.records as usize);
        assert!(out.len() <= 1000);
    }
    assert_eq!(seen, rig.acked.lanes[0].records.len());
    let one = rig.store().read(LANES[0], 5, 1, &mut out).unwrap();
    assert_eq!((one.first_seq, one.records), (5, 1), "one record fits always");
}

#[test]
fn mistakes_of_the_caller_are_told_and_change_nothing() {
    let mut rig = Rig::new(&MemDisk::default(), 6);
    rig.open().unwrap();
    rig.commit([true, false], 40).unwrap();
    let next = rig.acked.lanes[0].records.len() as u64 + 1;
    let good = LaneAppend {
        lane: LANES[0],
        segment: 1,
        first_seq: next,
        count: 1,
        first_message: 0,
        messages: 1,
        at_ms: 0,
        records: b"\x01a",
    };
    for (lanes, why) in [
        (vec![LaneAppend { lane: "nobody", ..good }], "unknown"),
        (vec![LaneAppend { segment: 0, ..good }], "closed"),
        (vec![LaneAppend { first_seq: next + 1, ..good }], "gap"),
        (vec![good, good], "two appends"),
    ] {
        match rig.store().commit(&Commit { entries: &[], lanes: &lanes }) {
            Err(CommitError::Failed(reason)) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    rig.open_and_check("after the mistakes");
}

#[test]
fn the_keyed_store_follows_and_takes_everything_after_it_has_missed_something() {
    let mut rig = Rig::new(&MemDisk::default(), 8);
    rig.open().unwrap();
    rig.commit([false, false], 1).unwrap();
    assert_eq!(rig.store().flush(), Flush::Submitted);
    assert!(matches!(rig.store().flush(), Flush::Stale(Some(_))), "an empty copy joins nothing");
    rig.snapshot().unwrap();
    for _ in 0..60 {
        rig.commit([true, false], 1).unwrap();
        if rig.store().needs_flush() || rig.roll(3) == 0 {
            rig.store().flush();
        }
        if rig.store().needs_snapshot() {
            rig.snapshot().unwrap();
        }
    }
    rig.store().flush();
    if matches!(rig.store().flush(), Flush::Stale(_)) {
        rig.snapshot().unwrap();
    }
    let image = rig.keyed.0.borrow().clone().unwrap_or_default();
    let short = |value: &Vec<u8>| Some(value.clone()).filter(|value| value.len() <= VALUE_MAX);
    let want = rig.acked.entries.iter().map(|(key, value)| (key.clone(), short(value))).collect();
    assert_eq!(image, Image { applied: image.applied, entries: want });
}

#[test]
fn a_store_without_a_keyed_one_needs_none() {
    let disk = MemDisk::default();
    let mut entries = Entries::default();
    entries.put(&[b"k"], b"v");
    let (mut store, _) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
    store.commit(&Commit { entries: entries.bytes(), lanes: &[] }).unwrap();
    assert_eq!(store.flush(), Flush::Nothing);
    assert!(!store.keyed_mut().enabled());
    drop(store);
    let (_, recovered) = Store::open(disk, NoKeyed, &settings()).unwrap();
    assert_eq!(recovered.entries.get(&b"k"[..]), Some(&b"v".to_vec()));
}

#[test]
fn lanes_that_the_settings_no_longer_name_are_still_recovered() {
    let mut rig = Rig::new(&MemDisk::default(), 9);
    rig.open().unwrap();
    rig.commit([true, true], 40).unwrap();
    rig.store = None;
    let only = crate::store::Settings { lanes: vec!["new".into()], ..settings() };
    let (_, recovered) = Store::open(rig.disk.clone(), NoKeyed, &only).unwrap();
    let names: Vec<&str> = recovered.lanes.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["new", "alerts", "bulk"]);
    assert_eq!((recovered.lanes[0].next_seq, recovered.lanes[0].next_segment), (1, 1));
    assert!(recovered.lanes[1].next_seq > 1);
}
