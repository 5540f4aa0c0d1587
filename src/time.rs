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

/// The clock was put right: what was timed by it before lay `by_ms` too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// To be added to the times before; may be 0 when the clock proves to have been right all along.
    pub by_ms: i64,
    /// What was known of the clock before.
    pub was: TimeQuality,
    /// The gateway's time just before the change, had it gone on.
    pub from_ms: WallMillis,
}

/// What is kept of the gateway's time over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last committed wall time.
    pub wall_ms: WallMillis,
    /// How far it could be trusted.
    pub quality: TimeQuality,
    /// See [`Timeline::age`].
    pub age_ms: i64,
}

/// A clock that moves by more than this against the monotonic one was put right. NTP slews far less between two readings.
pub const STEP_MIN_MS: i64 = 1000;

/// Turns clock readings into the gateway's wall time.
///
/// A board without a clock battery wakes in 1970, or at the time of its last shutdown. Until its clock is set, the gateway
/// goes on from the last time that lies on flash: time stands still for as long as it was off, but never goes back. When the
/// clock is set, or steps, the change is told once, as a [`Shift`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Added to an unset wall clock.
    offset_ms: i64,
    /// Some earlier time was known: an unset clock goes on from it.
    goes_on: bool,
    /// The last reading, in the gateway's time.
    last: Option<Now>,
    age_ms: i64,
}

/// A reading, seen as the gateway's time.
struct Seen {
    now: Now,
    offset_ms: i64,
    shift: Option<Shift>,
}

impl Timeline {
    /// Goes on from what lies on flash; `now` is the first reading.
    pub fn restore(&mut self, kept: Kept, now: Now) {
        let both_set = kept.quality == TimeQuality::Synced && now.quality == TimeQuality::Synced;
        // How long the gateway was off is known only where both clocks were set.
        let off_ms = if both_set { now.wall_ms.saturating_sub(kept.wall_ms).max(0) } else { 0 };
        self.age_ms = kept.age_ms.saturating_add(off_ms);
        self.goes_on = true;
        if now.quality != TimeQuality::Synced {
            self.offset_ms = kept.wall_ms.saturating_sub(now.wall_ms).max(0);
        }
        // Having been off is no step; but a time that was not set is put right by one that is.
        let goes_on = (kept.quality != TimeQuality::Synced).then_some(kept.wall_ms);
        let wall_ms = goes_on.filter(|_| now.quality == TimeQuality::Synced);
        self.last = Some(match wall_ms {
            Some(wall_ms) => Now { wall_ms, quality: kept.quality, ..now },
            None => self.see(now).now,
        });
    }

    /// The gateway's time, and what the reading tells of the time before.
    pub fn read(&mut self, now: Now) -> (Now, Option<Shift>) {
        let age_ms = self.age(now);
        let seen = self.see(now);
        self.goes_on |= seen.now.quality != TimeQuality::Unset;
        (self.offset_ms, self.age_ms, self.last) = (seen.offset_ms, age_ms, Some(seen.now));
        (seen.now, seen.shift)
    }

    /// The gateway's time, without taking notice of it.
    #[must_use]
    pub fn peek(&self, now: Now) -> Now {
        self.see(now).now
    }

    /// A time that no step of the clock moves: it grows by the time that the gateway runs, and by the time that it was off
    /// where that is known. What may grow too old is held against it: a clock put right by decades makes nothing old.
    #[must_use]
    pub fn age(&self, now: Now) -> i64 {
        match &self.last {
            Some(last) => self.age_ms.saturating_add(elapsed_ms(last, now)),
            None => now.wall_ms,
        }
    }

    /// What is to be kept.
    #[must_use]
    pub fn kept(&self, now: Now) -> Kept {
        let seen = self.peek(now);
        Kept { wall_ms: seen.wall_ms, quality: seen.quality, age_ms: self.age(now) }
    }

    fn see(&self, now: Now) -> Seen {
        let was = self.last.map_or(now.quality, |last| last.quality);
        let expected = self.last.map(|last| last.wall_ms.saturating_add(elapsed_ms(&last, now)));
        let shift = |wall_ms: WallMillis, from_ms| Shift { by_ms: wall_ms.saturating_sub(from_ms), was, from_ms };
        if now.quality == TimeQuality::Synced {
            let told = expected.map(|from_ms| shift(now.wall_ms, from_ms));
            let shift = told.filter(|shift| was < TimeQuality::Synced || STEP_MIN_MS <= shift.by_ms.abs());
            return Seen { now, offset_ms: 0, shift };
        }
        let quality = if self.goes_on { now.quality.max(TimeQuality::Restored) } else { now.quality };
        let told_ms = now.wall_ms.saturating_add(self.offset_ms);
        let seen = |wall_ms, offset_ms, shift| Seen { now: Now { wall_ms, quality, ..now }, offset_ms, shift };
        match expected {
            Some(from_ms) if STEP_MIN_MS <= told_ms.saturating_sub(from_ms).abs() => {
                // Somebody moved a clock that nobody vouches for: forward is believed, back is not.
                if from_ms < now.wall_ms {
                    seen(now.wall_ms, 0, Some(shift(now.wall_ms, from_ms)))
                } else {
                    seen(from_ms, from_ms.saturating_sub(now.wall_ms), None)
                }
            }
            _ => seen(told_ms, self.offset_ms, None),
        }
    }
}

/// Between two readings, by the monotonic clock.
fn elapsed_ms(last: &Now, now: Now) -> i64 {
    i64::try_from(now.mono_us.saturating_sub(last.mono_us) / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::TimeQuality::{Restored, Synced, Unset};
    use super::*;

    /// (seconds since the start, wall clock in seconds, what the system knows)
    const fn at(mono_s: u64, wall_s: i64, quality: TimeQuality) -> Now {
        Now { mono_us: mono_s * 1_000_000, wall_ms: wall_s * 1000, quality }
    }

    const fn kept(wall_s: i64, quality: TimeQuality) -> Kept {
        Kept { wall_ms: wall_s * 1000, quality, age_ms: 0 }
    }

    /// Seconds, quality, shift in seconds.
    fn reads(timeline: &mut Timeline, now: Now) -> (i64, TimeQuality, Option<i64>) {
        let peeked = timeline.peek(now);
        let (seen, shift) = timeline.read(now);
        assert_eq!(peeked, seen);
        (seen.wall_ms / 1000, seen.quality, shift.map(|shift| shift.by_ms / 1000))
    }

    #[test]
    fn an_unset_clock_goes_on_from_the_last_time_on_flash_until_it_is_set() {
        let mut timeline = Timeline::default();
        timeline.restore(kept(1_000_000, Synced), at(0, 5, Unset));
        assert_eq!(reads(&mut timeline, at(1, 6, Unset)), (1_000_001, Restored, None));
        assert_eq!(reads(&mut timeline, at(11, 2_000_000, Synced)), (2_000_000, Synced, Some(999_989)));
        assert_eq!(reads(&mut timeline, at(12, 7, Unset)), (2_000_001, Restored, None), "it never goes back");
        assert_eq!(reads(&mut timeline, at(13, 8, Unset)), (2_000_002, Restored, None));
    }

    #[test]
    fn a_clock_that_is_ahead_or_set_needs_no_restoring() {
        for (now, want) in [(at(0, 9_000, Unset), (9_000, Restored, None)), (at(0, 5, Synced), (5, Synced, None))] {
            let mut timeline = Timeline::default();
            timeline.restore(kept(8_000, Synced), now);
            assert_eq!(reads(&mut timeline, now), want);
        }
    }

    #[test]
    fn a_first_boot_in_1970_is_told_when_the_clock_is_set_and_not_again() {
        let mut timeline = Timeline::default();
        assert_eq!(reads(&mut timeline, at(3, 33, Unset)), (33, Unset, None));
        assert_eq!(reads(&mut timeline, at(63, 1_800_000_093, Synced)), (1_800_000_093, Synced, Some(1_800_000_000)));
        assert_eq!(reads(&mut timeline, at(64, 1_800_000_094, Synced)), (1_800_000_094, Synced, None));
    }

    #[test]
    fn a_set_clock_that_steps_is_told_and_one_that_is_slewed_is_not() {
        let mut timeline = Timeline::default();
        for (now, shift) in [
            (at(0, 10_000, Synced), None),
            (at(60, 10_060, Synced), None),
            (at(61, 13_661, Synced), Some(3600)),
            (at(62, 10_062, Synced), Some(-3600)),
        ] {
            assert_eq!(reads(&mut timeline, now), (now.wall_ms / 1000, Synced, shift));
        }
    }

    #[test]
    fn a_clock_set_by_hand_is_believed_forward_only() {
        let mut timeline = Timeline::default();
        timeline.restore(kept(1_000_000, Synced), at(0, 5, Unset));
        assert_eq!(
            reads(&mut timeline, at(1, 1_800_000_000, Restored)),
            (1_800_000_000, Restored, Some(1_798_999_999))
        );
        assert_eq!(reads(&mut timeline, at(2, 60, Unset)), (1_800_000_001, Restored, None));
    }

    #[test]
    fn what_was_taken_before_a_restart_is_put_right_when_the_clock_is_set_by_then() {
        let mut timeline = Timeline::default();
        timeline.restore(kept(40, Unset), at(0, 1_800_000_000, Synced));
        assert_eq!(reads(&mut timeline, at(1, 1_800_000_001, Synced)), (1_800_000_001, Synced, Some(1_799_999_960)));
        let mut timeline = Timeline::default();
        timeline.restore(kept(1_700_000_000, Synced), at(0, 1_800_000_000, Synced));
        assert_eq!(reads(&mut timeline, at(1, 1_800_000_001, Synced)).2, None, "it was only off");
    }

    #[test]
    fn nothing_grows_old_by_a_step_and_everything_by_the_time_that_passes() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.read(at(0, 30, Unset)).0.wall_ms, 30_000);
        let start = timeline.age(at(0, 30, Unset));
        for now in [at(10, 40, Unset), at(20, 1_800_000_000, Synced), at(30, 1_700_000_000, Synced)] {
            let _ = timeline.read(now);
            assert_eq!(timeline.age(now) - start, now.mono_us as i64 / 1000);
        }
        for (quality, grown) in [(Synced, 3600), (Unset, 0)] {
            let (kept, before) = (timeline.kept(at(30, 1_700_000_000, Synced)), timeline.age(at(30, 0, Synced)));
            let mut next = Timeline::default();
            let now = at(0, 1_700_003_600, quality);
            next.restore(kept, now);
            assert_eq!(next.age(now) - before, grown * 1000);
        }
    }
}
