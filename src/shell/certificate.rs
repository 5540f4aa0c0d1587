//! When a certificate is valid: the one thing that rustls does not tell of a certificate in a file.
//!
//! - Reads the DER as far as the validity (RFC 5280 §4.1), no further; checks nothing. Whatever the bytes are, it ends.

/// From when to when, in seconds since 1970, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`.
    pub from: i64,
    /// `notAfter`.
    pub until: i64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The optional version, explicitly tagged.
const VERSION: u8 = 0xa0;

/// The validity of a certificate in DER; `None` if it is not one.
#[must_use]
pub fn validity(der: &[u8]) -> Option<Validity> {
    let mut rest = der;
    let mut certificate = value(&mut rest, SEQUENCE)?;
    let mut to_be_signed = value(&mut certificate, SEQUENCE)?;
    if to_be_signed.first() == Some(&VERSION) {
        value(&mut to_be_signed, VERSION)?;
    }
    value(&mut to_be_signed, INTEGER)?;
    // Signature algorithm and issuer.
    value(&mut to_be_signed, SEQUENCE)?;
    value(&mut to_be_signed, SEQUENCE)?;
    let mut validity = value(&mut to_be_signed, SEQUENCE)?;
    Some(Validity { from: time(&mut validity)?, until: time(&mut validity)? })
}

/// The value of the next element, which must have this tag.
fn value<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut len = usize::from(*first);
    if len >= 0x80 {
        let (digits, after) = rest.split_at_checked(len & 0x7f).filter(|(digits, _)| digits.len() <= 4)?;
        len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
        rest = after;
    }
    let (value, after) = rest.split_at_checked(len)?;
    *bytes = after;
    (*found == tag).then_some(value)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn time(bytes: &mut &[u8]) -> Option<i64> {
    let tag = *bytes.first()?;
    let text = core::str::from_utf8(value(bytes, tag)?).ok()?.strip_suffix('Z')?;
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let (year, rest) = match tag {
        UTC_TIME if is_digits && text.len() == 12 => {
            let year: i64 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        GENERALIZED_TIME if is_digits && text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |index: usize| rest[index * 2..index * 2 + 2].parse::<i64>().ok();
    let (month, day) = (part(0)?, part(1)?);
    let of_day = part(2)? * 3600 + part(3)? * 60 + part(4)?;
    Some(days(year, month, day) * 86_400 + of_day)
}

/// Days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = (month + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (from, until, want) in [
            ((1970, 1, 1), (2000, 2, 29), (0, 951_782_400)),
            ((2020, 12, 31), (2100, 1, 1), (1_609_372_800, 4_102_444_800)),
        ] {
            let found = validity(&certificate(from, until)).unwrap();
            assert_eq!((found.from, found.until), want);
        }
    }

    #[test]
    fn a_cut_or_flipped_certificate_never_panics() {
        let der = certificate((2020, 1, 1), (2030, 1, 1));
        for cut in 0..der.len() {
            let _ = validity(&der[..cut]);
            let mut flipped = der.clone();
            flipped[cut] ^= 0x80;
            let _ = validity(&flipped);
        }
        assert_eq!((validity(b""), validity(&[0x30; 40])), (None, None));
    }
}
