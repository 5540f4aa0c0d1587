//! The compilers for functions in C, Zig and AssemblyScript, fetched into `target/` by pip and npm, where the machine has none.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cross::zig;
use crate::{need, toolchain};

/// What the SDK was proved with.
const NPM_PACKAGE: &str = "assemblyscript@0.28.20";

/// Where what was fetched lies.
pub fn folders(root: &Path) -> Vec<PathBuf> {
    vec![root.join("target/cross/zig/ziglang"), root.join("target/languages/node_modules/.bin")]
}

/// Fetches what is missing. zig is also the C compiler.
pub fn get(root: &Path) -> Result<(), String> {
    toolchain::find::look_first(folders(root));
    let zig = zig::get(&root.join("target/cross"))?;
    println!("C, Zig: {}", zig.display());
    if toolchain::assemblyscript::find(root).is_none() {
        if need::find("npm").is_none() {
            need::apt_install("functions in AssemblyScript need npm", &["npm"])?;
        }
        let folder = root.join("target/languages");
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        eprintln!("xtask: fetching {NPM_PACKAGE} by npm");
        need::run(
            Command::new("npm")
                .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder)
                .arg(NPM_PACKAGE),
        )?;
    }
    let asc = toolchain::assemblyscript::find(root).ok_or("npm brought no asc")?;
    println!("AssemblyScript: {}", asc.display());
    Ok(())
}
