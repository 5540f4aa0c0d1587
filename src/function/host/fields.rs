//! Fields and the payload: `bind*`, `want`, `field_*`, `lookup_*`, `payload`.

use wasmi::Error;
use weir_abi::{F64_FIELDS_MAX, FIELDS_MAX, code, want as bits};

use super::{
    Bindings, Guest, charge, checked, copying, fill, length, out_of_bounds, read, scanning, split, text, unsigned,
    write,
};
use crate::field::{FieldKind, Path, Value, lookup};

pub(super) fn bind_f64(guest: Guest<'_>, path: i32, len: i32) -> Result<i32, Error> {
    bind_in(guest, path, len, |bindings| (&mut bindings.f64, F64_FIELDS_MAX))
}

pub(super) fn bind(guest: Guest<'_>, path: i32, len: i32) -> Result<i32, Error> {
    bind_in(guest, path, len, |bindings| (&mut bindings.typed, FIELDS_MAX))
}

fn bind_in(
    mut guest: Guest<'_>,
    path: i32,
    len: i32,
    list: fn(&mut Bindings) -> (&mut Vec<Path>, u32),
) -> Result<i32, Error> {
    let bytes = checked(&guest, path, len)?;
    charge(&mut guest, scanning(bytes))?;
    let (memory, host) = split(&mut guest);
    let path = read(memory, path, len)?;
    if !host.starting() {
        return Ok(code::DENIED);
    }
    let (paths, paths_max) = list(&mut host.bindings);
    let Some(path) = text(path).ok().and_then(|path| Path::parse(path).ok()) else {
        return Ok(code::INVALID);
    };
    // The same path twice is the same field.
    if let Some(id) = paths.iter().position(|bound| *bound == path) {
        return Ok(length(id));
    }
    if paths.len() == paths_max as usize {
        return Ok(code::ABSENT);
    }
    paths.push(path);
    Ok(length(paths.len() - 1))
}

pub(super) fn want(mut guest: Guest<'_>, wanted: i32) -> i32 {
    let host = guest.data_mut();
    if !host.starting() {
        return code::DENIED;
    }
    if wanted & !(bits::PAYLOAD | bits::TOPIC | bits::DEVICE) != 0 {
        return code::INVALID;
    }
    host.bindings.want = wanted;
    0
}

/// The bound field (absent in `on_start` and in intervals), or `None`: no such id.
fn bound(guest: &Guest<'_>, id: i32) -> Option<Value> {
    let host = guest.data();
    let index = unsigned(id);
    (index < host.bindings.typed.len()).then(|| host.view.values.get(index).copied().unwrap_or_default())
}

/// Remembers whether a getter found what it reads. A field that is absent is read by none.
fn note(guest: &mut Guest<'_>, id: i32, value: Option<Value>, fits: bool) {
    if value.is_some_and(|value| value.kind() != FieldKind::Absent) {
        let (view, bit) = (&mut guest.data_mut().view, 1 << unsigned(id).min(FIELDS_MAX as usize - 1));
        *(if fits { &mut view.read } else { &mut view.misread }) |= bit;
    }
}

pub(super) fn field_kind(guest: Guest<'_>, id: i32) -> i32 {
    bound(&guest, id).map_or(code::INVALID, |value| value.kind().code())
}

pub(super) fn field_f64(mut guest: Guest<'_>, id: i32) -> f64 {
    let value = bound(&guest, id);
    let number = value.and_then(|value| value.f64());
    note(&mut guest, id, value, number.is_some());
    number.unwrap_or(f64::NAN)
}

pub(super) fn field_i64(mut guest: Guest<'_>, id: i32, out: i32) -> Result<i32, Error> {
    let value = bound(&guest, id);
    let fits = value.is_some_and(|value| value.i64().is_some() || value.kind() == FieldKind::Bool);
    note(&mut guest, id, value, fits);
    let (memory, _) = split(&mut guest);
    let out = write(memory, out, 8)?;
    let Some(value) = value else { return Ok(code::INVALID) };
    Ok(match (value.kind(), value.i64().or(value.bool().map(i64::from))) {
        (FieldKind::Absent, _) => code::ABSENT,
        (_, None) => code::WRONG_TYPE,
        (_, Some(number)) => {
            out.copy_from_slice(&number.to_le_bytes());
            0
        }
    })
}

pub(super) fn field_str(mut guest: Guest<'_>, id: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    let value = bound(&guest, id);
    let answer = copy_text(&mut guest, value, dst, cap)?;
    note(&mut guest, id, value, answer != code::WRONG_TYPE);
    Ok(answer)
}

fn copy_text(guest: &mut Guest<'_>, value: Option<Value>, dst: i32, cap: i32) -> Result<i32, Error> {
    let (memory, host) = split(guest);
    let out = write(memory, dst, cap)?;
    let Some(value) = value else { return Ok(code::INVALID) };
    if value.kind() == FieldKind::Absent {
        return Ok(code::ABSENT);
    }
    let in_place = value.in_place(&host.view.payload).is_some();
    let Some(len) = value.text(&host.view.payload, out) else { return Ok(code::WRONG_TYPE) };
    let cost = if in_place { copying(len.min(unsigned(cap))) } else { scanning(len) };
    charge(guest, cost)?;
    Ok(length(len))
}

pub(super) fn field_f64s(mut guest: Guest<'_>, id: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    let value = bound(&guest, id);
    note(&mut guest, id, value, value.is_some_and(|value| value.kind() == FieldKind::Array));
    let raw = value.and_then(|value| value.in_place(&guest.data().view.payload).map(<[u8]>::len));
    charge(&mut guest, scanning(raw.unwrap_or_default()))?;
    let (memory, host) = split(&mut guest);
    let bytes = unsigned(cap).checked_mul(8).and_then(|bytes| i32::try_from(bytes).ok());
    let out = write(memory, dst, bytes.ok_or_else(|| out_of_bounds(dst, cap))?)?;
    let Some(value) = value else { return Ok(code::INVALID) };
    match value.kind() {
        FieldKind::Absent => return Ok(code::ABSENT),
        FieldKind::Array => {}
        _ => return Ok(code::WRONG_TYPE),
    }
    let (mut slots, mut count) = (out.chunks_exact_mut(8), 0);
    value.each_item(&host.view.payload, &mut |item| {
        if let Some(slot) = slots.next() {
            slot.copy_from_slice(&item.f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        count += 1;
    });
    Ok(length(count))
}

/// The field at a path that was not bound, or `None`: not a path.
fn look_up(guest: &mut Guest<'_>, path: i32, len: i32) -> Result<Option<Value>, Error> {
    let bytes = checked(guest, path, len)? + guest.data().view.payload.len();
    charge(guest, scanning(bytes))?;
    let (memory, host) = split(guest);
    let path = read(memory, path, len)?;
    let Ok(path) = text(path) else { return Ok(None) };
    if host.view.payload.is_empty() {
        return Ok(Path::parse(path).ok().map(|_| Value::default()));
    }
    // A malformed payload never reaches a function that looks fields up; what remains is a bad path.
    Ok(lookup(host.view.codec, &host.view.payload, path).ok())
}

pub(super) fn lookup_f64(mut guest: Guest<'_>, path: i32, len: i32) -> Result<f64, Error> {
    let value = look_up(&mut guest, path, len)?;
    Ok(value.and_then(|value| value.f64()).unwrap_or(f64::NAN))
}

pub(super) fn lookup_str(mut guest: Guest<'_>, path: i32, len: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    let value = look_up(&mut guest, path, len)?;
    copy_text(&mut guest, value, dst, cap)
}

pub(super) fn payload(mut guest: Guest<'_>, off: i32, dst: i32, cap: i32) -> Result<i32, Error> {
    let (memory, host) = split(&mut guest);
    let out = write(memory, dst, cap)?;
    let copied = fill(out, host.view.payload.get(unsigned(off)..).unwrap_or_default());
    charge(&mut guest, copying(copied))?;
    Ok(length(copied))
}
