//! Snapshots: all entries and lane tails at one commit, so that the journal before it may go.
//!
//! - A snapshot is written beside the last one, synced, renamed and its folder synced; only then the last one is given up.
//! - The file of the one before is overwritten, and has some room to spare, so that a snapshot works on a full disk.
//! - One frame a file; body as in the journal.

use crate::frame::{FrameKind, HEADER, Header, PAGE, SEGMENT_MAX};

use super::disk::{Disk, DiskError, DiskFile};
use super::journal::{TailItem, put_tail, split_body};
use super::segment::{Base, fill};
use crate::entry::put_varint;

/// Folder of the snapshots.
pub const DIR: &str = "snapshot";
const SPARE: &str = "snapshot/snapshot.tmp";
/// Where damaged files are kept: the newest of each kind.
pub const QUARANTINE: &str = "quarantine";

/// Which snapshot file is the newest.
#[derive(Debug)]
pub struct Snapshots {
    salt: u32,
    newest: Option<u32>,
    next: u32,
    /// Bytes of the newest snapshot.
    len: u64,
}

/// A snapshot as read back.
#[derive(Debug)]
pub struct Loaded {
    /// It covers all commits through this one.
    pub commit: u64,
    body: Vec<u8>,
}

impl Loaded {
    /// Hands the tails to `visit`; the entries, or `None` if the body is malformed.
    pub fn split<'a>(&'a self, visit: &mut dyn FnMut(TailItem<'a>)) -> Option<&'a [u8]> {
        split_body(&self.body, visit)
    }
}

fn path(number: u32) -> String {
    format!("{DIR}/{number:010}.snap")
}

impl Snapshots {
    /// Reads the newest good snapshot, if there is one. Damaged ones are set aside; how many is the second part.
    pub fn open<D: Disk>(base: &mut Base<D>, salt: u32) -> Result<(Self, Option<Loaded>, u64), DiskError> {
        base.disk.create_dir(DIR)?;
        base.disk.create_dir(QUARANTINE)?;
        let mut snapshots = Self { salt, newest: None, next: 1, len: 0 };
        let mut damaged = 0;
        let mut loaded = None;
        for number in numbers(&mut base.disk)?.into_iter().rev() {
            snapshots.next = snapshots.next.max(number.saturating_add(1));
            if loaded.is_some() {
                base.disk.remove(&path(number))?;
                continue;
            }
            loaded = load(base, salt, number)?;
            if let Some(found) = &loaded {
                snapshots.newest = Some(number);
                snapshots.len = u64::from(HEADER) + found.body.len() as u64;
            } else {
                damaged += 1;
                base.disk.rename(&path(number), &format!("{QUARANTINE}/snapshot"))?;
            }
        }
        Ok((snapshots, loaded, damaged))
    }

    /// Reads the newest one once more. `None`: there is none, or not any more.
    pub fn reload<D: Disk>(&self, base: &mut Base<D>) -> Result<Option<Loaded>, DiskError> {
        self.newest.map_or(Ok(None), |number| load(base, self.salt, number))
    }

    /// Writes a snapshot of `entries` and `tails` as they are after `commit`; it will free `frees` segments of the journal.
    pub fn write<D: Disk>(
        &mut self,
        base: &mut Base<D>,
        commit: u64,
        tails: &[TailItem<'_>],
        entries: &[u8],
        frees: usize,
    ) -> Result<(), DiskError> {
        match self.write_spare(base, commit, tails, entries) {
            Err(DiskError::Full) => {
                self.make_room(base, tails.len(), entries.len(), frees)?;
                self.write_spare(base, commit, tails, entries)?;
            }
            outcome => outcome?,
        }
        let number = self.next;
        base.disk.rename(SPARE, &path(number))?;
        base.disk.sync_dir(DIR)?;
        base.stats.syncs += 1;
        base.stats.snapshots += 1;
        self.next += 1;
        if let Some(old) = self.newest.replace(number) {
            base.disk.rename(&path(old), SPARE)?;
        }
        Ok(())
    }

    /// Gives segments of the reserve up, if the snapshot then fits and frees enough for at least one to be there afterwards.
    fn make_room<D: Disk>(
        &self,
        base: &mut Base<D>,
        tails: usize,
        entries: usize,
        frees: usize,
    ) -> Result<(), DiskError> {
        let spare = base.disk.open(SPARE)?.map_or(Ok(0), |file| file.len())?;
        let growth = (entries as u64 + 128 * (tails as u64 + 1)).saturating_sub(spare);
        let segments = usize::try_from(growth.div_ceil(u64::from(base.segment_bytes))).unwrap_or(usize::MAX);
        if segments > base.free_segments() || segments >= base.free_segments() + frees {
            return Err(DiskError::Full);
        }
        (0..segments).try_for_each(|_| base.drop_free())
    }

    /// Makes sure that the next snapshot may be somewhat larger; whether there was something to do.
    pub fn reserve<D: Disk>(&self, base: &mut Base<D>) -> Result<bool, DiskError> {
        // Before the first one: the least that the flash plan counts for two.
        let want = if self.newest.is_some() { self.reserved() } else { 2 * u64::from(PAGE) };
        let file = match base.disk.open(SPARE)? {
            Some(file) => file,
            None => base.disk.create(SPARE)?,
        };
        let len = file.len()?;
        if len >= want {
            return Ok(false);
        }
        fill(&file, len, want)?;
        base.stats.fill_bytes += want - len;
        Ok(true)
    }

    const fn reserved(&self) -> u64 {
        self.len + self.len / 4 + PAGE as u64
    }

    fn write_spare<D: Disk>(
        &mut self,
        base: &mut Base<D>,
        commit: u64,
        tails: &[TailItem<'_>],
        entries: &[u8],
    ) -> Result<(), DiskError> {
        let mut start = vec![0; HEADER as usize];
        put_varint(&mut start, tails.len() as u64);
        for item in tails {
            put_tail(&mut start, item);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&start[HEADER as usize..]);
        crc.update(entries);
        let body_len = start.len() + entries.len() - HEADER as usize;
        let header = Header {
            kind: FrameKind::Snapshot,
            segment: self.next,
            body_len: u32::try_from(body_len).map_err(|_| DiskError::Failed("snapshot: more than 4 GiB".into()))?,
            body_crc: crc.finalize(),
            first: commit,
            count: 0,
            messages: 0,
            first_message: 0,
            at_ms: 0,
            commit,
        };
        start[..HEADER as usize].copy_from_slice(&header.encode(self.salt));
        let file = match base.disk.open(SPARE)? {
            Some(file) => file,
            None => base.disk.create(SPARE)?,
        };
        file.write_at(0, &start)?;
        file.write_at(start.len() as u64, entries)?;
        self.len = u64::from(HEADER) + body_len as u64;
        if file.len()? > self.reserved() * 2 {
            file.set_len(self.reserved())?;
        }
        file.sync_data()?;
        base.stats.syncs += 1;
        base.stats.snapshot_bytes += self.len;
        Ok(())
    }
}

fn numbers<D: Disk>(disk: &mut D) -> Result<Vec<u32>, DiskError> {
    let number = |name: &String| name.strip_suffix(".snap")?.parse().ok().filter(|number| *number <= SEGMENT_MAX);
    let mut found: Vec<u32> = disk.list(DIR)?.iter().filter_map(number).collect();
    found.sort_unstable();
    Ok(found)
}

fn load<D: Disk>(base: &mut Base<D>, salt: u32, number: u32) -> Result<Option<Loaded>, DiskError> {
    let Some(file) = base.disk.open(&path(number))? else { return Ok(None) };
    let mut head = [0; HEADER as usize];
    // What is only not to be read may be all there: whoever comes after us finds it in its place.
    let unreadable = || DiskError::Failed(format!("{}: cannot be read; a restart tries again", path(number)));
    let read = base.patience.read(&file, 0, &mut head).ok_or_else(unreadable)?;
    let Some(header) = Header::decode(&head[..read], FrameKind::Snapshot, salt, number) else { return Ok(None) };
    if file.len()? < u64::from(header.frame_len()) {
        return Ok(None);
    }
    let mut body = vec![0; header.body_len as usize];
    let read = base.patience.read(&file, u64::from(HEADER), &mut body).ok_or_else(unreadable)?;
    let good = read == body.len() && crc32fast::hash(&body) == header.body_crc;
    Ok(good.then_some(Loaded { commit: header.first, body }))
}
