//! An accelerometer: `{"seq":1,"ts":1700000000000,"rate":1600,"samples":[3,-21,…]}`.
//!
//! - A quarter each of the samples is k, -k, 7k and -7k, in random order: the mean is 0 and the mean square 25k², so that the
//!   RMS is exactly 5k and the crest factor 1.4. What is metered is the RMS, as the example function `vibration` does.

use super::{Memory, Moment, write};
use crate::rng::Rng;

/// Settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Vibration {
    /// Samples of a reading; a multiple of 4.
    pub samples: u64,
    /// Mean RMS of a healthy machine; rounded to a multiple of 1.25.
    pub level: f64,
    /// Probability per reading of a worn bearing's knock: five times the level.
    pub knock: f64,
}

impl Default for Vibration {
    fn default() -> Self {
        Self { samples: 64, level: 10.0, knock: 0.02 }
    }
}

impl Vibration {
    pub(super) fn read(&self, _: &mut Memory, rng: &mut Rng, moment: Moment, payload: &mut Vec<u8>) -> Option<f64> {
        let level = self.level * (0.5 + rng.unit()) * if rng.chance(self.knock) { 5.0 } else { 1.0 };
        let unit = (level / 1.25).round().max(1.0) / 4.0;
        write(payload, format_args!("{{\"seq\":{},\"ts\":{},\"rate\":1600,\"samples\":", moment.seq, moment.stamp_ms));
        if moment.wrong_type {
            payload.extend_from_slice(b"null}");
            return None;
        }
        let mut left = [
            (unit, self.samples / 4),
            (-unit, self.samples / 4),
            (7.0 * unit, self.samples / 4),
            (-7.0 * unit, self.samples / 4),
        ];
        for index in 0..self.samples / 4 * 4 {
            payload.push(if index == 0 { b'[' } else { b',' });
            let mut place = rng.below(self.samples / 4 * 4 - index);
            let drawn = left.iter_mut().find(|(_, count)| {
                let is_here = place < *count;
                place = place.wrapping_sub(*count);
                is_here
            });
            let (sample, count) = drawn.expect("as many are left as are drawn");
            *count -= 1;
            write(payload, format_args!("{sample}"));
        }
        payload.extend_from_slice(b"]}");
        Some(5.0 * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rms_of_the_samples_is_exactly_what_is_metered() {
        for seed in 0..50 {
            let mut payload = Vec::new();
            let moment = Moment { time_ms: 0, stamp_ms: 0, seq: 1, wrong_type: false };
            let model = Vibration::default();
            let metered = model.read(&mut Memory::default(), &mut Rng::new(seed), moment, &mut payload);
            let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let samples: Vec<f64> = json["samples"].as_array().unwrap().iter().map(|a| a.as_f64().unwrap()).collect();
            let rms = (samples.iter().map(|a| a * a).sum::<f64>() / samples.len() as f64).sqrt();
            assert_eq!((samples.len(), samples.iter().sum::<f64>(), Some(rms)), (64, 0.0, metered));
        }
    }
}
