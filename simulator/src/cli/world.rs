//! `weir-sim world`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use lexopt::prelude::*;
use weir_simulator::world;

use super::Fault;

const HELP: &str = "\
weir-sim world: the real gateway in a virtual world of crashes, power cuts and lost links

  --seeds N     how many worlds (default 100)
  --seed S      the first seed (default 1)
  --quiet       no line for each world
  --log         everything that happens in each world, a line each, on standard error

Prints a failing seed with what went wrong before it, and exits with 1.
";

pub fn run(mut parser: lexopt::Parser) -> Result<ExitCode, Fault> {
    let (mut seeds, mut first, mut is_quiet, mut is_logged) = (100u64, 1u64, false, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seeds") => seeds = parser.value()?.parse()?,
            Long("seed") => first = parser.value()?.parse()?,
            Long("quiet") | Short('q') => is_quiet = true,
            Long("log") => is_logged = true,
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let (mut failures, mut messages, mut deaths) = (0u64, 0, 0);
    for seed in first..first.saturating_add(seeds) {
        // A panic is a defect like any other: it must name its seed.
        let mut log = |at_us: u64, what: &str| eprintln!("{:>14.6} {what}", at_us as f64 / 1e6);
        let live = || if is_logged { world::watch(seed, &mut log) } else { world::run(seed) };
        match catch_unwind(AssertUnwindSafe(live)) {
            Ok(Ok(story)) => {
                (messages, deaths) = (messages + story.messages, deaths + story.deaths);
                if !is_quiet {
                    println!("{story}");
                }
            }
            Ok(Err(failure)) => {
                failures += 1;
                println!("{failure}");
            }
            Err(_) => {
                failures += 1;
                println!("seed {seed} panics\nagain: weir-sim world --seeds 1 --seed {seed}");
            }
        }
    }
    println!("{seeds} worlds, {messages} messages, {deaths} deaths, {failures} failures");
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
