//! `cargo xtask crash | powercut | damage | offline | soak`: builds what they need, then runs `tests/proof`.
//!
//! - The development profile by default, in which the interpreter is optimised; `--release` for figures of speed.

use std::path::Path;
use std::process::Command;

use crate::{functions, need};

/// The commands, with what each needs beside the broker.
pub const COMMANDS: [&str; 5] = ["crash", "powercut", "damage", "offline", "soak"];

/// Runs `what`; `arguments` are its options.
pub fn run(root: &Path, what: &str, arguments: &[String]) -> Result<(), String> {
    functions::build(root)?;
    need::mosquitto()?;
    if what == "powercut" {
        need::strace()?;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["test", "--quiet", "--package", "weir", "--test", "proof"]);
    if arguments.iter().any(|argument| argument == "--release") {
        cargo.arg("--release");
    }
    cargo.arg("--").arg(what).args(arguments.iter().filter(|argument| *argument != "--release"));
    need::run(&mut cargo)
}
