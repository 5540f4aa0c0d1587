//! `weir build`: a function's folder compiled to its module, which is then loaded for a try, as a gateway would.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser};

use super::super::arguments::WrongUse;
use super::super::{EXIT_CONFIG, EXIT_UNAVAILABLE, modules, place, say};
use super::{only_dir, or_here, unknown};
use crate::manifest::Manifest;
use crate::shell::toolchain::{self, Language, Source, Trouble};

pub(super) fn parse(parser: &mut Parser) -> Result<Option<PathBuf>, WrongUse> {
    let mut dir = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Value(value) => only_dir(&mut dir, value)?,
            wrong => return Err(unknown(&wrong, "weir build", &["--help"])),
        }
    }
    Ok(Some(or_here(dir)))
}

pub(super) fn build(folder: &Path) -> ExitCode {
    let refuse = |why: &str, code: u8| {
        eprintln!("weir build: {why}");
        ExitCode::from(code)
    };
    let manifest = match modules::read_manifest(folder) {
        Ok(manifest) => manifest,
        Err(why) => return refuse(&why, EXIT_CONFIG),
    };
    let Some(language) = Language::of(folder, &manifest.name) else {
        let sources = Language::ALL.map(|language| language.source(&manifest.name)).join(", ");
        return refuse(&format!("{}: has none of {sources}", folder.display()), EXIT_CONFIG);
    };
    let work = folder.join("target");
    let compiled = toolchain::build(language, &Source { folder, name: &manifest.name, sdk: folder, work: &work });
    let compiled = match compiled {
        Ok(compiled) => compiled,
        Err(Trouble::Missing(what)) => return refuse(&what, EXIT_UNAVAILABLE),
        Err(Trouble::Failed(why)) => return refuse(&why, place::EXIT_WARNING),
    };
    let module = folder.join(&manifest.module);
    let place = |wasm: Vec<u8>| {
        std::fs::create_dir_all(module.parent().unwrap_or(folder))?;
        std::fs::write(&module, &wasm).map(|()| wasm)
    };
    let placed = std::fs::read(&compiled.module).and_then(place);
    let wasm = match placed {
        Ok(wasm) => wasm,
        Err(error) => return refuse(&format!("{}: {error}", module.display()), place::EXIT_WARNING),
    };
    say(&format!("{}: {} B, by {}\n", module.display(), wasm.len(), compiled.by));
    loads(&manifest, &wasm).unwrap_or_else(|why| refuse(&why, EXIT_CONFIG))
}

/// Whether a gateway takes it.
fn loads(manifest: &Manifest, wasm: &[u8]) -> Result<ExitCode, String> {
    let function = modules::load_one(manifest, wasm).map_err(|why| format!("a gateway refuses it: {why}"))?;
    say(&format!("memory {} of {}, {}\n", function.memory_peak(), manifest.limits.memory, function.reset()));
    Ok(ExitCode::SUCCESS)
}
