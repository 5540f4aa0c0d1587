//! Device models: what a device measures, and how it writes a reading.
//!
//! - A model is a pure function of (its settings, its own state, the device's random stream, the time of the reading).
//! - **Metered values are multiples of 0.25**, below 2^40: their sums are exact in `f64`, in any order, so that truth and
//!   upstream can be compared with `==`.
//! - JSON readings are objects with `seq` (1, 2, 3 … per device), `ts` (milliseconds since 1970) and the model's own fields.

mod door;
mod energy;
mod lpp;
mod temperature;
mod vibration;

use std::io::Write as _;

pub use door::Door;
pub use energy::Energy;
pub use lpp::Lpp;
pub use temperature::Temperature;
pub use vibration::Vibration;

use crate::rng::Rng;

/// A kind of device and its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// A thermometer with a daily cycle and noise.
    Temperature(Temperature),
    /// A pulse energy meter whose counter rolls over and is reset at times.
    Energy(Energy),
    /// An accelerometer that sends arrays of samples.
    Vibration(Vibration),
    /// A door contact.
    Door(Door),
    /// A LoRa node that sends Cayenne LPP, binary.
    Lpp(Lpp),
}

/// When and as which reading of its device a reading is taken.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since 1970: the time of the measurement.
    pub time_ms: i64,
    /// The time as it is written into the payload: `time_ms`, or nonsense if the device's clock is wrong.
    pub stamp_ms: i64,
    /// Number of the reading, from 1.
    pub seq: u64,
    /// The field that is metered is written as text: well-formed, and nothing to meter.
    pub wrong_type: bool,
}

/// What one device of a fleet remembers between readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Pulses since the device was made, modulo roll-over and resets; or the door's state.
    counter: u64,
    /// Counter and time of the newest reading that a meter saw.
    metered: Option<(u64, i64)>,
    /// A slow drift or phase, drawn once.
    phase: Option<f64>,
}

impl Model {
    /// Appends the reading at `moment` to `payload`. Returns what a meter adds up for it: `None` if the reading carries no
    /// value for a meter.
    pub fn read(&self, memory: &mut Memory, rng: &mut Rng, moment: Moment, payload: &mut Vec<u8>) -> Option<f64> {
        let value = match self {
            Self::Temperature(model) => model.read(memory, rng, moment, payload),
            Self::Energy(model) => model.read(memory, rng, moment, payload),
            Self::Vibration(model) => model.read(memory, rng, moment, payload),
            Self::Door(model) => model.read(memory, rng, moment, payload),
            Self::Lpp(model) => model.read(memory, rng, moment, payload),
        };
        value.filter(|_| !moment.wrong_type)
    }

    /// Told when a reading will never be looked at by a function (malformed, never sent): a meter that works with
    /// differences has not seen it. Must follow its [`Model::read`] directly.
    pub const fn forget(&self, memory: &mut Memory, before: &Memory) {
        memory.metered = before.metered;
    }

    /// Whether what a meter makes of a reading depends on the one before it, so that order matters.
    #[must_use]
    pub const fn is_ordered(&self) -> bool {
        matches!(self, Self::Energy(_))
    }

    /// Whether readings are JSON.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        !matches!(self, Self::Lpp(_))
    }

    /// The name in a scenario.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Temperature(_) => "temperature",
            Self::Energy(_) => "energy",
            Self::Vibration(_) => "vibration",
            Self::Door(_) => "door",
            Self::Lpp(_) => "lpp",
        }
    }
}

/// Appends formatted text.
fn write(payload: &mut Vec<u8>, text: core::fmt::Arguments<'_>) {
    payload.write_fmt(text).expect("a Vec takes every byte");
}

/// Appends `"name":value`, or `"name":"value"` if the reading is to be of the wrong type.
fn field(payload: &mut Vec<u8>, moment: Moment, name: &str, value: f64) {
    if moment.wrong_type {
        write(payload, format_args!("\"{name}\":\"{value}\""));
    } else {
        write(payload, format_args!("\"{name}\":{value}"));
    }
}

/// To the next multiple of a quarter.
fn quarter(value: f64) -> f64 {
    (value * 4.0).round() / 4.0
}

/// A sine-like wave of period 1 and range -1 to 1 (Bhāskara I's approximation): exact operations only, so that it is the
/// same on every machine.
fn wave(turns: f64) -> f64 {
    let x = turns - turns.floor();
    let half = |x: f64| 16.0 * x * (0.5 - x) / (1.25 - 4.0 * x * (0.5 - x));
    if x < 0.5 { half(x) } else { -half(x - 0.5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wave_resembles_a_sine() {
        for step in 0..=100 {
            let turns = f64::from(step) / 50.0 - 1.0;
            let sine = (turns * core::f64::consts::TAU).sin();
            assert!((wave(turns) - sine).abs() < 0.002, "{turns}: {} {sine}", wave(turns));
        }
    }

    #[test]
    fn every_model_meters_multiples_of_a_quarter_and_writes_what_it_meters() {
        for model in [
            Model::Temperature(Temperature::default()),
            Model::Energy(Energy { reset: 0.05, roll_over: 64, step_max: 20, ..Energy::default() }),
            Model::Vibration(Vibration::default()),
            Model::Door(Door::default()),
            Model::Lpp(Lpp::default()),
        ] {
            let (mut memory, mut rng, mut payload) = (Memory::default(), Rng::new(3), Vec::new());
            let mut values = Vec::new();
            for seq in 1..=200 {
                payload.clear();
                let time_ms = 1_700_000_000_000 + seq as i64 * 60_000;
                let moment = Moment { time_ms, stamp_ms: time_ms, seq, wrong_type: false };
                values.extend(model.read(&mut memory, &mut rng, moment, &mut payload));
                if model.is_json() {
                    let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                    assert_eq!((json["seq"].as_u64(), json["ts"].as_i64()), (Some(seq), Some(time_ms)));
                }
            }
            assert!(values.len() >= 180, "{}: {}", model.name(), values.len());
            assert!(values.iter().all(|value| (value * 4.0).fract() == 0.0 && value.abs() < 1e6), "{}", model.name());
            assert!(values.iter().any(|value| *value != values[0]), "{}", model.name());
        }
    }

    #[test]
    fn a_reading_of_the_wrong_type_is_well_formed_and_meters_nothing() {
        for model in [Model::Temperature(Temperature::default()), Model::Energy(Energy::default())] {
            let mut payload = Vec::new();
            let moment = Moment { time_ms: 5, stamp_ms: 5, seq: 1, wrong_type: true };
            let metered = model.read(&mut Memory::default(), &mut Rng::new(1), moment, &mut payload);
            assert_eq!(metered, None);
            assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        }
    }
}
