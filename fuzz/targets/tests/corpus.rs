//! On stable, in every run of the tests: every seed, and a bounded number of inputs made from them, in bounded time and memory.
//!
//! `cargo xtask fuzz` goes on where this ends.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which also measures time")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weir_fuzz_targets::mutate::{self, Dice};
use weir_fuzz_targets::{TARGETS, Target, target};

/// Inputs beside the seeds, in a development build.
const INPUTS: u64 = 1_500;
/// Heap at the peak of one input, whatever it is: a store of 256 KiB and a guest of 192 KiB are the largest things that are made.
const HEAP_MAX: u64 = 24 << 20;
/// Far above what any input takes, in a development build on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

fn take(target: &Target, input: &[u8], what: &str) {
    let began = Instant::now();
    let heap = allocation_counter::measure(|| (target.run)(input)).bytes_max;
    assert!(heap <= HEAP_MAX, "{}: {heap} bytes of heap for {what}: {input:02x?}", target.name);
    assert!(began.elapsed() < PATIENCE, "{}: {:?} for {what}: {input:02x?}", target.name, began.elapsed());
}

/// The seeds and [`INPUTS`] inputs made of them. A panic names the input's number: `Dice(number)` makes it again.
fn goes_through(name: &str) {
    let target = target(name).unwrap();
    let seeds = mutate::corpus(name);
    assert!(3 < seeds.len(), "{name}: a corpus of {} seeds", seeds.len());
    for (file, seed) in &seeds {
        take(target, seed, file);
    }
    let seeds: Vec<Vec<u8>> = seeds.into_values().collect();
    for number in 0..INPUTS {
        let input = mutate::input(&mut Dice(number), &seeds, &target.recipe);
        take(target, &input, &format!("input {number}"));
    }
}

macro_rules! each {
    ($($name:ident)*) => {
        $(#[test] fn $name() { goes_through(stringify!($name)); })*

        #[test]
        fn every_target_is_among_these_tests() {
            let here = BTreeSet::from([$(stringify!($name)),*]);
            assert_eq!(here, TARGETS.iter().map(|target| target.name).collect());
        }
    };
}

each! { config topics filters json cbor store modules calls packets envelope printable }

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_target_has_its_harness_and_its_corpus_and_nothing_else_has() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    for name in &names {
        let harness = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(harness.contains(&format!("\"{name}\"")), "{harness}");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    for (folder, ending) in [("corpus", ""), ("fuzz_targets", ".rs")] {
        for entry in fs::read_dir(fuzz().join(folder)).unwrap() {
            let found = entry.unwrap().file_name().into_string().unwrap();
            let name = found.strip_suffix(ending).unwrap();
            assert!(names.contains(name), "{folder}/{found} belongs to no target");
        }
    }
}

#[test]
fn seeds_are_small_and_none_is_a_module() {
    for target in TARGETS {
        for (file, seed) in mutate::corpus(target.name) {
            assert!(seed.len() <= 8192 && !file.contains(".wasm"), "{}/{file}: {} bytes", target.name, seed.len());
            assert!(!seed.windows(4).any(|bytes| bytes == b"\0asm"), "{}/{file}", target.name);
        }
    }
}
