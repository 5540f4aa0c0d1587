//! One helper that touches the API: a seeded workload, a model of what it must have stored, and their comparison.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::entry::{Entries, put_varint};
use crate::frame::place;
use crate::store::keyed::{Batch as KeyedBatch, Image, Keyed, Progress, VALUE_MAX};
use crate::store::mem_disk::MemDisk;
use crate::store::{Commit, CommitError, LaneAppend, LaneRecovered, Recovered, Settings, Store};

pub const LANES: [&str; 2] = ["alerts", "bulk"];

pub fn settings() -> Settings {
    Settings {
        segment_bytes: 16 * 1024,
        journal_bytes_max: 128 * 1024,
        dirty_bytes_max: 8 * 1024,
        salt: 7,
        lanes: LANES.map(str::to_owned).to_vec(),
    }
}

/// A keyed store in memory; clones are the same one, and power cuts do not harm it.
#[derive(Clone, Debug, Default)]
pub struct MapKeyed(pub Rc<RefCell<Option<Image>>>, Rc<RefCell<Option<String>>>);

impl Keyed for MapKeyed {
    fn enabled(&self) -> bool {
        true
    }
    fn submit(&mut self, batch: KeyedBatch) {
        let mut image = self.0.borrow_mut();
        let stands_at = image.as_ref().map(|image| image.applied);
        let joins = stands_at.is_some_and(|at| batch.joins.0 <= at && at <= batch.joins.1);
        if !batch.whole && !joins {
            *self.1.borrow_mut() = Some(format!("stands at {stands_at:?}, batch joins {:?}", batch.joins));
            return;
        }
        let image = image.get_or_insert_default();
        if batch.whole {
            image.entries.clear();
        }
        for (key, value) in batch.changes {
            match value {
                Some(value) => image.entries.insert(key, Some(value).filter(|value| value.len() <= VALUE_MAX)),
                None => image.entries.remove(&key),
            };
        }
        image.applied = batch.applied;
    }
    fn progress(&mut self) -> Progress {
        self.1.borrow_mut().take().map_or(Progress::Idle, Progress::Failed)
    }
    fn image(&mut self) -> Option<Image> {
        self.0.borrow().clone()
    }
    fn bytes_written(&self) -> u64 {
        0
    }
}

/// What must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    pub lanes: [LaneModel; 2],
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneModel {
    /// Record of sequence `n` at `n - 1`.
    pub records: Vec<Vec<u8>>,
    /// The first one that was not given up.
    pub floor: u64,
    segment: u32,
    end: u32,
    open: bool,
    first_of_newest: Option<u64>,
}

/// A store under test.
pub struct Rig {
    pub disk: MemDisk,
    pub keyed: MapKeyed,
    pub store: Option<Store<MemDisk, MapKeyed>>,
    /// What was acknowledged.
    pub acked: Model,
    /// What the last commit would have made of it.
    pub tried: Model,
    pub recovered: Recovered,
    /// Whether some values are longer than the keyed store takes.
    pub long_values: bool,
    dice: u64,
    entries: Entries,
}

impl Rig {
    pub fn new(disk: &MemDisk, seed: u64) -> Self {
        Self {
            disk: disk.clone(),
            keyed: MapKeyed::default(),
            store: None,
            acked: Model::default(),
            tried: Model::default(),
            recovered: Recovered::default(),
            long_values: true,
            dice: seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1,
            entries: Entries::default(),
        }
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) % below
    }

    pub fn store(&mut self) -> &mut Store<MemDisk, MapKeyed> {
        self.store.as_mut().expect("open")
    }

    pub fn open(&mut self) -> Result<(), CommitError> {
        self.store = None;
        let (store, recovered) = Store::open(self.disk.clone(), self.keyed.clone(), &settings())?;
        for (lane, model) in recovered.lanes.iter().zip(&mut self.tried.lanes) {
            model.follow(lane);
        }
        for (lane, model) in recovered.lanes.iter().zip(&mut self.acked.lanes) {
            model.follow(lane);
        }
        (self.store, self.recovered) = (Some(store), recovered);
        Ok(())
    }

    /// Opens and demands that the last acknowledged commit is there, or the one that was being made: all of either.
    /// `false` if the power went meanwhile.
    pub fn open_and_check(&mut self, context: &str) -> bool {
        if let Err(error) = self.open() {
            assert!(self.disk.is_down(), "{context}: {error}");
            return false;
        }
        assert!(!self.recovered.report.is_loss(), "{context}: {:?}", self.recovered.report);
        let next_seqs = |model: &Model| model.lanes.each_ref().map(|lane| lane.records.len() as u64 + 1);
        let found: Vec<u64> = self.recovered.lanes.iter().map(|lane| lane.next_seq).collect();
        let is = |model: &Model| self.recovered.entries == model.entries && next_seqs(model)[..] == found[..];
        if is(&self.tried) {
            self.acked = self.tried.clone();
        } else if is(&self.acked) {
            self.tried = self.acked.clone();
        } else {
            panic!(
                "{context}: lanes {found:?}, acknowledged {:?}, tried {:?}; entries match acknowledged: {}, tried: {}",
                next_seqs(&self.acked),
                next_seqs(&self.tried),
                self.recovered.entries == self.acked.entries,
                self.recovered.entries == self.tried.entries
            );
        }
        self.check_records(context);
        !self.disk.is_down()
    }

    /// Demands that every record above the floor reads as it was written.
    pub fn check_records(&mut self, context: &str) {
        if self.disk.is_down() {
            return;
        }
        let model = self.acked.clone();
        for (name, lane) in LANES.iter().zip(&model.lanes) {
            let mut out = Vec::new();
            let mut seq = lane.floor.max(1);
            while seq <= lane.records.len() as u64 {
                let batch = self.store().read(name, seq, 3000, &mut out).unwrap();
                assert_eq!((batch.lost, batch.first_seq), (None, seq), "{context}: {name} at {seq}");
                assert!(batch.records > 0, "{context}: {name} ends at {seq}");
                let from = seq as usize - 1;
                let want = lane.records[from..from + batch.records as usize].concat();
                assert!(out == want, "{context}: {name} at {seq}: other bytes");
                seq += u64::from(batch.records);
            }
            let end = self.store().read(name, seq, 3000, &mut out).unwrap();
            assert_eq!((end.records, end.lost), (0, None), "{context}: {name} behind its end");
        }
    }

    /// One random step of a gateway's life.
    pub fn step(&mut self) -> Result<(), CommitError> {
        if self.store().needs_snapshot() {
            return self.snapshot();
        }
        match self.roll(16) {
            0 => self.snapshot(),
            1 => self.release(),
            2 => {
                self.store().flush();
                Ok(())
            }
            3 => self.store().maintain().map(drop),
            choice => {
                let bytes = match self.roll(4) {
                    0 => 4000,
                    1 => 700,
                    _ => 40,
                };
                let lanes = [choice % 3 == 0, choice % 4 == 0];
                self.commit(lanes, bytes)
            }
        }
    }

    /// Commits some entries and, to the lanes that are chosen, a few records of about `bytes` each.
    pub fn commit(&mut self, chosen: [bool; 2], bytes: u64) -> Result<(), CommitError> {
        let mut tried = self.acked.clone();
        self.entries.clear();
        for _ in 0..1 + self.roll(4) {
            let key = format!("k{}", self.roll(12)).into_bytes();
            let long = self.long_values && self.roll(20) == 0;
            let len = if long { 5000 } else { 1 + self.roll(60) as usize };
            let value = vec![self.roll(256) as u8; len];
            if self.roll(6) == 0 {
                self.entries.delete(&[&key]);
                tried.entries.remove(&key);
            } else {
                self.entries.put(&[&key], &value);
                tried.entries.insert(key, value);
            }
        }
        let mut appends = Vec::new();
        for (index, _) in chosen.iter().enumerate().filter(|(_, chosen)| **chosen) {
            let count = 1 + self.roll(3);
            let records: Vec<Vec<u8>> = (0..count).map(|_| self.record(bytes)).collect();
            appends.push((index, tried.lanes[index].append(&records), records.concat(), count as u32));
        }
        let lanes: Vec<LaneAppend<'_>> = appends
            .iter()
            .map(|(index, (segment, first_seq), records, count)| LaneAppend {
                lane: LANES[*index],
                segment: *segment,
                first_seq: *first_seq,
                count: *count,
                first_message: first_seq - 1,
                messages: *count,
                at_ms: 1000,
                records,
            })
            .collect();
        self.tried = tried;
        let entries = std::mem::take(&mut self.entries);
        let done = self.store().commit(&Commit { entries: entries.bytes(), lanes: &lanes });
        self.entries = entries;
        if done.is_ok() {
            self.acked = self.tried.clone();
        }
        done
    }

    /// Commits the totals, which never grow.
    pub fn keep_books(&mut self) -> Result<(), CommitError> {
        let value = vec![self.roll(256) as u8; 60];
        let mut entries = Entries::default();
        entries.put(&[b"totals"], &value);
        self.tried = self.acked.clone();
        self.tried.entries.insert(b"totals".to_vec(), value);
        self.store().commit(&Commit { entries: entries.bytes(), lanes: &[] })?;
        self.acked = self.tried.clone();
        Ok(())
    }

    /// Commits one small record and nothing else.
    pub fn append_small(&mut self) -> Result<(), CommitError> {
        self.tried = self.acked.clone();
        let record = self.record(40);
        let (segment, first_seq) = self.tried.lanes[0].append(std::slice::from_ref(&record));
        let append = LaneAppend {
            lane: LANES[0],
            segment,
            first_seq,
            count: 1,
            first_message: first_seq - 1,
            messages: 1,
            at_ms: 1000,
            records: &record,
        };
        self.store().commit(&Commit { entries: &[], lanes: &[append] })?;
        self.acked = self.tried.clone();
        Ok(())
    }

    fn record(&mut self, bytes: u64) -> Vec<u8> {
        let len = 1 + self.roll(bytes);
        let mut record = Vec::new();
        put_varint(&mut record, len);
        let fill = self.roll(256) as u8;
        record.resize(record.len() + len as usize, fill);
        record
    }

    pub fn snapshot(&mut self) -> Result<(), CommitError> {
        let mut all = Entries::default();
        for (key, value) in &self.acked.entries {
            all.put(&[key], value);
        }
        self.store().snapshot(all.bytes())
    }

    /// Lets all segments of a lane go but the last, or all.
    pub fn release(&mut self) -> Result<(), CommitError> {
        let index = self.roll(2) as usize;
        let all = self.roll(3) == 0;
        let lane = &mut self.acked.lanes[index];
        let below = lane.segment + u32::from(all);
        if all {
            (lane.floor, lane.open) = (lane.records.len() as u64 + 1, false);
        } else if let Some(first) = lane.first_of_newest {
            lane.floor = lane.floor.max(first);
        }
        self.tried = self.acked.clone();
        self.store().release(LANES[index], below)
    }
}

impl LaneModel {
    /// Places records as the outbox does: segment and first sequence.
    fn append(&mut self, records: &[Vec<u8>]) -> (u32, u64) {
        let len: usize = records.iter().map(Vec::len).sum();
        let behind = if self.open { self.end } else { 0 };
        let first = self.records.len() as u64 + 1;
        let mut spot = place(behind, len as u32);
        if !self.open || (spot.end > settings().segment_bytes && behind > 0) {
            spot = place(0, len as u32);
            (self.segment, self.open, self.first_of_newest) = (self.segment + 1, true, Some(first));
        }
        self.end = spot.end;
        self.records.extend_from_slice(records);
        (self.segment, first)
    }

    fn follow(&mut self, lane: &LaneRecovered) {
        let newest = lane.extents.last().filter(|extent| extent.segment + 1 == lane.next_segment);
        self.segment = lane.next_segment - 1;
        self.open = newest.is_some();
        self.end = newest.map_or(0, |extent| extent.bytes);
        self.first_of_newest = newest.map(|extent| extent.first_seq);
    }
}
