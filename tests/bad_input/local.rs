//! Local users: what they may ask the metrics page, and what they may read.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::guests::METER;
use super::{settled, unconnected, wait_for_subscription};

const SITE: &str = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n";

#[test]
fn whoever_hogs_the_metrics_page_keeps_no_message_from_its_way() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = unconnected(&broker.url(), SITE);
    METER.install(&gateway);
    gateway.start();
    wait_for_subscription(&mut gateway);
    let connect = || TcpStream::connect(gateway.address()).unwrap();
    // More than are served at once: silent ones, one that never ends its head, one that asks for what is not there.
    let mut hogs: Vec<TcpStream> = (0..12).map(|_| connect()).collect();
    for (index, hog) in hogs.iter_mut().enumerate() {
        hog.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = match index % 3 {
            0 => Ok(()),
            1 => hog.write_all(&[&b"GET /metrics HTTP/1.1\r\nx: "[..], &[b'a'; 1 << 20]].concat()),
            _ => hog.write_all(b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n"),
        };
    }
    publish(
        broker.port(),
        (1..=20).map(|seq| reading("site/d/temp", format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect(),
    );
    // The page answers again when their time is up, and tells that all went its way meanwhile.
    let (ledger, numbers) = settled(&mut gateway, 20);
    assert_eq!(ledger.readings("meter.total"), 20);
    assert!(numbers.get("process_resident_bytes") <= numbers.get("process_planned_bytes"), "{}", numbers.text);
}

#[test]
fn the_metrics_page_serves_nothing_else() {
    let mut gateway = unconnected("mqtt://127.0.0.1:1", SITE);
    METER.install(&gateway);
    gateway.start_and_wait();
    for request in [
        "GET / HTTP/1.1",
        "GET /../../etc/passwd HTTP/1.1",
        "POST /metrics HTTP/1.1",
        "DELETE /metrics HTTP/1.1",
        "GET http://x/ HTTP/1.1",
    ] {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream
            .write_all(format!("{request}\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("only GET /metrics"), "{request}: {answer}");
    }
    assert!(gateway.stop().success());
}

#[test]
fn a_new_data_folder_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
    let mut gateway = unconnected("mqtt://127.0.0.1:1", SITE);
    METER.install(&gateway);
    let mode = |gateway: &super::support::gateway::Gateway| {
        fs::metadata(gateway.path("weir-data")).unwrap().permissions().mode() & 0o777
    };
    gateway.start_and_wait();
    assert_eq!(mode(&gateway), 0o700);
    assert!(gateway.stop().success());
    fs::set_permissions(gateway.path("weir-data"), fs::Permissions::from_mode(0o750)).unwrap();
    gateway.start_and_wait();
    assert_eq!(mode(&gateway), 0o750);
    assert!(gateway.stop().success());
}
