//! A survey: what lies in each file of a store, and what damage in it costs. For people; opening does not need it.
//!
//! - Reads only, whatever the disk allows. Damage is counted, never an error.
//! - A record or commit counts as lost where its number is missing between its neighbours, and is charged to the file in which
//!   it should lie.

use super::disk::{Disk, DiskError, DiskFile};
use super::segment::{file_name, numbers};
use super::{journal, snapshot};
use crate::frame::{CELL, FrameKind, HEADER, Header, PAGE, align_up, claims, salt};

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSurvey {
    /// Path within the store.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Whole frames.
    pub frames: u64,
    /// Journal: first and last commit. Lane: first and last record. 0 if there is none.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Lane: records in whole frames.
    pub records: u64,
    /// Frames that begin and are not whole.
    pub bad_frames: u64,
    /// Journal: commits, lane: records that should lie here and do not.
    pub missing: u64,
    /// Lane: messages that the missing records settle.
    pub missing_messages: u64,
}

/// One lane's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneSurvey {
    /// Its name.
    pub name: String,
    /// Its segments, oldest first.
    pub files: Vec<FileSurvey>,
}

/// A lane's committed range, as opening found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRange {
    /// Its name.
    pub name: String,
    /// First record that is not settled.
    pub head_seq: u64,
    /// Messages settled with all records before it.
    pub head_message: u64,
    /// Number of the next record.
    pub next_seq: u64,
    /// Messages closed by all records.
    pub next_message: u64,
    /// What has left before its turn: first number, number behind the last, and messages that were closed, of each run.
    pub left: Vec<(u64, u64, u64)>,
}

/// The whole folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The journal's segments, oldest first.
    pub journal: Vec<FileSurvey>,
    /// Snapshots; `last` is the commit, `bad_frames` is 1 where it is damaged.
    pub snapshots: Vec<FileSurvey>,
    /// Lanes.
    pub lanes: Vec<LaneSurvey>,
    /// Free segments.
    pub free_segments: usize,
    /// Files set aside: (path, bytes).
    pub quarantine: Vec<(String, u64)>,
}

impl Survey {
    /// Files in which something is wrong, with what it costs.
    pub fn damaged(&self) -> impl Iterator<Item = &FileSurvey> {
        let files = self.journal.iter().chain(&self.snapshots).chain(self.lanes.iter().flat_map(|lane| &lane.files));
        files.filter(|file| file.bad_frames + file.missing > 0)
    }
}

/// Walks the store with this salt, as it is on `disk`, and as it was made good on `opened` by opening it: small lane frames are
/// written again there. `lanes`: what opening found, for what lies outside of that counts for nothing.
pub fn survey<D: Disk, O: Disk>(
    disk: &mut D,
    opened: &mut O,
    store_salt: u32,
    lanes: &[LaneRange],
) -> Result<Survey, DiskError> {
    let journal_salt = salt(journal::DIR) ^ store_salt;
    let snapshots = snapshots(disk, journal_salt)?;
    let covered = snapshots.iter().filter(|file| file.bad_frames == 0).map(|file| file.last).max().unwrap_or(0);
    let mut found = Survey { journal: journal_files(disk, journal_salt, covered)?, snapshots, ..Survey::default() };
    for range in lanes {
        let files = lane_files(disk, opened, store_salt, range)?;
        found.lanes.push(LaneSurvey { name: range.name.clone(), files });
    }
    found.free_segments = numbers(disk, "free")?.len();
    for name in disk.list(snapshot::QUARANTINE)? {
        let path = format!("{}/{name}", snapshot::QUARANTINE);
        let bytes = disk.open(&path)?.map_or(Ok(0), |file| file.len()).unwrap_or(0);
        found.quarantine.push((path, bytes));
    }
    Ok(found)
}

fn snapshots<D: Disk>(disk: &mut D, salt: u32) -> Result<Vec<FileSurvey>, DiskError> {
    let mut names = disk.list(snapshot::DIR)?;
    names.sort_unstable();
    let mut files = Vec::new();
    for name in names {
        let Some(number) = name.strip_suffix(".snap").and_then(|digits| digits.parse().ok()) else { continue };
        let path = format!("{}/{name}", snapshot::DIR);
        let Some(file) = disk.open(&path)? else { continue };
        let mut found = FileSurvey { path, bytes: file.len().unwrap_or(0), ..FileSurvey::default() };
        match header(&file, 0, FrameKind::Snapshot, salt, number).filter(|header| is_whole(&file, 0, header)) {
            Some(header) => (found.frames, found.first, found.last) = (1, header.first, header.first),
            None => found.bad_frames = 1,
        }
        files.push(found);
    }
    Ok(files)
}

fn journal_files<D: Disk>(disk: &mut D, salt: u32, covered: u64) -> Result<Vec<FileSurvey>, DiskError> {
    let mut files: Vec<FileSurvey> = Vec::new();
    let mut newest = covered;
    for number in numbers(disk, journal::DIR)? {
        let path = format!("{}/{}", journal::DIR, file_name(number));
        let Some(file) = disk.open(&path)? else { continue };
        let len = file.len().unwrap_or(0);
        let mut found = FileSurvey { path, bytes: len, ..FileSurvey::default() };
        let mut at = 0;
        while u64::from(at) + u64::from(HEADER) <= len {
            let whole = header(&file, at, FrameKind::Journal, salt, number).filter(|head| is_whole(&file, at, head));
            let Some(head) = whole else {
                found.bad_frames += u64::from(claims_at(&file, at, FrameKind::Journal, number));
                at = at.saturating_add(PAGE);
                continue;
            };
            found.frames += 1;
            if found.first == 0 {
                found.first = head.first;
            }
            found.last = head.first;
            if head.first > newest {
                // A frame may hold the commit before it once more.
                found.missing += head.first.saturating_sub(u64::from(head.count)).saturating_sub(newest + 1);
                newest = head.first;
            }
            at = at.saturating_add(align_up(head.frame_len(), PAGE));
        }
        files.push(found);
    }
    Ok(files)
}

/// Where a lane's records should go on: sequence, and messages closed so far.
#[derive(Clone, Copy)]
struct Place {
    seq: u64,
    message: u64,
}

fn lane_files<D: Disk, O: Disk>(
    disk: &mut D,
    opened: &mut O,
    store_salt: u32,
    range: &LaneRange,
) -> Result<Vec<FileSurvey>, DiskError> {
    let dir = super::lane_log::dir(&range.name);
    let mut walk =
        Walk { range, dir: &dir, last: None, salt: salt(&dir) ^ store_salt, expected: None, files: Vec::new() };
    for number in numbers(disk, &dir)? {
        let path = format!("{dir}/{}", file_name(number));
        // What opening would set aside is there no more.
        match opened.open(&path)? {
            Some(file) => walk.file(&file, number, path),
            None => {
                if let Some(file) = disk.open(&path)? {
                    walk.file(&file, number, path);
                }
            }
        }
    }
    Ok(walk.end())
}

/// The way through a lane's segments.
struct Walk<'a> {
    range: &'a LaneRange,
    dir: &'a str,
    /// Number of the segment before.
    last: Option<u32>,
    salt: u32,
    /// Where the frames so far end.
    expected: Option<Place>,
    files: Vec<FileSurvey>,
}

impl Walk<'_> {
    fn file<F: DiskFile>(&mut self, file: &F, number: u32, path: String) {
        // Numbers follow each other, so one that is skipped was a file; what is missing lay there.
        if self.last.is_some_and(|last| last + 1 < number) {
            self.files.push(absent(format!("{}/{} (not there)", self.dir, file_name(number - 1))));
        }
        self.last = Some(number);
        self.files.push(FileSurvey { path, bytes: file.len().unwrap_or(0), ..FileSurvey::default() });
        let salt = self.salt;
        let bad = lane_frames(file, number, salt, &mut |at, frame| self.frame(at, frame));
        if let Some(found) = self.files.last_mut() {
            found.bad_frames = bad;
        }
    }

    fn frame(&mut self, at: u32, frame: &Header) {
        if self.range.next_seq <= frame.first {
            return;
        }
        // A segment's first frame lies at its start; what is missing before that lay in the segment before.
        let ago = usize::from(at == 0 && self.files.len() > 1);
        self.miss(ago, Place { seq: frame.first, message: frame.first_message });
        let end = Place {
            seq: frame.first + u64::from(frame.count),
            message: frame.first_message + u64::from(frame.messages),
        };
        self.expected = Some(end);
        if let Some(found) = self.files.last_mut() {
            found.frames += 1;
            found.records += u64::from(frame.count);
            found.first = if found.first == 0 { frame.first } else { found.first };
            found.last = end.seq - 1;
        }
    }

    /// Charges what is missing before `to` to the file so many files ago.
    fn miss(&mut self, ago: usize, to: Place) {
        let head = Place { seq: self.range.head_seq, message: self.range.head_message };
        let from = self.expected.unwrap_or(head);
        let index = self.files.len().saturating_sub(1 + ago);
        let from = Place { seq: from.seq.max(head.seq), message: from.message.max(head.message) };
        let (left, left_messages) = self.left_within(from.seq, to.seq);
        if let Some(found) = self.files.get_mut(index) {
            found.missing += to.seq.saturating_sub(from.seq).saturating_sub(left);
            found.missing_messages += to.message.saturating_sub(from.message).saturating_sub(left_messages);
        }
    }

    /// Records, and messages, that need not be there any more.
    fn left_within(&self, from_seq: u64, to_seq: u64) -> (u64, u64) {
        self.range.left.iter().fold((0, 0), |(records, messages), (first, end, closed)| {
            let part = end.min(&to_seq).saturating_sub(*first.max(&from_seq));
            (records + part, messages + if 0 < part { *closed } else { 0 })
        })
    }

    fn end(mut self) -> Vec<FileSurvey> {
        if self.files.is_empty() {
            self.files.push(absent(format!("{} (no segment)", self.dir)));
        }
        self.miss(0, Place { seq: self.range.next_seq, message: self.range.next_message });
        self.files.retain(|found| found.bytes + found.missing > 0);
        self.files
    }
}

/// A file that should be there.
fn absent(path: String) -> FileSurvey {
    FileSurvey { path, ..FileSurvey::default() }
}

/// Hands every whole frame of a lane's segment to `visit`, with its place; how many begin and are not whole.
fn lane_frames<F: DiskFile>(file: &F, number: u32, salt: u32, visit: &mut dyn FnMut(u32, &Header)) -> u64 {
    let mut bad = 0;
    let len = u32::try_from(file.len().unwrap_or(0)).unwrap_or(u32::MAX - PAGE);
    let mut page = [0; PAGE as usize];
    let mut at = 0;
    while at < len {
        let stop = align_up(at + 1, PAGE);
        let part = &mut page[..(stop - at) as usize];
        let read = file.read_at(u64::from(at), part).unwrap_or(0);
        let claimed = part[..read].chunks(CELL as usize).position(|cell| claims(cell, FrameKind::Lane, number));
        let Some(index) = claimed else {
            at = stop;
            continue;
        };
        at += index as u32 * CELL;
        let head = header(file, at, FrameKind::Lane, salt, number);
        match head.filter(|head| is_whole(file, at, head)) {
            Some(head) => {
                visit(at, &head);
                at = at.saturating_add(align_up(head.frame_len(), CELL));
            }
            None => {
                bad += 1;
                // Past the body where its length is known: what lies in it may look like a frame.
                at = at.saturating_add(head.map_or(CELL, |head| align_up(head.frame_len(), CELL)));
            }
        }
    }
    bad
}

fn header<F: DiskFile>(file: &F, at: u32, kind: FrameKind, salt: u32, number: u32) -> Option<Header> {
    let mut head = [0; HEADER as usize];
    let read = file.read_at(u64::from(at), &mut head).unwrap_or(0);
    Header::decode(&head[..read], kind, salt, number)
}

fn claims_at<F: DiskFile>(file: &F, at: u32, kind: FrameKind, number: u32) -> bool {
    let mut head = [0; 8];
    let read = file.read_at(u64::from(at), &mut head).unwrap_or(0);
    claims(&head[..read], kind, number)
}

fn is_whole<F: DiskFile>(file: &F, at: u32, header: &Header) -> bool {
    let end = u64::from(at) + u64::from(header.frame_len());
    if file.len().map_or(true, |len| len < end) {
        return false;
    }
    let mut crc = crc32fast::Hasher::new();
    let mut part = [0; PAGE as usize];
    let mut from = u64::from(at) + u64::from(HEADER);
    while from < end {
        let len = usize::try_from(end - from).unwrap_or(usize::MAX).min(part.len());
        if file.read_at(from, &mut part[..len]).unwrap_or(0) < len {
            return false;
        }
        crc.update(&part[..len]);
        from += len as u64;
    }
    crc.finalize() == header.body_crc
}
