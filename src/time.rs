//! Time as an argument: what the shell's clock (or the simulator's) says at one moment, and how far it can be trusted.
//!
//! - 64-bit everywhere: milliseconds since 1970-01-01T00:00:00Z, signed.
//! - `mono_us` never goes back within a run; `wall_ms` may step; [`Timeline`] turns both into a wall time that never does.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type WallMillis = i64;

/// How far a timestamp can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum TimeQuality {
    /// The clock was never set: it counts from the boot.
    #[default]
    Unset = 0,
    /// Continued from the last time that lies on flash; behind by the time the gateway was off.
    Restored = 1,
    /// The system says that its clock is synchronised, or it is plausible (past the build's date).
    Synced = 2,
}

impl TimeQuality {
    /// The inverse of `self as u8`; unknown codes are the least trusted.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            2 => Self::Synced,
            1 => Self::Restored,
            _ => Self::Unset,
        }
    }
}

/// One reading of the clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic microseconds since the process started (or the simulation began).
    pub mono_us: u64,
    /// The wall clock as the system tells it.
    pub wall_ms: WallMillis,
    /// What the system knows of its wall clock.
    pub quality: TimeQuality,
}

/// A monotonic clock that can be read in the middle of a call: for deadlines between fuel slices and for metered time.
///
/// The shell reads the real clock, the simulator its virtual one. Readings never go back.
pub trait Stopwatch {
    /// Microseconds since some fixed moment.
    fn mono_us(&mut self) -> u64;
}

/// Turns clock readings into the gateway's wall time.
///
/// A board without a clock battery wakes in 1970, or at the time of its last shutdown. Until its clock is set, the gateway
/// goes on from the last time that lies on flash: time stands still for as long as it was off, but never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Added to an unset wall clock.
    offset_ms: i64,
}

impl Timeline {
    /// The last committed wall time, and the clock as it is now.
    pub fn restore(&mut self, wall_ms: WallMillis, now: Now) {
        if now.quality != TimeQuality::Synced && now.wall_ms < wall_ms {
            self.offset_ms = wall_ms.saturating_sub(now.wall_ms);
        }
    }

    /// The gateway's time; forgets the restored time as soon as the clock is set.
    pub fn read(&mut self, now: Now) -> Now {
        if now.quality == TimeQuality::Synced {
            self.offset_ms = 0;
        }
        self.peek(now)
    }

    /// The gateway's time, without taking notice of it.
    #[must_use]
    pub fn peek(&self, now: Now) -> Now {
        if now.quality == TimeQuality::Synced || self.offset_ms == 0 {
            return now;
        }
        let quality = now.quality.max(TimeQuality::Restored);
        Now { wall_ms: now.wall_ms.saturating_add(self.offset_ms), quality, ..now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(wall_ms: WallMillis, quality: TimeQuality) -> Now {
        Now { mono_us: 0, wall_ms, quality }
    }

    #[test]
    fn an_unset_clock_goes_on_from_the_last_time_on_flash_until_it_is_set() {
        let mut timeline = Timeline::default();
        timeline.restore(1_000_000, at(5_000, TimeQuality::Unset));
        assert_eq!(timeline.read(at(6_000, TimeQuality::Unset)), at(1_001_000, TimeQuality::Restored));
        assert_eq!(timeline.read(at(2_000_000, TimeQuality::Synced)), at(2_000_000, TimeQuality::Synced));
        assert_eq!(timeline.read(at(7_000, TimeQuality::Unset)).wall_ms, 7_000);
    }

    #[test]
    fn a_clock_that_is_ahead_or_set_needs_no_restoring() {
        for now in [at(9_000, TimeQuality::Unset), at(5, TimeQuality::Synced)] {
            let mut timeline = Timeline::default();
            timeline.restore(8_000, now);
            assert_eq!(timeline.read(now), now);
        }
    }
}
