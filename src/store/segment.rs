//! Segments: files of one size, zeroed once, then overwritten in place, whichever log they serve next.
//!
//! - A free segment lies in `free/` and is renamed into a log; a released one is renamed back. A name is durable before the
//!   first frame goes into the file.
//! - Free and journal segments together never exceed the journal's quota and the reserve.
//! - The last [`RESERVE`] free segments are ballast: only the journal may take them, so that the gateway can keep its books on a
//!   full disk, until a snapshot gives them back. A lane may have again what lanes have given. Opening allocates nothing.

use crate::frame::SEGMENT_MAX;

use super::Stats;
use super::disk::{Disk, DiskError, DiskFile, Patience};

/// Free segments that only the journal may take.
pub const RESERVE: usize = 2;

const FREE: &str = "free";
const FILL: usize = 16 * 1024;

/// Who asks for a segment, or gives one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A lane: leaves the reserve alone.
    Lane,
    /// A lane that has no segment: may take all of the reserve but one. It holds nothing by which it could make room, and what it
    /// takes comes back when it is delivered.
    EmptyLane,
    /// The journal: may take everything, because a snapshot gives it back.
    Journal,
}

/// The disk, the free segments on it, and what was done to it.
#[derive(Debug)]
pub struct Base<D: Disk> {
    /// The disk.
    pub disk: D,
    /// For what is read while the store is opened.
    pub patience: Patience,
    /// Size of a segment.
    pub segment_bytes: u32,
    /// Segments of the journal, kept up to date by it.
    pub journal_live: usize,
    /// Counters.
    pub stats: Stats,
    free: Vec<u32>,
    /// Segments that lanes have given while the journal had some of the reserve: theirs, although they fill it up.
    lent: usize,
    next_free: u32,
    journal_quota: usize,
    tight: bool,
}

/// File name of segment `number`.
#[must_use]
pub fn file_name(number: u32) -> String {
    format!("{number:010}.seg")
}

/// The numbers of the segments in `dir`, ascending.
pub fn numbers<D: Disk>(disk: &mut D, dir: &str) -> Result<Vec<u32>, DiskError> {
    let number = |name: &String| {
        let number = name.strip_suffix(".seg").filter(|digits| digits.len() == 10)?.parse().ok();
        number.filter(|number| *number <= SEGMENT_MAX)
    };
    let mut found: Vec<u32> = disk.list(dir)?.iter().filter_map(number).collect();
    found.sort_unstable();
    Ok(found)
}

fn free_path(id: u32) -> String {
    format!("{FREE}/{}", file_name(id))
}

impl<D: Disk> Base<D> {
    /// Takes the disk and looks for free segments; half-made ones are removed.
    pub fn open(mut disk: D, segment_bytes: u32, journal_quota: usize) -> Result<Self, DiskError> {
        disk.create_dir(FREE)?;
        let mut free = Vec::new();
        let mut next_free = 1;
        for id in numbers(&mut disk, FREE)? {
            next_free = next_free.max(id.saturating_add(1));
            let len = disk.open(&free_path(id))?.map_or(Ok(0), |file| file.len())?;
            if len == u64::from(segment_bytes) {
                free.push(id);
            } else {
                disk.remove(&free_path(id))?;
            }
        }
        Ok(Self {
            disk,
            patience: Patience::new(super::read::TRIES_MAX),
            segment_bytes,
            journal_live: 0,
            stats: Stats::default(),
            free,
            lent: 0,
            next_free,
            journal_quota,
            tight: false,
        })
    }

    /// Free segments.
    #[must_use]
    pub fn free_segments(&self) -> usize {
        self.free.len()
    }

    /// Whether the reserve is touched and the disk has no room for more.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.tight && self.free.len() < RESERVE
    }

    /// Journal segments that there may be, the reserve included.
    #[must_use]
    pub const fn journal_max(&self) -> usize {
        self.journal_quota + RESERVE
    }

    /// A segment under the name `dir/number`, durable as a name; its content is old.
    pub fn take(&mut self, dir: &str, number: u32, need: Need) -> Result<D::File, DiskError> {
        let kept = match need {
            Need::Journal => 0,
            Need::Lane | Need::EmptyLane if 0 < self.lent => 0,
            Need::EmptyLane => 1,
            Need::Lane => RESERVE,
        };
        if self.free.len() <= RESERVE {
            match self.fill() {
                // Taken from the reserve; that it is touched and cannot be filled up is remembered, and a snapshot is due.
                Err(DiskError::Full) if kept < self.free.len() => {}
                filled => filled?,
            }
        }
        if need != Need::Journal && self.free.len() <= RESERVE {
            self.lent = self.lent.saturating_sub(1);
        }
        let id = self.free.pop().ok_or(DiskError::Full)?;
        let path = format!("{dir}/{}", file_name(number));
        self.disk.rename(&free_path(id), &path)?;
        self.disk.sync_dir(dir)?;
        self.stats.syncs += 1;
        self.disk.open(&path)?.ok_or_else(|| DiskError::Failed(format!("{path}: vanished")))
    }

    /// Takes `dir/number` back from `whose`, for reuse if there is room and else for good.
    pub fn give(&mut self, dir: &str, number: u32, whose: Need) -> Result<(), DiskError> {
        let path = format!("{dir}/{}", file_name(number));
        let Some(file) = self.disk.open(&path)? else { return Ok(()) };
        let len = file.len()?;
        let size = u64::from(self.segment_bytes);
        if self.free.len() + self.journal_live >= self.journal_max() || len < size {
            return self.disk.remove(&path);
        }
        if len > size {
            file.set_len(size)?;
        }
        let id = self.new_id();
        self.disk.rename(&path, &free_path(id))?;
        self.free.push(id);
        self.lent = match whose {
            // Beyond the reserve lanes need no leave.
            _ if RESERVE < self.free.len() => 0,
            Need::Lane | Need::EmptyLane => self.lent + 1,
            Need::Journal => self.lent,
        };
        Ok(())
    }

    /// Makes sure that `file`, a segment, is at least `len` bytes long. Free segments make room for it on a full disk.
    pub fn extend(&mut self, file: &D::File, len: u64) -> Result<(), DiskError> {
        let is = file.len()?;
        if len <= is {
            return Ok(());
        }
        loop {
            let filled = fill(file, is, len);
            if filled != Err(DiskError::Full) {
                return filled;
            }
            file.set_len(is)?;
            if self.free.len() <= RESERVE && self.lent == 0 {
                return filled;
            }
            if self.free.len() <= RESERVE {
                self.lent -= 1;
            }
            self.drop_free()?;
        }
    }

    /// Makes one segment of the reserve if one is missing; whether it did. To be called when there is nothing to do.
    pub fn replenish(&mut self) -> Result<bool, DiskError> {
        if self.free.len() >= RESERVE {
            return Ok(false);
        }
        self.fill()?;
        Ok(true)
    }

    /// Gives the room of one free segment back to the disk.
    pub fn drop_free(&mut self) -> Result<(), DiskError> {
        let Some(id) = self.free.pop() else { return Ok(()) };
        self.disk.remove(&free_path(id))?;
        // Room that somebody waits for: it is there when the name is gone for good.
        self.disk.sync_dir(FREE)?;
        self.stats.syncs += 1;
        Ok(())
    }

    fn new_id(&mut self) -> u32 {
        self.next_free = self.next_free.wrapping_add(1);
        self.next_free - 1
    }

    fn fill(&mut self) -> Result<(), DiskError> {
        let id = self.new_id();
        let path = free_path(id);
        let file = self.disk.create(&path)?;
        let filled = fill(&file, 0, u64::from(self.segment_bytes)).and_then(|()| file.sync_data());
        self.tight = filled == Err(DiskError::Full);
        if let Err(error) = filled {
            // Half a segment is of no use to anybody, and the room is missed elsewhere.
            drop(file);
            self.disk.remove(&path)?;
            return Err(error);
        }
        self.stats.syncs += 1;
        self.stats.fill_bytes += u64::from(self.segment_bytes);
        self.free.push(id);
        Ok(())
    }
}

/// Writes zeros.
pub fn fill<F: DiskFile>(file: &F, from: u64, to: u64) -> Result<(), DiskError> {
    let zeros = vec![0; FILL];
    let mut at = from;
    while at < to {
        let len = (to - at).min(FILL as u64);
        file.write_at(at, &zeros[..len as usize])?;
        at += len;
    }
    Ok(())
}
