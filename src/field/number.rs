//! JSON numbers (RFC 8259 §6): grammar, the nearest f64, and the exact i64 where there is one.
//!
//! - Short numbers are exact by one division (W. Clinger, "How to read floating point numbers accurately", 1990);
//!   the rest goes to `str::parse`, which is correctly rounded.

use super::Value;

/// Powers of ten that f64 holds exactly.
const POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Largest whole number below which f64 has every whole number.
const EXACT_MAX: u64 = 1 << 53;

/// What the grammar says of a number.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// The first byte behind it.
    pub(super) end: usize,
    negative: bool,
    /// All digits as one whole number, if there are at most 19; else it has wrapped.
    mantissa: u64,
    digits: usize,
    /// The number is `mantissa * 10^exponent`.
    exponent: i64,
}

pub(super) const OUT_OF_RANGE: &str = "a number outside f64's range";
const NO_DIGIT: &str = "a digit was expected";
const LEADING_ZERO: &str = "a number has a leading zero";

/// Checks the number that begins at `start` with `-` or a digit; the error is where and what.
#[inline(always)]
pub(super) fn shape(bytes: &[u8], start: usize) -> Result<Shape, (usize, &'static str)> {
    let negative = bytes[start] == b'-';
    let first = start + usize::from(negative);
    let mut mantissa = 0;
    let mut at = digits(bytes, first, &mut mantissa);
    let mut digits_read = at - first;
    if digits_read == 0 {
        return Err((at, NO_DIGIT));
    }
    if digits_read > 1 && bytes[first] == b'0' {
        return Err((first, LEADING_ZERO));
    }
    let mut exponent = 0;
    if bytes.get(at) == Some(&b'.') {
        let fraction = at + 1;
        at = digits(bytes, fraction, &mut mantissa);
        if at == fraction {
            return Err((at, NO_DIGIT));
        }
        digits_read += at - fraction;
        exponent = -((at - fraction) as i64);
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let (written, end) = power(bytes, at + 1)?;
        exponent = exponent.saturating_add(written);
        at = end;
    }
    Ok(Shape { end: at, negative, mantissa, digits: digits_read, exponent })
}

/// Where the number that begins at `start` ends, if it is well-formed and within range at a glance; `None`: the glance
/// was not enough, [`skip_with_care`] decides.
#[inline(always)]
pub(super) fn skip(bytes: &[u8], start: usize) -> Option<usize> {
    let first = start + usize::from(bytes[start] == b'-');
    let mut at = digits_end(bytes, first);
    let whole = at - first;
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1);
    }
    let odd = whole == 0 || bytes[at - 1] == b'.' || (whole > 1 && bytes[first] == b'0');
    let perhaps_too_large = whole > 300 || matches!(bytes.get(at), Some(b'e' | b'E'));
    (!odd && !perhaps_too_large).then_some(at)
}

/// Where the number that begins at `start` ends; the error is where and what.
#[cold]
pub(super) fn skip_with_care(bytes: &[u8], start: usize) -> Result<usize, (usize, &'static str)> {
    let shape = shape(bytes, start)?;
    match shape.surely_in_range() || shape.value(bytes, start).is_some() {
        true => Ok(shape.end),
        false => Err((start, OUT_OF_RANGE)),
    }
}

#[inline]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Reads digits from `at` into `mantissa`; answers where they end.
#[inline]
fn digits(bytes: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// The exponent that begins at `at`, behind the `e`, and where it ends.
fn power(bytes: &[u8], mut at: usize) -> Result<(i64, usize), (usize, &'static str)> {
    let negative = bytes.get(at) == Some(&b'-');
    at += usize::from(matches!(bytes.get(at), Some(b'-' | b'+')));
    let first = at;
    let mut power: i64 = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        power = power.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
        at += 1;
    }
    match at == first {
        true => Err((at, NO_DIGIT)),
        false => Ok((if negative { -power } else { power }, at)),
    }
}

impl Shape {
    /// Whether f64's range certainly holds it: below 10^308 by its digits alone.
    fn surely_in_range(&self) -> bool {
        (self.digits as i64).saturating_add(self.exponent) <= 308
    }

    /// The value; `None` if f64's range does not hold it.
    #[inline]
    pub(super) fn value(&self, bytes: &[u8], start: usize) -> Option<Value> {
        if self.digits > 19 || self.exponent > 0 || self.exponent < -22 {
            return self.value_at_length(bytes, start);
        }
        if self.exponent == 0 {
            let size = self.mantissa as f64;
            let float = if self.negative { -size } else { size };
            return Some(match signed(self.negative, self.mantissa) {
                Some(int) => Value::whole(int, float),
                None => Value::float(float),
            });
        }
        if self.mantissa > EXACT_MAX {
            return self.value_at_length(bytes, start);
        }
        let size = self.mantissa as f64 / POW10[self.exponent.unsigned_abs() as usize];
        let float = if self.negative { -size } else { size };
        // A whole quotient is rare enough to be looked at with care.
        if float as i64 as f64 == float {
            Some(with_exact(bytes, start, self.end, float))
        } else {
            Some(Value::float(float))
        }
    }

    #[cold]
    fn value_at_length(&self, bytes: &[u8], start: usize) -> Option<Value> {
        let text = core::str::from_utf8(&bytes[start..self.end]).ok()?;
        let float: f64 = text.parse().ok()?;
        float.is_finite().then(|| with_exact(bytes, start, self.end, float))
    }
}

fn with_exact(bytes: &[u8], start: usize, end: usize, float: f64) -> Value {
    exact(&bytes[start..end]).map_or(Value::float(float), |int| Value::whole(int, float))
}

fn signed(negative: bool, size: u64) -> Option<i64> {
    if negative { 0i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() }
}

/// The whole number that a JSON number names, if it is one within i64, without rounding.
fn exact(number: &[u8]) -> Option<i64> {
    let negative = number.first() == Some(&b'-');
    let (mut size, mut zeros, mut exponent, mut in_fraction): (u64, u32, i64, bool) = (0, 0, 0, false);
    for (at, byte) in number.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                exponent -= i64::from(in_fraction);
                // Zeros count only once a digit follows them; those before the first digit never do.
                if *byte == b'0' {
                    zeros += u32::from(size != 0);
                    continue;
                }
                size = 10u64.checked_pow(zeros + 1)?.checked_mul(size)?.checked_add(u64::from(byte - b'0'))?;
                zeros = 0;
            }
            b'.' => in_fraction = true,
            b'e' | b'E' => {
                exponent = exponent.saturating_add(power(number, at + 1).ok()?.0);
                break;
            }
            _ => {}
        }
    }
    if size == 0 {
        return Some(0);
    }
    let power = u32::try_from(exponent.saturating_add(i64::from(zeros))).ok()?;
    signed(negative, 10u64.checked_pow(power)?.checked_mul(size)?)
}

/// The whole number that `float` is, if it is one within i64.
#[must_use]
pub fn whole(float: f64) -> Option<i64> {
    // 2^63 itself is outside; -2^63 is inside. NaN compares false.
    let within = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
    (within && float as i64 as f64 == float).then_some(float as i64)
}

/// The number of a CBOR float: whole where it is.
pub(super) fn of_float(float: f64) -> Value {
    whole(float).map_or(Value::float(float), |int| Value::whole(int, float))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, (usize, &'static str)> {
        let shape = shape(text.as_bytes(), 0)?;
        let value = shape.value(text.as_bytes(), 0);
        let skipped = skip_with_care(text.as_bytes(), 0);
        assert_eq!(skipped.ok(), value.map(|_| shape.end), "{text}");
        assert!(skip(text.as_bytes(), 0).is_none_or(|end| Ok(end) == skipped), "{text}");
        assert!(!shape.surely_in_range() || value.is_some(), "{text}");
        match value {
            Some(_) if shape.end < text.len() => Err((shape.end, "goes on")),
            other => other.ok_or((0, OUT_OF_RANGE)),
        }
    }

    #[test]
    fn whole_numbers_are_exact_however_they_are_written() {
        for (text, want) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.0e9", Some(0)),
            ("20.0", Some(20)),
            ("2e1", Some(20)),
            ("200e-1", Some(20)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("-9223372036854775808.000000000000000000000000000", Some(i64::MIN)),
            ("0.00000000000000000000000000001e30", Some(10)),
            ("1e18", Some(1_000_000_000_000_000_000)),
            ("1e19", None),
            ("1e-400", None),
            ("1.5", None),
            ("18446744073709551615", None),
            ("100000000000000000000000000000000", None),
            ("0e999999999999999999999", Some(0)),
        ] {
            assert_eq!(read(text).unwrap().i64(), want, "{text}");
        }
    }

    #[test]
    fn floats_are_those_of_the_standard_library() {
        for text in [
            "0.1",
            "1.1e-5",
            "123456789.123456789",
            "5e-324",
            "1.7976931348623157e308",
            "-0.0",
            "2.5",
            "9007199254740993",
            "18446744073709551615",
            "0.30000000000000004",
            "123456789012345678901234567890",
            "1e22",
            "1e23",
            "-1.5e-7",
            "9007199254740992.5",
            "1e-999999999999",
            "0.000001",
            "4503599627370497.5",
        ] {
            let (ours, theirs) = (read(text).unwrap().f64().unwrap(), text.parse::<f64>().unwrap());
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (text, at) in [("-", 1), ("01", 0), ("-01", 1), ("1.", 2), ("1.e5", 2), ("1e", 2), ("1e+", 3), ("-x", 1)] {
            assert_eq!(read(text).unwrap_err().0, at, "{text}");
            assert_eq!(skip_with_care(text.as_bytes(), 0).unwrap_err().0, at, "{text}");
            assert_eq!(skip(text.as_bytes(), 0), None, "{text}");
        }
        for text in ["1e309", "-1e400", "1.8e308", &"9".repeat(400), "1e99999999999999999999"] {
            assert_eq!(read(text), Err((0, OUT_OF_RANGE)), "{text}");
        }
    }
}
