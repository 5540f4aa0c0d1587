//! Functions in AssemblyScript: `NAME.ts` with `weir.ts` as the library `weir`, by `asc`. Its memory is one page of 64 KiB.

use std::path::{Path, PathBuf};

use super::find::{find as find_program, run};
use super::{Compiled, Source, Trouble};

/// No heap that is managed, no import of the runtime's own; names are kept for reports of traps.
const FLAGS: [&str; 11] = [
    "-Osize",
    "--runtime",
    "stub",
    "--noAssert",
    "--initialMemory",
    "1",
    "--maximumMemory",
    "1",
    "--debug",
    "--use",
    "abort=~lib/weir/on_abort",
];

/// The compiler: `$WEIR_ASC`, that of the function's `node_modules` or one above it, or one in `PATH`.
#[must_use]
pub fn find(folder: &Path) -> Option<PathBuf> {
    // It is run from within the folder, so its path must not be relative.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    if let Some(file) = std::env::var_os("WEIR_ASC") {
        return Some(absolute(file.into()));
    }
    let folder = absolute(folder.to_owned());
    let near = folder.ancestors().map(|folder| folder.join("node_modules/.bin/asc")).find(|file| file.is_file());
    near.or_else(|| find_program("asc"))
}

/// Compiles.
///
/// # Errors
/// A tool is missing, or the source does not compile.
pub fn build(source: &Source<'_>) -> Result<Compiled, Trouble> {
    let missing = |what: &str| {
        let folder = source.folder.display();
        Trouble::Missing(format!(
            "{what}: run `npm install` in {folder} (package.json names it); or name yours: WEIR_ASC=FILE"
        ))
    };
    let Some(asc) = find(source.folder) else {
        return Err(match find_program("npm") {
            Some(_) => missing("no AssemblyScript compiler"),
            None => Trouble::Missing(
                "no AssemblyScript compiler, and no npm to get it: sudo apt-get install npm".to_owned(),
            ),
        });
    };
    if find_program("node").is_none() {
        return Err(Trouble::Missing("asc needs node: sudo apt-get install nodejs".to_owned()));
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let module = absolute(source.work.join(source.name).with_extension("wasm"));
    let mut compile = std::process::Command::new(&asc);
    // From within the folder, so that functions are named by their file and not by the way to it.
    compile
        .current_dir(source.folder)
        .arg(format!("{}.ts", source.name))
        .arg("--lib")
        .arg(absolute(source.sdk.to_owned()));
    run(compile.args(FLAGS).arg("--outFile").arg(&module), "asc")?;
    Ok(Compiled { module, by: format!("{}, pages of 64 KiB", asc.display()) })
}
