//! Orderly ends, refused starts, and crashes in quick succession.

use std::net::TcpListener;
use std::time::Duration;

use super::support::broker::{Broker, Conf, free_port};
use super::support::device::publish;
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::process;
use super::{FILES, drain, files, function, head, readings, start};

fn config(broker: &Broker, more: &str) -> String {
    head(&broker.url()) + more + &function("meter") + FILES
}

fn gateway(config: &str) -> Gateway {
    let gateway = Gateway::new(config);
    METER.install(&gateway);
    gateway
}

#[test]
fn an_orderly_end_commits_and_acknowledges_what_was_taken() {
    for (version, signal) in [("5", "TERM"), ("3.1.1", "INT")] {
        let broker = Broker::start(&Conf::wide());
        let keys = format!("version = \"{version}\"\n[commit]\ninterval = \"1 min\"\n");
        let mut gateway = gateway(&config(&broker, &keys));
        start(&mut gateway);
        publish(broker.port(), readings(200));
        gateway.wait_for("the readings", |numbers| numbers.get("messages_received_total") == 200.0);
        process::signal(signal, gateway.id());
        let status = gateway.wait_for_end();
        assert!(status.success(), "{status}: {}", gateway.log());
        start(&mut gateway);
        let numbers = gateway.numbers().unwrap();
        let (received, again) = (numbers.get("messages_received_total"), numbers.get("messages_duplicate_total"));
        assert_eq!((received, again), (200.0, 0.0), "{version}: all was acknowledged\n{}", gateway.log());
    }
}

#[test]
fn a_second_gateway_on_the_same_data_is_refused_and_the_first_goes_on() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = gateway(&config(&broker, ""));
    start(&mut gateway);
    let (code, said) = gateway.start_another();
    assert!(code == Some(69) && said.contains("is in use by another gateway"), "{code:?}: {said}");
    publish(broker.port(), readings(8));
    gateway.wait_for("the readings", |numbers| numbers.get("messages_received_total") == 8.0);
    gateway.kill();
    // The lock went with the process.
    start(&mut gateway);
}

#[test]
fn a_data_folder_that_cannot_be_and_a_metrics_address_in_use_are_told() {
    let broker = Broker::start(&Conf::wide());
    let mut no_folder = gateway(&config(&broker, ""));
    std::fs::write(no_folder.path("weir-data"), "a file").unwrap();
    no_folder.start();
    let status = no_folder.wait_for_end();
    let log = no_folder.log();
    assert!(status.code() == Some(69) && log.contains("gateway.data-dir: cannot create"), "{status}: {log}");

    let mut no_port = gateway(&config(&broker, ""));
    let _taken = TcpListener::bind(no_port.address()).unwrap();
    no_port.start();
    let status = no_port.wait_for_end();
    let log = no_port.log();
    assert!(status.code() == Some(69) && log.contains("cannot listen there"), "{status}: {log}");
}

#[test]
fn crashes_in_quick_succession_while_it_starts_lose_nothing() {
    let broker = Broker::start(&Conf::wide());
    let store = "[store]\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"256 KiB\"\nsnapshot-interval = \"1 s\"\nflush-interval = \"100 ms\"\n";
    let mut gateway = gateway(&config(&broker, store));
    start(&mut gateway);
    publish(broker.port(), readings(4000));
    for life_ms in (0..40).map(|round| 5 + round * 7 % 90) {
        gateway.kill();
        gateway.start();
        std::thread::sleep(Duration::from_millis(life_ms));
    }
    gateway.wait_for("the readings", |numbers| {
        numbers.get("messages_received_total") == 4000.0 && numbers.get("window_cells") == 0.0
    });
    drain(&mut gateway, &["telemetry"]);
    assert!(gateway.stop().success());
    let ledger = files(&gateway);
    assert_eq!((ledger.readings("meter.total"), ledger.messages("meter/").count()), (4000, 500));
}

#[test]
fn a_gateway_without_any_broker_ends_at_once_when_asked_to() {
    let mut gateway = gateway(&(head(&format!("mqtt://127.0.0.1:{}", free_port())) + &function("meter") + FILES));
    gateway.start_and_wait();
    let began = std::time::Instant::now();
    assert!(gateway.stop().success(), "{}", gateway.log());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn sinks_store_and_instances_are_on_the_page_and_a_sound_file_sink_is_up_before_its_first_record() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = gateway(&config(&broker, ""));
    start(&mut gateway);
    gateway.wait_for("the sink", |numbers| numbers.get("sink_up{sink=\"disk\"}") == 1.0);
    let numbers = gateway.numbers().unwrap();
    assert_eq!(numbers.get("sink_delivered_total{sink=\"disk\"}"), 0.0);
    publish(broker.port(), readings(8));
    // Every eighth reading is kept.
    let delivered = |numbers: &super::support::gateway::Numbers| numbers.get("sink_delivered_total{sink=\"disk\"}");
    let numbers = gateway.wait_for("a delivery", |numbers| delivered(numbers) >= 1.0);
    assert!(numbers.get("sink_bytes_total{sink=\"disk\"}") > 100.0, "{}", numbers.text);
    for name in ["undeliverable", "refused", "without_subscriber"] {
        assert_eq!(numbers.get(&format!("sink_{name}_total{{sink=\"disk\"}}")), 0.0);
    }
    assert_eq!(numbers.get("function_instances_total{function=\"meter\"}"), 0.0);
    gateway.kill();
    start(&mut gateway);
    let numbers = gateway.numbers().unwrap();
    assert!(numbers.get("store_found{kind=\"replayed\"}") >= 1.0, "{}", numbers.text);
    for kind in ["bad-frames", "bad-snapshots", "quarantined-bytes", "healed", "lost-snapshot"] {
        assert_eq!(numbers.get(&format!("store_found{{kind=\"{kind}\"}}")), 0.0, "{kind}");
    }
}

#[test]
fn a_file_sink_whose_folder_cannot_be_is_down_and_told_before_its_first_record() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = gateway(&config(&broker, ""));
    std::fs::write(gateway.path("upstream"), "a file").unwrap();
    start(&mut gateway);
    gateway.wait_for_log("sink disk: ");
    assert_eq!(gateway.numbers().unwrap().get("sink_up{sink=\"disk\"}"), 0.0);
}
