//! The example functions, chained, with durable state and meters at once, killed again and again: what they put out is what
//! they would have put out undisturbed. Two sinks; a broker with mosquitto's own limits; small segments, so that they rotate.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::Duration;

use support::broker::{Broker, Conf};
use support::crashes::Crashes;
use support::fleet::Publishing;
use support::gateway::Gateway;
use support::guests::METER;
use support::site::{self, LANES, Site, Verdict};
use support::upstream::Upstream;
use weir_simulator::publish::Version;

#[test]
fn chains_state_and_meters_come_through_crashes_as_if_nothing_had_happened() {
    let broker = Broker::start(&Conf { persistent: true, ..Conf::default() });
    let mut cloud = Broker::start(&Conf { persistent: true, ..Conf::default() });
    let upstream = Upstream::subscribe(cloud.port());
    let mut gateway = Gateway::new(&Site { cloud: Some(cloud.url()), ..Site::new(&broker.url()) }.config());
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let publishing = Publishing::start(site::scenario(11, 15, 20), broker.port(), Version::V5);
    Crashes { kills: 12, seconds: 14, stops: &[4, 8], stalls: false, seed: 12 }.happen(
        &mut gateway,
        &broker,
        &mut cloud,
    );
    let messages = publishing.finish();
    let numbers = gateway.wait_for("everything upstream", |numbers| {
        numbers.get("messages_received_total") == messages.len() as f64
            && numbers.get("window_cells") == 0.0
            && LANES.iter().all(|lane| numbers.waiting(lane) == 0.0)
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    let sent = numbers.get("lane_records_total{lane=\"alerts\",outcome=\"delivered\"}") as u64;
    let mut ledger = upstream.collect(&[("alerts", sent)]);
    ledger.take_files(&gateway.path("upstream"));
    Verdict::of(&messages, &ledger).assert_clean();
    let said: usize = site::alerts(&messages).states.values().map(Vec::len).sum();
    assert!(said > 100, "the scenario is no test: few alerts");
    assert_eq!(ledger.dead_letters().len() as f64, numbers.settled("dead-lettered"));
}
