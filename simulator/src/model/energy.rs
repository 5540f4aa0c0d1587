//! A pulse energy meter: `{"seq":1,"ts":1700000000000,"pulses":4711}`, a counter that rolls over and is sometimes reset.
//!
//! - What is metered is the energy since the newest reading before, in kWh, as the example function `energy-meter` finds it
//!   out of the counter alone: `modulus` is its `roll_over`, and `step_max` and `pulses_per_kwh` are of the same name.
//! - Nothing is metered for the first reading of a device, nor for one that is not newer than the last.

use super::{Memory, Moment, field, write};
use crate::rng::Rng;

/// Settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Energy {
    /// Mean pulses between two readings.
    pub pulses: u64,
    /// The counter's size: it starts from 0 again when it reaches this.
    pub roll_over: u64,
    /// Probability per reading that the counter was reset to 0 (power lost) just before.
    pub reset: f64,
    /// Pulses of a kWh: 1, 2 or 4, so that quarters result.
    pub pulses_per_kwh: u64,
    /// Pulses between two readings that are still believed.
    pub step_max: u64,
}

impl Default for Energy {
    fn default() -> Self {
        Self { pulses: 6, roll_over: 65_536, reset: 0.0, pulses_per_kwh: 4, step_max: 1024 }
    }
}

impl Energy {
    pub(super) fn read(
        &self,
        memory: &mut Memory,
        rng: &mut Rng,
        moment: Moment,
        payload: &mut Vec<u8>,
    ) -> Option<f64> {
        let grown = rng.below(self.pulses * 2 + 1);
        memory.counter = if rng.chance(self.reset) { 0 } else { memory.counter } + grown;
        memory.counter %= self.roll_over;
        write(payload, format_args!("{{\"seq\":{},\"ts\":{},", moment.seq, moment.stamp_ms));
        field(payload, moment, "pulses", memory.counter as f64);
        payload.push(b'}');
        if moment.wrong_type || memory.metered.is_some_and(|(_, at_ms)| moment.stamp_ms <= at_ms) {
            return None;
        }
        let (before, _) = memory.metered.replace((memory.counter, moment.stamp_ms))?;
        self.step(before, memory.counter).map(|step| step as f64 / self.pulses_per_kwh as f64)
    }

    /// Pulses between two readings; `None`: not to be believed.
    #[must_use]
    pub const fn step(&self, before: u64, now: u64) -> Option<u64> {
        let rolled_over = now + self.roll_over - before;
        let step = if before <= now {
            now - before
        } else if rolled_over <= self.step_max {
            rolled_over
        } else {
            now
        };
        if step <= self.step_max { Some(step) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roll_over_reset_and_nonsense_are_told_apart() {
        let meter = Energy { roll_over: 1000, step_max: 100, ..Energy::default() };
        for (before, now, want) in [
            (5, 9, Some(4)),
            (9, 9, Some(0)),
            (990, 10, Some(20)),
            (500, 10, Some(10)),
            (990, 400, None),
            (10, 111, None),
        ] {
            assert_eq!(meter.step(before, now), want, "{before} -> {now}");
        }
    }
}
