//! How functions are built here: by the active toolchain, else after `rustup target add` (not with `WEIR_NO_RUSTUP=1`), else by
//! Debian's compiler, which builds `core` once into `target/`. What is missing is fetched; the rest is `src/shell/toolchain`.

use std::process::Command;

use crate::toolchain::rust::{Route, TARGET};
use crate::toolchain::{Linker, rust};
use crate::{debian, need};

pub use rust::host;

const RUSTUP_SECONDS: u32 = 90;

/// What builds guests in Rust on this machine.
pub struct WasmTarget {
    pub route: Route,
    pub linker: Linker,
}

impl WasmTarget {
    /// Finds or makes it.
    pub fn get() -> Result<Self, String> {
        let route = Route::active().or_else(rustup_adds_target);
        let route = route.map_or_else(|| debian::rustc(&why()).map(Route::BuildCore), Ok)?;
        Ok(Self { route, linker: linker()? })
    }

    /// One line for the reader.
    pub fn describe(&self) -> String {
        format!("{}, {}", self.route.shown(), self.linker.shown())
    }
}

fn why() -> String {
    format!(
        "functions need Rust's core for {TARGET}; with internet and rustup, `rustup target add {TARGET}` is the quickest"
    )
}

fn rustup_adds_target() -> Option<Route> {
    if std::env::var_os("WEIR_NO_RUSTUP").is_some_and(|value| value == "1") || need::find("rustup").is_none() {
        return None;
    }
    eprintln!("xtask: rustup target add {TARGET}");
    let added = need::run_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_SECONDS);
    added.then(Route::active).flatten()
}

fn linker() -> Result<Linker, String> {
    if let Some(linker) = Linker::find() {
        return Ok(linker);
    }
    let known = ["lld-22", "lld-21", "lld-20", "lld-19", "lld"].into_iter().find(|name| need::apt_knows(name));
    need::apt_install("functions need a linker for wasm", &[known.unwrap_or("lld")])?;
    Linker::find().ok_or_else(|| "lld was installed, but no wasm-ld is found in PATH".to_owned())
}
