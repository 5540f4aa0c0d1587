//! Scenarios: which fleets of devices publish what, how often, and what goes wrong; read from TOML.
//!
//! - Unknown keys are refused; all faults of a file come together, each with key, wish and what stands there.
//! - A scenario and a seed decide everything that a fleet sends, byte for byte.

mod read;

use core::fmt;

use weir::config::Qos;
use weir::strict::{self, Fault, Faults, Section};

use crate::model::Model;

/// A commented scenario, as `weir-sim scenario --print` shows it.
pub const SAMPLE: &str = include_str!("../../scenarios/factory.toml");

/// Devices of a scenario at most.
pub const DEVICES_MAX: u64 = 100_000;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// A name for reports.
    pub name: String,
    /// Seed, unless the caller gives another.
    pub seed: u64,
    /// How long readings are taken; `None`: until told to stop.
    pub duration_ms: Option<u64>,
    /// Groups of like devices.
    pub fleets: Vec<FleetSpec>,
}

/// A group of like devices.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSpec {
    /// Name; its devices are `NAME-001`, `NAME-002`, …
    pub name: String,
    /// What a device measures.
    pub model: Model,
    /// How many there are.
    pub devices: u64,
    /// Topic, in which `{device}` stands for the device's name.
    pub topic: String,
    /// Between two readings of a device, in microseconds.
    pub interval_us: u64,
    /// Deviation from the interval, as a part of it.
    pub jitter: f64,
    /// Quality of service of the publishes.
    pub qos: Qos,
    /// Publish with the retain flag.
    pub retain: bool,
    /// The meter that adds these readings up, as it is called upstream.
    pub meter: Option<String>,
    /// What goes wrong.
    pub flaws: FlawRates,
    /// Times of more readings than usual.
    pub bursts: Vec<Burst>,
    /// Times without a link.
    pub outages: Vec<Outage>,
}

/// Probabilities per reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlawRates {
    /// Published twice, byte for byte, as two MQTT messages.
    pub duplicate: f64,
    /// Published after `late_ms`, when newer ones have long been.
    pub late: f64,
    /// By how much, at most (half of it at least).
    pub late_ms: u64,
    /// Published directly after the device's next reading.
    pub out_of_order: f64,
    /// Payload damaged so that it is no JSON (or no whole LPP) any more.
    pub malformed: f64,
    /// The metered field is text.
    pub wrong_type: f64,
    /// The timestamp in the payload lies in 1970 or 2099.
    pub bad_time: f64,
}

/// More readings for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Start, after the start of the scenario.
    pub at_ms: u64,
    /// Length.
    pub for_ms: u64,
    /// How many times as many.
    pub factor: f64,
}

/// No link for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// Start, after the start of the scenario.
    pub at_ms: u64,
    /// Length.
    pub for_ms: u64,
    /// Whether devices keep their readings and send them at once when the link is back; else those are never sent.
    pub keep: bool,
}

/// Everything that is wrong with a scenario: one line each, with file, key, wish and room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The faults, in the order of the file.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads the scenario in `text`; `file` stands in the faults.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let faults = Faults::default();
        let scenario =
            strict::parse(file, text, &faults).map(|table| read::scenario(Section::top(file, &table, &faults)));
        scenario.filter(|_| !faults.refused()).ok_or_else(|| ScenarioError { faults: faults.into_list() })
    }

    /// Readings a second of the whole scenario, without bursts and outages.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.fleets.iter().map(|fleet| fleet.devices as f64 * 1e6 / fleet.interval_us as f64).sum()
    }

    /// Sets all intervals so that the whole scenario has `rate` readings a second.
    pub fn set_rate(&mut self, rate: f64) {
        let factor = self.rate() / rate;
        for fleet in &mut self.fleets {
            fleet.interval_us = ((fleet.interval_us as f64 * factor) as u64).max(1);
        }
    }

    /// Sets the quality of service of every fleet.
    pub fn set_qos(&mut self, qos: Qos) {
        for fleet in &mut self.fleets {
            fleet.qos = qos;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_accepted() {
        for (name, text) in [
            ("factory.toml", SAMPLE),
            ("thousand.toml", include_str!("../../scenarios/thousand.toml")),
            ("hundred.toml", include_str!("../../scenarios/hundred.toml")),
            ("faults.toml", include_str!("../../scenarios/faults.toml")),
        ] {
            let scenario = Scenario::parse(name, text).unwrap_or_else(|error| panic!("{error}"));
            assert!(scenario.rate() > 0.0 && !scenario.fleets.is_empty());
        }
    }

    #[test]
    fn all_faults_come_together_with_key_wish_and_what_is_there() {
        let text = "nam = 1\n[[fleet]]\nname = \"Big\"\nmodel = \"temp\"\ntopic = \"a/#/{device}\"\ninterval = \"1\"\nqos = 3\nlate = 2\n\
                    [[burst]]\nfleet = \"x\"\nat = \"1 s\"\n";
        let error = Scenario::parse("s.toml", text).unwrap_err();
        for (key, part) in [
            ("nam", "did you mean `name`"),
            ("fleet[0].name", "a-z"),
            ("fleet[0].model", "none of \"temperature\", \"energy\""),
            ("fleet[0].topic", "wildcard"),
            ("fleet[0].interval", "unit"),
            ("fleet[0].qos", "is 3; wants a whole number from 0 to 2"),
            ("fleet[0].late", "a number from 0 to 1"),
            ("burst[0].fleet", "names `x`"),
            ("burst[0].for", "is missing"),
        ] {
            let found = error.faults.iter().any(|fault| fault.key == key && fault.text.contains(part));
            assert!(found, "{key}: {error}");
        }
        assert_eq!(error.faults.len(), 9, "{error}");
        assert!(error.to_string().starts_with("s.toml: "));
    }

    #[test]
    fn readings_that_a_meter_could_not_add_up_exactly_are_refused() {
        let fleet = |more: &str| {
            let text =
                format!("[[fleet]]\nname=\"a\"\nmodel=\"energy\"\ntopic=\"{{device}}\"\nmeter=\"m.kwh\"\n{more}");
            Scenario::parse("s", &text)
        };
        assert!(fleet("").is_ok());
        for (text, part) in [
            ("late = 0.1", "reading before"),
            ("pulses-per-kwh = 3", "1, 2 or 4"),
            ("roll-over = 16", "below `roll-over`"),
        ] {
            assert!(fleet(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }

    #[test]
    fn a_rate_scales_every_interval() {
        let mut scenario = Scenario::parse("factory.toml", SAMPLE).unwrap();
        scenario.set_rate(5000.0);
        assert!((scenario.rate() - 5000.0).abs() < 50.0, "{}", scenario.rate());
    }
}
