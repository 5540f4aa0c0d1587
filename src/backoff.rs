//! Waiting before the next attempt, and how often a lasting fault is worth a log line.
//!
//! - A pause lies in `[base, ceiling]`, drawn evenly ("full jitter"), so that a fleet that lost its broker does not come
//!   back in step. The ceiling doubles with each failure up to `max`, and falls back after an attempt that held longer than it.
//! - The draws come from a seed: the same seed gives the same pauses.
//! - A [`Complaint`] is said at once when its cause changes, then at growing intervals while it lasts.

use crate::units::Millis;

/// An attempt that held for less was no success, however short the pauses are.
const WORTH: Millis = Millis(5_000);

/// The next pause between attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Millis,
    max: Millis,
    ceiling: Millis,
    random: u64,
}

impl Backoff {
    /// Pauses from `base` to `max`; `seed` should differ between gateways.
    #[must_use]
    pub const fn new(base: Millis, max: Millis, seed: u64) -> Self {
        Self { base, max, ceiling: base, random: seed }
    }

    /// The pause after an attempt that failed, or held for `held` before it did.
    #[must_use]
    pub fn after(&mut self, held: Millis) -> Millis {
        // A link that breaks now and then must not be away for longer than it stands: what waits meanwhile would grow for ever.
        if self.ceiling.max(WORTH) <= held {
            self.ceiling = self.base;
        }
        self.ceiling = Millis((self.ceiling.0 * 2).min(self.max.0));
        let span = self.ceiling.0.saturating_sub(self.base.0) + 1;
        Millis(self.base.0 + self.draw() % span)
    }

    /// Makes the next pause one of the longest: the other side should be left alone for a while.
    pub const fn lengthen(&mut self) {
        self.ceiling = self.max;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Intervals between two lines about the same lasting fault; the last one repeats.
const REPEAT: [Millis; 4] = [Millis(60_000), Millis(300_000), Millis(1_800_000), Millis(3_600_000)];

/// Decides when a lasting fault is said again. `C` is whatever tells causes apart.
#[derive(Clone, Debug)]
pub struct Complaint<C> {
    last: Option<Said<C>>,
}

#[derive(Clone, Debug)]
struct Said<C> {
    cause: C,
    at_ms: u64,
    times: usize,
    unsaid: u32,
}

impl<C> Default for Complaint<C> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<C: PartialEq> Complaint<C> {
    /// Notes the fault at `now_ms` (monotonic). `Some(n)`: say it now; `n` occurrences passed unsaid since the last line.
    pub fn note(&mut self, now_ms: u64, cause: C) -> Option<u32> {
        match &mut self.last {
            Some(said) if said.cause == cause => {
                let pause = REPEAT[said.times.min(REPEAT.len() - 1)];
                if now_ms.saturating_sub(said.at_ms) < pause.0 {
                    said.unsaid = said.unsaid.saturating_add(1);
                    return None;
                }
                said.at_ms = now_ms;
                said.times += 1;
                Some(core::mem::take(&mut said.unsaid))
            }
            _ => {
                self.last = Some(Said { cause, at_ms: now_ms, times: 0, unsaid: 0 });
                Some(0)
            }
        }
    }

    /// The fault is over; whether there was one.
    pub fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Millis = Millis(500);
    const MAX: Millis = Millis(60_000);

    #[test]
    fn pauses_grow_to_the_maximum_and_stay_within_their_bounds() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BASE, MAX, seed);
            for ceiling in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
                let pause = backoff.after(Millis(0)).0;
                assert!((BASE.0..=ceiling).contains(&pause), "{pause} of {ceiling}, seed {seed}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses_and_another_does_not() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(BASE, MAX, seed);
            [(); 6].map(|()| backoff.after(Millis(0)))
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }

    #[test]
    fn an_attempt_that_held_longer_than_the_pauses_brings_the_short_ones_back() {
        let mut backoff = Backoff::new(BASE, MAX, 1);
        backoff.lengthen();
        let _ = backoff.after(Millis(59_999));
        assert_eq!(backoff.ceiling, MAX);
        assert!(backoff.after(Millis(60_000)).0 <= 1000);
        for _ in 0..100 {
            assert!(backoff.after(Millis(6_000)).0 <= 1000, "a link that is cut each six seconds");
        }
        let _ = (backoff.after(Millis(4_000)), backoff.after(Millis(4_000)), backoff.after(Millis(4_000)));
        assert_eq!(backoff.ceiling, Millis(8_000), "one that is kicked at once");
    }

    #[test]
    fn a_lasting_fault_is_said_at_growing_intervals_and_a_new_one_at_once() {
        let mut complaint = Complaint::default();
        let said: Vec<(u64, Option<u32>)> = [0, 30, 59, 60, 61, 300, 360, 361, 2160]
            .map(|second| (second, complaint.note(second * 1000, "refused")))
            .into_iter()
            .filter(|(_, said)| said.is_some())
            .collect();
        assert_eq!(said, [(0, Some(0)), (60, Some(2)), (360, Some(2)), (2160, Some(1))]);
        assert_eq!(complaint.note(2_160_001, "expired"), Some(0));
        assert!(complaint.clear() && !complaint.clear());
    }
}
