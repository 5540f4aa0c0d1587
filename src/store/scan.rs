//! The journal as it is read back: the commits behind the last snapshot, whatever became of the segments.
//!
//! - What lies further on was written later: numbers of segments ascend, and a segment is written from its start. So when a
//!   segment begins with a number that an older one has reached, the older one's commits from there on were not to be read when
//!   the store was opened in between (a medium that fails now and then), and life went on without them. They are void.
//! - Behind pages that cannot be read nothing is appended in the same segment: they may come back.

use std::collections::VecDeque;

use crate::frame::{CELL, FrameKind, HEADER, Header, PAGE, align_up, claims};

use super::disk::{Disk, DiskError, DiskFile, read_if_possible};
use super::journal::{Active, DIR, Journal};
use super::segment::{Base, file_name, numbers};

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
    /// Pages passed over to find a good frame, pages at the end that cannot be read, and void commits.
    pub skipped_bytes: u64,
    /// Body of the newest frame.
    pub newest_body: Vec<u8>,
}

impl<F: DiskFile> Journal<F> {
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
        let mut unreadable = 0;
        let segments = numbers(&mut base.disk, DIR)?;
        let ceilings = journal.ceilings(base, &segments)?;
        for (number, below) in segments.into_iter().zip(ceilings) {
            journal.next_segment = number.saturating_add(1);
            let Some(file) = base.disk.open(&format!("{DIR}/{}", file_name(number)))? else { continue };
            let mut found = journal.scan_segment(base, &file, (number, below), &mut scan, visit);
            journal.closed.push_back((number, found.newest));
            let damaged = std::mem::take(&mut found.damaged);
            if found.newest > 0 {
                torn.clear();
                unreadable = 0;
            }
            unreadable += found.unreadable;
            if !damaged.is_empty() {
                torn.push((file, damaged));
            } else if found.unreadable == 0 && (found.newest > 0 || tail.is_none()) {
                tail = Some((file, number, found.end));
            }
        }
        scan.skipped_bytes += unreadable;
        journal.resume(tail);
        for (file, damaged) in torn {
            scan.torn += damaged.len() as u64;
            // So that they are not found, and counted, at the next start. They are behind the newest frame in any case.
            let wiped = damaged.iter().try_for_each(|at| file.write_at(u64::from(*at), &[0; CELL as usize]));
            let _ = wiped.and_then(|()| file.sync_data());
        }
        Ok((journal, scan))
    }

    /// For each segment the number from which on its commits are void: the smallest with which one behind it begins.
    fn ceilings<D: Disk<File = F>>(&self, base: &mut Base<D>, segments: &[u32]) -> Result<Vec<u64>, DiskError> {
        let mut ceilings = vec![u64::MAX; segments.len()];
        let mut below = u64::MAX;
        for (ceiling, number) in ceilings.iter_mut().zip(segments).rev() {
            *ceiling = below;
            let Some(file) = base.disk.open(&format!("{DIR}/{}", file_name(*number)))? else { continue };
            let mut pages = (0..file.len().unwrap_or(0)).step_by(PAGE as usize);
            // A header is enough, whatever became of its body: whoever wrote it had not read what it makes void.
            let first = pages.find_map(|at| {
                let mut head = [0; HEADER as usize];
                let read = read_if_possible(&file, at, &mut head)?;
                Header::decode(&head[..read], FrameKind::Journal, self.salt, *number)
            });
            below = first.map_or(below, |first| below.min(first.first));
        }
        Ok(ceilings)
    }

    fn scan_segment<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        file: &F,
        (number, below): (u32, u64),
        scan: &mut Scan,
        visit: &mut Visit<'_, D>,
    ) -> Found {
        let len = u32::try_from(file.len().unwrap_or(0)).unwrap_or(u32::MAX);
        let mut found = Found::default();
        let mut body = Vec::new();
        let mut at = 0;
        while len.saturating_sub(at) >= HEADER {
            let mut head = [0; HEADER as usize];
            let read = read_if_possible(file, u64::from(at), &mut head);
            let head = &head[..read.unwrap_or(0)];
            let header = Header::decode(head, FrameKind::Journal, self.salt, number);
            let whole = header.map_or(Some(false), |header| read_body(file, at, len, &header, &mut body));
            let Some(header) = header.filter(|_| whole == Some(true)) else {
                if read.is_none() || whole.is_none() {
                    found.unreadable += u64::from(PAGE);
                } else if claims(head, FrameKind::Journal, number) {
                    found.damaged.push(at);
                }
                at = at.saturating_add(PAGE);
                continue;
            };
            let skipped = at - found.end;
            found.damaged.clear();
            found.unreadable = 0;
            let frame_len = align_up(header.frame_len(), PAGE);
            at = at.saturating_add(frame_len);
            found.end = at;
            if below <= header.first {
                scan.skipped_bytes += u64::from(frame_len);
                continue;
            }
            found.newest = found.newest.max(header.first);
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
                self.bytes += u64::from(frame_len);
                visit(base, &body);
                std::mem::swap(&mut scan.newest_body, &mut body);
            }
        }
        found
    }

    /// Goes on in the newest segment, behind its newest frame; but behind a torn or unreadable one only in a new segment.
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
    /// Behind the last good frame.
    end: u32,
    /// The newest commit that is not void.
    newest: u64,
    /// Places of damaged frames behind the last good one.
    damaged: Vec<u32>,
    /// Bytes behind the last good frame that cannot be read.
    unreadable: u64,
}

/// Whether the body is there and whole; `None`: it cannot be read.
fn read_body<F: DiskFile>(file: &F, at: u32, len: u32, header: &Header, body: &mut Vec<u8>) -> Option<bool> {
    if header.frame_len() > len - at {
        return Some(false);
    }
    body.resize(header.body_len as usize, 0);
    let read = read_if_possible(file, u64::from(at + HEADER), body)?;
    Some(read == body.len() && crc32fast::hash(body) == header.body_crc)
}
