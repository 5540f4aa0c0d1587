//! Lanes that fill while upstream is away: back-pressure without a lost connection, or records that leave, each counted and said.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::fs;
use std::time::Duration;

use support::broker::{Broker, Conf};
use support::device::{publish, reading};
use support::gateway::{Gateway, Numbers};
use support::guests::Guest;
use support::ledger::Ledger;
use support::upstream::Upstream;
use weir::record::RecordKind;

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };

fn config(broker: &Broker, keys: &str, lane: &str, sink: &str) -> String {
    format!(
        r##"
[gateway]
id = "gw"
[broker]
url = "{}"
{keys}
[store]
segment-bytes = "64 KiB"
journal-bytes-max = "256 KiB"
snapshot-interval = "1 s"
[[function]]
path = "keep"
[[function.trigger]]
mqtt = "site/+/temp"
[[lane]]
name = "telemetry"
topics = ["#"]
{lane}
[[sink]]
name = "cloud"
{sink}
"##,
        broker.url()
    )
}

fn to(cloud: &Broker) -> String {
    format!("type = \"mqtt\"\nurl = \"{}\"\n", cloud.url())
}

fn start(gateway: &mut Gateway) {
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
}

/// Messages `from` to `through`, of about a kilobyte.
fn send(broker: &Broker, from: u64, through: u64) {
    let payload = |seq: u64| format!("{{\"seq\":{seq},\"pad\":\"{}\"}}", "x".repeat(1000));
    publish(broker.port(), (from..=through).map(|seq| reading("site/d/temp", payload(seq))).collect());
}

/// The numbers of the messages that are upstream.
fn arrived(ledger: &Ledger) -> Vec<u64> {
    let mut seen: Vec<u64> =
        ledger.messages("keep/").map(|record| record.fields["payload"]["seq"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    seen
}

/// Every gap in the sequences is explained by loss records: how many records they tell of, and how many messages.
fn losses(ledger: &Ledger) -> (u64, u64) {
    let (mut records, mut messages, mut explained) = (0, 0, Vec::new());
    for loss in ledger.records.iter().filter(|record| record.kind == RecordKind::Loss) {
        let number = |name: &str| loss.fields[name].as_u64().unwrap();
        records += number("records");
        messages += number("messages");
        explained.push(number("first_seq")..=number("through_seq"));
    }
    for gap in ledger.gaps("telemetry") {
        assert!(explained.iter().any(|range| range.contains(&gap)), "{gap} is not explained: {explained:?}");
    }
    (records, messages)
}

/// Waits until all lanes are empty and the loss records said; ends the gateway and returns what is upstream.
fn collected(gateway: &mut Gateway, upstream: Upstream) -> (Ledger, Numbers) {
    let numbers = gateway.wait_for("an empty lane", |numbers| numbers.waiting("telemetry") == 0.0);
    assert!(gateway.stop().success(), "{}", gateway.log());
    let delivered = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}");
    let ledger = upstream.collect(&[("telemetry", delivered as u64)]);
    assert!(ledger.faults.is_empty(), "{:?}", ledger.faults);
    (ledger, numbers)
}

#[test]
fn a_full_lane_that_rejects_holds_the_broker_back_and_keeps_its_connection() {
    for version in ["5", "3.1.1"] {
        let broker = Broker::start(&Conf::wide());
        let mut cloud = Broker::start(&Conf::wide());
        let upstream = Upstream::subscribe(cloud.port());
        cloud.stop();
        let keys = format!("version = \"{version}\"\nkeep-alive = \"2 s\"\nin-flight = 64\n");
        let lane = "bytes-max = \"256 KiB\"\nfull = \"reject\"\n";
        let mut gateway = Gateway::new(&config(&broker, &keys, lane, &to(&cloud)));
        KEEP.install(&gateway);
        start(&mut gateway);
        send(&broker, 1, 1500);
        // Several keep-alive intervals, in which nothing is taken.
        std::thread::sleep(Duration::from_secs(7));
        let numbers = gateway.wait_for("an answer", |_| true);
        assert_eq!(
            (numbers.get("broker_up"), numbers.get("broker_connections_total")),
            (1.0, 1.0),
            "{}",
            gateway.log()
        );
        assert!(numbers.get("messages_received_total") < 400.0, "{}", numbers.text);
        assert!(numbers.get("lane_bytes{lane=\"telemetry\"}") <= 256.0 * 1024.0);
        // A crash while it is held back.
        gateway.kill();
        start(&mut gateway);
        cloud.resume();
        gateway.wait_for("the rest", |numbers| numbers.get("messages_received_total") == 1500.0);
        let (ledger, numbers) = collected(&mut gateway, upstream);
        ledger.assert_whole();
        assert_eq!(arrived(&ledger), (1..=1500).collect::<Vec<_>>());
        assert_eq!(numbers.settled("delivered"), 1500.0);
    }
}

#[test]
fn what_a_full_lane_drops_is_counted_and_every_gap_upstream_is_explained() {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    let mut gateway = Gateway::new(&config(&broker, "", "bytes-max = \"256 KiB\"\n", &to(&cloud)));
    KEEP.install(&gateway);
    start(&mut gateway);
    send(&broker, 1, 10);
    gateway.wait_for("the first messages upstream", |numbers| numbers.settled("delivered") == 10.0);
    let mut sent = 10;
    for round in 0..3 {
        cloud.stop();
        for _ in 0..3 {
            send(&broker, sent + 1, sent + 400);
            sent += 400;
            gateway.wait_for("the messages", |numbers| numbers.get("messages_received_total") == sent as f64);
            if round == 1 {
                gateway.kill();
                start(&mut gateway);
            }
        }
        cloud.resume();
        gateway.wait_for("an empty lane", |numbers| numbers.waiting("telemetry") == 0.0);
    }
    send(&broker, sent + 1, sent + 1);
    sent += 1;
    gateway.wait_for("the last message", |numbers| numbers.get("messages_received_total") == sent as f64);
    let (ledger, numbers) = collected(&mut gateway, upstream);
    let dropped = numbers.get("messages_dropped_total{reason=\"lane-full\"}");
    let seen = arrived(&ledger);
    assert!(dropped > 1000.0, "{}", numbers.text);
    assert_eq!(seen.len() as f64 + dropped, sent as f64);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    let (records, messages) = losses(&ledger);
    assert_eq!(messages as f64, dropped, "what is said to be lost is what is lost");
    assert_eq!(records as f64, numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"lane-full\"}"));
}

#[test]
fn what_grows_too_old_is_counted_and_said() {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    cloud.stop();
    let mut gateway = Gateway::new(&config(&broker, "", "ttl = \"2 s\"\n", &to(&cloud)));
    KEEP.install(&gateway);
    start(&mut gateway);
    send(&broker, 1, 300);
    gateway.wait_for("the end of the first messages", |numbers| numbers.settled("expired") == 300.0);
    cloud.resume();
    // The fresh ones live for two seconds, so the link must be there before them.
    gateway.wait_for("the upstream", |numbers| numbers.get("sink_up{sink=\"cloud\"}") == 1.0);
    send(&broker, 301, 310);
    gateway.wait_for("the rest", |numbers| numbers.get("messages_received_total") == 310.0);
    gateway.wait_for("the fresh ones upstream", |numbers| numbers.settled("delivered") == 10.0);
    let (ledger, _) = collected(&mut gateway, upstream);
    assert_eq!(arrived(&ledger), (301..=310).collect::<Vec<_>>());
    assert_eq!(losses(&ledger).1, 300);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_its_records_wait() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&config(&broker, "", "", "type = \"file\"\ndir = \"upstream\"\n"));
    KEEP.install(&gateway);
    fs::write(gateway.path("upstream"), "a file where the folder should be").unwrap();
    start(&mut gateway);
    send(&broker, 1, 50);
    gateway.wait_for_log("records stay on flash until it can be written");
    let numbers = gateway.wait_for("the messages", |numbers| numbers.get("messages_received_total") == 50.0);
    assert_eq!((numbers.waiting("telemetry"), numbers.get("sink_up{sink=\"cloud\"}")), (50.0, 0.0));
    fs::remove_file(gateway.path("upstream")).unwrap();
    gateway.wait_for("an empty lane", |numbers| numbers.waiting("telemetry") == 0.0);
    assert!(gateway.stop().success());
    let mut ledger = Ledger::default();
    ledger.take_files(&gateway.path("upstream"));
    ledger.assert_whole();
    assert_eq!(arrived(&ledger), (1..=50).collect::<Vec<_>>());
}

/// The numbers of the messages, in the order in which they arrived.
fn order(ledger: &Ledger) -> Vec<u64> {
    ledger.messages("keep/").map(|record| record.fields["payload"]["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_backlog_drains_paced_and_what_is_live_goes_ahead_of_it_over_a_crash() {
    const RATE: u64 = 400;
    const BACKLOG: u64 = 4000;
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    cloud.stop();
    let sink = format!("{}rate-max = {RATE}\nin-flight = 32\n", to(&cloud));
    let lane = "bytes-max = \"16 MiB\"\ndrain = \"live-first\"\n";
    let mut gateway = Gateway::new(&config(&broker, "", lane, &sink));
    KEEP.install(&gateway);
    start(&mut gateway);
    send(&broker, 1, BACKLOG);
    gateway.wait_for("the backlog", |numbers| numbers.get("messages_received_total") == BACKLOG as f64);
    cloud.resume();
    let began = std::time::Instant::now();
    gateway.wait_for("the drain to begin", |numbers| 0.0 < numbers.settled("delivered"));
    let live = |gateway: &mut Gateway, from: u64, through: u64| {
        send(&broker, from, through);
        gateway.wait_for("live messages", |numbers| numbers.get("messages_received_total") == through as f64);
    };
    live(&mut gateway, BACKLOG + 1, BACKLOG + 50);
    gateway.wait_for("live messages upstream, ahead of the backlog", |numbers| {
        50.0 < numbers.settled("delivered") && numbers.waiting("telemetry") < BACKLOG as f64
    });
    std::thread::sleep(Duration::from_secs(1));
    gateway.kill();
    start(&mut gateway);
    live(&mut gateway, BACKLOG + 51, BACKLOG + 100);
    let (ledger, numbers) = collected(&mut gateway, upstream);
    let took = began.elapsed();
    ledger.assert_whole();
    assert_eq!(arrived(&ledger), (1..=BACKLOG + 100).collect::<Vec<_>>());
    assert_eq!(numbers.settled("delivered"), (BACKLOG + 100) as f64);
    // At the rate and no faster: a tenth of a second's worth goes at once, after each of two connections.
    let least = Duration::from_millis((BACKLOG + 100 - 2 * RATE / 10) * 1000 / RATE);
    assert!(least <= took, "{took:?} for {} records at {RATE} a second", BACKLOG + 100);
    let order = order(&ledger);
    let place = |number: u64| order.iter().position(|seen| *seen == number).unwrap();
    let backlog_behind = |number: u64| order[place(number)..].iter().filter(|seen| **seen <= BACKLOG).count();
    let (first, second) = (backlog_behind(BACKLOG + 50), backlog_behind(BACKLOG + 100));
    println!("{first} and {second} of {BACKLOG} records of the backlog came after the live ones; {took:?}");
    assert!(1500 < first && 500 < second, "live records waited for the backlog: {first}, {second}");
    assert_eq!(
        order.iter().filter(|seen| **seen <= BACKLOG).copied().collect::<Vec<_>>(),
        (1..=BACKLOG).collect::<Vec<_>>()
    );
}
