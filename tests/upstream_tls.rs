//! The way upstream as it is in production: TLS with a certificate of the gateway's own and a password, in both formats; the real
//! binary, a real broker.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use support::broker::{Broker, Conf, free_port};
use support::certs::{Authority, Validity};
use support::device::{publish, reading};
use support::gateway::{Gateway, PATIENCE};
use support::guests::METER;
use weir::field::{Codec, Value, lookup};

const USER: &str = "gateway";
const PASSWORD: &str = "correct horse";

/// A broker that takes clients with a certificate and a password, and its files in `folder`.
fn broker(folder: &Path) -> (Broker, Conf) {
    let ours = Authority::new(folder, "ca");
    ours.sign(folder, "gateway", Validity::Now);
    Authority::new(folder, "other").sign(folder, "stranger", Validity::Now);
    let conf = Conf {
        tls: Some(ours.sign(folder, "server", Validity::Now)),
        clients: Some(ours.file),
        login: Some((USER, PASSWORD)),
        plain: Some(free_port()),
        ..Conf::wide()
    };
    (Broker::start(&conf), conf)
}

fn secret(folder: &Path, text: &str) {
    let file = folder.join("password");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A gateway between `devices` and `cloud`; `certificate` names its files in `folder`, if it has one.
fn gateway(devices: &Broker, cloud: &Broker, folder: &Path, certificate: Option<&str>, more: &str) -> Gateway {
    let dir = folder.display();
    let own = certificate
        .map_or(String::new(), |name| format!("cert-file = \"{dir}/{name}.crt\"\nkey-file = \"{dir}/{name}.key\"\n"));
    let gateway = Gateway::new(&format!(
        r#"
[gateway]
id = "gw"
[broker]
url = "{}"
[[function]]
path = "meter"
[[function.trigger]]
mqtt = "site/+/temp"
[[sink]]
name = "cloud"
type = "mqtt"
url = "mqtts://localhost:{}"
username = "{USER}"
password-file = "{dir}/password"
{more}
[sink.tls]
ca-file = "{dir}/ca.crt"
{own}"#,
        devices.url(),
        cloud.port()
    ));
    METER.install(&gateway);
    gateway
}

/// What arrives upstream until `enough` says so: (topic, payload).
fn receive(port: u16, ready: impl FnOnce(), enough: impl Fn(&[(String, Vec<u8>)]) -> bool) -> Vec<(String, Vec<u8>)> {
    let mut options = MqttOptions::new("upstream", "127.0.0.1", port);
    options.set_credentials(USER, PASSWORD).set_max_packet_size(1 << 24, 1 << 24);
    let (client, mut connection) = Client::new(options, 100);
    client.subscribe("weir/#", QoS::AtLeastOnce).unwrap();
    let (mut got, mut ready, until) = (Vec::new(), Some(ready), Instant::now() + PATIENCE);
    while !enough(&got) {
        assert!(Instant::now() < until, "upstream has no more than {} records", got.len());
        match connection.recv_timeout(Duration::from_millis(100)) {
            Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => got.push((publish.topic, publish.payload.to_vec())),
            Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => ready.take().into_iter().for_each(|ready| ready()),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => panic!("upstream: {error}"),
        }
    }
    got
}

/// Sum and count of `meter.total`, and the number of kept messages, as the documents tell them.
fn totals(codec: Codec, got: &[(String, Vec<u8>)]) -> (f64, f64, usize) {
    let field = |payload: &[u8], path: &str| lookup(codec, payload, path).unwrap();
    let is = |payload: &[u8], path: &str, wanted: &str| {
        field(payload, path).text_bytes(payload).is_some_and(|bytes| bytes.eq(wanted.bytes()))
    };
    let number = |value: Value| value.f64().unwrap();
    let (mut sum, mut count, mut kept) = (0.0, 0.0, 0);
    for (topic, payload) in got {
        assert!(is(payload, "gateway", "gw") && topic.starts_with("weir/gw/telemetry/"), "{topic}");
        kept += usize::from(is(payload, "kind", "message"));
        if is(payload, "kind", "aggregate") && is(payload, "meter", "meter.total") {
            sum += number(field(payload, "sum"));
            count += number(field(payload, "count"));
        }
    }
    (sum, count, kept)
}

#[test]
fn records_go_upstream_over_tls_with_a_certificate_and_a_password_in_both_formats_and_versions() {
    for (format, codec, version) in [("json", Codec::Json, "5"), ("cbor", Codec::Cbor, "3.1.1")] {
        let folder = tempfile::tempdir().unwrap();
        let (devices, (cloud, conf)) = (Broker::start(&Conf::wide()), broker(folder.path()));
        secret(folder.path(), PASSWORD);
        let keys = format!("format = \"{format}\"\nversion = \"{version}\"");
        let mut gateway = gateway(&devices, &cloud, folder.path(), Some("gateway"), &keys);
        gateway.start();
        gateway.wait_for("both links", |numbers| {
            numbers.get("broker_up") == 1.0 && numbers.get("sink_up{sink=\"cloud\"}") == 1.0
        });
        let readings =
            || (1..=40).map(|seq| reading("site/d/temp", format!(r#"{{"temp":0.1,"seq":{seq}}}"#))).collect();
        let port = conf.plain.unwrap();
        let got = receive(
            port,
            || publish(devices.port(), readings()),
            |got| {
                let (_, count, kept) = totals(codec, got);
                count >= 40.0 && kept >= 5
            },
        );
        let (sum, count, kept) = totals(codec, &got);
        assert!((sum - 4.0).abs() < 1e-9 && count == 40.0 && kept == 5, "{format}: {sum} of {count}, {kept} kept");
        let numbers = gateway.wait_for("an empty lane", |numbers| numbers.waiting("telemetry") == 0.0);
        // An aggregate of the other meter may still be on its way to us.
        assert!(got.len() as f64 <= numbers.get("sink_delivered_total{sink=\"cloud\"}"), "{format}");
        assert!(gateway.stop().success(), "{}", gateway.log());
        assert!(!gateway.log().contains(PASSWORD));
    }
}

#[test]
fn an_upstream_that_refuses_certificate_or_password_is_told_and_everything_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (devices, (cloud, conf)) = (Broker::start(&Conf::wide()), broker(folder.path()));
    for certificate in [None, Some("stranger")] {
        secret(folder.path(), PASSWORD);
        let mut gateway = gateway(&devices, &cloud, folder.path(), certificate, "");
        gateway.start();
        gateway.wait_for_log("TLS");
        assert_eq!(gateway.numbers().unwrap().get("sink_up{sink=\"cloud\"}"), 0.0, "{certificate:?}");
    }
    secret(folder.path(), "hunter2");
    let mut gateway = gateway(&devices, &cloud, folder.path(), Some("gateway"), "");
    gateway.start();
    gateway.wait_for("the link", |numbers| numbers.get("broker_up") == 1.0);
    gateway.wait_for_log("refused the connection");
    std::thread::sleep(Duration::from_millis(300));
    publish(
        devices.port(),
        (1..=8).map(|seq| reading("site/d/temp", format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect(),
    );
    gateway.wait_for("records that wait", |numbers| numbers.waiting("telemetry") >= 2.0);
    // Put right, it is read again at the next attempt, and what waited arrives.
    let got = receive(conf.plain.unwrap(), || secret(folder.path(), PASSWORD), |got| totals(Codec::Json, got).1 >= 8.0);
    assert_eq!(totals(Codec::Json, &got), (8.0, 8.0, 1));
    assert!(!gateway.log().contains("hunter2") && !gateway.log().contains(PASSWORD));
}
