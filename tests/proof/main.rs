//! The real thing, at length: the real binary, real files, real brokers, real time, and everything done to it that a site does.
//! Started by `cargo xtask crash | powercut | damage | offline | soak`; prints progress and ends with a table.
//!
//! - No test of the ordinary run (`test = false`): these take as long as they are told to.
//! - It ends with 0 only if nothing was lost, nothing was there twice and every start succeeded.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod crash;
mod damage;
mod offline;
mod options;
mod powercut;
mod soak;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use options::Options;

const USAGE: &str = "\
cargo xtask WHAT [OPTIONS]

crash     kill -9 at random moments, in the opening and at the first boot   --kills 1000 --seed 1
powercut  the power cut at any call of a recorded run                       --cuts 1000 --seed 1 --lies 0
damage    every file of a store damaged in every way                        --flips 16 --share 1 (every n-th case)
offline   a full outbox: opened, resumed, drained                           --mib 60
soak      2,000 messages a second with faults                               --for 30m --seed 1

Examples:
  cargo xtask crash --kills 25
  cargo xtask soak --for 30s";

/// What became of a proof: `false` if something does not hold.
type Outcome = Result<bool, String>;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let wants_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    if arguments.is_empty() || wants_help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let what = arguments.remove(0);
    let outcome = Options::read(&arguments).and_then(|options| match what.as_str() {
        "powercut" => powercut::run(&options),
        "damage" => damage::run(&options),
        "offline" => offline::run(&options),
        "soak" => soak::run(&options),
        "crash" => crash::run(&options),
        _ => Err(USAGE.to_owned()),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(64)
        }
    }
}
