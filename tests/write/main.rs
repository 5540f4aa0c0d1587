//! Writing functions with the real binary: new, build, test, invoke; record on a running gateway, replay anywhere.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod cases;
mod guide;
mod languages;
mod recording;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What the program said.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }

    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text) || self.err.contains(text), "no `{text}` in: {}{}", self.out, self.err);
        }
        self
    }
}

/// `weir`, ready for arguments, in a folder; compilers that `cargo xtask languages` fetched are found.
fn weir(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(folder);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fetched =
        [("WEIR_ZIG", "target/cross/zig/ziglang/zig"), ("WEIR_ASC", "target/languages/node_modules/.bin/asc")];
    for (name, file) in fetched.map(|(name, file)| (name, root.join(file))) {
        if std::env::var_os(name).is_none() && file.is_file() {
            command.env(name, file);
        }
    }
    command
}

/// Runs `weir LINE`, with this on its standard input.
fn run(folder: &Path, line: &str, input: &str) -> Answer {
    let mut command = weir(folder);
    command.args(line.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses before it reads has closed the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A function's folder with a module of WAT.
fn function(folder: &Path, name: &str, body: &str, manifest: &str) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir_all(folder.join("cases")).unwrap();
    fs::write(folder.join("function.toml"), format!("name = \"{name}\"\n{manifest}")).unwrap();
    fs::write(folder.join(format!("{name}.wasm")), support::middle::module(body)).unwrap();
    folder
}
