//! What an invocation wants to do: `emit`, `meter*`, `log`.

use wasmi::Error;
use weir_abi::{code, level};

use super::{Guest, charge, checked, copying, length, read, split, text, unsigned};
use crate::function::refused::Bound;
use crate::function::staged::METER_KEY_BYTES_MAX;
use crate::manifest::MeterKind;
use crate::topic::check_name;

pub(super) fn emit(mut guest: Guest<'_>, topic: i32, topic_len: i32, ptr: i32, len: i32) -> Result<i32, Error> {
    // Each filter compares the topic.
    let compared = checked(&guest, topic, topic_len)?.saturating_mul(guest.data().rules.emits.len() + 1);
    let stored = checked(&guest, ptr, len)?;
    charge(&mut guest, copying(compared.saturating_add(stored)))?;
    let (memory, host) = split(&mut guest);
    let (topic, payload) = (read(memory, topic, topic_len)?, read(memory, ptr, len)?);
    if host.starting() {
        return Ok(code::DENIED);
    }
    let topic = match text(topic) {
        Ok(topic) if check_name(topic).is_ok() => topic,
        _ => return Ok(code::INVALID),
    };
    if !host.rules.emits.iter().any(|filter| filter.matches(topic)) {
        return Ok(code::DENIED);
    }
    Ok(match host.staged.emit(topic, payload) {
        Ok(()) => 0,
        Err(_) => host.reached(Bound::Emits),
    })
}

pub(super) fn meter(mut guest: Guest<'_>, name: i32, len: i32) -> Result<i32, Error> {
    let cost = copying(checked(&guest, name, len)?) + guest.data().rules.meters.len();
    charge(&mut guest, cost)?;
    let (memory, host) = split(&mut guest);
    let name = read(memory, name, len)?;
    if !host.starting() {
        return Ok(code::DENIED);
    }
    let Some(id) = host.rules.meters.iter().position(|(known, _)| known.as_bytes() == name) else {
        return Ok(code::ABSENT);
    };
    if !host.bindings.meters.contains(&(id as u16)) {
        host.bindings.meters.push(id as u16);
    }
    Ok(length(id))
}

pub(super) fn meter_add(guest: Guest<'_>, id: i32, key: i32, len: i32, value: f64) -> Result<i32, Error> {
    measure(guest, MeterKind::Counter, id, (key, len), value)
}

pub(super) fn meter_set(guest: Guest<'_>, id: i32, key: i32, len: i32, value: f64) -> Result<i32, Error> {
    measure(guest, MeterKind::Gauge, id, (key, len), value)
}

pub(super) fn meter_observe(guest: Guest<'_>, id: i32, key: i32, len: i32, value: f64) -> Result<i32, Error> {
    measure(guest, MeterKind::Distribution, id, (key, len), value)
}

fn measure(mut guest: Guest<'_>, kind: MeterKind, id: i32, key: (i32, i32), value: f64) -> Result<i32, Error> {
    let cost = copying(checked(&guest, key.0, key.1)?);
    charge(&mut guest, cost)?;
    let (memory, host) = split(&mut guest);
    let key = read(memory, key.0, key.1)?;
    if host.starting() {
        return Ok(code::DENIED);
    }
    let Some((_, known)) = host.rules.meters.get(unsigned(id)) else { return Ok(code::INVALID) };
    if *known != kind {
        return Ok(code::WRONG_TYPE);
    }
    let key = match text(key) {
        Ok(key) if key.len() <= METER_KEY_BYTES_MAX && value.is_finite() => key,
        _ => return Ok(code::INVALID),
    };
    // METERS_MAX meters at most: the number fits.
    Ok(match host.staged.meter(id as u16, kind, key, value) {
        Ok(()) => 0,
        Err(_) => host.reached(Bound::MeterOps),
    })
}

pub(super) fn log(mut guest: Guest<'_>, at: i32, ptr: i32, len: i32) -> Result<(), Error> {
    let cost = copying(checked(&guest, ptr, len)?);
    charge(&mut guest, cost)?;
    let (memory, host) = split(&mut guest);
    let line = read(memory, ptr, len)?;
    host.staged.log(at.clamp(level::ERROR, level::DEBUG) as u8, line);
    Ok(())
}
