//! Meters' values folded by key into tumbling windows, and the partial aggregates that come out.
//!
//! - A window is half-open, `[start, end)`, and starts at a whole multiple of its length since 1970.
//! - A value is in exactly one cell until the cell is emitted, and then in exactly one aggregate: whatever the clock does,
//!   the merge of all aggregates of a (meter, key, window) is what was folded. Nothing is dropped here, ever.
//! - A window is emitted at its end (revision 0); values that come within the allowed lateness gather for a second one
//!   (revision 1), and values after that for one that is emitted soon ([`LATE_DELAY_MAX_MS`]; revision 2).
//! - Bounds: a meter has at most [`MeterSpec::cells_max`] cells, in [`MeterSpec::open_windows_max`] + [`STRAY_WINDOWS`]
//!   windows, and `keys_max` keys (and the overflow key) in each. Reaching one is an ordinary answer: keys fold into
//!   [`OVERFLOW_KEY`]; where there is no room for another window or cell, the window furthest from now is emitted early.
//! - Windows that go by a clock that was not set wait for it a while ([`FoldTime::hold_until_ms`]); when the clock is put right,
//!   what is still open is put right with it ([`Windows::shift`]).
//! - The same calls give the same aggregates in the same order: (meter, window, key).

pub mod aggregate;
pub mod cell;
mod durable;
mod shift;
pub mod sketch;
pub mod sum;
mod table;
#[cfg(test)]
mod tests;

use core::fmt;
use std::borrow::Cow;

pub use aggregate::{Aggregate, REVISION_END, REVISION_LATE, REVISION_LATENESS, REVISION_ROLLED_UP};
pub use cell::Stats;
pub use durable::{RestoreError, Restored};

use crate::budget::costs::METER_KEY_MAX;
use crate::entry::Entries;
use crate::manifest::{MeterSpec, MeterTime};
use crate::time::{TimeQuality, WallMillis};
use sketch::Mapping;
use table::{Timing, Window};

/// The key that takes the values of keys beyond `keys_max`.
pub const OVERFLOW_KEY: &[u8] = b"~overflow";
/// Windows of a meter beside those that are open in the normal course: late ones, and those of clocks that run ahead.
pub const STRAY_WINDOWS: usize = 8;
/// A late value is emitted after one window's length, or this time if that is shorter.
pub const LATE_DELAY_MAX_MS: i64 = 10_000;
/// Longest window and lateness: a leap year.
const SPAN_MAX_MS: u64 = 366 * 86_400_000;
/// Times are kept within this distance of 1970 (the range of ECMAScript's `Date`), so that no sum overflows.
const TIME_MAX_MS: i64 = 8_640_000_000_000_000;

/// A meter of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterDef {
    /// `FUNCTION.METER`: unique.
    pub name: String,
    /// Kind, window, bounds.
    pub spec: MeterSpec,
    /// The topic of its aggregates' records.
    pub topic: String,
}

/// When a value was taken, and when it is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldTime {
    /// The event's time (bounded skew is the caller's business).
    pub event_ms: WallMillis,
    /// The time of processing.
    pub now_ms: WallMillis,
    /// Quality of the event's time.
    pub quality: TimeQuality,
    /// Whether the event's time is the gateway's own, not a device's.
    pub is_own: bool,
    /// Quality of the gateway's clock.
    pub clock: TimeQuality,
    /// Windows that go by the gateway's clock while it is not set are emitted at this time at the earliest: it may be set by
    /// then, and they with it.
    pub hold_until_ms: WallMillis,
}

/// Where a value went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Fold {
    /// Relative to its window.
    pub lateness: Lateness,
    /// Its key had no room: it is in the overflow key's cell.
    pub overflow: bool,
}

/// When a value came, relative to its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// Before the window's end.
    OnTime,
    /// Within the allowed lateness.
    Late,
    /// After it. The value is kept all the same, and emitted as late.
    TooLate,
}

/// Meters whose cells could not be told apart on flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowsError {
    /// The names' short hashes are equal; rename one of the meters. (One pair in 4 billion.)
    NamesCollide {
        /// A meter.
        one: String,
        /// Another, or the same again.
        other: String,
    },
}

impl fmt::Display for WindowsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamesCollide { one, other } if one == other => write!(f, "the meter {one} is defined twice"),
            Self::NamesCollide { one, other } => {
                write!(f, "the meters {one} and {other} have the same short hash: rename one of them")
            }
        }
    }
}

impl std::error::Error for WindowsError {}

/// What [`Windows`] calls for every aggregate that it emits.
pub type Emit<'a> = &'a mut dyn FnMut(&MeterDef, &Aggregate<'_>);

/// All open windows of all meters.
#[derive(Debug)]
pub struct Windows {
    meters: Vec<Meter>,
    mapping: Mapping,
    /// No window is due before; it may be too early.
    due_ms: WallMillis,
    /// What the next drain must delete, and forget of meters.
    durable: durable::Pending,
}

#[derive(Debug)]
struct Meter {
    def: MeterDef,
    /// What the meter is called on flash.
    id: u32,
    /// Its definition lies on flash.
    described: bool,
    length_ms: i64,
    lateness_ms: i64,
    /// Ascending, disjoint.
    windows: Vec<Window>,
    /// Cells in `windows`.
    cells: usize,
    /// Storage of a window that was emitted.
    spare: Option<Window>,
}

impl Windows {
    /// No values yet, for these meters; a meter's index in the list is its number.
    ///
    /// # Errors
    /// Two meters would have the same name on flash.
    pub fn new(meters: Vec<MeterDef>) -> Result<Self, WindowsError> {
        let meters: Vec<Meter> = meters.into_iter().map(Meter::new).collect();
        for (at, meter) in meters.iter().enumerate() {
            if let Some(other) = meters[..at].iter().find(|other| other.id == meter.id) {
                let (one, other) = (meter.def.name.clone(), other.def.name.clone());
                return Err(WindowsError::NamesCollide { one, other });
            }
        }
        Ok(Self { meters, mapping: Mapping::default(), due_ms: i64::MAX, durable: Default::default() })
    }

    /// The meters, by number.
    pub fn meters(&self) -> impl ExactSizeIterator<Item = &MeterDef> {
        self.meters.iter().map(|meter| &meter.def)
    }

    /// Cells in use.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.meters.iter().map(|meter| meter.cells).sum()
    }

    /// Folds one value into the cell of its key and window. `emit` is called only where a bound makes a window leave early.
    /// `None`: the value is not finite and was not taken (host calls refuse such values before).
    ///
    /// # Panics
    /// If there is no meter of that number.
    pub fn fold(&mut self, at: FoldTime, meter: u16, key: &[u8], value: f64, emit: Emit<'_>) -> Option<Fold> {
        if !value.is_finite() {
            return None;
        }
        let meter = &mut self.meters[usize::from(meter)];
        let (time_ms, is_own, quality) = match meter.def.spec.time {
            MeterTime::Event => (at.event_ms, at.is_own, at.quality),
            MeterTime::Processing => (at.now_ms, true, at.clock),
        };
        let timing = Timing::of(is_own, at.clock);
        let time_ms = time_ms.clamp(-TIME_MAX_MS, TIME_MAX_MS);
        let now_ms = at.now_ms.clamp(-TIME_MAX_MS, TIME_MAX_MS);
        let mut window = match meter.window_at(time_ms) {
            Some(window) => {
                meter.windows[window].join(timing);
                window
            }
            None => {
                let window = meter.open(time_ms, now_ms, &mut self.durable, emit);
                meter.windows[window].timing = timing;
                meter.windows[window].hold(at.hold_until_ms);
                self.due_ms = self.due_ms.min(meter.windows[window].due_ms);
                window
            }
        };
        let (cell, overflow) = match meter.windows[window].find(key) {
            Some(cell) => (cell, false),
            None => meter.admit(&mut window, key, now_ms, &mut self.durable, emit),
        };
        let (kind, window) = (meter.def.spec.kind, &mut meter.windows[window]);
        window.mark(cell);
        let lateness = match now_ms - (window.start_ms + meter.length_ms) {
            ..0 => Lateness::OnTime,
            past if past < meter.lateness_ms => Lateness::Late,
            _ => Lateness::TooLate,
        };
        let cell = window.cell_mut(cell);
        cell.quality = if cell.stats.count == 0 { quality } else { cell.quality.min(quality) };
        cell.stats.fold(kind, &self.mapping, time_ms, value);
        Some(Fold { lateness, overflow })
    }

    /// After restoring: what was timed by a clock that was not set waits until then for it to be set.
    pub fn hold(&mut self, until_ms: WallMillis) {
        self.meters.iter_mut().flat_map(|meter| &mut meter.windows).for_each(|window| window.hold(until_ms));
    }

    /// When [`Windows::close_due`] has something to do next; `None` if nothing is open.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<WallMillis> {
        Some(self.due_ms).filter(|_| self.meters.iter().any(|meter| !meter.windows.is_empty()))
    }

    /// Emits every window that is due, in the order of meter, window and key.
    pub fn close_due(&mut self, now_ms: WallMillis, emit: Emit<'_>) {
        if now_ms < self.due_ms {
            return;
        }
        self.due_ms = i64::MAX;
        for meter in &mut self.meters {
            let mut at = 0;
            while at < meter.windows.len() {
                let window = &meter.windows[at];
                if window.due_ms <= now_ms {
                    meter.close(at, &mut self.durable, emit);
                } else {
                    self.due_ms = self.due_ms.min(window.due_ms);
                    at += 1;
                }
            }
        }
    }

    /// Emits everything, due or not: before a gateway is taken out of service.
    pub fn close_all(&mut self, emit: Emit<'_>) {
        for meter in &mut self.meters {
            while !meter.windows.is_empty() {
                meter.close(0, &mut self.durable, emit);
            }
        }
        self.due_ms = i64::MAX;
    }

    /// Writes what changed since the last drain: a new value for each cell that was touched, a deletion for each that
    /// was emitted. All of it belongs into one commit with the records of what was emitted.
    pub fn drain_dirty(&mut self, entries: &mut Entries) {
        self.durable.drain(&mut self.meters, entries);
    }

    /// Writes everything, for a snapshot; nothing counts as drained by it.
    pub fn export(&self, entries: &mut Entries) {
        durable::export(&self.meters, entries);
    }

    /// Takes one entry of [`crate::entry::Space::Cell`] back, in any order; all of them before the first fold, and
    /// [`Windows::restored`] after the last.
    ///
    /// # Errors
    /// The entry is damaged: it is left out.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        let due_ms = self.durable.restore(&mut self.meters, key, value)?;
        self.due_ms = self.due_ms.min(due_ms);
        Ok(())
    }

    /// Ends restoring: emits the cells that have no place any more (their meter was removed or has another kind or window,
    /// or there is less room), whose entries the next drain deletes.
    pub fn restored(&mut self, emit: Emit<'_>) -> Restored {
        self.durable.restored(&self.meters, emit)
    }
}

impl Meter {
    fn new(def: MeterDef) -> Self {
        Self {
            id: durable::id(&def.name, def.spec.kind, def.spec.window.0),
            described: false,
            length_ms: def.spec.window.0.clamp(1, SPAN_MAX_MS) as i64,
            lateness_ms: def.spec.lateness.0.min(SPAN_MAX_MS) as i64,
            windows: Vec::new(),
            cells: 0,
            spare: None,
            def,
        }
    }

    /// The open window that `time_ms` lies in.
    #[inline]
    fn window_at(&self, time_ms: WallMillis) -> Option<usize> {
        let last = self.windows.last()?;
        let at = if last.start_ms <= time_ms { self.windows.len() } else { self.place(time_ms) }.checked_sub(1)?;
        (time_ms - self.windows[at].start_ms < self.length_ms).then_some(at)
    }

    /// How many windows start at or before `time_ms`.
    fn place(&self, time_ms: WallMillis) -> usize {
        self.windows.partition_point(|window| window.start_ms <= time_ms)
    }

    fn windows_max(&self) -> usize {
        usize::try_from(self.def.spec.open_windows_max()).unwrap_or(usize::MAX).saturating_add(STRAY_WINDOWS)
    }

    fn cells_max(&self) -> usize {
        usize::try_from(self.def.spec.cells_max()).unwrap_or(usize::MAX)
    }

    /// Opens the window of `time_ms`, which is not open; its place in the list.
    fn open(
        &mut self,
        time_ms: WallMillis,
        now_ms: WallMillis,
        durable: &mut durable::Pending,
        emit: Emit<'_>,
    ) -> usize {
        if self.windows_max() <= self.windows.len() {
            let furthest = self.furthest(now_ms, None);
            self.close(furthest.expect("there are windows, since there are too many"), durable, emit);
        }
        let start_ms = time_ms - time_ms.rem_euclid(self.length_ms);
        let end_ms = start_ms + self.length_ms;
        let (revision, due_ms) = if now_ms < end_ms {
            (REVISION_END, end_ms)
        } else if now_ms < end_ms + self.lateness_ms {
            (REVISION_LATENESS, end_ms + self.lateness_ms)
        } else {
            (REVISION_LATE, now_ms + self.length_ms.min(LATE_DELAY_MAX_MS))
        };
        let storage = self.spare.take().unwrap_or_default();
        self.insert(storage.opened(start_ms, due_ms, revision))
    }

    fn insert(&mut self, window: Window) -> usize {
        let at = self.place(window.start_ms);
        self.windows.insert(at, window);
        at
    }

    /// A cell for `key`, which has none in the window: a new one, or the overflow key's. The window may move.
    fn admit(
        &mut self,
        window: &mut usize,
        key: &[u8],
        now_ms: WallMillis,
        durable: &mut durable::Pending,
        emit: Emit<'_>,
    ) -> (u32, bool) {
        let full = self.is_full(*window) || METER_KEY_MAX < key.len() as u64;
        let (key, overflow) = if full { (OVERFLOW_KEY, true) } else { (key, key == OVERFLOW_KEY) };
        if let Some(cell) = self.windows[*window].find(key) {
            return (cell, overflow);
        }
        while self.cells_max() <= self.cells {
            let Some(furthest) = self.furthest(now_ms, Some(*window)) else { break };
            self.close(furthest, durable, emit);
            *window -= usize::from(furthest < *window);
        }
        self.cells += 1;
        let window = &mut self.windows[*window];
        window.overflows |= overflow;
        (window.insert(key), overflow)
    }

    /// Whether the window has `keys_max` keys, the overflow key not counted.
    fn is_full(&self, window: usize) -> bool {
        let window = &self.windows[window];
        self.def.spec.keys_max as usize <= window.len() - usize::from(window.overflows)
    }

    /// The window furthest from now, but for `spared`; of two the earlier.
    fn furthest(&self, now_ms: WallMillis, spared: Option<usize>) -> Option<usize> {
        let distance = |at: &usize| (self.windows[*at].start_ms + self.length_ms / 2).abs_diff(now_ms);
        (0..self.windows.len()).rev().filter(|at| Some(*at) != spared).max_by_key(distance)
    }

    /// Emits a window and takes it out of the list.
    fn close(&mut self, at: usize, durable: &mut durable::Pending, emit: Emit<'_>) {
        let mut window = self.windows.remove(at);
        self.cells -= window.len();
        for index in window.sorted() {
            let cell = window.cell(index);
            if cell.stored {
                durable.delete(self.id, self.length_ms, window.start_ms, window.key(index));
            }
            let aggregate = Aggregate {
                meter: &self.def.name,
                unit: &self.def.spec.unit,
                kind: self.def.spec.kind,
                key: window.key(index),
                start_ms: window.start_ms,
                end_ms: window.start_ms + self.length_ms,
                revision: window.revision,
                quality: cell.quality,
                stats: Cow::Borrowed(&cell.stats),
            };
            emit(&self.def, &aggregate);
        }
        // With the spare the storage is that of one window more; so it is kept while there is one window less than may be.
        let room = (self.windows.len() as u64) + 1 < self.def.spec.open_windows_max();
        if room && self.spare.as_ref().is_none_or(|spare| spare.capacity() < window.capacity()) {
            window.clear();
            self.spare = Some(window);
        }
    }
}
