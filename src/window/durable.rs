//! Open windows on flash: how cells become entries, and come back.
//!
//! - A meter is called by a hash of what makes its cells comparable: name, kind and window's length. So the order of meters in
//!   the configuration is free, and a meter that was changed in one of the three is another one.
//! - Its definition is an entry of its own, `c, id u32 LE` → `version 1, kind, length varint, name, unit, topic` (each
//!   varint length and bytes), written before or with its first cell: a cell is understood, and can be emitted, when the
//!   configuration no longer knows its meter.
//! - A cell is `c, id u32 LE, zigzag varint of (start / length), key` → its statistics; the low bits of their first
//!   byte are quality and revision; the revision 3 is that of a window at its end whose values were all timed by a clock that
//!   was not set. A key of the counter `energy.pulses` for `meter-07` in a minute takes 17 bytes.

use core::fmt;
use std::borrow::Cow;

use super::aggregate::{Aggregate, from_owners_bits, kind_code, kind_from_code, owners_bits};
use super::cell::Stats;
use super::table::{Cell, Timing, Window};
use super::{Emit, Meter, MeterDef, REVISION_END, REVISION_LATE, REVISION_LATENESS, SPAN_MAX_MS, TIME_MAX_MS};
use crate::entry::{Entries, Space, put_varint, take, take_varint, unzigzag, zigzag};
use crate::manifest::{MeterKind, MeterSpec, MeterTime};
use crate::time::{TimeQuality, WallMillis};
use crate::units::Millis;

const VERSION: u8 = 1;
/// In a cell's bits only: [`REVISION_END`], and [`Timing::Unset`].
const REVISION_UNSET: u8 = 3;
const SPACE: u8 = Space::Cell as u8;

/// An entry that is neither a cell nor a meter's definition: damage that the CRC did not see, or a newer version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The key has not the form of this space.
    Key,
    /// The value has not the form that its key promises.
    Value,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a window cell's entry has a malformed key; it was left out",
            Self::Value => "a window cell's entry has a malformed value; it was left out",
        })
    }
}

impl std::error::Error for RestoreError {}

/// What became of the restored entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Cells that go on.
    pub cells: usize,
    /// Cells that were emitted, because their meter is gone or has less room.
    pub emitted: usize,
    /// Cells that could not be read because their meter's definition is missing: damage, and values lost.
    pub lost: usize,
}

/// What lies on flash and is not the cells' business any more; and, while restoring, what has no place.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Keys to delete (without the space), each as varint length and bytes.
    deletions: Vec<u8>,
    /// Reused.
    key: Vec<u8>,
    value: Vec<u8>,
    /// Cells without a place: key (without the space) and value. Empty once restoring has ended.
    orphans: Vec<(Vec<u8>, Vec<u8>)>,
    /// Definitions of meters that the configuration does not know.
    strangers: Vec<(u32, MeterDef)>,
    cells: usize,
}

/// A meter's name on flash (FNV-1a, folded).
pub(super) fn id(name: &str, kind: MeterKind, length_ms: u64) -> u32 {
    let length = length_ms.to_le_bytes();
    let bytes = name.bytes().chain([0, kind_code(kind)]).chain(length);
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ hash >> 32) as u32
}

fn put_cell_key(out: &mut Vec<u8>, id: u32, length_ms: i64, start_ms: WallMillis, key: &[u8]) {
    out.extend_from_slice(&id.to_le_bytes());
    put_varint(out, zigzag(start_ms.div_euclid(length_ms)));
    out.extend_from_slice(key);
}

fn put_definition(out: &mut Vec<u8>, def: &MeterDef, length_ms: i64) {
    out.extend_from_slice(&[VERSION, kind_code(def.spec.kind)]);
    put_varint(out, length_ms as u64);
    for text in [&def.name, &def.spec.unit, &def.topic] {
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn take_definition(mut bytes: &[u8]) -> Option<MeterDef> {
    let bytes = &mut bytes;
    let head = take(bytes, 2)?;
    let kind = kind_from_code(head[1]).filter(|_| head[0] == VERSION)?;
    let window = take_varint(bytes).filter(|length| (1..=SPAN_MAX_MS).contains(length))?;
    let mut text = || {
        let len = take_varint(bytes)?;
        String::from_utf8(take(bytes, len)?.to_vec()).ok()
    };
    let (name, unit, topic) = (text()?, text()?, text()?);
    let spec = MeterSpec {
        name: name.clone(),
        kind,
        window: Millis(window),
        lateness: Millis(0),
        time: MeterTime::Event,
        keys_max: 0,
        unit,
    };
    Some(MeterDef { name, spec, topic })
}

/// A cell's start and key, from the part of an entry's key behind the id.
fn take_place(mut bytes: &[u8], length_ms: i64) -> Option<(WallMillis, &[u8])> {
    let ordinal = unzigzag(take_varint(&mut bytes)?);
    let start_ms = ordinal.checked_mul(length_ms)?;
    (start_ms.unsigned_abs() <= 2 * TIME_MAX_MS as u64).then_some((start_ms, bytes))
}

fn put_cell(entries: &mut Entries, meter: &Meter, window: &Window, index: u32, key: &mut Vec<u8>, value: &mut Vec<u8>) {
    let cell = window.cell(index);
    key.clear();
    put_cell_key(key, meter.id, meter.length_ms, window.start_ms, window.key(index));
    value.clear();
    let is_unset = window.timing == Timing::Unset && window.revision == REVISION_END;
    let owners = owners_bits(cell.quality, if is_unset { REVISION_UNSET } else { window.revision });
    cell.stats.encode(meter.def.spec.kind, window.start_ms, owners, value);
    entries.put(&[&[SPACE], key], value);
}

fn put_meter(entries: &mut Entries, meter: &Meter, value: &mut Vec<u8>) {
    value.clear();
    put_definition(value, &meter.def, meter.length_ms);
    entries.put(&[&[SPACE], &meter.id.to_le_bytes()], value);
}

/// Everything as entries.
pub(super) fn export(meters: &[Meter], entries: &mut Entries) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for meter in meters.iter().filter(|meter| meter.described || meter.cells > 0) {
        put_meter(entries, meter, &mut value);
        for window in &meter.windows {
            (0..window.len() as u32).for_each(|index| put_cell(entries, meter, window, index, &mut key, &mut value));
        }
    }
}

impl Pending {
    /// A stored cell is gone.
    pub fn delete(&mut self, id: u32, length_ms: i64, start_ms: WallMillis, key: &[u8]) {
        self.key.clear();
        put_cell_key(&mut self.key, id, length_ms, start_ms, key);
        put_varint(&mut self.deletions, self.key.len() as u64);
        self.deletions.extend_from_slice(&self.key);
    }

    /// Writes deletions, then touched cells: a cell that was emitted and came anew is both.
    pub fn drain(&mut self, meters: &mut [Meter], entries: &mut Entries) {
        let mut deletions = self.deletions.as_slice();
        while let Some(key) = take_varint(&mut deletions).and_then(|len| take(&mut deletions, len)) {
            entries.delete(&[&[SPACE], key]);
        }
        self.deletions.clear();
        for meter in meters {
            if !meter.described && meter.windows.iter().any(|window| !window.dirty.is_empty()) {
                put_meter(entries, meter, &mut self.value);
                meter.described = true;
            }
            for at in 0..meter.windows.len() {
                let window = &meter.windows[at];
                for index in &window.dirty {
                    put_cell(entries, meter, window, *index, &mut self.key, &mut self.value);
                }
                meter.windows[at].drained();
            }
        }
    }

    /// Takes an entry back; when its window is due.
    pub fn restore(&mut self, meters: &mut [Meter], key: &[u8], value: &[u8]) -> Result<WallMillis, RestoreError> {
        let key = key.strip_prefix(&[SPACE]).ok_or(RestoreError::Key)?;
        let (id, place) = key.split_first_chunk::<4>().ok_or(RestoreError::Key)?;
        let id = u32::from_le_bytes(*id);
        let meter = meters.iter_mut().find(|meter| meter.id == id);
        if place.is_empty() {
            let def = take_definition(value).ok_or(RestoreError::Value)?;
            match meter {
                // Unit or topic may have changed; then the definition is written anew.
                Some(meter) => meter.described = def.topic == meter.def.topic && def.spec.unit == meter.def.spec.unit,
                None => self.strangers.push((id, def)),
            }
            return Ok(i64::MAX);
        }
        let Some(meter) = meter else {
            take_varint(&mut &*place).ok_or(RestoreError::Key)?;
            self.orphans.push((key.to_vec(), value.to_vec()));
            return Ok(i64::MAX);
        };
        let (start_ms, cell_key) = take_place(place, meter.length_ms).ok_or(RestoreError::Key)?;
        let (stats, owners) = take_stats(value, meter.def.spec.kind, start_ms).ok_or(RestoreError::Value)?;
        let (quality, revision, timing) = from_cell_bits(owners);
        let Some(window) = meter.window_to_restore(start_ms, (revision, timing), cell_key) else {
            self.orphans.push((key.to_vec(), value.to_vec()));
            return Ok(i64::MAX);
        };
        let due_ms = meter.windows[window].due_ms;
        meter.put_back(window, cell_key, stats, quality);
        self.cells += 1;
        Ok(due_ms)
    }

    /// Emits and deletes what has no place.
    pub fn restored(&mut self, meters: &[Meter], emit: Emit<'_>) -> Restored {
        let mut restored = Restored { cells: core::mem::take(&mut self.cells), ..Restored::default() };
        let mut orphans = core::mem::take(&mut self.orphans);
        orphans.sort_unstable();
        for (key, value) in &orphans {
            let emitted = self.emit_orphan(meters, key, value, emit);
            *(if emitted.is_some() { &mut restored.emitted } else { &mut restored.lost }) += 1;
            put_varint(&mut self.deletions, key.len() as u64);
            self.deletions.extend_from_slice(key);
        }
        for (id, _) in core::mem::take(&mut self.strangers) {
            put_varint(&mut self.deletions, 4);
            self.deletions.extend_from_slice(&id.to_le_bytes());
        }
        restored
    }

    fn emit_orphan(&self, meters: &[Meter], key: &[u8], value: &[u8], emit: Emit<'_>) -> Option<()> {
        let (id, place) = key.split_first_chunk::<4>()?;
        let id = u32::from_le_bytes(*id);
        let known = meters.iter().find(|meter| meter.id == id).map(|meter| &meter.def);
        let def = known.or_else(|| self.strangers.iter().find(|(other, _)| *other == id).map(|(_, def)| def))?;
        let length_ms = i64::try_from(def.spec.window.0.clamp(1, SPAN_MAX_MS)).ok()?;
        let (start_ms, cell_key) = take_place(place, length_ms)?;
        let (stats, owners) = take_stats(value, def.spec.kind, start_ms)?;
        let (quality, revision, _) = from_cell_bits(owners);
        let aggregate = Aggregate {
            meter: &def.name,
            unit: &def.spec.unit,
            kind: def.spec.kind,
            key: cell_key,
            start_ms,
            end_ms: start_ms + length_ms,
            revision,
            quality,
            stats: Cow::Owned(stats),
        };
        emit(def, &aggregate);
        Some(())
    }
}

fn take_stats(mut value: &[u8], kind: MeterKind, start_ms: WallMillis) -> Option<(Stats, u8)> {
    let stats = Stats::take(&mut value, kind, start_ms)?;
    value.is_empty().then_some(stats)
}

fn from_cell_bits(owners: u8) -> (TimeQuality, u8, Timing) {
    match from_owners_bits(owners) {
        (quality, REVISION_UNSET) => (quality, REVISION_END, Timing::Unset),
        (quality, revision) => (quality, revision, Timing::Mixed),
    }
}

impl Meter {
    /// The window of a restored cell, or `None` if the bounds have no room for it.
    fn window_to_restore(
        &mut self,
        start_ms: WallMillis,
        (revision, timing): (u8, Timing),
        key: &[u8],
    ) -> Option<usize> {
        if let Some(window) = self.window_at(start_ms) {
            let room = self.cells < self.cells_max() && (!self.is_full(window) || key == super::OVERFLOW_KEY);
            let found = room || self.windows[window].find(key).is_some();
            if found {
                self.windows[window].join(timing);
            }
            return found.then_some(window);
        }
        let room = self.windows.len() < self.windows_max()
            && self.cells < self.cells_max()
            && (self.def.spec.keys_max > 0 || key == super::OVERFLOW_KEY);
        let end_ms = start_ms + self.length_ms;
        let due_ms = match revision {
            REVISION_LATENESS => end_ms + self.lateness_ms,
            // How long it waited is not known, so it waits no longer.
            REVISION_LATE.. => -TIME_MAX_MS,
            _ => end_ms,
        };
        room.then(|| {
            let window = self.insert(Window::default().opened(start_ms, due_ms, revision));
            self.windows[window].timing = timing;
            window
        })
    }

    fn put_back(&mut self, window: usize, key: &[u8], stats: Stats, quality: TimeQuality) {
        let window = &mut self.windows[window];
        let index = match window.find(key) {
            Some(index) => index,
            None => {
                self.cells += 1;
                window.overflows |= key == super::OVERFLOW_KEY;
                window.insert(key)
            }
        };
        let cell: &mut Cell = window.cell_mut(index);
        (cell.stats, cell.quality, cell.stored) = (stats, quality, true);
    }
}
