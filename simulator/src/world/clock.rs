//! The machine's clocks: a wall clock that may be lost, stepped, set and wrong, and a monotonic one that goes on while the machine
//! sleeps (the shell adds what the system's leaves out).

use weir::time::{Now, TimeQuality};

/// The world begins at this time.
pub const EPOCH_MS: i64 = 1_800_000_000_000;
/// A clock without a battery begins here when the power comes (some seconds after 1970).
const LOST_MS: i64 = 12_000;
/// Where no time service runs, the shell believes a time past this.
const PLAUSIBLE_FROM_MS: i64 = 1_767_225_600_000;

/// The clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// A battery keeps the wall clock while the power is off.
    has_battery: bool,
    /// A time service tells whether the clock is set; elsewhere a plausible time is believed.
    has_service: bool,
    /// The wall clock showed this at `since_us`.
    wall_ms: i64,
    since_us: u64,
    drift_ppm: i64,
    is_set: bool,
    /// It was wrong at some time.
    pub was_moved: bool,
}

impl Clocks {
    /// A clock that is right.
    #[must_use]
    pub const fn new(has_battery: bool, has_service: bool) -> Self {
        let (wall_ms, since_us, drift_ppm, is_set) = (EPOCH_MS, 0, 0, true);
        let was_moved = false;
        Self { has_battery, has_service, wall_ms, since_us, drift_ppm, is_set, was_moved }
    }

    /// What the wall clock shows.
    #[must_use]
    pub const fn wall_ms(&self, now_us: u64) -> i64 {
        let run_us = (now_us - self.since_us) as i64;
        self.wall_ms + (run_us + run_us / 1000 * self.drift_ppm / 1000) / 1000
    }

    /// A reading, for a process that started when the monotonic clock showed `started_us`.
    #[must_use]
    pub fn read(&self, started_us: u64, now_us: u64) -> Now {
        let wall_ms = self.wall_ms(now_us);
        let is_plausible = PLAUSIBLE_FROM_MS <= wall_ms;
        let quality = match if self.has_service { self.is_set } else { is_plausible } {
            true => TimeQuality::Synced,
            false if is_plausible => TimeQuality::Restored,
            false => TimeQuality::Unset,
        };
        Now { mono_us: now_us - started_us, wall_ms, quality }
    }

    fn put(&mut self, now_us: u64, wall_ms: i64) {
        (self.wall_ms, self.since_us) = (wall_ms, now_us);
        self.was_moved = true;
    }

    /// Somebody sets the clock wrong, or right.
    pub fn step(&mut self, now_us: u64, by_ms: i64) {
        self.put(now_us, self.wall_ms(now_us).saturating_add(by_ms));
    }

    /// The oscillator is off by parts of a million from now on.
    pub fn drift(&mut self, now_us: u64, ppm: i64) {
        self.put(now_us, self.wall_ms(now_us));
        self.drift_ppm = ppm;
    }

    /// Back in 1970.
    pub fn lose(&mut self, now_us: u64) {
        self.put(now_us, LOST_MS);
        self.is_set = false;
    }

    /// The time service has set the clock.
    pub fn set(&mut self, now_us: u64) {
        self.put(now_us, EPOCH_MS + (now_us / 1000) as i64);
        (self.is_set, self.drift_ppm) = (true, 0);
    }

    /// The power was off. Whether the clock is lost.
    pub fn power_cut(&mut self, now_us: u64) -> bool {
        if !self.has_battery {
            self.lose(now_us);
        }
        !self.has_battery
    }
}
