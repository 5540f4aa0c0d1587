//! A soak: a whole site at 2,000 messages a second for as long as asked for, with links cut, upstream away, a broker that stalls,
//! malformed and repeated readings. In the end the totals are exact, and memory is where it was after warming up.

use std::time::{Duration, Instant};

use weir_simulator::publish::Version;
use weir_simulator::rng::Rng;

use super::Outcome;
use super::options::Options;
use super::support::broker::{Broker, Conf};
use super::support::fleet::Publishing;
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::proxy::Proxy;
use super::support::site::{self, LANES, Site, Verdict};
use super::support::upstream::Upstream;

/// What one message may come to upstream: a reading, what is kept of it in two topics, an alert.
const OUTCOMES_MAX: u64 = 4;
/// Of each fleet: 120 messages a second for each of them.
const DEVICES: u64 = 17;
/// By how much memory may differ between the second and the last fifth of the run.
const DRIFT_MAX: f64 = 0.05;
/// The same in a run that is too short to be warm.
const DRIFT_MAX_SHORT: f64 = 0.15;
const SHORT: Duration = Duration::from_secs(600);

/// Resident memory over time.
#[derive(Default)]
struct Memory(Vec<(Duration, f64)>);

impl Memory {
    /// MiB in the middle of the samples between these parts of the run.
    fn median(&self, from: f64, to: f64) -> f64 {
        let Some((end, _)) = self.0.last() else { return 0.0 };
        let part = |time: &Duration| time.as_secs_f64() / end.as_secs_f64().max(0.001);
        let within = self.0.iter().filter(|(time, _)| (from..=to).contains(&part(time)));
        let mut sorted: Vec<f64> = within.map(|(_, mib)| *mib).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    fn max(&self) -> f64 {
        self.0.iter().map(|(_, mib)| *mib).fold(0.0, f64::max)
    }
}

/// `--for 30m --seed 1`
pub fn run(options: &Options) -> Outcome {
    let (time, seed) = (options.time("for", Duration::from_secs(1800))?, options.get("seed", 1_u64)?);
    options.end()?;
    let conf = Conf::wide();
    let (broker, mut cloud) = (Broker::start(&conf), Broker::start(&conf));
    let (down, up) = (Proxy::start(broker.port()), Proxy::start(cloud.port()));
    let upstream = Upstream::subscribe(cloud.port());
    let mut gateway = Gateway::new(&Site { cloud: Some(up.url()), ..Site::new(&down.url()) }.config());
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    println!("making {} s of readings", time.as_secs());
    let publishing = Publishing::start(site::scenario(seed, time.as_secs(), DEVICES), broker.port(), Version::V5);
    let (began, mut dice, mut memory, mut faults) = (Instant::now(), Rng::fork(seed, 9), Memory::default(), [0_u32; 4]);
    let mut next_fault = Duration::from_secs(3);
    let (mut next_line, mut cloud_back) = (Duration::ZERO, None);
    while !publishing.is_done() {
        let now = began.elapsed();
        if let Some(numbers) = gateway.numbers() {
            if numbers.get("books_residue") != 0.0 {
                return Err(format!("the books do not balance\n{}", numbers.text));
            }
            memory.0.push((now, numbers.get("process_resident_bytes") / 1048576.0));
            if next_line <= now {
                next_line = now + Duration::from_secs(30).min(time / 6);
                println!(
                    "{} s: {:.1} MiB, {} messages, {} waiting upstream, faults {faults:?}",
                    now.as_secs(),
                    memory.0.last().map_or(0.0, |(_, mib)| *mib),
                    numbers.get("messages_received_total"),
                    LANES.iter().map(|lane| numbers.waiting(lane)).sum::<f64>()
                );
            }
        }
        if cloud_back.is_some_and(|back| back <= now) {
            cloud.resume();
            cloud_back = None;
        }
        if next_fault <= now {
            next_fault = now + Duration::from_millis(3000 + dice.below(9000));
            let kind = dice.below(4) as usize;
            match kind {
                0 => down.cut(),
                1 => up.cut(),
                2 if cloud_back.is_none() => {
                    cloud.stop();
                    cloud_back = Some(now + Duration::from_millis(500 + dice.below(6000)));
                }
                _ => {
                    broker.stall(Duration::from_millis(dice.below(1500)));
                }
            }
            faults[kind] += 1;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    if cloud_back.is_some() {
        cloud.resume();
    }
    let (messages, resent) = publishing.finish_again();
    let numbers = gateway.wait_for("everything upstream", |numbers| {
        numbers.get("messages_received_total") >= messages.len() as f64
            && numbers.get("window_cells") == 0.0
            && LANES.iter().all(|lane| numbers.waiting(lane) == 0.0)
    });
    let took = began.elapsed();
    let ended_well = gateway.stop().success();
    let sent = numbers.get("lane_records_total{lane=\"alerts\",outcome=\"delivered\"}") as u64;
    let mut ledger = upstream.collect(&[("alerts", sent)]);
    ledger.take_files(&gateway.path("upstream"));
    let verdict = Verdict::of(&messages, &ledger);
    let (first, last) = (memory.median(0.2, 0.4), memory.median(0.8, 1.0));
    let drift = last / first - 1.0;
    println!(
        "
| time | messages | a second | links cut, down / up | upstream stopped | broker stalled | redelivered and known | lost | doubled | MiB after warming up | MiB at the end | drift | MiB at most | planned |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| {} s | {} | {:.0} | {} / {} | {} | {} | {} | {} | {} | {first:.2} | {last:.2} | {:+.1} % | {:.2} | {:.1} |",
        took.as_secs(),
        messages.len(),
        messages.len() as f64 / took.as_secs_f64(),
        faults[0],
        faults[1],
        faults[2],
        faults[3],
        numbers.get("messages_duplicate_total"),
        verdict.lost,
        verdict.doubled,
        drift * 100.0,
        memory.max(),
        numbers.get("process_planned_bytes") / 1048576.0
    );
    verdict.faults.iter().take(10).for_each(|fault| println!("{fault}"));
    // What a device sends again in another connection is another message to the broker, and may differ from what was planned.
    let are_devices_own = 0 < resent && verdict.lost == 0 && verdict.doubled <= OUTCOMES_MAX * resent;
    if 0 < resent {
        println!(
            "{resent} messages were sent again by devices that the broker did not answer: so many may be there twice"
        );
    }
    let drift_max = if time < SHORT { DRIFT_MAX_SHORT } else { DRIFT_MAX };
    if drift_max < drift.abs() {
        println!("memory drifts by more than {:.0} %", drift_max * 100.0);
    }
    if !ended_well {
        println!("the orderly end failed:\n{}", gateway.log());
    }
    Ok((verdict.is_clean() || are_devices_own) && drift.abs() <= drift_max && ended_well)
}
