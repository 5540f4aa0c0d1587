//! What a broker sends again when our acknowledgements were lost with the connection: however many, each counts once.

use std::time::{Duration, Instant};

use super::support::broker::{Broker, Conf};
use super::support::device::{Publish, publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::proxy::Proxy;
use super::{FILES, drain, files, function, start};

/// So many wait for a gateway that was away: many times its Receive Maximum.
const WAITING: usize = 12_000;

fn readings(from: usize, to: usize) -> Vec<Publish> {
    (from..to).map(|seq| reading(&format!("site/{}/temp", seq % 10), format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect()
}

/// The broker sends all that waits, sees the first `acks` acknowledgements and none after that, the gateway is killed, and the
/// broker sends again what it thinks unacknowledged.
fn check(version: &str, conf: &Conf, acks: u64) {
    let broker = Broker::start(conf);
    let wire = Proxy::start(broker.port());
    let config = format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\nversion = \"{version}\"\n{}qos = 1\n{FILES}",
        wire.url(),
        function("meter")
    );
    let mut gateway = Gateway::new(&config);
    METER.install(&gateway);
    start(&mut gateway);
    gateway.kill();
    publish(broker.port(), readings(0, WAITING));
    wire.pass_acks(acks);
    gateway.start();
    let taken = all_that_comes(&mut gateway);
    eprintln!("MQTT {version}: {taken} of {WAITING} came before the broker had read more than {acks} acknowledgements");
    gateway.kill();
    wire.cut();
    wire.pass_acks(u64::MAX);
    start(&mut gateway);
    let numbers = gateway.wait_for("all of it", |numbers| {
        WAITING as f64 <= numbers.get("messages_received_total") && numbers.get("window_cells") == 0.0
    });
    drain(&mut gateway, &["telemetry"]);
    assert!(gateway.stop().success(), "{}", gateway.log());
    let upstream = files(&gateway).readings("meter.total");
    let received = numbers.get("messages_received_total");
    let known = numbers.get("messages_duplicate_total");
    assert_eq!(
        (received, upstream),
        (WAITING as f64, WAITING as u64),
        "{taken} taken, {known} known when they came again"
    );
}

/// Waits until no more comes: how many came and are committed.
fn all_that_comes(gateway: &mut Gateway) -> u64 {
    let (mut taken, mut since) = (0, Instant::now());
    loop {
        let numbers = gateway.wait_for("the next look", |_| true);
        let now = numbers.get("messages_received_total") as u64;
        if taken < now {
            (taken, since) = (now, Instant::now());
        }
        if Duration::from_secs(if taken == 0 { 30 } else { 3 }) < since.elapsed() {
            return taken;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn more_messages_than_a_receive_maximum_come_again_over_mqtt_3_1_1_and_count_once() {
    check("3.1.1", &Conf::wide(), 64);
}

/// mosquitto 2.0.11 sends more than the Receive Maximum when messages wait: each acknowledgement of its oldest lets as many go.
#[test]
fn more_messages_than_a_receive_maximum_come_again_over_mqtt_5_and_count_once() {
    check("5", &Conf::wide(), 64);
}

/// What marks cannot heal, and `docs/durability.md` says: the broker has forgotten that it was told.
#[test]
fn what_a_broker_sends_again_from_an_old_save_counts_again() {
    let mut broker = Broker::start(&Conf::wide());
    let head = format!("[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\n", broker.url());
    let mut gateway = Gateway::new(&format!("{head}{}qos = 1\n{FILES}", function("meter")));
    METER.install(&gateway);
    start(&mut gateway);
    assert!(gateway.stop().success(), "{}", gateway.log());
    publish(broker.port(), readings(0, 20));
    broker.stop();
    let saved = broker.saved();
    for received in [20.0, 40.0] {
        broker.resume();
        start(&mut gateway);
        let numbers = gateway.wait_for("what waits", |numbers| numbers.get("messages_received_total") == received);
        assert_eq!(numbers.get("messages_duplicate_total"), 0.0, "{}", numbers.text);
        assert!(gateway.stop().success(), "{}", gateway.log());
        broker.stop();
        broker.restore(&saved);
    }
}
