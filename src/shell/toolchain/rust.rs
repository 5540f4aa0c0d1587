//! Functions in Rust: a compiler with `core` for `wasm32-unknown-unknown`, or one that builds it itself. Guests are `no_std`:
//! nothing else is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::find::{find, has_file, output, run};
use super::{Compiled, Linker, Source, Trouble};

/// The target of functions.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Where Debian's compiler lies, whatever `PATH` finds first.
const DEBIANS: &str = "/usr/bin/rustc";
/// What the SDK is written in.
const MINOR_MIN: u32 = 90;

/// How the compiler comes to `core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The active toolchain has the target.
    Active,
    /// This compiler builds `core` itself, once.
    BuildCore(PathBuf),
}

impl Route {
    /// The active toolchain, if it has the target.
    #[must_use]
    pub fn active() -> Option<Self> {
        let folder = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
        has_file(Path::new(folder.trim()), "libcore-").then_some(Self::Active)
    }

    /// A compiler that has the source of its library: Debian's, or the active one with rust-src.
    #[must_use]
    pub fn build_core() -> Option<Self> {
        let found = [Some(PathBuf::from(DEBIANS)), find("rustc")].into_iter().flatten();
        found.into_iter().find(|rustc| has_source(rustc)).map(Self::BuildCore)
    }

    fn get() -> Result<Self, Trouble> {
        if find("cargo").is_none() {
            return Err(Trouble::Missing(
                "no cargo: get Rust from https://rustup.rs, then rustup target add wasm32-unknown-unknown; or \
                 sudo apt-get install cargo rustc rust-src lld (1.90 or newer)"
                    .to_owned(),
            ));
        }
        Self::active().or_else(Self::build_core).ok_or_else(|| {
            let fix = if find("rustup").is_some() {
                format!("rustup target add {TARGET}")
            } else {
                "sudo apt-get install rust-src (the compiler then builds it itself)".to_owned()
            };
            Trouble::Missing(format!("Rust has no library for {TARGET} here: {fix}"))
        })
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Active => "the active toolchain".to_owned(),
            Self::BuildCore(rustc) => format!("{} with its own core", rustc.display()),
        }
    }

    /// `cargo`, ready to build in `folder` (whose `.cargo/config.toml` names the target and flags) into `target_dir`.
    #[must_use]
    pub fn cargo(&self, linker: &Linker, folder: &Path, target_dir: &Path) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(folder).env("CARGO_TARGET_DIR", target_dir);
        // Flags in the environment would replace those of the workspace's own configuration.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
            cargo.env_remove(name);
        }
        // rustc speaks to a linker of this name in LLD's words; rust-lld learns its role from the flavour that rustc gives.
        if linker.tool.words.first().is_none_or(|word| word == "-flavor") {
            cargo.arg("--config").arg(format!("target.{TARGET}.linker='{}'", linker.tool.file.display()));
            if linker.small_pages {
                cargo.arg("--config").arg(format!("target.{TARGET}.rustflags=['-Clink-arg=--page-size=1']"));
            }
        }
        if let Self::BuildCore(rustc) = self {
            cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core");
        }
        cargo
    }
}

/// Whether a compiler is new enough and has the source of its library.
#[must_use]
pub fn has_source(rustc: &Path) -> bool {
    let Some(version) = output(Command::new(rustc).arg("--version")) else { return false };
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    let Some(sysroot) = output(Command::new(rustc).args(["--print", "sysroot"])) else { return false };
    MINOR_MIN <= minor && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

/// The triple of this machine.
#[must_use]
pub fn host() -> Option<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// The module of a package within a target folder.
#[must_use]
pub fn module(target_dir: &Path, package: &str) -> PathBuf {
    target_dir.join(TARGET).join("release").join(package.replace('-', "_")).with_extension("wasm")
}

/// Builds the package that bears the function's name.
///
/// # Errors
/// A tool is missing, or the source does not compile.
pub fn build(source: &Source<'_>) -> Result<Compiled, Trouble> {
    let (route, linker) = (Route::get()?, Linker::get()?);
    let target_dir = std::path::absolute(source.work).unwrap_or_else(|_| source.work.to_owned());
    let mut cargo = route.cargo(&linker, source.folder, &target_dir);
    let built = run(cargo.args(["build", "--quiet", "--release", "--package", source.name]), "cargo");
    built.map_err(|trouble| match (&route, trouble) {
        (Route::BuildCore(_), Trouble::Failed(why)) => Trouble::Failed(format!(
            "{why}; if it says that a crate cannot be downloaded: building core asks crates.io once"
        )),
        (_, trouble) => trouble,
    })?;
    let module = module(&target_dir, source.name);
    match module.is_file() {
        true => Ok(Compiled { module, by: format!("{}, {}", route.shown(), linker.shown()) }),
        false => Err(Trouble::Failed(format!(
            "cargo made no {}; Cargo.toml wants [lib] crate-type = [\"cdylib\"]",
            module.display()
        ))),
    }
}
