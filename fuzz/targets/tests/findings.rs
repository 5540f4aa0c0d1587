//! What fuzzing found, by name: each was a panic, a path or a file out of proportion before it was mended.
#![allow(clippy::unwrap_used, reason = "a test")]

use weir::entry::{Entries, put_varint};
use weir::frame::{FrameKind, HEADER, Header, salt};
use weir::store::disk::{Disk, DiskFile};
use weir::store::keyed::NoKeyed;
use weir::store::mem_disk::MemDisk;
use weir::store::{Commit, Recovered, Settings, Store};

const SALT: u32 = 7;

fn settings() -> Settings {
    Settings {
        segment_bytes: 16 * 1024,
        journal_bytes_max: 128 * 1024,
        dirty_bytes_max: 8 * 1024,
        salt: SALT,
        lanes: vec!["alerts".to_owned()],
    }
}

/// A header of the journal with a sum that fits, and its body, in a segment of its own.
fn forged(segment: u32, first: u64, body: &[u8]) -> MemDisk {
    let header = Header {
        kind: FrameKind::Journal,
        segment,
        body_len: body.len() as u32,
        body_crc: crc32fast::hash(body),
        first,
        count: 0,
        messages: 0,
        first_message: 0,
        at_ms: 0,
        commit: first,
    };
    let mut bytes = header.encode(salt("journal") ^ SALT).to_vec();
    assert_eq!(bytes.len(), HEADER as usize);
    bytes.extend_from_slice(body);
    bytes.resize(16 * 1024, 0);
    let mut disk = MemDisk::new(4 << 20);
    disk.create_dir("journal").unwrap();
    let file = disk.create(&format!("journal/{segment:010}.seg")).unwrap();
    file.write_at(0, &bytes).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("journal").unwrap();
    disk
}

/// A body with one lane's tail: segment, end, next sequence, next message; and a frame that rides along at an offset.
fn tail(name: &str, numbers: [u64; 4], inline: Option<(u64, &[u8])>) -> Vec<u8> {
    let mut body = vec![1];
    put_varint(&mut body, name.len() as u64);
    body.extend_from_slice(name.as_bytes());
    numbers.iter().for_each(|number| put_varint(&mut body, *number));
    match inline {
        None => body.push(0),
        Some((offset, frame)) => {
            put_varint(&mut body, frame.len() as u64);
            put_varint(&mut body, offset);
            body.extend_from_slice(frame);
        }
    }
    body
}

/// Opens, commits, and opens again: the commit is there.
fn lives_on(disk: &MemDisk) -> Recovered {
    let (mut store, found) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
    let mut list = Entries::default();
    list.put(&[b"k"], b"v");
    store.commit(&Commit { entries: list.bytes(), lanes: &[] }).unwrap();
    drop(store);
    let (_, again) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
    assert_eq!(again.entries.get(&b"k"[..]).map(Vec::as_slice), Some(&b"v"[..]));
    found
}

#[test]
fn forged_frames_with_numbers_at_the_end_of_their_range_are_refused() {
    for first in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 57] {
        lives_on(&forged(1, first, &[0]));
    }
    for segment in [u32::MAX, u32::MAX - 1, (1 << 31) + 1] {
        lives_on(&forged(segment, 1, &[0]));
    }
    let far = u64::from(u32::MAX);
    for numbers in [[far, 64, 2, 1], [1, far, 2, 1], [1, 64, u64::MAX, 1], [1, 64, 2, u64::MAX]] {
        let found = lives_on(&forged(1, 1, &tail("alerts", numbers, None)));
        assert!(found.report.bad_frames > 0, "{numbers:?}: {:?}", found.report);
    }
}

#[test]
fn a_forged_lane_name_is_no_path() {
    for name in ["../../../etc/cron.d", "..", ".", "", "a/b", "/etc", "a\0b", "a\u{1b}[2J", "UPPER"] {
        let disk = forged(1, 1, &tail(name, [1, 64, 2, 1], None));
        let found = lives_on(&disk);
        assert!(found.report.bad_frames > 0, "{name:?}: {:?}", found.report);
        assert_eq!(found.lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>(), ["alerts"], "{name:?}");
        let own = ["journal/", "snapshot/", "lanes/alerts/", "free/", "quarantine/"];
        for (file, _) in disk.files() {
            assert!(own.iter().any(|folder| file.starts_with(folder)) && !file.contains(".."), "{file}");
        }
    }
}

#[test]
fn a_forged_offset_does_not_make_a_file_of_four_gibibytes() {
    let mut disk = forged(1, 1, &tail("alerts", [1, 64, 2, 1], Some((u64::from(u32::MAX) - 64, b"frame"))));
    disk.create_dir("lanes/alerts").unwrap();
    let file = disk.create("lanes/alerts/0000000001.seg").unwrap();
    file.write_at(0, &[0; 4096]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("lanes/alerts").unwrap();
    lives_on(&disk);
    assert!(disk.files().iter().all(|(_, len)| *len <= 32 * 1024), "{:?}", disk.files());
}

/// The numbers of the store's life are in the order of their places, so a forged one is worth no more than those behind it.
#[test]
fn a_forged_commit_number_does_not_hide_later_commits_until_the_next_opening() {
    let disk = MemDisk::new(4 << 20);
    let (mut store, _) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
    let mut list = Entries::default();
    for step in 1..=24u8 {
        list.clear();
        list.put(&[b"k"], &[step; 10]);
        store.commit(&Commit { entries: list.bytes(), lanes: &[] }).unwrap();
        if step == 10 {
            store.snapshot(list.bytes()).unwrap();
        }
    }
    drop(store);
    // Four frames a segment, one a page: the third begins with commit 9. Now it says 193, and the two behind the snapshot are gone.
    disk.damage("journal/0000000003.seg", |bytes| {
        let salt = salt("journal") ^ SALT;
        let header = Header::decode(bytes, FrameKind::Journal, salt, 3).expect("a segment begins with a frame");
        assert_eq!(header.first, 9);
        bytes[..HEADER as usize].copy_from_slice(&Header { first: 193, commit: 193, ..header }.encode(salt));
        bytes[2 * 4096..].fill(0);
    });
    for opening in 1..=3 {
        let (_, found) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
        assert_eq!(found.entries.get(&b"k"[..]), Some(&vec![24; 10]), "opening {opening}");
        assert!(found.report.is_loss(), "{:?}", found.report);
    }
}
