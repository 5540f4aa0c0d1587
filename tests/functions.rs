//! The example functions do what their `cases/` say: events in, effects out, through the same code as in the gateway.
//!
//! The modules come from `cargo xtask functions` (which `cargo xtask test` runs first).
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/cases.rs"]
mod cases;
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cases::{Case, Step, to_hex};
use support::middle::{Middle, NOW, publish};
use weir::config::Qos;
use weir::dead_letter::DeadLetter;
use weir::field::{Codec, Fields, Paths};
use weir::function::{CallError, EventKind, Function, Invocation, MODULE_BYTES_MAX, MeterOp, Pool, Verdict};
use weir::manifest::{Manifest, MeterKind};
use weir::record::Record;
use weir::strict::Faults;
use weir::time::{Stopwatch, TimeQuality};
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

/// One run of a case.
struct Run {
    manifest: Manifest,
    function: Function,
    codec: Codec,
    paths: Paths,
    time_ms: i64,
    sequence: u64,
}

#[test]
fn every_case_of_every_function_comes_out_as_written() {
    for name in names() {
        let (manifest, module) = manifest(&name);
        // `threshold-c` must do what `threshold` does.
        let folder = root("functions").join(name.strip_suffix("-c").unwrap_or(&name));
        let cases = cases::read_all(&folder.join("cases"));
        assert!(!cases.is_empty(), "functions/{name} has no cases");
        for (file, case) in cases {
            println!("{}: {}", file.display(), case.name);
            play(&file, &case, with_config(&manifest, &case), &module);
        }
    }
}

fn with_config(manifest: &Manifest, case: &Case) -> Manifest {
    let mut manifest = manifest.clone();
    for (key, value) in &case.config {
        let known = manifest.config.iter_mut().find(|(known, _)| known == key);
        known.unwrap_or_else(|| panic!("`{key}` is not in the manifest's [config]")).1 = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            other => panic!("`{key}` is {other:?}"),
        };
    }
    manifest
}

fn play(file: &Path, case: &Case, manifest: Manifest, module: &[u8]) {
    let loaded = load(&manifest, module);
    if let Some(reason) = &case.refused {
        let error = loaded.err().unwrap_or_else(|| panic!("{}: it loads", file.display()));
        assert!(error.contains(reason), "{}: {error}", file.display());
        return;
    }
    let mut function = loaded.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut paths = Paths::new();
    function.bind_paths(&mut paths).unwrap();
    let codec = match case.codec.as_str() {
        "json" => Codec::Json,
        "cbor" => Codec::Cbor,
        "raw" => Codec::Raw,
        other => panic!("{}: codec `{other}`", file.display()),
    };
    let mut run = Run { manifest, function, codec, paths, time_ms: 0, sequence: 0 };
    for (index, step) in case.step.iter().enumerate() {
        for _ in 0..step.repeat {
            run.step(step, &format!("{}: step {}", file.display(), index + 1));
        }
    }
}

impl Run {
    fn step(&mut self, step: &Step, place: &str) {
        self.sequence += 1;
        self.time_ms = step.time_ms.unwrap_or(self.time_ms + 1000);
        let payload = step.bytes();
        let mut fields = Fields::new();
        let reads = self.function.reads_fields() && step.kind == "message";
        if reads && self.paths.scan(self.codec, &payload, &mut fields).is_err() {
            assert_eq!(step.verdict, "malformed", "{place}");
            return;
        }
        let before = self.function.usage().fuel;
        let verdict = self.function.call(&self.invocation(step, &payload), &fields, &mut Stopped);
        println!("{place}: fuel {}", self.function.usage().fuel - before);
        check_verdict(step, &verdict, place);
        if verdict.is_ok() {
            self.function.commit_state();
        }
        self.check_effects(step, place);
    }

    fn invocation<'a>(&self, step: &'a Step, payload: &'a [u8]) -> Invocation<'a> {
        Invocation {
            kind: match step.kind.as_str() {
                "message" => EventKind::Message,
                "interval" => EventKind::Interval,
                other => panic!("kind `{other}`"),
            },
            sequence: self.sequence,
            time_ms: self.time_ms,
            quality: TimeQuality::Synced,
            now_ms: self.time_ms,
            qos: match step.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            topic: step.topic.as_deref().unwrap_or(&step.device),
            device: &step.device,
            payload,
            codec: self.codec,
            ..Invocation::default()
        }
    }

    fn check_effects(&self, step: &Step, place: &str) {
        let staged = self.function.staged();
        let emits: Vec<_> = staged
            .emits()
            .map(|emit| (emit.topic.to_owned(), String::from_utf8_lossy(emit.payload).into_owned()))
            .collect();
        let expected: Vec<_> = step.emits.iter().map(|emit| (emit.topic.clone(), emit.payload.clone())).collect();
        assert_eq!(emits, expected, "{place}: emits");

        let meters: Vec<_> = staged.meters().map(|op| self.metered(&op, step)).collect();
        let expected: Vec<_> = step
            .meters
            .iter()
            .map(|meter| {
                (meter.name.clone(), meter.op.clone(), meter.key.clone().unwrap_or_else(|| step.device.clone()))
            })
            .collect();
        assert_eq!(meters, expected, "{place}: meters");
        for (op, expected) in staged.meters().zip(&step.meters) {
            let off = (op.value - expected.value).abs();
            assert!(off <= 1e-9 * expected.value.abs().max(1.0), "{place}: {} is {}", expected.name, op.value);
        }

        if let Some(expected) = &step.logs {
            let logs: Vec<_> = staged.logs().map(|line| String::from_utf8_lossy(line.text).into_owned()).collect();
            assert_eq!(&logs, expected, "{place}: logs");
        }
        if let Some(expected) = &step.state {
            let state = self.function.state_entries();
            let state = state.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), to_hex(value))).collect();
            assert_eq!(expected, &state, "{place}: state");
        }
    }

    fn metered(&self, op: &MeterOp<'_>, step: &Step) -> (String, String, String) {
        let kind = match op.kind {
            MeterKind::Counter => "add",
            MeterKind::Gauge => "set",
            MeterKind::Distribution => "observe",
        };
        let name = self.manifest.meters[usize::from(op.meter)].name.clone();
        (name, kind.to_owned(), op.key.unwrap_or(&step.device).to_owned())
    }
}

fn check_verdict(step: &Step, verdict: &Result<Verdict, CallError>, place: &str) {
    let expected = match step.verdict.as_str() {
        "keep" => Verdict::Keep,
        "drop" => Verdict::Drop,
        "done" => Verdict::Done,
        "error" => {
            let error = verdict.as_ref().expect_err(place);
            match step.code {
                Some(wanted) => {
                    assert!(matches!(error, CallError::Refused { code, .. } if *code == wanted), "{place}: {error}");
                }
                None => assert!(step.says.is_some(), "{place}: an error has `code` or `says`"),
            }
            let says = step.says.as_deref().unwrap_or_default();
            assert!(error.to_string().contains(says), "{place}: {error}");
            return;
        }
        "malformed" => panic!("{place}: the payload is well-formed, or the function reads no fields"),
        other => panic!("{place}: verdict `{other}`"),
    };
    assert_eq!(verdict.as_ref(), Ok(&expected), "{place}");
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
