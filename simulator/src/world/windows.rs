//! The aggregates that arrived, by device and window: right, or marked.
//!
//! - Where some were rolled up, at the coarsest resolution that came: every finer window lies in one of those as a whole.

use std::collections::BTreeMap;

use weir::envelope;
use weir::record::RecordKind;
use weir::time::TimeQuality;

use super::checks::Broken;
use super::guests::TEMP;
use super::ledger::Expected;
use crate::truth::Tally;

/// Values by (device, start of the window).
type Values = BTreeMap<(String, i64), Tally>;

/// Values of `stats`.
#[derive(Debug, Default)]
pub struct Windows {
    all: Values,
    /// Those whose times are said to be right.
    synced: Values,
    /// The longest window.
    length_ms: i64,
    /// Values that upstream was told came late.
    pub late: u64,
}

impl Windows {
    /// Takes a document that was not there before.
    pub fn take(&mut self, document: &[u8]) {
        let Ok(record) = envelope::parse(document) else { return };
        if record.kind != RecordKind::Aggregate {
            return;
        }
        let Ok(aggregate) = record.aggregate() else { return };
        if aggregate.meter != TEMP {
            return;
        }
        let key = (String::from_utf8_lossy(&aggregate.key).into_owned(), aggregate.start_ms);
        let (count, sum) = (aggregate.stats.count, aggregate.stats.sum.to_f64());
        if aggregate.revision == weir::window::REVISION_LATE {
            self.late += count;
        }
        if aggregate.quality == TimeQuality::Synced {
            self.synced.entry(key.clone()).or_default().add(count, sum);
        }
        self.all.entry(key).or_default().add(count, sum);
        self.length_ms = self.length_ms.max(aggregate.end_ms - aggregate.start_ms);
    }

    fn at_resolution(&self, values: &Values) -> Values {
        let mut coarse = Values::new();
        for ((device, start_ms), tally) in values {
            let start_ms = start_ms - start_ms.rem_euclid(self.length_ms.max(1));
            coarse.entry((device.clone(), start_ms)).or_default().add(tally.messages, tally.sum);
        }
        coarse
    }

    /// Every window has what belongs to it.
    pub fn check(&self, expected: &Expected) -> Result<(), Broken> {
        let (wanted, all) = (self.at_resolution(&expected.windows), self.at_resolution(&self.all));
        let differs = wanted.keys().chain(all.keys()).find(|key| wanted.get(*key) != all.get(*key));
        differs.map_or(Ok(()), |key| {
            let (is, wanted) = (all.get(key), wanted.get(key));
            Err(Broken::new(format!("window {key:?} upstream: {is:?}, must be {wanted:?}")))
        })
    }

    /// What is said to be of the right time is.
    pub fn check_marked(&self, expected: &Expected) -> Result<(), Broken> {
        let truths = self.at_resolution(&expected.windows);
        for (key, tally) in self.at_resolution(&self.synced) {
            let truth = truths.get(&key).copied().unwrap_or_default();
            if truth.messages < tally.messages {
                return Err(Broken::new(format!(
                    "window {key:?} has {} values that are said to be of the right time, and {} are",
                    tally.messages, truth.messages
                )));
            }
        }
        Ok(())
    }
}
