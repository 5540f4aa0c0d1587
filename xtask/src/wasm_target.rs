//! How to build for `wasm32-unknown-unknown` here: a compiler with `core` for it, and a linker.
//!
//! The first that works: the active toolchain has the target; `rustup target add` (not with `WEIR_NO_RUSTUP=1`); Debian's
//! compiler and library source, from which cargo builds `core` once into `target/`. Guests are `no_std`: nothing else is
//! needed. The linker is the first that knows `--page-size` (LLD 22), so that a memory is as large as it must be and not
//! 64 KiB; else the first that links wasm at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{debian, need};

const TARGET: &str = "wasm32-unknown-unknown";
const RUSTUP_SECONDS: u32 = 90;

/// What builds guests on this machine.
pub struct WasmTarget {
    route: Route,
    linker: Linker,
}

enum Route {
    /// The active toolchain has the target.
    Active,
    /// This compiler builds `core` itself.
    BuildCore(PathBuf),
}

/// A program that links wasm.
struct Linker {
    file: PathBuf,
    /// Knows `--page-size`.
    small_pages: bool,
}

impl WasmTarget {
    /// Finds or makes it.
    pub fn get() -> Result<Self, String> {
        let route = if active_has_target() || rustup_adds_target() {
            Route::Active
        } else {
            Route::BuildCore(debian::rustc(&why())?)
        };
        Ok(Self { route, linker: Linker::get()? })
    }

    /// `cargo`, ready to build in `folder` (a workspace whose `.cargo/config.toml` names the target) into `target_dir`.
    pub fn cargo(&self, folder: &Path, target_dir: &Path) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(folder).env("CARGO_TARGET_DIR", target_dir);
        // Flags in the environment would replace those of the workspace's own configuration.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
            cargo.env_remove(name);
        }
        cargo.arg("--config").arg(format!("target.{TARGET}.linker='{}'", self.linker.file.display()));
        if self.linker.small_pages {
            cargo.arg("--config").arg(format!("target.{TARGET}.rustflags=['-Clink-arg=--page-size=1']"));
        }
        if let Route::BuildCore(rustc) = &self.route {
            cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core");
        }
        cargo
    }

    /// The linker, told of small pages if it knows them.
    pub fn link(&self) -> Command {
        let mut link = command(&self.linker.file);
        if self.linker.small_pages {
            link.arg("--page-size=1");
        }
        link
    }

    /// One line for the reader.
    pub fn describe(&self) -> String {
        let route = match &self.route {
            Route::Active => "the active toolchain".to_owned(),
            Route::BuildCore(rustc) => format!("{} with its own core", rustc.display()),
        };
        let pages = if self.linker.small_pages { "pages of 1 byte" } else { "pages of 64 KiB" };
        format!("{route}, {}, {pages}", self.linker.file.display())
    }

    /// Folder of the modules within the target folder.
    pub fn modules(target_dir: &Path) -> PathBuf {
        target_dir.join(TARGET).join("release")
    }
}

fn why() -> String {
    format!(
        "functions need Rust's core for {TARGET}; with internet and rustup, `rustup target add {TARGET}` is the quickest"
    )
}

fn active_has_target() -> bool {
    let folder = need::output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    folder.is_some_and(|folder| need::has_file(Path::new(folder.trim()), "libcore-"))
}

fn rustup_adds_target() -> bool {
    if std::env::var_os("WEIR_NO_RUSTUP").is_some_and(|value| value == "1") || need::find("rustup").is_none() {
        return false;
    }
    eprintln!("xtask: rustup target add {TARGET}");
    need::run_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_SECONDS) && active_has_target()
}

impl Linker {
    fn get() -> Result<Self, String> {
        if let Some(linker) = Self::best() {
            return Ok(linker);
        }
        let known = ["lld-22", "lld-21", "lld-20", "lld-19", "lld"].into_iter().find(|name| need::apt_knows(name));
        need::apt_install("functions need a linker for wasm", &[known.unwrap_or("lld")])?;
        Self::best().ok_or_else(|| "lld was installed, but no wasm-ld is found in PATH".to_owned())
    }

    fn best() -> Option<Self> {
        if let Some(file) = std::env::var_os("WEIR_WASM_LD") {
            return Self::probe(file.into());
        }
        let mut works: Vec<Self> = Self::candidates().into_iter().filter_map(Self::probe).collect();
        let best = works.iter().position(|linker| linker.small_pages).unwrap_or(0);
        (best < works.len()).then(|| works.swap_remove(best))
    }

    /// rustup's own, then whatever lies in `PATH` under the names that Debian gives.
    fn candidates() -> Vec<PathBuf> {
        let mut files = Vec::new();
        let (sysroot, host) = (need::output(Command::new("rustc").args(["--print", "sysroot"])), host());
        if let (Some(sysroot), Some(host)) = (sysroot, host) {
            files.push(Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld"));
        }
        let versions = ["", "-24", "-23", "-22", "-21", "-20", "-19", "-18", "-17", "-16"];
        files.extend(need::find("rust-lld"));
        files.extend(versions.iter().filter_map(|version| need::find(&format!("wasm-ld{version}"))));
        files
    }

    fn probe(file: PathBuf) -> Option<Self> {
        let text = need::output(command(&file).arg("--help"))?;
        // Older ones cannot keep a memory from growing, or keep the names of functions.
        let usable = text.contains("--no-growable-memory") && text.contains("--keep-section");
        usable.then(|| Self { small_pages: text.contains("--page-size"), file })
    }
}

/// The linker in its role as wasm's.
fn command(file: &Path) -> Command {
    let mut command = Command::new(file);
    if file.ends_with("rust-lld") {
        command.args(["-flavor", "wasm"]);
    }
    command
}

/// The triple of this machine.
pub fn host() -> Option<String> {
    let text = need::output(Command::new("rustc").arg("-vV"))?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}
