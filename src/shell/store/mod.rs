//! The store's thread: the one place that waits for flash.
//!
//! - Jobs are done in the order in which they were given. The loop has at most one commit on its way.
//! - Nobody waits here but those who ask for records; a handle gives its jobs away and goes on.
//! - One process per data folder: a lock file is held for as long as the store is open.

mod disk;
mod identity;
pub mod inspect;
pub mod repair;
mod sled_state;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self as jobs, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::sink::Records;
use crate::config::StoreConfig;
use crate::effect::{Effects, Release};
use crate::keeper::{Keeper, Snapshot};
use crate::store::{Batch, CommitError, Flush, Recovered, Settings, Stats, Store};
use crate::store_id::StoreId;

use identity::{Identity, Written};

pub use disk::Folder;
pub use sled_state::SledState;

/// Jobs that wait: more than the loop and all sinks can have on their way.
const JOBS_MAX: usize = 256;
/// The thread looks after its reserve when it had nothing to do for so long.
const IDLE: Duration = Duration::from_millis(200);

/// Why the data folder cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// The folder or a file in it.
    Io(std::io::Error, String),
    /// Another process has it.
    Locked(PathBuf),
    /// The store itself.
    Store(CommitError, PathBuf),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error, what) => write!(f, "gateway.data-dir: {what}: {error}"),
            Self::Locked(dir) => {
                write!(
                    f,
                    "gateway.data-dir: {} is in use by another gateway; each needs a folder of its own",
                    dir.display()
                )
            }
            Self::Store(error, dir) => write!(f, "gateway.data-dir: {}: {error}", dir.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// What became of a commit, and its effects back.
#[derive(Debug)]
pub struct CommitAnswer {
    /// As given.
    pub effects: Effects,
    /// Whether it is on flash.
    pub result: Result<(), CommitError>,
    /// A snapshot is due.
    pub wants_snapshot: bool,
}

enum Job {
    Commit(Effects),
    Release(Release),
    Snapshot(Vec<u8>),
    Read { lane: usize, from_seq: u64, bytes_max: usize, into: Vec<u8>, reply: oneshot::Sender<Read> },
    Close(oneshot::Sender<()>),
}

type Read = Result<(Batch, Vec<u8>), String>;

/// Gives jobs to the store's thread.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    jobs: SyncSender<Job>,
    stats: Arc<Mutex<Stats>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl StoreHandle {
    /// Opens the store in its folder and starts its thread. `lanes` are those of the configuration; lanes that are found on
    /// flash beside them follow in [`Recovered::lanes`], and are known by their place there. Blocks while it recovers.
    ///
    /// # Errors
    /// The folder cannot be used, or another process uses it. Damage is no error: see [`Recovered::report`].
    pub fn open(
        config: &StoreConfig,
        lanes: &[String],
        dirty_bytes_max: usize,
    ) -> Result<(Self, Recovered, mpsc::Receiver<CommitAnswer>), OpenError> {
        let dir = &config.dir;
        // What devices said is nobody else's business; a folder that is there keeps the mode that somebody gave it.
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(|error| OpenError::Io(error, format!("cannot create {}", dir.display())))?;
        let lock = lock(dir)?;
        let mut identity = Identity::open(dir)?;
        let settings = Settings {
            segment_bytes: u32::try_from(config.segment_bytes.0).unwrap_or(u32::MAX),
            journal_bytes_max: config.journal_bytes_max.0,
            dirty_bytes_max,
            salt: identity.salt,
            lanes: lanes.to_vec(),
        };
        let keyed = config.sled.then(|| SledState::new(&dir.join("state"), config.sled_cache));
        let opened = Store::open(Folder::new(dir), keyed, &settings);
        let (store, mut recovered) = opened.map_err(|error| OpenError::Store(error, dir.clone()))?;
        if recovered.entries.is_empty() {
            recovered.report.data_gone = identity.has_held_data;
        } else {
            identity.mark();
        }
        // Where lanes go on, so does the number; where they begin again, it must be another than any that upstream has seen.
        let begins = recovered.entries.is_empty() && recovered.lanes.iter().all(|lane| lane.next_seq <= 1);
        match StoreId::of(&recovered.entries) {
            None if begins && identity.has_held_data => identity.renumber(None),
            None => {}
            known => identity.renumber(known),
        }
        recovered.store = identity.store;
        report(dir, &recovered);
        let (jobs, todo) = jobs::sync_channel(JOBS_MAX);
        let (answers, answered) = mpsc::channel(2);
        let stats = Arc::new(Mutex::new(store.stats()));
        let worker = Worker {
            keeper: Keeper::new(store, recovered.lanes.iter().map(|lane| lane.name.clone()).collect()),
            answers,
            stats: stats.clone(),
            flush_interval: Duration::from_millis(config.flush_interval.0),
            snapshot_interval: Duration::from_millis(config.snapshot_interval.0),
            identity,
            _lock: lock,
        };
        let thread = std::thread::Builder::new().name("weir-store".to_owned()).spawn(move || worker.run(&todo));
        let thread = thread.map_err(|error| OpenError::Io(error, "no thread for the store".to_owned()))?;
        Ok((Self { jobs, stats, thread: Arc::new(Mutex::new(Some(thread))) }, recovered, answered))
    }

    /// Commits; the answer comes to the receiver of [`StoreHandle::open`]. One at a time.
    pub fn commit(&self, effects: Effects) {
        self.give(Job::Commit(effects));
    }

    /// Lets segments of a lane go.
    pub fn release(&self, release: Release) {
        self.give(Job::Release(release));
    }

    /// Writes a snapshot: the entries are all that exist, as of the last commit given.
    pub fn snapshot(&self, entries: Vec<u8>) {
        self.give(Job::Snapshot(entries));
    }

    /// A dead thread is noticed where its answer is awaited.
    fn give(&self, job: Job) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(job) {
            log::error!("the store's thread is {JOBS_MAX} jobs behind; one was left out");
        }
    }

    /// A copy of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the last changes to the keyed store, waits for it, and ends the thread.
    pub async fn close(self) {
        let (reply, done) = oneshot::channel();
        self.give(Job::Close(reply));
        let _ = done.await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Records for StoreHandle {
    async fn read(&self, lane: usize, from_seq: u64, bytes_max: usize, into: Vec<u8>) -> Read {
        let (reply, answer) = oneshot::channel();
        let job = Job::Read { lane, from_seq, bytes_max, into, reply };
        self.jobs.try_send(job).map_err(|_| "the store is busy or gone".to_owned())?;
        answer.await.map_err(|_| "the store's thread has ended".to_owned())?
    }
}

/// The thread.
struct Worker {
    keeper: Keeper<Folder, Option<SledState>>,
    answers: mpsc::Sender<CommitAnswer>,
    stats: Arc<Mutex<Stats>>,
    flush_interval: Duration,
    snapshot_interval: Duration,
    identity: Identity,
    _lock: File,
}

impl Worker {
    fn run(mut self, todo: &jobs::Receiver<Job>) {
        let mut since_flush = Timer::new(self.flush_interval);
        let mut since_snapshot = Timer::new(self.snapshot_interval);
        loop {
            match todo.recv_timeout(IDLE.min(self.flush_interval)) {
                Ok(Job::Close(reply)) => {
                    self.flush();
                    // Dropping the store waits for the keyed store's last batch.
                    drop(self.keeper);
                    drop(reply);
                    return;
                }
                Ok(Job::Snapshot(entries)) => {
                    let outcome = self.keeper.snapshot(entries);
                    if outcome != Snapshot::Outdated {
                        since_snapshot.restart();
                    }
                    tell(outcome);
                }
                Ok(job) => {
                    if self.work(job, since_snapshot.is_due()).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if since_flush.is_due() || self.keeper.store.needs_flush() {
                since_flush.restart();
                self.flush();
            }
            *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.keeper.store.stats();
        }
    }

    /// `Err`: nobody waits for answers any more.
    fn work(&mut self, job: Job, snapshot_due: bool) -> Result<(), ()> {
        match job {
            Job::Commit(effects) => {
                let (mut result, late_snapshot) = self.keeper.commit(&effects);
                if result.is_ok() && self.identity.is_gone() {
                    // Acknowledged it must not be: nobody will find it again.
                    let what = "the data folder was removed or moved away under the running gateway";
                    result = Err(CommitError::Failed(what.to_owned()));
                }
                if let Some(late) = late_snapshot {
                    tell(late);
                }
                if result.is_ok() {
                    self.identity.mark();
                }
                let wants_snapshot = snapshot_due || self.keeper.store.needs_snapshot();
                let answer = CommitAnswer { effects, result, wants_snapshot };
                return self.answers.blocking_send(answer).map_err(drop);
            }
            Job::Release(release) => {
                if let Err(error) = self.keeper.release(release) {
                    log::warn!("lane {}: segments could not be let go: {error}", self.keeper.name(release.lane));
                }
            }
            Job::Read { lane, from_seq, bytes_max, into, reply } => {
                // A sink that has gone needs no answer.
                let _ = reply.send(self.read(lane, from_seq, bytes_max, into));
            }
            Job::Snapshot(_) | Job::Close(_) => {}
        }
        Ok(())
    }

    fn read(&mut self, lane: usize, from_seq: u64, bytes_max: usize, mut into: Vec<u8>) -> Read {
        let batch = self.keeper.read(lane, from_seq, bytes_max, &mut into).map_err(|error| error.to_string())?;
        Ok((batch, into))
    }

    fn flush(&mut self) {
        if let Flush::Stale(Some(reason)) = self.keeper.store.flush() {
            log::warn!("keyed state fell behind and is written anew with the next snapshot: {reason}");
        }
    }

    fn idle(&mut self) {
        if let Err(error) = self.keeper.store.maintain() {
            log::warn!("the store's reserve for full disks cannot be made: {error}");
        }
    }
}

fn tell(outcome: Snapshot) {
    match outcome {
        Snapshot::Written | Snapshot::Outdated => {}
        Snapshot::NoRoom => log::warn!("no room for a snapshot; it is tried again"),
        Snapshot::Failed(reason) => log::error!("the snapshot failed: {reason}"),
    }
}

/// When something is next due.
#[expect(clippy::disallowed_methods, reason = "the store's own housekeeping; nothing of it shows in any result")]
mod timer {
    use std::time::{Duration, Instant};

    pub struct Timer {
        every: Duration,
        last: Instant,
    }

    impl Timer {
        pub fn new(every: Duration) -> Self {
            Self { every, last: Instant::now() }
        }

        pub fn is_due(&self) -> bool {
            self.every <= self.last.elapsed()
        }

        pub fn restart(&mut self) {
            self.last = Instant::now();
        }
    }
}

use timer::Timer;

/// Who only looks (`weir store check`) holds the lock for a moment: it is tried a few times.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Takes the folder for this process.
///
/// # Errors
/// [`OpenError::Locked`]: another process has it.
pub fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let failed = |error| OpenError::Io(error, format!("cannot open {}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(OpenError::Locked(dir.to_owned()))
}

/// Says what was found wrong, and what it cost.
fn report(dir: &Path, recovered: &Recovered) {
    let report = &recovered.report;
    let dir = dir.display();
    if report.bad_frames + report.cut_commits + report.bad_snapshots + report.quarantined_bytes > 0 {
        log::error!(
            "{dir}: the store was damaged: {} commits lost ({} records with them), {} snapshots unreadable, {} bytes set aside; \
             the rest is sound",
            report.bad_frames + report.cut_commits,
            report.lost_records,
            report.bad_snapshots,
            report.quarantined_bytes
        );
    }
    if report.empty_but_expected {
        log::error!("{dir}: the snapshot that the journal builds on is lost: values are missing");
    }
    if report.healed {
        log::warn!("{dir}: damage was healed from the keyed store");
    }
    if report.data_gone {
        log::error!(
            "{dir}: the store is EMPTY although it has held data: meters, state and what waited for upstream are gone. \
             Restore the folder, or remove its file `identity` to say that this is meant"
        );
    }
    if 0 < report.torn_tails + report.uncommitted_frames {
        let dropped = report.torn_tails + report.uncommitted_frames;
        let proven = report.bad_frames + report.cut_commits == 0;
        let what = if proven { ": none of it had been acknowledged" } else { "" };
        log::info!("{dir}: {dropped} unfinished writes were dropped{what}");
    }
}
