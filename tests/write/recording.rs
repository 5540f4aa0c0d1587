//! `weir record` and `weir replay`: calls of a real gateway, made again elsewhere, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::gateway::{Gateway, PATIENCE};
use super::{Answer, function, run, weir};

/// Emits eight random bytes and the time of processing, and counts its calls in its state.
const DICE: &str = r#"
  (import "weir1" "random" (func $random (param i32 i32) (result i32)))
  (import "weir1" "now_ms" (func $now (result i64)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "dice/out") (data (i32.const 16) "n")
  (func (export "on_event") (param $ev i32) (result i32)
    (drop (call $get (i32.const 16) (i32.const 1) (i32.const 48) (i32.const 8)))
    (i64.store (i32.const 48) (i64.add (i64.load (i32.const 48)) (i64.const 1)))
    (drop (call $put (i32.const 16) (i32.const 1) (i32.const 48) (i32.const 8)))
    (drop (call $random (i32.const 32) (i32.const 8)))
    (i64.store (i32.const 40) (call $now))
    (drop (call $emit (i32.const 0) (i32.const 8) (i32.const 32) (i32.const 24)))
    (i32.const 2))
"#;

fn built(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/functions").join(name);
    assert!(folder.is_dir() || name != "threshold", "run `cargo xtask functions` first");
    folder
}

fn config(broker: &Broker) -> String {
    format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\n[commit]\ninterval = \"50 ms\"\n\
         [[function]]\npath = \"{}\"\n[function.config]\nhigh = 30\nlow = 25\n\
         [[function.trigger]]\nmqtt = \"site/+/temp\"\n\
         [[function]]\npath = \"dice\"\n[[function.trigger]]\nmqtt = \"dice/in\"\ncodec = \"raw\"\n",
        broker.url(),
        built("threshold").display()
    )
}

/// A gateway that has taken one reading above the limit, so that there is state.
fn running() -> (Broker, Gateway) {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&config(&broker));
    function(&gateway.path(""), "dice", DICE, "emits = [\"dice/#\"]\n");
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    publish(broker.port(), temps(&[31.0]));
    gateway.wait_for("the reading", |numbers| numbers.get("messages_received_total") >= 1.0);
    (broker, gateway)
}

fn temps(temps: &[f64]) -> Vec<super::support::device::Publish> {
    temps.iter().map(|temp| reading("site/a/temp", format!(r#"{{"temp":{temp}}}"#))).collect()
}

/// `weir record` under way, and what it said when it has ended.
struct Recorder(Child);

impl Recorder {
    fn start(gateway: &Gateway, line: &str) -> Self {
        let begun = |gateway: &Gateway| gateway.log().matches("begins, as ordered").count();
        let before = begun(gateway);
        let mut command = weir(&gateway.path(""));
        command.args(format!("record {line}").split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let recorder = Self(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while begun(gateway) == before {
            assert!(Instant::now() < until, "the gateway records nothing: {}", gateway.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        recorder
    }

    fn end(self) -> Answer {
        let output = self.0.wait_with_output().unwrap();
        Answer {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn what_was_recorded_is_replayed_byte_for_byte_by_the_same_version_and_told_apart_from_another() {
    let (broker, gateway) = running();
    let recorder = Recorder::start(&gateway, "--to rec.jsonl --calls 6 --for 40s");
    publish(broker.port(), temps(&[27.0, 24.0, 26.0, 35.0]));
    publish(broker.port(), vec![reading("dice/in", [0xff, 0]), reading("dice/in", "text")]);
    recorder.end().ends(0).says(&["6 calls", "--calls is reached"]);

    // On another machine there is the file, and the function's folder.
    let laptop = tempfile::tempdir().unwrap();
    fs::copy(gateway.path("rec.jsonl"), laptop.path().join("rec.jsonl")).unwrap();
    function(laptop.path(), "dice", DICE, "emits = [\"dice/#\"]\n");
    drop((broker, gateway));
    let replay = |function: &str| run(laptop.path(), &format!("replay rec.jsonl --function {function}"), "");
    let threshold = built("threshold").display().to_string();
    replay(&threshold).ends(0).says(&[
        "threshold: 4 calls recorded of 1.0.0",
        "the same module",
        "identical, byte for byte",
    ]);
    replay("./dice").ends(0).says(&["dice: 2 calls", "identical, byte for byte"]);

    // Another version: it drops everything.
    let other = "(import \"weir1\" \"bind_f64\" (func $bind (param i32 i32) (result i32)))\n\
                 (func (export \"on_event\") (param $ev i32) (result i32) (i32.const 0))";
    function(
        laptop.path(),
        "threshold",
        other,
        "version = \"2.0.0\"\nkeep-prefix = \"kept/\"\nemits = [\"alerts/#\"]\n",
    );
    replay("./threshold").ends(1).says(&[
        "made again by 2.0.0",
        "call 1: site/a/temp of a, time ",
        "verdict\n    recorded  keep\n    now       drop",
        "emits[0]\n    recorded  alerts/a {\"state\":\"normal\",\"temp\":24}\n    now       nothing",
        "3 of 4 differ",
    ]);
    let document = run(laptop.path(), "replay rec.jsonl --function ./threshold --json --limit 1", "").ends(1).json();
    assert_eq!((document["differing"].as_u64(), document["differences"].as_array().unwrap().len()), (Some(3), 1));

    // A recording that broke off in the middle of a line.
    let whole = fs::read_to_string(laptop.path().join("rec.jsonl")).unwrap();
    fs::write(laptop.path().join("torn.jsonl"), &whole[..whole.len() / 2]).unwrap();
    run(laptop.path(), "replay torn.jsonl --function ./dice", "").says(&["the recording broke off"]);
    run(laptop.path(), "replay rec.jsonl --function ./nothing", "").ends(78);
}

#[test]
fn the_versions_in_other_languages_answer_as_the_one_that_was_recorded() {
    let (broker, gateway) = running();
    let recorder = Recorder::start(&gateway, "--to rec.jsonl --calls 5 --for 40s --function threshold");
    publish(broker.port(), vec![reading("dice/in", "not recorded")]);
    publish(broker.port(), temps(&[27.5, 24.0, 26.0, 35.125, 1e21]));
    recorder.end().ends(0).says(&["5 calls"]);
    let mut tried = 0;
    for name in ["threshold-c", "threshold-zig", "threshold-as"] {
        if !built(name).is_dir() {
            eprintln!("\nNOT TESTED: {name} is not built; `cargo xtask languages && cargo xtask functions`\n");
            continue;
        }
        let line = format!("replay rec.jsonl --function {}", built(name).display());
        run(&gateway.path(""), &line, "")
            .ends(0)
            .says(&["identical, byte for byte", "the recording is of `threshold`"]);
        tried += 1;
    }
    assert!(tried == 3 || std::env::var_os("WEIR_LANGUAGES").is_none_or(|wanted| wanted != "all"));
    // As it is configured, at the version that it has and at one that it has not.
    run(&gateway.path(""), "replay rec.jsonl --function threshold", "").ends(0).says(&["identical"]);
    run(&gateway.path(""), "replay rec.jsonl --function threshold@1.0.0", "").ends(0);
    run(&gateway.path(""), "replay rec.jsonl --function threshold@9", "")
        .ends(78)
        .says(&["configured at version 1.0.0, not 9"]);
}

#[test]
fn a_recording_is_bounded_and_one_at_a_time() {
    let (broker, gateway) = running();
    let recorder = Recorder::start(&gateway, "--to small.jsonl --bytes-max 4KiB --for 40s");
    run(&gateway.path(""), "record --to second.jsonl --for 1s", "").ends(69).says(&["another recording is under way"]);
    assert!(!gateway.path("second.jsonl").exists(), "nothing was recorded, so there is no file");
    publish(broker.port(), temps(&[20.0; 100]));
    recorder.end().ends(0).says(&["--bytes-max is reached"]);
    let size = fs::metadata(gateway.path("small.jsonl")).unwrap().len();
    assert!(1024 < size && size <= 4096, "{size}");
    let line = format!("replay small.jsonl --function {}", built("threshold").display());
    run(&gateway.path(""), &line, "").ends(0).says(&["identical"]);

    // A time without calls; a file that is there; a function that is not.
    let quiet = Recorder::start(&gateway, "--to quiet.jsonl --for 200ms");
    quiet.end().ends(0).says(&["0 calls", "--for is over"]);
    run(&gateway.path(""), "record --to quiet.jsonl", "").ends(73).says(&["--force overwrites it"]);
    run(&gateway.path(""), "record --to x.jsonl --function nosuch", "").ends(69).says(&["`nosuch` is no function"]);
    run(&gateway.path(""), "record --to x.jsonl --for soon", "").ends(64).says(&["--for:"]);
    run(&gateway.path(""), "record", "").ends(64).says(&["wants --to FILE"]);
}
