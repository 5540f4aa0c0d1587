//! How fast a backlog is taken from a mosquitto with its own limit of 20 messages on their way: the gateway must not keep it
//! waiting for the commit interval (`src/pacing.rs`). And how soon a lone message is upstream.
//!
//! The figures are sanity, not performance: a debug build on a busy machine passes. `docs/performance.md` has the measured ones.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::{Duration, Instant};

use rumqttc::QoS;
use support::broker::{Broker, Conf};
use support::device::{Publish, publish, reading};
use support::gateway::Gateway;
use support::guests::METER;

fn config(broker: &Broker, version: &str, interval: &str, qos: u8) -> String {
    format!(
        r##"
[gateway]
id = "gw"
[broker]
url = "{}"
version = "{version}"
[commit]
interval = "{interval}"
[[function]]
path = "meter"
[[function.trigger]]
mqtt = "site/+/temp"
qos = {qos}
[[sink]]
name = "disk"
type = "file"
dir = "upstream"
"##,
        broker.url()
    )
}

fn readings(count: usize, qos: QoS) -> Vec<Publish> {
    let payload = |seq: usize| format!(r#"{{"temp":1,"seq":{seq}}}"#);
    (1..=count).map(|seq| Publish { qos, ..reading(&format!("site/d{}/temp", seq % 50), payload(seq)) }).collect()
}

/// Messages a second out of a backlog, the gateway's start included.
fn rate(version: &str, interval: &str, qos: QoS, count: usize) -> f64 {
    let broker = Broker::start(&Conf { in_flight: None, ..Conf::wide() });
    let mut gateway = Gateway::new(&config(&broker, version, interval, qos as u8));
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    assert!(gateway.stop().success());
    publish(broker.port(), readings(count, qos));
    let began = Instant::now();
    gateway.start();
    gateway.wait_for("the backlog", |numbers| numbers.get("messages_received_total") == count as f64);
    let rate = count as f64 / began.elapsed().as_secs_f64();
    eprintln!("MQTT {version}, {qos:?}, commits every {interval}: {rate:.0} messages a second");
    rate
}

#[test]
fn a_broker_with_twenty_messages_on_their_way_is_not_kept_waiting() {
    for (version, interval) in [("5", "100 ms"), ("3.1.1", "100 ms"), ("5", "2 s"), ("5", "0 ms")] {
        assert!(2000.0 < rate(version, interval, QoS::AtLeastOnce, 10_000), "MQTT {version}, {interval}");
    }
}

#[test]
fn qos_2_is_not_kept_waiting_either() {
    assert!(1000.0 < rate("5", "100 ms", QoS::ExactlyOnce, 5_000));
}

#[test]
fn a_lone_message_is_acknowledged_and_upstream_within_its_commit_interval() {
    let broker = Broker::start(&Conf { in_flight: None, ..Conf::wide() });
    let mut gateway = Gateway::new(&config(&broker, "5", "100 ms", 1));
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let mut times = Vec::new();
    for seq in 1..=10 {
        // Each of them is kept.
        publish(broker.port(), vec![reading("site/d/temp", format!(r#"{{"temp":1,"seq":{}}}"#, seq * 8))]);
        let began = Instant::now();
        gateway.wait_for("the record upstream", |numbers| numbers.settled("delivered") == f64::from(seq));
        times.push(began.elapsed());
    }
    times.sort_unstable();
    eprintln!("a lone message is upstream and in the books after {:?} (median), {:?} at most", times[5], times[9]);
    assert!(times[5] < Duration::from_millis(500), "{times:?}");
}
