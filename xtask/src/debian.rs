//! Debian's Rust compiler with the source of its libraries: what builds for other targets without rustup.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::need;

/// Where it lies, whatever `PATH` finds first.
const RUSTC: &str = "/usr/bin/rustc";
/// What the project is written in.
const MINOR_MIN: u32 = 90;

/// The compiler, installed if it is missing or has no library source. `why` opens the message if that cannot be done.
pub fn rustc(why: &str) -> Result<PathBuf, String> {
    if has_source() {
        return Ok(RUSTC.into());
    }
    // bookworm keeps a current compiler for Firefox under this name; later releases have a new enough `rustc`.
    let packages: &[&str] =
        if need::apt_knows("rustc-web") { &["rustc-web", "rust-web-src"] } else { &["rustc", "rust-src"] };
    need::apt_install(why, packages)?;
    if has_source() {
        return Ok(RUSTC.into());
    }
    Err(format!("{why}: {RUSTC} is older than 1.{MINOR_MIN} or has no library source, even with {packages:?}"))
}

fn has_source() -> bool {
    let Some(version) = need::output(Command::new(RUSTC).arg("--version")) else { return false };
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    let Some(sysroot) = need::output(Command::new(RUSTC).args(["--print", "sysroot"])) else { return false };
    minor >= MINOR_MIN && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}
