//! Functions in C: `functions/NAME/NAME.c` with `functions/c/weir.h`, by a clang that knows wasm32, where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::need;
use crate::wasm_target::WasmTarget;

/// As the functions in Rust are linked (`functions/.cargo/config.toml`).
const LINK: [&str; 8] = [
    "--no-entry",
    "-z",
    "stack-size=2048",
    "--stack-first",
    "--no-growable-memory",
    "--strip-all",
    "--keep-section=name",
    "--compress-relocations",
];
const COMPILE: [&str; 8] =
    ["--target=wasm32-unknown-unknown", "-std=c17", "-Os", "-ffreestanding", "-mbulk-memory", "-Wall", "-Wextra", "-c"];

/// The first clang in `PATH`, also under the names that Debian gives, that makes wasm.
pub fn clang() -> Option<PathBuf> {
    let versions = ["", "-22", "-21", "-20", "-19", "-18", "-17", "-16", "-15", "-14"];
    let mut found = versions.iter().filter_map(|version| need::find(&format!("clang{version}")));
    found.find(|clang| {
        need::output(Command::new(clang).arg("--print-targets")).is_some_and(|text| text.contains(" wasm32 "))
    })
}

/// Compiles and links `source/NAME/NAME.c` into `folder`; the module's file.
pub fn build(clang: &Path, wasm: &WasmTarget, source: &Path, folder: &Path, name: &str) -> Result<PathBuf, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let object = folder.join(name).with_extension("o");
    let module = folder.join(name).with_extension("wasm");
    let mut compile = Command::new(clang);
    compile.args(COMPILE).arg("-I").arg(source.join("c"));
    need::run(compile.arg(source.join(name).join(name).with_extension("c")).arg("-o").arg(&object))?;
    need::run(wasm.link().args(LINK).arg(&object).arg("-o").arg(&module))?;
    Ok(module)
}
