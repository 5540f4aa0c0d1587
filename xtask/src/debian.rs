//! Debian's Rust compiler with the source of its libraries: what builds for other targets without rustup.

use std::path::{Path, PathBuf};

use crate::need;
use crate::toolchain::rust;

/// Where it lies, whatever `PATH` finds first.
const RUSTC: &str = "/usr/bin/rustc";

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
    Err(format!("{why}: {RUSTC} is too old or has no library source, even with {packages:?}"))
}

fn has_source() -> bool {
    rust::has_source(Path::new(RUSTC))
}
