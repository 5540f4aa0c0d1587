//! A snapshot that the store makes by itself, of what is on flash: the last one, and the journal behind it, read back.
//!
//! - The gateway's snapshots are of a commit that has just happened. Where a batch waits because the disk is full, none happens;
//!   the journal holds segments that the batch could have.
//! - What cannot be read back whole is left alone.

use crate::entry::Entries;

use super::disk::Disk;
use super::journal::{Journal, split_body};
use super::keyed::Keyed;
use super::recover::Replay;
use super::{CommitError, Store};

impl<D: Disk, K: Keyed> Store<D, K> {
    /// Lets closed segments of the journal go. Whether any went.
    pub fn compact(&mut self) -> Result<bool, CommitError> {
        self.check_failed()?;
        if self.journal.releasable() == 0 {
            return Ok(false);
        }
        let mut replay = Replay::<D::File>::new(0);
        let loaded = self.snapshots.reload(&mut self.base)?;
        let covered = loaded.as_ref().map_or(0, |loaded| loaded.commit);
        if let Some(loaded) = loaded {
            replay.load(&loaded);
        }
        let (found, scan) = Journal::scan(
            &mut self.base,
            self.journal.salt,
            covered,
            &mut |_, body| match split_body(body, &mut |_| ()) {
                Some(list) => replay.put_all(list, false),
                None => replay.malformed += 1,
            },
        )?;
        let is_whole = scan.missing + scan.skipped_bytes + replay.malformed == 0 && !scan.starts_late;
        if !is_whole || found.last_commit() != self.journal.last_commit() {
            return Ok(false);
        }
        let mut entries = Entries::default();
        replay.entries.iter().for_each(|(key, value)| entries.put(&[key], value));
        drop(replay);
        self.snapshot(entries.bytes())?;
        Ok(true)
    }
}
