//! Flipped bits, garbage, cut and missing files: the store opens, tells, and never hands out what was not written.

use std::collections::{BTreeMap, BTreeSet};

use super::rig::{LANES, MapKeyed, Model, Rig, settings};
use crate::store::keyed::VALUE_MAX;
use crate::store::mem_disk::MemDisk;
use crate::store::read::TRIES_MAX;
use crate::store::{Recovered, Store, find_salt};

/// Every value that a key ever had.
type History = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// A life of 80 steps, without an orderly end.
fn lived(seed: u64) -> (MemDisk, Model, History) {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, seed);
    let mut history = History::new();
    rig.open().unwrap();
    for _ in 0..80 {
        rig.step().unwrap();
        for (key, value) in &rig.acked.entries {
            history.entry(key.clone()).or_default().insert(value.clone());
        }
    }
    (disk, rig.acked, history)
}

/// Opens a damaged disk without a keyed store's help and checks that all it hands out is true. Records that could be read.
fn open_damaged(disk: &MemDisk, model: &Model, history: &History, context: &str) -> (Recovered, usize) {
    let (mut store, recovered) = Store::open(disk.clone(), MapKeyed::default(), &settings())
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    for (key, value) in &recovered.entries {
        assert!(history.get(key).is_some_and(|values| values.contains(value)), "{context}: a value never written");
    }
    let mut readable = 0;
    for (lane, found) in LANES.iter().zip(&recovered.lanes) {
        let records = &model.lanes[LANES.iter().position(|name| name == lane).unwrap_or(0)].records;
        let (mut seq, mut out) = (found.extents.first().map_or(1, |extent| extent.first_seq), Vec::new());
        while seq < found.next_seq {
            let batch = store.read(lane, seq, 5000, &mut out).unwrap();
            let gap = batch.lost.map_or(0, |lost| lost.until_seq - lost.from_seq);
            assert_eq!(batch.first_seq, seq + gap, "{context}");
            assert!(gap > 0 || batch.records > 0, "{context}: reading does not advance");
            let from = batch.first_seq as usize - 1;
            let want = records[from..from + batch.records as usize].concat();
            assert!(out == want, "{context}: {lane} at {}: other bytes", batch.first_seq);
            seq = batch.first_seq + u64::from(batch.records);
            readable += batch.records as usize;
        }
    }
    (recovered, readable)
}

#[test]
fn a_flipped_bit_anywhere_is_told_or_does_not_matter() {
    let (disk, model, history) = lived(4);
    let (_, all) = open_damaged(&disk.fork(), &model, &history, "undamaged");
    for (name, len) in disk.files() {
        for byte in (0..len).step_by(197) {
            let damaged = disk.fork();
            damaged.flip(&name, byte, (byte % 8) as u8);
            let context = format!("{name}, byte {byte}");
            let (recovered, readable) = open_damaged(&damaged, &model, &history, &context);
            let report = &recovered.report;
            // A header whose first bytes are hit is no header any more: at the journal's end, that is silence.
            let silent = name.starts_with("journal/") && byte % 4096 < 8;
            if recovered.entries != model.entries && !silent {
                assert!(report.torn_tails > 0 || report.is_loss(), "{context}: {report:?}");
            }
            assert!(readable + 6 >= all || report.is_loss() || report.torn_tails > 0 || name.starts_with("lanes/"));
        }
    }
}

#[test]
fn garbage_cut_and_missing_files_never_keep_the_store_from_opening() {
    for seed in [4, 5, 6] {
        let (disk, model, history) = lived(seed);
        for (name, len) in disk.files() {
            for (what, change) in [
                ("zeroed", Box::new(|bytes: &mut Vec<u8>| bytes.fill(0)) as Box<dyn Fn(&mut Vec<u8>)>),
                ("garbage", Box::new(|bytes| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x5a))),
                ("cut in half", Box::new(move |bytes| bytes.truncate(len / 2))),
                ("cut by 1000", Box::new(move |bytes| bytes.truncate(len.saturating_sub(1000)))),
                ("emptied", Box::new(Vec::clear)),
                ("a page zeroed", Box::new(|bytes| bytes.iter_mut().skip(4096).take(4096).for_each(|byte| *byte = 0))),
            ] {
                let damaged = disk.fork();
                damaged.damage(&name, change);
                let context = format!("seed {seed}, {name} {what}");
                open_damaged(&damaged, &model, &history, &context);
                // And again: what the first opening did about it must not be worse than the damage.
                open_damaged(&damaged, &model, &history, &format!("{context}, second time"));
            }
        }
    }
}

#[test]
fn the_keyed_store_heals_a_lost_snapshot_and_a_lost_commit() {
    for prefix in ["snapshot/0", "journal/0"] {
        let disk = MemDisk::default();
        let mut rig = Rig::new(&disk, 9);
        rig.open().unwrap();
        rig.commit([false, false], 1).unwrap();
        // The first flush finds an empty copy; the snapshot fills it.
        rig.store().flush();
        for _ in 0..20 {
            rig.commit([true, false], 40).unwrap();
        }
        rig.snapshot().unwrap();
        for _ in 0..12 {
            rig.commit([true, false], 40).unwrap();
        }
        rig.store().flush();
        for _ in 0..3 {
            rig.commit([true, false], 40).unwrap();
        }
        let victim = disk.files().into_iter().map(|(name, _)| name).find(|name| name.starts_with(prefix));
        // In the journal, the frame of one of the first commits behind the snapshot.
        disk.flip(&victim.expect("there is one"), 8192 + 100, 3);
        if prefix.starts_with("snapshot") {
            disk.damage("snapshot/0000000001.snap", |bytes| bytes[70] ^= 1);
        }
        rig.open().unwrap();
        assert!(rig.recovered.report.healed && !rig.recovered.report.is_loss(), "{:?}", rig.recovered.report);
        assert!(rig.store().needs_snapshot());
        let short = |map: &BTreeMap<Vec<u8>, Vec<u8>>| -> BTreeMap<Vec<u8>, Vec<u8>> {
            map.iter().filter(|(_, value)| value.len() <= VALUE_MAX).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        assert_eq!(short(&rig.recovered.entries), short(&rig.acked.entries), "{prefix}");
    }
}

#[test]
fn without_journal_and_snapshot_the_lanes_keep_their_records() {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, 12);
    rig.open().unwrap();
    for _ in 0..10 {
        rig.commit([true, true], 700).unwrap();
    }
    let wanted = rig.acked.lanes.each_ref().map(|lane| lane.records.len() as u64 + 1);
    for (name, _) in disk.files() {
        if name.starts_with("journal/") {
            disk.damage(&name, Vec::clear);
        }
    }
    rig.keyed = MapKeyed::default();
    rig.open().unwrap();
    assert!(rig.recovered.report.empty_but_expected && rig.recovered.entries.is_empty());
    let found: Vec<u64> = rig.recovered.lanes.iter().map(|lane| lane.next_seq).collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_lost_salt_is_found_in_the_data() {
    let (mut disk, ..) = lived(4);
    assert_eq!(find_salt(&mut disk), Ok(Some(settings().salt)));
    for (name, _) in disk.files() {
        if name.starts_with("snapshot/") {
            disk.damage(&name, Vec::clear);
        }
    }
    assert_eq!(find_salt(&mut disk), Ok(Some(settings().salt)));
    assert_eq!(find_salt(&mut MemDisk::default()), Ok(None));
}

#[test]
fn what_the_medium_cannot_read_now_is_an_error_and_a_loss_only_in_the_end() {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, 1);
    rig.open().unwrap();
    for _ in 0..4 {
        rig.commit([true, true], 3000).unwrap();
    }
    let mut out = Vec::new();
    // Read that lane once, so that its file is open, and another, so that its frame is not at hand.
    for lane in [LANES[1], LANES[0]] {
        assert_eq!(rig.store().read(lane, 1, 1 << 20, &mut out).unwrap().lost, None);
    }
    disk.cut_at(0);
    assert!(rig.commit([true, true], 3000).is_err());
    for _ in 0..TRIES_MAX {
        assert!(rig.store().read(LANES[1], 1, 1 << 20, &mut out).is_err());
    }
    assert!(rig.store().read(LANES[1], 1, 1 << 20, &mut out).unwrap().lost.is_some());
}

/// Zeroes the pages of the newest journal segment from the frame of commit `from` to that of `to`, counted from 0 behind the
/// first frame in it.
fn lose_frames(disk: &MemDisk, from: usize, to: usize) {
    let newest = disk.files().into_iter().map(|(name, _)| name).rfind(|name| name.starts_with("journal/"));
    disk.damage(&newest.expect("there is a journal"), |bytes| {
        let end = bytes.len().min((to + 1) * 4096);
        bytes[from * 4096..end].fill(0);
    });
}

#[test]
fn a_hole_that_hides_where_a_lane_ends_takes_nothing_from_the_lane() {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, 21);
    rig.long_values = false;
    rig.open().unwrap();
    rig.commit([false, false], 1).unwrap();
    rig.commit([true, true], 40).unwrap();
    rig.commit([false, false], 1).unwrap();
    let wanted = rig.acked.lanes.each_ref().map(|lane| lane.records.len() as u64 + 1);
    lose_frames(&disk, 1, 1);
    rig.keyed = MapKeyed::default();
    rig.open().unwrap();
    let report = &rig.recovered.report;
    assert_eq!((report.bad_frames, report.cut_commits, report.is_loss()), (1, 0, true), "{report:?}");
    let found: Vec<u64> = rig.recovered.lanes.iter().map(|lane| lane.next_seq).collect();
    assert_eq!(found, wanted);
    rig.check_records("behind the hole");
    rig.commit([true, true], 40).unwrap();
    rig.check_records("and one more");
}

#[test]
fn commits_lost_at_the_end_are_told_by_what_they_left_in_the_lanes() {
    for (kept, lost) in [(3, 0), (2, 1), (1, 2)] {
        let disk = MemDisk::default();
        let mut rig = Rig::new(&disk, 22);
        rig.long_values = false;
        rig.open().unwrap();
        (0..4).for_each(|_| rig.commit([true, false], 40).unwrap());
        lose_frames(&disk, kept, 3);
        rig.keyed = MapKeyed::default();
        rig.open().unwrap();
        let report = &rig.recovered.report;
        // That the newest one happened, nothing proves.
        assert_eq!((report.cut_commits, report.is_loss()), (lost, lost > 0), "{kept} kept: {report:?}");
        assert_eq!(report.lost_records > 0, lost > 0, "{report:?}");
    }
}

#[test]
fn commits_that_could_not_be_read_once_are_void_when_they_come_back() {
    // Pages of the newest segment of the journal from which on nothing can be read, for one opening.
    for page in 0..4 {
        for behind in 1..6 {
            let context = format!("unreadable from page {page}, {behind} commits later");
            let disk = MemDisk::default();
            let mut rig = Rig::new(&disk, 23 + page as u64);
            rig.long_values = false;
            rig.open().unwrap();
            let mut history = Vec::new();
            // Four frames a segment: the newest is full.
            for _ in 0..12 {
                rig.commit([true, false], 40).unwrap();
                history.push(rig.acked.clone());
            }
            let newest = disk.files().into_iter().map(|(name, _)| name).rfind(|name| name.starts_with("journal/"));
            disk.fail_reads(&newest.expect("there is a journal"), page * 4096..usize::MAX, u64::MAX);
            rig.keyed = MapKeyed::default();
            rig.open().unwrap();
            assert!(rig.recovered.report.is_loss() && rig.store().needs_snapshot(), "{context}");
            let found = history.iter().rfind(|model| model.entries == rig.recovered.entries);
            let lost = history.last().map(|model| model.lanes[0].records.len()).unwrap_or_default();
            let kept = found.unwrap_or_else(|| panic!("{context}: no state that was")).lanes[0].records.len();
            assert!(kept < lost, "{context}: {kept} of {lost} records");
            // Life goes on without them, and then the medium reads well again.
            rig.acked.entries.clone_from(&rig.recovered.entries);
            rig.acked.lanes[0].records.truncate(kept);
            for _ in 0..behind {
                rig.commit([true, false], 700).unwrap();
            }
            disk.fail_reads("", 0..0, 0);
            for again in 1..3 {
                rig.open().unwrap();
                assert_eq!(rig.recovered.entries, rig.acked.entries, "{context}, opening {again}");
                rig.check_records(&context);
            }
            rig.snapshot().unwrap();
            rig.open().unwrap();
            assert!(!rig.recovered.report.is_loss(), "{context}: {:?}", rig.recovered.report);
            assert_eq!(rig.recovered.entries, rig.acked.entries, "{context}, behind a snapshot");
        }
    }
}

#[test]
fn a_read_that_fails_twice_is_tried_again() {
    for prefix in ["journal/", "snapshot/", "lanes/"] {
        let (disk, model, _) = lived(5);
        disk.fail_reads(prefix, 0..usize::MAX, 2);
        let (_, recovered) = Store::open(disk, MapKeyed::default(), &settings()).unwrap();
        assert!(!recovered.report.is_loss(), "{prefix}: {:?}", recovered.report);
        assert_eq!(recovered.entries, model.entries, "{prefix}");
    }
}
