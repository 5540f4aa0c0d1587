//! Configuration and what is fixed for an invocation: `config_*`, `now_ms`, `random`, and the way out: `abort`.

use wasmi::Error;
use weir_abi::code;

use super::{Guest, Host, Stop, charge, checked, copying, fill, length, read, split, write};

/// Bytes that one call of `random` gives at most.
const RANDOM_BYTES_MAX: usize = 256;
/// Bytes of an abort's text that are kept.
const ABORT_BYTES_MAX: usize = 256;

impl Host {
    fn setting(&self, key: &[u8]) -> Option<&str> {
        let found = self.rules.config.iter().find(|(known, _)| known.as_bytes() == key);
        found.map(|(_, value)| value.as_str())
    }
}

fn charge_key(guest: &mut Guest<'_>, key: i32, len: i32) -> Result<(), Error> {
    let cost = copying(checked(guest, key, len)?) + guest.data().rules.config.len();
    charge(guest, cost)
}

pub(super) fn config_get(mut guest: Guest<'_>, key: i32, len: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    charge_key(&mut guest, key, len)?;
    let (memory, host) = split(&mut guest);
    let value = host.setting(read(memory, key, len)?);
    let out = write(memory, dst, cap)?;
    let Some(value) = value else { return Ok(code::ABSENT) };
    let (copied, len) = (fill(out, value.as_bytes()), length(value.len()));
    charge(&mut guest, copying(copied))?;
    Ok(len)
}

pub(super) fn config_f64(mut guest: Guest<'_>, key: i32, len: i32, default: f64) -> Result<f64, Error> {
    charge_key(&mut guest, key, len)?;
    let (memory, host) = split(&mut guest);
    let key = read(memory, key, len)?;
    let Some(value) = host.setting(key) else { return Ok(default) };
    // A default in its place would hide the slip.
    value.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
        Error::host(Stop::NoNumber { key: String::from_utf8_lossy(key).into_owned(), value: value.to_owned() })
    })
}

pub(super) fn now_ms(guest: Guest<'_>) -> i64 {
    guest.data().view.now_ms
}

pub(super) fn random(mut guest: Guest<'_>, dst: i32, len: i32) -> Result<i32, Error> {
    let cost = copying(checked(&guest, dst, len)?);
    charge(&mut guest, cost)?;
    let (memory, host) = split(&mut guest);
    let out = write(memory, dst, len)?;
    if RANDOM_BYTES_MAX < out.len() {
        return Ok(code::INVALID);
    }
    for chunk in out.chunks_mut(8) {
        fill(chunk, &splitmix(&mut host.view.random).to_le_bytes());
    }
    Ok(0)
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). Not for secrets.
pub(in crate::function) const fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

pub(super) fn abort(mut guest: Guest<'_>, ptr: i32, len: i32) -> Result<(), Error> {
    let (memory, _) = split(&mut guest);
    let said = read(memory, ptr, len)?;
    let kept = &said[..said.len().min(ABORT_BYTES_MAX)];
    Err(Error::host(Stop::Abort(String::from_utf8_lossy(kept).into_owned())))
}
