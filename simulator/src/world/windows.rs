//! The aggregates that arrived, by device and window: right, or marked.

use std::collections::BTreeMap;

use weir::envelope;
use weir::record::RecordKind;
use weir::time::TimeQuality;

use super::checks::Broken;
use super::guests::TEMP;
use super::ledger::Expected;
use crate::truth::Tally;

/// Values of `stats` by (device, start of the window).
#[derive(Debug, Default)]
pub struct Windows {
    all: BTreeMap<(String, i64), Tally>,
    /// Those whose times are said to be right.
    synced: BTreeMap<(String, i64), Tally>,
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
    }

    /// Every window has what belongs to it.
    pub fn check(&self, expected: &Expected) -> Result<(), Broken> {
        let wanted = &expected.windows;
        let differs = wanted.keys().chain(self.all.keys()).find(|key| wanted.get(*key) != self.all.get(*key));
        differs.map_or(Ok(()), |key| {
            let (is, wanted) = (self.all.get(key), wanted.get(key));
            Err(Broken::new(format!("window {key:?} upstream: {is:?}, must be {wanted:?}")))
        })
    }

    /// What is said to be of the right time is.
    pub fn check_marked(&self, expected: &Expected) -> Result<(), Broken> {
        for (key, tally) in &self.synced {
            let truth = expected.windows.get(key).copied().unwrap_or_default();
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
