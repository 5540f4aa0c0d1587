//! The command line of the world: `weir-world`, and `weir-sim world`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lexopt::prelude::*;
use weir::units::Millis;

use super::campaign::{Campaign, Tally};
use super::{Case, Story, schedule, shrink, watch};

const HELP: &str = "\
The real gateway in a virtual world of crashes, power cuts, lost links, wrong clocks and hostile guests

  --seeds N        how many worlds (default 100; with --for as many as there is time for)
  --seed S         the first seed (default 1)
  --for TIME       for so long (60s, 5min)
  --jobs N         worlds at once (default: one for each core)
  --failures N     stop after so many failures (default 1)
  --no-shrink      print a failing schedule as it was drawn
  --story          a line for each world
  --quiet          no progress
  --case FILE      the one world in FILE: `seed N`, and a line for each fault as a failure prints them (simulator/found/)
  --log            with --case or --seeds 1: everything that happens, a line each, on standard error

Prints a failing seed, what does not hold, and the shortest schedule of faults with which it fails; exits with 1.

Examples:
  cargo xtask sim --seeds 1000
  cargo xtask sim --for 60s --seed 123456
  cargo xtask sim --seeds 1 --seed 32198 --log
  cargo xtask sim --case simulator/found/commit-numbers.world
";

/// What is wrong with the command line or a file, in words.
type Fault = Box<dyn std::error::Error>;

#[derive(Debug)]
struct Options {
    campaign: Campaign,
    tells_stories: bool,
    is_quiet: bool,
    is_logged: bool,
    case: Option<PathBuf>,
}

/// Runs the command in `parser`.
pub fn run(mut parser: lexopt::Parser) -> Result<ExitCode, Fault> {
    let Some(options) = parse(&mut parser)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    // A panic is caught, shrunk and told with its seed; its own message would only stand in between.
    std::panic::set_hook(Box::new(|_| {}));
    let is_one = options.case.is_some() || options.is_logged;
    if is_one { one(&options) } else { Ok(many(&options)) }
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Options>, Fault> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let campaign = Campaign { first: 1, seeds: 100, time: None, jobs, failures_max: 1, shrinks: true };
    let mut options = Options { campaign, tells_stories: false, is_quiet: false, is_logged: false, case: None };
    let mut seeds = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seeds") => seeds = Some(parser.value()?.parse()?),
            Long("seed") => options.campaign.first = parser.value()?.parse()?,
            Long("for") => {
                let span: Millis = parser.value()?.string()?.parse()?;
                options.campaign.time = Some(Duration::from_millis(span.0));
            }
            Long("jobs") => options.campaign.jobs = parser.value()?.parse()?,
            Long("failures") => options.campaign.failures_max = parser.value()?.parse()?,
            Long("no-shrink") => options.campaign.shrinks = false,
            Long("story") => options.tells_stories = true,
            Long("quiet") | Short('q') => options.is_quiet = true,
            Long("log") => options.is_logged = true,
            Long("case") => options.case = Some(PathBuf::from(parser.value()?)),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let default = if options.campaign.time.is_some() { u64::MAX } else { options.campaign.seeds };
    options.campaign.seeds = seeds.unwrap_or(default);
    Ok(Some(options))
}

fn read_case(path: &Path) -> Result<Case, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()).into())
}

fn one(options: &Options) -> Result<ExitCode, Fault> {
    let seed = options.campaign.first;
    let Case { seed, schedule } = match &options.case {
        Some(path) => read_case(path)?,
        None => Case { seed, schedule: schedule(seed) },
    };
    if options.is_logged {
        let mut log = |at_us: u64, what: &str| eprintln!("{:>16.6} {what}", at_us as f64 / 1e6);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch(seed, Some(&schedule), &mut log)));
        if let Ok(Ok(story)) = outcome {
            println!("{story}");
            return Ok(ExitCode::SUCCESS);
        }
    }
    match shrink::failure(seed, &schedule) {
        None => {
            println!("seed {seed}: everything holds");
            Ok(ExitCode::SUCCESS)
        }
        Some(failure) => {
            println!("{failure}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn many(options: &Options) -> ExitCode {
    let told = AtomicU64::new(0);
    let tell = |story: &Story, tally: &Tally| {
        if options.tells_stories {
            println!("{story}");
        }
        // A line every two seconds.
        let due = (tally.seconds / 2.0) as u64;
        if !options.is_quiet && told.fetch_max(due, Ordering::Relaxed) < due {
            let of = match options.campaign.seeds {
                u64::MAX => String::new(),
                seeds => format!(" of {seeds}"),
            };
            eprintln!("{:>6.0} s: {}{of} worlds, {:.0} a second", tally.seconds, tally.worlds, tally.rate());
        }
    };
    let tally = options.campaign.run(&tell);
    for failure in &tally.failures {
        println!("{failure}\nagain: cargo xtask sim --seeds 1 --seed {}", failure.seed);
    }
    println!("{}", summary(options.campaign.first, &tally));
    if tally.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(first: u64, tally: &Tally) -> String {
    let sums = &tally.sums;
    format!(
        "{} worlds from seed {first} in {:.1} s ({:.0} a second), {:.1} virtual days: {} messages, {} deaths, {} connections, \
         {} redeliveries, {} records upstream, {} of them twice, {} lost and told, {} rolled up, {} ahead of a backlog, {} values late and told, disk full {}×, \
         {} damaged starts; {} failures",
        tally.worlds,
        tally.seconds,
        tally.rate(),
        sums.elapsed_us as f64 / 86.4e9,
        sums.messages,
        sums.deaths,
        sums.connections,
        sums.duplicates,
        sums.records,
        sums.repeated,
        sums.lost,
        sums.rolled_up,
        sums.ahead,
        sums.late,
        sums.full,
        sums.damages,
        tally.failures.len(),
    )
}
