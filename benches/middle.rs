//! What a message costs in the pure middle: nanoseconds, fuel and heap allocations, with the example functions as guests.
//!
//! `cargo xtask functions && cargo bench --no-default-features --bench middle`
//!
//! - A round is 1,000 messages of 100 devices, then one commit (`seal`, and the effects cleared), then its records settled.
//! - Times are those of the best round and of the median one. The gateway reads a real clock before and after each call.
//! - Counts are of one round in the steady state: buffers have grown, every device is known.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

#[path = "support/site.rs"]
mod site;

use std::hint::black_box;
use std::time::{Duration, Instant};

use weir::config::Qos;
use weir::effect::Effects;
use weir::event::{Event, Message};
use weir::gateway::Gateway;
use weir::outbox::{Outcome, Settled};
use weir::time::{Now, Stopwatch, TimeQuality};

const DEVICES: usize = 100;
const ROUND: usize = 1_000;
const WARM_UP: usize = 50;
const ROUNDS: usize = 600;
/// Of an allocation count: rounds that are looked at.
const COUNTED: usize = 20;
/// A moment in 2027.
const START_MS: i64 = 1_800_000_000_000;

struct RealTime(Instant);

impl Stopwatch for RealTime {
    fn mono_us(&mut self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

struct Case {
    name: &'static str,
    function: &'static str,
    topics: &'static str,
    qos: Qos,
    payload: fn(usize, usize) -> String,
}

const TOPICS: &str = "site/+/telemetry";

/// ~100 bytes, as a sensor sends them.
fn reading(temp: f64, seq: usize) -> String {
    format!(
        r#"{{"device":"boiler-17","ts":1718000000123,"temp":{temp:.2},"hum":44.8,"bat":3.61,"seq":{},"fw":"1.4.2"}}"#,
        10_000 + seq % 80_000
    )
}

fn pulses(seq: usize) -> String {
    format!(
        r#"{{"device":"meter-017","ts":1718000000123,"pulses":{},"volt":230.4,"bat":3.61,"rssi":-71,"fw":"1.4.2"}}"#,
        100_000_000 + seq * 3
    )
}

const CASES: [Case; 6] = [
    Case {
        name: "no function wants it",
        function: "threshold",
        topics: "elsewhere/+",
        qos: Qos::AtMostOnce,
        payload: |_, round| reading(21.53, round),
    },
    Case {
        name: "drop",
        function: "threshold",
        topics: TOPICS,
        qos: Qos::AtMostOnce,
        payload: |_, round| reading(21.53, round),
    },
    Case {
        name: "drop, QoS 1 (a mark)",
        function: "threshold",
        topics: TOPICS,
        qos: Qos::AtLeastOnce,
        payload: |_, round| reading(21.53, round),
    },
    Case {
        name: "keep",
        function: "threshold",
        topics: TOPICS,
        qos: Qos::AtMostOnce,
        payload: |_, round| reading(91.53, round),
    },
    Case {
        name: "emit and state; every other one kept",
        function: "threshold",
        topics: TOPICS,
        qos: Qos::AtMostOnce,
        payload: |device, round| reading(if (device + round).is_multiple_of(2) { 91.53 } else { 21.53 }, round),
    },
    Case {
        name: "meter and state, QoS 1",
        function: "energy-meter",
        topics: TOPICS,
        qos: Qos::AtLeastOnce,
        payload: |_, round| pulses(round),
    },
];

fn main() {
    println!("per message: {ROUND} a round, {ROUNDS} rounds; per commit: of {ROUND} messages");
    println!(
        "{:<38} {:>5} | {:>8} {:>9} {:>7} {:>7} | {:>11} {:>7} {:>8} {:>8} | {:>10}",
        "what",
        "bytes",
        "best ns",
        "median ns",
        "fuel",
        "allocs",
        "commit best",
        "allocs",
        "entries",
        "records",
        "settled ns"
    );
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only.as_str()))) {
        case.run();
    }
}

/// The gateway, its clock, and the messages of one round.
struct Rig {
    gateway: Gateway,
    effects: Effects,
    now: Now,
    topics: Vec<String>,
    payloads: Vec<String>,
    qos: Qos,
    settled: Vec<(usize, Vec<Settled>)>,
    /// Of the last commit: entries and records.
    bytes: (usize, usize),
}

impl Case {
    fn run(&self) {
        let mut rig = Rig::new(self.function, self.topics, self.qos);
        let (mut taken, mut sealed, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        let (mut allocations, mut commit_allocations) = (0, 0);
        let mut fuel = 0;
        for round in 0..WARM_UP + ROUNDS {
            rig.prepare(round, self.payload);
            if round == WARM_UP {
                fuel = rig.fuel();
            }
            if (WARM_UP..WARM_UP + COUNTED).contains(&round) {
                allocations += allocation_counter::measure(|| rig.take()).count_total;
                commit_allocations += allocation_counter::measure(|| rig.seal()).count_total;
                rig.settle();
                continue;
            }
            let times = [time(|| rig.take()), time(|| rig.seal()), time(|| rig.settle())];
            if WARM_UP < round {
                for (list, time) in [&mut taken, &mut sealed, &mut settled].into_iter().zip(times) {
                    list.push(time);
                }
            }
        }
        let fuel = (rig.fuel() - fuel) as f64 / (ROUNDS * ROUND) as f64;
        assert_eq!(rig.gateway.residue(), 0);
        let ns = |time: Duration| time.as_nanos() as f64 / ROUND as f64;
        println!(
            "{:<38} {:>5} | {:>8.0} {:>9.0} {:>7.0} {:>7.3} | {:>8.1} us {:>7.1} {:>6} B {:>6} B | {:>10.0}",
            self.name,
            rig.payloads[0].len(),
            ns(best(&mut taken)),
            ns(median(&mut taken)),
            fuel,
            allocations as f64 / (COUNTED * ROUND) as f64,
            best(&mut sealed).as_nanos() as f64 / 1_000.0,
            commit_allocations as f64 / COUNTED as f64,
            rig.bytes.0,
            rig.bytes.1,
            ns(best(&mut settled)),
        );
    }
}

impl Rig {
    fn new(function: &str, topics: &str, qos: Qos) -> Self {
        let folder = site::functions().join(function);
        let text = format!(
            "[gateway]\nid = \"bench\"\n[broker]\nurl = \"mqtt://localhost\"\n\
             [[function]]\npath = \"{}\"\n[[function.trigger]]\nmqtt = \"{topics}\"\n\
             [[sink]]\nname = \"upstream\"\ntype = \"file\"\ndir = \"out\"\n",
            folder.display()
        );
        let now = Now { mono_us: 0, wall_ms: START_MS, quality: TimeQuality::Synced };
        let start = Instant::now();
        let mut effects = Effects::default();
        let gateway = site::gateway(&text, now, || Box::new(RealTime(start)), &mut effects);
        let topics = (0..DEVICES).map(|device| format!("site/device-{device:03}/telemetry")).collect();
        Self { gateway, effects, now, topics, payloads: Vec::new(), qos, settled: Vec::new(), bytes: (0, 0) }
    }

    fn prepare(&mut self, round: usize, payload: fn(usize, usize) -> String) {
        self.payloads.clear();
        // Device by device, ten times over: every message of a device is newer than the one before.
        let turns = ROUND / DEVICES;
        self.payloads.extend((0..ROUND).map(|at| payload(at % DEVICES, round * turns + at / DEVICES)));
    }

    fn take(&mut self) {
        let Self { gateway, effects, now, topics, payloads, qos, .. } = self;
        for (at, payload) in payloads.iter().enumerate() {
            if at % DEVICES == 0 {
                now.mono_us += 10_000;
                now.wall_ms += 10;
            }
            let message = Message {
                topic: &topics[at % DEVICES],
                payload: payload.as_bytes(),
                qos: *qos,
                packet_id: (1 + at) as u16,
                dup: false,
                retained: false,
                resubscribed: false,
                epoch: 1,
            };
            gateway.handle(*now, Event::Message(black_box(message)), effects);
        }
    }

    /// Closes the batch; the effects go round as in the loop.
    fn seal(&mut self) {
        self.gateway.seal(self.now, &mut self.effects);
        black_box(&self.effects);
        let effects = &mut self.effects;
        self.bytes = (effects.entries.bytes().len(), effects.lanes.iter().map(|lane| lane.records.len()).sum());
        self.settled.clear();
        allocation_counter::opt_out(|| {
            for batch in &effects.lanes {
                let records = (0..u64::from(batch.count)).map(|at| Settled {
                    sequence: batch.first_seq + at,
                    closes_message: at < u64::from(batch.messages),
                    outcome: Outcome::Delivered,
                });
                self.settled.push((batch.lane, records.collect()));
            }
        });
        self.gateway.acked(self.effects.commit, 1, self.effects.acks.len() as u64);
        self.effects.clear();
    }

    /// The sink has delivered the batch.
    fn settle(&mut self) {
        for (lane, records) in &self.settled {
            self.gateway.handle(self.now, Event::Settled { lane: *lane, records }, &mut self.effects);
        }
    }

    fn fuel(&self) -> u64 {
        self.gateway.status().functions.iter().map(|function| function.usage.fuel).sum()
    }
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn best(times: &mut [Duration]) -> Duration {
    *times.iter().min().unwrap()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
