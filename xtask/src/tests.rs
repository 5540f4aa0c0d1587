//! `cargo xtask test`: the functions, then every test of the workspace and of the SDK.

use std::path::Path;
use std::process::Command;

use crate::wasm_target;
use crate::{functions, need};

/// Runs them; `arguments` go to the test runner.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
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
