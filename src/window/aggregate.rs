//! The emitted partial: what a meter knows of one key in one window, as it stands in a record.
//!
//! - Every aggregate is an *additive partial*: the truth about a (meter, key, window) is the merge of all its aggregates, of
//!   all gateways, each (gateway, lane, sequence) once. `revision` and `late` say when it was made, not what it replaces.
//! - Form: `version 1, kind u8, meter, unit, key (each varint length and bytes), start zigzag, length varint, stats`, the
//!   low four bits of the stats' first byte being `quality | revision << 2`. `docs/upstream.md` tells what goes upstream.

use std::borrow::Cow;

use super::cell::Stats;
use crate::entry::{put_varint, take, take_varint, unzigzag, zigzag};
use crate::manifest::MeterKind;
use crate::time::{TimeQuality, WallMillis};

/// Emitted at the window's end.
pub const REVISION_END: u8 = 0;
/// Emitted when the allowed lateness is over: the values that came after the end.
pub const REVISION_LATENESS: u8 = 1;
/// Emitted some time after a value came later than that.
pub const REVISION_LATE: u8 = 2;
/// Folded from several, mostly of shorter windows, because the lane was full.
pub const REVISION_ROLLED_UP: u8 = 3;

const VERSION: u8 = 1;

/// A partial aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate<'a> {
    /// `FUNCTION.METER`.
    pub meter: &'a str,
    /// Unit of the values, for the reader.
    pub unit: &'a str,
    /// What the statistics hold.
    pub kind: MeterKind,
    /// The key; [`super::OVERFLOW_KEY`] stands for those that had no room.
    pub key: &'a [u8],
    /// Start of the window, included.
    pub start_ms: WallMillis,
    /// End of the window, excluded.
    pub end_ms: WallMillis,
    /// [`REVISION_END`], [`REVISION_LATENESS`], [`REVISION_LATE`] or [`REVISION_ROLLED_UP`]; the same may come more than once.
    pub revision: u8,
    /// The worst quality among the times of the values.
    pub quality: TimeQuality,
    /// The values.
    pub stats: Cow<'a, Stats>,
}

/// Two aggregates that do not belong together: another meter, kind, key or window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrelated;

impl<'a> Aggregate<'a> {
    /// Whether values are in it that came after the allowed lateness.
    #[must_use]
    pub const fn late(&self) -> bool {
        self.revision == REVISION_LATE
    }

    /// Sum over count.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.stats.mean()
    }

    /// Population variance (distributions).
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.stats.variance()
    }

    /// See [`Stats::quantile`].
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.stats.quantile(q)
    }

    /// Takes another partial of the same meter, key and window in. `other` counts as the later one.
    ///
    /// # Errors
    /// They are partials of different things; nothing is changed.
    pub fn merge(&mut self, other: &Aggregate<'_>) -> Result<(), Unrelated> {
        let same = self.meter == other.meter
            && self.kind == other.kind
            && self.key == other.key
            && (self.start_ms, self.end_ms) == (other.start_ms, other.end_ms);
        if !same {
            return Err(Unrelated);
        }
        self.stats.to_mut().merge(&other.stats);
        self.revision = self.revision.max(other.revision);
        self.quality = self.quality.min(other.quality);
        Ok(())
    }

    /// Appends the aggregate: the payload of its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, kind_code(self.kind)]);
        for text in [self.meter.as_bytes(), self.unit.as_bytes(), self.key] {
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text);
        }
        put_varint(out, zigzag(self.start_ms));
        put_varint(out, self.end_ms.wrapping_sub(self.start_ms) as u64);
        self.stats.encode(self.kind, self.start_ms, owners_bits(self.quality, self.revision), out);
    }

    /// The inverse of [`Aggregate::encode`]; `None` if the bytes are cut short, too long or damaged.
    #[must_use]
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let head = take(bytes, 2)?;
        let kind = kind_from_code(head[1]).filter(|_| head[0] == VERSION)?;
        let mut text = || {
            let len = take_varint(bytes)?;
            take(bytes, len)
        };
        let (meter, unit, key) = (text()?, text()?, text()?);
        let start_ms = unzigzag(take_varint(bytes)?);
        let end_ms = start_ms.checked_add(i64::try_from(take_varint(bytes)?).ok()?)?;
        let (stats, owners) = Stats::take(bytes, kind, start_ms)?;
        let (quality, revision) = from_owners_bits(owners);
        bytes.is_empty().then_some(Self {
            meter: core::str::from_utf8(meter).ok()?,
            unit: core::str::from_utf8(unit).ok()?,
            kind,
            key,
            start_ms,
            end_ms,
            revision,
            quality,
            stats: Cow::Owned(stats),
        })
    }
}

pub(super) const fn owners_bits(quality: TimeQuality, revision: u8) -> u8 {
    quality as u8 | revision << 2
}

pub(super) const fn from_owners_bits(bits: u8) -> (TimeQuality, u8) {
    (TimeQuality::from_code(bits & 3), bits >> 2 & 3)
}

/// One byte for a kind.
pub(super) const fn kind_code(kind: MeterKind) -> u8 {
    match kind {
        MeterKind::Counter => 1,
        MeterKind::Gauge => 2,
        MeterKind::Distribution => 3,
    }
}

/// The inverse of [`kind_code`].
pub(super) const fn kind_from_code(code: u8) -> Option<MeterKind> {
    match code {
        1 => Some(MeterKind::Counter),
        2 => Some(MeterKind::Gauge),
        3 => Some(MeterKind::Distribution),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Mapping;
    use super::*;

    fn aggregate(key: &'static [u8], values: &[f64]) -> Aggregate<'static> {
        let mut stats = Stats::default();
        for (at_ms, value) in (60_000..).zip(values) {
            stats.fold(MeterKind::Distribution, &Mapping::default(), at_ms, *value);
        }
        Aggregate {
            meter: "energy.power",
            unit: "W",
            kind: MeterKind::Distribution,
            key,
            start_ms: 60_000,
            end_ms: 120_000,
            revision: REVISION_LATE,
            quality: TimeQuality::Restored,
            stats: Cow::Owned(stats),
        }
    }

    #[test]
    fn an_aggregate_survives_its_encoding_and_cuts_are_none() {
        let before = aggregate(b"meter-7", &[1.5, 2.25, 1e6]);
        let mut out = Vec::new();
        before.encode(&mut out);
        assert_eq!(Aggregate::decode(&out), Some(before.clone()));
        assert!(before.late());
        for cut in 0..out.len() {
            assert_eq!(Aggregate::decode(&out[..cut]), None);
        }
        out.push(0);
        assert_eq!(Aggregate::decode(&out), None);
    }

    #[test]
    fn only_partials_of_the_same_thing_merge() {
        let mut sum = aggregate(b"a", &[1.0, 2.0]);
        assert_eq!(sum.merge(&aggregate(b"b", &[4.0])), Err(Unrelated));
        assert_eq!(sum.merge(&Aggregate { quality: TimeQuality::Unset, ..aggregate(b"a", &[6.0]) }), Ok(()));
        assert_eq!((sum.stats.count, sum.mean(), sum.stats.max, sum.quality), (3, 3.0, 6.0, TimeQuality::Unset));
    }
}
