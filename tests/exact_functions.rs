//! The example functions, chained, with durable state and meters at once, killed again and again: what they put out is what
//! they would have put out undisturbed. Two sinks; a broker with mosquitto's own limits; small segments, so that they rotate.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::broker::{Broker, Conf};
use support::crashes::Crashes;
use support::fleet::{self, Publishing};
use support::gateway::{Gateway, example};
use support::guests::METER;
use support::ledger::Ledger;
use support::upstream::Upstream;
use weir_simulator::fleet::Message;
use weir_simulator::publish::Version;
use weir_simulator::scenario::Scenario;

const SCENARIO: &str = r#"
seed = 11
duration = "15 s"
[[fleet]]
name = "boiler"
model = "temperature"
devices = 20
topic = "site/{device}/temp"
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
devices = 20
topic = "level/{device}/value"
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
devices = 20
topic = "energy/{device}/pulses"
interval = "50 ms"
jitter = 0.2
qos = 2
meter = "energy-meter.energy"
pulses = 8
roll-over = 4096
reset = 0.005
pulses-per-kwh = 4
step-max = 1024
"#;

fn config(broker: &Broker, upstream: &Broker) -> String {
    let [threshold, deadband, energy] = ["threshold", "deadband", "energy-meter"].map(example);
    let (broker, upstream) = (broker.url(), upstream.url());
    format!(
        r##"
[gateway]
id = "gw"
[broker]
url = "{broker}"
[store]
segment-bytes = "64 KiB"
journal-bytes-max = "256 KiB"
flush-interval = "300 ms"
snapshot-interval = "2 s"
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
type = "mqtt"
url = "{upstream}"
[[sink]]
name = "disk"
type = "file"
dir = "upstream"
"##
    )
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
struct Alerts<'a> {
    /// By device.
    states: BTreeMap<&'a str, Vec<&'static str>>,
    /// The readings that it keeps.
    kept: Vec<(&'a str, u64)>,
}

fn alerts(messages: &[Message]) -> Alerts<'_> {
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

fn kept_upstream<'a>(ledger: &'a Ledger, prefix: &'a str, level: usize) -> Vec<(&'a str, u64)> {
    let of = |record: &'a weir::envelope::ParsedRecord| {
        let device = record.topic.split('/').nth(level).unwrap();
        (device, record.fields["payload"]["seq"].as_u64().unwrap())
    };
    sorted(ledger.messages(prefix).map(of).collect())
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

#[test]
fn chains_state_and_meters_come_through_crashes_as_if_nothing_had_happened() {
    let broker = Broker::start(&Conf { persistent: true, ..Conf::default() });
    let mut cloud = Broker::start(&Conf { persistent: true, ..Conf::default() });
    let upstream = Upstream::subscribe(cloud.port());
    let mut gateway = Gateway::new(&config(&broker, &cloud));
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let publishing = Publishing::start(Scenario::parse("", SCENARIO).unwrap(), broker.port(), Version::V5);
    Crashes { kills: 12, seconds: 14, stops: &[4, 8], seed: 12 }.happen(&mut gateway, &mut cloud);
    let messages = publishing.finish();
    let numbers = gateway.wait_for("everything upstream", |numbers| {
        numbers.get("messages_received_total") == messages.len() as f64
            && numbers.get("window_cells") == 0.0
            && ["telemetry", "alerts", "dead-letter"].iter().all(|lane| numbers.waiting(lane) == 0.0)
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    let sent = numbers.get("lane_records_total{lane=\"alerts\",outcome=\"delivered\"}") as u64;
    let mut ledger = upstream.collect(&[("alerts", sent)]);
    ledger.take_files(&gateway.path("upstream"));
    ledger.assert_whole();

    let Alerts { states, kept } = alerts(&messages);
    for (device, states) in &states {
        let topic = format!("alerts/{device}");
        let of_device = ledger.messages(&topic).filter(|record| record.topic == topic);
        let mut said: Vec<_> =
            of_device.map(|record| (record.seq, record.fields["payload"]["state"].as_str())).collect();
        said.sort_unstable();
        let said: Vec<_> = said.into_iter().filter_map(|(_, state)| state).collect();
        assert_eq!(&said, states, "{device}");
    }
    assert!(states.values().map(Vec::len).sum::<usize>() > 100, "the scenario is no test: few alerts");
    assert_eq!(kept_upstream(&ledger, "kept/meter/site/", 3), sorted(kept));
    assert_eq!(kept_upstream(&ledger, "kept/level/", 2), sorted(news(&messages)));

    let truth = fleet::readings(&messages);
    for meter in ["meter.total", "energy-meter.energy"] {
        for (device, stats) in ledger.meter(meter) {
            let of = &truth[device];
            assert_eq!((stats.count, stats.sum.to_f64()), (of.count, of.sum), "{meter} of {device}");
        }
        assert_eq!(ledger.meter(meter).count(), 20);
    }
    let malformed = messages.iter().filter(|message| message.flaws.malformed).count();
    let letters = ledger.dead_letters();
    assert_eq!((letters.len(), numbers.settled("dead-lettered")), (malformed, malformed as f64));
    assert!(letters.iter().all(|(error, text)| error == "malformed" && text.contains("at byte")), "{letters:?}");
}
