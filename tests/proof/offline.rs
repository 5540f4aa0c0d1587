//! Three days offline, in short: upstream is away until the outbox holds as many bytes as three days leave, then the gateway is
//! killed, opened again (and again), and upstream comes back: the backlog drains at the pace that is allowed, what is new goes
//! first, memory stays where it is, and upstream has everything once.

use std::time::{Duration, Instant};

use weir_simulator::fleet::Message;
use weir_simulator::publish::Version;
use weir_simulator::scenario::Scenario;

use super::Outcome;
use super::options::Options;
use super::support::broker::{Broker, Conf};
use super::support::fleet::{self, Publishing};
use super::support::gateway::{Gateway, Numbers};
use super::support::guests::METER;
use super::support::upstream::Upstream;

/// Each sends a reading a second, and has an aggregate of two meters a second.
const DEVICES: u64 = 2000;
/// Readings a second while the backlog drains.
const LIVE: u64 = 100;
/// Records a second at most.
const RATE_MAX: u64 = 4000;
/// Openings of the full outbox.
const OPENINGS: usize = 11;
/// Of the lane.
const OUTBOX_MIB: f64 = 64.0;

fn scenario(seed: u64, seconds: u64, rate: u64) -> Scenario {
    let text = format!(
        "seed = {seed}\nduration = \"{seconds} s\"\n[[fleet]]\nname = \"node\"\nmodel = \"temperature\"\ndevices = {DEVICES}\n\
         topic = \"site/{{device}}/temp\"\njitter = 0.2\nqos = 1\nmeter = \"meter.total\"\n"
    );
    let mut scenario = Scenario::parse("offline", &text).unwrap_or_else(|error| panic!("{error}"));
    scenario.set_rate(rate as f64);
    scenario
}

fn config(broker: &Broker, cloud: &Broker) -> String {
    format!(
        r##"
[gateway]
id = "gw"
[broker]
url = "{}"
[[function]]
path = "meter"
[function.meter.total]
keys-max = 3000
[function.meter.spread]
keys-max = 3000
[[function.trigger]]
mqtt = "site/+/temp"
[[lane]]
name = "live"
topics = ["meter/site/#"]
priority = 1
bytes-max = "8 MiB"
[[lane]]
name = "telemetry"
topics = ["meter/+"]
bytes-max = "{OUTBOX_MIB} MiB"
[[sink]]
name = "cloud"
type = "mqtt"
url = "{}"
rate-max = {RATE_MAX}
"##,
        broker.url(),
        cloud.url()
    )
}

fn lane_mib(numbers: &Numbers) -> f64 {
    numbers.get("lane_bytes{lane=\"telemetry\"}") / 1048576.0
}

fn rss_mib(numbers: &Numbers) -> f64 {
    numbers.get("process_resident_bytes") / 1048576.0
}

fn delivered(numbers: &Numbers, lane: &str) -> f64 {
    numbers.get(&format!("lane_records_total{{lane=\"{lane}\",outcome=\"delivered\"}}"))
}

/// What is seen while the backlog drains.
#[derive(Default)]
struct Drain {
    took: Duration,
    /// Records a second over the best ten seconds.
    fastest: f64,
    live_waiting_max: f64,
    live_during: f64,
    rss_min: f64,
    rss_max: f64,
}

/// `--mib 60 --seed 1`: how full the outbox of 64 MiB gets.
pub fn run(options: &Options) -> Outcome {
    let (mib, seed): (f64, u64) = (options.get("mib", 60.0)?, options.get("seed", 1)?);
    options.end()?;
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    let mut gateway = Gateway::new(&config(&broker, &cloud));
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    cloud.stop();
    let (mut messages, memory) = fill(&mut gateway, &broker, mib.min(OUTBOX_MIB - 2.0), seed);
    let numbers = gateway.numbers().ok_or("it does not answer")?;
    let (records, bytes) = (numbers.waiting("telemetry"), lane_mib(&numbers) * 1048576.0);
    println!(
        "offline: {} messages, {records} aggregates in {:.1} MiB on flash: {:.0} bytes each",
        messages.len(),
        bytes / 1048576.0,
        bytes / records
    );
    let (store_ms, start_ms) = openings(&mut gateway);
    println!(
        "opened {OPENINGS} times after a kill: the store in {:.1} ms (p50) and {:.1} (max), the process answers after {:.0} and {:.0}",
        store_ms[OPENINGS / 2],
        store_ms[OPENINGS - 1],
        start_ms[OPENINGS / 2],
        start_ms[OPENINGS - 1]
    );
    cloud.resume();
    let drain = drain(&mut gateway, &broker, seed, &mut messages);
    let numbers = gateway.wait_for("the last window upstream", |numbers| {
        numbers.get("messages_received_total") >= messages.len() as f64
            && numbers.get("window_cells") == 0.0
            && ["telemetry", "live"].iter().all(|lane| numbers.waiting(lane) == 0.0)
    });
    let sent = ["telemetry", "live"].map(|lane| (lane, delivered(&numbers, lane) as u64));
    let ended_well = gateway.stop().success();
    let ledger = upstream.collect(&sent);
    let mut wrong = ledger.faults.clone();
    wrong.extend(differences(&messages, &ledger));
    let dropped = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"lane-full\"}");
    table(&drain, &store_ms, memory, &wrong, dropped);
    // How long it takes is a figure of the shipped profile (`--release`).
    let opens_fast = cfg!(debug_assertions) || store_ms[OPENINGS / 2] < 100.0;
    let is_paced = drain.fastest <= RATE_MAX as f64 * 1.1;
    Ok(wrong.is_empty() && dropped == 0.0 && opens_fast && is_paced && ended_well)
}

fn table(drain: &Drain, store_ms: &[f64], (low, high): (f64, f64), wrong: &[String], dropped: f64) {
    println!(
        "
| store opens, p50 / max | drained in | records a second at most (allowed {RATE_MAX}) | live records meanwhile | live waiting at most | MiB offline, least / most | MiB draining, least / most | dropped | wrong totals |
|---|---|---|---|---|---|---|---|---|
| {:.1} / {:.1} ms | {} s | {:.0} | {} | {} | {low:.1} / {high:.1} | {:.1} / {:.1} | {dropped} | {} |",
        store_ms[OPENINGS / 2],
        store_ms[OPENINGS - 1],
        drain.took.as_secs(),
        drain.fastest,
        drain.live_during,
        drain.live_waiting_max,
        drain.rss_min,
        drain.rss_max,
        wrong.len()
    );
    wrong.iter().take(10).for_each(|one| println!("{one}"));
}

/// Publishes until the lane has so many MiB; and what memory did behind the first quarter.
fn fill(gateway: &mut Gateway, broker: &Broker, mib: f64, seed: u64) -> (Vec<Message>, (f64, f64)) {
    let (mut messages, mut memory, began) = (Vec::new(), (f64::INFINITY, 0.0_f64), Instant::now());
    for part in 0.. {
        let publishing = Publishing::start(scenario(seed + 100 + part, 10, DEVICES), broker.port(), Version::V5);
        while !publishing.is_done() {
            if let Some(numbers) = gateway.numbers()
                && mib / 4.0 < lane_mib(&numbers)
            {
                memory = (memory.0.min(rss_mib(&numbers)), memory.1.max(rss_mib(&numbers)));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        messages.extend(publishing.finish());
        let wanted = messages.len() as f64;
        let numbers = gateway.wait_for("the readings", |numbers| {
            numbers.get("messages_received_total") == wanted && numbers.get("window_cells") == 0.0
        });
        println!(
            "{} s: {:.1} MiB in the outbox, {} records, {:.1} MiB resident",
            began.elapsed().as_secs(),
            lane_mib(&numbers),
            numbers.waiting("telemetry"),
            rss_mib(&numbers)
        );
        if mib <= lane_mib(&numbers) {
            break;
        }
    }
    // The last commit.
    std::thread::sleep(Duration::from_millis(600));
    (messages, memory)
}

/// Kills and starts it: sorted milliseconds of the store alone, and until the process answers.
fn openings(gateway: &mut Gateway) -> (Vec<f64>, Vec<f64>) {
    let (mut store, mut process) = (Vec::new(), Vec::new());
    for _ in 0..OPENINGS {
        gateway.kill();
        let began = Instant::now();
        gateway.start();
        while gateway.numbers().is_none() && gateway.is_up() && began.elapsed() < Duration::from_secs(40) {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.push(began.elapsed().as_secs_f64() * 1000.0);
        let numbers = gateway.wait_for("an answer", |_| true);
        store.push(numbers.get("store_open_seconds") * 1000.0);
    }
    store.sort_by(f64::total_cmp);
    process.sort_by(f64::total_cmp);
    (store, process)
}

/// Watches the backlog drain while devices go on.
fn drain(gateway: &mut Gateway, broker: &Broker, seed: u64, messages: &mut Vec<Message>) -> Drain {
    let mut drain = Drain { rss_min: f64::INFINITY, ..Drain::default() };
    let began = Instant::now();
    let (mut looks, mut live_before, mut part) = (Vec::new(), None, 0);
    let mut publishing = Publishing::start(scenario(seed + 5000, 5, LIVE), broker.port(), Version::V5);
    loop {
        if publishing.is_done() {
            part += 1;
            let next = Publishing::start(scenario(seed + 5000 + part, 5, LIVE), broker.port(), Version::V5);
            messages.extend(std::mem::replace(&mut publishing, next).finish());
        }
        let Some(numbers) = gateway.numbers() else { continue };
        let (telemetry, live) = (delivered(&numbers, "telemetry"), delivered(&numbers, "live"));
        looks.push((began.elapsed().as_secs_f64(), telemetry + live));
        let since = looks.iter().rev().find(|(at, _)| at + 10.0 <= began.elapsed().as_secs_f64());
        if let (Some((at, before)), Some((now, after))) = (since, looks.last()) {
            drain.fastest = drain.fastest.max((after - before) / (now - at));
        }
        drain.live_during = live - *live_before.get_or_insert(live);
        // What waited when upstream came back is backlog as well; from then on the lane is to keep up.
        if Duration::from_secs(15) < began.elapsed() {
            drain.live_waiting_max = drain.live_waiting_max.max(numbers.waiting("live"));
        }
        drain.rss_min = drain.rss_min.min(rss_mib(&numbers));
        drain.rss_max = drain.rss_max.max(rss_mib(&numbers));
        if numbers.waiting("telemetry") < 1000.0 || Duration::from_secs(900) < began.elapsed() {
            break;
        }
        if looks.len() % 40 == 1 {
            println!(
                "{} s: {} records left, {} live waiting, {:.1} MiB resident",
                began.elapsed().as_secs(),
                numbers.waiting("telemetry"),
                numbers.waiting("live"),
                rss_mib(&numbers)
            );
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    drain.took = began.elapsed();
    messages.extend(publishing.finish());
    drain
}

/// Devices whose totals upstream are not the truth.
fn differences(messages: &[Message], ledger: &super::support::ledger::Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    let arrived: std::collections::BTreeMap<&str, _> = ledger.meter("meter.total").collect();
    for (device, of) in fleet::readings(messages) {
        let (count, sum) = arrived.get(device.as_str()).map_or((0, 0.0), |stats| (stats.count, stats.sum.to_f64()));
        if (count, sum) != (of.count, of.sum) {
            wrong.push(format!("{device}: {count} readings upstream, {} is the truth", of.count));
        }
    }
    for lane in ["telemetry", "live"] {
        let gaps = ledger.gaps(lane);
        if !gaps.is_empty() {
            wrong.push(format!("lane {lane}: {} sequences are missing", gaps.len()));
        }
    }
    wrong
}
