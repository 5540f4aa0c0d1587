//! Truth against upstream, device by device: equal, or explained, or wrong.
//!
//! - Counts and sums are compared with `==`: the metered values are such that their sums are exact.
//! - What nobody could do better is *explained*: QoS 0 lost on the way, publishes that had to be sent again (at most that many
//!   more), publishes that were never acknowledged. Everything else is wrong.

use core::fmt;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::truth::{DeviceTruth, Tally, Totals, Truth};
use crate::upstream::{Gap, Upstream};

/// Differences that are listed; the rest is counted.
const LISTED_MAX: usize = 40;

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Metered readings of QoS 1 and 2, as published.
    pub truth: Totals,
    /// The same devices, as upstream has them.
    pub upstream: Totals,
    /// Per meter: truth and upstream, all devices.
    pub meters: BTreeMap<String, (Totals, Totals)>,
    /// Devices that differ.
    pub differences: Vec<Difference>,
    /// Lanes with records that never came.
    pub gaps: Vec<Gap>,
}

/// A device whose totals differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The meter.
    pub meter: String,
    /// The device (or another key that arrived upstream).
    pub device: String,
    /// What was published.
    pub truth: Tally,
    /// What arrived.
    pub upstream: Tally,
    /// What it means.
    pub verdict: Verdict,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Fewer or less than was published and acknowledged.
    Missing,
    /// More than was published.
    TooMuch,
    /// As many readings, of another sum.
    OtherSum,
    /// A key that no device has.
    Unknown,
    /// Published at QoS 0: some may be lost without anyone's fault.
    Qos0,
    /// Within what re-sent and unacknowledged publishes allow.
    Resent,
}

impl Verdict {
    /// Whether nobody could have done better.
    #[must_use]
    pub const fn is_explained(self) -> bool {
        matches!(self, Self::Qos0 | Self::Resent)
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooMuch => "too much",
            Self::OtherSum => "other sum",
            Self::Unknown => "no such device",
            Self::Qos0 => "lost at QoS 0",
            Self::Resent => "sent again by the device",
        }
    }
}

impl Comparison {
    /// Compares.
    #[must_use]
    pub fn new(truth: &Truth, upstream: &Upstream) -> Self {
        let mut comparison = Self { gaps: upstream.gaps(), ..Self::default() };
        let mut known: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for device in &truth.devices {
            let Some(meter) = device.meter.as_deref() else { continue };
            let arrived = upstream.tally(meter, &device.device);
            known.entry(meter).or_default().push(&device.device);
            comparison.add(meter, device, arrived);
        }
        for (meter, devices) in &mut known {
            devices.sort_unstable();
            for (key, arrived) in upstream.keys(meter).filter(|(key, _)| devices.binary_search(key).is_err()) {
                let truth = DeviceTruth { device: key.to_owned(), qos: 1, ..DeviceTruth::default() };
                comparison.add(meter, &truth, arrived);
            }
        }
        comparison
    }

    fn add(&mut self, meter: &str, device: &DeviceTruth, arrived: Tally) {
        let totals = self.meters.entry(meter.to_owned()).or_default();
        totals.0.add(device.metered);
        totals.1.add(arrived);
        if device.qos > 0 {
            self.truth.add(device.metered);
            self.upstream.add(arrived);
        }
        if device.metered != arrived {
            self.differences.push(Difference {
                meter: meter.to_owned(),
                device: device.device.clone(),
                truth: device.metered,
                upstream: arrived,
                verdict: judge(device, arrived),
            });
        }
    }

    /// Whether every metered reading of QoS 1 and 2 is upstream exactly once, and no record is missing.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.gaps.is_empty() && self.differences.iter().all(|difference| difference.verdict == Verdict::Qos0)
    }

    /// Whether nothing is wrong: exact, or within what the devices themselves made uncertain.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.gaps.is_empty() && self.differences.iter().all(|difference| difference.verdict.is_explained())
    }
}

fn judge(device: &DeviceTruth, arrived: Tally) -> Verdict {
    let truth = device.metered;
    let uncertain = device.resent.messages + device.unconfirmed.messages;
    if truth.messages == 0 && device.published == 0 && uncertain == 0 {
        Verdict::Unknown
    } else if device.qos == 0 && arrived.messages < truth.messages {
        Verdict::Qos0
    } else if truth.messages < arrived.messages && arrived.messages <= truth.messages + uncertain {
        Verdict::Resent
    } else if arrived.messages < truth.messages {
        Verdict::Missing
    } else if truth.messages < arrived.messages {
        Verdict::TooMuch
    } else {
        Verdict::OtherSum
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<28} {:>10} {:>16} {:>10} {:>16} {:>8}",
            "meter", "published", "sum", "upstream", "sum", "devices"
        )?;
        for (meter, (truth, upstream)) in &self.meters {
            let (messages, sum) = (truth.messages, truth.sum);
            writeln!(
                f,
                "{meter:<28} {messages:>10} {sum:>16} {:>10} {:>16} {:>8}",
                upstream.messages, upstream.sum, upstream.devices
            )?;
        }
        if !self.differences.is_empty() {
            writeln!(f, "\n{:<28} {:>10} {:>16} {:>10} {:>16} ", "device", "published", "sum", "upstream", "sum")?;
        }
        for difference in self.differences.iter().take(LISTED_MAX) {
            let Difference { meter, device, truth, upstream, verdict } = difference;
            let (messages, sum) = (truth.messages, truth.sum);
            let row =
                format_args!("{device:<28} {messages:>10} {sum:>16} {:>10} {:>16}", upstream.messages, upstream.sum);
            writeln!(f, "{row} {}, {meter}", verdict.text())?;
        }
        if LISTED_MAX < self.differences.len() {
            writeln!(f, "… and {} more devices", self.differences.len() - LISTED_MAX)?;
        }
        for gap in &self.gaps {
            writeln!(f, "{gap}")?;
        }
        let verdict = match (self.is_exact(), self.is_right()) {
            (true, _) => "upstream equals the truth",
            (false, true) => "upstream equals the truth but for what the devices sent twice or had no answer for",
            (false, false) => "UPSTREAM DIFFERS FROM THE TRUTH",
        };
        write!(f, "{verdict}")?;
        let missing = |one: &&Difference| one.verdict == Verdict::Missing;
        if let Some(Difference { meter, .. }) = self.differences.iter().find(missing) {
            write!(
                f,
                "\nWhat is missing may still be in open windows: those of {meter} go upstream once they and their lateness are over. \
                 `weir_window_cells` of the gateway's metrics counts them; compare again when it is 0."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METER: &str = "f.m";

    fn device(name: &str, qos: u8, messages: u64, sum: f64) -> DeviceTruth {
        let (device, meter, metered) = (name.to_owned(), Some(METER.to_owned()), Tally { messages, sum });
        DeviceTruth { device, meter, qos, published: messages, metered, ..DeviceTruth::default() }
    }

    fn compare(truth: DeviceTruth, arrived: &[(&str, u64, f64)]) -> Comparison {
        let mut upstream = Upstream::default();
        arrived.iter().for_each(|(key, count, sum)| upstream.add(METER, key, *count, *sum));
        Comparison::new(&Truth { devices: vec![truth], ..Truth::default() }, &upstream)
    }

    #[test]
    fn every_difference_has_its_verdict() {
        let resent = DeviceTruth { resent: Tally { messages: 1, sum: 1.0 }, ..device("a", 1, 3, 6.0) };
        for (truth, arrived, verdict, is_exact, is_right) in [
            (device("a", 1, 3, 6.0), ("a", 3, 6.0), None, true, true),
            (device("a", 1, 3, 6.0), ("a", 2, 6.0), Some(Verdict::Missing), false, false),
            (device("a", 1, 3, 6.0), ("a", 4, 6.0), Some(Verdict::TooMuch), false, false),
            (device("a", 1, 3, 6.0), ("a", 3, 6.25), Some(Verdict::OtherSum), false, false),
            (device("a", 0, 3, 6.0), ("a", 2, 6.0), Some(Verdict::Qos0), true, true),
            (device("a", 0, 3, 6.0), ("a", 4, 6.0), Some(Verdict::TooMuch), false, false),
            (resent.clone(), ("a", 4, 7.0), Some(Verdict::Resent), false, true),
            (resent, ("a", 5, 7.0), Some(Verdict::TooMuch), false, false),
        ] {
            let comparison = compare(truth, &[arrived]);
            assert_eq!(comparison.differences.first().map(|difference| difference.verdict), verdict, "{arrived:?}");
            assert_eq!((comparison.is_exact(), comparison.is_right()), (is_exact, is_right), "{arrived:?}");
        }
    }

    #[test]
    fn keys_that_no_device_has_are_wrong() {
        let comparison = compare(device("a", 1, 1, 1.0), &[("a", 1, 1.0), ("~overflow", 2, 5.0)]);
        assert_eq!(comparison.differences[0].verdict, Verdict::Unknown);
        assert_eq!((comparison.truth.messages, comparison.upstream.messages), (1, 3));
    }

    #[test]
    fn missing_records_are_wrong_even_if_the_sums_agree() {
        let mut upstream = Upstream::default();
        upstream.note(("g", "s", "main"), 2, "message");
        let comparison = Comparison::new(&Truth::default(), &upstream);
        assert!(!comparison.is_right() && comparison.to_string().contains("1 records never came"));
    }

    #[test]
    fn the_table_names_device_meter_and_both_sides() {
        let text = compare(device("hall-001", 1, 3, 6.25), &[("hall-001", 2, 4.0)]).to_string();
        for part in
            ["hall-001", METER, "6.25", "missing", "UPSTREAM DIFFERS", "may still be in open windows: those of f.m"]
        {
            assert!(text.contains(part), "{text}");
        }
        let text = compare(device("hall-001", 1, 3, 6.25), &[("hall-001", 4, 8.0)]).to_string();
        assert!(text.contains("UPSTREAM DIFFERS") && !text.contains("open windows"), "{text}");
    }
}
