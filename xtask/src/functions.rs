//! Builds what lies in `functions/` to `target/functions/NAME/`: the module and its manifest, ready to be deployed.
//!
//! - A folder with a `function.toml` is a function; its package, or its one file in another language, bears the folder's name.
//! - Without a compiler for C, Zig or AssemblyScript the functions in it are left out, and a line says so.
//! - A module whose memory does not fit its manifest is refused here, not on the gateway.

use std::fs;
use std::path::{Path, PathBuf};

use crate::toolchain::{self, Language, Source, Trouble, rust};
use crate::wasm::Module;
use crate::wasm_target::WasmTarget;
use crate::{languages, need};

/// A function that was built.
pub struct Built {
    /// Its name.
    pub name: String,
    /// `target/functions/NAME`.
    pub folder: PathBuf,
    /// Bytes of the module.
    pub module_bytes: usize,
    /// Bytes of linear memory.
    pub memory_bytes: u64,
}

/// Builds all functions of the project at `root`. When nothing changed it takes about a second.
pub fn build(root: &Path) -> Result<Vec<Built>, String> {
    let source = root.join("functions");
    let target_dir = root.join("target/functions-build");
    toolchain::find::look_first(languages::folders(root));
    let wasm_target = WasmTarget::get()?;
    eprintln!("xtask: functions by {}", wasm_target.describe());
    let named = names(&source)?.into_iter().filter_map(|name| Some((Language::of(&source.join(&name), &name)?, name)));
    let (in_rust, others): (Vec<_>, Vec<_>) = named.partition(|(language, _)| *language == Language::Rust);
    let mut cargo = wasm_target.route.cargo(&wasm_target.linker, &source, &target_dir);
    cargo.args(["build", "--quiet", "--release"]);
    for (_, name) in &in_rust {
        cargo.args(["--package", name]);
    }
    need::run(&mut cargo).map_err(|error| {
        format!("the functions do not build ({error}). If it says that a crate cannot be downloaded: building core asks crates.io once")
    })?;
    let out = root.join("target/functions");
    let finish_rust = |(_, name): (Language, String)| finish(&source, &rust::module(&target_dir, &name), &out, name);
    let mut built: Vec<Built> = in_rust.into_iter().map(finish_rust).collect::<Result<_, _>>()?;
    for (language, name) in others {
        built.extend(other(language, &source, &target_dir, &out, name)?);
    }
    Ok(built)
}

/// One in another language; without its compiler it is left out, and a line says so.
fn other(
    language: Language,
    source: &Path,
    target_dir: &Path,
    out: &Path,
    name: String,
) -> Result<Option<Built>, String> {
    let sdk = source.join(language.name());
    let folder = source.join(&name);
    let work = target_dir.join(language.name());
    match toolchain::build(language, &Source { folder: &folder, name: &name, sdk: &sdk, work: &work }) {
        Ok(compiled) => finish(source, &compiled.module, out, name).map(Some),
        Err(Trouble::Missing(what)) => {
            eprintln!("xtask: LEFT OUT {name}, and with it its tests: {what} (or `cargo xtask languages`)");
            // What an earlier run left may be of another day.
            drop(fs::remove_dir_all(out.join(name)));
            Ok(None)
        }
        Err(Trouble::Failed(why)) => Err(format!("functions/{name}: {why}")),
    }
}

fn names(source: &Path) -> Result<Vec<String>, String> {
    let folders = fs::read_dir(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut names: Vec<String> = folders
        .flatten()
        .filter(|folder| folder.path().join("function.toml").is_file())
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn finish(source: &Path, file: &Path, out: &Path, name: String) -> Result<Built, String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let broken = || format!("{}: the linker's output is not a module with a memory and exports", file.display());
    let module = Module::parse(&bytes).ok_or_else(broken)?;
    let memory_bytes = module.memory_bytes().ok_or_else(broken)?;
    if let Some(import) = module.imports().ok_or_else(broken)?.iter().find(|import| !import.starts_with("weir1.")) {
        return Err(format!("functions/{name}: imports `{import}`, which no gateway offers; only `weir1` is"));
    }
    let manifest_file = source.join(&name).join("function.toml");
    let manifest =
        fs::read_to_string(&manifest_file).map_err(|error| format!("{}: {error}", manifest_file.display()))?;
    let manifest =
        granted(&manifest, memory_bytes).map_err(|error| format!("functions/{name}/function.toml: {error}"))?;
    let folder = out.join(&name);
    need::write(&folder.join(&name).with_extension("wasm"), &bytes)?;
    need::write(&folder.join("function.toml"), manifest.as_bytes())?;
    Ok(Built { name, folder, module_bytes: bytes.len(), memory_bytes })
}

/// The manifest, its `memory` raised to what 64 KiB pages take where the linker knows no smaller ones.
fn granted(manifest: &str, needed: u64) -> Result<String, String> {
    let Some(line) = manifest.lines().find(|line| line.trim_start().starts_with("memory ")) else {
        return Ok(manifest.to_owned());
    };
    let kib = line.split('"').nth(1).and_then(|size| size.strip_suffix(" KiB")).and_then(|size| size.parse().ok());
    let granted: u64 = kib.map(|kib: u64| kib * 1024).ok_or("write memory as \"N KiB\"")?;
    if needed <= granted {
        Ok(manifest.to_owned())
    } else if needed.is_multiple_of(64 * 1024) {
        Ok(manifest.replacen(line, &format!("memory = \"{} KiB\"", needed / 1024), 1))
    } else {
        Err(format!("limits.memory: grants {granted} bytes; the module has {needed}"))
    }
}

/// Name, module and memory of each, as a table.
pub fn table(built: &[Built]) -> String {
    let row = |one: &Built| {
        format!(
            "{:16} {:6} B module  {:6} B memory  {}\n",
            one.name,
            one.module_bytes,
            one.memory_bytes,
            one.folder.display()
        )
    };
    built.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_held_against_the_module() {
        let manifest = "name = \"f\"\n[limits]\nmemory = \"4 KiB\"\nfuel = 9\n";
        assert_eq!(granted(manifest, 4096).as_deref(), Ok(manifest));
        assert_eq!(granted(manifest, 65536), Ok(manifest.replace("4 KiB", "64 KiB")));
        assert!(granted(manifest, 4097).unwrap_err().contains("4097"));
        assert_eq!(granted("name = \"f\"", 65536).as_deref(), Ok("name = \"f\""));
    }
}
