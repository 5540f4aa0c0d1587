//! `weir init`: a commented file to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{EXIT_CANNOT_CREATE, EXIT_USAGE, say, site};
use crate::board::{BUILT_IN, Board};

/// The starting file. Lines `#key = value` name a key and its default; other comments are prose.
const STARTING_FILE: &str = include_str!("starting.toml");
/// The board that it names.
const BOARD: &str = "generic";
/// The function that it runs, where it lies at a site, and where `cargo xtask functions` puts it.
const FUNCTION: &str = "functions/threshold";
const FUNCTION_BUILT: &str = "target/functions/threshold";

pub(super) fn init(file: &Path, force: bool, board: Option<&str>) -> ExitCode {
    let board = board.unwrap_or(BOARD);
    if Board::built_in(board).is_none() {
        let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        eprintln!("weir init: --board: `{}` is none of {}", board.escape_debug(), known.join(", "));
        return ExitCode::from(EXIT_USAGE);
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let has = |path: &str| folder.join(path).join("threshold.wasm").is_file();
    let built = !has(FUNCTION) && has(FUNCTION_BUILT);
    let text = STARTING_FILE.replace(FUNCTION, if built { FUNCTION_BUILT } else { FUNCTION });
    let text = text.replacen(&format!("board = \"{BOARD}\""), &format!("board = \"{board}\""), 1);
    match options.open(file).and_then(|mut open| open.write_all(text.as_bytes())) {
        Ok(()) => {
            let name = file.display();
            let missing = if built || has(FUNCTION) {
                String::new()
            } else {
                format!(
                    "it wants {FUNCTION}, which is not there yet (`cargo xtask functions` builds it to {FUNCTION_BUILT})\n"
                )
            };
            say(&format!("{name} is written; edit it, then: weir check {name}\n{missing}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::AlreadyExists => String::from("is there already; --force overwrites it"),
                ErrorKind::NotFound => String::from("its folder does not exist"),
                _ => site::plain(&error),
            };
            eprintln!("weir init: {}: {why}", file.display());
            ExitCode::from(EXIT_CANNOT_CREATE)
        }
    }
}
