//! Units of measure: no bare integer that means bytes, fuel or a duration crosses a module boundary unnamed.
//!
//! - [`Bytes`] prints and parses with a unit (`64 KiB`, `1 MiB`, `512 B`); units are binary, `KB` is refused as ambiguous.
//! - Durations parse with a unit (`250 ms`, `5 s`, `1 min`, `2 h`, `7 d`) and are kept as whole milliseconds.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Units of interpreter work: deterministic for one version of the interpreter and its cost table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fuel(pub u64);

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Why a quantity with a unit was refused; the text names the form that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError(pub String);

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

impl Bytes {
    /// `n` kibibytes (1024 bytes each).
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// `n` mebibytes (1024 KiB each).
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// As an index or length of memory, saturating on 32-bit machines.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const BYTE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = BYTE_UNITS.iter().find(|(_, size)| self.0 >= *size).unwrap_or(&BYTE_UNITS[3]);
        if self.0.is_multiple_of(*size) {
            f.pad(&format!("{} {unit}", self.0 / size))
        } else {
            f.pad(&format!("{:.1} {unit}", self.0 as f64 / *size as f64))
        }
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = TIME_UNITS
            .iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
            .unwrap_or(&TIME_UNITS[4]);
        f.pad(&format!("{} {unit}", self.0 / size))
    }
}

/// Splits `"64 KiB"` into a whole number and the factor of its unit.
fn parse_with_unit(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, UnitError> {
    let refuse = |why: &str| UnitError(format!("`{text}` {why}; write a whole number and a unit, as in \"{example}\""));
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| refuse("has no unit"))?;
    let number: u64 = trimmed[..end].parse().map_err(|_| refuse("does not start with a whole number"))?;
    let unit = trimmed[end..].trim();
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| refuse(&format!("has the unit `{unit}`, which is none of {}", names.join(", "))))?;
    number.checked_mul(*factor).ok_or_else(|| refuse("is too large"))
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_with_unit(text, &BYTE_UNITS, "64 KiB").map(Self)
    }
}

impl FromStr for Millis {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_with_unit(text, &TIME_UNITS, "5 s").map(Self)
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
serde_as_text!(Bytes);
serde_as_text!(Millis);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_round_trip_with_their_units() {
        for text in ["0 B", "64 KiB", "1 MiB", "3 GiB", "1023 B"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        for text in ["250 ms", "5 s", "1 min", "2 h", "7 d"] {
            assert_eq!(text.parse::<Millis>().unwrap().to_string(), text);
        }
        assert_eq!("64KiB".parse::<Bytes>(), Ok(Bytes::kib(64)));
    }

    #[test]
    fn a_refused_quantity_says_what_would_be_taken() {
        for (text, hint) in
            [("64", "no unit"), ("64 KB", "KiB"), ("-1 B", "whole number"), ("99999999999999999999 B", "whole")]
        {
            assert!(text.parse::<Bytes>().unwrap_err().0.contains(hint), "{text}");
        }
        assert!("5".parse::<Millis>().is_err() && "5 sec".parse::<Millis>().is_err());
    }
}
