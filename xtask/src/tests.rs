//! `cargo xtask test`: the functions, then every test of the workspace and of the SDK.
//!
//! - With `--target TRIPLE` the fast part runs on that processor, emulated by qemu-user: what starts no process of its own.

use std::path::Path;
use std::process::Command;

use crate::cross::{Cross, Target};
use crate::wasm_target;
use crate::{functions, need};

/// Tests that need neither a second process nor much of time: emulated processors are some fifty times slower.
const FAST: [&str; 8] = ["boards", "config", "function", "functions", "gateway", "letters", "triggers", "usage"];

/// Runs them; `arguments` go to the test runner.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    if let Some(at) = arguments.iter().position(|argument| argument == "--target") {
        let triple = arguments.get(at + 1).ok_or("--target wants a triple, as in arm-unknown-linux-musleabihf")?;
        let rest: Vec<String> = [&arguments[..at], &arguments[at + 2..]].concat();
        return emulated(root, Target::get(triple)?, &rest);
    }
    functions::build(root)?;
    need::mosquitto()?;
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root);
        cargo
    };
    // The functions' workspace builds for wasm32; the SDK's own tests run here.
    let host = wasm_target::host().ok_or("`rustc -vV` does not say which machine this is")?;
    let sdk_target = root.join("target/sdk-tests");
    need::run(cargo().current_dir(root.join("functions")).env("CARGO_TARGET_DIR", sdk_target).args([
        "test",
        "--quiet",
        "--package",
        "weir-sdk",
        "--target",
        &host,
    ]))?;
    need::run(cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
    // Last, so that the summary of the great run closes what is printed.
    let runner: &[&str] = match need::find("cargo-nextest") {
        Some(_) => &["nextest", "run", "--workspace"],
        None => &["test", "--workspace", "--lib", "--bins", "--tests"],
    };
    need::run(cargo().args(runner).args(arguments))
}

/// The library's tests and [`FAST`] on another processor; `arguments` go to the tests.
fn emulated(root: &Path, target: &'static Target, arguments: &[String]) -> Result<(), String> {
    functions::build(root)?;
    if let Some(program) = target.runner.first().filter(|program| need::find(program).is_none()) {
        need::apt_install(&format!("tests for {} need {program}", target.triple), &["qemu-user-static"])?;
    }
    let cross = Cross::get(root, target)?;
    eprintln!("xtask: {}", cross.describe());
    if !target.runner.is_empty() {
        eprintln!("xtask: run by {}", target.runner.join(" "));
    }
    let mut cargo = cross.cargo(root, "test");
    cargo.env("CARGO_TARGET_DIR", root.join("target/emulated")).args(["--locked", "--package", "weir", "--lib"]);
    for test in FAST {
        cargo.args(["--test", test]);
    }
    need::run(cargo.arg("--").args(arguments))
}
