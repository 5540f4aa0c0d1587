//! What arrived upstream: records, each counted once, and the aggregates among them added up.
//!
//! - A record counts once by (gateway, store, lane, sequence), however often it was delivered, in whatever order, over however many
//!   sinks. Sequences of a lane have no gap but for those that a loss record explains; what is missing is known.
//! - The total of a meter's key is the sum of all its partials, of all windows, revisions and gateways.

mod seen;

use core::fmt;
use std::collections::BTreeMap;

use weir::envelope::{self, ParseError, ParsedRecord};
use weir::record::RecordKind;

use crate::truth::{Tally, Totals};
use seen::Seen;

/// Everything that arrived upstream.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// By gateway, store and lane.
    lanes: BTreeMap<(String, String, String), Seen>,
    meters: BTreeMap<String, BTreeMap<String, Tally>>,
    kinds: BTreeMap<String, u64>,
    /// Deliveries of records that were there already.
    pub repeated: u64,
    /// Deliveries that are no record of weir.
    pub foreign: u64,
}

/// Sequences that never came, of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The gateway's id.
    pub gateway: String,
    /// The number of its store.
    pub store: String,
    /// The lane's name.
    pub lane: String,
    /// How many.
    pub missing: u64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gateway, store, lane, missing } = self;
        write!(f, "gateway {gateway}, store {store}, lane {lane}: {missing} records never came")
    }
}

impl Upstream {
    /// Takes a document as a sink sends it (JSON, one record). Whether it is a record that was not there before.
    pub fn take(&mut self, document: &[u8]) -> bool {
        let taken = envelope::parse(document).and_then(|record| self.take_record(&record));
        taken.unwrap_or_else(|_| {
            self.foreign += 1;
            false
        })
    }

    fn take_record(&mut self, record: &ParsedRecord) -> Result<bool, ParseError> {
        let aggregate = match record.kind {
            RecordKind::Aggregate => Some(record.aggregate()?),
            _ => None,
        };
        if !self.note((&record.gateway, &record.store, &record.lane), record.seq, record.kind.name()) {
            return Ok(false);
        }
        if let Some(aggregate) = aggregate {
            let key = String::from_utf8_lossy(&aggregate.key);
            self.add(&aggregate.meter, &key, aggregate.stats.count, aggregate.stats.sum.to_f64());
        }
        if record.kind == RecordKind::Loss {
            let number = |name: &'static str| {
                record.fields.get(name).and_then(serde_json::Value::as_u64).ok_or(ParseError::Field(name))
            };
            let (first, through, records) = (number("first_seq")?, number("through_seq")?, number("records")?);
            self.lane((&record.gateway, &record.store, &record.lane)).excuse(first, through, records);
        }
        Ok(true)
    }

    /// Takes every line of a file that a sink wrote.
    pub fn take_lines(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.take(line);
        }
    }

    fn lane(&mut self, (gateway, store, lane): (&str, &str, &str)) -> &mut Seen {
        self.lanes.entry((gateway.to_owned(), store.to_owned(), lane.to_owned())).or_default()
    }

    /// Notes the record `sequence` of (gateway, store, lane). Whether it is new; if not, it must not be counted again.
    pub fn note(&mut self, origin: (&str, &str, &str), sequence: u64, kind: &str) -> bool {
        let is_new = self.lane(origin).note(sequence);
        if is_new {
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
        } else {
            self.repeated += 1;
        }
        is_new
    }

    /// Adds a partial aggregate.
    pub fn add(&mut self, meter: &str, key: &str, count: u64, sum: f64) {
        let keys = self.meters.entry(meter.to_owned()).or_default();
        keys.entry(key.to_owned()).or_default().add(count, sum);
    }

    /// What the meter has for a key.
    #[must_use]
    pub fn tally(&self, meter: &str, key: &str) -> Tally {
        self.meters.get(meter).and_then(|keys| keys.get(key)).copied().unwrap_or_default()
    }

    /// All keys of a meter.
    pub fn keys(&self, meter: &str) -> impl Iterator<Item = (&str, Tally)> {
        self.meters.get(meter).into_iter().flatten().map(|(key, tally)| (key.as_str(), *tally))
    }

    /// The names of the meters that arrived.
    pub fn meters(&self) -> impl Iterator<Item = &str> {
        self.meters.keys().map(String::as_str)
    }

    /// Totals of one meter.
    #[must_use]
    pub fn totals(&self, meter: &str) -> Totals {
        let mut totals = Totals::default();
        self.keys(meter).for_each(|(_, tally)| totals.add(tally));
        totals
    }

    /// How many records of a kind (`aggregate`, `message`, `dead-letter`, …) arrived, each counted once.
    #[must_use]
    pub fn records(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or_default()
    }

    /// The lanes of this name of a gateway, of all its stores.
    fn of<'a>(&'a self, gateway: &'a str, lane: &'a str) -> impl Iterator<Item = &'a Seen> {
        self.lanes.iter().filter(move |((g, _, l), _)| g == gateway && l == lane).map(|(_, seen)| seen)
    }

    /// The number behind the highest sequence that came from a lane; 1 if none did.
    #[must_use]
    pub fn lane_end(&self, gateway: &str, lane: &str) -> u64 {
        self.of(gateway, lane).map(Seen::end).max().unwrap_or_else(|| Seen::default().end())
    }

    /// Records of a lane that its loss records have told of.
    #[must_use]
    pub fn told(&self, gateway: &str, lane: &str) -> u64 {
        self.of(gateway, lane).map(Seen::told).sum()
    }

    /// The lanes in which something is missing.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let gap = |((gateway, store, lane), seen): (&(String, String, String), &Seen)| Gap {
            gateway: gateway.clone(),
            store: store.clone(),
            lane: lane.clone(),
            missing: seen.missing(),
        };
        self.lanes.iter().map(gap).filter(|gap| gap.missing > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once_in_any_order_and_gaps_are_known() {
        let mut upstream = Upstream::default();
        let mut news = Vec::new();
        for sequence in [1, 2, 2, 5, 4, 5, 1] {
            news.push(upstream.note(("g", "s", "main"), sequence, "aggregate"));
        }
        assert_eq!(news, [true, true, false, true, true, false, false]);
        assert!(upstream.note(("g", "s", "other"), 1, "message") && upstream.note(("h", "s", "main"), 1, "aggregate"));
        // Another store of the same gateway begins anew, and what it has is news.
        assert!(upstream.note(("g", "t", "main"), 1, "loss"));
        assert_eq!((upstream.repeated, upstream.records("aggregate"), upstream.records("message")), (3, 5, 1));
        let gaps = upstream.gaps();
        assert_eq!(gaps, [Gap { gateway: "g".to_owned(), store: "s".to_owned(), lane: "main".to_owned(), missing: 1 }]);
        assert!(upstream.note(("g", "s", "main"), 3, "loss") && upstream.gaps().is_empty());
    }

    #[test]
    fn documents_are_read_added_up_and_taken_once() {
        let head = |seq: u64, kind: &str| {
            format!(
                r#"{{"v":1,"gateway":"g","lane":"m","seq":{seq},"kind":"{kind}","at":1,"quality":"synced","topic":"t""#
            )
        };
        let sum = r#","meter":"f.m","unit":"C","type":"counter","key":"a","start":0,"end":9,"revision":0,"late":false,"window_quality":"synced","count":2,"sum":1.5}"#;
        let loss = r#","reason":"lane-full","records":2,"messages":1,"first_seq":3,"through_seq":4}"#;
        let lines = [
            format!("{}{sum}", head(1, "aggregate")),
            format!("{}{sum}", head(2, "aggregate")),
            format!("{}{sum}", head(1, "aggregate")),
            format!("{}{loss}", head(5, "loss")),
            "{\"v\":1}".to_owned(),
        ];
        let mut upstream = Upstream::default();
        upstream.take_lines(lines.join("\n").as_bytes());
        assert_eq!(upstream.tally("f.m", "a"), Tally { messages: 4, sum: 3.0 });
        assert_eq!((upstream.repeated, upstream.foreign, upstream.gaps()), (1, 1, Vec::new()));
        assert_eq!((upstream.lane_end("g", "m"), upstream.lane_end("g", "x")), (6, 1));
    }

    #[test]
    fn partials_of_a_key_add_up() {
        let mut upstream = Upstream::default();
        for (key, count, sum) in [("a", 2, 1.5), ("b", 1, 4.0), ("a", 3, -0.25)] {
            upstream.add("m", key, count, sum);
        }
        assert_eq!(upstream.tally("m", "a"), Tally { messages: 5, sum: 1.25 });
        assert_eq!(upstream.totals("m"), Totals { messages: 6, devices: 2, sum: 5.25 });
        assert_eq!(upstream.tally("other", "a"), Tally::default());
    }
}
