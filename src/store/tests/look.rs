//! Looking without touching: a store opened over an overlay is the store, and a survey charges damage to its file.

use super::rig::{LANES, MapKeyed, Rig, settings};
use crate::store::keyed::NoKeyed;
use crate::store::mem_disk::MemDisk;
use crate::store::overlay::Overlay;
use crate::store::survey::{LaneRange, Survey, survey};
use crate::store::{LaneRecovered, Recovered, Store};

fn lived(seed: u64) -> MemDisk {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, seed);
    rig.open().unwrap();
    (0..80).for_each(|_| rig.step().unwrap());
    disk
}

fn content(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    use crate::store::disk::{Disk as _, DiskFile as _};
    let (mut disk, files) = (disk.clone(), disk.files());
    let read = |(name, len): (String, usize)| {
        let mut bytes = vec![0; len];
        disk.open(&name).unwrap().unwrap().read_at(0, &mut bytes).unwrap();
        (name, bytes)
    };
    files.into_iter().map(read).collect()
}

/// Opens over an overlay and surveys.
fn look(disk: &MemDisk) -> (Recovered, Survey) {
    look_with(disk, &[])
}

/// The same, where runs of records have left every lane before their turn.
fn look_with(disk: &MemDisk, left: &[(u64, u64, u64)]) -> (Recovered, Survey) {
    let over = Overlay::new(disk.clone());
    let (_, recovered) = Store::open(over.clone(), NoKeyed, &settings()).unwrap();
    let range = |lane: &LaneRecovered| LaneRange {
        name: lane.name.clone(),
        head_seq: lane.extents.first().map_or(lane.next_seq, |extent| extent.first_seq),
        head_message: lane.extents.first().map_or(lane.next_message, |extent| extent.first_message),
        next_seq: lane.next_seq,
        next_message: lane.next_message,
        left: left.to_vec(),
    };
    let ranges: Vec<LaneRange> = recovered.lanes.iter().map(range).collect();
    let found = survey(&mut disk.clone(), &mut over.clone(), settings().salt, &ranges).unwrap();
    (recovered, found)
}

#[test]
fn what_an_overlay_opens_is_what_a_start_opens_and_nothing_is_touched() {
    for seed in 0..20 {
        let disk = lived(seed);
        let before = content(&disk);
        let (recovered, found) = look(&disk);
        assert_eq!(content(&disk), before, "seed {seed}");
        let (_, real) = Store::open(disk.fork(), MapKeyed::default(), &settings()).unwrap();
        assert_eq!(recovered, real, "seed {seed}");
        assert_eq!(found.damaged().count(), 0, "seed {seed}: {found:?}");
        let frames: u64 = found.journal.iter().map(|file| file.frames).sum();
        assert!(frames > 0 && LANES.iter().all(|name| found.lanes.iter().any(|lane| lane.name == *name)));
    }
}

#[test]
fn a_damaged_lane_segment_is_charged_with_its_records() {
    let mut charged = 0;
    for seed in 0..20 {
        let disk = lived(seed);
        let (_, sound) = look(&disk);
        // Frames of the journal's copy heal small ones, so a whole old segment is destroyed.
        let lane = sound.lanes.iter().find(|lane| lane.files.len() > 1);
        let Some(victim) = lane.map(|lane| lane.files[lane.files.len() - 2].clone()) else { continue };
        disk.damage(&victim.path, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
        let (_, found) = look(&disk);
        let files: Vec<_> = found.damaged().collect();
        let records: u64 = files.iter().map(|file| file.missing).sum();
        // Of the oldest segment the range that is left does not tell; of any other all records are missed.
        if victim.path != sound.lanes.iter().find(|lane| lane.files.contains(&victim)).unwrap().files[0].path {
            assert!(files.iter().any(|file| file.path == victim.path), "seed {seed}: {victim:?} {files:?}");
            assert!(0 < records && records <= victim.last + 1 - victim.first, "seed {seed}: {records} of {victim:?}");
            charged += 1;
        }
    }
    assert!(charged > 0, "no seed had a lane of three segments");
}

#[test]
fn a_segment_that_went_before_its_turn_is_missed_by_nobody() {
    let mut tried = 0;
    for seed in 0..20 {
        let disk = lived(seed);
        let (_, sound) = look(&disk);
        let Some(lane) = sound.lanes.iter().find(|lane| lane.files.len() > 2) else { continue };
        let victim = &lane.files[1];
        let number: u32 = victim.path.rsplit('/').next().unwrap().split('.').next().unwrap().parse().unwrap();
        let (mut store, _) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
        store.release_range(&lane.name, number..number + 1).unwrap();
        drop(store);
        let missing = |survey: &Survey| {
            let files = survey.lanes.iter().find(|its| its.name == lane.name).unwrap().files.iter();
            files.fold((0, 0), |sum, file| (sum.0 + file.missing, sum.1 + file.missing_messages))
        };
        let (records, messages) = missing(&look(&disk).1);
        assert_eq!(records, victim.last + 1 - victim.first, "seed {seed}");
        let left = [(victim.first, victim.last + 1, messages)];
        assert_eq!(missing(&look_with(&disk, &left).1), (0, 0), "seed {seed}");
        tried += 1;
    }
    assert!(tried > 0, "no seed had a lane of three segments");
}
