//! The linker for wasm: the first that knows `--page-size` (LLD 22), so that a memory is as large as it must be and not 64 KiB;
//! else the first that links wasm at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::find::{Tool, find, output, run};
use super::{Trouble, rust, zig};

/// As functions in Rust are linked (`functions/.cargo/config.toml`).
const FLAGS: [&str; 8] = [
    "--no-entry",
    "-z",
    "stack-size=2048",
    "--stack-first",
    "--no-growable-memory",
    "--strip-all",
    "--keep-section=name",
    "--compress-relocations",
];
/// What the gateway looks for in a module. (C marks its exports itself.)
const EXPORTS: [&str; 5] = ["weir_abi", "weir_buf", "on_start", "on_event", "on_interval"];

/// A program that links wasm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// The program.
    pub tool: Tool,
    /// Knows `--page-size`.
    pub small_pages: bool,
}

impl Linker {
    /// The best of this machine: `$WEIR_WASM_LD`, or what rustup, Debian's packages or zig brought.
    #[must_use]
    pub fn find() -> Option<Self> {
        if let Some(file) = std::env::var_os("WEIR_WASM_LD") {
            return Self::probe(plain(file.into()));
        }
        let mut best: Option<Self> = None;
        for linker in Self::candidates().into_iter().filter_map(Self::probe) {
            if linker.small_pages {
                return Some(linker);
            }
            best = best.or(Some(linker));
        }
        // Asked last: it takes its time.
        let by_zig = || Self::probe(zig::find()?.and("wasm-ld"));
        match best {
            Some(best) => by_zig().filter(|linker| linker.small_pages).or(Some(best)),
            None => by_zig(),
        }
    }

    /// The best, or what to install.
    ///
    /// # Errors
    /// There is none.
    pub fn get() -> Result<Self, Trouble> {
        Self::find().ok_or_else(|| {
            Trouble::Missing(
                "no linker for wasm: one comes with Rust (https://rustup.rs), with LLD (sudo apt-get install lld) and with zig \
                 (pip install ziglang); or name yours: WEIR_WASM_LD=FILE"
                    .to_owned(),
            )
        })
    }

    /// rustup's own, then whatever lies in `PATH` under the names that Debian gives.
    fn candidates() -> Vec<Tool> {
        let mut files = Vec::new();
        let (sysroot, host) = (output(Command::new("rustc").args(["--print", "sysroot"])), rust::host());
        if let (Some(sysroot), Some(host)) = (sysroot, host) {
            files.push(Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld"));
        }
        files.extend(find("rust-lld"));
        let versions = ["", "-24", "-23", "-22", "-21", "-20", "-19", "-18", "-17", "-16"];
        files.extend(versions.iter().filter_map(|version| find(&format!("wasm-ld{version}"))));
        files.into_iter().map(plain).collect()
    }

    fn probe(tool: Tool) -> Option<Self> {
        let text = output(tool.command().arg("--help"))?;
        // Older ones cannot keep a memory from growing, or keep the names of functions.
        let usable = text.contains("--no-growable-memory") && text.contains("--keep-section");
        usable.then(|| Self { small_pages: text.contains("--page-size"), tool })
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}, {}", self.tool.shown(), if self.small_pages { "pages of 1 byte" } else { "pages of 64 KiB" })
    }

    /// Links one object to a function.
    ///
    /// # Errors
    /// The linker says no.
    pub fn link(&self, object: &Path, module: &Path) -> Result<(), Trouble> {
        let mut link = self.tool.command();
        if self.small_pages {
            link.arg("--page-size=1");
        }
        link.args(FLAGS).args(EXPORTS.map(|name| format!("--export-if-defined={name}")));
        run(link.arg(object).arg("-o").arg(module), "the linker")
    }
}

/// A linker in its role as wasm's.
fn plain(file: PathBuf) -> Tool {
    let words = if file.ends_with("rust-lld") { vec!["-flavor".to_owned(), "wasm".to_owned()] } else { Vec::new() };
    Tool { file, words }
}
