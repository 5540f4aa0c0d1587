//! Lanes that roll up, over the real store on a disk in memory: whatever upstream and crashes do, totals are exact, the lane
//! stays within its bytes, and every gap in the sequences is explained.
#![allow(missing_docs, clippy::unwrap_used)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use weir::books::{Books, DropReason};
use weir::config::{Drain, FullPolicy, LaneConfig};
use weir::dead_letter::Loss;
use weir::effect::{LaneBatch, READ_BYTES, Read, Release};
use weir::entry::Entries;
use weir::manifest::MeterKind;
use weir::outbox::{Fetched, Lane, Offer, Outbox, Outcome, Settled};
use weir::record::{Record, RecordKind};
use weir::store::keyed::NoKeyed;
use weir::store::mem_disk::MemDisk;
use weir::store::{Commit, LaneAppend, Settings, Store};
use weir::time::{Now, TimeQuality};
use weir::units::{Bytes, Millis};
use weir::window::sketch::Mapping;
use weir::window::{Aggregate, Stats};

const KINDS: [MeterKind; 3] = [MeterKind::Counter, MeterKind::Gauge, MeterKind::Distribution];
const SEGMENT: u32 = 8192;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// (meter, key): everything, whatever the windows.
type Totals = BTreeMap<(String, Vec<u8>), Stats>;

#[derive(Default)]
struct Upstream {
    seen: BTreeMap<u64, Vec<u8>>,
    totals: Totals,
    /// Numbers of messages.
    messages: BTreeSet<u64>,
    losses: Vec<(String, u64, core::ops::RangeInclusive<u64>)>,
    lengths: BTreeSet<i64>,
}

impl Upstream {
    fn take(&mut self, seq: u64, bytes: &[u8]) {
        if let Some(before) = self.seen.insert(seq, bytes.to_vec()) {
            assert_eq!(before, bytes, "another content under sequence {seq}");
            return;
        }
        let record = Record::take(&mut &*bytes).unwrap();
        match record.kind {
            RecordKind::Aggregate => {
                let aggregate = Aggregate::decode(record.payload).unwrap();
                self.lengths.insert(aggregate.end_ms - aggregate.start_ms);
                let stats = &aggregate.stats;
                let within = |at_ms: i64| (aggregate.start_ms..aggregate.end_ms).contains(&at_ms);
                assert!(aggregate.kind == MeterKind::Counter || within(stats.first_at_ms) && within(stats.last_at_ms));
                add(&mut self.totals, &aggregate);
            }
            RecordKind::Loss => {
                let loss = Loss::decode(record.payload).unwrap();
                let range = loss.first_seq..=loss.through_seq;
                self.losses.push((loss.reason.into_owned(), loss.messages, range));
            }
            _ => assert!(self.messages.insert(u64::from_le_bytes(record.payload[..8].try_into().unwrap())), "twice"),
        }
    }

    fn assert_gaps_are_explained(&self) {
        let last = self.seen.keys().last().copied().unwrap_or(0);
        for gap in (1..=last).filter(|seq| !self.seen.contains_key(seq)) {
            assert!(
                self.losses.iter().any(|(_, _, range)| range.contains(&gap)),
                "{gap} is missing: {:?}",
                self.losses
            );
        }
    }
}

fn add(totals: &mut Totals, aggregate: &Aggregate<'_>) {
    let stats = totals.entry((aggregate.meter.to_owned(), aggregate.key.to_vec())).or_default();
    stats.merge(&aggregate.stats);
}

/// What a commit makes true: the aggregates and messages that were offered.
#[derive(Default)]
struct Truth {
    totals: Totals,
    messages: BTreeSet<u64>,
}

struct World {
    disk: MemDisk,
    config: LaneConfig,
    store: Store<MemDisk, NoKeyed>,
    outbox: Outbox,
    books: Books,
    committed_books: Books,
    open: Vec<(Aggregate<'static>, Option<u64>)>,
    releases: Vec<Release>,
    reads: Vec<Read>,
    truth: Truth,
    upstream: Upstream,
    /// How far the sink may read, as of the last commit; what it sends next; whether it has a connection.
    readable_seq: u64,
    next_seq: u64,
    is_up: bool,
    now_ms: i64,
    bytes_most: u64,
    commits: u64,
}

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        journal_bytes_max: 1 << 20,
        dirty_bytes_max: 1 << 20,
        salt: 7,
        lanes: vec!["t".into()],
    }
}

impl World {
    fn new(bytes_max: u64, roll_up: &[u64]) -> Self {
        let config = LaneConfig {
            name: "t".into(),
            topics: vec!["#".parse().unwrap()],
            bytes_max: Bytes(bytes_max),
            ttl: None,
            full: FullPolicy::RollUp,
            roll_up: roll_up.iter().map(|length| Millis(*length)).collect(),
            drain: Drain::InOrder,
            priority: 0,
            sink: None,
        };
        let disk = MemDisk::default();
        let (store, _) = Store::open(disk.clone(), NoKeyed, &settings()).unwrap();
        let outbox = Outbox::new(std::slice::from_ref(&config), u64::from(SEGMENT));
        Self {
            disk,
            config,
            store,
            outbox,
            books: Books::default(),
            committed_books: Books::default(),
            open: Vec::new(),
            releases: Vec::new(),
            reads: Vec::new(),
            truth: Truth::default(),
            upstream: Upstream::default(),
            readable_seq: 0,
            next_seq: 1,
            is_up: false,
            now_ms: 1_800_000_000_000,
            bytes_most: 0,
            commits: 0,
        }
    }

    fn lane(&self) -> &Lane {
        &self.outbox.lanes()[0]
    }

    fn now(&self) -> Now {
        Now { mono_us: 0, wall_ms: self.now_ms, quality: TimeQuality::Synced }
    }

    /// The aggregates of one window of a second: a value for each key of each kind of meter.
    fn window(&mut self, random: &mut Random, keys: u64) {
        let start_ms = self.now_ms - self.now_ms.rem_euclid(1000);
        self.now_ms += 1000;
        for kind in KINDS {
            for key in 0..keys {
                let mut stats = Stats::default();
                for _ in 0..1 + random.below(2) {
                    let value = random.below(1_000_000) as f64 / 1000.0;
                    stats.fold(kind, &Mapping::default(), start_ms + random.below(1000) as i64, value);
                }
                let aggregate = Aggregate {
                    meter: ["f.count", "f.gauge", "f.spread"][kind as usize],
                    unit: "C",
                    kind,
                    key: format!("device-{key}").leak().as_bytes(),
                    start_ms,
                    end_ms: start_ms + 1000,
                    revision: 0,
                    quality: TimeQuality::Synced,
                    stats: Cow::Owned(stats),
                };
                let mut payload = Vec::new();
                aggregate.encode(&mut payload);
                self.offer(RecordKind::Aggregate, &payload);
                self.open.push((aggregate, None));
            }
        }
    }

    fn message(&mut self, number: u64) {
        self.books.received += 1;
        let payload = [&number.to_le_bytes()[..], &[7; 100]].concat();
        let (sequence, start) = self.offer(RecordKind::Message, &payload);
        self.outbox.close_message(0, sequence, start);
        let (meter, kind, stats) = ("", MeterKind::Counter, Cow::Owned(Stats::default()));
        let (unit, quality) = ("", TimeQuality::Synced);
        let none = Aggregate { meter, unit, kind, key: b"", start_ms: 0, end_ms: 0, revision: 0, quality, stats };
        self.open.push((none, Some(number)));
    }

    fn offer(&mut self, kind: RecordKind, payload: &[u8]) -> (u64, usize) {
        let record = Record {
            kind,
            closes_message: false,
            at_ms: self.now_ms,
            quality: TimeQuality::Synced,
            hops: 0,
            source: "f",
            topic: "meter/f",
            payload,
        };
        match self.outbox.offer(0, &record, &mut self.books, &mut self.releases) {
            Offer::Queued { sequence, start, .. } => (sequence, start),
            other => panic!("{other:?}"),
        }
    }

    fn check(&mut self) {
        assert_eq!(self.books.residue(self.outbox.messages_pending()), 0);
        self.bytes_most = self.bytes_most.max(self.lane().bytes());
        assert!(self.lane().bytes() <= self.config.bytes_max.0, "{}", self.lane().bytes());
    }

    /// Seals and commits; with `dies` the process ends before anything of what follows the commit is carried out.
    fn commit(&mut self, dies: bool) {
        let (mut entries, mut batches) = (Entries::default(), Vec::<LaneBatch>::new());
        let scratch = (&mut self.reads, &mut Vec::new());
        self.outbox.seal(
            Now { mono_us: 0, wall_ms: self.now_ms, quality: TimeQuality::Synced },
            self.now_ms,
            &mut batches,
            &mut entries,
            scratch,
        );
        let append = |batch: &LaneBatch| LaneAppend {
            lane: "t",
            segment: batch.segment,
            first_seq: batch.first_seq,
            count: batch.count,
            first_message: batch.first_message,
            messages: batch.messages,
            at_ms: batch.at_ms,
            records: Vec::leak(batch.records.clone()),
        };
        let lanes: Vec<LaneAppend<'_>> = batches.iter().map(append).collect();
        self.store.commit(&Commit { entries: entries.bytes(), lanes: &lanes }).unwrap();
        for (aggregate, message) in self.open.drain(..) {
            match message {
                Some(number) => assert!(self.truth.messages.insert(number)),
                None => add(&mut self.truth.totals, &aggregate),
            }
        }
        self.committed_books = self.books.clone();
        self.check();
        self.commits += 1;
        if dies {
            return self.restart();
        }
        for release in self.releases.drain(..) {
            self.store.release_range("t", release.from_segment..release.below_segment).unwrap();
        }
        self.readable_seq = self.lane().readable_seq();
        if self.commits.is_multiple_of(20) {
            let mut all = Entries::default();
            self.outbox.export(&mut all);
            self.store.snapshot(all.bytes()).unwrap();
        }
    }

    /// Reads back what the lane asks for, one piece or all.
    fn fetch(&mut self, all: bool) {
        while let Some(read) = self.reads.pop() {
            let mut records = Vec::new();
            let batch = self.store.read("t", read.from_seq, READ_BYTES.as_usize() / 16, &mut records).unwrap();
            let fetched = Fetched { first_seq: batch.first_seq, records: &records, lost: batch.lost };
            assert_eq!(batch.lost, None);
            let (now, back) = (self.now(), (&mut self.releases, &mut self.reads));
            self.outbox.fetched(0, Some(&fetched), now, &mut self.books, back);
            self.check();
            if !all {
                break;
            }
        }
    }

    fn set_up(&mut self, is_up: bool) {
        self.is_up = is_up;
        self.outbox.upstream(0, is_up);
        // A new connection sends again what was not settled.
        self.next_seq = self.lane().head_seq();
    }

    /// Sends some records; those before `settled` of them are acknowledged, the rest into the void.
    fn deliver(&mut self, count: u64, acknowledged: bool) {
        let mut settled = Vec::new();
        self.next_seq = self.next_seq.max(self.lane().head_seq());
        for _ in 0..count {
            if !self.is_up || self.readable_seq <= self.next_seq {
                break;
            }
            let mut bytes = Vec::new();
            let batch = self.store.read("t", self.next_seq, 1, &mut bytes).unwrap();
            assert_eq!((batch.first_seq, batch.records, batch.lost), (self.next_seq, 1, None));
            self.upstream.take(self.next_seq, &bytes);
            let closes_message = Record::take(&mut bytes.as_slice()).unwrap().closes_message;
            settled.push(Settled { sequence: self.next_seq, closes_message, outcome: Outcome::Delivered });
            self.next_seq += 1;
        }
        if acknowledged && settled.first().is_some_and(|first| first.sequence == self.lane().head_seq()) {
            self.outbox.settle(0, &settled, &mut self.books, &mut self.releases);
            self.check();
        }
    }

    /// The process dies; another one finds what is on the disk.
    fn restart(&mut self) {
        let (store, recovered) = Store::open(self.disk.clone(), NoKeyed, &settings()).unwrap();
        assert!(!recovered.report.is_loss(), "{:?}", recovered.report);
        self.store = store;
        self.outbox = Outbox::new(std::slice::from_ref(&self.config), u64::from(SEGMENT));
        self.outbox.recover(recovered.lanes);
        for (key, value) in &recovered.entries {
            self.outbox.restore(key, value).unwrap();
        }
        self.books = self.committed_books.clone();
        (self.open, self.releases, self.reads) = Default::default();
        self.outbox.recovered(&mut self.books, &mut self.releases);
        for release in self.releases.drain(..) {
            self.store.release_range("t", release.from_segment..release.below_segment).unwrap();
        }
        self.readable_seq = self.lane().readable_seq();
        self.is_up = false;
        self.next_seq = self.lane().head_seq();
        self.check();
    }

    /// Upstream is there until everything has arrived.
    fn drain(&mut self) {
        self.set_up(true);
        for _ in 0..100_000 {
            if self.lane().records_pending() == 0 {
                return;
            }
            self.commit(false);
            self.fetch(true);
            self.deliver(500, true);
        }
        panic!("it does not drain: {} records are pending", self.lane().records_pending());
    }

    fn assert_exact(&self) {
        self.upstream.assert_gaps_are_explained();
        assert_eq!(self.upstream.totals.keys().collect::<Vec<_>>(), self.truth.totals.keys().collect::<Vec<_>>());
        for (key, truth) in &self.truth.totals {
            let theirs = &self.upstream.totals[key];
            let parts = |stats: &Stats| {
                let ends = (stats.first_at_ms, stats.last_at_ms);
                (stats.count, stats.sum.exact_micros().unwrap(), stats.min, stats.max, ends)
            };
            assert_eq!(parts(theirs), parts(truth), "{key:?}");
            assert!((theirs.m2 - truth.m2).abs() <= 1e-6 * truth.m2.abs() + 1e-9, "{key:?}");
            let bins = |stats: &Stats| stats.quantile(0.5);
            assert!(bins(theirs).is_some() == bins(truth).is_some());
        }
    }
}

#[test]
fn days_without_upstream_fit_and_every_total_is_exact() {
    let mut random = Random(1);
    let mut world = World::new(128 * 1024, &[60_000, 900_000, 3_600_000]);
    for second in 0..20_000 {
        world.window(&mut random, 3);
        if second % 5 == 0 {
            world.commit(false);
            world.fetch(true);
        }
    }
    let totals = *world.lane().totals();
    assert_eq!(totals.dropped, [0; DropReason::ALL.len()], "nothing was dropped");
    assert!(100_000 < totals.rolled_up, "{totals:?}");
    let pending = world.lane().records_pending();
    world.drain();
    world.assert_exact();
    let wanted: BTreeSet<i64> = [1000, 60_000, 900_000, 3_600_000].into();
    assert_eq!(world.upstream.lengths, wanted, "upstream sees the resolutions");
    assert!(world.bytes_most <= 128 * 1024);
    println!("180,000 aggregates in {} bytes at most, {pending} records at the end", world.bytes_most);
}

#[test]
fn whatever_upstream_and_crashes_do_totals_are_exact_and_gaps_are_explained() {
    let mut rolled = 0;
    for seed in 0..25 {
        let mut random = Random(seed);
        let mut world = World::new(128 * 1024, &[10_000, 60_000, 600_000]);
        let keys = 1 + random.below(5);
        let mut number = 0;
        for _ in 0..2500 {
            match random.below(40) {
                0 => world.set_up(true),
                1 | 2 => world.set_up(false),
                3 => world.restart(),
                4 => world.commit(true),
                5..8 => world.deliver(1 + random.below(100), random.below(4) > 0),
                8..14 => world.fetch(random.below(3) > 0),
                14..22 => world.commit(false),
                22 if seed % 2 == 0 => {
                    number += 1;
                    world.message(number);
                }
                // A batch closes by its bytes, too.
                _ if 4096 < world.outbox.staged_bytes() => world.commit(false),
                // The loop takes nothing in while a lane asks for back-pressure.
                _ if world.outbox.is_blocked() => {
                    world.commit(false);
                    world.fetch(true);
                }
                _ => world.window(&mut random, keys),
            }
            world.check();
            let lane = world.lane();
            assert_eq!(
                lane.totals().dropped.iter().sum::<u64>(),
                0,
                "seed {seed}: head {} granted {} next {}, up {}, {} staged, {lane:?}",
                lane.head_seq(),
                lane.readable_seq(),
                lane.next_seq(),
                world.is_up,
                world.outbox.staged_bytes(),
            );
        }
        world.commit(false);
        world.drain();
        let totals = world.lane().totals();
        rolled += totals.rolled_up;
        let gone: u64 = totals.dropped.iter().sum();
        assert_eq!(gone, 0, "seed {seed}: dropped {:?}, rolled up {}", totals.dropped, totals.rolled_up);
        world.assert_exact();
        assert_eq!(world.upstream.messages, world.truth.messages, "seed {seed}");
    }
    println!("{rolled} records were rolled up");
    assert!(100_000 < rolled, "{rolled}");
}
