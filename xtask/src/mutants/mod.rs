//! `cargo xtask mutants`: deliberate bugs, one at a time, each of which the deterministic world must catch.
//!
//! - A mutation is a piece of text that stands in a source file exactly once, and what stands there instead. One that does not fit
//!   any more is an error: the list follows the code.
//! - Mutations are made in a copy of the sources below `target/mutants/`. The copy as it is must build and hold first.
//! - A mutant that no seed catches is an error: then the world, or this list, must be mended.

mod list;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::sim;
use list::{MUTATIONS, Mutation};

/// Folders and files that the world is built from.
const SOURCES: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "boards",
    "simulator",
    "functions/abi",
    // Members and targets of the workspace that cargo wants to see, although it builds none of them.
    "benches",
    "demo",
    "fuzz/targets",
    "tests",
    "xtask",
];
/// Folders of these that are not copied.
const LEFT_OUT: [&str; 2] = ["target", ".git"];
/// Seeds that a mutant may live through before it counts as not caught.
const SEEDS_MAX: u64 = 20_000;
/// Seeds with which the sources must hold as they are.
const SEEDS_SOUND: u64 = 200;

const USAGE: &str = "\
cargo xtask mutants [--only NAME] [--seed S] [--seeds N] [--shrink]
  --only NAME   mutations whose name holds NAME
  --seed S      first seed (default 1)
  --seeds N     seeds for each mutant at most (default 20000)
  --shrink      print the shortest schedule that catches each mutant";

struct Options {
    only: String,
    first: u64,
    seeds: u64,
    shrinks: bool,
}

/// What became of a mutant.
struct Caught {
    seed: u64,
    worlds: u64,
    seconds: f64,
    what: String,
    schedule: Vec<String>,
}

/// Runs all mutations, or those that the arguments name.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments)?;
    let copy = root.join("target/mutants/tree");
    copy_sources(root, &copy)?;
    for mutation in &MUTATIONS {
        mutate(&copy, mutation)?;
    }
    let sound = program(root, &copy)?;
    let seeds = SEEDS_SOUND.to_string();
    eprintln!("without any mutation: {seeds} worlds");
    let output = world(&sound, &["--seeds", &seeds, "--seed", &options.first.to_string(), "--quiet"])?;
    if !output.status.success() {
        return Err(format!("the sources fail without any mutation:\n{}", text(&output.stdout)));
    }
    let (mut table, mut survivors) = (String::new(), Vec::new());
    for mutation in MUTATIONS.iter().filter(|mutation| mutation.name.contains(&options.only)) {
        eprint!("{}: ", mutation.name);
        match try_mutation(root, &copy, mutation, &options)? {
            Some(caught) => {
                let Caught { seed, worlds, seconds, what, schedule } = caught;
                eprintln!("caught by seed {seed} ({worlds} worlds, {seconds:.1} s): {what}");
                schedule.iter().for_each(|line| eprintln!("    {line}"));
                table += &format!("| {} | {worlds} | {seed} | {what} |\n", mutation.name);
            }
            None => {
                eprintln!("NOT CAUGHT by {} worlds", options.seeds);
                survivors.push(mutation.name);
            }
        }
    }
    println!("| mutation | worlds | seed | reported |\n|---|---|---|---|\n{table}");
    if survivors.is_empty() { Ok(()) } else { Err(format!("the world did not catch: {}", survivors.join("; "))) }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { only: String::new(), first: 1, seeds: SEEDS_MAX, shrinks: false };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
        let number = |text: &String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match argument.as_str() {
            "--only" => options.only.clone_from(value()?),
            "--seed" => options.first = number(value()?)?,
            "--seeds" => options.seeds = number(value()?)?,
            "--shrink" => options.shrinks = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// Builds in a target folder of its own: nobody shall take a mutant for the real program.
fn program(root: &Path, copy: &Path) -> Result<PathBuf, String> {
    sim::build(copy, &root.join("target/mutants/target"))
}

fn world(program: &Path, arguments: &[&str]) -> Result<std::process::Output, String> {
    Command::new(program).args(arguments).output().map_err(|error| format!("{}: {error}", program.display()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The mutated file's path and text; an error unless the mutation fits exactly once.
fn mutate(copy: &Path, mutation: &Mutation) -> Result<(PathBuf, String, String), String> {
    let file = copy.join(mutation.file);
    let before = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", mutation.file))?;
    match before.matches(mutation.find).count() {
        1 => Ok((file, before.replace(mutation.find, mutation.replace), before)),
        count => Err(format!(
            "{}: stands {count} times in {}, must be once: mend xtask/src/mutants/list.rs\n{}",
            mutation.name, mutation.file, mutation.find
        )),
    }
}

fn try_mutation(root: &Path, copy: &Path, mutation: &Mutation, options: &Options) -> Result<Option<Caught>, String> {
    let (file, mutated, before) = mutate(copy, mutation)?;
    let put = |text: &str| fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()));
    put(&mutated)?;
    let built = program(root, copy);
    put(&before)?;
    let (seeds, first) = (options.seeds.to_string(), options.first.to_string());
    let mut arguments = vec!["--seeds", &seeds, "--seed", &first, "--quiet"];
    if !options.shrinks {
        arguments.push("--no-shrink");
    }
    let began = now();
    let output = world(&built?, &arguments)?;
    if output.status.success() {
        return Ok(None);
    }
    let lines = text(&output.stdout);
    let told = lines.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(" fails after "));
    let (seed, what) = told.ok_or_else(|| format!("{}: ended without a failure:\n{lines}", mutation.name))?;
    let what = what.split_once(": ").map_or(what, |(_, what)| what).replace('|', "/");
    let worlds = lines.lines().find_map(|line| line.split_once(" worlds from seed ")?.0.trim().parse::<u64>().ok());
    Ok(Some(Caught {
        seed: seed.parse().unwrap_or_default(),
        worlds: worlds.unwrap_or_default() + 1,
        seconds: began.elapsed().as_secs_f64(),
        what: what.chars().take(160).collect(),
        schedule: lines.lines().filter(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect(),
    }))
}

#[expect(clippy::disallowed_methods, reason = "how long a mutation lives")]
fn now() -> Instant {
    Instant::now()
}

/// Brings the copy up to date; files that are the same keep their time, so that nothing is built anew for nothing.
fn copy_sources(root: &Path, copy: &Path) -> Result<(), String> {
    for source in SOURCES {
        copy_tree(&root.join(source), &copy.join(source))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), String> {
    let in_path = |error: std::io::Error| format!("{}: {error}", from.display());
    if !from.is_dir() {
        return crate::need::write(to, &fs::read(from).map_err(in_path)?);
    }
    fs::create_dir_all(to).map_err(in_path)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(in_path)? {
        let name = entry.map_err(in_path)?.file_name();
        if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
            copy_tree(&from.join(&name), &to.join(&name))?;
            names.push(name);
        }
    }
    // What is gone here must go there.
    for entry in fs::read_dir(to).map_err(in_path)?.flatten() {
        if !names.contains(&entry.file_name()) && entry.path().is_file() {
            fs::remove_file(entry.path()).map_err(in_path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_fits_exactly_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(MUTATIONS.len() >= 12);
        for mutation in &MUTATIONS {
            let (_, mutated, before) = mutate(root, mutation).unwrap_or_else(|error| panic!("{error}"));
            assert_ne!(mutated, before, "{}", mutation.name);
        }
    }
}
