//! zig as a C cross compiler: it has musl and its headers for every target inside, for the exact processor.
//!
//! - Found in `PATH`, as a Python module, or fetched by pip into `target/cross/zig`; nothing of the system is changed.
//! - `cc` of it does not know Rust's names of targets, which the `cc` crate hands over: a script takes them away.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::target::Target;
use crate::need;

/// The version that is fetched: what the recipe was proved with.
const PIP_PACKAGE: &str = "ziglang==0.17.1";

/// The program: `$WEIR_ZIG`, the one fetched before, or one that the machine has.
pub fn find(folder: &Path) -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("WEIR_ZIG") {
        return Some(file.into());
    }
    let fetched = folder.join("zig/ziglang/zig");
    if fetched.is_file() {
        return Some(fetched);
    }
    need::find("zig").or_else(|| {
        let module = "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";
        let file = need::output(Command::new("python3").args(["-c", module]))?;
        Some(PathBuf::from(file.trim())).filter(|file| file.is_file())
    })
}

/// The program, fetched if it is missing.
pub fn get(folder: &Path) -> Result<PathBuf, String> {
    if let Some(file) = find(folder) {
        return Ok(file);
    }
    eprintln!("xtask: fetching {PIP_PACKAGE} by pip (a C compiler for every target, some 400 MB unpacked)");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
    ]);
    let fetched = need::run(pip.arg("--target").arg(folder.join("zig")).arg(PIP_PACKAGE));
    find(folder).ok_or_else(|| {
        let why = fetched.err().map(|why| format!(" ({why})")).unwrap_or_default();
        format!(
            "no zig, and pip did not get it{why}; install it yourself: pip install {PIP_PACKAGE}, or set WEIR_ZIG=FILE"
        )
    })
}

/// `zig` with its cache in `folder`, so that nothing lands in a home folder.
pub fn command(zig: &Path, folder: &Path) -> Command {
    let mut command = Command::new(zig);
    command.env("ZIG_GLOBAL_CACHE_DIR", folder.join("zig-cache")).env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"));
    command
}

/// Scripts that are a C compiler and an archiver for `target`.
pub fn scripts(zig: &Path, folder: &Path, target: &Target) -> Result<(PathBuf, PathBuf), String> {
    let bin = folder.join("bin");
    let (zig, cache) = (zig.display(), folder.join("zig-cache"));
    let head = format!("#!/bin/sh\nexport ZIG_GLOBAL_CACHE_DIR='{0}' ZIG_LOCAL_CACHE_DIR='{0}'\n", cache.display());
    let cc = format!(
        "{head}for argument do\n  shift\n  case $argument in\n    --target=*|-march=*|-mfpu=*|-mfloat-abi=*|-marm) ;;\n    \
         *) set -- \"$@\" \"$argument\" ;;\n  esac\ndone\n\
         exec '{zig}' cc -target {} -mcpu={} -fno-sanitize=undefined \"$@\"\n",
        target.zig, target.zig_cpu
    );
    let ar = format!("{head}exec '{zig}' ar \"$@\"\n");
    Ok((script(&bin.join(format!("{}-cc", target.triple)), &cc)?, script(&bin.join("zig-ar"), &ar)?))
}

/// Writes an executable script.
pub fn script(file: &Path, text: &str) -> Result<PathBuf, String> {
    need::write(file, text.as_bytes())?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file.to_owned())
}
