//! Which gateway a tool is about: `FILE` (its `gateway.toml`) or `--dir DIR` (its data folder, when the file is not at hand).
//!
//! - A file with faults will do: at three in the morning the store matters more than the configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::arguments::{WrongUse, only_file};
use super::{DEFAULT_FILE, EXIT_CONFIG, site};
use crate::config::{self, Config};
use crate::printable::Escaped;
use crate::shell::logging::LINE_BYTES_MAX;
use crate::shell::store::inspect::InspectError;
use crate::strict::{Faults, Severity};

/// There is no store to look at (`EX_NOINPUT`).
pub(super) const EXIT_NO_STORE: u8 = 66;
/// A gateway has the folder: try again when it is stopped (`EX_TEMPFAIL`).
pub(super) const EXIT_IN_USE: u8 = 75;
/// A finding that somebody should look at.
pub(super) const EXIT_WARNING: u8 = 1;
/// A finding that somebody must look at.
pub(super) const EXIT_FAILURE: u8 = 2;

/// Where the gateway is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
}

/// What was found there.
pub(super) struct Found {
    pub(super) dir: PathBuf,
    /// `None` with `--dir`.
    pub(super) config: Option<Config>,
}

impl Place {
    /// `FILE` of the command line.
    pub(super) fn set_file(&mut self, value: std::ffi::OsString) -> Result<(), WrongUse> {
        only_file(&mut self.file, value)
    }

    /// `--dir DIR`.
    pub(super) fn set_dir(&mut self, value: std::ffi::OsString) {
        self.dir = Some(PathBuf::from(value));
    }

    /// The file, where one is named or none needs to be.
    pub(super) fn file(&self) -> Option<&Path> {
        match (&self.file, &self.dir) {
            (Some(file), _) => Some(file),
            (None, None) => Some(Path::new(DEFAULT_FILE)),
            (None, Some(_)) => None,
        }
    }

    /// Finds the data folder. What is wrong goes to standard error.
    pub(super) fn find(&self) -> Result<Found, ExitCode> {
        let config = self.file().map(read).transpose()?;
        match (&self.dir, config) {
            (Some(dir), config) => Ok(Found { dir: dir.clone(), config }),
            (None, Some(config)) => Ok(Found { dir: config.store.dir.clone(), config: Some(config) }),
            (None, None) => unreachable!("without --dir there is a file"),
        }
    }
}

fn read(file: &Path) -> Result<Config, ExitCode> {
    let faults = Faults::default();
    let loaded = config::load(file, None, &site::Machine, &faults);
    let refused = faults.refused();
    let list = faults.into_list();
    match loaded {
        Some(loaded) => {
            if refused {
                eprintln!("{}: has faults, `weir check` shows them; going on with what can be read", file.display());
            }
            Ok(loaded.config)
        }
        None => {
            list.iter().filter(|fault| fault.severity == Severity::Refusal).for_each(|fault| eprintln!("{fault}"));
            eprintln!("name the gateway's file, or its data folder with --dir DIR");
            Err(ExitCode::from(EXIT_CONFIG))
        }
    }
}

/// Says why a store cannot be looked at.
pub(super) fn no_store(command: &str, error: &InspectError) -> ExitCode {
    eprintln!("{command}: {error}");
    ExitCode::from(match error {
        InspectError::Missing(_) | InspectError::NoStore(_) => EXIT_NO_STORE,
        InspectError::Io(..) | InspectError::Disk(..) => super::EXIT_FLASH,
    })
}

/// Text of devices and files, for a terminal: one line, escaped, cut at [`LINE_BYTES_MAX`].
pub(super) fn escaped(text: &str) -> String {
    let mut line = Escaped(text).to_string();
    if LINE_BYTES_MAX < line.len() {
        let end = (0..=LINE_BYTES_MAX).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}
