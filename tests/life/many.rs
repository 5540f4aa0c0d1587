//! Many keys at once: the largest batches that a gateway makes, in the smallest segments.

use super::support::broker::{Broker, Conf};
use super::support::device::{Publish, publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::{FILES, drain, files, head, start};

const KEYS: usize = 5000;

fn config(broker: &Broker, window: &str) -> String {
    let meter =
        |name: &str| format!("[function.meter.{name}]\nwindow = \"{window}\"\nlateness = \"0 s\"\nkeys-max = 6000\n");
    head(&broker.url())
        + "[store]\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"256 KiB\"\nsnapshot-interval = \"1 s\"\nflush-interval = \"200 ms\"\n"
        + "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n"
        + &meter("total")
        + &meter("spread")
        + FILES
}

fn readings() -> Vec<Publish> {
    (1..=KEYS).map(|device| reading(&format!("site/d{device}/temp"), r#"{"temp":1.5,"seq":1}"#)).collect()
}

/// Windows of an hour that fill, crash, come back, and close all at once when their length changes.
#[test]
fn thousands_of_cells_survive_a_crash_and_leave_at_once() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&config(&broker, "1 h"));
    METER.install(&gateway);
    start(&mut gateway);
    for round in 1..=2 {
        publish(broker.port(), readings());
        gateway.wait_for("the readings", |numbers| numbers.get("messages_received_total") == (round * KEYS) as f64);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        gateway.kill();
        start(&mut gateway);
        assert_eq!(gateway.numbers().unwrap().get("window_cells"), (2 * KEYS) as f64);
    }
    gateway.kill();
    gateway.configure(&config(&broker, "500 ms"));
    start(&mut gateway);
    drain(&mut gateway, &["telemetry"]);
    // And in the ordinary way: they all close with their window.
    publish(broker.port(), readings());
    gateway.wait_for("the readings", |numbers| {
        numbers.get("messages_received_total") == (3 * KEYS) as f64 && numbers.get("window_cells") == 0.0
    });
    drain(&mut gateway, &["telemetry"]);
    let numbers = gateway.numbers().unwrap();
    eprintln!("{}", numbers.text);
    assert_eq!((numbers.get("aggregates_lost_total"), numbers.get("window_overflow_total")), (0.0, 0.0));
    assert!(gateway.stop().success(), "{}", gateway.log());
    let ledger = files(&gateway);
    for meter in ["meter.total", "meter.spread"] {
        let keys: Vec<u64> = ledger.meter(meter).map(|(_, stats)| stats.count).collect();
        assert_eq!(keys, vec![3; KEYS], "{meter}");
    }
}
