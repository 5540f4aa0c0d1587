//! The journal: one frame a commit, in segments of its own; the one point at which a commit happens.
//!
//! - Commit numbers are consecutive. A frame is synced before the next one is written.
//! - A frame may hold the commit before it once more (`count` is 1); then that one is not missed if its own frame is gone.
//! - Frames start on a page and fill it with zeros, so an acknowledged page is never written again.
//! - How it is read back: `scan.rs`.
//! - Body: `varint tails, tails…, entries…`; a tail = `varint name_len, name, varint segment, varint end, varint next_seq,
//!   varint next_message, varint inline_len, [varint offset, inline frame]`. Snapshots have the same body.

use std::collections::VecDeque;

use crate::entry::{put_varint, take, take_count, take_varint};
use crate::frame::{BODY_MAX, FrameKind, HEADER, Header, PAGE, SEGMENT_MAX, align_up};
use crate::manifest::check_label;

use super::CommitError;
use super::disk::{Disk, DiskError, DiskFile};
use super::segment::{Base, Need};

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
    pub(super) salt: u32,
    pub(super) active: Option<Active<F>>,
    /// Closed segments, oldest first, with the newest commit in each.
    pub(super) closed: VecDeque<(u32, u64)>,
    pub(super) next_segment: u32,
    pub(super) last_commit: u64,
    pub(super) bytes: u64,
}

/// The segment that is being written.
#[derive(Debug)]
pub struct Active<F> {
    pub(super) file: F,
    pub(super) number: u32,
    pub(super) end: u32,
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
            base.give(DIR, number, Need::Journal)?;
        }
        Ok(())
    }
}

fn size<D: Disk>(base: &Base<D>) -> u64 {
    u64::from(base.segment_bytes)
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
