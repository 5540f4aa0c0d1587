//! The runner on stable: `cargo run --release -p weir-fuzz-targets -- TARGET --for 30m`, or `all`. Mutates the seeds of `fuzz/corpus`.
//!
//! - A finding is written to `fuzz/artifacts/TARGET/`, with the number that makes it again; the run of that target then ends.
//! - Without coverage to guide it finds less than libFuzzer; `cargo xtask fuzz` takes that where it can.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures how long it runs")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use weir_fuzz_targets::mutate::{self, Dice};
use weir_fuzz_targets::{TARGETS, Target, target};

const USAGE: &str = "\
weir-fuzz TARGET|all [--for 30s|30m|1h] [--seed N]   mutates the seeds of fuzz/corpus/TARGET
weir-fuzz TARGET FILE..                              runs these inputs, as a finding is made again
weir-fuzz TARGET --write-seeds DIR                   the seeds as bytes, the words as DIR.dict; prints the longest input
weir-fuzz --list                                     the targets";

/// An input that takes longer is a finding: some of them cost a hundred times the ordinary one.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments).and_then(|job| run(&job)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(findings) => {
            eprintln!("{findings} findings");
            ExitCode::FAILURE
        }
        Err(wrong) => {
            eprintln!("weir-fuzz: {wrong}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

enum Job {
    List,
    Files(&'static Target, Vec<PathBuf>),
    Seeds(&'static Target, PathBuf),
    Mutate { targets: Vec<&'static Target>, long: Duration, seed: u64 },
}

fn parse(arguments: &[String]) -> Result<Job, String> {
    let (mut names, mut long, mut seed, mut seeds) = (Vec::new(), Duration::from_secs(30), 1, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--list" => return Ok(Job::List),
            "--for" => long = duration(value()?)?,
            "--write-seeds" => seeds = Some(PathBuf::from(value()?)),
            "--seed" => seed = value()?.parse().map_err(|_| "--seed wants a number".to_owned())?,
            _ => names.push(argument.clone()),
        }
    }
    let Some((name, files)) = names.split_first() else { return Err("which target?".to_owned()) };
    if name == "all" {
        return Ok(Job::Mutate { targets: TARGETS.iter().collect(), long, seed });
    }
    let target = target(name).ok_or_else(|| format!("`{name}` is no target; --list names them"))?;
    if let Some(dir) = seeds {
        return Ok(Job::Seeds(target, dir));
    }
    Ok(match files {
        [] => Job::Mutate { targets: vec![target], long, seed },
        files => Job::Files(target, files.iter().map(PathBuf::from).collect()),
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 30s, 30m or 1h");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number.parse::<u64>().map_err(|_| wrong())? * seconds))
}

fn run(job: &Job) -> Result<usize, String> {
    match job {
        Job::List => {
            TARGETS.iter().for_each(|target| println!("{:10} {}", target.name, target.about));
            Ok(0)
        }
        Job::Files(target, files) => {
            for file in files {
                let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
                (target.run)(&bytes);
                println!("{}: {} takes it", file.display(), target.name);
            }
            Ok(0)
        }
        Job::Seeds(target, dir) => {
            write_seeds(target, dir).map(|()| 0).map_err(|error| format!("{}: {error}", dir.display()))
        }
        Job::Mutate { targets, long, seed } => {
            Ok(targets.iter().filter(|target| !mutations(target, *long, *seed)).count())
        }
    }
}

/// Runs one target for so long; whether nothing was found.
fn mutations(target: &Target, long: Duration, seed: u64) -> bool {
    let seeds: Vec<Vec<u8>> = mutate::corpus(target.name).into_values().collect();
    let began = Instant::now();
    let (mut count, mut slowest, mut said) = (0u64, Duration::ZERO, Duration::ZERO);
    let mut attempt = |input: &[u8], how: &str| {
        let start = Instant::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
        let took = start.elapsed();
        slowest = slowest.max(took);
        if !panicked && took < PATIENCE {
            return true;
        }
        let what = if panicked { "panicked".to_owned() } else { format!("took {took:?}") };
        eprintln!("{}: {what} on {how}; kept as {}", target.name, keep(target, input));
        false
    };
    for (index, input) in seeds.iter().enumerate() {
        if !attempt(input, &format!("seed file {index}")) {
            return false;
        }
    }
    while began.elapsed() < long {
        // Each input hangs on its number alone, so that it can be made again.
        let number = seed.wrapping_mul(1 << 32).wrapping_add(count);
        let input = mutate::input(&mut Dice(number), &seeds, &target.recipe);
        count += 1;
        if !attempt(&input, &format!("input {number}")) {
            return false;
        }
        if began.elapsed() >= said + Duration::from_secs(60) {
            said = began.elapsed();
            eprintln!("{}: {count} inputs in {} s", target.name, said.as_secs());
        }
    }
    println!(
        "{:10} {count} inputs in {} s from seed {seed}, the slowest {slowest:.1?}: no finding",
        target.name,
        began.elapsed().as_secs()
    );
    true
}

/// What libFuzzer begins with.
fn write_seeds(target: &Target, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (name, bytes) in mutate::corpus(target.name) {
        std::fs::write(dir.join(format!("seed-{name}")), bytes)?;
    }
    let escaped = |word: &[u8]| word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let words: String = target.recipe.words.iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
    std::fs::write(dir.with_extension("dict"), words)?;
    println!("{}", target.recipe.bytes_max);
    Ok(())
}

/// Writes a finding down; where.
fn keep(target: &Target, input: &[u8]) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifacts").join(target.name);
    let path = dir.join(format!("finding-{:08x}", crc32fast::hash(input)));
    match std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, input)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("nothing ({}: {error}): {input:02x?}", path.display()),
    }
}
