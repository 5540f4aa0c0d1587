//! Sums that do not depend on the order of what is added, and numbers in few bytes.
//!
//! - A value that is a decimal of at most six places (what devices send: `21.37`, `5`, `0.001`) is added exactly, as a
//!   whole number of millionths: `0.1 + 0.2` is `0.3`, in any order, over any number of partials and restarts. Bounds:
//!   whole numbers up to 2^53, fractions up to 2^50 millionths (some 1.1e9).
//! - Every other value is added in twice the precision of `f64` (the error-free sum of Knuth, TAOCP 4.2.2, Theorem B).
//! - A sum never becomes infinite or NaN: it stops at the largest `f64`.

use crate::entry::{unzigzag, zigzag};

const MICRO: i64 = 1_000_000;
/// Adding and taking it away rounds a number below 2^50 to a whole one.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;
const FRACTIONS_MAX: f64 = (1u64 << 50) as f64;
const WHOLE_MAX: f64 = (1u64 << 53) as f64;
/// Decimal places of a millionth.
const PLACES: u8 = 6;

/// A running sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// The decimals, in millionths.
    micros: i128,
    /// The other values, and the part of their sum that `rest` has no room for.
    rest: f64,
    rest_low: f64,
}

/// `value` in millionths, if it is the `f64` nearest to a decimal of at most six places, within the module's bounds.
#[must_use]
pub fn micros(value: f64) -> Option<i128> {
    let whole = value as i64;
    if whole as f64 == value && value.abs() <= WHOLE_MAX {
        return Some(i128::from(whole) * i128::from(MICRO));
    }
    small_micros(value).map(i128::from)
}

/// As [`micros`], for what fits 2^50 millionths.
fn small_micros(value: f64) -> Option<i64> {
    let scaled = value * MICRO as f64;
    let rounded = (scaled + ROUNDER) - ROUNDER;
    // The division is correctly rounded, so equality proves that `value` is the nearest `f64` of that decimal.
    (scaled.abs() < FRACTIONS_MAX && rounded / MICRO as f64 == value).then_some(rounded as i64)
}

impl Sum {
    /// Adds one finite value.
    pub fn add(&mut self, value: f64) {
        match micros(value) {
            Some(micros) => self.micros = self.micros.saturating_add(micros),
            None => self.add_rest(value, 0.0),
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.micros = self.micros.saturating_add(other.micros);
        self.add_rest(other.rest, other.rest_low);
    }

    fn add_rest(&mut self, value: f64, low: f64) {
        let sum = self.rest + value;
        let shadow = sum - self.rest;
        let error = (self.rest - (sum - shadow)) + (value - shadow);
        self.rest = finite(sum);
        let low = self.rest_low + (error + low);
        self.rest_low = if sum.is_finite() && low.is_finite() { low } else { 0.0 };
    }

    /// The nearest `f64` (of a sum beyond 2^53 millionths or with a rest: within one unit of the last place).
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        if self.micros.unsigned_abs() <= 1 << 53 {
            return finite(self.micros as f64 / MICRO as f64 + self.rest + self.rest_low);
        }
        let (whole, part) = (self.micros / i128::from(MICRO), self.micros % i128::from(MICRO));
        let high = whole as f64;
        let low = (whole - high as i128) as f64 + part as f64 / MICRO as f64;
        finite(high + self.rest + (low + self.rest_low))
    }

    /// The exact decimal: whole part and millionths; `None` if values that are no such decimals take part.
    #[must_use]
    pub fn exact_micros(&self) -> Option<i128> {
        (!self.has_rest()).then_some(self.micros)
    }

    /// Whether values take part that are not decimals of six places.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.rest != 0.0 || self.rest_low != 0.0
    }

    /// Appends the sum; `with_rest` is [`Sum::has_rest`], which the caller keeps.
    pub(super) fn encode(&self, with_rest: bool, out: &mut Vec<u8>) {
        let mut digits = self.micros;
        let mut places = PLACES;
        while places > 0 && digits % 10 == 0 {
            digits /= 10;
            places -= 1;
        }
        let zigzag = (digits.wrapping_shl(1) ^ (digits >> 127)) as u128;
        put_varint128(out, zigzag.wrapping_shl(3) | u128::from(places));
        if with_rest {
            out.extend_from_slice(&self.rest.to_le_bytes());
            out.extend_from_slice(&self.rest_low.to_le_bytes());
        }
    }

    /// The inverse of [`Sum::encode`].
    pub(super) fn take(bytes: &mut &[u8], with_rest: bool) -> Option<Self> {
        let coded = take_varint128(bytes)?;
        let places = (coded & 7) as u8;
        let zigzag = coded >> 3;
        let digits = (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128);
        let scale = 10i128.pow(u32::from(PLACES.checked_sub(places)?));
        let micros = digits.checked_mul(scale)?;
        let (rest, rest_low) = if with_rest { (take_raw(bytes)?, take_raw(bytes)?) } else { Default::default() };
        Some(Self { micros, rest, rest_low })
    }
}

/// Finite again: infinities become the largest number, NaN (which finite input cannot make) becomes 0.
#[must_use]
pub fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}

/// The values as decimals on the scale of the first, or `None` if one of them is not a small decimal.
pub(super) fn decimals<const N: usize>(values: [f64; N]) -> Option<([i64; N], u8)> {
    let mut digits = [0; N];
    for (digit, value) in digits.iter_mut().zip(values) {
        *digit = small_micros(value)?;
    }
    let mut places = PLACES;
    while places > 0 && digits.iter().all(|digit| digit % 10 == 0) {
        digits.iter_mut().for_each(|digit| *digit /= 10);
        places -= 1;
    }
    Some((digits, places))
}

/// The inverse of [`decimals`] for one value.
pub(super) fn from_decimal(digits: i64, places: u8) -> Option<f64> {
    let micros = digits.checked_mul(10i64.checked_pow(u32::from(PLACES.checked_sub(places)?))?)?;
    Some(micros as f64 / MICRO as f64)
}

/// Appends `digits` and `places` in one number.
pub(super) fn put_decimal(out: &mut Vec<u8>, digits: i64, places: u8) {
    put_varint128(out, u128::from(zigzag(digits)) << 3 | u128::from(places));
}

/// The inverse of [`put_decimal`].
pub(super) fn take_decimal(bytes: &mut &[u8]) -> Option<(i64, u8)> {
    let coded = take_varint128(bytes)?;
    Some((unzigzag(u64::try_from(coded >> 3).ok()?), (coded & 7) as u8))
}

/// Takes eight bytes as a finite `f64`.
pub(super) fn take_raw(bytes: &mut &[u8]) -> Option<f64> {
    let (head, tail) = bytes.split_first_chunk::<8>()?;
    *bytes = tail;
    Some(f64::from_le_bytes(*head)).filter(|value| value.is_finite())
}

fn put_varint128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint128(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0u128;
    for shift in (0..128).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u128::from(first & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> Sum {
        let mut sum = Sum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum
    }

    #[test]
    fn decimals_add_up_exactly_in_any_order() {
        let table: [(&[f64], f64); 7] = [
            (&[0.1, 0.2], 0.3),
            (&[21.37; 1000], 21_370.0),
            (&[9_007_199_254_740_992.0, 1.0, -9_007_199_254_740_992.0], 1.0),
            (&[-0.000_001, 0.000_003], 0.000_002),
            (&[1e9 + 0.5, 0.25, -1e9], 0.75),
            (&[-0.0], 0.0),
            (&[], 0.0),
        ];
        for (values, expected) in table {
            let reversed: Vec<f64> = values.iter().rev().copied().collect();
            assert_eq!(sum(values).to_f64(), expected, "{values:?}");
            assert_eq!(sum(values), sum(&reversed));
            assert!(!sum(values).has_rest());
        }
    }

    #[test]
    fn other_numbers_lose_nothing_to_cancellation() {
        let pi = core::f64::consts::PI;
        assert_eq!(sum(&[1e100, pi, -1e100]).to_f64(), pi);
        assert_eq!(sum(&[pi, 1e18, 0.5, -1e18, -pi]).to_f64(), 0.5);
        assert!(sum(&[pi]).has_rest() && sum(&[pi]).exact_micros().is_none());
    }

    #[test]
    fn a_sum_beyond_the_largest_number_stays_there() {
        assert_eq!(sum(&[f64::MAX, f64::MAX]).to_f64(), f64::MAX);
        assert!(sum(&[f64::MAX, f64::MAX, f64::MIN, f64::MIN, f64::MIN]).to_f64().is_finite());
        let mut twice = sum(&[f64::MIN, f64::MIN]);
        twice.merge(&sum(&[f64::MIN, 1.0]));
        assert_eq!(twice.to_f64(), f64::MIN);
    }

    #[test]
    fn a_sum_survives_its_encoding() {
        for values in [&[0.1, 7.0][..], &[1e15; 40], &[-1e-6], &[core::f64::consts::E, 1e300, 5.0], &[9e15; 4000], &[]]
        {
            let before = sum(values);
            let mut out = Vec::new();
            before.encode(before.has_rest(), &mut out);
            assert_eq!(Sum::take(&mut out.as_slice(), before.has_rest()), Some(before));
            for cut in 0..out.len() {
                assert_eq!(Sum::take(&mut &out[..cut], before.has_rest()), None);
            }
        }
    }

    #[test]
    fn numbers_that_are_no_decimals_of_six_places_are_told_apart() {
        for (value, expected) in [
            (0.5, Some(500_000)),
            (21.37, Some(21_370_000)),
            (0.123_456_7, None),
            (1.0 / 3.0, None),
            (1e16, None),
            (5e-324, None),
            (-7.0, Some(-7_000_000)),
        ] {
            assert_eq!(micros(value), expected, "{value}");
        }
    }
}
