//! The journal: one frame a commit, in segments of its own; the one point at which a commit happens.
//!
//! - Commit numbers are consecutive. A frame is synced before the next one is written.
//! - A frame may hold the commit before it once more (`count` is 1); then that one is not missed if its own frame is gone.
//! - Frames start on a page and fill it with zeros, so an acknowledged page is never written again.
//! - Body: `varint tails, tails…, entries…`; a tail = `varint name_len, name, varint segment, varint end, varint next_seq,
//!   varint next_message, varint inline_len, [varint offset, inline frame]`. Snapshots have the same body.

use std::collections::VecDeque;

use crate::entry::{put_varint, take, take_count, take_varint};
use crate::frame::{BODY_MAX, CELL, FrameKind, HEADER, Header, PAGE, SEGMENT_MAX, align_up, claims};
use crate::manifest::check_label;

use super::CommitError;
use super::disk::{Disk, DiskError, DiskFile};
use super::segment::{Base, Need, file_name, numbers};

/// Folder of the journal's segments; also what its headers are salted with.
pub const DIR: &str = "journal";

/// Where a lane's committed frames end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Segment of the last frame.
    pub segment: u32,
    /// Where the next frame may start in it.
    pub end: u32,
    /// Sequence of the next record.
    pub next_seq: u64,
    /// Messages closed by all records so far.
    pub next_message: u64,
}

/// A lane's part of a commit, as read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailItem<'a> {
    /// The lane.
    pub name: &'a str,
    /// Its end after the commit.
    pub tail: Tail,
    /// A frame that rode along: its offset in the segment and its bytes.
    pub inline: Option<(u32, &'a [u8])>,
}

/// Appends a tail to a body.
pub fn put_tail(out: &mut Vec<u8>, item: &TailItem<'_>) {
    put_varint(out, item.name.len() as u64);
    out.extend_from_slice(item.name.as_bytes());
    put_varint(out, u64::from(item.tail.segment));
    put_varint(out, u64::from(item.tail.end));
    put_varint(out, item.tail.next_seq);
    put_varint(out, item.tail.next_message);
    match item.inline {
        None => put_varint(out, 0),
        Some((offset, frame)) => {
            put_varint(out, frame.len() as u64);
            put_varint(out, u64::from(offset));
            out.extend_from_slice(frame);
        }
    }
}

/// Splits a body into its tails, handed to `visit`, and its entries; `None` if it is malformed. A name that is handed out is the
/// name of a lane and nothing else (it becomes a path), and the numbers can be added to.
pub fn split_body<'a>(mut body: &'a [u8], visit: &mut dyn FnMut(TailItem<'a>)) -> Option<&'a [u8]> {
    for _ in 0..take_varint(&mut body)? {
        visit(take_tail(&mut body)?);
    }
    Some(body)
}

fn take_tail<'a>(body: &mut &'a [u8]) -> Option<TailItem<'a>> {
    let name_len = take_varint(body)?;
    let name = core::str::from_utf8(take(body, name_len)?).ok().filter(|name| check_label(name).is_ok())?;
    let mut number = || take_count(body);
    let (segment, end, next_seq, next_message, inline_len) = (number()?, number()?, number()?, number()?, number()?);
    let within = |number: u64, most: u32| u32::try_from(number).ok().filter(|number| *number <= most);
    let tail = Tail { segment: within(segment, SEGMENT_MAX)?, end: within(end, BODY_MAX)?, next_seq, next_message };
    let inline = match inline_len {
        0 => None,
        len => Some((u32::try_from(take_varint(body)?).ok()?, take(body, len)?)),
    };
    Some(TailItem { name, tail, inline })
}

/// The writing end.
#[derive(Debug)]
pub struct Journal<F> {
    salt: u32,
    active: Option<Active<F>>,
    /// Closed segments, oldest first, with the newest commit in each.
    closed: VecDeque<(u32, u64)>,
    next_segment: u32,
    last_commit: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Active<F> {
    file: F,
    number: u32,
    end: u32,
}

/// Takes a commit's body.
pub type Visit<'a, D> = dyn FnMut(&mut Base<D>, &[u8]) + 'a;

/// What was found in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Frames handed out.
    pub frames: u64,
    /// Missing commits: numbers that later commits skip.
    pub missing: u64,
    /// The newest missing commit.
    pub newest_missing: Option<u64>,
    /// Without a snapshot, the first commit is not the first there ever was.
    pub starts_late: bool,
    /// Damaged frames behind the last good one.
    pub torn: u64,
    /// Pages passed over to find a good frame.
    pub skipped_bytes: u64,
    /// Body of the newest frame.
    pub newest_body: Vec<u8>,
}

impl<F: DiskFile> Journal<F> {
    /// Number of the newest commit.
    #[must_use]
    pub const fn last_commit(&self) -> u64 {
        self.last_commit
    }

    /// Commit numbers go on behind `commit`, should it be newer.
    pub fn skip_to(&mut self, commit: u64) {
        self.last_commit = self.last_commit.max(commit);
    }

    /// Bytes of frames since the last snapshot.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Segments that a snapshot would let go.
    #[must_use]
    pub fn releasable(&self) -> usize {
        self.closed.len()
    }

    /// Segments in use.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.closed.len() + usize::from(self.active.is_some())
    }

    /// Makes sure that a frame of `len` bytes has a place.
    pub fn make_room<D: Disk<File = F>>(&mut self, base: &mut Base<D>, len: u32) -> Result<(), DiskError> {
        let fits = |active: &Active<F>| active.end == 0 || u64::from(active.end) + u64::from(len) <= size(base);
        if self.active.as_ref().is_some_and(fits) {
            return Ok(());
        }
        if self.segments() >= base.journal_max() {
            return Err(DiskError::Full);
        }
        let number = self.next_segment;
        let file = base.take(DIR, number, Need::Journal)?;
        self.close();
        self.active = Some(Active { file, number, end: 0 });
        self.next_segment += 1;
        base.journal_live = self.segments();
        Ok(())
    }

    fn close(&mut self) {
        if let Some(old) = self.active.take() {
            self.closed.push_back((old.number, self.last_commit));
        }
    }

    /// Completes the frame whose body lies behind [`HEADER`] bytes of room in `frame`, writes and syncs it. When this returns
    /// `Ok`, the commit has happened. `again`: the frame is the newest commit once more.
    pub fn write<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        frame: &mut Vec<u8>,
        again: bool,
    ) -> Result<(), CommitError> {
        let Some(active) = self.active.as_mut() else { return Err(CommitError::Full) };
        let count = u32::from(again);
        let header = Header { segment: active.number, count, ..seal(frame, self.last_commit + 1) };
        frame[..HEADER as usize].copy_from_slice(&header.encode(self.salt));
        let len = align_up(header.frame_len(), PAGE);
        frame.resize(len as usize, 0);
        // A frame that did not fit is written again at the same place, from its header on: nothing is appended behind it.
        active.file.write_at(u64::from(active.end), frame)?;
        active.file.sync_data().map_err(CommitError::from_sync)?;
        base.stats.syncs += 1;
        base.stats.journal_bytes += u64::from(len);
        active.end += len;
        self.last_commit += 1;
        self.bytes += u64::from(len);
        Ok(())
    }

    /// Lets the segments go that hold nothing newer than `commit`.
    pub fn release<D: Disk<File = F>>(&mut self, base: &mut Base<D>, commit: u64) -> Result<(), DiskError> {
        if commit >= self.last_commit {
            self.bytes = 0;
        }
        while self.closed.front().is_some_and(|(_, newest)| *newest <= commit) {
            let Some((number, _)) = self.closed.pop_front() else { break };
            base.journal_live = self.segments();
            base.give(DIR, number)?;
        }
        Ok(())
    }

    /// Reads the whole journal and hands out the frames behind the commit `covered`, in order; then lets the segments go that
    /// hold nothing else. Reading never fails for damage.
    pub fn open<D: Disk<File = F>>(
        base: &mut Base<D>,
        salt: u32,
        covered: u64,
        visit: &mut Visit<'_, D>,
    ) -> Result<(Self, Scan), DiskError> {
        let (mut journal, scan) = Self::scan(base, salt, covered, visit)?;
        base.journal_live = journal.segments();
        journal.release(base, covered)?;
        Ok((journal, scan))
    }

    /// Reads as [`Journal::open`] does, and lets nothing go.
    pub fn scan<D: Disk<File = F>>(
        base: &mut Base<D>,
        salt: u32,
        covered: u64,
        visit: &mut Visit<'_, D>,
    ) -> Result<(Self, Scan), DiskError> {
        base.disk.create_dir(DIR)?;
        let mut journal =
            Self { salt, active: None, closed: VecDeque::new(), next_segment: 1, last_commit: covered, bytes: 0 };
        let mut scan = Scan::default();
        let mut tail = None;
        let mut torn: Vec<(F, Vec<u32>)> = Vec::new();
        for number in numbers(&mut base.disk, DIR)? {
            journal.next_segment = number.saturating_add(1);
            let Some(file) = base.disk.open(&format!("{DIR}/{}", file_name(number)))? else { continue };
            let mut found = journal.scan_segment(base, &file, number, &mut scan, visit);
            journal.closed.push_back((number, found.newest));
            let damaged = std::mem::take(&mut found.damaged);
            if found.newest > 0 {
                torn.clear();
            }
            if !damaged.is_empty() {
                torn.push((file, damaged));
            } else if found.newest > 0 || tail.is_none() {
                tail = Some((file, number, found.end));
            }
        }
        journal.resume(tail);
        for (file, damaged) in torn {
            scan.torn += damaged.len() as u64;
            // So that they are not found, and counted, at the next start. They are behind the newest frame in any case.
            let wiped = damaged.iter().try_for_each(|at| file.write_at(u64::from(*at), &[0; CELL as usize]));
            let _ = wiped.and_then(|()| file.sync_data());
        }
        Ok((journal, scan))
    }

    fn scan_segment<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        file: &F,
        number: u32,
        scan: &mut Scan,
        visit: &mut Visit<'_, D>,
    ) -> Found {
        let len = u32::try_from(file.len().unwrap_or(0)).unwrap_or(u32::MAX);
        let mut found = Found::default();
        let mut body = Vec::new();
        let mut at = 0;
        while len.saturating_sub(at) >= HEADER {
            let mut head = [0; HEADER as usize];
            let read = file.read_at(u64::from(at), &mut head).unwrap_or(0);
            let header = Header::decode(&head[..read], FrameKind::Journal, self.salt, number);
            let Some(header) = header.filter(|header| read_body(file, at, len, header, &mut body)) else {
                if claims(&head[..read], FrameKind::Journal, number) {
                    found.damaged.push(at);
                }
                at = at.saturating_add(PAGE);
                continue;
            };
            let skipped = at - found.end;
            found.damaged.clear();
            at = at.saturating_add(align_up(header.frame_len(), PAGE));
            (found.end, found.newest) = (at, header.first);
            // Older ones are covered by the snapshot.
            if header.first > self.last_commit {
                let holds = header.first.saturating_sub(u64::from(header.count));
                let missing = holds.saturating_sub(self.last_commit + 1);
                if missing > 0 {
                    scan.skipped_bytes += u64::from(skipped);
                    scan.newest_missing = Some(holds - 1);
                    scan.starts_late |= self.last_commit == 0;
                    scan.missing += if self.last_commit == 0 { 0 } else { missing };
                }
                scan.frames += 1;
                self.last_commit = header.first;
                self.bytes += u64::from(align_up(header.frame_len(), PAGE));
                visit(base, &body);
                std::mem::swap(&mut scan.newest_body, &mut body);
            }
        }
        found
    }

    /// Goes on in the newest segment, behind its newest frame; but behind a torn one only in a new segment.
    fn resume(&mut self, tail: Option<(F, u32, u32)>) {
        if let Some((file, number, end)) = tail.filter(|(_, number, _)| Some(*number) == self.newest_number()) {
            self.closed.pop_back();
            self.active = Some(Active { file, number, end });
        }
    }

    fn newest_number(&self) -> Option<u32> {
        self.closed.back().map(|(number, _)| *number)
    }
}

/// What a segment holds.
#[derive(Debug, Default)]
struct Found {
    end: u32,
    newest: u64,
    damaged: Vec<u32>,
}

fn size<D: Disk>(base: &Base<D>) -> u64 {
    u64::from(base.segment_bytes)
}

fn read_body<F: DiskFile>(file: &F, at: u32, len: u32, header: &Header, body: &mut Vec<u8>) -> bool {
    if header.frame_len() > len - at {
        return false;
    }
    body.resize(header.body_len as usize, 0);
    let read = file.read_at(u64::from(at + HEADER), body).unwrap_or(0);
    read == body.len() && crc32fast::hash(body) == header.body_crc
}

/// The header for a frame whose body lies behind [`HEADER`] bytes of room; the segment is for the caller to set.
#[must_use]
fn seal(frame: &[u8], commit: u64) -> Header {
    let body = &frame[HEADER as usize..];
    Header {
        kind: FrameKind::Journal,
        segment: 0,
        body_len: body.len() as u32,
        body_crc: crc32fast::hash(body),
        first: commit,
        count: 0,
        messages: 0,
        first_message: 0,
        at_ms: 0,
        commit,
    }
}
