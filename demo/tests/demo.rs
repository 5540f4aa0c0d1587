//! The demo as a stranger runs it: its summary says what it must, and it leaves nothing behind.
//!
//! The gateway and the functions are built outside of this package: `cargo xtask test` builds both before.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The demo's binary, and the gateway's beside it.
fn demo() -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_weir-demo"));
    demo.arg("--weir").arg(weir()).arg("--functions").arg(functions());
    demo
}

fn weir() -> PathBuf {
    let weir = Path::new(env!("CARGO_BIN_EXE_weir-demo")).with_file_name("weir");
    assert!(weir.is_file(), "{} is not built; `cargo build --bin weir`, or `cargo xtask test`", weir.display());
    weir
}

fn functions() -> PathBuf {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/functions");
    assert!(functions.is_dir(), "the functions are not built; `cargo xtask functions`, or `cargo xtask test`");
    functions
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn through_an_outage_and_a_kill_the_books_balance_and_upstream_is_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("summary.json");
    let output = demo().args(["--for", "8s", "--plain", "--json"]).arg(&file).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{value}: {text}"));
    let books = &json["books"];
    let terms = ["delivered", "filtered", "aggregated", "dead-lettered", "expired", "dropped", "pending"];
    let sum: i64 = terms.iter().map(|term| number(&books[term])).sum();
    assert_eq!((number(&books["received"]), number(&books["residue"])), (sum, 0), "{text}");
    assert_eq!(json["truth"], json["upstream"], "{text}");
    assert!(1000 < number(&json["truth"]["messages"]) && number(&json["truth"]["devices"]) == 45, "{text}");
    assert_eq!((number(&json["kills"]), number(&json["published"])), (1, number(&books["received"])), "{text}");
    assert!(0 < number(&json["duplicates_recognised"]) && 2.0 < json["outage_seconds"].as_f64().unwrap(), "{text}");
    for part in ["PASS", "kill -9", "the link is back", "energy-meter.energy"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A child that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The process ids of the gateways whose configuration lies in `folder`.
fn gateways(folder: &Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let is_ours = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("\0run\0") && line.contains(folder.to_str().unwrap())
    };
    ids.filter(is_ours).collect()
}

#[test]
fn the_gateway_ends_with_the_demo_however_that_ends() {
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let folder = tempfile::tempdir().unwrap();
        let child =
            demo().args(["--for", "60s", "--plain"]).env("TMPDIR", folder.path()).stdout(Stdio::piped()).spawn();
        let mut child = Killed(child.unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("begin to publish")));
        assert!(line.is_some(), "the demo has ended before it began");
        assert_eq!(gateways(folder.path()).len(), 1);
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(child.0.id().to_string()).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.0.wait().unwrap().code(), code, "{signal}");
        for _ in 0..50 {
            if gateways(folder.path()).is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(gateways(folder.path()).is_empty(), "{signal}");
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(left == 0 || signal == "KILL", "{signal} leaves a folder");
    }
}

#[test]
fn a_broken_setup_is_said_in_words() {
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };
    let demo = || Command::new(env!("CARGO_BIN_EXE_weir-demo"));
    let nowhere = refused(demo().args(["--weir", "/nowhere/weir"]));
    assert!(nowhere.contains("/nowhere/weir is not there") && nowhere.contains("cargo xtask demo"), "{nowhere}");
    let unbuilt = refused(demo().arg("--weir").arg(weir()).args(["--functions", "/nowhere"]));
    assert!(unbuilt.contains("cargo xtask functions"), "{unbuilt}");
    let wrong = refused(demo().args(["--for", "1s"]));
    assert!(wrong.contains("5s to 24h"), "{wrong}");
    // A gateway that ends at once.
    let ends = refused(demo().args(["--plain", "--weir", "/bin/true", "--functions"]).arg(functions()));
    assert!(ends.contains("the gateway has ended by itself"), "{ends}");
}
