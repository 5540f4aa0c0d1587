//! A thermometer: `{"seq":1,"ts":1700000000000,"temp":21.25}`, in °C.

use super::{Memory, Moment, field, quarter, wave, write};
use crate::rng::Rng;

/// Settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Temperature {
    /// Name of the field: `temp`, or what the function at the other end looks for.
    pub field: String,
    /// Mean in °C.
    pub base: f64,
    /// Amplitude of the daily cycle in °C; the warmest moment is at 3 in the afternoon, UTC.
    pub swing: f64,
    /// Standard deviation of the noise in °C.
    pub noise: f64,
    /// Length of the day: shorter days show the cycle in a short run.
    pub day_ms: u64,
}

impl Default for Temperature {
    fn default() -> Self {
        Self { field: "temp".to_owned(), base: 21.0, swing: 4.0, noise: 0.5, day_ms: 86_400_000 }
    }
}

impl Temperature {
    pub(super) fn read(
        &self,
        memory: &mut Memory,
        rng: &mut Rng,
        moment: Moment,
        payload: &mut Vec<u8>,
    ) -> Option<f64> {
        // No two places in a hall are equally warm.
        let offset = *memory.phase.get_or_insert_with(|| rng.normal() * self.noise);
        let time_of_day = (moment.time_ms as f64 / self.day_ms.max(1) as f64).fract() - 0.375;
        let celsius = quarter(self.base + offset + self.swing * wave(time_of_day) + self.noise * rng.normal());
        write(payload, format_args!("{{\"seq\":{},\"ts\":{},", moment.seq, moment.stamp_ms));
        field(payload, moment, &self.field, celsius);
        payload.push(b'}');
        Some(celsius)
    }
}
