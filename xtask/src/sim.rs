//! `cargo xtask sim`: the deterministic world, built with optimisation and every check, and run on all cores.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::need;

/// Profile of the world's program: see `Cargo.toml`.
const PROFILE: &str = "sim";

/// Builds the program of the world in the workspace at `root` (into `target`), without the load generator; where it lies.
pub fn build(root: &Path, target: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).env("CARGO_TARGET_DIR", target).args(["build", "--quiet", "--profile", PROFILE]);
    cargo.args(["--package", "weir-simulator", "--no-default-features", "--bin", "weir-world"]);
    need::run(&mut cargo)?;
    Ok(target.join(PROFILE).join("weir-world"))
}

/// Runs worlds; `arguments` are those of `weir-world`.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let program = build(root, &root.join("target"))?;
    let status = Command::new(&program).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the world has found something ({status})")),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}
