//! A lane's log: its records in segments, oldest first.
//!
//! - The committed end is the journal's word ([`Tail`]); what lies behind it never happened and is never read.
//! - In memory there is one [`Extent`] a segment, never anything per record.
//! - Small frames are written without a sync: the journal holds a second copy until [`LaneLog::make_durable`].

use core::ops::Range;
use std::collections::VecDeque;

use crate::frame::{CELL, FrameKind, HEADER, Header, PAGE, Place, align_up, claims, place, salt};
use crate::time::WallMillis;

use super::disk::{Disk, DiskError, DiskFile, Patience};
use super::journal::Tail;
use super::segment::{Base, Need, file_name, numbers};
use super::{CommitError, LaneAppend, snapshot};

/// What lies in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The segment's number.
    pub segment: u32,
    /// Sequence of the first readable record.
    pub first_seq: u64,
    /// Messages closed by all records before it.
    pub first_message: u64,
    /// Bytes from the segment's start to the end of its last frame; the size of the file where that is not known.
    pub bytes: u32,
    /// When the first frame was made.
    pub at_ms: WallMillis,
}

/// A lane's log.
#[derive(Debug)]
pub struct LaneLog<F> {
    /// The lane's name.
    pub name: String,
    pub(super) dir: String,
    pub(super) salt: u32,
    pub(super) extents: VecDeque<Extent>,
    pub(super) tail: Tail,
    pub(super) reading: Option<(u32, F)>,
    pub(super) hint: Hint,
    /// Reads in a row that the medium failed.
    pub(super) failed_reads: u32,
    writing: Option<F>,
    prepared: Option<(u32, F)>,
    unsynced: bool,
    unclean: bool,
}

/// Where a frame starts: the last one that was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) seq: u64,
}

/// What was put aside or dropped when a lane was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneScan {
    /// Frames behind the committed end.
    pub uncommitted: u64,
    /// Whose they were.
    pub behind: Behind,
    /// Bytes of segments without a readable frame.
    pub quarantined_bytes: u64,
    /// The lane has records of which the journal knows nothing.
    pub adopted: bool,
}

/// Whole frames behind the committed end, by their commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// The newest commit among them. It may never have happened; all before it have.
    pub newest: u64,
    /// Records of the newest commit.
    pub newest_records: u64,
    /// Records of the others.
    pub older_records: u64,
}

impl Behind {
    /// Adds those of another lane.
    pub fn join(&mut self, other: Self) {
        let [older, newer] = if self.newest <= other.newest { [*self, other] } else { [other, *self] };
        let together = older.newest == newer.newest;
        let (joins_newest, joins_older) = if together { (older.newest_records, 0) } else { (0, older.newest_records) };
        *self = Self {
            newest: newer.newest,
            newest_records: newer.newest_records + joins_newest,
            older_records: newer.older_records + older.older_records + joins_older,
        };
    }
}

/// An append, placed but not yet written.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Where the frame goes.
    pub place: Place,
    /// The tail once it is committed.
    pub tail: Tail,
    /// The frame's header.
    pub header: Header,
}

/// Folder of the lane `name`.
#[must_use]
pub fn dir(name: &str) -> String {
    format!("lanes/{name}")
}

impl<F: DiskFile> LaneLog<F> {
    /// Places an append behind the tail. The error text tells a mistake of the caller.
    pub fn plan(&self, append: &LaneAppend<'_>, commit: u64) -> Result<Planned, CommitError> {
        let wrong = |what: &str| {
            Err(CommitError::Failed(format!("lane {}: {what} ({append:?} behind {:?})", self.name, self.tail)))
        };
        let behind = if append.segment == self.tail.segment && self.writing.is_some() {
            self.tail.end
        } else if append.segment > self.tail.segment {
            0
        } else {
            return wrong("the segment is closed");
        };
        if self.tail.segment > 0 && append.first_seq != self.tail.next_seq {
            return wrong("the sequence has a gap");
        }
        let Some(body_len) = u32::try_from(append.records.len()).ok().filter(|len| *len <= crate::frame::BODY_MAX)
        else {
            return wrong("too long");
        };
        let place = place(behind, body_len);
        let next_seq = append.first_seq + u64::from(append.count);
        let next_message = append.first_message + u64::from(append.messages);
        let header = Header {
            kind: FrameKind::Lane,
            segment: append.segment,
            body_len,
            body_crc: crc32fast::hash(append.records),
            first: append.first_seq,
            count: append.count,
            messages: append.messages,
            first_message: append.first_message,
            at_ms: append.at_ms,
            commit,
        };
        let tail = Tail { segment: append.segment, end: place.end, next_seq, next_message };
        Ok(Planned { place, tail, header })
    }

    /// The frame's header as bytes.
    #[must_use]
    pub fn head(&self, planned: &Planned) -> [u8; HEADER as usize] {
        planned.header.encode(self.salt)
    }

    /// Writes a planned frame; a big one is synced. It does not count until [`LaneLog::committed`].
    pub fn write<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        planned: &Planned,
        records: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<(), CommitError> {
        let number = planned.tail.segment;
        self.clean(base)?;
        if number != self.tail.segment {
            self.sync(base)?;
            self.prepare(base, number)?;
        }
        // From here on there may be a frame behind the tail.
        self.unclean = true;
        let file = if number == self.tail.segment { self.writing.as_ref() } else { self.prepared_file() };
        let file = file.ok_or_else(|| CommitError::Failed(format!("{}/{number}: not open", self.dir)))?;
        buffer.clear();
        buffer.extend_from_slice(&self.head(planned));
        buffer.extend_from_slice(records);
        let end = align_up(planned.place.offset + buffer.len() as u32, PAGE);
        buffer.resize((end - planned.place.offset) as usize, 0);
        let end = u64::from(planned.place.offset) + buffer.len() as u64;
        if u64::from(base.segment_bytes) < end {
            base.extend(file, end)?;
        }
        file.write_at(u64::from(planned.place.offset), buffer)?;
        base.stats.lane_bytes += buffer.len() as u64;
        if !planned.place.inline {
            file.sync_data().map_err(CommitError::from_sync)?;
            base.stats.syncs += 1;
        }
        Ok(())
    }

    fn prepared_file(&self) -> Option<&F> {
        self.prepared.as_ref().map(|(_, file)| file)
    }

    fn prepare<D: Disk<File = F>>(&mut self, base: &mut Base<D>, number: u32) -> Result<(), CommitError> {
        match self.prepared.take() {
            Some((old, file)) if old == number => self.prepared = Some((old, file)),
            other => {
                if let Some((old, _)) = other {
                    base.give(&self.dir, old, Need::Lane)?;
                }
                base.disk.create_dir(&self.dir)?;
                let need = if self.extents.is_empty() { Need::EmptyLane } else { Need::Lane };
                self.prepared = Some((number, base.take(&self.dir, number, need)?));
            }
        }
        Ok(())
    }

    /// The commit with this frame has happened.
    pub fn committed(&mut self, planned: &Planned) {
        if planned.tail.segment != self.tail.segment {
            self.writing = self.prepared.take().map(|(_, file)| file);
            self.extents.push_back(Extent {
                segment: planned.tail.segment,
                first_seq: planned.header.first,
                first_message: planned.header.first_message,
                bytes: 0,
                at_ms: planned.header.at_ms,
            });
        }
        self.tail = planned.tail;
        if let Some(extent) = self.extents.back_mut() {
            extent.bytes = planned.tail.end;
        }
        self.unsynced |= planned.place.inline;
        self.unclean = false;
    }

    /// Makes small frames durable where they lie; the next one then starts on a page of its own, because the journal's copy
    /// may go. To be called before a snapshot lets the journal go.
    pub fn make_durable<D: Disk<File = F>>(&mut self, base: &mut Base<D>) -> Result<(), CommitError> {
        self.clean(base)?;
        self.sync(base)?;
        self.tail.end = align_up(self.tail.end, PAGE);
        Ok(())
    }

    fn sync<D: Disk<File = F>>(&mut self, base: &mut Base<D>) -> Result<(), CommitError> {
        if let (true, Some(file)) = (self.unsynced, &self.writing) {
            file.sync_data().map_err(CommitError::from_sync)?;
            base.stats.syncs += 1;
        }
        self.unsynced = false;
        Ok(())
    }

    /// Wipes what a commit that did not happen left behind the tail: it would be read as soon as the tail has passed it.
    fn clean<D: Disk<File = F>>(&mut self, base: &mut Base<D>) -> Result<(), CommitError> {
        if let (true, Some(file)) = (self.unclean, &self.writing)
            && wipe(file, self.tail.segment, self.tail.end)? > 0
        {
            file.sync_data().map_err(CommitError::from_sync)?;
            base.stats.syncs += 1;
        }
        self.unclean = false;
        Ok(())
    }

    /// Lets the segments in the range go. If all go, the next append must use a new one.
    pub fn release<D: Disk<File = F>>(&mut self, base: &mut Base<D>, range: Range<u32>) -> Result<(), DiskError> {
        while let Some(place) = self.extents.iter().position(|extent| range.contains(&extent.segment)) {
            let Some(extent) = self.extents.remove(place) else { break };
            if self.reading.as_ref().is_some_and(|(number, _)| *number == extent.segment) {
                self.reading = None;
            }
            if extent.segment == self.tail.segment {
                (self.writing, self.unsynced, self.unclean) = (None, false, false);
            }
            base.give(&self.dir, extent.segment, Need::Lane)?;
        }
        Ok(())
    }

    /// The smallest number for a new segment.
    #[must_use]
    pub const fn next_segment(&self) -> u32 {
        self.tail.segment + 1
    }

    /// Opens the lane as the journal left it (`tail`); with `adopt`, the journal is lost and the frames themselves tell. Commits
    /// through `through` have happened although the journal may have lost what they say of the lane (0: it has lost nothing).
    pub fn open<D: Disk<File = F>>(
        base: &mut Base<D>,
        name: &str,
        store_salt: u32,
        tail: Option<Tail>,
        adopt: bool,
        through: u64,
    ) -> Result<(Self, LaneScan), DiskError> {
        let dir = dir(name);
        base.disk.create_dir(&dir)?;
        let mut lane = Self {
            salt: salt(&dir) ^ store_salt,
            name: name.to_owned(),
            extents: VecDeque::new(),
            tail: tail.unwrap_or(Tail { next_seq: 1, ..Tail::default() }),
            reading: None,
            hint: Hint::default(),
            failed_reads: 0,
            writing: None,
            prepared: None,
            unsynced: true,
            unclean: true,
            dir,
        };
        let mut scan = LaneScan::default();
        let present = numbers(&mut base.disk, &lane.dir)?;
        if tail.is_none() && adopt {
            scan.adopted = lane.adopt(base, &present)?;
        } else if through > 0 {
            lane.extend(base, &present, through)?;
        }
        for number in present {
            lane.open_segment(base, number, &mut scan)?;
        }
        if let Some(file) = &lane.writing {
            lane.look_behind(&base.patience, file, (lane.tail.segment, lane.tail.end), &mut scan.behind);
            // A failure here is met again, and told, before the next append.
            scan.uncommitted += wipe(file, lane.tail.segment, lane.tail.end).unwrap_or(0);
        }
        Ok((lane, scan))
    }

    fn open_segment<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        number: u32,
        scan: &mut LaneScan,
    ) -> Result<(), DiskError> {
        let Some(file) = base.disk.open(&format!("{}/{}", self.dir, file_name(number)))? else { return Ok(()) };
        if number > self.tail.segment {
            self.look_behind(&base.patience, &file, (number, 0), &mut scan.behind);
            return base.give(&self.dir, number, Need::Lane);
        }
        let end = if number == self.tail.segment { self.tail.end } else { file_end(&file) };
        let found = self.find(&file, number, 0, end, 0, Some(&base.patience))?;
        if number == self.tail.segment {
            self.writing = Some(file);
        } else if found.is_none() {
            scan.quarantined_bytes += u64::from(end);
            let from = format!("{}/{}", self.dir, file_name(number));
            return base.disk.rename(&from, &format!("{}/lane-segment", snapshot::QUARANTINE));
        }
        let (first_seq, first_message, at_ms) = found
            .map_or((self.tail.next_seq, self.tail.next_message, 0), |(_, head)| {
                (head.first, head.first_message, head.at_ms)
            });
        self.extents.push_back(Extent { segment: number, first_seq, first_message, bytes: end, at_ms });
        Ok(())
    }

    /// Notes the frames of a segment from `at` on.
    fn look_behind(&self, patience: &Patience, file: &F, (segment, mut at): (u32, u32), behind: &mut Behind) {
        let mut page = [0; PAGE as usize];
        let end = file_end(file);
        while at < end {
            let stop = align_up(at + 1, PAGE).min(end);
            let part = &mut page[..(stop - at) as usize];
            let read = patience.read(file, u64::from(at), part).unwrap_or(0);
            let heads = part[..read].chunks(CELL as usize);
            for head in heads.filter_map(|cell| Header::decode(cell, FrameKind::Lane, self.salt, segment)) {
                let records = u64::from(head.count);
                behind.join(Behind { newest: head.commit, newest_records: records, older_records: 0 });
            }
            at = stop;
        }
    }

    /// Without a journal, what lies in the newest segment is taken as committed; unless it is the first commit of all, of which
    /// nothing proves that it happened. Whether there was anything.
    fn adopt<D: Disk<File = F>>(&mut self, base: &mut Base<D>, present: &[u32]) -> Result<bool, DiskError> {
        self.tail.next_seq = u64::MAX;
        let mut body = Vec::new();
        for number in present.iter().rev() {
            let Some(file) = base.disk.open(&format!("{}/{}", self.dir, file_name(*number)))? else { continue };
            let (mut at, mut tail) = (0, Tail { next_seq: 1, ..Tail::default() });
            let patience = Some(&base.patience);
            while let Some((offset, head)) = self.find(&file, *number, at, file_end(&file), tail.next_seq, patience)? {
                body.resize(head.body_len as usize, 0);
                let read = base.patience.read(&file, u64::from(offset + HEADER), &mut body).unwrap_or(0);
                at = align_up(offset + head.frame_len(), CELL);
                if read == body.len() && crc32fast::hash(&body) == head.body_crc && head.commit > 1 {
                    let (next_seq, next_message) =
                        (head.first + u64::from(head.count), head.first_message + u64::from(head.messages));
                    tail = Tail { segment: *number, end: align_up(at, PAGE), next_seq, next_message };
                }
            }
            if tail.segment > 0 {
                self.tail = tail;
                return Ok(true);
            }
        }
        self.tail.next_seq = 1;
        Ok(false)
    }

    /// Moves the tail over whole frames that go on from it without a gap and belong to commits that are known to have happened.
    fn extend<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        present: &[u32],
        through: u64,
    ) -> Result<(), DiskError> {
        let (first, mut tail, mut body) = (self.tail.segment, self.tail, Vec::new());
        self.tail.next_seq = u64::MAX;
        for number in present.iter().copied().filter(|number| first <= *number) {
            let Some(file) = base.disk.open(&format!("{}/{}", self.dir, file_name(number)))? else { continue };
            let mut at = if number == tail.segment { tail.end } else { 0 };
            let patience = Some(&base.patience);
            while let Some((offset, head)) = self.find(&file, number, at, file_end(&file), tail.next_seq, patience)? {
                body.resize(head.body_len as usize, 0);
                let read = base.patience.read(&file, u64::from(offset + HEADER), &mut body).unwrap_or(0);
                let whole = read == body.len() && crc32fast::hash(&body) == head.body_crc;
                if !whole || head.first != tail.next_seq || through < head.commit {
                    break;
                }
                at = align_up(offset + head.frame_len(), CELL);
                let next_message = head.first_message + u64::from(head.messages);
                let next_seq = head.first + u64::from(head.count);
                tail = Tail { segment: number, end: align_up(at, PAGE), next_seq, next_message };
            }
        }
        self.tail = tail;
        Ok(())
    }

    /// The first header at or behind `at` that fits: a frame that ends by `end` and continues the sequence `expected`. With
    /// `patience`, what cannot be read holds none.
    pub(super) fn find(
        &self,
        file: &F,
        segment: u32,
        mut at: u32,
        end: u32,
        expected: u64,
        patience: Option<&Patience>,
    ) -> Result<Option<(u32, Header)>, DiskError> {
        let mut page = [0; PAGE as usize];
        while at < end {
            let stop = align_up(at + 1, PAGE).min(end);
            let part = &mut page[..(stop - at) as usize];
            let read = match patience {
                Some(patience) => patience.read(file, u64::from(at), part).unwrap_or(0),
                None => file.read_at(u64::from(at), part)?,
            };
            for (index, cell) in part[..read].chunks(CELL as usize).enumerate() {
                let offset = at + index as u32 * CELL;
                let fits = |head: &Header| {
                    head.first >= expected
                        && head.first.saturating_add(u64::from(head.count)) <= self.tail.next_seq
                        && head.frame_len() <= end - offset
                };
                if let Some(head) = Header::decode(cell, FrameKind::Lane, self.salt, segment).filter(fits) {
                    return Ok(Some((offset, head)));
                }
            }
            at = stop;
        }
        Ok(None)
    }
}

fn file_end<F: DiskFile>(file: &F) -> u32 {
    let len = u32::try_from(file.len().unwrap_or(0)).unwrap_or(u32::MAX);
    align_up(len.min(u32::MAX - PAGE), CELL)
}

/// Destroys every header of `segment` behind `from`; how many there were.
fn wipe<F: DiskFile>(file: &F, segment: u32, from: u32) -> Result<u64, DiskError> {
    let mut page = [0; PAGE as usize];
    let (mut at, mut wiped) = (from, 0);
    let end = file_end(file);
    while at < end {
        let stop = align_up(at + 1, PAGE).min(end);
        let part = &mut page[..(stop - at) as usize];
        let read = file.read_at(u64::from(at), part)?;
        for (index, cell) in part[..read].chunks(CELL as usize).enumerate() {
            if claims(cell, FrameKind::Lane, segment) {
                file.write_at(u64::from(at + index as u32 * CELL), &[0; CELL as usize])?;
                wiped += 1;
            }
        }
        at = stop;
    }
    Ok(wiped)
}
