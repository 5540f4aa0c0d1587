//! Reading a lane: records in sequence, checked, whatever lies between them.
//!
//! - What is returned is consecutive. A damaged frame is passed over and told as a [`Lost`] range before what follows it.
//! - What the medium cannot read now is not lost: that is an error, to be tried again. After [`TRIES_MAX`] in a row it is.
//! - Reading on from where the last read ended costs what is returned, not what lies before it: the place of the last frame is
//!   remembered for each lane, and its content for the lane that was read last.

use crate::entry::take_varint;
use crate::frame::{CELL, HEADER, Header, align_up};

use super::disk::{Disk, DiskError, DiskFile};
use super::lane_log::{Hint, LaneLog};
use super::segment::{Base, file_name};

/// Failed reads in a row after which what cannot be read is given up: else a bad sector would stop its lane for ever.
pub const TRIES_MAX: u32 = 60;

/// What a read returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Sequence of the first record returned; where nothing is, of the next one that may come.
    pub first_seq: u64,
    /// Records returned.
    pub records: u32,
    /// Records that should be between the sequence asked for and `first_seq` and cannot be read any more.
    pub lost: Option<Lost>,
}

/// A range of records that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// First sequence that is gone.
    pub from_seq: u64,
    /// First sequence behind the gap.
    pub until_seq: u64,
    /// Messages closed by all records before `until_seq`; the caller knows how many of them it has settled.
    pub until_message: u64,
}

/// The frame that was read last, of whichever lane.
#[derive(Debug, Default)]
pub struct FrameCache {
    lane: usize,
    frame: Option<Header>,
    body: Vec<u8>,
    /// Sequence and place of the next record to be copied.
    seq: u64,
    at: usize,
}

impl FrameCache {
    fn holds(&self, lane: usize, seq: u64) -> bool {
        self.lane == lane && self.frame.is_some_and(|frame| frame.first <= seq && seq < end_seq(&frame))
    }

    /// Copies records from `seq` on while they fit; with `first`, one fits always. How many.
    fn copy(&mut self, seq: u64, bytes_max: usize, first: bool, out: &mut Vec<u8>) -> u32 {
        let Some(frame) = self.frame else { return 0 };
        if seq < self.seq {
            (self.seq, self.at) = (frame.first, 0);
        }
        let mut copied = 0;
        while self.seq < end_seq(&frame) {
            let Some(len) = record_len(&self.body[self.at..]) else { break };
            if self.seq >= seq {
                let fits = out.len() + len <= bytes_max || (first && copied == 0);
                if !fits {
                    break;
                }
                out.extend_from_slice(&self.body[self.at..self.at + len]);
                copied += 1;
            }
            self.at += len;
            self.seq += 1;
        }
        copied
    }
}

/// Whether the body is so many records, and nothing else.
fn is_whole(mut body: &[u8], count: u32) -> bool {
    for _ in 0..count {
        let Some(len) = record_len(body) else { return false };
        body = &body[len..];
    }
    body.is_empty()
}

fn end_seq(frame: &Header) -> u64 {
    frame.first + u64::from(frame.count)
}

fn record_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let body = usize::try_from(take_varint(&mut rest)?).ok()?;
    let len = (bytes.len() - rest.len()).checked_add(body)?;
    (len <= bytes.len()).then_some(len)
}

impl<F: DiskFile> LaneLog<F> {
    /// Fills `out` with records from `from_seq` on, at most `bytes_max` bytes unless the first one alone is longer.
    pub fn read<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        cache: &mut FrameCache,
        index: usize,
        from_seq: u64,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Batch, DiskError> {
        out.clear();
        let mut batch = Batch { first_seq: from_seq, records: 0, lost: None };
        let mut seq = from_seq;
        while seq < self.tail.next_seq && (batch.records == 0 || out.len() < bytes_max) {
            if !cache.holds(index, seq) {
                let loaded = self.load(base, cache, index, seq);
                self.failed_reads = if loaded.is_ok() { 0 } else { self.failed_reads + 1 };
                loaded?;
                let next = cache.frame.map_or(self.tail.next_seq, |frame| frame.first);
                if next > seq {
                    if batch.records > 0 {
                        break;
                    }
                    let until_message = cache.frame.map_or(self.tail.next_message, |frame| frame.first_message);
                    batch.lost = Some(Lost { from_seq, until_seq: next, until_message });
                    (seq, batch.first_seq) = (next, next);
                    continue;
                }
            }
            let copied = cache.copy(seq, bytes_max, batch.records == 0, out);
            if copied == 0 {
                break;
            }
            batch.records += copied;
            seq += u64::from(copied);
        }
        Ok(batch)
    }

    /// Loads the frame with `seq`, or the first good one behind it, or none.
    fn load<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        cache: &mut FrameCache,
        index: usize,
        seq: u64,
    ) -> Result<(), DiskError> {
        (cache.lane, cache.frame) = (index, None);
        let (mut position, mut at) = self.start(seq);
        let mut expected = 0;
        while let Some(extent) = self.extents.get(position).copied() {
            self.open_for_reading(base, extent.segment)?;
            let Some((_, file)) = &self.reading else { break };
            let passes_over = TRIES_MAX <= self.failed_reads;
            let patience = passes_over.then_some(&base.patience);
            while let Some((offset, head)) = self.find(file, extent.segment, at, extent.bytes, expected, patience)? {
                at = align_up(offset + head.frame_len(), CELL);
                expected = end_seq(&head);
                if expected <= seq {
                    continue;
                }
                cache.body.resize(head.body_len as usize, 0);
                let read = match file.read_at(u64::from(offset + HEADER), &mut cache.body) {
                    Err(_) if passes_over => 0,
                    read => read?,
                };
                let sound = read == cache.body.len() && crc32fast::hash(&cache.body) == head.body_crc;
                if sound && is_whole(&cache.body, head.count) {
                    (cache.frame, cache.seq, cache.at) = (Some(head), head.first, 0);
                    self.hint = Hint { segment: extent.segment, offset, seq: head.first };
                    return Ok(());
                }
                base.stats.bad_frames += 1;
            }
            (position, at) = (position + 1, 0);
        }
        Ok(())
    }

    /// Extent and offset from which to look for `seq`.
    fn start(&self, seq: u64) -> (usize, u32) {
        let by_segment = |segment: u32| self.extents.partition_point(|extent| extent.segment < segment);
        if self.hint.seq <= seq {
            let position = by_segment(self.hint.segment);
            if self.extents.get(position).is_some_and(|extent| extent.segment == self.hint.segment) {
                return (position, self.hint.offset);
            }
        }
        (self.extents.partition_point(|extent| extent.first_seq <= seq).saturating_sub(1), 0)
    }

    fn open_for_reading<D: Disk<File = F>>(&mut self, base: &mut Base<D>, segment: u32) -> Result<(), DiskError> {
        if self.reading.as_ref().is_some_and(|(number, _)| *number == segment) {
            return Ok(());
        }
        let path = format!("{}/{}", self.dir, file_name(segment));
        self.reading = base.disk.open(&path)?.map(|file| (segment, file));
        Ok(())
    }
}
