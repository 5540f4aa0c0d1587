//! When the clock is put right: what went by it, and is still open, moves to where it belongs.
//!
//! - Only windows move whose values were *all* timed by the clock that was wrong; what devices timed stays where it is.
//! - A window moves as a whole. If it comes to lie across two, it goes into the one that most of it lies in; so what has moved
//!   is marked as [`TimeQuality::Restored`], unless the clock proves to have been right all along.
//! - What has moved into the past is emitted at once; the rest joins the windows that are open there.
//! - A clock that was not set could not hold devices' times against the future: windows that lie too far in it leave at once, or
//!   they would stay for years.

use std::borrow::Cow;

use super::aggregate::{Aggregate, REVISION_END, REVISION_LATE};
use super::cell::Stats;
use super::table::{Timing, Window};
use super::{Emit, Meter, TIME_MAX_MS, Windows, durable};
use crate::manifest::MeterKind;
use crate::time::{Now, Shift, TimeQuality, WallMillis};

/// A clock that was off by no more was right: two readings of one clock differ by as much on a busy machine.
const RIGHT_MS: i64 = 50;

/// Where a moved cell goes.
struct Moved {
    stats: Stats,
    quality: TimeQuality,
    start_ms: WallMillis,
}

impl Windows {
    /// Moves what was timed by the clock before `shift`; how many cells that were. Windows that begin after `latest_ms` leave.
    pub fn shift(&mut self, shift: Shift, now: Now, latest_ms: WallMillis, emit: Emit<'_>) -> u64 {
        let timing = if shift.was == TimeQuality::Synced { Timing::Set } else { Timing::Unset };
        let mut cells = 0;
        for meter in &mut self.meters {
            let (moved, rest) = core::mem::take(&mut meter.windows).into_iter().partition(|w| w.timing == timing);
            meter.windows = rest;
            let moved: Vec<Window> = moved;
            for window in meter.windows.iter_mut().filter(|window| window.revision == REVISION_LATE) {
                // It waits for some time to pass, not for a time to come.
                window.due_ms = window.due_ms.saturating_add(shift.by_ms);
                self.due_ms = self.due_ms.min(window.due_ms);
            }
            meter.cells -= moved.iter().map(Window::len).sum::<usize>();
            for mut window in moved {
                cells += window.len() as u64;
                self.due_ms = self.due_ms.min(meter.move_window(&mut window, shift, now, &mut self.durable, emit));
            }
            while meter.windows.last().is_some_and(|last| latest_ms < last.start_ms) {
                meter.close(meter.windows.len() - 1, &mut self.durable, emit);
            }
        }
        cells
    }
}

impl Meter {
    /// Moves a window's cells, which count no more; when the first of theirs is due.
    fn move_window(
        &mut self,
        window: &mut Window,
        shift: Shift,
        now: Now,
        durable: &mut durable::Pending,
        emit: Emit<'_>,
    ) -> WallMillis {
        let now_ms = now.wall_ms.clamp(-TIME_MAX_MS, TIME_MAX_MS);
        let mut due_ms = i64::MAX;
        for index in window.sorted() {
            let cell = window.cell(index);
            if cell.stored {
                durable.delete(self.id, self.length_ms, window.start_ms, window.key(index));
            }
            let key = window.key(index);
            let moved = self.moved(window.start_ms, &cell.stats, cell.quality, shift, now.quality);
            let end_ms = moved.start_ms + self.length_ms;
            if now_ms < end_ms {
                due_ms = due_ms.min(self.join(moved, key, now, durable, emit));
                continue;
            }
            let aggregate = Aggregate {
                meter: &self.def.name,
                unit: &self.def.spec.unit,
                kind: self.def.spec.kind,
                key,
                start_ms: moved.start_ms,
                end_ms,
                revision: REVISION_END,
                quality: moved.quality,
                stats: Cow::Borrowed(&moved.stats),
            };
            emit(&self.def, &aggregate);
        }
        due_ms
    }

    fn moved(&self, start_ms: WallMillis, stats: &Stats, quality: TimeQuality, by: Shift, now: TimeQuality) -> Moved {
        let mut stats = stats.clone();
        let to = |time_ms: WallMillis| time_ms.saturating_add(by.by_ms).clamp(-TIME_MAX_MS, TIME_MAX_MS);
        let middle_ms = if self.def.spec.kind == MeterKind::Counter {
            to(start_ms + self.length_ms / 2)
        } else {
            (stats.first_at_ms, stats.last_at_ms) = (to(stats.first_at_ms), to(stats.last_at_ms));
            stats.first_at_ms.midpoint(stats.last_at_ms)
        };
        let was_right = now == TimeQuality::Synced && by.by_ms.abs() <= RIGHT_MS;
        let quality = match now {
            TimeQuality::Synced if was_right => TimeQuality::Synced,
            TimeQuality::Synced => TimeQuality::Restored,
            _ => quality,
        };
        Moved { stats, quality, start_ms: middle_ms - middle_ms.rem_euclid(self.length_ms) }
    }

    /// Puts a moved cell into the window that is open there, or opens it; when that is due.
    fn join(
        &mut self,
        moved: Moved,
        key: &[u8],
        now: Now,
        durable: &mut durable::Pending,
        emit: Emit<'_>,
    ) -> WallMillis {
        let now_ms = now.wall_ms.clamp(-TIME_MAX_MS, TIME_MAX_MS);
        let timing = Timing::of(true, now.quality);
        let mut window = match self.window_at(moved.start_ms) {
            Some(window) => {
                self.windows[window].join(timing);
                window
            }
            None => {
                let window = self.open(moved.start_ms, now_ms, durable, emit);
                self.windows[window].timing = timing;
                window
            }
        };
        let cell = match self.windows[window].find(key) {
            Some(cell) => cell,
            None => self.admit(&mut window, key, now_ms, durable, emit).0,
        };
        let window = &mut self.windows[window];
        window.mark(cell);
        let cell = window.cell_mut(cell);
        cell.quality = if cell.stats.count == 0 { moved.quality } else { cell.quality.min(moved.quality) };
        cell.stats.merge(&moved.stats);
        window.due_ms
    }
}
