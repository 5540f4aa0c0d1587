//! kill -9: rounds of a new store each, killed at its first boot, at the opening and at any moment while devices publish at QoS
//! 1 and 2 and the upstream broker goes away; upstream must equal the truth, device by device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use weir_simulator::publish::Version;
use weir_simulator::rng::Rng;

use super::Outcome;
use super::options::Options;
use super::support::broker::{Broker, Conf};
use super::support::crashes::live;
use super::support::fleet::Publishing;
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::proxy::Proxy;
use super::support::site::{self, LANES, Site, Verdict};
use super::support::upstream::Upstream;

/// Kills of one round: of one store.
const ROUND: usize = 25;
/// Of those, at the first boot, before anything was published.
const FIRST_BOOT: usize = 4;
/// A life while devices publish, on average.
const LIFE_MS: u64 = 450;
/// Of each fleet.
const DEVICES: u64 = 8;

/// What a round came to, and all of them.
#[derive(Default)]
struct Tally {
    kills: usize,
    first_boot: usize,
    opening: usize,
    messages: u64,
    again: u64,
    lost: u64,
    doubled: u64,
    failed_starts: usize,
    /// Topics of which the broker changed the order.
    disordered: usize,
    /// From exec to the first answer, milliseconds.
    recovery_ms: Vec<f64>,
    faults: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.first_boot += other.first_boot;
        self.opening += other.opening;
        self.messages += other.messages;
        self.again += other.again;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.failed_starts += other.failed_starts;
        self.disordered += other.disordered;
        self.recovery_ms.extend(other.recovery_ms);
        self.faults.extend(other.faults);
    }

    fn recovery(&self) -> String {
        let mut sorted = self.recovery_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(max) = sorted.last() else { return "-".to_owned() };
        format!("{:.0} / {max:.0} ms", sorted[sorted.len() / 2])
    }
}

/// `--kills 1000 --seed 1`
pub fn run(options: &Options) -> Outcome {
    let (kills, seed): (usize, u64) = (options.get("kills", 1000)?, options.get("seed", 1)?);
    options.end()?;
    let began = Instant::now();
    let rounds = kills.div_ceil(ROUND);
    let mut total = Tally::default();
    for round in 0..rounds {
        let wanted = (kills - total.kills).min(ROUND);
        let tally = catch_unwind(AssertUnwindSafe(|| live_through(seed, round as u64, wanted)));
        let tally = tally.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
            Tally { kills: wanted, faults: vec![format!("round {round}: {said}")], ..Tally::default() }
        });
        println!(
            "round {} of {rounds}, {} s: {} kills, {} messages, {} lost, {} doubled, {} failed starts, {} topics out of order at the broker, recovery p50 / max {}",
            round + 1,
            began.elapsed().as_secs(),
            tally.kills,
            tally.messages,
            tally.lost,
            tally.doubled,
            tally.failed_starts,
            tally.disordered,
            tally.recovery()
        );
        tally.faults.iter().take(10).for_each(|fault| println!("  {fault}"));
        total.add(tally);
    }
    table(&total, rounds, began.elapsed());
    Ok(total.faults.is_empty() && total.lost + total.doubled == 0 && total.failed_starts == 0)
}

fn table(total: &Tally, rounds: usize, took: Duration) {
    println!(
        "
| kills | at the first boot | in the opening | messages | lost | doubled | failed starts | recovery p50 / max | redelivered and known | topics that the broker disordered |
|---|---|---|---|---|---|---|---|---|---|
| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |

{rounds} stores, {} s",
        total.kills,
        total.first_boot,
        total.opening,
        total.messages,
        total.lost,
        total.doubled,
        total.failed_starts,
        total.recovery(),
        total.again,
        total.disordered,
        took.as_secs()
    );
}

/// The life of one store.
struct Round {
    gateway: Gateway,
    cloud: Broker,
    dice: Rng,
    tally: Tally,
}

fn live_through(seed: u64, number: u64, kills: usize) -> Tally {
    let mut dice = Rng::fork(seed, number);
    let versions = [("5", Version::V5), ("3.1.1", Version::V311)];
    let (version, of_devices) = versions[number as usize % 2];
    // Every other pair of stores has mosquitto's own window of 20, and none.
    let conf = if number % 4 < 2 { Conf::wide() } else { Conf { persistent: true, ..Conf::default() } };
    let (broker, cloud) = (Broker::start(&conf), Broker::start(&conf));
    let upstream = Upstream::subscribe(cloud.port());
    let store = if number % 3 == 2 { "sled = false\n" } else { "" };
    let wire = Proxy::start(broker.port());
    let site = Site { version, store, cloud: Some(cloud.url()), ..Site::new(&wire.url()) };
    let gateway = Gateway::new(&site.config());
    METER.install(&gateway);
    let scenario_seed = dice.next() >> 32;
    let mut round = Round { gateway, cloud, dice, tally: Tally::default() };

    let first = FIRST_BOOT.min(kills / 2);
    (0..first).for_each(|_| round.first_boot());
    round.start();
    round.gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let seconds = ((kills - first) as u64 * LIFE_MS / 1000).max(3);
    let publishing = Publishing::start(site::scenario(scenario_seed, seconds, DEVICES), broker.port(), of_devices);
    (first..kills).for_each(|kill| round.crash(kill));
    if !round.cloud.is_up() {
        round.cloud.resume();
    }
    let messages = publishing.finish();
    let Round { mut gateway, mut tally, .. } = round;
    let numbers = gateway.wait_for("everything upstream", |numbers| {
        numbers.get("messages_received_total") >= messages.len() as f64
            && numbers.get("window_cells") == 0.0
            && LANES.iter().all(|lane| numbers.waiting(lane) == 0.0)
    });
    if !gateway.stop().success() {
        tally.faults.push("the orderly end failed".to_owned());
    }
    let sent = numbers.get("lane_records_total{lane=\"alerts\",outcome=\"delivered\"}") as u64;
    let mut ledger = upstream.collect(&[("alerts", sent)]);
    ledger.take_files(&gateway.path("upstream"));
    let disordered = wire.disordered();
    let verdict = Verdict::but_for(&disordered, &messages, &ledger);
    tally.disordered = disordered.len();
    let received = numbers.get("messages_received_total");
    if received != messages.len() as f64 {
        tally.faults.push(format!("{received} messages in the books, {} were published", messages.len()));
    }
    tally.messages = messages.len() as u64;
    tally.again = numbers.get("messages_duplicate_total") as u64;
    (tally.lost, tally.doubled) = (verdict.lost, verdict.doubled);
    tally.faults.extend(verdict.faults);
    if !tally.faults.is_empty() {
        println!("kept: {}", gateway.keep().display());
    }
    tally
}

impl Round {
    /// Killed while the store is being made.
    fn first_boot(&mut self) {
        self.gateway.start();
        std::thread::sleep(Duration::from_micros(self.dice.below(30_000)));
        self.kill();
        self.tally.first_boot += 1;
    }

    fn crash(&mut self, number: usize) {
        if self.dice.below(3) == 0 {
            std::thread::sleep(Duration::from_micros(self.dice.below(40_000)));
            self.tally.opening += 1;
        } else {
            let took = self.answer();
            live(&self.gateway, Duration::from_millis(self.dice.below(LIFE_MS * 3)).saturating_sub(took));
        }
        self.kill();
        match number % 9 {
            3 => self.cloud.stop(),
            5 if !self.cloud.is_up() => self.cloud.resume(),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(self.dice.below(60)));
        self.gateway.start();
    }

    fn start(&mut self) {
        self.gateway.start();
        self.answer();
    }

    /// Waits until it answers: how long that took.
    fn answer(&mut self) -> Duration {
        let began = Instant::now();
        while self.gateway.numbers().is_none() && self.gateway.is_up() && began.elapsed() < Duration::from_secs(40) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = began.elapsed();
        self.tally.recovery_ms.push(took.as_secs_f64() * 1000.0);
        took
    }

    fn kill(&mut self) {
        if !self.gateway.is_up() {
            self.tally.failed_starts += 1;
            self.tally.faults.push(format!("it ended by itself:\n{}", self.gateway.log()));
        }
        self.gateway.kill();
        self.tally.kills += 1;
    }
}
