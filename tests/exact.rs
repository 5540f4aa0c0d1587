//! Nothing lost, nothing counted twice: a real broker in, the real binary killed again and again, a real broker out that goes
//! away meanwhile; and upstream equals the truth.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::broker::{Broker, Conf};
use support::crashes::Crashes;
use support::fleet::{self, Publishing};
use support::gateway::{Gateway, Numbers};
use support::guests::METER;
use support::ledger::Ledger;
use support::upstream::Upstream;
use weir_simulator::fleet::Message;
use weir_simulator::publish::Version;
use weir_simulator::scenario::Scenario;

/// What is done to whom.
struct Trial {
    version: Version,
    qos: u8,
    /// Readings at least, of 100 devices, within `seconds`.
    readings: usize,
    seconds: u64,
    crashes: Crashes,
}

/// A few more readings than the trial wants: the intervals are drawn.
fn scenario(trial: &Trial) -> Scenario {
    let text = format!(
        "seed = {}\nduration = \"{} s\"\n[[fleet]]\nname = \"node\"\nmodel = \"temperature\"\ndevices = 100\n\
         topic = \"site/{{device}}/temp\"\njitter = 0.5\nqos = {}\nmeter = \"meter.total\"\n",
        trial.crashes.seed, trial.seconds, trial.qos
    );
    let mut scenario = Scenario::parse("scenario", &text).unwrap_or_else(|error| panic!("{error}"));
    scenario.set_rate(trial.readings as f64 * 1.02 / trial.seconds as f64);
    scenario
}

fn config(trial: &Trial, broker: &Broker, upstream: &Broker) -> String {
    let version = match trial.version {
        Version::V5 => "5",
        Version::V311 => "3.1.1",
    };
    format!(
        r##"
[gateway]
id = "gw"
[broker]
url = "{}"
version = "{version}"
[store]
flush-interval = "700 ms"
snapshot-interval = "3 s"
[[function]]
path = "meter"
[[function.trigger]]
mqtt = "site/+/temp"
qos = {}
time-field = "ts"
time-unit = "ms"
[[lane]]
name = "telemetry"
topics = ["#"]
[[lane]]
name = "dead-letter"
sink = "cloud"
[[sink]]
name = "cloud"
type = "mqtt"
version = "{version}"
url = "{}"
"##,
        broker.url(),
        trial.qos,
        upstream.url()
    )
}

/// What came of a trial.
struct Outcome {
    messages: Vec<Message>,
    ledger: Ledger,
    numbers: Numbers,
    log: String,
}

fn run(trial: &Trial) -> Outcome {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    let mut gateway = Gateway::new(&config(trial, &broker, &cloud));
    METER.install(&gateway);
    gateway.start();
    // The broker must know the session before the first reading.
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let publishing = Publishing::start(scenario(trial), broker.port(), trial.version);
    trial.crashes.happen(&mut gateway, &broker, &mut cloud);
    let messages = publishing.finish();
    assert!(trial.readings <= messages.len(), "{} readings are too few", messages.len());
    let wanted = if trial.qos == 0 { 0.0 } else { messages.len() as f64 };
    let numbers = gateway.wait_for("the last window upstream", |numbers| {
        wanted <= numbers.get("messages_received_total")
            && numbers.get("window_cells") == 0.0
            && numbers.waiting("telemetry") == 0.0
            && numbers.waiting("dead-letter") == 0.0
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    let records = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}");
    let ledger = upstream.collect(&[("telemetry", records as u64)]);
    eprintln!(
        "{} readings; {} redelivered to the gateway and known, {} delivered upstream again",
        messages.len(),
        numbers.get("messages_duplicate_total"),
        ledger.repeats
    );
    Outcome { messages, ledger, numbers, log: gateway.log() }
}

/// Whatever a difference may be explained by: where it is in time, whether whole messages came twice or values only, and what
/// happened to the connection.
fn explanation(Outcome { messages, ledger, numbers, log }: &Outcome) -> String {
    let count = |name: &str| numbers.get(name);
    let mut text = format!(
        "{} published, {} received, {} came again and were known, {} connections of the last life, {} upstream\n",
        messages.len(),
        count("messages_received_total"),
        count("messages_duplicate_total"),
        count("broker_connections_total"),
        ledger.readings("meter.total")
    );
    let mut truth: BTreeMap<i64, u64> = BTreeMap::new();
    for message in messages {
        let json: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let at_ms = json["ts"].as_i64().unwrap();
        *truth.entry(at_ms - at_ms.rem_euclid(1000)).or_default() += 1;
    }
    let arrived: BTreeMap<i64, (u64, u64)> = ledger.windows("meter.total").collect();
    for start_ms in truth.keys().chain(arrived.keys()).collect::<BTreeSet<_>>() {
        let (published, (upstream, partials)) =
            (truth.get(start_ms), arrived.get(start_ms).copied().unwrap_or_default());
        if published != Some(&upstream) {
            text +=
                &format!("window {start_ms}: {published:?} published, {upstream} upstream in {partials} partials\n");
        }
    }
    let mut kept: BTreeMap<(&str, u64), Vec<u64>> = BTreeMap::new();
    for one in ledger.messages("meter/") {
        let key = (one.topic.split('/').nth(2).unwrap(), one.fields["payload"]["seq"].as_u64().unwrap());
        kept.entry(key).or_default().push(one.seq);
    }
    let twice: Vec<_> = kept.iter().filter(|(_, sequences)| 1 < sequences.len()).collect();
    text += &format!("{} kept readings came twice: (device, number), sequences in the lane\n", twice.len());
    twice.iter().take(40).for_each(|one| text += &format!("{one:?}\n"));
    let lines = log.lines().filter(|line| ["broker", "ready", "WARN", "ERROR"].iter().any(|word| line.contains(word)));
    lines.for_each(|line| text += &format!("{line}\n"));
    text
}

/// Every device's count and sum, and its kept readings, each once.
fn assert_exact(outcome: &Outcome) {
    let exact = std::panic::catch_unwind(|| compare(outcome));
    if let Err(panic) = exact {
        eprintln!("{}", explanation(outcome));
        std::panic::resume_unwind(panic);
    }
}

fn compare(outcome: &Outcome) {
    let Outcome { messages, ledger, numbers, .. } = outcome;
    ledger.assert_whole();
    let truth = fleet::readings(messages);
    for meter in ["meter.total", "meter.spread"] {
        let arrived: BTreeMap<&str, (u64, f64)> =
            ledger.meter(meter).map(|(key, stats)| (key, (stats.count, stats.sum.to_f64()))).collect();
        let wanted: BTreeMap<&str, (u64, f64)> =
            truth.iter().map(|(device, of)| (device.as_str(), (of.count, of.sum))).collect();
        let differs = wanted.iter().find(|(device, of)| arrived.get(*device) != Some(of));
        let found = differs.and_then(|(device, _)| arrived.get(device));
        assert_eq!(differs, None, "{meter}: a device of the truth, but upstream has {found:?}");
        assert_eq!(arrived.len(), wanted.len(), "{meter}: keys");
    }
    for (device, stats) in ledger.meter("meter.spread") {
        assert_eq!((stats.min, stats.max), (truth[device].min, truth[device].max), "{device}");
    }
    let mut kept: Vec<(&str, u64)> =
        messages.iter().filter(|one| one.seq % 8 == 0).map(|one| (fleet::device(one), one.seq)).collect();
    let mut arrived: Vec<(&str, u64)> = ledger
        .messages("meter/")
        .map(|one| (one.topic.split('/').nth(2).unwrap(), one.fields["payload"]["seq"].as_u64().unwrap()))
        .collect();
    kept.sort_unstable();
    arrived.sort_unstable();
    assert_eq!(kept.len(), arrived.len(), "kept readings upstream");
    assert_eq!(kept, arrived);
    let settled = numbers.settled("aggregated") + numbers.settled("delivered");
    assert_eq!((numbers.get("messages_received_total"), settled), (messages.len() as f64, messages.len() as f64));
}

const HUNDRED_THOUSAND: Trial = Trial {
    version: Version::V5,
    qos: 1,
    readings: 100_000,
    seconds: 25,
    crashes: Crashes { kills: 20, seconds: 24, stops: &[6, 14], stalls: false, seed: 1 },
};

const TEN_THOUSAND: Trial = Trial {
    version: Version::V5,
    qos: 2,
    readings: 10_000,
    seconds: 6,
    crashes: Crashes { kills: 6, seconds: 6, stops: &[3], stalls: false, seed: 3 },
};

#[test]
fn a_hundred_thousand_readings_through_twenty_crashes_are_upstream_once_each_over_mqtt_5() {
    assert_exact(&run(&HUNDRED_THOUSAND));
}

#[test]
fn a_hundred_thousand_readings_through_twenty_crashes_are_upstream_once_each_over_mqtt_3_1_1() {
    let crashes = Crashes { seed: 2, ..HUNDRED_THOUSAND.crashes };
    assert_exact(&run(&Trial { version: Version::V311, crashes, ..HUNDRED_THOUSAND }));
}

/// What waits is sent beyond the Receive Maximum, acknowledged, and not known to be acknowledged when the gateway is killed.
#[test]
fn readings_through_crashes_while_the_broker_stalls_are_upstream_once_each() {
    for (version, seed) in [(Version::V5, 5), (Version::V311, 6)] {
        let crashes = Crashes { kills: 8, seconds: 6, stops: &[3], stalls: true, seed };
        assert_exact(&run(&Trial { version, qos: 1, readings: 60_000, seconds: 15, crashes }));
    }
}

#[test]
fn readings_of_qos_2_through_crashes_are_upstream_once_each() {
    assert_exact(&run(&TEN_THOUSAND));
    let crashes = Crashes { seed: 4, ..TEN_THOUSAND.crashes };
    assert_exact(&run(&Trial { version: Version::V311, crashes, ..TEN_THOUSAND }));
}

#[test]
fn readings_of_qos_0_may_be_lost_in_a_crash_and_the_books_still_balance() {
    for version in [Version::V5, Version::V311] {
        let Outcome { messages, ledger, numbers, .. } = run(&Trial { version, qos: 0, ..TEN_THOUSAND });
        ledger.assert_whole();
        let dropped = numbers.get("messages_dropped_total{reason=\"inbox-full\"}");
        let received = numbers.get("messages_received_total");
        assert!(0.0 < received && received <= messages.len() as f64);
        assert_eq!(ledger.readings("meter.total") as f64, received - dropped, "what was received is upstream");
    }
}
