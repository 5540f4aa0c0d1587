//! The example functions do what their `cases/` say: events in, effects out, through the same code as in the gateway.
//!
//! The modules come from `cargo xtask functions` (which `cargo xtask test` runs first).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::middle::{Middle, NOW, publish};
use weir::dead_letter::DeadLetter;
use weir::function::{Function, MODULE_BYTES_MAX, Pool};
use weir::harness::{self, Case};
use weir::manifest::Manifest;
use weir::record::Record;
use weir::strict::Faults;
use weir::time::Stopwatch;
use weir::units::Bytes;

/// Time does not pass: what a function may spend is counted in fuel.
struct Stopped;

impl Stopwatch for Stopped {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Names of the functions in `functions/`; those in C only if there was a clang to build them.
fn names() -> Vec<String> {
    let folders = fs::read_dir(root("functions")).unwrap().map(|folder| folder.unwrap());
    let functions = folders.filter(|folder| folder.path().join("function.toml").exists());
    let mut names: Vec<String> = functions.map(|folder| folder.file_name().into_string().unwrap()).collect();
    let in_rust = |name: &str| root("functions").join(name).join("Cargo.toml").exists();
    names.retain(|name| in_rust(name) || root("target/functions").join(name).exists());
    names.sort();
    assert!(names.len() >= 6);
    names
}

fn manifest(name: &str) -> (Manifest, Vec<u8>) {
    let folder = root("target/functions").join(name);
    let file = folder.join("function.toml");
    let text = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask functions` first", file.display()));
    let faults = Faults::default();
    let manifest = Manifest::parse(&file.display().to_string(), &text, &faults);
    let manifest = manifest.unwrap_or_else(|| panic!("{:?}", faults.into_list()));
    assert_eq!(manifest.name, name);
    let module = fs::read(folder.join(&manifest.module)).unwrap();
    (manifest, module)
}

fn load(manifest: &Manifest, module: &[u8]) -> Result<Function, String> {
    Function::load(manifest, module, MODULE_BYTES_MAX, &Pool::new(Bytes::mib(1)), &mut Stopped)
        .map_err(|error| error.to_string())
}

#[test]
fn every_case_of_every_function_comes_out_as_written() {
    for name in names() {
        let (manifest, module) = manifest(&name);
        // `threshold-c` and its like must do what `threshold` does.
        let folder = root("functions").join(if name.starts_with("threshold-") { "threshold" } else { &name });
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder.join("cases")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "functions/{name} has no cases");
        for file in files {
            let case = Case::parse(&fs::read_to_string(&file).unwrap()).unwrap_or_else(|why| panic!("{file:?}: {why}"));
            let played = harness::play(&case, &manifest, &module, &mut Stopped);
            println!("{}: {}: fuel {} at most", file.display(), case.name, played.fuel_max);
            let differences = played.steps.iter().flat_map(|step| &step.differences).chain(&played.refused);
            let differences: Vec<String> = differences.map(ToString::to_string).collect();
            assert!(played.holds() && differences.is_empty(), "{name}: {}: {differences:#?}", file.display());
            assert_eq!(played.steps.is_empty(), case.refused.is_some(), "{}", file.display());
        }
    }
}

#[test]
fn an_example_starts_each_invocation_by_copying_a_small_image() {
    for name in names() {
        let (manifest, module) = manifest(&name);
        let function = load(&manifest, &module).unwrap();
        assert!(function.reset().starts_with("pristine, by a copy"), "{name}: {}", function.reset());
    }
}

#[test]
fn a_setting_that_is_no_number_refuses_to_load_and_says_so() {
    let (mut manifest, module) = manifest("threshold");
    manifest.config = vec![("high".to_owned(), "warm".to_owned())];
    let error = load(&manifest, &module).err().unwrap();
    assert_eq!(error, "config `high` is `warm`, which is no number");
}

/// A gateway with one of the functions and one trigger for it.
fn gateway(name: &str, trigger: &str) -> Middle {
    let folder = root("target/functions").join(name);
    let read = |file: &str| fs::read(folder.join(file)).unwrap();
    let module = (name.to_owned(), read("function.toml"), read(&format!("{name}.wasm")));
    Middle::of_modules([module], &format!("[[function]]\npath = \"{name}\"\n[[function.trigger]]\n{trigger}\n"))
}

#[test]
fn a_panic_in_a_guest_is_a_dead_letter_that_names_its_function_and_says_its_text() {
    let mut middle = gateway("selftest", "mqtt = \"in/+\"");
    middle.take(publish("in/a", br#"{"do":"panic"}"#));
    let effects = middle.seal();
    let record = Record::take(&mut effects.lanes[0].records.as_slice()).unwrap();
    let letter = DeadLetter::decode(record.payload).unwrap();
    assert_eq!((&*letter.function, &*letter.kind, &*letter.payload), ("selftest", "abort", &br#"{"do":"panic"}"#[..]));
    for part in ["panic at selftest/src/lib.rs:", ": no such unit", "selftest::unit_of ← on_event"] {
        assert!(letter.message.contains(part), "{}", letter.message);
    }
    assert_eq!((middle.gateway.books().dead_lettered, middle.gateway.residue()), (1, 0));
}

#[test]
fn heartbeats_come_at_their_interval_and_count_on_after_a_restart() {
    let mut middle = gateway("heartbeat", "interval = \"1 min\"");
    let mut beats = Vec::new();
    for minute in 1..=4 {
        let records = middle.records_until(NOW + minute * 60_000);
        beats.extend(records.into_iter().map(|left| (left.topic, String::from_utf8(left.payload).unwrap())));
        if minute == 2 {
            let now = middle.now;
            middle = middle.restarted();
            middle.now.wall_ms = now.wall_ms;
        }
    }
    let expected = (1..=4).map(|beat| {
        let at_ms = NOW + beat * 60_000;
        ("status/gateway".to_owned(), format!("{{\"beat\":{beat},\"at_ms\":{at_ms},\"clock\":\"synced\"}}"))
    });
    assert_eq!(beats, expected.collect::<Vec<_>>());
    assert_eq!(middle.gateway.residue(), 0);
}
