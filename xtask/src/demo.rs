//! `cargo xtask demo`: builds the functions, the gateway and the demo, then becomes the demo.
//!
//! - The development profile by default: it is what the tests build, and in it the interpreter is optimised. `--release` is
//!   for figures; its link takes minutes.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{functions, need};

/// Builds what is missing, then becomes the demo; returns only if that failed. `arguments` go to the demo.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let release = arguments.iter().any(|argument| argument == "--release");
    let (profile, folder) = if release { ("release", "release") } else { ("dev", "debug") };
    let wants_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    if !wants_help {
        eprintln!("xtask: 1 of 2: the functions, to WebAssembly");
        functions::build(root)?;
    }
    eprintln!("xtask: 2 of 2: the gateway and the demo ({profile} profile; the first time takes some minutes)");
    build(root, profile)?;
    let demo = target_folder(root).join(folder).join("weir-demo");
    let arguments = arguments.iter().filter(|argument| *argument != "--release");
    // In place of this process: ctrl-c and the exit code are the demo's own.
    let error = Command::new(&demo).args(arguments).exec();
    Err(format!("{}: {error}", demo.display()))
}

fn build(root: &Path, profile: &str) -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--profile", profile, "--package", "weir", "--bin", "weir"]);
    cargo.args(["--package", "weir-demo", "--bin", "weir-demo"]).env("CARGO_TARGET_DIR", target_folder(root));
    need::run(&mut cargo).map_err(|error| format!("the gateway does not build; cargo's message stands above ({error})"))
}

/// Where cargo has put this program, whatever told it so: `TARGET/debug/xtask`.
fn target_folder(root: &Path) -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|own| own.parent()?.parent().map(Path::to_owned)).unwrap_or_else(|| root.join("target"))
}
