//! A LoRa node that sends Cayenne LPP (myDevices, "Cayenne Low Power Payload"): binary, big-endian, no time of its own.
//!
//! - Channel 1, type 0x67: temperature in tenths of a degree; only halves occur, so that the decoded value is exact.
//!   Channel 2, type 0x68: relative humidity in halves of a percent. Channel 3, type 0x00 (digital input): the
//!   reading's number modulo 256, which keeps payloads of one device apart.
//! - What is metered is the temperature in °C.

use super::{Memory, Moment, wave};
use crate::rng::Rng;

/// Settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Lpp {
    /// Mean temperature in °C.
    pub base: f64,
    /// Standard deviation of the noise in °C.
    pub noise: f64,
}

impl Default for Lpp {
    fn default() -> Self {
        Self { base: 12.0, noise: 2.0 }
    }
}

impl Lpp {
    pub(super) fn read(&self, _: &mut Memory, rng: &mut Rng, moment: Moment, payload: &mut Vec<u8>) -> Option<f64> {
        let daily = 4.0 * wave((moment.time_ms as f64 / 86_400_000.0).fract() - 0.375);
        let halves = ((self.base + daily + self.noise * rng.normal()) * 2.0).round().clamp(-80.0, 160.0);
        let humidity = 80 + rng.below(80) as u8;
        payload.extend_from_slice(&[1, 0x67]);
        payload.extend_from_slice(&(halves as i16 * 5).to_be_bytes());
        payload.extend_from_slice(&[2, 0x68, humidity, 3, 0x00, moment.seq as u8]);
        Some(halves / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_stands_in_tenths_on_channel_one() {
        let mut payload = Vec::new();
        let moment = Moment { time_ms: 0, stamp_ms: 0, seq: 300, wrong_type: false };
        let metered = Lpp::default().read(&mut Memory::default(), &mut Rng::new(2), moment, &mut payload);
        assert_eq!((payload[0], payload[1], payload.len(), payload[9]), (1, 0x67, 10, 44));
        assert_eq!(Some(f64::from(i16::from_be_bytes([payload[2], payload[3]])) / 10.0), metered);
    }
}
