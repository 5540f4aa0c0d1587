//! The true totals: what devices published, counted from the messages that the broker acknowledged.
//!
//! - A meter's truth is exact for QoS 1 and 2. A QoS 0 publish may be lost without anyone's fault; it is an upper bound.
//! - A publish that had to be sent again after a lost connection may be in the broker twice; it is counted once here and
//!   listed as `resent`, which widens what is allowed upstream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir::config::Qos;

use crate::fleet::{Message, roster};
use crate::scenario::Scenario;

/// How many readings and what they add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Readings.
    pub messages: u64,
    /// Their values, added up.
    pub sum: f64,
}

impl Tally {
    /// Adds `messages` readings of together `sum`.
    pub fn add(&mut self, messages: u64, sum: f64) {
        self.messages += messages;
        self.sum += sum;
    }
}

/// Totals over devices, as the demo's summary has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Metered readings.
    pub messages: u64,
    /// Devices with at least one.
    pub devices: u64,
    /// Their values, added up.
    pub sum: f64,
}

impl Totals {
    /// Adds a device.
    pub fn add(&mut self, tally: Tally) {
        self.messages += tally.messages;
        self.devices += u64::from(tally.messages > 0);
        self.sum += tally.sum;
    }
}

/// What one device published and had acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceTruth {
    /// The device's name.
    pub device: String,
    /// The meter that adds its readings up, if one does.
    pub meter: Option<String>,
    /// Quality of service of its publishes.
    pub qos: u8,
    /// All messages.
    pub published: u64,
    /// What the meter must have.
    pub metered: Tally,
    /// Of `metered`: readings that may be in the broker twice, because they were sent again.
    pub resent: Tally,
    /// Messages that a function cannot decode: dead letters.
    pub malformed: u64,
    /// Well-formed messages without a value to meter.
    pub wrong_type: u64,
    /// Second publishes of the same reading; they count in `published` and `metered`.
    pub duplicates: u64,
    /// Messages sent late.
    pub late: u64,
    /// Messages sent after a newer one.
    pub out_of_order: u64,
    /// Messages with a timestamp in 1970 or 2099.
    pub bad_time: u64,
    /// Messages whose acknowledgement never came: nobody knows whether they are in the broker.
    pub unconfirmed: Tally,
}

/// The true totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// The scenario's name.
    pub scenario: String,
    /// The seed that was used.
    pub seed: u64,
    /// Per device, in the order of the scenario.
    pub devices: Vec<DeviceTruth>,
}

impl Truth {
    /// Nothing published yet.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let devices = roster(scenario).map(|device| {
            let fleet = &scenario.fleets[device.fleet];
            DeviceTruth {
                device: device.name,
                meter: fleet.meter.clone(),
                qos: fleet.qos as u8,
                ..DeviceTruth::default()
            }
        });
        Self { scenario: scenario.name.clone(), seed, devices: devices.collect() }
    }

    /// Counts an acknowledged message (at QoS 0: one that was sent). `resent`: it was sent more than once.
    pub fn count(&mut self, message: &Message, resent: bool) {
        let device = &mut self.devices[message.device as usize];
        device.published += 1;
        device.malformed += u64::from(message.flaws.malformed);
        device.wrong_type += u64::from(message.flaws.wrong_type && !message.flaws.malformed);
        device.duplicates += u64::from(message.flaws.duplicate);
        device.late += u64::from(message.flaws.late);
        device.out_of_order += u64::from(message.flaws.out_of_order);
        device.bad_time += u64::from(message.flaws.bad_time);
        if let (Some(_), Some(value)) = (&device.meter, message.metered) {
            device.metered.add(1, value);
        }
        if resent {
            device.resent.add(1, message.metered.unwrap_or(0.0));
        }
    }

    /// Notes a message that was sent and never acknowledged.
    pub fn count_unconfirmed(&mut self, message: &Message) {
        self.devices[message.device as usize].unconfirmed.add(1, message.metered.unwrap_or(0.0));
    }

    /// Adds what another part of the same fleet published.
    pub fn merge(&mut self, other: &Self) {
        for (device, part) in self.devices.iter_mut().zip(&other.devices) {
            device.published += part.published;
            device.malformed += part.malformed;
            device.wrong_type += part.wrong_type;
            device.duplicates += part.duplicates;
            device.late += part.late;
            device.out_of_order += part.out_of_order;
            device.bad_time += part.bad_time;
            device.metered.add(part.metered.messages, part.metered.sum);
            device.resent.add(part.resent.messages, part.resent.sum);
            device.unconfirmed.add(part.unconfirmed.messages, part.unconfirmed.sum);
        }
    }

    /// All messages published and acknowledged.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.devices.iter().map(|device| device.published).sum()
    }

    /// Messages that must become dead letters.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.devices.iter().map(|device| device.malformed).sum()
    }

    /// Messages of which nobody knows whether the broker has them.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.devices.iter().map(|device| device.unconfirmed.messages).sum()
    }

    /// The metered readings published at QoS 1 or 2: what must be upstream exactly.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals_of(|device| device.qos >= Qos::AtLeastOnce as u8)
    }

    /// The metered readings of the devices that `wanted` picks.
    pub fn totals_of(&self, wanted: impl Fn(&DeviceTruth) -> bool) -> Totals {
        let mut totals = Totals::default();
        self.devices.iter().filter(|device| wanted(device)).for_each(|device| totals.add(device.metered));
        totals
    }

    /// The metered readings of every meter.
    #[must_use]
    pub fn meters(&self) -> BTreeMap<&str, Totals> {
        let mut meters: BTreeMap<&str, Totals> = BTreeMap::new();
        for device in &self.devices {
            if let Some(meter) = &device.meter {
                meters.entry(meter).or_default().add(device.metered);
            }
        }
        meters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    fn run(seed: u64) -> (Scenario, Vec<Message>) {
        let mut scenario = Scenario::parse("t", include_str!("../scenarios/faults.toml")).unwrap();
        scenario.duration_ms = Some(8000);
        let messages = Fleet::new(&scenario, seed, 1_700_000_000_000).collect();
        (scenario, messages)
    }

    #[test]
    fn the_truth_equals_a_recount_of_the_payloads() {
        let (scenario, messages) = run(1);
        let mut truth = Truth::new(&scenario, 1);
        messages.iter().for_each(|message| truth.count(message, false));
        let thermometers = truth.totals_of(|device| device.meter.as_deref() == Some("threshold.temp"));
        let mut recount = Totals::default();
        for message in messages.iter().filter(|message| message.topic.starts_with("site/")) {
            let json: Option<serde_json::Value> = serde_json::from_slice(&message.payload).ok();
            if let Some(temp) = json.and_then(|json| json["temp"].as_f64()) {
                recount.messages += 1;
                recount.sum += temp;
            }
        }
        assert_eq!((thermometers.messages, thermometers.sum), (recount.messages, recount.sum));
        assert_eq!((truth.published(), thermometers.devices), (messages.len() as u64, 20));
    }

    #[test]
    fn parts_merge_to_the_whole_in_any_order_and_survive_json() {
        let (scenario, messages) = run(2);
        let mut whole = Truth::new(&scenario, 2);
        let mut parts = vec![whole.clone(); 3];
        for (index, message) in messages.iter().enumerate() {
            whole.count(message, false);
            parts[index * 7 % 3].count(message, false);
        }
        let mut merged = Truth::new(&scenario, 2);
        parts.iter().rev().for_each(|part| merged.merge(part));
        assert_eq!(whole, merged);
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Truth>(&text).unwrap(), whole);
    }
}
