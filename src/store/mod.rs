//! The store: commits, all or nothing, on a disk that may tear, forget, rot and fill.
//!
//! - A commit has happened when its journal frame is synced, and not before. Big lane frames are synced first; small ones ride
//!   inside the journal frame. So a commit costs one file sync, and one more for each lane that gets more than 2 KiB.
//! - A full disk is an ordinary answer ([`CommitError::Full`]): nothing of the commit counts and it may be tried again. Any
//!   other failure is final ([`CommitError::Failed`]): what is on flash is then unknown, and only opening again tells.
//! - Opening never refuses damaged data. What is lost is counted in the [`Report`].
//! - Commits behind a snapshot are in the journal; the journal lets go only what a durable snapshot covers.

mod compact;
pub mod disk;
mod journal;
pub mod keyed;
mod lane_log;
pub mod mem_disk;
pub mod overlay;
mod read;
mod recover;
mod scan;
pub mod segment;
mod snapshot;
pub mod survey;
#[cfg(test)]
mod tests;

use core::fmt;

use crate::entry::{entries, put_varint};
use crate::frame::HEADER;
use crate::time::WallMillis;

use disk::{Disk, DiskError};
use journal::{Journal, TailItem, put_tail};
use keyed::{Batch as KeyedBatch, Changes, Dirty, Keyed, Progress};
use lane_log::{LaneLog, Planned};
use segment::Base;
use snapshot::Snapshots;

pub use lane_log::Extent;
pub use read::{Batch, FrameCache, Lost};
pub use recover::{LaneRecovered, Recovered, Report, find_salt};

/// How the store is laid out; all of it must stay the same for the life of a folder, but `journal_bytes_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size of a segment of the journal and of the lanes; a multiple of 4 KiB, at least 8 KiB.
    pub segment_bytes: u32,
    /// Journal segments, used and free, may take this much (and two segments of reserve).
    pub journal_bytes_max: u64,
    /// Changes kept for the keyed store at most, keys and values.
    pub dirty_bytes_max: usize,
    /// Salt of all frames: a number of this folder's own, so that nothing is taken for a frame that this store did not write.
    /// Should it be lost, [`find_salt`] knows it.
    pub salt: u32,
    /// Lanes that are to exist; others that are found on the disk are recovered as well.
    pub lanes: Vec<String>,
}

/// Records for one lane: one frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LaneAppend<'a> {
    /// The lane's name.
    pub lane: &'a str,
    /// The newest segment of the lane, or a new number ([`LaneRecovered::next_segment`] or more).
    pub segment: u32,
    /// Sequence of the first record: where the lane's last append ended.
    pub first_seq: u64,
    /// Records.
    pub count: u32,
    /// Messages closed by all records of the lane before these.
    pub first_message: u64,
    /// Messages closed by these.
    pub messages: u32,
    /// Now.
    pub at_ms: WallMillis,
    /// The records, each with its length in front.
    pub records: &'a [u8],
}

impl fmt::Debug for LaneAppend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, first_seq, count, records, .. } = self;
        write!(f, "{count} records from {first_seq} in segment {segment}, {} bytes", records.len())
    }
}

/// What is to happen together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit<'a> {
    /// New values, encoded as [`crate::entry::Entries`].
    pub entries: &'a [u8],
    /// Records; at most one append a lane.
    pub lanes: &'a [LaneAppend<'a>],
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The disk is full, or the journal is and waits for a snapshot. Nothing of the commit counts; it may be tried again.
    Full,
    /// The disk failed, or the caller made a mistake; the text tells. Whether the commit counts is unknown: end the process.
    Failed(String),
}

impl CommitError {
    /// A sync that failed for whatever reason is final, even for want of space: the written pages may be gone.
    pub(crate) fn from_sync(error: DiskError) -> Self {
        Self::Failed(format!("sync: {error}"))
    }
}

impl From<DiskError> for CommitError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full => Self::Full,
            DiskError::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space left for the commit: free some, or let a lane drop its oldest records"),
            Self::Failed(reason) => {
                write!(f, "the disk failed ({reason}): check the medium; restarting reads what is there")
            }
        }
    }
}

impl std::error::Error for CommitError {}

/// What was done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits that happened.
    pub commits: u64,
    /// Commits that found the disk full.
    pub commits_full: u64,
    /// Syncs of files and folders.
    pub syncs: u64,
    /// Bytes written to the journal, in whole pages.
    pub journal_bytes: u64,
    /// Bytes written to lanes, in whole pages.
    pub lane_bytes: u64,
    /// Bytes of snapshots.
    pub snapshot_bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of zeros for new segments.
    pub fill_bytes: u64,
    /// Keys and values given to the keyed store.
    pub keyed_bytes: u64,
    /// Damaged frames met while reading lanes.
    pub bad_frames: u64,
    /// Segments of the journal in use.
    pub journal_segments: usize,
    /// Free segments.
    pub free_segments: usize,
    /// The keyed store failed or fell behind this often.
    pub keyed_failures: u64,
}

/// What became of a flush to the keyed store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flush {
    /// A batch is on its way.
    Submitted,
    /// There is nothing to write (or no keyed store).
    Nothing,
    /// The last batch is still being written.
    Busy,
    /// The keyed store failed or fell behind; the next snapshot fills it anew. The reason, if it is news.
    Stale(Option<String>),
}

/// The store.
#[derive(Debug)]
pub struct Store<D: Disk, K: Keyed> {
    base: Base<D>,
    journal: Journal<D::File>,
    snapshots: Snapshots,
    lanes: Vec<LaneLog<D::File>>,
    keyed: K,
    dirty: Dirty,
    wants_snapshot: bool,
    failed: Option<String>,
    cache: FrameCache,
    planned: Vec<(usize, Planned)>,
    frame: Vec<u8>,
    buffer: Vec<u8>,
}

impl<D: Disk, K: Keyed> Store<D, K> {
    /// Commits. When this returns `Ok`, it is on flash; when it returns an error, see [`CommitError`].
    pub fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        self.plan(commit)?;
        let done = self.try_commit(commit);
        match &done {
            Ok(()) => self.base.stats.commits += 1,
            Err(CommitError::Full) => self.base.stats.commits_full += 1,
            Err(CommitError::Failed(reason)) => self.failed = Some(reason.clone()),
        }
        done
    }

    fn check_failed(&self) -> Result<(), CommitError> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(CommitError::Failed(reason.clone())))
    }

    fn try_commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        self.check_failed()?;
        self.journal.make_room(&mut self.base, self.frame.len() as u32)?;
        for ((lane, planned), append) in self.planned.iter().zip(commit.lanes) {
            self.lanes[*lane].write(&mut self.base, planned, append.records, &mut self.buffer)?;
        }
        self.journal.write(&mut self.base, &mut self.frame, false)?;
        for (lane, planned) in &self.planned {
            self.lanes[*lane].committed(planned);
        }
        if self.keyed.enabled() {
            for entry in entries(commit.entries).flatten() {
                self.dirty.note(&entry.key, entry.value);
            }
        }
        Ok(())
    }

    /// Places the lane frames and builds the body of the journal frame.
    fn plan(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        let number = self.journal.last_commit() + 1;
        self.planned.clear();
        self.frame.clear();
        self.frame.resize(HEADER as usize, 0);
        put_varint(&mut self.frame, commit.lanes.len() as u64);
        for append in commit.lanes {
            let index = self.lane_index(append.lane)?;
            if self.planned.iter().any(|(lane, _)| *lane == index) {
                return Err(CommitError::Failed(format!("lane {}: two appends in a commit", append.lane)));
            }
            let lane = &self.lanes[index];
            let planned = lane.plan(append, number)?;
            self.buffer.clear();
            if planned.place.inline {
                self.buffer.extend_from_slice(&lane.head(&planned));
                self.buffer.extend_from_slice(append.records);
            }
            let inline = planned.place.inline.then_some((planned.place.offset, self.buffer.as_slice()));
            put_tail(&mut self.frame, &TailItem { name: append.lane, tail: planned.tail, inline });
            self.planned.push((index, planned));
        }
        self.frame.extend_from_slice(commit.entries);
        Ok(())
    }

    fn lane_index(&self, name: &str) -> Result<usize, CommitError> {
        let found = self.lanes.iter().position(|lane| lane.name == name);
        found.ok_or_else(|| CommitError::Failed(format!("lane {name}: unknown; name it in the settings")))
    }

    /// Fills `out` with encoded records of `lane` from `from_seq` on: at most `bytes_max` bytes, but at least one record if there
    /// is one. Reads what is committed and no more.
    pub fn read(
        &mut self,
        lane: &str,
        from_seq: u64,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Batch, CommitError> {
        let index = self.lane_index(lane)?;
        Ok(self.lanes[index].read(&mut self.base, &mut self.cache, index, from_seq, bytes_max, out)?)
    }

    /// Lets the segments of `lane` below `below_segment` go. Only after the commit that says so (the lane's head) has happened.
    pub fn release(&mut self, lane: &str, below_segment: u32) -> Result<(), CommitError> {
        self.release_range(lane, 0..below_segment)
    }

    /// Lets the segments of `lane` in the range go, which need not be its oldest: what they held is no record of the lane any
    /// more. Only after the commit that says so has happened.
    pub fn release_range(&mut self, lane: &str, segments: core::ops::Range<u32>) -> Result<(), CommitError> {
        let index = self.lane_index(lane)?;
        Ok(self.lanes[index].release(&mut self.base, segments)?)
    }

    /// Whether a snapshot is due: the journal has grown, or the disk is full, or opening found a hole.
    #[must_use]
    pub fn needs_snapshot(&self) -> bool {
        let quota = self.base.journal_max() - segment::RESERVE;
        let tight = self.base.is_tight() && self.journal.releasable() > 0;
        self.wants_snapshot || tight || self.journal.segments() * 4 > quota * 3
    }

    /// Commits since the last snapshot take this many bytes in the journal.
    #[must_use]
    pub const fn journal_bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Writes a snapshot: `entries` are all that exist, as they are after the last commit. Then the journal lets go.
    pub fn snapshot(&mut self, entries: &[u8]) -> Result<(), CommitError> {
        let done = self.try_snapshot(entries);
        if let Err(CommitError::Failed(reason)) = &done {
            self.failed = Some(reason.clone());
        }
        done
    }

    fn try_snapshot(&mut self, entries: &[u8]) -> Result<(), CommitError> {
        self.check_failed()?;
        for lane in &mut self.lanes {
            lane.make_durable(&mut self.base)?;
        }
        let commit = self.journal.last_commit();
        let known = self.lanes.iter().filter(|lane| lane.tail.segment > 0);
        let tails: Vec<TailItem<'_>> =
            known.map(|lane| TailItem { name: &lane.name, tail: lane.tail, inline: None }).collect();
        self.snapshots.write(&mut self.base, commit, &tails, entries, self.journal.releasable())?;
        self.journal.release(&mut self.base, commit)?;
        self.wants_snapshot = false;
        self.refill_keyed(commit, entries);
        Ok(())
    }

    /// A keyed store that has missed something gets everything.
    fn refill_keyed(&mut self, commit: u64, all: &[u8]) {
        self.follow_keyed();
        if !self.keyed.enabled() || !self.dirty.is_stale() || self.keyed.progress() == Progress::Working {
            return;
        }
        let owned = |entry: crate::entry::Entry<'_>| (entry.key, entry.value.map(<[u8]>::to_vec));
        let changes: Changes = entries(all).flatten().map(owned).collect();
        self.keyed.submit(KeyedBatch { joins: (0, 0), applied: commit, whole: true, changes });
        self.dirty.reset(commit);
    }

    fn follow_keyed(&mut self) -> Option<String> {
        match self.keyed.progress() {
            Progress::Failed(reason) => {
                self.dirty.give_up();
                self.base.stats.keyed_failures += 1;
                Some(reason)
            }
            Progress::Idle | Progress::Working => None,
        }
    }

    /// Whether so much waits for the keyed store that a flush is due before its interval.
    #[must_use]
    pub const fn needs_flush(&self) -> bool {
        self.dirty.is_half_full()
    }

    /// Hands what has changed since the last flush to the keyed store.
    pub fn flush(&mut self) -> Flush {
        if !self.keyed.enabled() {
            return Flush::Nothing;
        }
        let news = self.follow_keyed();
        if news.is_some() || self.dirty.is_stale() {
            return Flush::Stale(news);
        }
        if self.keyed.progress() == Progress::Working {
            return Flush::Busy;
        }
        if self.dirty.is_empty() {
            return Flush::Nothing;
        }
        let batch = self.dirty.take(self.journal.last_commit());
        self.keyed.submit(batch);
        Flush::Submitted
    }

    /// To be called when there is nothing else to do: makes what is missing of the reserve for full disks, a piece at a time.
    /// Whether there was something to do.
    pub fn maintain(&mut self) -> Result<bool, CommitError> {
        let made = self.base.replenish().and_then(|made| Ok(made || self.snapshots.reserve(&mut self.base)?));
        match made {
            Err(DiskError::Full) => Ok(false),
            made => Ok(made?),
        }
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            journal_segments: self.journal.segments(),
            free_segments: self.base.free_segments(),
            keyed_bytes: self.keyed.bytes_written(),
            ..self.base.stats
        }
    }

    /// The keyed store, for waiting until it is done.
    pub const fn keyed_mut(&mut self) -> &mut K {
        &mut self.keyed
    }
}
