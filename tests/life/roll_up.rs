//! A lane that rolls up while upstream is away: it stays within its bytes, and upstream gets every reading, at a coarser resolution.

use std::collections::BTreeMap;

use weir::record::RecordKind;

use super::support::broker::{Broker, Conf};
use super::support::device::{Publish, publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::upstream::Upstream;
use super::{head, start};

const DEVICES: u64 = 3;
const LANE_BYTES: f64 = 1_048_576.0;

/// A reading of each device for each of these seconds, told by the devices themselves.
fn readings(seconds: core::ops::Range<u64>) -> Vec<Publish> {
    let one = |second: u64, device: u64| {
        let (temp, ts) = ((second * 7 + device) % 1000, 1_790_000_000 + second);
        reading(
            &format!("site/d{device}/temp"),
            format!(r#"{{"temp":{}.{:02},"seq":1,"ts":{ts}}}"#, temp / 10, temp % 100),
        )
    };
    seconds.flat_map(|second| (0..DEVICES).map(move |device| one(second, device))).collect()
}

#[test]
fn a_lane_that_rolls_up_keeps_every_reading_within_its_bytes_over_a_crash() {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    let config = head(&broker.url())
        + "[store]\nsled = false\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"512 KiB\"\nsnapshot-interval = \"1 s\"\n\
           [[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\ntime-field = \"ts\"\ntime-unit = \"s\"\n\
           [[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\nbytes-max = \"1 MiB\"\nfull = \"roll-up\"\nroll-up = [\"1 min\", \"1 h\"]\n"
        + &format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n", cloud.url());
    let mut gateway = Gateway::new(&config);
    METER.install(&gateway);
    start(&mut gateway);
    // Something that upstream has seen, and something that it may have seen.
    publish(broker.port(), readings(0..100));
    gateway.wait_for("something delivered", |numbers| {
        0.0 < numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}")
    });
    cloud.stop();
    let mut bytes_most = 0.0_f64;
    let (mut seconds, mut rolled) = (100, 0.0);
    for round in 0..8 {
        publish(broker.port(), readings(seconds..seconds + 1500));
        seconds += 1500;
        let numbers = gateway.wait_for("the readings", |numbers| {
            bytes_most_of(&mut 0.0, numbers.get("lane_bytes{lane=\"telemetry\"}"));
            numbers.get("messages_received_total") == (seconds * DEVICES) as f64
        });
        bytes_most_of(&mut bytes_most, numbers.get("lane_bytes{lane=\"telemetry\"}"));
        rolled = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"rolled-up\"}");
        if round % 3 == 2 {
            gateway.kill();
            start(&mut gateway);
        }
    }
    assert!(10_000.0 < rolled, "only {rolled} records were rolled up");
    assert!(bytes_most <= LANE_BYTES, "{bytes_most}");
    cloud.resume();
    let numbers = gateway.wait_for("everything upstream", |numbers| {
        numbers.get("messages_received_total") == (seconds * DEVICES) as f64
            && numbers.get("window_cells") == 0.0
            && numbers.waiting("telemetry") == 0.0
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    let outcome = |name: &str| numbers.get(&format!("lane_records_total{{lane=\"telemetry\",outcome=\"{name}\"}}"));
    assert_eq!(outcome("lane-full"), 0.0, "nothing was lost");
    let ledger = upstream.collect(&[("telemetry", outcome("delivered") as u64)]);
    assert!(ledger.faults.is_empty(), "{:?}", ledger.faults);
    // Every reading, to the last digit.
    let mut truth: BTreeMap<String, (u64, i128)> = BTreeMap::new();
    for second in 0..seconds {
        for device in 0..DEVICES {
            let temp = (second * 7 + device) % 1000;
            let micros: i128 = format!("{}{:02}", temp / 10, temp % 100).parse::<i128>().unwrap() * 10_000;
            let entry = truth.entry(format!("d{device}")).or_default();
            (entry.0, entry.1) = (entry.0 + 1, entry.1 + micros);
        }
    }
    for meter in ["meter.total", "meter.spread"] {
        let theirs: BTreeMap<String, (u64, i128)> = ledger
            .meter(meter)
            .map(|(key, stats)| (key.to_owned(), (stats.count, stats.sum.exact_micros().unwrap())))
            .collect();
        let ours: Vec<(u64, i128)> = truth.values().copied().collect();
        assert_eq!(theirs.values().copied().collect::<Vec<_>>(), ours, "{meter}: {theirs:?}");
    }
    let explained: Vec<_> = ledger
        .records
        .iter()
        .filter(|record| record.kind == RecordKind::Loss)
        .map(|loss| (loss.fields["first_seq"].as_u64().unwrap(), loss.fields["through_seq"].as_u64().unwrap()))
        .collect();
    for gap in ledger.gaps("telemetry") {
        assert!(explained.iter().any(|(first, last)| (*first..=*last).contains(&gap)), "{gap}: {explained:?}");
    }
    println!(
        "{} readings, {rolled} records rolled up, {bytes_most} bytes at most, {} records upstream",
        seconds * DEVICES,
        outcome("delivered")
    );
}

fn bytes_most_of(most: &mut f64, bytes: f64) {
    *most = most.max(bytes);
    assert!(*most <= LANE_BYTES, "{most} bytes in the lane");
}
