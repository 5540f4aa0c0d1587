//! Writing functions: `weir new`, `build`, `test`, `invoke`, `replay`. None of them wants a gateway.

mod build;
mod invoke;
mod new;
mod replay;
mod template;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use super::arguments::{Command, WrongUse, unknown_option};
use super::{EXIT_CONFIG, EXIT_DATA, help, modules};
use crate::manifest::Manifest;

/// One of them, and what it is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Options {
    New(new::Options),
    Build(PathBuf),
    Test(test::Options),
    Invoke(invoke::Options),
    Replay(replay::Options),
}

pub(super) fn parse(command: &str, parser: &mut Parser) -> Result<Command, WrongUse> {
    let options = match command {
        "new" => new::parse(parser)?.map(Options::New),
        "build" => build::parse(parser)?.map(Options::Build),
        "test" => test::parse(parser)?.map(Options::Test),
        "invoke" => invoke::parse(parser)?.map(Options::Invoke),
        _ => replay::parse(parser)?.map(Options::Replay),
    };
    let text = |command: &str| help::COMMANDS.iter().find(|(name, _)| *name == command).map_or("", |(_, text)| *text);
    Ok(options.map_or_else(|| Command::Help(text(command)), Command::Write))
}

pub(super) fn run(options: &Options) -> ExitCode {
    match options {
        Options::New(options) => new::new(options),
        Options::Build(folder) => build::build(folder),
        Options::Test(options) => test::test(options),
        Options::Invoke(options) => invoke::invoke(options),
        Options::Replay(options) => replay::replay(options),
    }
}

/// `DIR`, given at most once; the folder where one is without it.
fn only_dir(dir: &mut Option<PathBuf>, value: std::ffi::OsString) -> Result<(), WrongUse> {
    match dir.replace(PathBuf::from(&value)) {
        None => Ok(()),
        Some(first) => {
            let second = value.to_string_lossy();
            Err(WrongUse::of(&format!("takes one DIR, got {} and {second}", first.display())))
        }
    }
}

fn or_here(dir: Option<PathBuf>) -> PathBuf {
    dir.unwrap_or_else(|| PathBuf::from("."))
}

/// `--set KEY=VALUE`.
fn setting(parser: &mut Parser) -> Result<(String, String), WrongUse> {
    let text = parser.value()?.string()?;
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| WrongUse::of(&format!("--set: `{}` is no KEY=VALUE", text.escape_debug())))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A function's manifest and module, or why not, on standard error.
fn bundle(command: &str, folder: &Path) -> Result<(Manifest, Vec<u8>), ExitCode> {
    modules::read_bundle(folder).map_err(|why| {
        let hint = if folder.join("function.toml").is_file() && why.contains(crate::config::NO_SUCH_FILE) {
            format!("; `weir build {}` makes it", folder.display())
        } else {
            String::new()
        };
        eprintln!("{command}: {why}{hint}");
        ExitCode::from(EXIT_CONFIG)
    })
}

/// The head of what is said of a function.
fn title(manifest: &Manifest, wasm: &[u8], digest: u64) -> String {
    format!("{} {}, {} B, digest {digest:016x}", manifest.name, manifest.version, wasm.len())
}

/// A wrong option of one of the commands.
fn unknown(wrong: &Arg<'_>, command: &str, known: &[&str]) -> WrongUse {
    unknown_option(wrong, command, known)
}
