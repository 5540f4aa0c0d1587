//! The tools for the person at 3 a.m., as the real binary, against real gateways, brokers, files and disks.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod disk;
mod dlq;
mod doctor;
mod health;
mod store;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::gateway::{Gateway, PATIENCE};

/// What a tool said.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs `weir LINE` in a folder.
fn weir(folder: &Path, line: &str) -> Answer {
    let output =
        Command::new(env!("CARGO_BIN_EXE_weir")).args(line.split_whitespace()).current_dir(folder).output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same in a gateway's folder.
fn tool(gateway: &Gateway, line: &str) -> Answer {
    weir(&gateway.path(""), line)
}

/// `[gateway]` and `[broker]`, commits that follow each other quickly.
fn head(url: &str) -> String {
    format!("[gateway]\nid = \"gw\"\n[broker]\nurl = \"{url}\"\n[commit]\ninterval = \"50 ms\"\n")
}

/// A function in the folder of this name, listening to `site/+/temp`.
fn function(name: &str) -> String {
    format!("[[function]]\npath = \"{name}\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n")
}

/// Waits until it is as wanted.
fn wait(what: &str, mut wanted: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
