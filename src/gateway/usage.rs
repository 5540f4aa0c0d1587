//! Usage records: what each function used in a period, sent upstream when the period ends.
//!
//! - A period begins where the last one ended, over restarts too: its begin and the totals at that time are durable.
//! - A record and the begin of the next period are of one commit: no use is told twice, none is left out.
//! - A function that was not called in a period has no record of it.

use super::outlets::Aggregates;
use super::{Gateway, Slot};
use crate::config::Config;
use crate::effect::Effects;
use crate::entry::{Entries, Space, put_varint, take_varint, unzigzag, zigzag};
use crate::function::{Usage, UsageRecord};
use crate::record::RecordKind;
use crate::time::{Now, WallMillis};

/// When periods end.
#[derive(Debug)]
pub(super) struct Periods {
    pub every_us: u64,
    pub next_us: u64,
}

/// Where a function's running period began.
#[derive(Debug)]
pub(super) struct Period {
    start_ms: WallMillis,
    /// Its totals then.
    usage: Usage,
    dirty: bool,
}

impl Period {
    /// The inverse of what [`Slot::save_period`] writes.
    pub fn decode(mut value: &[u8]) -> Option<Self> {
        let start_ms = unzigzag(take_varint(&mut value)?);
        Some(Self { start_ms, usage: Usage::decode(value)?, dirty: false })
    }
}

impl Periods {
    /// None if the site wants no usage records. The first period ends when one that began before the restart would have.
    pub fn new(config: &Config, slots: &mut [Slot], now: Now) -> Option<Self> {
        let every = config.usage_interval?;
        for slot in &mut *slots {
            let usage = *slot.function.usage();
            slot.period.get_or_insert(Period { start_ms: now.wall_ms, usage, dirty: true });
        }
        let begins = slots.iter().filter_map(|slot| slot.period.as_ref()).map(|period| period.start_ms);
        let gone_ms = now.wall_ms.saturating_sub(begins.min().unwrap_or(now.wall_ms));
        let left_ms = every.0.saturating_sub(u64::try_from(gone_ms).unwrap_or(0));
        Some(Self { every_us: every.0 * 1000, next_us: now.mono_us + left_ms * 1000 })
    }
}

impl Gateway {
    /// Ends the period if its time has come.
    pub(super) fn tell_usage(&mut self, now: Now, effects: &mut Effects) {
        let Self { usage_periods: Some(periods), slots, outbox, books, bytes, aggregates_lost, dirty, .. } = self
        else {
            return;
        };
        if now.mono_us < periods.next_us {
            return;
        }
        periods.next_us += ((now.mono_us - periods.next_us) / periods.every_us + 1) * periods.every_us;
        let mut outlet =
            Aggregates { now, outbox, books, releases: &mut effects.releases, lost: aggregates_lost, bytes };
        for slot in slots {
            let usage = *slot.function.usage();
            let Some(period) = &mut slot.period else { continue };
            let used = usage.since(&period.usage);
            // Nobody has to know on flash that nothing happened.
            if 0 < used.invocations {
                let record = UsageRecord { start_ms: period.start_ms, end_ms: now.wall_ms, usage: used };
                outlet.bytes.clear();
                record.encode(outlet.bytes);
                outlet.put_bytes(RecordKind::Usage, &slot.name, &format!("usage/{}", slot.name));
                (period.usage, period.dirty, *dirty) = (usage, true, true);
            }
            period.start_ms = now.wall_ms;
        }
    }
}

impl Slot {
    /// Writes the begin of the period if it has changed, or if `all`.
    pub(super) fn save_period(&mut self, all: bool, entries: &mut Entries, scratch: &mut Vec<u8>) {
        let Some(period) = self.period.as_mut().filter(|period| period.dirty || all) else { return };
        scratch.clear();
        put_varint(scratch, zigzag(period.start_ms));
        period.usage.encode(scratch);
        entries.put(&[&[Space::Period as u8], self.name.as_bytes()], scratch);
        period.dirty &= all;
    }
}
