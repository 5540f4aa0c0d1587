//! One site at work: the example functions with filters, chains, durable state and meters, QoS 1 and 2, two lanes upstream and
//! one for dead letters; and what must be upstream in the end, worked out from the messages themselves.
//!
//! - Whatever is done to the gateway, what it puts out is what it would have put out undisturbed: [`Verdict::of`] compares.
//! - Small segments and quick snapshots, so that everything in the store turns over within seconds.

use std::collections::{BTreeMap, BTreeSet};

use weir::envelope::ParsedRecord;
use weir_simulator::fleet::Message;
use weir_simulator::scenario::Scenario;

use super::fleet;
use super::gateway::example;
use super::ledger::Ledger;

/// Lanes of [`Site::config`].
pub const LANES: [&str; 3] = ["telemetry", "alerts", "dead-letter"];
/// Meters of [`Site::config`].
pub const METERS: [&str; 2] = ["meter.total", "energy-meter.energy"];

const STORE: &str = "\
segment-bytes = \"64 KiB\"
journal-bytes-max = \"256 KiB\"
flush-interval = \"300 ms\"
snapshot-interval = \"2 s\"
";

/// The devices of a site for a time.
pub fn scenario(seed: u64, seconds: u64, devices: u64) -> Scenario {
    let text = format!(
        r#"
seed = {seed}
duration = "{seconds} s"
[[fleet]]
name = "boiler"
model = "temperature"
devices = {devices}
topic = "site/{{device}}/temp"
interval = "20 ms"
jitter = 0.4
qos = 1
meter = "meter.total"
base = 77.5
swing = 0.0
noise = 3.0
duplicate = 0.02
malformed = 0.01
[[fleet]]
name = "tank"
model = "temperature"
devices = {devices}
topic = "level/{{device}}/value"
interval = "20 ms"
jitter = 0.4
qos = 1
field = "value"
base = 5.0
swing = 0.0
noise = 1.0
[[fleet]]
name = "counter"
model = "energy"
devices = {devices}
topic = "energy/{{device}}/pulses"
interval = "50 ms"
jitter = 0.2
qos = 2
meter = "energy-meter.energy"
pulses = 8
roll-over = 4096
reset = 0.005
pulses-per-kwh = 4
step-max = 1024
"#
    );
    Scenario::parse("site", &text).unwrap_or_else(|error| panic!("{error}"))
}

/// What may differ between sites.
#[derive(Clone, Debug)]
pub struct Site {
    /// The broker of the devices.
    pub broker: String,
    /// `5` or `3.1.1`, of both brokers.
    pub version: &'static str,
    /// The upstream broker; `None`: everything goes to files.
    pub cloud: Option<String>,
    /// Further keys of `[store]`.
    pub store: &'static str,
    /// Further sections before the functions.
    pub more: String,
}

impl Site {
    /// MQTT 5, everything to files.
    pub fn new(broker: &str) -> Self {
        Self { broker: broker.to_owned(), version: "5", cloud: None, store: "", more: String::new() }
    }

    /// `gateway.toml`. The function `meter` lies in the gateway's own folder ([`super::guests::METER`]).
    pub fn config(&self) -> String {
        let [threshold, deadband, energy] = ["threshold", "deadband", "energy-meter"].map(example);
        let Self { broker, version, store, more, .. } = self;
        let cloud = match &self.cloud {
            Some(url) => format!("type = \"mqtt\"\nversion = \"{version}\"\nurl = \"{url}\""),
            None => "type = \"file\"\ndir = \"upstream\"\nfiles-max = 200".to_owned(),
        };
        format!(
            r##"
[gateway]
id = "gw"
[broker]
url = "{broker}"
version = "{version}"
[store]
{STORE}{store}
{more}
[[function]]
path = "meter"
[[function.trigger]]
mqtt = "site/+/temp"
[[function]]
path = "{threshold}"
[[function.trigger]]
chain = "meter/site/+/temp"
device = "topic:2"
[[function]]
path = "{deadband}"
[function.config]
band = 1.0
[[function.trigger]]
mqtt = "level/+/value"
time-field = "ts"
time-unit = "ms"
[[function]]
path = "{energy}"
[function.config]
pulses_per_kwh = 4
modulus = 4096
step_max = 1024
[function.meter.energy]
window = "1 s"
lateness = "100 ms"
[[function.trigger]]
mqtt = "energy/+/pulses"
qos = 2
time-field = "ts"
time-unit = "ms"
[[lane]]
name = "alerts"
topics = ["alerts/#"]
priority = 1
sink = "cloud"
[[lane]]
name = "telemetry"
topics = ["meter/+", "kept/#"]
sink = "disk"
[[lane]]
name = "dead-letter"
sink = "disk"
[[sink]]
name = "cloud"
{cloud}
[[sink]]
name = "disk"
type = "file"
dir = "upstream"
files-max = 200
"##
        )
    }
}

/// What upstream has against what it must have.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Readings, outputs and dead letters that are missing.
    pub lost: u64,
    /// Those that are there once too often.
    pub doubled: u64,
    /// In words.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Compares everything that `messages` must have come to.
    pub fn of(messages: &[Message], ledger: &Ledger) -> Self {
        Self::but_for(&BTreeSet::new(), messages, ledger)
    }

    /// The same; but of `disordered` topics nobody can say what a function that looks back makes of them: of these, only what
    /// does not depend on the order.
    pub fn but_for(disordered: &BTreeSet<String>, messages: &[Message], ledger: &Ledger) -> Self {
        let mut verdict = Self { faults: ledger.faults.clone(), ..Self::default() };
        for lane in LANES {
            let gaps = ledger.gaps(lane);
            if !gaps.is_empty() {
                verdict.faults.push(format!("sequences of lane {lane} are missing: {gaps:?}"));
            }
        }
        let Alerts { states, kept } = alerts(messages);
        for (device, wanted) in states.iter().filter(|(device, _)| !is_of(disordered, device)) {
            verdict.said(device, wanted, &states_upstream(ledger, device));
        }
        let arrived = ordered(disordered, kept_upstream(ledger, "kept/meter/site/", 3));
        verdict.same("kept/meter/site/", &ordered(disordered, kept), &arrived);
        verdict.same(
            "kept/level/",
            &ordered(disordered, news(messages)),
            &ordered(disordered, kept_upstream(ledger, "kept/level/", 2)),
        );
        verdict.metered(disordered, messages, ledger);
        let malformed = messages.iter().filter(|message| message.flaws.malformed).count();
        let letters = ledger.dead_letters();
        verdict.count("dead letters", malformed as u64, letters.len() as u64);
        let strange = letters.iter().find(|(error, text)| error != "malformed" || !text.contains("at byte"));
        verdict.faults.extend(strange.map(|letter| format!("a dead letter for another reason: {letter:?}")));
        verdict
    }

    /// Whether there is nothing to say.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.faults.is_empty()
    }

    /// Panics with the first faults unless it is clean.
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{} lost, {} doubled: {:#?}", self.lost, self.doubled, self.faults);
    }

    fn count(&mut self, what: &str, wanted: u64, arrived: u64) {
        self.lost += wanted.saturating_sub(arrived);
        self.doubled += arrived.saturating_sub(wanted);
        if wanted != arrived {
            self.faults.push(format!("{what}: {arrived} upstream, {wanted} is the truth"));
        }
    }

    fn said(&mut self, device: &str, wanted: &[&str], arrived: &[String]) {
        self.count(&format!("alerts of {device}"), wanted.len() as u64, arrived.len() as u64);
        if wanted.len() == arrived.len() && wanted != arrived {
            self.faults.push(format!("alerts of {device}: another order"));
        }
    }

    /// Both lists are sorted.
    fn same(&mut self, what: &str, wanted: &[(&str, u64)], arrived: &[(&str, u64)]) {
        let mut left: BTreeMap<_, i64> = BTreeMap::new();
        wanted.iter().for_each(|one| *left.entry(one).or_default() += 1);
        arrived.iter().for_each(|one| *left.entry(one).or_default() -= 1);
        for (one, balance) in left.into_iter().filter(|(_, balance)| *balance != 0) {
            self.lost += u64::try_from(balance).unwrap_or(0);
            self.doubled += u64::try_from(-balance).unwrap_or(0);
            self.faults.push(format!("{what}: {one:?} is missing {balance} times"));
        }
    }

    fn metered(&mut self, disordered: &BTreeSet<String>, messages: &[Message], ledger: &Ledger) {
        let mut truth = fleet::readings(messages);
        // `deadband` meters nothing.
        truth.retain(|device, _| !device.starts_with("tank"));
        for (device, of) in &truth {
            // `energy-meter` meters by how much a counter has moved on since the reading before.
            let looks_back = device.starts_with("counter");
            if looks_back && is_of(disordered, device) {
                continue;
            }
            let meter = METERS[usize::from(looks_back)];
            let arrived = ledger.meter(meter).find(|(key, _)| key == device);
            let (count, sum) = arrived.map_or((0, 0.0), |(_, stats)| (stats.count, stats.sum.to_f64()));
            self.count(&format!("{meter} of {device}"), of.count, count);
            if count == of.count && sum != of.sum {
                self.faults.push(format!("{meter} of {device}: {sum} upstream, {} is the truth", of.sum));
            }
        }
        let keys: usize = METERS.iter().map(|meter| ledger.meter(meter).count()).sum();
        if truth.len() != keys {
            self.faults.push(format!("{keys} keys are metered, {} is the truth", truth.len()));
        }
    }
}

fn number(message: &Message, name: &str) -> f64 {
    let json: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    json[name].as_f64().unwrap()
}

/// Messages of a fleet that a function can read, by device.
fn by_device<'a>(messages: &'a [Message], prefix: &str) -> BTreeMap<&'a str, Vec<&'a Message>> {
    let mut devices: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    let readable = messages.iter().filter(|one| one.topic.starts_with(prefix) && !one.flaws.malformed);
    readable.for_each(|one| devices.entry(fleet::device(one)).or_default().push(one));
    devices
}

/// What `threshold` says of every eighth reading.
#[derive(Default)]
pub struct Alerts<'a> {
    /// By device.
    pub states: BTreeMap<&'a str, Vec<&'static str>>,
    /// The readings that it keeps.
    kept: Vec<(&'a str, u64)>,
}

/// What `threshold` must have said.
pub fn alerts(messages: &[Message]) -> Alerts<'_> {
    let Alerts { mut states, mut kept } = Alerts::default();
    for (device, messages) in by_device(messages, "site/") {
        let (mut is_high, mut said) = (false, Vec::new());
        for message in messages.into_iter().filter(|message| message.seq % 8 == 0) {
            let temp = number(message, "temp");
            let was_high = is_high;
            is_high = if was_high { 75.0 < temp } else { 80.0 <= temp };
            if was_high != is_high {
                said.push(if is_high { "high" } else { "normal" });
            }
            kept.extend(is_high.then_some((device, message.seq)));
        }
        states.insert(device, said);
    }
    Alerts { states, kept }
}

/// The readings that `deadband` keeps.
fn news(messages: &[Message]) -> Vec<(&str, u64)> {
    let mut kept = Vec::new();
    for (device, messages) in by_device(messages, "level/") {
        let mut last = f64::NAN;
        for message in messages {
            let value = number(message, "value");
            if last.is_nan() || 1.0 < (value - last).abs() {
                last = value;
                kept.push((device, message.seq));
            }
        }
    }
    kept
}

/// What was said of a device, in the order of its lane.
fn states_upstream(ledger: &Ledger, device: &str) -> Vec<String> {
    let topic = format!("alerts/{device}");
    let of_device = ledger.messages(&topic).filter(|record| record.topic == topic);
    let mut said: Vec<(u64, String)> = of_device
        .map(|record| (record.seq, record.fields["payload"]["state"].as_str().unwrap_or("nothing").to_owned()))
        .collect();
    said.sort_unstable();
    said.into_iter().map(|(_, state)| state).collect()
}

fn kept_upstream<'a>(ledger: &'a Ledger, prefix: &'a str, level: usize) -> Vec<(&'a str, u64)> {
    let of = |record: &'a ParsedRecord| {
        let device = record.topic.split('/').nth(level).unwrap();
        (device, record.fields["payload"]["seq"].as_u64().unwrap())
    };
    sorted(ledger.messages(prefix).map(of).collect())
}

/// Those of topics in order, sorted.
fn ordered<'a>(disordered: &BTreeSet<String>, mut list: Vec<(&'a str, u64)>) -> Vec<(&'a str, u64)> {
    list.retain(|(device, _)| !is_of(disordered, device));
    sorted(list)
}

fn is_of(topics: &BTreeSet<String>, device: &str) -> bool {
    topics.iter().any(|topic| topic.split('/').nth(1) == Some(device))
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}
