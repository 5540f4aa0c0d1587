//! A store looked at from outside: read only, also on a read-only medium, also beside a running gateway.
//!
//! - The shipped code opens the store over an [`Overlay`], so what is told is what a start would find; nothing is written.
//! - Beside a running gateway files come and go: the look is taken again until none did meanwhile. Only whole, committed frames
//!   are ever read: CRC and segment number keep everything else out.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Folder, SledState, Written};
use crate::config::{Config, StoreConfig};
use crate::entry::Space;
use crate::outbox::Outbox;
use crate::store::disk::Disk as _;
use crate::store::keyed::{Batch, Image, Keyed, Progress};
use crate::store::overlay::Overlay;
use crate::store::survey::{LaneRange, Survey, survey};
use crate::store::{CommitError, Recovered, Settings, Store, find_salt};
use crate::units::Bytes;

/// Looks taken beside a running gateway before the last one must do.
const LOOKS_MAX: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Where there is neither a configuration nor a file to tell.
const SEGMENT_BYTES: u32 = 512 * 1024;

/// Why a folder cannot be looked at.
#[derive(Debug)]
pub enum InspectError {
    /// There is no such folder.
    Missing(PathBuf),
    /// The folder holds no store.
    NoStore(PathBuf),
    /// It cannot be read.
    Io(PathBuf, io::Error),
    /// The disk fails.
    Disk(PathBuf, String),
}

impl std::fmt::Display for InspectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(dir) => write!(f, "{}: no such folder; a gateway makes it at its first start", dir.display()),
            Self::NoStore(dir) => {
                write!(
                    f,
                    "{}: holds no store (no identity, journal or lanes); is it the gateway.data-dir?",
                    dir.display()
                )
            }
            Self::Io(path, error) => write!(f, "{}: {error}; does it belong to another user?", path.display()),
            Self::Disk(dir, why) => write!(f, "{}: {why}", dir.display()),
        }
    }
}

impl std::error::Error for InspectError {}

/// What was found.
pub struct Inspection {
    /// A gateway has the folder.
    pub running: bool,
    /// It changed while it was read, however often that was tried: the newest figures may be behind.
    pub moving: bool,
    /// What a start would find.
    pub recovered: Recovered,
    /// The lanes with their heads.
    pub outbox: Outbox,
    /// What lies in each file.
    pub survey: Survey,
    /// The file `identity` is there; its number is that of the data.
    pub identity: (bool, bool),
    /// Bytes of the keyed copy; `None`: there is none.
    pub keyed_bytes: Option<u64>,
    store: Store<Overlay<Folder>, KeyedCopy>,
}

/// Looks at the store in `dir`. `config` is the gateway's, where it is known.
pub fn inspect(dir: &Path, config: Option<&Config>) -> Result<Inspection, InspectError> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(InspectError::Io(dir.to_owned(), io::Error::other("is a file, not a folder"))),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(InspectError::Missing(dir.to_owned())),
        Err(error) => return Err(InspectError::Io(dir.to_owned(), error)),
    }
    let mut looks = 0;
    loop {
        let running = is_running(dir)?;
        let before = names(dir)?;
        let look = look(dir, config, running).map(|(found, _)| found);
        looks += 1;
        let moved = running && names(dir)? != before;
        let last = looks == LOOKS_MAX;
        match look {
            Ok(mut found) if !running || last || !moved && !found.is_damaged() => {
                found.moving = moved;
                return Ok(found);
            }
            Err(error) if !running || last || matches!(error, InspectError::NoStore(_)) => return Err(error),
            Ok(_) | Err(_) => std::thread::sleep(LOOK_PAUSE),
        }
    }
}

/// The same for who holds the lock; and how the store is laid out.
pub fn inspect_owned(dir: &Path, config: Option<&Config>) -> Result<(Inspection, Settings), InspectError> {
    look(dir, config, false)
}

/// Whether a gateway has the folder.
pub fn is_running(dir: &Path) -> Result<bool, InspectError> {
    let path = dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(InspectError::Io(path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(InspectError::Io(path, error)),
    }
}

/// The names of all files of the store, to notice that some came or went.
fn names(dir: &Path) -> Result<Vec<String>, InspectError> {
    let mut disk = Folder::read_only(dir);
    let failed = |error: crate::store::disk::DiskError| InspectError::Disk(dir.to_owned(), error.to_string());
    let lanes = disk.list_dirs("lanes").map_err(failed)?.into_iter().map(|lane| format!("lanes/{lane}"));
    let mut names = Vec::new();
    for folder in ["journal", "snapshot"].map(str::to_owned).into_iter().chain(lanes) {
        let files = disk.list(&folder).map_err(failed)?;
        names.extend(files.into_iter().map(|file| format!("{folder}/{file}")));
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether there is anything of a store in the folder.
#[must_use]
pub fn is_store(dir: &Path) -> bool {
    dir.join("identity").exists() || dir.join("journal").is_dir() || dir.join("lanes").is_dir()
}

fn look(dir: &Path, config: Option<&Config>, running: bool) -> Result<(Inspection, Settings), InspectError> {
    let failed = |why: String| InspectError::Disk(dir.to_owned(), why);
    let found = find_salt(&mut Folder::read_only(dir)).map_err(|error| failed(error.to_string()))?;
    let Written { salt: written, has_held_data, .. } = Written::read(dir);
    let Some(salt) = found.or(written) else {
        // An identity that cannot be read, beside a store without a frame.
        if is_store(dir) {
            return Err(failed(
                "holds no frame that can be read, and its identity is lost: it would start empty".to_owned(),
            ));
        }
        return Err(InspectError::NoStore(dir.to_owned()));
    };
    let mut raw = Folder::read_only(dir);
    let settings = settings(dir, config, salt);
    let over = Overlay::new(raw.clone());
    let keyed = KeyedCopy { dir: dir.join("state") };
    let keyed_bytes = keyed.dir.is_dir().then(|| folder_bytes(&keyed.dir));
    let (store, mut recovered) =
        Store::open(over.clone(), keyed, &settings).map_err(|error: CommitError| failed(error.to_string()))?;
    recovered.report.data_gone = recovered.entries.is_empty() && has_held_data;
    let outbox = outbox(config, &recovered, u64::from(settings.segment_bytes));
    let range = |lane: &crate::outbox::Lane| LaneRange {
        name: lane.config().name.clone(),
        head_seq: lane.head_seq(),
        head_message: lane.head_message(),
        next_seq: lane.next_seq(),
        next_message: lane.next_message(),
        left: lane.left_before_turn().collect(),
    };
    let ranges: Vec<LaneRange> = outbox.lanes().iter().map(range).collect();
    let survey = survey(&mut raw, &mut over.clone(), salt, &ranges).map_err(|error| failed(error.to_string()))?;
    let identity = (written.is_some(), written == Some(salt));
    let found = Inspection { running, moving: false, recovered, outbox, survey, identity, keyed_bytes, store };
    Ok((found, settings))
}

/// The lanes as the gateway would have them before its first event.
fn outbox(config: Option<&Config>, recovered: &Recovered, segment_bytes: u64) -> Outbox {
    let mut outbox = Outbox::new(config.map_or(&[], |config| &config.lanes), segment_bytes);
    outbox.recover(recovered.lanes.clone());
    for (key, value) in &recovered.entries {
        // What cannot be read is told by the gateway's start.
        let _ = match key.first() {
            Some(space) if *space == Space::Lane as u8 => outbox.restore(key, value),
            _ => None,
        };
    }
    outbox
}

/// The store's layout, from the configuration or the files themselves.
fn settings(dir: &Path, config: Option<&Config>, salt: u32) -> Settings {
    let store: Option<&StoreConfig> = config.map(|config| &config.store);
    let length = |folder: &str| {
        let files = fs::read_dir(dir.join(folder)).ok()?.flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).min()
    };
    let segment = store.map(|store| store.segment_bytes.0).or_else(|| length("journal")).or_else(|| length("free"));
    let segment = segment.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| *bytes >= 8192);
    Settings {
        segment_bytes: segment.unwrap_or(SEGMENT_BYTES),
        journal_bytes_max: store.map_or(u64::MAX / 4, |store| store.journal_bytes_max.0),
        dirty_bytes_max: 0,
        salt,
        lanes: config.map(|config| config.lanes.iter().map(|lane| lane.name.clone()).collect()).unwrap_or_default(),
    }
}

/// Bytes of all files in a folder and below.
#[must_use]
pub fn folder_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| if found.is_dir() { folder_bytes(&path) } else { found.len() })
        .sum()
}

impl Inspection {
    /// Whether anything is lost that had been acknowledged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let missing = self.survey.lanes.iter().flat_map(|lane| &lane.files).any(|file| file.missing > 0);
        missing || self.recovered.report.is_loss()
    }

    /// Hands every record of `lane` from `from_seq` on, as encoded, to `visit` until it says `false`.
    pub fn records(
        &mut self,
        lane: &str,
        from_seq: u64,
        visit: &mut dyn FnMut(u64, &crate::record::Record<'_>) -> bool,
    ) -> Result<(), String> {
        const READ_BYTES: usize = 64 * 1024;
        let (mut seq, mut bytes) = (from_seq, Vec::new());
        loop {
            let batch = self.store.read(lane, seq, READ_BYTES, &mut bytes).map_err(|error| error.to_string())?;
            let mut rest = bytes.as_slice();
            seq = batch.first_seq;
            while let Some(record) = crate::record::Record::take(&mut rest) {
                if !visit(seq, &record) {
                    return Ok(());
                }
                seq += 1;
            }
            if batch.records == 0 {
                return Ok(());
            }
            // Should a record not be readable, the next one is.
            seq = batch.first_seq + u64::from(batch.records);
        }
    }
}

/// The keyed store, for looking: opened only where it must heal, and then a copy of it, because opening it writes.
#[derive(Debug)]
struct KeyedCopy {
    dir: PathBuf,
}

impl Keyed for KeyedCopy {
    fn enabled(&self) -> bool {
        self.dir.is_dir()
    }

    fn submit(&mut self, _batch: Batch) {}

    fn progress(&mut self) -> Progress {
        Progress::Idle
    }

    fn image(&mut self) -> Option<Image> {
        let copy = std::env::temp_dir().join(format!("weir-look-{}", std::process::id()));
        // Of nobody else's making, for nobody else's eyes.
        fs::DirBuilder::new().mode(0o700).create(&copy).ok()?;
        let image = copy_folder(&self.dir, &copy).ok().and_then(|()| SledState::new(&copy, Bytes::mib(1)).image());
        let _ = fs::remove_dir_all(&copy);
        image
    }

    fn bytes_written(&self) -> u64 {
        0
    }
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
