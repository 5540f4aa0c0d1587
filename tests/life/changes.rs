//! Another configuration after a restart: what the old one had taken goes upstream all the same.

use super::support::broker::{Broker, Conf};
use super::support::gateway::Gateway;
use super::support::guests::{Guest, METER};
use super::support::ledger::Ledger;
use super::support::upstream::Upstream;
use super::{FILES, drain, files, function, head, readings, start, take};

/// Takes messages and does nothing with them.
const IDLE: Guest =
    Guest { name: "idle", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 2))"#, manifest: "" };

/// `meter` with a gauge where the counter was.
const GAUGE: Guest = Guest {
    name: "meter",
    body: r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_set" (func $set (param i32 i32 i32 f64) (result i32)))
  (data (i32.const 0) "temp") (data (i32.const 8) "total")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 0) (i32.const 4)))
    (call $meter (i32.const 8) (i32.const 5)))
  (func (export "on_event") (param $ev i32) (result i32)
    (drop (call $set (i32.const 0) (i32.const 0) (i32.const 0) (f64.load (i32.load offset=52 (local.get $ev)))))
    (i32.const 2))"#,
    manifest: "[[meter]]\nname = \"total\"\nkind = \"gauge\"\nwindow = \"1 h\"\n",
};

/// The function `meter` with windows of this length.
fn windows(length: &str) -> String {
    let meter = |name: &str| format!("[function.meter.{name}]\nwindow = \"{length}\"\nlateness = \"0 s\"\n");
    format!(
        "[[function]]\npath = \"meter\"\n{}{}[[function.trigger]]\nmqtt = \"site/+/temp\"\n",
        meter("total"),
        meter("spread")
    )
}

/// 100 readings in windows of an hour under `before`; then `after` (with `change` done to the files) and 20 readings more.
/// Returns what is upstream when the second gateway is asked to end, and its log.
fn restarted(before: &str, change: impl Fn(&Gateway), after: &str) -> (Ledger, String) {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&(head(&broker.url()) + before + FILES));
    METER.install(&gateway);
    IDLE.install(&gateway);
    start(&mut gateway);
    take(&mut gateway, broker.port(), readings(100), 100);
    // Received is not committed yet: what is not would be handled by the functions that come after.
    std::thread::sleep(std::time::Duration::from_secs(1));
    gateway.kill();
    change(&gateway);
    gateway.configure(&(head(&broker.url()) + after + FILES));
    start(&mut gateway);
    take(&mut gateway, broker.port(), readings(20), 120);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    drain(&mut gateway, &["telemetry"]);
    // And once more: nothing may come twice.
    gateway.kill();
    start(&mut gateway);
    drain(&mut gateway, &["telemetry"]);
    assert!(gateway.stop().success(), "{}", gateway.log());
    (files(&gateway), gateway.log())
}

#[test]
fn cells_of_a_removed_function_go_upstream_as_they_are() {
    let (ledger, log) = restarted(&windows("1 h"), |_| {}, &function("idle"));
    assert_eq!(ledger.readings("meter.total"), 100);
    assert!(log.contains("window cells no longer have a meter; their values go upstream as they are"), "{log}");
    assert!(log.contains("function meter is not configured any more; its state (0 values) is left aside"), "{log}");
}

#[test]
fn cells_of_a_removed_meter_go_upstream_as_they_are() {
    let without = Guest { name: "meter", ..IDLE };
    let (ledger, _) = restarted(&windows("1 h"), |gateway| without.install(gateway), &function("meter"));
    assert_eq!((ledger.readings("meter.total"), ledger.readings("meter.spread")), (100, 100));
}

#[test]
fn cells_of_a_meter_that_became_another_kind_go_upstream_as_they_are() {
    let (ledger, _) = restarted(&windows("1 h"), |gateway| GAUGE.install(gateway), &function("meter"));
    assert_eq!(ledger.readings("meter.total"), 100, "the gauge's window is still open");
}

#[test]
fn windows_of_another_length_begin_and_the_old_ones_end() {
    let (ledger, _) = restarted(&windows("1 h"), |_| {}, &windows("500 ms"));
    assert_eq!((ledger.readings("meter.total"), ledger.readings("meter.spread")), (120, 120));
}

#[test]
fn open_windows_go_on_over_a_restart_without_a_change() {
    let (ledger, _) = restarted(&windows("1 h"), |_| {}, &windows("1 h"));
    assert_eq!(ledger.readings("meter.total"), 0, "the hour is not over");
}

#[test]
fn sled_may_be_switched_off_and_on_again_without_old_values_coming_back() {
    let store =
        |sled: bool| format!("[store]\nsled = {sled}\nflush-interval = \"200 ms\"\nsnapshot-interval = \"1 s\"\n");
    let broker = Broker::start(&Conf::wide());
    let config = |sled, function: &str| head(&broker.url()) + &store(sled) + function + FILES;
    let mut gateway = Gateway::new(&config(true, &windows("1 h")));
    METER.install(&gateway);
    for (round, sled) in [true, false, true, true, false, false, true].into_iter().enumerate() {
        gateway.configure(&config(sled, &windows("1 h")));
        start(&mut gateway);
        take(&mut gateway, broker.port(), readings(50), (round + 1) * 50);
        std::thread::sleep(std::time::Duration::from_millis(1300));
        // Something behind the newest snapshot as well.
        take(&mut gateway, broker.port(), Vec::new(), (round + 1) * 50);
        if round % 2 == 0 { gateway.kill() } else { assert!(gateway.stop().success()) }
    }
    gateway.configure(&config(true, &windows("500 ms")));
    start(&mut gateway);
    drain(&mut gateway, &["telemetry"]);
    assert!(gateway.stop().success(), "{}", gateway.log());
    assert_eq!(files(&gateway).readings("meter.total"), 350);
}

#[test]
fn records_of_a_removed_lane_are_delivered_and_its_numbers_go_on_when_it_comes_back() {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    let sink = format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n", cloud.url());
    let rest = "[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\n";
    let hot = "[[lane]]\nname = \"hot\"\ntopics = [\"meter/site/#\"]\n";
    let store = "[store]\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"256 KiB\"\nsnapshot-interval = \"1 s\"\n";
    let with = head(&broker.url()) + store + &function("meter") + hot + rest + &sink;
    let without = head(&broker.url()) + store + &function("meter") + rest + &sink;
    cloud.stop();
    let mut gateway = Gateway::new(&with);
    METER.install(&gateway);
    start(&mut gateway);
    take(&mut gateway, broker.port(), readings(80), 80);
    assert_eq!(gateway.numbers().unwrap().waiting("hot"), 10.0);
    gateway.kill();

    gateway.configure(&without);
    start(&mut gateway);
    assert_eq!(gateway.numbers().unwrap().waiting("hot"), 10.0);
    take(&mut gateway, broker.port(), readings(80), 160);
    cloud.resume();
    drain(&mut gateway, &["hot", "telemetry"]);
    // Long enough that snapshots are made without anything of the lane in them.
    for round in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(1200));
        take(&mut gateway, broker.port(), readings(8), 168 + round * 8);
    }
    assert!(gateway.stop().success(), "{}", gateway.log());
    start(&mut gateway);
    take(&mut gateway, broker.port(), readings(8), 192);
    gateway.kill();

    gateway.configure(&with);
    start(&mut gateway);
    take(&mut gateway, broker.port(), readings(80), 272);
    drain(&mut gateway, &["hot", "telemetry"]);
    let numbers = gateway.wait_for("the last window", |numbers| {
        numbers.get("window_cells") == 0.0 && numbers.waiting("telemetry") == 0.0
    });
    let telemetry = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}");
    let ledger = upstream.collect(&[("hot", 20), ("telemetry", telemetry as u64)]);
    ledger.assert_whole();
    assert_eq!((ledger.count_of("hot"), ledger.messages("meter/site/").count()), (20, 34));
    assert_eq!(ledger.readings("meter.total"), 272);
}
