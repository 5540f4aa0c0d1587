//! Quantiles: a relative-error sketch of bounded size, mergeable in any order.
//!
//! - A bin counts the values of one power of gamma. Which power is the mapping of the crate `sketches-ddsketch` (Masson,
//!   Rim, Lee: DDSketch, VLDB 2019); the bins are ours, since a dense store of 1 KiB for each sign and cell does not fit.
//! - At most [`BINS_MAX`] bins. One more, and all pairs of neighbours become one (gamma is squared, the level grows by one;
//!   Epicoco et al.: UDDSketch, 2020): every quantile stays within the relative error that [`Sketch::accuracy`] tells.
//! - The bins depend on the values alone: not on their order, nor on how they were split into partials and merged.
//! - Magnitudes up to [`ZERO_MAX`] count as 0. A bin's count stops at 2^32 - 1; count and sum of a cell know better.

use sketches_ddsketch::Config;

use crate::entry::{put_varint, take_varint, unzigzag, zigzag};

/// Bins of a sketch at most.
pub const BINS_MAX: usize = 256;
/// Relative error of a sketch that never had more than [`BINS_MAX`] bins of it.
pub const ACCURACY: f64 = 0.01;
/// Magnitudes that count as zero.
pub const ZERO_MAX: f64 = 1e-12;

/// Added to the powers of positive values and taken from those of negative ones, so that one order holds all: negative
/// values, zero, positive values. Greater than the power of [`ZERO_MAX`].
const BIAS: i32 = 2048;
/// No power is further from zero than this: `ln(f64::MAX) / ln(gamma)` is 35,488.
const POWER_MAX: i32 = 36_000;
const LEVEL_MAX: u8 = 17;

/// From values to powers of gamma at level 0.
#[derive(Clone, Copy, Debug)]
pub struct Mapping(Config);

/// A bin: what it holds (see [`BIAS`]) and how many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bin {
    place: i32,
    count: u32,
}

/// The sketch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    level: u8,
    /// Ascending places.
    bins: Vec<Bin>,
}

impl Default for Mapping {
    fn default() -> Self {
        Self(Config::new(ACCURACY, BINS_MAX as u32, ZERO_MAX))
    }
}

impl Mapping {
    fn place(&self, value: f64) -> i32 {
        if value > ZERO_MAX {
            self.0.key(value) + BIAS
        } else if value < -ZERO_MAX {
            -(self.0.key(-value) + BIAS)
        } else {
            0
        }
    }

    /// The value that is equally far, relatively, from both ends of the bin.
    fn value(&self, place: i32, level: u8) -> f64 {
        let Some(power) = power(place) else { return 0.0 };
        let gamma = self.0.pow_gamma(1 << level);
        let middle = self.0.pow_gamma(power << level) * (2.0 / (1.0 + 1.0 / gamma));
        if place < 0 { -middle } else { middle }
    }
}

/// The power of gamma of a place; `None` for zero's.
const fn power(place: i32) -> Option<i32> {
    if place == 0 { None } else { Some(place.abs() - BIAS) }
}

const fn coarser(place: i32) -> i32 {
    match power(place) {
        None => 0,
        Some(power) => place.signum() * ((power >> 1) + BIAS),
    }
}

impl Sketch {
    /// Counts one finite value.
    pub fn add(&mut self, mapping: &Mapping, value: f64) {
        self.insert(mapping.place(value), 0, 1);
    }

    /// Counts everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for bin in &other.bins {
            self.insert(bin.place, other.level, bin.count);
        }
        while self.level < other.level {
            self.collapse();
        }
    }

    /// Counts `count` values of the bin that is `place` at `level`, which must not be coarser than `self` will be.
    fn insert(&mut self, mut place: i32, level: u8, count: u32) {
        while self.level < level {
            self.collapse();
        }
        (level..self.level).for_each(|_| place = coarser(place));
        loop {
            match self.bins.binary_search_by_key(&place, |bin| bin.place) {
                Ok(at) => {
                    self.bins[at].count = self.bins[at].count.saturating_add(count);
                    return;
                }
                Err(at) if self.bins.len() < BINS_MAX => {
                    self.bins.insert(at, Bin { place, count });
                    return;
                }
                Err(_) => {
                    self.collapse();
                    place = coarser(place);
                }
            }
        }
    }

    fn collapse(&mut self) {
        self.level += 1;
        self.bins.iter_mut().for_each(|bin| bin.place = coarser(bin.place));
        self.bins.dedup_by(|later, kept| {
            let same = later.place == kept.place;
            if same {
                kept.count = kept.count.saturating_add(later.count);
            }
            same
        });
    }

    /// The value below which a share `q` of the values lies, within [`Sketch::accuracy`]; `None` if there is no value or
    /// `q` is not within 0..=1. The rank is the whole part of `q * (count - 1)`.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let mapping = Mapping::default();
        let count: u64 = self.bins.iter().map(|bin| u64::from(bin.count)).sum();
        let rank = (q * count.checked_sub(1)? as f64) as u64;
        let mut seen = 0;
        let bin = self.bins.iter().find(|bin| {
            seen += u64::from(bin.count);
            seen > rank
        })?;
        Some(mapping.value(bin.place, self.level))
    }

    /// The relative error of [`Sketch::quantile`]: [`ACCURACY`] at level 0.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let gamma = self.gamma();
        if gamma.is_finite() { (gamma - 1.0) / (gamma + 1.0) } else { 1.0 }
    }

    /// The base of the bins: bin `k` holds magnitudes from `gamma^k` to `gamma^(k + 1)`. Infinite past level 15.
    #[must_use]
    pub fn gamma(&self) -> f64 {
        Mapping::default().0.pow_gamma(1 << self.level)
    }

    /// How often neighbours were made one.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// `(sign, power, count)` in ascending order of value; power is 0 where sign is.
    pub fn bins(&self) -> impl Iterator<Item = (i32, i32, u32)> {
        self.bins.iter().map(|bin| (bin.place.signum(), power(bin.place).unwrap_or(0), bin.count))
    }

    /// Builds a sketch from what [`Sketch::level`] and [`Sketch::bins`] tell; `None` if no sketch can be like that.
    pub fn from_bins(level: u8, bins: impl Iterator<Item = (i32, i32, u32)>) -> Option<Self> {
        let mut sketch = Self { level: Some(level).filter(|level| *level <= LEVEL_MAX)?, bins: Vec::new() };
        for (sign, power, count) in bins {
            let possible = -BIAS < power && -BIAS >> level <= power && power <= POWER_MAX >> level;
            if !possible || BINS_MAX <= sketch.bins.len() {
                return None;
            }
            let place = sign.signum() * (power + BIAS);
            if count == 0 || sketch.bins.last().is_some_and(|last| last.place >= place) {
                return None;
            }
            sketch.bins.push(Bin { place, count });
        }
        Some(sketch)
    }

    /// Empty again; keeps the memory.
    pub fn clear(&mut self) {
        self.level = 0;
        self.bins.clear();
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.bins.capacity() * size_of::<Bin>()
    }

    /// Appends level, number of bins, the first place, and for each bin its count and the gap to the next.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        put_varint(out, self.bins.len() as u64);
        let mut before = 0;
        for (at, bin) in self.bins.iter().enumerate() {
            let gap = i64::from(bin.place) - before;
            put_varint(out, if at == 0 { zigzag(gap) } else { gap as u64 });
            put_varint(out, u64::from(bin.count));
            before = i64::from(bin.place);
        }
    }

    /// The inverse of [`Sketch::encode`]; `None` if the bytes are none.
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (level, rest) = bytes.split_first()?;
        *bytes = rest;
        let count = usize::try_from(take_varint(bytes)?).ok().filter(|count| *count <= BINS_MAX)?;
        let mut before = 0i64;
        let mut bins = [(0, 0, 0); BINS_MAX];
        for (at, bin) in bins[..count].iter_mut().enumerate() {
            let gap = take_varint(bytes)?;
            let gap = if at == 0 { unzigzag(gap) } else { i64::try_from(gap).ok()? };
            before = before.checked_add(gap)?;
            let place = i32::try_from(before).ok().filter(|place| *place != i32::MIN)?;
            *bin = (place.signum(), power(place).unwrap_or(0), u32::try_from(take_varint(bytes)?).ok()?);
        }
        Self::from_bins(*level, bins[..count].iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use sketches_ddsketch::DDSketch;

    use super::*;

    fn values(seed: u64, count: usize, spread: f64) -> Vec<f64> {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..count).map(|_| (next() * spread).exp() * if next() < 0.3 { -1.0 } else { 1.0 }).collect()
    }

    fn sketch(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(&Mapping::default(), *value));
        sketch
    }

    #[test]
    fn quantiles_are_those_of_the_reference_while_the_bins_suffice() {
        for seed in 0..20 {
            let values = values(seed, 1000, 2.0);
            let ours = sketch(&values);
            let mut reference = DDSketch::new(Config::new(ACCURACY, 4096, ZERO_MAX));
            values.iter().for_each(|value| reference.add(*value));
            assert_eq!(ours.level(), 0);
            for q in [0.01, 0.25, 0.5, 0.9, 0.99] {
                let (ours, theirs) = (ours.quantile(q).unwrap(), reference.quantile(q).unwrap().unwrap());
                assert!((ours - theirs).abs() <= 1e-12 * theirs.abs(), "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn every_quantile_is_within_the_accuracy_that_is_told() {
        for (seed, spread) in [(1, 1.0), (2, 20.0), (3, 200.0), (4, 700.0)] {
            let mut values = values(seed, 3000, spread);
            values.extend([0.0, 1e-13, -1e-13]);
            let sketch = sketch(&values);
            values.sort_by(f64::total_cmp);
            for step in 0..=100 {
                let q = f64::from(step) / 100.0;
                let (told, truth) = (sketch.quantile(q).unwrap(), values[(q * (values.len() - 1) as f64) as usize]);
                let error = (told - truth).abs();
                assert!(error <= sketch.accuracy() * truth.abs() * 1.000_001 + ZERO_MAX, "q {q}: {told} for {truth}");
            }
            assert!(sketch.bins.len() <= BINS_MAX);
        }
    }

    #[test]
    fn the_bins_do_not_depend_on_order_or_partition() {
        for seed in 0..30 {
            let values = values(seed, 800, 10.0 * (seed + 1) as f64);
            let whole = sketch(&values);
            let reversed: Vec<f64> = values.iter().rev().copied().collect();
            assert_eq!(sketch(&reversed), whole);
            let mut merged = Sketch::default();
            for part in values.chunks(1 + seed as usize * 13).rev() {
                merged.merge(&sketch(part));
            }
            assert_eq!(merged, whole, "seed {seed}");
        }
    }

    #[test]
    fn the_extremes_of_f64_fit() {
        let sketch = sketch(&[f64::MAX, f64::MIN, f64::MIN_POSITIVE, 1e-11, -1e-11, 0.0]);
        assert_eq!(sketch.bins().count(), 5);
        let mut wide = Sketch::default();
        (-1000..1000).for_each(|power| wide.add(&Mapping::default(), 2f64.powi(power)));
        assert!(wide.quantile(1.0).unwrap().is_finite() && wide.accuracy() < 1.0);
        while wide.level < LEVEL_MAX {
            wide.collapse();
        }
        assert!(wide.bins().count() <= 3 && wide.accuracy() == 1.0);
    }

    #[test]
    fn a_sketch_survives_its_encoding_and_damage_is_none() {
        for spread in [0.1, 5.0, 300.0] {
            let before = sketch(&values(9, 900, spread));
            let mut out = Vec::new();
            before.encode(&mut out);
            assert_eq!(Sketch::take(&mut out.as_slice()), Some(before.clone()));
            assert_eq!(Sketch::from_bins(before.level(), before.bins()), Some(before));
            for cut in 0..out.len() {
                assert_eq!(Sketch::take(&mut &out[..cut]), None);
            }
            for at in 0..out.len() {
                let mut damaged = out.clone();
                damaged[at] ^= 0xa5;
                let _ = Sketch::take(&mut damaged.as_slice());
            }
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }
}
