//! A store of damaged or forged files.
//!
//! Input: one byte, what it is; then:
//! - 0: files as they are: a byte for the name, two for the length (little-endian), the content;
//! - 1: damage to the files of a store that lived a while: steps of a byte for the file, two for the place, one for what to do;
//! - 2: the same, and then every header and body gets a sum that fits: not damage, but forgery;
//! - 3: damage to the entries that a gateway finds, whatever store they come from.
//!
//! The store must open, hand out what it says it has, take a commit, and have it when it is opened again.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use weir::entry::{Entries, entries};
use weir::frame::{FrameKind, HEADER, salt};
use weir::store::disk::{Disk, DiskFile};
use weir::store::keyed::NoKeyed;
use weir::store::mem_disk::MemDisk;
use weir::store::{Commit, CommitError, LaneAppend, LaneRecovered, Recovered, Settings, Store, find_salt};

use crate::restore;

pub(crate) const WORDS: &[&[u8]] = &[
    b"wJ01",
    b"wL01",
    b"wS01",
    b"\x01\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x06alerts",
    b"\x06../../",
    b"\x0b/etc/cron.d",
    b"bbooks",
    b"bclock",
    b"lalerts",
    b"sf\0k",
    b"uf",
    b"\0\0",
    b"\x01\x00\x00\x00",
    b"\x02\x10\x00\x03",
];

const LANES: [&str; 2] = ["alerts", "bulk"];
const SEGMENT: u32 = 16 * 1024;
type Files = BTreeMap<String, Vec<u8>>;

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        journal_bytes_max: 128 * 1024,
        dirty_bytes_max: 8 * 1024,
        salt: 7,
        lanes: LANES.map(str::to_owned).to_vec(),
    }
}

pub(crate) fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    match how % 4 {
        0 => live_on(&raw(rest)),
        1 => live_on(&damaged(rest)),
        2 => {
            let mut files = damaged(rest);
            files.iter_mut().for_each(|(name, bytes)| forge(name, bytes));
            live_on(&files);
        }
        _ => restore::run(rest),
    }
}

const NAMES: [&str; 12] = [
    "journal/0000000001.seg",
    "journal/0000000002.seg",
    "journal/4294967295.seg",
    "snapshot/0000000001.snap",
    "snapshot/4294967295.snap",
    "snapshot/snapshot.tmp",
    "lanes/alerts/0000000001.seg",
    "lanes/bulk/0000000002.seg",
    "lanes/bulk/4294967295.seg",
    "lanes/stray/0000000001.seg",
    "free/0000000003.seg",
    "free/4294967295.seg",
];

fn raw(mut rest: &[u8]) -> Files {
    let mut files = Files::new();
    while let Some((&[name, low, high], behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        files.insert(NAMES[usize::from(name) % NAMES.len()].to_owned(), behind[..len].to_vec());
        rest = &behind[len..];
    }
    files
}

/// The files of a store that lived a while, made once.
fn lived() -> &'static Files {
    static LIVED: OnceLock<Files> = OnceLock::new();
    LIVED.get_or_init(|| {
        let disk = MemDisk::default();
        let (mut store, _) = Store::open(disk.clone(), NoKeyed, &settings()).expect("an empty disk opens");
        let mut life = Life::default();
        for step in 0..24u64 {
            life.commit(&mut store, step).expect("there is room");
            if step == 9 {
                let mut all = Entries::default();
                life.values.iter().for_each(|(key, value)| all.put(&[key], value));
                store.snapshot(all.bytes()).expect("there is room");
            }
        }
        drop(store);
        files_of(&disk)
    })
}

#[derive(Default)]
struct Life {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    next_seq: [u64; 2],
}

impl Life {
    fn commit(&mut self, store: &mut Store<MemDisk, NoKeyed>, step: u64) -> Result<(), CommitError> {
        let mut list = Entries::default();
        for key in 0..3 {
            let (key, value) =
                (format!("k{}", (step + key) % 7).into_bytes(), vec![step as u8; 10 + 60 * key as usize]);
            list.put(&[&key], &value);
            self.values.insert(key, value);
        }
        // Small frames in one lane, which share pages and ride in the journal, and big ones in the other.
        let records = [record(40), record(3000)];
        let appends: Vec<LaneAppend<'_>> = LANES
            .iter()
            .zip(&records)
            .zip(&mut self.next_seq)
            .map(|((lane, records), next)| {
                let first_seq = *next + 1;
                *next += 1;
                let segment = 1 + (step / 8) as u32;
                LaneAppend {
                    lane,
                    segment,
                    first_seq,
                    count: 1,
                    first_message: *next - 1,
                    messages: 1,
                    at_ms: 5,
                    records,
                }
            })
            .collect();
        store.commit(&Commit { entries: list.bytes(), lanes: &appends })
    }
}

fn record(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    weir::entry::put_varint(&mut out, len as u64);
    out.resize(out.len() + len, 0x5a);
    out
}

fn files_of(disk: &MemDisk) -> Files {
    let mut disk = disk.clone();
    let names: Vec<(String, usize)> = disk.files();
    let mut files = Files::new();
    for (name, len) in names {
        let mut bytes = vec![0; len];
        let file = disk.open(&name).expect("the power is on").expect("a file that is listed is there");
        file.read_at(0, &mut bytes).expect("the power is on");
        files.insert(name, bytes);
    }
    files
}

fn damaged(steps: &[u8]) -> Files {
    let mut files = lived().clone();
    for step in steps.chunks_exact(5).take(400) {
        let names: Vec<String> = files.keys().cloned().collect();
        let Some(name) = names.get(usize::from(step[0]) % names.len().max(1)) else { break };
        let Some(bytes) = files.get_mut(name) else { break };
        // Nearer to the front more often: that is where the numbers are.
        let place = usize::from(u16::from_le_bytes([step[1], step[2]])) % SEGMENT as usize;
        let place = if step[3] & 0x40 == 0 { place % 256 + (place / 4096) * 4096 } else { place };
        match step[3] % 8 {
            0 | 1 => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = step[4]),
            2 => bytes.iter_mut().skip(place).take(8).for_each(|byte| *byte = step[4]),
            3 => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << (step[4] % 8)),
            4 => bytes.truncate(place),
            5 => {
                let copy = bytes.clone();
                files.insert(NAMES[usize::from(step[4]) % NAMES.len()].to_owned(), copy);
            }
            6 => drop(files.remove(name)),
            _ => bytes.iter_mut().skip(place / 4096 * 4096).take(4096).for_each(|byte| *byte = 0),
        }
    }
    files
}

/// Gives every frame in a file sums that fit what it says, so that only the meaning can be wrong.
fn forge(name: &str, bytes: &mut [u8]) {
    let log = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    // A snapshot has the salt of the journal.
    let salted = salt(if log == "snapshot" { "journal" } else { log }) ^ settings().salt;
    let kinds = [FrameKind::Journal, FrameKind::Lane, FrameKind::Snapshot].map(|kind| (kind as u32).to_le_bytes());
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    for at in (0..bytes.len()).step_by(64) {
        let Some(frame) = bytes.get_mut(at..).filter(|frame| frame.len() >= HEADER as usize) else { break };
        if !kinds.iter().any(|kind| frame.starts_with(kind)) {
            continue;
        }
        let body_len = (number(frame, 8) as usize).min(frame.len() - HEADER as usize);
        frame[8..12].copy_from_slice(&(body_len as u32).to_le_bytes());
        let body_crc = crc32fast::hash(&frame[HEADER as usize..HEADER as usize + body_len]);
        frame[12..16].copy_from_slice(&body_crc.to_le_bytes());
        frame[56..60].copy_from_slice(&salted.to_le_bytes());
        let header_crc = crc32fast::hash(&frame[..60]);
        frame[60..64].copy_from_slice(&header_crc.to_le_bytes());
    }
}

fn disk_of(files: &Files) -> MemDisk {
    let mut disk = MemDisk::new(8 << 20);
    for (name, bytes) in files {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        disk.create_dir(folder).expect("the power is on");
        let file = disk.create(name).expect("the power is on");
        file.write_at(0, bytes).expect("there is room");
        file.sync_data().expect("the power is on");
        disk.sync_dir(folder).expect("the power is on");
    }
    disk
}

fn live_on(files: &Files) {
    let disk = disk_of(files);
    let _ = find_salt(&mut disk.clone()).expect("the disk is well");
    let open =
        || Store::open(disk.clone(), NoKeyed, &settings()).unwrap_or_else(|error| panic!("does not open: {error}"));
    let (mut store, recovered) = open();
    check_names(&disk);
    let read = read_all(&mut store, &recovered);
    drop(store);
    // What the first opening did about the damage must not be worse than the damage.
    let (mut store, again) = open();
    assert_eq!(again.entries, recovered.entries);
    let read_again = read_all(&mut store, &again);
    assert!(read <= read_again, "{read} records before, {read_again} after");
    // And it lives on: a commit counts, through another opening and a snapshot.
    let mut wanted = again.entries.clone();
    wanted.insert(b"zlives".to_vec(), b"on".to_vec());
    let mut list = Entries::default();
    list.put(&[b"zlives"], b"on");
    let bulk = record(20);
    let found = again.lanes.iter().find(|lane| lane.name == "alerts").expect("a lane of the settings");
    let append = LaneAppend {
        lane: "alerts",
        segment: found.next_segment,
        first_seq: found.next_seq,
        count: 1,
        first_message: found.next_message,
        messages: 0,
        at_ms: 9,
        records: &bulk,
    };
    match store.commit(&Commit { entries: list.bytes(), lanes: &[append] }) {
        Ok(()) => {}
        // Segments of a forger's take room as others do.
        Err(CommitError::Full) => return,
        Err(error) => panic!("cannot commit: {error}"),
    }
    drop(store);
    let (mut store, after) = open();
    assert_eq!(after.entries, wanted, "the commit is not there");
    let mut out = Vec::new();
    let batch = store.read("alerts", append.first_seq, 4096, &mut out).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((batch.records, batch.lost, &out), (1, None, &bulk));
    let mut all = Entries::default();
    wanted.iter().for_each(|(key, value)| all.put(&[key], value));
    match store.snapshot(all.bytes()) {
        Ok(()) | Err(CommitError::Full) => {}
        Err(error) => panic!("cannot make a snapshot: {error}"),
    }
    drop(store);
    assert_eq!(open().1.entries, wanted, "the snapshot is not what it was made of");
}

/// Whatever names a forger wrote, nothing was made outside of the store's own folders, and nothing grew out of proportion.
fn check_names(disk: &MemDisk) {
    for (name, len) in disk.files() {
        let own =
            ["journal/", "snapshot/", "lanes/", "free/", "quarantine/"].iter().any(|folder| name.starts_with(folder));
        assert!(own && !name.split('/').any(|part| matches!(part, ".." | "." | "")), "{name}");
        assert!(len <= 2 * SEGMENT as usize, "{name} has {len} bytes");
    }
}

/// Reads every lane to its end; how many records there are.
fn read_all(store: &mut Store<MemDisk, NoKeyed>, recovered: &Recovered) -> u64 {
    recovered.lanes.iter().map(|lane| read_lane(store, lane)).sum()
}

fn read_lane(store: &mut Store<MemDisk, NoKeyed>, lane: &LaneRecovered) -> u64 {
    let (mut seq, mut out, mut read) =
        (lane.extents.first().map_or(lane.next_seq, |extent| extent.first_seq), Vec::new(), 0);
    // Frames are at least a cell long, so this ends; a loop that does not advance would not.
    for _ in 0..20_000 {
        if lane.next_seq <= seq {
            return read;
        }
        let batch = store.read(&lane.name, seq, 5000, &mut out).unwrap_or_else(|error| panic!("{error}"));
        assert!(seq <= batch.first_seq && batch.first_seq <= lane.next_seq, "{batch:?} of {lane:?}");
        let next = batch.first_seq + u64::from(batch.records);
        assert!(seq < next || batch.lost.is_some(), "reading does not advance: {batch:?} at {seq} of {lane:?}");
        (seq, read) = (next, read + u64::from(batch.records));
    }
    panic!("reading does not end: {lane:?} at {seq}");
}

/// The entries of a list that was damaged: as many as can be read.
pub(crate) fn readable(bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in entries(bytes) {
        let Ok(entry) = entry else { break };
        match entry.value {
            Some(value) => drop(found.insert(entry.key, value.to_vec())),
            None => drop(found.remove(&entry.key)),
        }
    }
    found
}
