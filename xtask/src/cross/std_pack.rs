//! Rust's standard library for a target, compiled once from Debian's source, in a sysroot of its own: `target/cross/sysroot`.
//!
//! - It serves every profile and target folder, and afterwards cargo is called as with a target of rustup's.
//! - It follows the compiler: another version begins anew.
//! - Nothing outside of `target/` is written, and no toolchain is linked into rustup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::target::Target;
use super::{musl, zig};
use crate::{debian, need};

/// A compiler and a sysroot that has the target.
pub struct StdPack {
    /// In place of `rustc`: names the sysroot, and is Debian's compiler.
    pub rustc: PathBuf,
}

impl StdPack {
    /// Finds or makes the library of `target` within `folder`.
    pub fn get(folder: &Path, target: &Target) -> Result<Self, String> {
        let why = format!("building for {} needs Rust's standard library for it, or its source", target.triple);
        let compiler = debian::rustc(&why)?;
        let sysroot = folder.join("sysroot");
        let rustc = prepare(&sysroot, &compiler)?;
        let lib = sysroot.join("lib/rustlib").join(target.triple).join("lib");
        if !lib.is_dir() {
            eprintln!("xtask: compiling Rust's standard library for {} (once, a minute or two)", target.triple);
            let made = compile(folder, &compiler, target)?;
            let fresh = lib.with_extension("new");
            let _ = fs::remove_dir_all(&fresh);
            collect(&made, &fresh)?;
            let zig = zig::get(folder)?;
            musl::self_contained(&zig, folder, target, &fresh.join("self-contained"))?;
            fs::rename(&fresh, &lib).map_err(|error| format!("{}: {error}", lib.display()))?;
            let _ = fs::remove_dir_all(folder.join("std-build"));
        }
        Ok(Self { rustc })
    }
}

/// The sysroot with what the host needs for build scripts and macros; answers its `rustc`.
fn prepare(sysroot: &Path, compiler: &Path) -> Result<PathBuf, String> {
    let version = need::output(Command::new(compiler).arg("-vV")).ok_or("Debian's rustc does not answer")?;
    let stamp = sysroot.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|old| old != version) {
        eprintln!("xtask: another rustc than last time: its libraries are made anew");
        fs::remove_dir_all(sysroot).map_err(|error| format!("{}: {error}", sysroot.display()))?;
    }
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not name its host")?;
    let own = need::output(Command::new(compiler).args(["--print", "sysroot"])).ok_or("rustc has no sysroot")?;
    let rustlib = sysroot.join("lib/rustlib");
    fs::create_dir_all(&rustlib).map_err(|error| format!("{}: {error}", rustlib.display()))?;
    let link = rustlib.join(host);
    if !link.exists() {
        let theirs = Path::new(own.trim()).join("lib/rustlib").join(host);
        std::os::unix::fs::symlink(theirs, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    }
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' --sysroot'*) exec '{0}' \"$@\" ;; esac\nexec '{0}' --sysroot '{1}' \"$@\"\n",
        compiler.display(),
        sysroot.display()
    );
    let rustc = zig::script(&sysroot.join("bin/rustc"), &text)?;
    need::write(&stamp, version.as_bytes())?;
    Ok(rustc)
}

/// Builds the library as the dependency of an empty crate; answers the folder of its `.rlib` files.
fn compile(folder: &Path, compiler: &Path, target: &Target) -> Result<PathBuf, String> {
    let work = folder.join("std-build").join(target.triple);
    need::write(&work.join("src/lib.rs"), b"#![no_std]\n")?;
    need::write(
        &work.join("Cargo.toml"),
        b"[package]\nname = \"std-seed\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
          [profile.release]\nopt-level = 3\ncodegen-units = 1\ndebug = false\n",
    )?;
    // std is built to unwind, but its crate panic_abort must be built to abort.
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' --crate-name panic_abort '*) exec '{0}' \"$@\" -Cpanic=abort ;; esac\nexec '{0}' \"$@\"\n",
        compiler.display()
    );
    let rustc = zig::script(&work.join("rustc"), &text)?;
    let mut cargo = super::plain_cargo();
    cargo
        .env_remove("RUSTUP_TOOLCHAIN")
        .current_dir(&work)
        .env("CARGO_TARGET_DIR", work.join("target"))
        .env("RUSTC", rustc);
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cembed-bitcode=yes -Cforce-unwind-tables=yes");
    need::run(cargo.args([
        "build",
        "--quiet",
        "--release",
        "-Zbuild-std=std,panic_abort,test",
        "--target",
        target.triple,
    ]))?;
    Ok(work.join("target").join(target.triple).join("release/deps"))
}

fn collect(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for entry in fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.contains("std_seed") {
            fs::copy(entry.path(), to.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(())
}
