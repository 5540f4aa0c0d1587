//! What arrived upstream, added up the way `docs/upstream.md` tells a receiver to.
//!
//! - A record counts once by (gateway, lane, sequence). One that comes again must be the same, byte for byte: another content
//!   under a number that upstream has seen would be lost without a trace.
//! - Totals are the merge of all partials, whatever their windows.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use weir::envelope::{self, ParsedRecord};
use weir::record::RecordKind;
use weir::window::Stats;

/// Everything that arrived.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By (gateway, lane): the hash of each sequence's document.
    lanes: BTreeMap<(String, String), BTreeMap<u64, u64>>,
    /// By (meter, key).
    meters: BTreeMap<(String, String), Stats>,
    /// By (meter, start of the window): values over all keys, and partials.
    windows: BTreeMap<(String, i64), (u64, u64)>,
    /// All records but aggregates, in order of arrival.
    pub records: Vec<ParsedRecord>,
    /// Deliveries of what was there already.
    pub repeats: u64,
    /// What a receiver must never see.
    pub faults: Vec<String>,
}

impl Ledger {
    /// Takes in one delivery.
    pub fn take(&mut self, document: &[u8]) {
        let record = match envelope::parse(document) {
            Ok(record) => record,
            Err(error) => return self.faults.push(format!("{error}: {}", String::from_utf8_lossy(document))),
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(document);
        let hash = hasher.finish();
        let lane = self.lanes.entry((record.gateway.clone(), record.lane.clone())).or_default();
        match lane.insert(record.seq, hash) {
            None => self.count(record),
            Some(before) if before == hash => self.repeats += 1,
            Some(_) => {
                let text = String::from_utf8_lossy(document);
                self.faults
                    .push(format!("sequence {} of {} again, with another content: {text}", record.seq, record.lane));
            }
        }
    }

    fn count(&mut self, record: ParsedRecord) {
        if record.kind != RecordKind::Aggregate {
            return self.records.push(record);
        }
        match record.aggregate() {
            Ok(aggregate) => {
                let (values, partials) = self.windows.entry((aggregate.meter.clone(), aggregate.start_ms)).or_default();
                (*values, *partials) = (*values + aggregate.stats.count, *partials + 1);
                let key = (aggregate.meter, String::from_utf8_lossy(&aggregate.key).into_owned());
                match self.meters.get_mut(&key) {
                    Some(stats) => stats.merge(&aggregate.stats),
                    None => drop(self.meters.insert(key, aggregate.stats)),
                }
            }
            Err(error) => self.faults.push(format!("aggregate {}: {error}", record.seq)),
        }
    }

    /// Takes in the lines of a file sink.
    pub fn take_files(&mut self, folder: &Path) {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read(&file).unwrap();
            text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| self.take(line));
        }
    }

    /// Records of a lane.
    pub fn count_of(&self, lane: &str) -> u64 {
        self.lanes.iter().filter(|((_, name), _)| name == lane).map(|(_, records)| records.len() as u64).sum()
    }

    /// Messages and dead letters of a lane, as they are whatever their sequence and the time of their making.
    pub fn contents(&self, lane: &str) -> BTreeSet<String> {
        let its = self.records.iter().filter(|record| record.lane == lane && record.kind != RecordKind::Loss);
        its.map(|record| format!("{:?} {} {:?}", record.kind, record.topic, record.fields.get("payload"))).collect()
    }

    /// Everything that a meter has, by key.
    pub fn meter<'a>(&'a self, meter: &'a str) -> impl Iterator<Item = (&'a str, &'a Stats)> {
        self.meters.iter().filter(move |((name, _), _)| name == meter).map(|((_, key), stats)| (key.as_str(), stats))
    }

    /// Windows of a meter, by their start: values over all keys, and in how many partials.
    pub fn windows<'a>(&'a self, meter: &'a str) -> impl Iterator<Item = (i64, (u64, u64))> {
        self.windows.iter().filter(move |((name, _), _)| name == meter).map(|((_, start_ms), of)| (*start_ms, *of))
    }

    /// Readings that a meter has, over all keys.
    pub fn readings(&self, meter: &str) -> u64 {
        self.meter(meter).map(|(_, stats)| stats.count).sum()
    }

    /// Messages that went upstream on topics with this beginning.
    pub fn messages<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a ParsedRecord> {
        self.records.iter().filter(move |record| record.kind == RecordKind::Message && record.topic.starts_with(prefix))
    }

    /// Dead letters: what went wrong, in a word, with the sentence about it.
    pub fn dead_letters(&self) -> Vec<(String, String)> {
        let text = |record: &ParsedRecord, name: &str| record.fields[name].as_str().unwrap_or_default().to_owned();
        let letters = self.records.iter().filter(|record| record.kind == RecordKind::DeadLetter);
        letters.map(|letter| (text(letter, "error"), text(letter, "message"))).collect()
    }

    /// Sequences of a lane that did not come, from 1 to the last that did.
    pub fn gaps(&self, lane: &str) -> Vec<u64> {
        let its = self.lanes.iter().filter(|((_, name), _)| name == lane);
        let missing = |records: &BTreeMap<u64, u64>| -> Vec<u64> {
            (1..=records.keys().last().copied().unwrap_or(0)).filter(|seq| !records.contains_key(seq)).collect()
        };
        its.flat_map(|(_, records)| missing(records)).collect()
    }

    /// Every lane from 1 on without a gap, and nothing that a receiver must not see.
    pub fn assert_whole(&self) {
        assert!(self.faults.is_empty(), "{} faults, the first: {}", self.faults.len(), self.faults[0]);
        for (_, lane) in self.lanes.keys() {
            assert_eq!(self.gaps(lane), [0; 0], "sequences of lane {lane} are missing");
        }
    }
}
