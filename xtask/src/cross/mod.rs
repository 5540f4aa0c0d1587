//! How to build the gateway for another processor here, on one command line for everybody.
//!
//! The first that works is taken, and said:
//! 1. rustup's target (there, or added) with LLVM's linker;
//! 2. `cross` with the repository's `Cross.toml`, where it and a container engine are there;
//! 3. the distribution's compiler, and the standard library that is made of its source ([`std_pack`]).
//!
//! With `WEIR_NO_RUSTUP=1` the first is taken only if the target is there already, and the second, which changes rustup's
//! toolchains, never. ring's C and assembler want a C compiler besides: one made for the target, or zig.

mod musl;
mod std_pack;
pub mod target;
pub mod zig;

use std::path::{Path, PathBuf};
use std::process::Command;

use std_pack::StdPack;
pub use target::{TARGETS, Target};

use crate::need;

const RUSTUP_SECONDS: u32 = 120;

/// What builds for one target on this machine.
pub struct Cross {
    /// The target.
    pub target: &'static Target,
    route: Route,
    c: Option<C>,
}

enum Route {
    /// The active toolchain has the target; the linker.
    Rustup(PathBuf),
    /// `cross` brings everything along.
    Cross,
    /// Debian's compiler; the linker.
    Distribution(StdPack, PathBuf),
}

/// A C compiler and archiver.
struct C {
    cc: PathBuf,
    ar: Option<PathBuf>,
}

impl Cross {
    /// Finds or makes it; what is made lies in `target/cross` of the project at `root`.
    pub fn get(root: &Path, target: &'static Target) -> Result<Self, String> {
        let folder = &root.join("target/cross");
        if rustup_has(target) {
            let linker = linker().ok_or("rustup's toolchain has no rust-lld; reinstall it")?;
            return Ok(Self { target, route: Route::Rustup(linker), c: Some(C::get(folder, target)?) });
        }
        if cross_works() {
            return Ok(Self { target, route: Route::Cross, c: None });
        }
        let pack = StdPack::get(folder, target)?;
        let linker = match linker() {
            Some(linker) => linker,
            None => {
                let package = if need::apt_knows("rust-web-llvm") { "rust-web-llvm" } else { "rust-lld" };
                need::apt_install("cross builds need LLVM's linker", &[package])?;
                linker().ok_or("rust-lld was installed, but is not found")?
            }
        };
        Ok(Self { target, route: Route::Distribution(pack, linker), c: Some(C::get(folder, target)?) })
    }

    /// `cargo SUBCOMMAND --target T`, or the same of `cross`, ready to run in `root`.
    pub fn cargo(&self, root: &Path, subcommand: &str) -> Command {
        let target = self.target;
        let (mut cargo, linker) = match &self.route {
            Route::Cross => (Command::new("cross"), None),
            Route::Rustup(linker) => (plain_cargo(), Some(linker)),
            Route::Distribution(pack, linker) => {
                let mut cargo = plain_cargo();
                // Debian's compiler, whatever toolchain called us.
                cargo.env_remove("RUSTUP_TOOLCHAIN").env("RUSTC", &pack.rustc);
                (cargo, Some(linker))
            }
        };
        cargo.current_dir(root);
        if let Some(linker) = linker {
            let upper = target.upper();
            cargo.env(format!("CARGO_TARGET_{upper}_LINKER"), linker);
            if !target.runner.is_empty() {
                cargo.env(format!("CARGO_TARGET_{upper}_RUNNER"), target.runner.join(" "));
            }
        }
        if let Some(c) = &self.c {
            cargo.env(format!("CC_{}", target.lower()), &c.cc);
            if let Some(ar) = &c.ar {
                cargo.env(format!("AR_{}", target.lower()), ar);
            }
        }
        cargo.args([subcommand, "--target", target.triple]);
        if linker.is_some() {
            // Paths of this machine do not belong into what others run: `panicked at` begins at the crate.
            let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
            let flags = [remap(&cargo_home().join("registry/src"), "/crates"), remap(root, "/weir")];
            cargo.arg("--config").arg(format!("target.{}.rustflags={flags:?}", target.triple));
        }
        cargo
    }

    /// Whether the linker is told to write its map: that of `cross` is another's.
    pub fn has_map(&self) -> bool {
        !matches!(self.route, Route::Cross)
    }

    /// One line for the reader: which way was taken.
    pub fn describe(&self) -> String {
        let route = match &self.route {
            Route::Rustup(linker) => format!("rustup's target, {}", linker.display()),
            Route::Cross => "cross with Cross.toml".to_owned(),
            Route::Distribution(_, linker) => {
                format!("the distribution's compiler with its own std, {}", linker.display())
            }
        };
        let c = self.c.as_ref().map(|c| format!(", C by {}", c.cc.display())).unwrap_or_default();
        format!("{}: {route}{c}", self.target.triple)
    }
}

impl C {
    fn get(folder: &Path, target: &Target) -> Result<Self, String> {
        if let Some(cc) = std::env::var_os(format!("CC_{}", target.lower())) {
            return Ok(Self { cc: cc.into(), ar: None });
        }
        let zig = match zig::find(folder) {
            Some(zig) => zig,
            None => match target.gcc.iter().find_map(|name| need::find(name)) {
                Some(cc) => return Ok(Self { cc, ar: None }),
                None => {
                    zig::get(folder).map_err(|why| format!("{why}; or install one of {}", target.gcc.join(", ")))?
                }
            },
        };
        let (cc, ar) = zig::scripts(&zig, folder, target)?;
        Ok(Self { cc, ar: Some(ar) })
    }
}

/// cargo without what a user's environment would mix into a cross build.
fn plain_cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    cargo
}

/// Where cargo keeps the sources of crates.
fn cargo_home() -> PathBuf {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).unwrap_or_default()
}

/// Whether `WEIR_NO_RUSTUP=1` forbids to change rustup's toolchains.
fn no_rustup() -> bool {
    std::env::var_os("WEIR_NO_RUSTUP").is_some_and(|value| value == "1")
}

fn rustup_has(target: &Target) -> bool {
    let has = || {
        let folder = need::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target.triple]));
        folder.is_some_and(|folder| need::has_file(Path::new(folder.trim()), "libstd-"))
    };
    if has() {
        return true;
    }
    if no_rustup() || need::find("rustup").is_none() {
        return false;
    }
    eprintln!("xtask: rustup target add {}", target.triple);
    need::run_within(Command::new("rustup").args(["target", "add", target.triple]), RUSTUP_SECONDS) && has()
}

/// `cross` needs a container engine that answers.
fn cross_works() -> bool {
    let engine = || ["docker", "podman"].iter().any(|engine| need::output(Command::new(engine).arg("info")).is_some());
    !no_rustup() && need::find("cross").is_some() && engine()
}

/// LLVM's linker: that of the active toolchain, or Debian's.
fn linker() -> Option<PathBuf> {
    let own = || {
        let sysroot = need::output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let host = crate::wasm_target::host()?;
        Some(Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld"))
            .filter(|file| file.is_file())
    };
    own().or_else(|| need::find("rust-lld"))
}
