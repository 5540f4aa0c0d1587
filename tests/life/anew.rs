//! A store whose data is gone: the lanes begin at sequence 1 again, and what they bring is news to a receiver that remembers.

use std::fs;

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::upstream::Upstream;
use super::{function, head, start};

/// Takes `count` readings and waits until all of them are upstream.
fn bring(gateway: &mut Gateway, port: u16, count: usize) -> u64 {
    let before = gateway.wait_for("an answer", |_| true).get("messages_received_total");
    publish(port, (1..=count).map(|seq| reading("site/d/temp", format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect());
    let numbers = gateway.wait_for("the readings upstream", |numbers| {
        numbers.get("messages_received_total") == before + count as f64
            && numbers.get("window_cells") == 0.0
            && numbers.waiting("telemetry") == 0.0
    });
    numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}") as u64
}

#[test]
fn what_comes_after_the_data_was_lost_is_no_repetition_of_what_came_before() {
    let (broker, cloud) = (Broker::start(&Conf::wide()), Broker::start(&Conf::wide()));
    let upstream = Upstream::subscribe(cloud.port());
    let sink = format!(
        "[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\n[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n",
        cloud.url()
    );
    let mut gateway = Gateway::new(&(head(&broker.url()) + &function("meter") + &sink));
    METER.install(&gateway);
    start(&mut gateway);
    let mut sent = 0;
    bring(&mut gateway, broker.port(), 40);
    // As it was, the same store; also if its file was damaged.
    for damage in [None, Some("no number")] {
        assert!(gateway.stop().success(), "{}", gateway.log());
        if let Some(text) = damage {
            fs::write(gateway.path("weir-data/identity"), text).unwrap();
        }
        start(&mut gateway);
        sent = bring(&mut gateway, broker.port(), 8);
    }
    gateway.kill();
    // A new card; and a card of which only the identity can be read.
    for keeps_identity in [false, true] {
        let identity = fs::read(gateway.path("weir-data/identity")).unwrap();
        fs::remove_dir_all(gateway.path("weir-data")).unwrap();
        if keeps_identity {
            fs::create_dir(gateway.path("weir-data")).unwrap();
            fs::write(gateway.path("weir-data/identity"), &identity).unwrap();
        }
        start(&mut gateway);
        sent += bring(&mut gateway, broker.port(), 16);
        assert_eq!(gateway.log().contains("the store is EMPTY although it has held data"), keeps_identity);
        gateway.kill();
    }
    let ledger = upstream.collect(&[("telemetry", sent)]);
    ledger.assert_whole();
    assert_eq!(ledger.stores().len(), 3, "{:?}", ledger.stores());
    assert_eq!(ledger.readings("meter.total"), 40 + 2 * 8 + 2 * 16);
    assert_eq!(ledger.messages("meter/").count(), 5 + 2 + 4, "every eighth is kept");
}
