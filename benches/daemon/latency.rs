//! From publish to upstream, through flash, at the rates of real fleets. A tenth of the messages is kept and measured.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::load::{self, Sent, pace};
use crate::mosquitto::Mosquitto;
use crate::process::folder;
use crate::table::percentile;
use crate::upstream::Upstream;
use crate::weir::{Site, Weir};
use crate::{Options, floor};

pub fn run(options: &Options) {
    let seconds: f64 = options.get("seconds", 20.0);
    let syncs = syncs_us();
    println!(
        "overwriting 4 KiB and syncing them on this disk: p50 {} us, p99 {} us",
        percentile(&syncs, 50.0),
        percentile(&syncs, 99.0)
    );
    println!("QoS 1; microseconds from publish to upstream's subscriber");
    println!("{:<32} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "msg/s", "p50", "p99", "worst", "messages", "CPU us");
    for rate in [50.0, 1000.0] {
        // Five of 50 messages are measured: fewer would not do for a p99.
        let seconds = if rate < 100.0 { 3.0 * seconds } else { seconds };
        for interval in ["", "0 ms", "100 ms"] {
            let name = if interval.is_empty() {
                "floor: rumqttc, TCP_NODELAY".to_owned()
            } else {
                format!("weir, commit interval {interval}")
            };
            if !options.skips(&name) {
                measure(&name, interval, rate, seconds);
            }
        }
    }
}

fn measure(name: &str, interval: &str, rate: f64, seconds: f64) {
    let broker = Mosquitto::start();
    let count = (rate * seconds) as usize;
    let sent = Sent::new(count);
    let upstream = Upstream::listen(broker.port, Some(sent.clone()));
    let functions = &[("threshold", "temperature")];
    let site =
        Site { broker: broker.port, qos: 1, commit_interval: interval, sled: true, functions, data: None, store: "" };
    let (weir, floor) = match interval {
        "" => (None, Some(floor::start(broker.port, 1, true, false))),
        _ => (Some(Weir::start(&site)), None),
    };
    let process = weir.as_ref().map(|weir| &weir.process).or(floor.as_ref()).unwrap();
    let before = process.cpu();
    pace(broker.port, 1, rate, &load::temperature, &sent);
    // Alerts are not measured.
    let alerts = if weir.is_some() { load::ALERTS } else { 0 };
    upstream.wait(count / 10 + alerts, Duration::from_secs(2));
    let cpu = process.cpu() - before;
    let latencies = upstream.latencies_us();
    assert!(latencies.len() >= count / 10, "{} of {} arrived", latencies.len(), count / 10);
    println!(
        "{name:<32} {rate:>6} {:>9} {:>9} {:>9} {:>9} {:>9.0}",
        percentile(&latencies, 50.0),
        percentile(&latencies, 99.0),
        latencies.last().unwrap(),
        latencies.len(),
        cpu.as_secs_f64() * 1e6 / count as f64,
    );
}

/// What the disk takes for a sync of one page, ascending.
fn syncs_us() -> Vec<u64> {
    let file = File::create(folder("sync").join("file")).unwrap();
    file.write_all_at(&[1; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let sync = |page: u64| {
        let begin = Instant::now();
        file.write_all_at(&[2; 4096], page * 4096).unwrap();
        file.sync_data().unwrap();
        begin.elapsed().as_micros() as u64
    };
    let mut syncs: Vec<u64> = (0..200).map(sync).collect();
    syncs.sort_unstable();
    syncs
}
