//! Durable state: `state_get`, `state_put`, `state_delete`. Not in `on_start`: the image would depend on it.

use wasmi::Error;
use weir_abi::code;

use super::{Guest, charge, checked, copying, fill, length, read, split, write};
use crate::function::refused::Bound;
use crate::function::state::{Full, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Charges for looking a key up among the staged changes and in the map, and for `bytes` of values.
fn charge_key(guest: &mut Guest<'_>, key: i32, len: i32, bytes: usize) -> Result<(), Error> {
    let key_bytes = checked(guest, key, len)?;
    let staged = guest.data().state.staged_len();
    charge(guest, copying(key_bytes + bytes) + staged)
}

pub(super) fn state_get(mut guest: Guest<'_>, key: i32, len: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    charge_key(&mut guest, key, len, 0)?;
    let (memory, host) = split(&mut guest);
    let value = host.state.get(read(memory, key, len)?);
    let out = write(memory, dst, cap)?;
    if host.starting() {
        return Ok(code::DENIED);
    }
    let Some(value) = value else { return Ok(code::ABSENT) };
    let (copied, len) = (fill(out, value), length(value.len()));
    charge(&mut guest, copying(copied))?;
    Ok(len)
}

pub(super) fn state_put(mut guest: Guest<'_>, key: i32, len: i32, ptr: i32, value_len: i32) -> Result<i32, Error> {
    let bytes = checked(&guest, ptr, value_len)?;
    charge_key(&mut guest, key, len, bytes)?;
    let (memory, host) = split(&mut guest);
    let (key, value) = (read(memory, key, len)?, read(memory, ptr, value_len)?);
    if host.starting() {
        return Ok(code::DENIED);
    }
    if KEY_BYTES_MAX < key.len() || VALUE_BYTES_MAX < value.len() {
        return Ok(host.reached(Bound::StateEntry));
    }
    Ok(match host.state.put(key, value) {
        Ok(()) => 0,
        Err(Full::Quota) => host.reached(Bound::State),
        Err(Full::Call) => host.reached(Bound::StateOfCall),
    })
}

pub(super) fn state_delete(mut guest: Guest<'_>, key: i32, len: i32) -> Result<i32, Error> {
    charge_key(&mut guest, key, len, 0)?;
    let (memory, host) = split(&mut guest);
    let key = read(memory, key, len)?;
    if host.starting() {
        return Ok(code::DENIED);
    }
    Ok(match host.state.delete(key) {
        Ok(true) => 0,
        Ok(false) => code::ABSENT,
        Err(_) => host.reached(Bound::StateOfCall),
    })
}
