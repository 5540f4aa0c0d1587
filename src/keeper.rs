//! The keeper of the store: in which order commits, snapshots and releases are carried out, whoever owns the thread.
//!
//! - A snapshot shows the gateway as of a commit, so it is written only while that commit is the newest one that happened.
//! - One that found no room waits, and goes before the commit after it: a full journal waits for nothing else.
//! - A commit that finds the disk full is tried once more if the journal has something to let go.
//! - Records are known by the index of their lane here, and by its name in the store.

use crate::effect::{Effects, Release};
use crate::store::disk::Disk;
use crate::store::keyed::Keyed;
use crate::store::{Batch, Commit, CommitError, LaneAppend, Store};

/// A store and what waits for it.
pub struct Keeper<D: Disk, K: Keyed> {
    /// The store.
    pub store: Store<D, K>,
    /// Names of the lanes, by index.
    names: Vec<String>,
    /// A snapshot that found no room, as of the last commit that happened.
    late_snapshot: Option<Vec<u8>>,
    /// Whether the last commit happened. If not, the gateway is ahead of the flash, and so is its snapshot: written now, it would
    /// show the entries of a commit whose records are missing.
    in_step: bool,
}

/// What became of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// It is on flash, and the journal has let go.
    Written,
    /// It is out of date; another is asked for with the answer to the next commit.
    Outdated,
    /// No room: it is tried again before the next commit.
    NoRoom,
    /// The disk failed. The journal still has everything: the next commit tells whether the disk is really broken.
    Failed(String),
}

impl<D: Disk, K: Keyed> Keeper<D, K> {
    /// Keeps `store`, whose lanes have these names.
    #[must_use]
    pub const fn new(store: Store<D, K>, names: Vec<String>) -> Self {
        Self { store, names, late_snapshot: None, in_step: true }
    }

    /// Commits; and what became of a snapshot that waited, if one did.
    pub fn commit(&mut self, effects: &Effects) -> (Result<(), CommitError>, Option<Snapshot>) {
        let late = self.late_snapshot.take().map(|entries| self.write_snapshot(entries));
        let mut result = self.try_commit(effects);
        // The gateway can have no snapshot made of what is on flash while its batch waits.
        if result == Err(CommitError::Full) {
            match self.store.compact() {
                Ok(true) => {
                    self.late_snapshot = None;
                    result = self.try_commit(effects);
                }
                Ok(false) | Err(CommitError::Full) => {}
                Err(failed) => result = Err(failed),
            }
        }
        self.in_step = result.is_ok();
        if result.is_ok() {
            self.late_snapshot = None;
        }
        (result, late)
    }

    fn try_commit(&mut self, effects: &Effects) -> Result<(), CommitError> {
        let mut appends = Vec::with_capacity(effects.lanes.len());
        for batch in &effects.lanes {
            let lane = self.names.get(batch.lane);
            let lane = lane.ok_or_else(|| CommitError::Failed(format!("there is no lane {}", batch.lane)))?;
            appends.push(LaneAppend {
                lane,
                segment: batch.segment,
                first_seq: batch.first_seq,
                count: batch.count,
                first_message: batch.first_message,
                messages: batch.messages,
                at_ms: batch.at_ms,
                records: &batch.records,
            });
        }
        self.store.commit(&Commit { entries: effects.entries.bytes(), lanes: &appends })
    }

    /// Writes a snapshot of `entries`, which are all that exist as of the last commit given.
    pub fn snapshot(&mut self, entries: Vec<u8>) -> Snapshot {
        if self.in_step { self.write_snapshot(entries) } else { Snapshot::Outdated }
    }

    fn write_snapshot(&mut self, entries: Vec<u8>) -> Snapshot {
        match self.store.snapshot(&entries) {
            Ok(()) => Snapshot::Written,
            Err(CommitError::Full) => {
                self.late_snapshot = Some(entries);
                Snapshot::NoRoom
            }
            Err(CommitError::Failed(reason)) => Snapshot::Failed(reason),
        }
    }

    /// Lets segments of a lane go; a lane that is not known has none.
    pub fn release(&mut self, release: Release) -> Result<(), CommitError> {
        let segments = release.from_segment..release.below_segment;
        self.names.get(release.lane).map_or(Ok(()), |name| self.store.release_range(name, segments))
    }

    /// Reads committed records; see [`Store::read`].
    pub fn read(
        &mut self,
        lane: usize,
        from_seq: u64,
        bytes_max: usize,
        into: &mut Vec<u8>,
    ) -> Result<Batch, CommitError> {
        let name = self.names.get(lane).ok_or_else(|| CommitError::Failed(format!("there is no lane {lane}")))?;
        into.clear();
        self.store.read(name, from_seq, bytes_max, into)
    }

    /// The name of a lane.
    #[must_use]
    pub fn name(&self, lane: usize) -> &str {
        self.names.get(lane).map_or("", String::as_str)
    }
}
