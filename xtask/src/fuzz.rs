//! `cargo xtask fuzz [TARGET] --for 30m`: libFuzzer where a nightly compiler and cargo-fuzz are, else the mutations on stable.
//!
//! - It says which of the two it takes, and why.
//! - The seeds of `fuzz/corpus` are never written to: what libFuzzer learns grows in `fuzz/grown`, findings lie in `fuzz/artifacts`.

use std::path::Path;
use std::process::Command;

use crate::need;

const USAGE: &str = "cargo xtask fuzz [TARGET] [--for 30s|30m|1h] [--stable] [--sanitizer none|address] [--list]";

struct Options {
    /// `None`: every target, one after the other.
    target: Option<String>,
    long: String,
    seconds: u64,
    stable: bool,
    sanitizer: String,
    list: bool,
}

/// Fuzzes one target or all.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments)?;
    let names = names(root)?;
    if options.list {
        return need::run(runner(root, false).arg("--list"));
    }
    let wanted: Vec<&String> = match &options.target {
        None => names.iter().collect(),
        Some(target) => vec![
            names
                .iter()
                .find(|name| *name == target)
                .ok_or_else(|| format!("`{target}` is no target; there are {}", names.join(", ")))?,
        ],
    };
    let why_not = if options.stable { Some("--stable was given".to_owned()) } else { no_libfuzzer(root) };
    match &why_not {
        None => println!("fuzz: libFuzzer, guided by coverage; sanitizer {}", options.sanitizer),
        Some(why) => println!("fuzz: mutations of the seeds on stable, not guided by coverage, because {why}"),
    }
    let mut failed = Vec::new();
    for name in wanted {
        println!("fuzz: {name} for {}", options.long);
        let outcome = match why_not {
            None => guided(root, name, &options),
            Some(_) => need::run(runner(root, true).args([name, "--for", &options.long])),
        };
        if let Err(why) = outcome {
            eprintln!("{why}");
            failed.push(name.as_str());
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("findings in {}: the inputs lie in fuzz/artifacts/TARGET/", failed.join(", "))),
    }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        target: None,
        long: "30m".to_owned(),
        seconds: 0,
        stable: false,
        sanitizer: "none".to_owned(),
        list: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
        match argument.as_str() {
            "--for" => options.long = value()?,
            "--sanitizer" => options.sanitizer = value()?,
            "--stable" => options.stable = true,
            "--list" => options.list = true,
            _ if argument.starts_with('-') || options.target.is_some() => {
                return Err(format!("`{argument}`?\n{USAGE}"));
            }
            _ => options.target = Some(argument.clone()),
        }
    }
    options.seconds = seconds(&options.long).ok_or_else(|| format!("`{}` is no duration\n{USAGE}", options.long))?;
    Ok(options)
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The targets: each has a harness.
fn names(root: &Path) -> Result<Vec<String>, String> {
    let dir = root.join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let stem = |entry: std::fs::DirEntry| Some(entry.path().file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(stem).collect();
    names.sort_unstable();
    Ok(names)
}

/// What keeps us from libFuzzer, if anything does.
fn no_libfuzzer(root: &Path) -> Option<String> {
    if need::output(nightly(root).arg("--version")).is_none_or(|version| !version.contains("nightly")) {
        return Some("there is no nightly toolchain (rustup toolchain install nightly)".to_owned());
    }
    if need::output(nightly(root).args(["fuzz", "--version"])).is_none() {
        return Some("there is no cargo-fuzz (cargo install --locked cargo-fuzz)".to_owned());
    }
    None
}

fn nightly(root: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    // The toolchain that runs us must not stand in the way of the one that is named.
    cargo.current_dir(root.join("fuzz")).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").arg("+nightly");
    cargo
}

fn runner(root: &Path, release: bool) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["run", "--quiet", "--package", "weir-fuzz-targets", "--bin", "weir-fuzz"]);
    if release {
        // Overflows are findings, and a minute of linking is a minute without inputs.
        cargo
            .arg("--release")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
            .env("CARGO_TARGET_DIR", root.join("target/fuzz"));
    }
    cargo.arg("--");
    cargo
}

fn guided(root: &Path, name: &str, options: &Options) -> Result<(), String> {
    let fuzz = root.join("fuzz");
    let grown = fuzz.join("grown").join(name);
    // Seeds as bytes and the words as a dictionary, as libFuzzer reads them. It reports the longest input too.
    let written = need::output(runner(root, false).args([name, "--write-seeds"]).arg(&grown))
        .ok_or_else(|| format!("the seeds of {name} cannot be written to {}", grown.display()))?;
    let bytes_max = written.trim();
    need::run(
        nightly(root)
            .args(["fuzz", "run", "--sanitizer", &options.sanitizer, name])
            .arg(&grown)
            .arg("--")
            .arg(format!("-dict={}.dict", grown.display()))
            .arg(format!("-max_len={bytes_max}"))
            .arg(format!("-max_total_time={}", options.seconds))
            .args(["-timeout=20", "-rss_limit_mb=1024", "-malloc_limit_mb=256", "-print_final_stats=1"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_read_or_refused_with_the_form() {
        let options = parse(&words("json --for 90s --stable")).unwrap();
        assert_eq!((options.target.as_deref(), options.seconds, options.stable), (Some("json"), 90, true));
        assert_eq!(parse(&[]).unwrap().seconds, 1800);
        for wrong in ["--for", "--for 5", "--for x", "a b", "--fast"] {
            let text = parse(&words(wrong)).map(drop).unwrap_err();
            assert!(text.contains(USAGE), "{wrong}: {text}");
        }
    }

    #[test]
    fn every_harness_is_a_target() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let names = names(root).unwrap();
        assert!(names.contains(&"store".to_owned()) && names.contains(&"modules".to_owned()), "{names:?}");
    }
}
