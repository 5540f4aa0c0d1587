//! The store on real files: its thread, its folder, sled, and a process that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use weir::config::StoreConfig;
use weir::effect::{Effects, LaneBatch};
use weir::entry::{Entries, put_varint};
use weir::frame::place;
use weir::shell::sink::Records as _;
use weir::shell::store::{CommitAnswer, Folder, OpenError, StoreHandle};
use weir::store::keyed::NoKeyed;
use weir::store::{Commit, LaneAppend, Recovered, Settings, Store};
use weir::units::{Bytes, Millis};

const LANES: [&str; 2] = ["alerts", "bulk"];
const CHILD: &str = "WEIR_TEST_STORE_CHILD";

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        sled: true,
        sled_cache: Bytes::mib(2),
        flush_interval: Millis(20),
        snapshot_interval: Millis(50),
        segment_bytes: Bytes::kib(64),
        journal_bytes_max: Bytes::mib(1),
    }
}

/// A gateway's loop in miniature: commit `n` sets `n` and puts one record into each lane.
struct Loop {
    store: StoreHandle,
    answers: tokio::sync::mpsc::Receiver<CommitAnswer>,
    recovered: Recovered,
    tails: [(u32, u32); 2],
    effects: Effects,
    done: u64,
}

impl Loop {
    fn open(dir: &Path) -> Result<Self, OpenError> {
        let (store, recovered, answers) = StoreHandle::open(&config(dir), &LANES.map(str::to_owned), 64 * 1024)?;
        let done =
            recovered.entries.get(&b"bn"[..]).map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()));
        let tail = |index: usize| {
            let lane = &recovered.lanes[index];
            lane.extents.last().map_or((lane.next_segment, 0), |extent| (extent.segment, extent.bytes))
        };
        let tails = [tail(0), tail(1)];
        Ok(Self { store, answers, recovered, tails, effects: Effects::default(), done })
    }

    async fn commit(&mut self) {
        let number = self.done + 1;
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        effects.entries.put(&[b"bn"], &number.to_le_bytes());
        effects.entries.put(&[b"s", &(number % 40).to_le_bytes()], &vec![number as u8; (number % 200) as usize]);
        for (index, len) in [(0, 30), (1, 5000)] {
            let records = record(number, len);
            let spot = place(self.tails[index].1, records.len() as u32);
            if spot.end > 64 * 1024 {
                self.tails[index] = (self.tails[index].0 + 1, 0);
            }
            self.tails[index].1 = place(self.tails[index].1, records.len() as u32).end;
            effects.lanes.push(LaneBatch {
                lane: index,
                segment: self.tails[index].0,
                first_seq: number,
                count: 1,
                first_message: number - 1,
                messages: 1,
                at_ms: 0,
                records,
            });
        }
        self.store.commit(effects);
        let answer = self.answers.recv().await.expect("the thread lives");
        answer.result.unwrap();
        (self.effects, self.done) = (answer.effects, number);
        if answer.wants_snapshot {
            self.store.snapshot(self.all());
        }
    }

    /// All entries, as they are after the last commit.
    fn all(&self) -> Vec<u8> {
        let mut all = Entries::default();
        all.put(&[b"bn"], &self.done.to_le_bytes());
        for number in (self.done.saturating_sub(39)).max(1)..=self.done {
            all.put(&[b"s", &(number % 40).to_le_bytes()], &vec![number as u8; (number % 200) as usize]);
        }
        all.bytes().to_vec()
    }

    /// Demands that entries and lanes tell of the same commit, and that every record is there.
    async fn check(&self) {
        let mut wanted = weir::entry::entries(&self.all())
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.key, entry.value.unwrap().to_vec())
            })
            .collect::<std::collections::BTreeMap<_, _>>();
        if self.done == 0 {
            wanted.clear();
        }
        assert_eq!(self.recovered.entries, wanted, "after commit {}", self.done);
        assert!(!self.recovered.report.is_loss(), "{:?}", self.recovered.report);
        for (index, len) in [(0, 30), (1, 5000)] {
            assert_eq!(self.recovered.lanes[index].next_seq, self.done + 1, "lane {index}");
            let (mut seq, mut buffer) = (1, Vec::new());
            while seq <= self.done {
                let (batch, records) = self.store.read(index, seq, 20_000, buffer).await.unwrap();
                assert_eq!((batch.first_seq, batch.lost), (seq, None));
                let wanted: Vec<u8> =
                    (seq..seq + u64::from(batch.records)).flat_map(|number| record(number, len)).collect();
                assert!(records == wanted, "lane {index} at {seq}");
                seq += u64::from(batch.records);
                buffer = records;
            }
        }
    }
}

fn record(number: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, len as u64);
    out.resize(out.len() + len, number as u8);
    out
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

#[test]
fn what_a_killed_process_had_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_that_commits_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("done ")?.parse::<u64>().ok());
        for number in numbers.take(7 + round * 11) {
            acknowledged = number;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        block_on(async {
            let store = Loop::open(dir.path()).unwrap();
            assert!(store.done >= acknowledged, "round {round}: {} of {acknowledged}", store.done);
            store.check().await;
            store.store.close().await;
        });
    }
    assert!(acknowledged > 200);
}

#[test]
#[ignore = "the other process of the test above"]
fn the_child_that_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    block_on(async {
        let mut store = Loop::open(Path::new(&dir)).unwrap();
        loop {
            store.commit().await;
            println!("done {}", store.done);
        }
    });
}

#[test]
fn an_orderly_end_leaves_nothing_to_replay_or_to_repair() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        for round in 1..4 {
            let mut store = Loop::open(dir.path()).unwrap();
            assert_eq!(store.recovered.report, weir::store::Report::default());
            store.check().await;
            for _ in 0..60 {
                store.commit().await;
            }
            store.store.snapshot(store.all());
            store.store.close().await;
            assert_eq!(store.done, round * 60);
        }
    });
}

#[test]
fn one_process_has_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let held = Loop::open(dir.path()).unwrap();
        assert!(matches!(Loop::open(dir.path()), Err(OpenError::Locked(_))));
        held.store.close().await;
        Loop::open(dir.path()).unwrap().store.close().await;
    });
}

#[test]
fn whatever_happens_to_sled_or_the_identity_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cut = |file: &str| {
        let path = dir.path().join(file);
        if let Ok(bytes) = fs::read(&path) {
            fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
        }
    };
    block_on(async {
        for (round, damage) in ["state/db", "state/conf", "identity", "remove", "other"].iter().enumerate() {
            let mut store = Loop::open(dir.path()).unwrap();
            for _ in 0..80 {
                store.commit().await;
            }
            store.store.snapshot(store.all());
            store.commit().await;
            store.store.close().await;
            match *damage {
                "remove" => fs::remove_dir_all(dir.path().join("state")).unwrap(),
                // Still a number, and the wrong one.
                "other" => fs::write(dir.path().join("identity"), "00c0ffee\n").unwrap(),
                file => cut(file),
            }
            let store = Loop::open(dir.path()).unwrap();
            assert_eq!(store.done, (round as u64 + 1) * 81, "{damage}");
            store.check().await;
            store.store.close().await;
        }
    });
}

#[test]
fn sled_gives_back_what_a_lost_snapshot_held() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let mut store = Loop::open(dir.path()).unwrap();
        for _ in 0..100 {
            store.commit().await;
        }
        store.store.snapshot(store.all());
        // The first batches were refused or came before the snapshot: these bring the copy up to date.
        for _ in 0..30 {
            store.commit().await;
        }
        store.store.close().await;
        for entry in fs::read_dir(dir.path().join("snapshot")).unwrap() {
            fs::write(entry.unwrap().path(), b"gone").unwrap();
        }
        let store = Loop::open(dir.path()).unwrap();
        assert!(
            store.recovered.report.healed && store.recovered.report.bad_snapshots > 0,
            "{:?}",
            store.recovered.report
        );
        store.check().await;
        store.store.close().await;
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_with_its_name() {
    let error = Loop::open(Path::new("/proc/weir")).err().expect("nobody writes there").to_string();
    assert!(error.contains("/proc/weir"), "{error}");
}

#[test]
fn sixty_four_mebibytes_of_records_open_in_a_tenth_of_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        segment_bytes: 1 << 20,
        journal_bytes_max: 8 << 20,
        dirty_bytes_max: 1 << 16,
        salt: 1,
        lanes: vec!["bulk".to_owned()],
    };
    let records: Vec<u8> = (0..1000).flat_map(|number| record(number, 1000)).collect();
    let (mut store, _) = Store::open(Folder::new(dir.path()), NoKeyed, &settings).unwrap();
    for number in 0..64 {
        let append = LaneAppend {
            lane: "bulk",
            segment: number + 1,
            first_seq: u64::from(number) * 1000 + 1,
            count: 1000,
            first_message: 0,
            messages: 0,
            at_ms: 0,
            records: &records,
        };
        store.commit(&Commit { entries: &[], lanes: &[append] }).unwrap();
    }
    drop(store);
    // The quickest of a few: other tests share the machine.
    let quickest = (0..5).map(|_| open_ms(dir.path(), &settings)).min();
    assert!(quickest < Some(100), "{quickest:?} ms");
}

#[expect(clippy::disallowed_methods, reason = "a test of time needs a clock")]
fn open_ms(dir: &Path, settings: &Settings) -> u128 {
    let start = std::time::Instant::now();
    let (mut store, recovered) = Store::open(Folder::new(dir), NoKeyed, settings).unwrap();
    let mut out = Vec::new();
    let first = store.read("bulk", 1, 10_000, &mut out).unwrap();
    let took = start.elapsed().as_millis();
    assert_eq!((recovered.lanes[0].next_seq, recovered.lanes[0].extents.len()), (64_001, 64));
    assert_eq!((first.first_seq, first.records), (1, 9));
    took
}

#[test]
fn an_empty_store_that_should_not_be_empty_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let is_gone = |loop_: &Loop| loop_.recovered.report.data_gone;
    block_on(async {
        // A first boot, and another one that never came to a commit.
        for _ in 0..2 {
            let store = Loop::open(dir.path()).unwrap();
            assert!(!is_gone(&store), "nothing was ever here");
            store.store.close().await;
        }
        let mut store = Loop::open(dir.path()).unwrap();
        store.commit().await;
        store.store.close().await;
        for name in ["journal", "snapshot", "lanes", "state", "free"] {
            let _ = fs::remove_dir_all(dir.path().join(name));
        }
        let store = Loop::open(dir.path()).unwrap();
        assert!(is_gone(&store) && store.recovered.report.is_loss());
        store.store.close().await;
        // Meant: whoever removes the identity as well begins anew.
        fs::remove_dir_all(dir.path()).unwrap();
        let store = Loop::open(dir.path()).unwrap();
        assert!(!is_gone(&store));
        store.store.close().await;
    });
}

#[test]
fn a_damaged_identity_over_no_data_is_no_new_store() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        fs::write(dir.path().join("identity"), [0xff, 0, 7]).unwrap();
        let store = Loop::open(dir.path()).unwrap();
        assert!(store.recovered.report.data_gone);
        store.store.close().await;
    });
}
