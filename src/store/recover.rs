//! Opening: what the last run left, whatever became of it.
//!
//! - Truth, in this order: the newest good snapshot, the journal's commits behind it. Where one is damaged and the keyed store
//!   covers the hole, the keyed store heals it.
//! - Opening allocates nothing, so it works on a full disk.
//! - The last commit is committed once more: if its sync failed and ended the last run, its pages read well and are not there.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::visit_entries;
use crate::frame::{FrameKind, HEADER, PAGE};
use crate::manifest::check_label;
use crate::store_id::StoreId;

use super::disk::{Disk, DiskError, DiskFile};
use super::journal::{Journal, Tail, split_body};
use super::keyed::{Dirty, Image, Keyed};
use super::lane_log::{Behind, LaneLog, dir};
use super::scan::Scan;
use super::segment::{Base, file_name};
use super::snapshot::{Loaded, Snapshots};
use super::{CommitError, Extent, FrameCache, Settings, Store};

/// What the store holds when it has been opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// All entries.
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The lanes, those of the settings first.
    pub lanes: Vec<LaneRecovered>,
    /// What was wrong.
    pub report: Report,
    /// The store's number as whoever opened it knows it, for the case that the entries do not have it.
    pub store: StoreId,
}

/// A lane as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRecovered {
    /// Its name.
    pub name: String,
    /// Its segments, oldest first.
    pub extents: Vec<Extent>,
    /// Sequence of the next record; 1 in a new lane.
    pub next_seq: u64,
    /// Messages closed by all records so far.
    pub next_message: u64,
    /// Smallest number that a new segment may have. An append may also go to the newest extent.
    pub next_segment: u32,
}

/// What was found wrong while opening. All zero after an orderly end, and after a power cut at most the first two are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Commits that were being written when the power went: truncated.
    pub torn_tails: u64,
    /// Lane frames of commits that did not happen: dropped.
    pub uncommitted_frames: u64,
    /// Commits that are lost although later ones are there, by damage to the medium.
    pub bad_frames: u64,
    /// Commits that are lost at the end: records are there that only later ones can have written. At least so many.
    pub cut_commits: u64,
    /// Records that went with them.
    pub lost_records: u64,
    /// Snapshots that were damaged; the last is kept in `quarantine/`.
    pub bad_snapshots: u64,
    /// Bytes that were passed over or set aside.
    pub quarantined_bytes: u64,
    /// A hole was filled from the keyed store.
    pub healed: bool,
    /// There is data, but the snapshot that it builds on is lost: values are missing.
    pub empty_but_expected: bool,
    /// Nothing is there although this store has held data. Only the shell can know; see its identity file.
    pub data_gone: bool,
    /// Commits replayed from the journal.
    pub replayed: u64,
}

impl Report {
    /// Whether anything was lost that had been acknowledged.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        let damaged = self.bad_frames > 0 || self.quarantined_bytes > 0;
        (damaged && !self.healed) || self.cut_commits > 0 || self.empty_but_expected || self.data_gone
    }
}

/// What snapshot and journal say, taken together.
#[derive(Debug)]
pub(super) struct Replay<F> {
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    tails: BTreeMap<String, Tail>,
    /// Keys that the journal has changed, for the keyed store; `None`: more than it could be told.
    touched: Option<BTreeSet<Vec<u8>>>,
    touched_bytes: usize,
    touched_bytes_max: usize,
    /// Files to which small frames were written again and that are not synced.
    rewritten: BTreeMap<String, (u32, F)>,
    /// Bodies that cannot be read.
    pub malformed: u64,
}

impl<F: DiskFile> Replay<F> {
    /// Nothing. Of so many bytes of keys it is noted that the journal has changed them.
    pub const fn new(touched_bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            tails: BTreeMap::new(),
            touched: Some(BTreeSet::new()),
            touched_bytes: 0,
            touched_bytes_max,
            rewritten: BTreeMap::new(),
            malformed: 0,
        }
    }

    /// Takes a list of entries.
    pub fn put_all(&mut self, list: &[u8], touch: bool) {
        let whole = visit_entries(list, |key, value| {
            if touch {
                self.touch(key);
            }
            match (value, self.entries.get_mut(key)) {
                (Some(value), Some(slot)) => {
                    slot.clear();
                    slot.extend_from_slice(value);
                }
                (Some(value), None) => drop(self.entries.insert(key.to_vec(), value.to_vec())),
                (None, Some(_)) => drop(self.entries.remove(key)),
                (None, None) => {}
            }
        });
        self.malformed += u64::from(!whole);
    }

    fn touch(&mut self, key: &[u8]) {
        let Some(touched) = self.touched.as_mut().filter(|touched| !touched.contains(key)) else { return };
        self.touched_bytes += key.len();
        touched.insert(key.to_vec());
        if self.touched_bytes > self.touched_bytes_max {
            self.touched = None;
        }
    }

    /// Takes a snapshot.
    pub fn load(&mut self, loaded: &Loaded) {
        let tails = &mut self.tails;
        let list = loaded.split(&mut |item| {
            tails.insert(item.name.to_owned(), item.tail);
        });
        match list {
            Some(list) => self.put_all(list, false),
            None => self.malformed += 1,
        }
    }

    fn commit<D: Disk<File = F>>(&mut self, base: &mut Base<D>, body: &[u8], touch: bool) -> Result<(), DiskError> {
        let mut outcome = Ok(());
        let list = split_body(body, &mut |item| {
            self.tails.insert(item.name.to_owned(), item.tail);
            if let (Some((offset, frame)), Ok(())) = (item.inline, &outcome) {
                outcome = self.rewrite(base, item.name, item.tail.segment, offset, frame);
            }
        });
        match list {
            Some(list) => self.put_all(list, touch),
            None => self.malformed += 1,
        }
        outcome
    }

    /// Writes a small lane frame again from the journal's copy.
    fn rewrite<D: Disk<File = F>>(
        &mut self,
        base: &mut Base<D>,
        lane: &str,
        segment: u32,
        offset: u32,
        frame: &[u8],
    ) -> Result<(), DiskError> {
        if self.rewritten.get(lane).is_none_or(|(open, _)| *open != segment) {
            // No file: all of it was delivered and released.
            let Some(file) = base.disk.open(&format!("{}/{}", dir(lane), file_name(segment)))? else { return Ok(()) };
            if let Some((_, old)) = self.rewritten.insert(lane.to_owned(), (segment, file)) {
                old.sync_data()?;
            }
        }
        let Some((_, file)) = self.rewritten.get(lane) else { return Ok(()) };
        // A segment that was cut grows again, but by a frame at a time: no place far behind its end is believed.
        let end = file.len()?.max(u64::from(base.segment_bytes));
        if end.next_multiple_of(u64::from(PAGE)) < u64::from(offset) {
            self.malformed += 1;
            return Ok(());
        }
        file.write_at(u64::from(offset), frame)
    }

    /// The newest segment of a lane is synced with the next snapshot; nobody else looks after the others.
    fn sync_old(&mut self) -> Result<(), DiskError> {
        for (lane, (segment, file)) in std::mem::take(&mut self.rewritten) {
            if self.tails.get(&lane).is_some_and(|tail| tail.segment != segment) {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Replaces what a hole left by the keyed store's image, then by the commits that are newer than it.
    fn heal<D: Disk<File = F>>(&mut self, base: &mut Base<D>, image: Image, salt: u32) -> Result<(), DiskError> {
        let replayed = std::mem::take(&mut self.entries);
        for (key, value) in image.entries {
            // Long values are not in the image; what snapshot and journal have is the best there is.
            let value = value.or_else(|| replayed.get(&key).cloned());
            if let Some(value) = value {
                self.entries.insert(key, value);
            }
        }
        Journal::scan(base, salt, image.applied, &mut |_, body| {
            if let Some(list) = split_body(body, &mut |_| ()) {
                self.put_all(list, true);
            }
        })?;
        Ok(())
    }
}

impl<D: Disk, K: Keyed> Store<D, K> {
    /// Opens the store on `disk`, creating it where there is nothing. Fails only if the disk itself does.
    pub fn open(disk: D, mut keyed: K, settings: &Settings) -> Result<(Self, Recovered), CommitError> {
        let quota = (settings.journal_bytes_max / u64::from(settings.segment_bytes)).max(4);
        let mut base = Base::open(disk, settings.segment_bytes, usize::try_from(quota).unwrap_or(usize::MAX / 8))?;
        let journal_salt = crate::frame::salt(super::journal::DIR) ^ settings.salt;
        let (snapshots, loaded, bad_snapshots) = Snapshots::open(&mut base, journal_salt)?;
        let mut replay = Replay::new(settings.dirty_bytes_max);
        if let Some(loaded) = &loaded {
            replay.load(loaded);
        }
        let covered = loaded.as_ref().map_or(0, |loaded| loaded.commit);
        drop(loaded);
        let mut outcome = Ok(());
        let touch = keyed.enabled();
        let (mut journal, scan) = Journal::open(&mut base, journal_salt, covered, &mut |base, body| {
            if outcome.is_ok() {
                outcome = replay.commit(base, body, touch);
            }
        })?;
        outcome?;
        replay.sync_old()?;
        let mut report = Report {
            torn_tails: scan.torn,
            bad_frames: scan.missing + replay.malformed,
            bad_snapshots,
            quarantined_bytes: scan.skipped_bytes,
            replayed: scan.frames,
            ..Report::default()
        };
        let found_nothing = covered == 0 && scan.frames == 0;
        let base_lost = scan.starts_late || (found_nothing && bad_snapshots > 0);
        if base_lost || report.bad_frames > 0 || found_nothing {
            let image = keyed
                .image()
                .filter(|image| image.applied >= scan.newest_missing.unwrap_or(0) && image.applied >= covered.max(1));
            if let Some(image) = image {
                report.healed = true;
                journal.skip_to(image.applied);
                replay.heal(&mut base, image, journal_salt)?;
            }
        }
        report.empty_but_expected = base_lost && !report.healed;
        let adopt = base_lost || found_nothing;
        // A lane's tail is in the commits that append to it, so a hole may hide where a lane ends.
        let through = if report.bad_frames > 0 { journal.last_commit() } else { 0 };
        let (lanes, behind) = open_lanes(&mut base, settings, &replay.tails, (adopt, through), &mut report)?;
        if !adopt {
            // A lane's frame is written when the commit before its own is on flash.
            let lost = behind.newest.saturating_sub(journal.last_commit() + 1);
            report.cut_commits = lost;
            report.lost_records = if lost > 0 { behind.older_records } else { 0 };
        }
        let mut dirty = Dirty::new(covered, journal.last_commit(), settings.dirty_bytes_max);
        for key in replay.touched.iter().flatten() {
            dirty.note(key, replay.entries.get(key).map(Vec::as_slice));
        }
        // The keyed store may hold what the journal has lost, and numbers that will be given again.
        if report.is_loss() || report.healed || replay.touched.is_none() {
            dirty.give_up();
        }
        // After a hole the snapshot is what counts, and the newest frame may be older than what healed it.
        let wants_snapshot = report.is_loss() || report.healed;
        if !report.healed {
            recommit(&mut base, &mut journal, scan)?;
        }
        let recovered = Recovered {
            entries: replay.entries,
            lanes: lanes.iter().map(LaneRecovered::of).collect(),
            report,
            store: StoreId::default(),
        };
        let store = Self {
            base,
            journal,
            snapshots,
            lanes,
            keyed,
            dirty,
            wants_snapshot,
            failed: None,
            cache: FrameCache::default(),
            planned: Vec::new(),
            frame: Vec::new(),
            buffer: Vec::new(),
        };
        Ok((store, recovered))
    }
}

/// [`Settings::salt`] as the data on `disk` was written with, for a shell that has lost it. `None`: there is no data.
pub fn find_salt<D: Disk>(disk: &mut D) -> Result<Option<u32>, DiskError> {
    let name = crate::frame::salt(super::journal::DIR);
    for (dir, kind) in [(super::snapshot::DIR, FrameKind::Snapshot), (super::journal::DIR, FrameKind::Journal)] {
        let mut files = disk.list(dir)?;
        files.sort_unstable();
        for file in files.iter().rev() {
            let mut head = [0; HEADER as usize];
            let Some(file) = disk.open(&format!("{dir}/{file}"))? else { continue };
            let read = file.read_at(0, &mut head).unwrap_or(0);
            if let Some(salt) = crate::frame::salt_of(&head[..read], kind) {
                return Ok(Some(salt ^ name));
            }
        }
    }
    Ok(None)
}

impl LaneRecovered {
    fn of<F: DiskFile>(lane: &LaneLog<F>) -> Self {
        Self {
            name: lane.name.clone(),
            extents: lane.extents.iter().copied().collect(),
            next_seq: lane.tail.next_seq,
            next_message: lane.tail.next_message,
            next_segment: lane.next_segment(),
        }
    }
}

/// The lanes, and what lay behind their ends.
type Opened<D> = (Vec<LaneLog<<D as Disk>::File>>, Behind);

fn open_lanes<D: Disk>(
    base: &mut Base<D>,
    settings: &Settings,
    tails: &BTreeMap<String, Tail>,
    (adopt, through): (bool, u64),
    report: &mut Report,
) -> Result<Opened<D>, DiskError> {
    let mut names = settings.lanes.clone();
    for name in tails.keys().cloned().chain(base.disk.list_dirs("lanes")?) {
        // What has no lane's name is somebody else's folder.
        if !names.contains(&name) && check_label(&name).is_ok() {
            names.push(name);
        }
    }
    let (mut lanes, mut behind) = (Vec::new(), Behind::default());
    for name in names {
        let (lane, scan) = LaneLog::open(base, &name, settings.salt, tails.get(&name).copied(), adopt, through)?;
        report.uncommitted_frames += scan.uncommitted;
        report.empty_but_expected |= scan.adopted && !report.healed;
        report.quarantined_bytes += scan.quarantined_bytes;
        behind.join(scan.behind);
        lanes.push(lane);
    }
    Ok((lanes, behind))
}

fn recommit<D: Disk>(base: &mut Base<D>, journal: &mut Journal<D::File>, scan: Scan) -> Result<(), CommitError> {
    if scan.frames == 0 {
        return Ok(());
    }
    let mut frame = vec![0; HEADER as usize];
    frame.extend_from_slice(&scan.newest_body);
    let room = journal.make_room(base, frame.len() as u32);
    match room.map_err(CommitError::from).and_then(|()| journal.write(base, &mut frame, true)) {
        // Without room there is no second copy; the first one is most likely good.
        Err(CommitError::Full) => Ok(()),
        outcome => outcome,
    }
}
