//! The clock: its only reader.
//!
//! - `mono_us` counts from the start of the process, suspended time included, and never goes back.
//! - The quality of the wall clock is asked of the system: where a time synchronisation service runs, its word counts;
//!   elsewhere a time past [`PLAUSIBLE_FROM_MS`] is believed.
//! - Certificates are held against the latest time that is known to have passed: not against 1970 on a box without a battery.
#![expect(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

use crate::time::{Now, STEP_MIN_MS, Stopwatch, TimeQuality, WallMillis};

/// 2026-01-01T00:00:00Z: no gateway of this version ran before.
pub const PLAUSIBLE_FROM_MS: WallMillis = 1_767_225_600_000;
/// The folder of systemd's time synchronisation, if it runs; the file in it appears when the clock has been set.
const TIMESYNC_DIR: &str = "/run/systemd/timesync";
/// How often the system is asked again.
const ASK_EVERY_US: u64 = 5_000_000;
/// The gateway's time, which may be ahead of a clock that is not set.
static KNOWN_MS: AtomicI64 = AtomicI64::new(PLAUSIBLE_FROM_MS);

/// Reads the clocks.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    suspends: Suspends,
    quality: TimeQuality,
    asked_us: Option<u64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), suspends: Suspends::default(), quality: TimeQuality::Unset, asked_us: None }
    }
}

impl Clock {
    /// One reading of all clocks.
    pub fn now(&mut self) -> Now {
        let (awake_us, wall_ms) = (self.awake_us(), wall_ms());
        let has_jumped = self.suspends.read(awake_us, wall_ms, since_boot_us);
        let mono_us = awake_us + self.suspends.total_us;
        if has_jumped || self.asked_us.is_none_or(|asked| asked + ASK_EVERY_US <= mono_us) {
            self.asked_us = Some(mono_us);
            self.quality = quality(wall_ms);
        }
        Now { mono_us, wall_ms, quality: self.quality }
    }

    /// The instant of `mono_us`, for the runtime's timers, which stand still while the machine sleeps.
    #[must_use]
    pub fn instant(&self, mono_us: u64) -> Instant {
        self.start + Duration::from_micros(mono_us.saturating_sub(self.suspends.total_us))
    }

    fn awake_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Stopwatch for Clock {
    fn mono_us(&mut self) -> u64 {
        self.awake_us()
    }
}

/// Time in which the machine slept. Linux' monotonic clock stands still then, so that waking looks like a step of the wall
/// clock; the time since the boot, which goes on, tells the two apart.
#[derive(Clone, Copy, Debug, Default)]
struct Suspends {
    total_us: u64,
    /// Wall clock less monotonic clock, and time since the boot less monotonic clock, when last looked at.
    last: Option<(i64, u64)>,
}

impl Suspends {
    /// Whether the wall clock has left its course; the boot clock is asked only then.
    fn read(&mut self, awake_us: u64, wall_ms: WallMillis, since_boot_us: impl FnOnce() -> Option<u64>) -> bool {
        let course_ms = wall_ms - i64::try_from(awake_us / 1000).unwrap_or(i64::MAX);
        let (last_course_ms, asleep_us) = self.last.unwrap_or((course_ms, 0));
        if self.last.is_some() && (course_ms - last_course_ms).abs() < STEP_MIN_MS / 2 {
            return false;
        }
        let since_boot_us = since_boot_us().unwrap_or(awake_us + asleep_us);
        let now_asleep_us = since_boot_us.saturating_sub(awake_us);
        // The boot clock is told in hundredths of a second.
        let slept_us = now_asleep_us.saturating_sub(asleep_us);
        if self.last.is_some() && 100_000 < slept_us {
            self.total_us += slept_us;
        }
        self.last = Some((course_ms, now_asleep_us));
        true
    }
}

/// CLOCK_BOOTTIME, as the kernel prints it.
fn since_boot_us() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some((seconds * 1e6) as u64)
}

/// The gateway's time goes on from the last one on flash: certificates need not be held against less.
pub fn know(wall_ms: WallMillis) {
    KNOWN_MS.store(wall_ms.max(PLAUSIBLE_FROM_MS), Ordering::Relaxed);
}

/// For certificates: the wall clock if it is set, else the latest time that is known to have passed.
#[derive(Debug)]
pub struct CertificateTime;

impl rustls::time_provider::TimeProvider for CertificateTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(certificate_ms()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

fn certificate_ms() -> WallMillis {
    let wall_ms = wall_ms();
    match quality(wall_ms) {
        TimeQuality::Synced => wall_ms,
        _ => wall_ms.max(KNOWN_MS.load(Ordering::Relaxed)),
    }
}

/// Waits, but no longer than until the clock is put right.
pub async fn sleep_or_step(pause: Duration) {
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let start = tokio::time::Instant::now();
    let course_ms = || certificate_ms() - i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    let began_ms = course_ms();
    while start.elapsed() < pause && (course_ms() - began_ms).abs() < STEP_MIN_MS {
        tokio::time::sleep(LOOK_EVERY.min(pause.saturating_sub(start.elapsed()))).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings (awake, wall, since boot; seconds), and the suspended seconds that they tell.
    fn check(readings: &[(u64, i64, u64, u64)]) {
        let mut suspends = Suspends::default();
        for (awake, wall, boot, want) in readings {
            let _ = suspends.read(awake * 1_000_000, wall * 1000, || Some(boot * 1_000_000));
            assert_eq!(suspends.total_us, want * 1_000_000, "{readings:?}");
        }
    }

    #[test]
    fn a_sleeping_machine_is_told_from_a_stepping_clock() {
        check(&[(0, 1000, 50, 0), (10, 1010, 60, 0), (11, 4611, 3661, 3600), (12, 4612, 3662, 3600)]);
        check(&[(0, 1000, 50, 0), (10, 4610, 60, 0), (11, 1011, 61, 0)]);
        // Both at once, and a second sleep.
        check(&[(0, 1000, 50, 0), (1, 99_001, 151, 100), (2, 99_202, 352, 300)]);
    }

    #[test]
    fn the_boot_clock_of_this_machine_can_be_read() {
        let (once, again) = (since_boot_us().unwrap(), since_boot_us().unwrap());
        assert!(0 < once && once <= again);
    }

    #[test]
    fn certificates_are_never_held_against_1970() {
        assert!(PLAUSIBLE_FROM_MS <= certificate_ms());
    }
}
