//! The clock: its only reader.
//!
//! - `mono_us` counts from the start of the process and never goes back.
//! - The quality of the wall clock is asked of the system: where a time synchronisation service runs, its word counts;
//!   elsewhere a time past [`PLAUSIBLE_FROM_MS`] is believed.
#![expect(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Now, Stopwatch, TimeQuality, WallMillis};

/// 2026-01-01T00:00:00Z: no gateway of this version ran before.
pub const PLAUSIBLE_FROM_MS: WallMillis = 1_767_225_600_000;
/// The folder of systemd's time synchronisation, if it runs; the file in it appears when the clock has been set.
const TIMESYNC_DIR: &str = "/run/systemd/timesync";
/// How often the system is asked again.
const ASK_EVERY_US: u64 = 5_000_000;

/// Reads the clocks.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    quality: TimeQuality,
    asked_us: Option<u64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), quality: TimeQuality::Unset, asked_us: None }
    }
}

impl Clock {
    /// One reading of all clocks.
    pub fn now(&mut self) -> Now {
        let mono_us = self.mono();
        let wall_ms = wall_ms();
        if self.asked_us.is_none_or(|asked| asked + ASK_EVERY_US <= mono_us) {
            self.asked_us = Some(mono_us);
            self.quality = quality(wall_ms);
        }
        Now { mono_us, wall_ms, quality: self.quality }
    }

    /// The instant of `mono_us`, for the runtime's timers.
    #[must_use]
    pub fn instant(&self, mono_us: u64) -> Instant {
        self.start + std::time::Duration::from_micros(mono_us)
    }

    fn mono(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Stopwatch for Clock {
    fn mono_us(&mut self) -> u64 {
        self.mono()
    }
}

fn wall_ms() -> WallMillis {
    let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

fn quality(wall_ms: WallMillis) -> TimeQuality {
    let service = Path::new(TIMESYNC_DIR);
    let set = if service.is_dir() { service.join("synchronized").exists() } else { PLAUSIBLE_FROM_MS <= wall_ms };
    match set {
        true => TimeQuality::Synced,
        false if PLAUSIBLE_FROM_MS <= wall_ms => TimeQuality::Restored,
        false => TimeQuality::Unset,
    }
}
