//! What is known of one key in one window: running statistics that can be merged.
//!
//! - All of it is a function of the values and their times: order matters only among values of the same time, for `first`
//!   and `last` (arrival decides), and for the last digits of `m2` and of sums of numbers that are no short decimals.
//! - A counter keeps count and sum; a gauge adds min, max, first, last; a distribution adds `m2` and the sketch. What a
//!   kind does not keep stays 0.
//! - Every number in it is finite.

use super::sketch::{Mapping, Sketch};
use super::sum::{Sum, decimals, finite, from_decimal, put_decimal, take_decimal, take_raw};
use crate::entry::{put_varint, take_count, take_varint, unzigzag, zigzag};
use crate::manifest::MeterKind;
use crate::time::WallMillis;

/// Statistics of some values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: Sum,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The value with the earliest time; of several the one that arrived first.
    pub first: f64,
    /// Its time.
    pub first_at_ms: WallMillis,
    /// The value with the latest time; of several the one that arrived last.
    pub last: f64,
    /// Its time.
    pub last_at_ms: WallMillis,
    /// Sum of the squared distances from the mean (Welford; Chan, Golub, LeVeque 1983 for the merge).
    pub m2: f64,
    /// Quantiles; present in a distribution that has values.
    pub sketch: Option<Box<Sketch>>,
}

/// Bits of the flags byte that an encoded [`Stats`] leaves to its owner.
pub(super) const FLAGS_FREE: u8 = 0x0f;
const SUM_HAS_REST: u8 = 0x10;
const DECIMALS: u8 = 0x20;

impl Stats {
    /// Takes one finite value in. `first` and `last` go by `at_ms`.
    #[inline]
    pub fn fold(&mut self, kind: MeterKind, mapping: &Mapping, at_ms: WallMillis, value: f64) {
        if kind == MeterKind::Distribution {
            if self.count > 0 {
                let distance = value - self.mean();
                let count = self.count as f64;
                self.m2 = finite(self.m2 + distance * distance * (count / (count + 1.0)));
            }
            self.sketch.get_or_insert_default().add(mapping, value);
        }
        if kind != MeterKind::Counter {
            self.fold_gauge(at_ms, value);
        }
        self.count += 1;
        self.sum.add(value);
    }

    #[inline]
    fn fold_gauge(&mut self, at_ms: WallMillis, value: f64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
            (self.first, self.first_at_ms) = (value, at_ms);
            (self.last, self.last_at_ms) = (value, at_ms);
            return;
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if at_ms < self.first_at_ms {
            (self.first, self.first_at_ms) = (value, at_ms);
        }
        if self.last_at_ms <= at_ms {
            (self.last, self.last_at_ms) = (value, at_ms);
        }
    }

    /// Takes the values of `other` in, which count as having arrived later.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        if let Some(sketch) = &other.sketch {
            let distance = other.mean() - self.mean();
            let (ours, theirs) = (self.count as f64, other.count as f64);
            self.m2 = finite(self.m2 + other.m2 + distance * distance * (ours * theirs / (ours + theirs)));
            self.sketch.get_or_insert_default().merge(sketch);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.first_at_ms < self.first_at_ms {
            (self.first, self.first_at_ms) = (other.first, other.first_at_ms);
        }
        if self.last_at_ms <= other.last_at_ms {
            (self.last, self.last_at_ms) = (other.last, other.last_at_ms);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum.merge(&other.sum);
    }

    /// Sum over count; 0 without values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum.to_f64() / self.count as f64 }
    }

    /// Population variance, `m2 / count`: of distributions; 0 without values.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.m2 / self.count as f64 }
    }

    /// The quantile `q` within the sketch's accuracy and between `min` and `max`; `None` if this is no distribution, has no
    /// values, or `q` is not within 0..=1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let value = self.sketch.as_ref()?.quantile(q)?;
        Some(match q {
            0.0 => self.min,
            1.0 => self.max,
            _ => value.max(self.min).min(self.max),
        })
    }

    /// As new; keeps the sketch's memory.
    pub(super) fn clear(&mut self) {
        let sketch = self.sketch.take();
        *self = Self { sketch, ..Self::default() };
        if let Some(sketch) = &mut self.sketch {
            sketch.clear();
        }
    }

    /// Appends what `kind` keeps; times are written as distances from `start_ms`. The low four bits of the first byte are
    /// the owner's ([`FLAGS_FREE`]).
    pub(super) fn encode(&self, kind: MeterKind, start_ms: WallMillis, owners: u8, out: &mut Vec<u8>) {
        let gauge = [self.min, self.max, self.first, self.last];
        let short = decimals(gauge).filter(|_| kind != MeterKind::Counter);
        let with_rest = self.sum.has_rest();
        out.push(
            (owners & FLAGS_FREE)
                | if with_rest { SUM_HAS_REST } else { 0 }
                | if short.is_some() { DECIMALS } else { 0 },
        );
        put_varint(out, self.count);
        self.sum.encode(with_rest, out);
        if kind == MeterKind::Counter {
            return;
        }
        match short {
            Some(([min, others @ ..], places)) => {
                put_decimal(out, min, places);
                others.iter().for_each(|other| put_varint(out, other.wrapping_sub(min) as u64));
            }
            None => gauge.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        }
        put_varint(out, zigzag(self.first_at_ms.wrapping_sub(start_ms)));
        put_varint(out, zigzag(self.last_at_ms.wrapping_sub(self.first_at_ms)));
        if kind == MeterKind::Distribution {
            out.extend_from_slice(&self.m2.to_le_bytes());
            match &self.sketch {
                Some(sketch) => sketch.encode(out),
                None => Sketch::default().encode(out),
            }
        }
    }

    /// The inverse of [`Stats::encode`], with the owner's bits; `None` if the bytes are cut short or damaged.
    pub(super) fn take(bytes: &mut &[u8], kind: MeterKind, start_ms: WallMillis) -> Option<(Self, u8)> {
        let (flags, rest) = bytes.split_first()?;
        *bytes = rest;
        let mut stats =
            Self { count: take_count(bytes)?, sum: Sum::take(bytes, flags & SUM_HAS_REST != 0)?, ..Self::default() };
        if kind != MeterKind::Counter {
            let [min, max, first, last] = if flags & DECIMALS != 0 { take_decimals(bytes)? } else { take_raws(bytes)? };
            let first_at_ms = start_ms.wrapping_add(unzigzag(take_varint(bytes)?));
            let last_at_ms = first_at_ms.wrapping_add(unzigzag(take_varint(bytes)?));
            stats = Self { min, max, first, first_at_ms, last, last_at_ms, ..stats };
        }
        if kind == MeterKind::Distribution {
            stats.m2 = take_raw(bytes)?;
            stats.sketch = Some(Box::new(Sketch::take(bytes)?));
        }
        Some((stats, flags & FLAGS_FREE))
    }
}

fn take_decimals(bytes: &mut &[u8]) -> Option<[f64; 4]> {
    let (min, places) = take_decimal(bytes)?;
    let mut values = [from_decimal(min, places)?; 4];
    for value in &mut values[1..] {
        *value = from_decimal(min.checked_add(i64::try_from(take_varint(bytes)?).ok()?)?, places)?;
    }
    Some(values)
}

fn take_raws(bytes: &mut &[u8]) -> Option<[f64; 4]> {
    Some([take_raw(bytes)?, take_raw(bytes)?, take_raw(bytes)?, take_raw(bytes)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MeterKind::{Counter, Distribution, Gauge};

    fn stats(kind: MeterKind, values: &[(i64, f64)]) -> Stats {
        let mut stats = Stats::default();
        values.iter().for_each(|(at_ms, value)| stats.fold(kind, &Mapping::default(), *at_ms, *value));
        stats
    }

    #[test]
    fn each_kind_keeps_what_it_says() {
        let values = [(5, 2.0), (1, 4.0), (9, 4.0), (1, 7.0), (9, 5.5), (3, 7.5)];
        let counter = stats(Counter, &values);
        assert_eq!((counter.count, counter.sum.to_f64(), counter.max), (6, 30.0, 0.0));
        let gauge = stats(Gauge, &values);
        assert_eq!((gauge.min, gauge.max, gauge.mean(), gauge.m2), (2.0, 7.5, 5.0, 0.0));
        assert_eq!((gauge.first, gauge.first_at_ms, gauge.last, gauge.last_at_ms), (4.0, 1, 5.5, 9));
        let distribution = stats(Distribution, &values);
        assert!((distribution.variance() - 3.583_333_333).abs() < 1e-6);
        assert!((distribution.quantile(0.5).unwrap() - 4.0).abs() <= 0.04);
        assert_eq!((distribution.quantile(0.0), distribution.quantile(1.0)), (Some(2.0), Some(7.5)));
        assert_eq!((gauge.quantile(0.5), distribution.quantile(1.5)), (None, None));
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let values: Vec<(i64, f64)> =
            (0..200).map(|n| (n * 7919 % 61, f64::from((n * 31 % 97) as i32) * 0.37)).collect();
        for kind in [Counter, Gauge, Distribution] {
            let whole = stats(kind, &values);
            for cut in [0, 1, 60, 199, 200] {
                let mut merged = stats(kind, &values[..cut]);
                merged.merge(&stats(kind, &values[cut..]));
                assert!((merged.m2 - whole.m2).abs() <= 1e-9 * whole.m2);
                merged.m2 = whole.m2;
                assert_eq!(merged, whole);
            }
        }
    }

    #[test]
    fn stats_survive_their_encoding_and_cuts_are_none() {
        let table: [&[(i64, f64)]; 4] = [
            &[(1_000, 21.37), (4_000, 19.9), (59_999, 20.0)],
            &[(0, f64::MAX), (1, f64::MIN), (2, 1e-300)],
            &[(-7, -0.5)],
            &[(12, core::f64::consts::PI), (12, 1e15)],
        ];
        for values in table {
            for kind in [Counter, Gauge, Distribution] {
                let before = stats(kind, values);
                let mut out = Vec::new();
                before.encode(kind, 1_000, 0b1010, &mut out);
                assert_eq!(Stats::take(&mut out.as_slice(), kind, 1_000), Some((before, 0b1010)));
                for cut in 0..out.len() {
                    assert_eq!(Stats::take(&mut &out[..cut], kind, 1_000), None);
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_leave_everything_finite() {
        let stats = stats(Distribution, &[(0, f64::MAX), (1, f64::MIN), (2, f64::MAX), (3, 1e308)]);
        for value in [stats.mean(), stats.variance(), stats.m2, stats.sum.to_f64(), stats.quantile(0.3).unwrap()] {
            assert!(value.is_finite());
        }
    }
}
