//! What a broker sends again when our acknowledgements were lost with the connection: however many, each counts once.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rumqttc::QoS;

use super::support::broker::{Broker, Conf};
use super::support::device::{Publish, publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::proxy::Proxy;
use super::{FILES, drain, files, function, start};

/// So many wait for a gateway that was away: many times its Receive Maximum.
const WAITING: usize = 12_000;

fn readings(count: usize) -> Vec<Publish> {
    (0..count).map(|seq| reading(&format!("site/{}/temp", seq % 10), format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect()
}

/// A gateway whose broker is at the other end of `wire`.
fn gateway(wire: &Proxy, version: &str, qos: u8) -> Gateway {
    let config = format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\nversion = \"{version}\"\n{}qos = {qos}\n{FILES}",
        wire.url(),
        function("meter")
    );
    let gateway = Gateway::new(&config);
    METER.install(&gateway);
    gateway
}

/// Waits until all is upstream, and compares.
fn assert_once(mut gateway: Gateway, published: usize, story: &str) {
    let numbers = gateway.wait_for("all of it", |numbers| {
        published as f64 <= numbers.get("messages_received_total") && numbers.get("window_cells") == 0.0
    });
    drain(&mut gateway, &["telemetry"]);
    assert!(gateway.stop().success(), "{}", gateway.log());
    let upstream = files(&gateway).readings("meter.total");
    let (received, known) = (numbers.get("messages_received_total"), numbers.get("messages_duplicate_total"));
    assert_eq!(
        (received, upstream),
        (published as f64, published as u64),
        "{story}; {known} known when they came again"
    );
}

/// The broker sends all that waits, sees the first `acks` acknowledgements and none after that, the gateway is killed, and the
/// broker sends again what it thinks unacknowledged.
fn check(version: &str, conf: &Conf, acks: u64) {
    let broker = Broker::start(conf);
    let wire = Proxy::start(broker.port());
    let mut gateway = gateway(&wire, version, 1);
    start(&mut gateway);
    gateway.kill();
    publish(broker.port(), readings(WAITING));
    wire.pass_acks(acks);
    gateway.start();
    let taken = all_that_comes(&mut gateway);
    eprintln!("MQTT {version}: {taken} of {WAITING} came before the broker had read more than {acks} acknowledgements");
    gateway.kill();
    wire.cut();
    wire.pass_all();
    start(&mut gateway);
    assert_once(gateway, WAITING, &format!("{taken} taken"));
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

/// A connection with the gateway's session that is gone when the broker answers it.
fn connect_and_go(broker: &Broker, version: &str) {
    let id = b"weir-gw";
    let mut body = b"\0\x04MQTT".to_vec();
    // Version, no clean start, keep-alive; in 5.0 a session expiry interval of an hour (MQTT 5.0 §3.1).
    body.extend_from_slice(if version == "5" { b"\x05\0\0\x3c\x05\x11\0\0\x0e\x10" } else { b"\x04\0\0\x3c" });
    body.extend_from_slice(&[0, id.len() as u8]);
    body.extend_from_slice(id);
    broker.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    stream.write_all(&[0x10, body.len() as u8]).unwrap();
    stream.write_all(&body).unwrap();
    drop(stream);
    broker.go_on();
    std::thread::sleep(Duration::from_millis(500));
}

/// mosquitto 2.0.11 forgets that it has had PUBREC when it cannot send PUBREL again, and sends the message again.
#[test]
fn messages_of_qos_2_that_come_again_behind_their_pubrel_count_once() {
    const COUNT: usize = 400;
    for version in ["5", "3.1.1"] {
        let broker = Broker::start(&Conf::wide());
        let wire = Proxy::start(broker.port());
        let mut gateway = gateway(&wire, version, 2);
        start(&mut gateway);
        gateway.kill();
        let readings = readings(COUNT).into_iter().map(|one| Publish { qos: QoS::ExactlyOnce, ..one });
        publish(broker.port(), readings.collect());
        // The broker reads PUBRECs, and a PINGREQ behind them; and no PUBCOMP.
        wire.pass_no_completion();
        gateway.start();
        let taken = all_that_comes(&mut gateway);
        gateway.kill();
        wire.cut();
        connect_and_go(&broker, version);
        wire.pass_all();
        start(&mut gateway);
        let again = gateway.wait_for("an answer", |_| true).get("messages_duplicate_total");
        eprintln!("MQTT {version}: {taken} taken, {again} came again so far");
        std::thread::sleep(Duration::from_secs(1));
        assert_once(gateway, COUNT, &format!("MQTT {version}: {taken} taken"));
    }
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
    publish(broker.port(), readings(20));
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
