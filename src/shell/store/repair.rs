//! Repair: what a start does with a damaged store, after a copy of everything damaged has been put aside.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::inspect::{InspectError, Inspection, inspect_owned, is_store};
use super::{Folder, Identity, OpenError, SledState, lock};
use crate::budget::costs;
use crate::config::Config;
use crate::entry::Entries;
use crate::store::{CommitError, Report, Store};
use crate::units::Bytes;

/// Why nothing was repaired.
#[derive(Debug)]
pub enum RepairError {
    /// A gateway has the folder, or it cannot be used.
    Open(OpenError),
    /// It cannot be read.
    Inspect(InspectError),
    /// The copies could not be made; the store is untouched.
    Copy(PathBuf, io::Error),
    /// The disk failed while the store was opened.
    Store(CommitError),
}

impl std::fmt::Display for RepairError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) => write!(f, "{error}"),
            Self::Inspect(error) => write!(f, "{error}"),
            Self::Copy(path, error) => write!(
                f,
                "{}: cannot keep a copy of what is damaged: {error}; nothing was changed. Make room, or copy the data folder away",
                path.display()
            ),
            Self::Store(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RepairError {}

/// What was done.
pub struct Repaired {
    /// The store as it was found.
    pub before: Inspection,
    /// What opening it did.
    pub report: Report,
    /// Where the copies are, if any were made.
    pub copies: Option<PathBuf>,
    /// A snapshot was written over the damage.
    pub snapshot: bool,
}

/// Repairs the store in `dir`.
pub fn repair(dir: &Path, config: Option<&Config>) -> Result<Repaired, RepairError> {
    if !dir.is_dir() {
        return Err(RepairError::Inspect(InspectError::Missing(dir.to_owned())));
    }
    if !is_store(dir) {
        return Err(RepairError::Inspect(InspectError::NoStore(dir.to_owned())));
    }
    let _lock = lock(dir).map_err(RepairError::Open)?;
    let (before, settings) = inspect_owned(dir, config).map_err(RepairError::Inspect)?;
    let damaged: Vec<String> = before.survey.damaged().map(|file| file.path.clone()).collect();
    let copies = keep_copies(dir, &damaged)?;
    let salt = Identity::open(dir).map_err(RepairError::Open)?.salt;
    let has_keyed = dir.join("state").is_dir();
    let keyed = has_keyed.then(|| SledState::new(&dir.join("state"), Bytes::mib(1)));
    let settings = crate::store::Settings { salt, dirty_bytes_max: costs::DIRTY_BYTES_MAX.as_usize(), ..settings };
    let (mut store, recovered) = Store::open(Folder::new(dir), keyed, &settings).map_err(RepairError::Store)?;
    // Whatever a hole has left is what counts from here on: the next start finds it whole.
    let snapshot = recovered.report.is_loss() || recovered.report.healed || recovered.report.bad_snapshots > 0;
    if snapshot && !recovered.entries.is_empty() {
        let mut entries = Entries::default();
        recovered.entries.iter().for_each(|(key, value)| entries.put(&[key], value));
        store.snapshot(entries.bytes()).map_err(RepairError::Store)?;
    }
    Ok(Repaired { before, report: recovered.report, copies, snapshot })
}

/// Copies the files to a new folder in `quarantine/`, durably.
fn keep_copies(dir: &Path, files: &[String]) -> Result<Option<PathBuf>, RepairError> {
    let present: Vec<&String> = files.iter().filter(|file| dir.join(file).is_file()).collect();
    if present.is_empty() {
        return Ok(None);
    }
    let quarantine = dir.join("quarantine");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| RepairError::Copy(path, error)
    };
    fs::create_dir_all(&quarantine).map_err(failed(&quarantine))?;
    let free = (1..).map(|number: u32| quarantine.join(format!("repair-{number:03}"))).find(|path| !path.exists());
    let target = free.expect("there are more numbers than folders");
    for file in present {
        let copy = target.join(file);
        let folder = copy.parent().unwrap_or(&target).to_owned();
        let make = || {
            fs::create_dir_all(&folder)?;
            fs::copy(dir.join(file), &copy)?;
            File::open(&copy)?.sync_all()?;
            File::open(&folder)?.sync_all()
        };
        make().map_err(failed(&copy))?;
    }
    for folder in [&target, &quarantine] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    }
    Ok(Some(target))
}
