//! What the whole daemon costs, against a real mosquitto: CPU time, latency, bytes on flash, memory, start.
//!
//! `cargo xtask functions && cargo bench --bench daemon -- cpu|latency|bytes|memory|start|size [OPTIONS]`
//!
//! - Everything runs on this machine: broker, generator, gateway and upstream's subscriber share its cores, so rates and
//!   latencies are no capacities. CPU time is of the one process alone, from `/proc/PID/stat`, all threads and the kernel's
//!   part included.
//! - Beside weir runs a floor in the same run: a program of some thirty lines around rumqttc with the same filter in Rust.
//! - Runs of one table are interleaved and repeated; a cell is the median (lowest to highest).
//! - Nothing is lost in silence: what upstream got and what the gateway counted is checked after each run.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

mod bytes;
mod cpu;
mod floor;
mod latency;
mod load;
mod memory;
mod mosquitto;
mod packets;
mod process;
mod size;
mod start;
mod table;
mod upstream;
mod weir;

use std::str::FromStr;

const USAGE: &str = "\
cargo bench --bench daemon -- WHAT [OPTIONS]

cpu      CPU time a message under saturation    --messages 200000 --repeats 5
latency  from publish to upstream               --seconds 20
bytes    written to the block device a message  --seconds 120 (root: an ext4 on a loop device; else /proc/PID/io)
memory   resident, idle and with six functions  --seconds 40
start    from exec to the first record          --repeats 9
size     of the release binary and its parts";

/// The options of one bench: `--name value`.
pub struct Options(Vec<String>);

impl Options {
    /// The option's value, or `default`.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        let at = self.0.iter().position(|argument| argument.strip_prefix("--") == Some(name));
        match at.and_then(|at| self.0.get(at + 1)) {
            Some(text) => text.parse().unwrap_or_else(|_| panic!("--{name}: `{text}` does not fit")),
            None => default,
        }
    }

    /// Whether there is a `--only` that `name` does not contain.
    pub fn skips(&self, name: &str) -> bool {
        !name.contains(&self.get("only", String::new()))
    }
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let what = if arguments.is_empty() { String::new() } else { arguments.remove(0) };
    let options = Options(arguments);
    match what.as_str() {
        "floor" => floor::run(&options),
        "cpu" => cpu::run(&options),
        "latency" => latency::run(&options),
        "bytes" => bytes::run(&options),
        "memory" => memory::run(&options),
        "start" => start::run(&options),
        "size" => size::run(),
        _ => println!("{USAGE}"),
    }
}
