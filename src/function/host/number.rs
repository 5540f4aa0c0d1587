//! Numbers as text: `format_f64`. The host does it well and fast; a guest would carry a kilobyte of code for less.
//!
//! - What is written is a JSON number, or `null` for what JSON has no number for.
//! - The shortest text that reads back as the same f64, or a fixed count of decimals.

use core::fmt::{self, Write as _};

use wasmi::Error;
use weir_abi::{DECIMALS_MAX, code};

use super::{Guest, charge, copying, fill, length, split, write};

/// What a number costs as text: some 100 ns on the reference machine.
const FUEL: usize = 64;
/// From here on a fixed count of decimals says nothing more.
const FIXED_MAX: f64 = 1e18;

pub(super) fn format_f64(mut guest: Guest<'_>, value: f64, decimals: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    charge(&mut guest, FUEL)?;
    let (memory, _) = split(&mut guest);
    let out = write(memory, dst, cap)?;
    let text = match decimals {
        -1 => Text::shortest(value),
        0..=DECIMALS_MAX => Text::fixed(value, decimals as usize),
        _ => return Ok(code::INVALID),
    };
    let copied = fill(out, text.bytes());
    charge(&mut guest, copying(copied))?;
    Ok(length(text.len))
}

/// The text of one number.
struct Text {
    space: [u8; Self::SPACE],
    len: usize,
}

impl Text {
    /// The longest is a sign, 18 digits, the point and 9 decimals.
    const SPACE: usize = 32;

    fn of(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self { space: [0; Self::SPACE], len: 0 };
        text.write_fmt(arguments).expect("every number has room");
        text
    }

    /// As few digits as tell it from its neighbours; with an exponent below 1e-6 and from 1e21 on, as in ECMAScript.
    fn shortest(value: f64) -> Self {
        match value.abs() {
            0.0 => Self::of(format_args!("0")),
            size if !size.is_finite() => Self::of(format_args!("null")),
            1e-6..1e21 => Self::of(format_args!("{value}")),
            _ => Self::of(format_args!("{value:e}")),
        }
    }

    /// Rounded to nearest, ties to even; no minus before zero.
    fn fixed(value: f64, decimals: usize) -> Self {
        if value.is_nan() || FIXED_MAX <= value.abs() {
            return Self::shortest(value);
        }
        let text = Self::of(format_args!("{value:.decimals$}"));
        let is_zero = text.bytes().iter().all(|byte| matches!(byte, b'-' | b'.' | b'0'));
        if is_zero { Self::of(format_args!("{:.decimals$}", 0.0)) } else { text }
    }

    fn bytes(&self) -> &[u8] {
        &self.space[..self.len]
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.space.get_mut(self.len..).and_then(|room| room.get_mut(..part.len())).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len += part.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &Text) -> &str {
        core::str::from_utf8(text.bytes()).unwrap()
    }

    #[test]
    fn readings_look_as_they_came() {
        for text in [
            "0",
            "-1",
            "21.37",
            "0.1",
            "-40.5",
            "0.000001",
            "-0.0000012345678901234567",
            "0.30000000000000004",
            "7.937253933193772",
            "999999999999999900000",
            "-100000000000000000000",
            "1e21",
            "1.5e300",
            "2.5e-7",
            "-2.2250738585072014e-308",
            "5e-324",
        ] {
            assert_eq!(shown(&Text::shortest(text.parse().unwrap())), text);
        }
        for value in [f64::NAN, f64::INFINITY, -f64::INFINITY] {
            assert_eq!((shown(&Text::shortest(value)), shown(&Text::fixed(value, 2))), ("null", "null"));
        }
        assert_eq!(shown(&Text::shortest(-0.0)), "0");
    }

    #[test]
    fn every_number_has_room_and_reads_back() {
        let mut bits = 1u64;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for value in [f64::from_bits(bits), (bits as i64) as f64, (bits as i32 as f64) / 1000.0] {
                if value.is_finite() {
                    assert_eq!(shown(&Text::shortest(value)).parse(), Ok(value));
                    let off = shown(&Text::fixed(value, 9)).parse::<f64>().unwrap() - value;
                    assert!(off.abs() <= 5.1e-10 + value.abs() * f64::EPSILON, "{value}");
                }
            }
        }
    }

    #[test]
    fn fixed_decimals_round_to_nearest_and_show_no_negative_zero() {
        for (value, decimals, text) in [
            (21.366, 1, "21.4"),
            (0.05, 1, "0.1"),
            (0.125, 2, "0.12"),
            (-0.04, 1, "0.0"),
            (-0.4, 0, "0"),
            (-1.5, 0, "-2"),
            (2.0, 3, "2.000"),
            (-999_999_999_999_999_872.0, 9, "-999999999999999872.000000000"),
            (1e18, 9, "1000000000000000000"),
            (1e300, 2, "1e300"),
        ] {
            assert_eq!(shown(&Text::fixed(value, decimals)), text);
        }
    }
}
