//! CPU time per message under saturation: the filter that keeps a tenth, weir beside the floor.
//!
//! The clock runs from the start of the load to when upstream has everything; then the process is idle again.

use std::time::{Duration, Instant};

use crate::load::{self, saturate};
use crate::mosquitto::Mosquitto;
use crate::process::Process;
use crate::table::{median, spread};
use crate::upstream::Upstream;
use crate::weir::{Site, Weir};
use crate::{Options, floor};

enum Program {
    Floor { nodelay: bool, store: bool },
    Weir { commit_interval: &'static str, sled: bool },
}

const PROGRAMS: [(&str, Program); 7] = [
    ("floor: rumqttc", Program::Floor { nodelay: false, store: false }),
    ("floor: rumqttc, TCP_NODELAY", Program::Floor { nodelay: true, store: false }),
    ("floor: the same, and a file", Program::Floor { nodelay: true, store: true }),
    ("weir, commit 100 ms", Program::Weir { commit_interval: "100 ms", sled: true }),
    ("weir, commit 100 ms, no sled", Program::Weir { commit_interval: "100 ms", sled: false }),
    ("weir, commit 1 s", Program::Weir { commit_interval: "1 s", sled: true }),
    ("weir, commit 1 s, no sled", Program::Weir { commit_interval: "1 s", sled: false }),
];

#[derive(Clone, Default)]
struct Column {
    us: Vec<f64>,
    rate: Vec<f64>,
    lost: u64,
    /// Of the last repetition.
    threads: Vec<(String, u64)>,
}

pub fn run(options: &Options) {
    let messages: usize = options.get("messages", 200_000);
    let repeats: usize = options.get("repeats", 5);
    for qos in [0, 1] {
        let mut columns = vec![Column::default(); PROGRAMS.len()];
        for _ in 0..repeats {
            for ((name, program), column) in PROGRAMS.iter().zip(&mut columns) {
                if !options.skips(name) {
                    measure(program, qos, messages, column);
                }
            }
        }
        print(qos, messages, repeats, &columns);
    }
}

fn print(qos: u8, messages: usize, repeats: usize, columns: &[Column]) {
    println!("\nQoS {qos}: {messages} messages of ~100 bytes, a tenth kept; {repeats} repetitions");
    println!(
        "{:<30} {:>20} {:>8} {:>8} {:>24} {:>6}",
        "", "CPU us/message", "/ floor", "/ nodelay", "messages/s (contended)", "lost"
    );
    let floors = [median(&columns[0].us), median(&columns[1].us)];
    for ((name, _), column) in PROGRAMS.iter().zip(columns) {
        let us = median(&column.us);
        println!(
            "{name:<30} {:>20} {:>8.2} {:>9.2} {:>24} {:>6}",
            spread(&column.us, 1),
            us / floors[0],
            us / floors[1],
            spread(&column.rate, 0),
            column.lost
        );
        for (thread, us) in &column.threads {
            println!("{:<30} {:>20.1}", format!("  of it {thread}"), *us as f64 / messages as f64);
        }
    }
}

fn measure(program: &Program, qos: u8, messages: usize, column: &mut Column) {
    let broker = Mosquitto::start();
    let upstream = Upstream::listen(broker.port, None);
    let kept = messages / 10;
    match program {
        Program::Floor { nodelay, store } => {
            let process = floor::start(broker.port, qos, *nodelay, *store);
            let (cpu, elapsed, arrived) = timed(&process, || {
                saturate(broker.port, qos, messages, &load::temperature);
                upstream.wait(kept, Duration::from_secs(3))
            });
            assert_eq!(arrived, kept, "the floor passes on what is hot");
            column.add(cpu, elapsed, messages);
        }
        Program::Weir { commit_interval, sled } => {
            let functions = &[("threshold", "temperature")];
            let site =
                Site { broker: broker.port, qos, commit_interval, sled: *sled, functions, data: None, store: "" };
            let weir = Weir::start(&site);
            let (cpu, elapsed, arrived) = timed(&weir.process, || {
                saturate(broker.port, qos, messages, &load::temperature);
                upstream.wait(kept + load::ALERTS, Duration::from_secs(3))
            });
            let received = weir.wait(messages, Duration::from_secs(2));
            let dropped = weir.check();
            assert_eq!(received, messages, "every message is in the books");
            assert!(dropped > 0 || arrived == kept + load::ALERTS, "{arrived} of {kept} arrived upstream");
            column.lost += dropped;
            column.add(cpu, elapsed, messages - dropped as usize);
            column.threads = weir.process.cpu_by_thread();
        }
    }
}

/// CPU time and elapsed time of `process` while `work` runs.
fn timed<T>(process: &Process, work: impl FnOnce() -> T) -> (Duration, Duration, T) {
    let (cpu, begin) = (process.cpu(), Instant::now());
    let result = work();
    (process.cpu() - cpu, begin.elapsed(), result)
}

impl Column {
    fn add(&mut self, cpu: Duration, elapsed: Duration, messages: usize) {
        self.us.push(cpu.as_secs_f64() * 1e6 / messages as f64);
        self.rate.push(messages as f64 / elapsed.as_secs_f64());
    }
}
