//! The keyed store: a second, write-behind copy of the entries, in a database of its own.
//!
//! - Nothing waits for it and nothing is lost with it: snapshot and journal alone are the truth. It is read only to heal, when
//!   a damaged snapshot or journal frame has left a hole that it covers.
//! - Changes go over in batches; a batch *joins* a copy that stands between two commits, and brings it to a third, `applied`,
//!   which is written last.
//! - A copy that missed changes is *stale*; it takes changes again only after a batch with the whole content.

use std::collections::BTreeMap;

/// Values longer than this stay with snapshot and journal: sled keeps long ones in files that it never syncs.
pub const VALUE_MAX: usize = 4096;

/// What a batch does to a key: `None` deletes it.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Commits, oldest and newest, at which the copy may stand for the batch to join it; of no meaning in a whole batch.
    pub joins: (u64, u64),
    /// All changes through this commit are in the batch.
    pub applied: u64,
    /// The batch is everything: other keys are to go.
    pub whole: bool,
    /// New values.
    pub changes: Changes,
}

/// The copy as read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The copy has all changes through this commit, and perhaps newer values, which are in the journal as well.
    pub applied: u64,
    /// `None`: too long to be kept here.
    pub entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What the keyed store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ready for a batch; the last one is applied.
    Idle,
    /// Busy with the last batch.
    Working,
    /// The last batch failed, or did not join what is there: it needs a whole one. Told once.
    Failed(String),
}

/// A keyed store.
pub trait Keyed {
    /// Whether there is one at all.
    fn enabled(&self) -> bool;
    /// Takes a batch; only when [`Progress::Idle`] or after a failure.
    fn submit(&mut self, batch: Batch);
    /// How the last batch fared.
    fn progress(&mut self) -> Progress;
    /// The content, if there is any that can be read. Creates nothing.
    fn image(&mut self) -> Option<Image>;
    /// Bytes of keys and values written so far.
    fn bytes_written(&self) -> u64;
}

/// No keyed store: snapshots and the journal do it alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKeyed;

impl Keyed for NoKeyed {
    fn enabled(&self) -> bool {
        false
    }
    fn submit(&mut self, _batch: Batch) {}
    fn progress(&mut self) -> Progress {
        Progress::Idle
    }
    fn image(&mut self) -> Option<Image> {
        None
    }
    fn bytes_written(&self) -> u64 {
        0
    }
}

/// What the store keeps for the next batch.
#[derive(Debug, Default)]
pub struct Dirty {
    changes: Changes,
    bytes: usize,
    bytes_max: usize,
    joins: (u64, u64),
    stale: bool,
}

impl Dirty {
    /// All changes behind the commit `oldest` will be noted, `newest` is the last one yet. Holds at most `bytes_max` bytes; more,
    /// and the copy becomes stale.
    #[must_use]
    pub fn new(oldest: u64, newest: u64, bytes_max: usize) -> Self {
        Self { bytes_max, joins: (oldest, newest), ..Self::default() }
    }

    /// Notes a change.
    pub fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        if self.stale {
            return;
        }
        let len = value.map_or(0, <[u8]>::len);
        if let Some(slot) = self.changes.get_mut(key) {
            self.bytes = self.bytes + len - slot.as_ref().map_or(0, Vec::len);
            match (slot, value) {
                (Some(old), Some(value)) => {
                    old.clear();
                    old.extend_from_slice(value);
                }
                (slot, value) => *slot = value.map(<[u8]>::to_vec),
            }
        } else {
            self.bytes += key.len() + len;
            self.changes.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
        if self.bytes > self.bytes_max {
            self.give_up();
        }
    }

    /// The copy has missed something: nothing more is kept until the next whole batch.
    pub fn give_up(&mut self) {
        self.stale = true;
        self.changes = Changes::new();
        self.bytes = 0;
    }

    /// Whether only a whole batch helps.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it is time for a batch, whatever the interval.
    #[must_use]
    pub const fn is_half_full(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }

    /// The batch through `commit`.
    pub fn take(&mut self, commit: u64) -> Batch {
        self.bytes = 0;
        let joins = std::mem::replace(&mut self.joins, (commit, commit));
        Batch { joins, applied: commit, whole: false, changes: std::mem::take(&mut self.changes) }
    }

    /// A whole batch through `commit` has gone over.
    pub fn reset(&mut self, commit: u64) {
        *self = Self::new(commit, commit, self.bytes_max);
    }
}
