//! Keyed state in sled, behind the store: written behind by a thread of its own, read only to heal.
//!
//! What sled 0.34 needs to be safe, and gets here:
//! - `flush` alone is not durable on Linux: the log file is synced after each one, and everything once after opening.
//! - A left-over `snap.*.generating` is deleted before opening; it would be taken for the newest snapshot.
//! - Opening a damaged folder can panic: it happens under `catch_unwind`, and a damaged folder is set aside (one is kept).
//! - Single inserts, no batches (a big batch takes hundreds of megabytes); no value above 4 KiB (longer ones are never synced).

use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::store::keyed::{Batch, Image, Keyed, Progress, VALUE_MAX};
use crate::units::Bytes;

/// Through which commit the copy goes; written last.
const APPLIED_KEY: &[u8] = b"\0applied";
/// In place of a value that is too long to be kept here. No entry has this value: the store's are never one 0 byte and a word.
const TOO_LONG: &[u8] = b"\0too-long";

/// How long an orderly end waits for a batch.
const FINISH_WAIT: Duration = Duration::from_secs(20);

/// The keyed store.
#[derive(Debug)]
pub struct SledState {
    dir: PathBuf,
    cache: Bytes,
    worker: Option<Worker>,
    working: bool,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Worker {
    batches: mpsc::SyncSender<Batch>,
    outcomes: mpsc::Receiver<Result<(), String>>,
    thread: JoinHandle<()>,
}

impl SledState {
    /// A copy in `dir`, opened when it is first needed.
    #[must_use]
    pub fn new(dir: &Path, cache: Bytes) -> Self {
        Self { dir: dir.to_owned(), cache, worker: None, working: false, bytes: Arc::default() }
    }

    /// Waits for the last batch, but not for ever: sled has been seen not to come back.
    pub fn finish(&mut self) {
        let Some(Worker { batches, outcomes, thread }) = self.worker.take() else { return };
        drop(batches);
        if self.working && outcomes.recv_timeout(FINISH_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            log::warn!("sled in {} does not finish; it is left behind", self.dir.display());
            return;
        }
        let _ = thread.join();
    }

    fn start(&mut self) -> Result<&Worker, String> {
        let (batches, todo) = mpsc::sync_channel(1);
        let (done, outcomes) = mpsc::sync_channel(1);
        let (dir, cache, bytes) = (self.dir.clone(), self.cache, self.bytes.clone());
        let work = move || work(&dir, cache, &bytes, &todo, &done);
        let thread = std::thread::Builder::new().name("weir-sled".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("no thread for sled: {error}"))?;
        Ok(self.worker.insert(Worker { batches, outcomes, thread }))
    }
}

impl Keyed for SledState {
    fn enabled(&self) -> bool {
        true
    }

    fn submit(&mut self, batch: Batch) {
        let started = match &self.worker {
            Some(_) => Ok(()),
            None => self.start().map(drop),
        };
        let sent = started.is_ok() && self.worker.as_ref().is_some_and(|worker| worker.batches.try_send(batch).is_ok());
        // A batch that could not even be sent shows as the worker's end.
        self.working = true;
        if !sent {
            self.worker = None;
        }
    }

    fn progress(&mut self) -> Progress {
        if !self.working {
            return Progress::Idle;
        }
        let outcome = match &self.worker {
            Some(worker) => worker.outcomes.try_recv(),
            None => Err(mpsc::TryRecvError::Disconnected),
        };
        match outcome {
            Err(mpsc::TryRecvError::Empty) => Progress::Working,
            Ok(Ok(())) => {
                self.working = false;
                Progress::Idle
            }
            Ok(Err(reason)) => {
                self.working = false;
                self.worker = None;
                Progress::Failed(reason)
            }
            Err(mpsc::TryRecvError::Disconnected) => {
                self.working = false;
                self.worker = None;
                Progress::Failed("sled's thread ended".to_owned())
            }
        }
    }

    fn image(&mut self) -> Option<Image> {
        if !self.dir.is_dir() {
            return None;
        }
        let db = match open(&self.dir, self.cache) {
            Ok(db) => db,
            Err(Closed::Refused(reason) | Closed::Damaged(reason)) => {
                log::warn!("{reason}");
                return None;
            }
        };
        let mut image = Image::default();
        for item in db.iter() {
            let (key, value) = item.ok()?;
            if key.as_ref() == APPLIED_KEY {
                image.applied = u64::from_le_bytes(value.as_ref().try_into().ok()?);
            } else {
                let value = (value.as_ref() != TOO_LONG).then(|| value.to_vec());
                image.entries.insert(key.to_vec(), value);
            }
        }
        Some(image)
    }

    fn bytes_written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for SledState {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A site may do without.
impl Keyed for Option<SledState> {
    fn enabled(&self) -> bool {
        self.is_some()
    }

    fn submit(&mut self, batch: Batch) {
        if let Some(state) = self {
            state.submit(batch);
        }
    }

    fn progress(&mut self) -> Progress {
        self.as_mut().map_or(Progress::Idle, Keyed::progress)
    }

    fn image(&mut self) -> Option<Image> {
        self.as_mut().and_then(Keyed::image)
    }

    fn bytes_written(&self) -> u64 {
        self.as_ref().map_or(0, Keyed::bytes_written)
    }
}

/// The thread: opens the copy, applies batches until there are no more.
fn work(
    dir: &Path,
    cache: Bytes,
    bytes: &AtomicU64,
    todo: &mpsc::Receiver<Batch>,
    done: &mpsc::SyncSender<Result<(), String>>,
) {
    let mut db = None;
    while let Ok(batch) = todo.recv() {
        let applied = catch_unwind(AssertUnwindSafe(|| {
            if db.is_none() {
                db = Some(open_or_renew(dir, cache, batch.whole)?);
            }
            db.as_ref().map_or(Ok(()), |db| apply(db, dir, &batch, bytes))
        }));
        let outcome = applied.unwrap_or_else(|_| Err("sled panicked".to_owned()));
        let failed = outcome.is_err();
        if done.send(outcome).is_err() || failed {
            return;
        }
    }
}

/// Why sled does not open.
enum Closed {
    /// The system refuses: full, forbidden, locked. The content may be fine.
    Refused(String),
    /// The content is damaged.
    Damaged(String),
}

/// A whole batch may start from nothing; any other must join what is there. Only a damaged folder is set aside: on a full disk
/// sled does not open either, and its content is still good for healing.
fn open_or_renew(dir: &Path, cache: Bytes, whole: bool) -> Result<sled::Db, String> {
    match open(dir, cache) {
        Ok(db) => Ok(db),
        Err(Closed::Refused(reason)) => Err(reason),
        Err(Closed::Damaged(reason)) => {
            log::warn!("{reason}; set aside");
            set_aside(dir);
            if !whole {
                return Err(reason);
            }
            open(dir, cache).map_err(|(Closed::Refused(again) | Closed::Damaged(again))| again)
        }
    }
}

/// Renames a damaged folder, in place of the one that was set aside before.
fn set_aside(dir: &Path) {
    let aside = dir.with_extension("damaged");
    let _ = fs::remove_dir_all(&aside);
    let _ = fs::rename(dir, &aside);
}

fn open(dir: &Path, cache: Bytes) -> Result<sled::Db, Closed> {
    let told = |error: &dyn std::fmt::Display| format!("sled in {}: {error}", dir.display());
    let refused = |error: std::io::Error| Closed::Refused(told(&error));
    if let Ok(entries) = fs::read_dir(dir) {
        let partial = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "generating");
        for path in entries.flatten().map(|entry| entry.path()).filter(partial) {
            fs::remove_file(&path).map_err(refused)?;
        }
    }
    let config = sled::Config::new()
        .path(dir)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(cache.0)
        // The store says when to flush.
        .flush_every_ms(None);
    let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
    let db = opened.map_err(|_| Closed::Damaged(told(&"it panicked while opening")))?.map_err(|error| match error {
        // sled has no other way to say that a file is cut short or makes no sense.
        sled::Error::Io(error) if !matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => {
            refused(error)
        }
        error => Closed::Damaged(told(&error)),
    })?;
    for name in ["conf", "db", "blobs", ""] {
        let path = dir.join(name);
        if path.exists() {
            File::open(&path).and_then(|file| file.sync_all()).map_err(refused)?;
        }
    }
    Ok(db)
}

fn apply(db: &sled::Db, dir: &Path, batch: &Batch, bytes: &AtomicU64) -> Result<(), String> {
    let failed = |error: sled::Error| format!("sled in {}: {error}", dir.display());
    let at = db.get(APPLIED_KEY).map_err(failed)?;
    let at = at.and_then(|value| value.as_ref().try_into().ok().map(u64::from_le_bytes));
    if batch.whole {
        db.clear().map_err(failed)?;
    } else if at.is_some_and(|at| batch.joins.1 < at) {
        return Err(format!(
            "the copy has seen commit {}, the journal ends at {}: the commits between are lost",
            at.unwrap_or(0),
            batch.joins.1
        ));
    } else if !(batch.joins.0..=batch.joins.1).contains(&at.unwrap_or(0)) {
        return Err(format!("the copy stands at {at:?}, the changes join {:?}", batch.joins));
    }
    for (key, value) in &batch.changes {
        match value {
            None => drop(db.remove(key).map_err(failed)?),
            Some(value) if VALUE_MAX < value.len() => drop(db.insert(key, TOO_LONG).map_err(failed)?),
            Some(value) => drop(db.insert(key, value.as_slice()).map_err(failed)?),
        }
        bytes.fetch_add((key.len() + value.as_ref().map_or(0, Vec::len)) as u64, Ordering::Relaxed);
    }
    // Nothing of the batch may be behind the number that says it is there.
    sync(db, dir)?;
    db.insert(APPLIED_KEY, &batch.applied.to_le_bytes()).map_err(failed)?;
    sync(db, dir)
}

fn sync(db: &sled::Db, dir: &Path) -> Result<(), String> {
    db.flush().map_err(|error| format!("sled in {}: {error}", dir.display()))?;
    let log = dir.join("db");
    File::open(&log).and_then(|file| file.sync_data()).map_err(|error| format!("sync of {}: {error}", log.display()))
}
