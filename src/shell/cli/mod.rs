//! The command line: `weir check`, `weir plan`, `weir init`, `weir run`, the tools for the person at 3 a.m., and those for writing
//! functions.
//!
//! - What a command says goes to standard output, what is wrong to standard error.
//! - Exit codes are those of sysexits: 0 ok, 64 wrong use, 65 data was lost, 69 cannot start, 73 cannot create, 74 flash failed,
//!   78 configuration refused. The help texts name them.
//! - `check` and `run` take the same way to a plan ([`examine`]), so that the one refuses what the other refuses.

mod arguments;
mod check;
mod dlq;
mod doctor;
mod help;
mod init;
mod modules;
mod place;
mod plan;
mod record;
mod run;
mod site;
mod status;
mod store;
#[cfg(feature = "author")]
mod write;

use std::path::Path;
use std::process::ExitCode;

use crate::budget::{self, Plan};
use crate::function::Function;
use crate::strict::{Fault, Faults};

use arguments::Command;

/// Wrong use of the command line (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// What was read is not what it should be (`EX_DATAERR`); of `run`: it ended as asked, and the store had lost acknowledged data when
/// it started.
pub const EXIT_DATA: u8 = 65;
/// A file cannot be created (`EX_CANTCREAT`).
pub const EXIT_CANNOT_CREATE: u8 = 73;
/// The store failed; a restart finds the truth (`EX_IOERR`).
pub const EXIT_FLASH: u8 = 74;
/// The gateway could not start (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The configuration is refused (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "gateway.toml";

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    match arguments::parse(lexopt::Parser::from_env()) {
        Ok(Command::Help(text)) => {
            say(text);
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            say(concat!("weir ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Ok(Command::Check(options)) => check::check(&options),
        Ok(Command::Plan { options, all }) => plan::plan(&options, all),
        Ok(Command::Init { file, force, board }) => init::init(&file, force, board.as_deref()),
        Ok(Command::Run(options)) => run::run(&options),
        Ok(Command::Status(options)) => status::status(&options),
        Ok(Command::Doctor(options)) => doctor::doctor(&options),
        Ok(Command::Store(options)) => store::run(&options),
        Ok(Command::Dlq(options)) => dlq::run(&options),
        Ok(Command::Record(options)) => record::record(&options),
        #[cfg(feature = "author")]
        Ok(Command::Write(options)) => write::run(&options),
        Err(wrong) => {
            eprintln!("weir: {wrong}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// What came of a configuration.
struct Examined {
    /// The plan, as far as the file could be read. It may be run only if `refused` is false.
    plan: Option<Plan>,
    faults: Vec<Fault>,
    refused: bool,
    /// Loaded, in the order of the configuration; whole if nothing is refused.
    functions: Vec<Function>,
}

/// Reads and adds up the configuration, and loads every module for a try.
fn examine(file: &Path, board: Option<&str>) -> Examined {
    let faults = Faults::default();
    let plan = budget::examine(file, board, &site::Machine, &faults);
    let load = |plan: &Plan| modules::load_all(&file.display().to_string(), plan, &faults);
    let functions = plan.as_ref().map(load).unwrap_or_default();
    let refused = faults.refused() || plan.is_none();
    Examined { plan, refused, functions, faults: faults.into_list() }
}

/// Prints, and takes a closed pipe (`weir check | head`) for the reader's choice.
fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(faults: &[Fault]) {
    for fault in faults {
        eprintln!("{fault}");
    }
}
