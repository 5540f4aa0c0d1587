//! Brokers that refuse, lie, hang up or are not there.

use std::fs;
use std::net::TcpListener;

use super::support::broker::{Broker, Conf, free_port};
use super::support::certs::{Authority, Validity};
use super::support::device::{publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::upstream::Upstream;
use super::{settled, unconnected, wait_for_subscription};

const METER_SITE: &str = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n";

/// A gateway that cannot connect says why, and stays; set right, it does its work.
fn says(gateway: &mut Gateway, parts: &[&str]) {
    for part in parts {
        gateway.wait_for_log(part);
    }
    let numbers = gateway.wait_for("an answer", |_| true);
    assert_eq!(numbers.get("broker_up"), 0.0);
}

fn gateway(url: &str, broker_keys: &str) -> Gateway {
    let gateway = unconnected(url, &format!("{broker_keys}{METER_SITE}"));
    METER.install(&gateway);
    gateway
}

#[test]
fn a_wrong_password_is_told_without_the_password_and_mended_without_a_restart() {
    let broker = Broker::start(&Conf { login: Some(("weir", "correct horse")), ..Conf::wide() });
    for version in ["5", "3.1.1"] {
        let keys = format!("version = \"{version}\"\nusername = \"weir\"\npassword-file = \"secret\"\n");
        let mut gateway = gateway(&broker.url(), &keys);
        fs::write(gateway.path("secret"), "battery staple\n").unwrap();
        gateway.start();
        says(&mut gateway, &["not authorised", "user name `weir`", "secret"]);
        assert!(!gateway.log().contains("battery"), "{}", gateway.log());
        fs::write(gateway.path("secret"), "correct horse\n").unwrap();
        wait_for_subscription(&mut gateway);
    }
}

#[test]
fn an_expired_certificate_and_an_unknown_authority_are_told_and_a_good_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    for (validity, trusted, parts) in [
        (Validity::Expired, &ours, &["expired on 2021-02-03", "our clock says"][..]),
        (Validity::Now, &other, &["not signed by any certificate in ca-file"][..]),
        (Validity::Now, &ours, &[][..]),
    ] {
        let tls = Some(ours.sign(folder.path(), "server", validity));
        let broker = Broker::start(&Conf { tls, ..Conf::wide() });
        let keys = format!("[broker.tls]\nca-file = \"{}\"\n", trusted.file.display());
        let mut gateway = gateway(&format!("mqtts://localhost:{}", broker.port()), &keys);
        gateway.start();
        if parts.is_empty() {
            wait_for_subscription(&mut gateway);
        } else {
            says(&mut gateway, parts);
        }
    }
}

#[test]
fn a_broker_that_hangs_up_at_once_or_speaks_no_mqtt_is_told() {
    for (greeting, part) in
        [(&b""[..], "closed the connection before answering"), (b"SSH-2.0-x\r\n", "is it an MQTT broker?")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(greeting);
                if !greeting.is_empty() {
                    let _ = stream.read(&mut [0; 100]);
                }
            }
        });
        let mut gateway = gateway(&format!("mqtt://127.0.0.1:{port}"), "");
        gateway.start();
        says(&mut gateway, &[part]);
        assert!(gateway.stop().success(), "{}", gateway.log());
    }
}

#[test]
fn a_broker_that_is_away_at_the_start_is_no_error_and_is_found_when_it_comes() {
    let mut broker = Broker::stopped(&Conf::wide());
    let mut gateway = gateway(&broker.url(), "");
    gateway.start();
    says(&mut gateway, &["refuses connections; is the broker running"]);
    broker.resume();
    wait_for_subscription(&mut gateway);
    publish(broker.port(), vec![reading("site/d/temp", r#"{"temp":4,"seq":1}"#)]);
    let (ledger, _) = settled(&mut gateway, 1);
    assert_eq!(ledger.readings("meter.total"), 1);
}

#[test]
fn a_name_without_an_address_is_told() {
    let mut gateway = gateway("mqtt://no-such-host.invalid:1883", "");
    gateway.start();
    says(&mut gateway, &["`no-such-host.invalid` has no address"]);
}

#[test]
fn an_upstream_that_is_away_holds_nothing_up_and_gets_everything_when_it_comes() {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::stopped(&Conf::wide());
    let config = format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\n{METER_SITE}[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n",
        broker.url(),
        cloud.url()
    );
    let mut gateway = Gateway::new(&config);
    METER.install(&gateway);
    gateway.start();
    wait_for_subscription(&mut gateway);
    gateway.wait_for_log("sink cloud");
    let count = 800;
    let payload = |seq: usize| format!(r#"{{"temp":1,"seq":{seq}}}"#);
    publish(broker.port(), (1..=count).map(|seq| reading("site/d/temp", payload(seq))).collect());
    gateway.wait_for("the messages", |numbers| numbers.get("messages_received_total") == count as f64);
    cloud.resume();
    let upstream = Upstream::subscribe(cloud.port());
    let numbers = gateway
        .wait_for("an empty lane", |numbers| numbers.waiting("telemetry") == 0.0 && numbers.get("window_cells") == 0.0);
    let delivered = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}") as u64;
    // What went before the subscription nobody has seen: the broker took it.
    assert!(100 < delivered);
    assert_eq!(numbers.settled("delivered"), 100.0, "every eighth is kept");
    drop(upstream);
}

#[test]
fn an_upstream_port_that_nobody_listens_on_is_told_once_in_a_while() {
    let broker = Broker::start(&Conf::wide());
    let port = free_port();
    let config = format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\n{METER_SITE}[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n",
        broker.url()
    );
    let mut gateway = Gateway::new(&config);
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for_log(&format!("sink cloud: 127.0.0.1:{port} refuses connections"));
    std::thread::sleep(std::time::Duration::from_secs(4));
    let said = gateway.log().lines().filter(|line| line.contains("refuses connections")).count();
    assert!(said <= 2, "{}", gateway.log());
}
