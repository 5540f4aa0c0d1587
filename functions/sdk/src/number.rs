//! Whole numbers as text, and numbers from text that no field holds (a payload of another format), small.
//!
//! Read: JSON's grammar; exact for up to 15 digits and exponents within 22, else within a few units in the last place.

use crate::text::Writer;

/// Appends `scaled / 10^decimals`, with all `decimals` (at most 19).
#[inline(never)]
pub(crate) fn show_scaled(mut scaled: u64, decimals: usize, out: &mut Writer) {
    let mut digits = [0; 22];
    let mut left = digits.as_mut_slice();
    let mut place = 0;
    // From the last digit to the first.
    while scaled != 0 || place <= decimals {
        if place == decimals && place != 0 {
            push_front(&mut left, b'.');
        }
        push_front(&mut left, b'0' + (scaled % 10) as u8);
        (scaled, place) = (scaled / 10, place + 1);
    }
    let unused = left.len();
    out.bytes(digits.get(unused..).unwrap_or_default());
}

fn push_front(left: &mut &mut [u8], byte: u8) {
    if let Some((last, rest)) = core::mem::take(left).split_last_mut() {
        (*last, *left) = (byte, rest);
    }
}

/// Takes a JSON number off the front of `bytes`; `None` if there is none, or it is outside of f64's range.
pub fn take_number(bytes: &mut &[u8]) -> Option<f64> {
    let text = *bytes;
    // Places instead of a shrinking slice: an interpreter keeps them in registers.
    let digit = |at: usize| text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10);
    let is = |at: usize, wanted: u8| text.get(at) == Some(&wanted);
    let (mut mantissa, mut exponent) = (0u64, 0i32);
    let start = usize::from(is(0, b'-'));
    let mut at = start;
    while let Some(digit) = digit(at) {
        // 18 digits fit u64 and are more than f64 holds; the rest only moves the point.
        if mantissa < MANTISSA_FULL {
            mantissa = mantissa * 10 + u64::from(digit);
        } else {
            exponent += 1;
        }
        at += 1;
    }
    if at == start || (is(start, b'0') && at > start + 1) {
        return None;
    }
    if is(at, b'.') {
        at += 1;
        digit(at)?;
        while let Some(digit) = digit(at) {
            if mantissa < MANTISSA_FULL {
                (mantissa, exponent) = (mantissa * 10 + u64::from(digit), exponent - 1);
            }
            at += 1;
        }
    }
    let mut rest = text.get(at..)?;
    if let Some(b'e' | b'E') = rest.first() {
        exponent += take_power(&mut rest)?;
    }
    let mut value = mantissa as f64;
    if exponent != 0 {
        value = scale(value, exponent)?;
    }
    *bytes = rest;
    Some(if start == 1 { -value } else { value })
}

const MANTISSA_FULL: u64 = 100_000_000_000_000_000;

/// Takes `e-12` off the front: -12.
#[cold]
#[inline(never)]
fn take_power(bytes: &mut &[u8]) -> Option<i32> {
    let (sign, mut rest) = (bytes.get(1)?, bytes.get(1..)?);
    if let b'+' | b'-' = sign {
        rest = rest.get(1..)?;
    }
    let (mut power, digits_from) = (0i32, rest.len());
    while let Some((digit @ b'0'..=b'9', tail)) = rest.split_first() {
        (power, rest) = ((power * 10 + i32::from(digit - b'0')).min(9999), tail);
    }
    if rest.len() == digits_from {
        return None;
    }
    *bytes = rest;
    Some(if *sign == b'-' { -power } else { power })
}

/// `value * 10^exponent`, with one rounding while `|exponent|` is at most 22; `None` beyond f64's range.
#[inline(never)]
fn scale(mut value: f64, exponent: i32) -> Option<f64> {
    let mut left = exponent.unsigned_abs().min(400);
    while left > 0 && value != 0.0 {
        let (mut factor, step) = (1.0, left.min(22));
        for _ in 0..step {
            factor *= 10.0;
        }
        value = if exponent < 0 { value / factor } else { value * factor };
        left -= step;
    }
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_jsons_grammar() {
        for text in [
            "0",
            "-0.5",
            "12",
            "3.25",
            "1e3",
            "1.5E-3",
            "2e+2",
            "0.1",
            "123456789012345",
            "1e-5",
            "1234567890123456789012",
        ] {
            let mut rest = text.as_bytes();
            assert_eq!(take_number(&mut rest), text.parse().ok(), "{text}");
            assert!(rest.is_empty());
        }
        for text in ["", "-", ".5", "1.", "1e", "01", "+1", "1e999", "nan", "\"1\""] {
            assert_eq!(take_number(&mut text.as_bytes()), None, "{text}");
        }
        let mut list = b"1,2".as_slice();
        assert_eq!((take_number(&mut list), list), (Some(1.0), b",2".as_slice()));
    }
}
