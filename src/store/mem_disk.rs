//! A disk in memory that can lose power at any step: for tests and for the simulator.
//!
//! - Every write, sync, create, rename, remove and cut is a *step*. At the step chosen by [`MemDisk::cut_at`] the power goes:
//!   that operation and all that follow fail, until [`MemDisk::restart`] decides what of the unsynced survived.
//! - Names survive in order: of the operations on names since the last folder sync, a prefix is kept.
//! - A `MemDisk` is a handle; clones are the same disk. [`MemDisk::fork`] makes an independent copy.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::disk::{Disk, DiskError, DiskFile};

/// The names of files, as something that is synced.
const NAMES: usize = usize::MAX;

/// What a power cut does to writes that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// All of them are lost.
    Dropped,
    /// All of them are kept.
    Kept,
    /// Each sector of so many bytes is kept or lost at random.
    Torn(usize),
    /// Each 4 KiB page that they touch is kept, lost or garbage as a whole, the older bytes in it included.
    Shredded,
}

/// The disk.
#[derive(Clone, Debug)]
pub struct MemDisk(Rc<RefCell<State>>);

/// A file of it.
#[derive(Clone, Debug)]
pub struct MemFile {
    disk: Rc<RefCell<State>>,
    inode: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: BTreeMap<usize, Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    dirs: BTreeSet<String>,
    next_inode: usize,
    steps: u64,
    cut_at: Option<u64>,
    capacity: u64,
    down: bool,
    sync_fails_at: Option<u64>,
    syncs: u64,
    write_fails_at: Option<u64>,
    writes: u64,
    reads_fail: Option<FailingReads>,
    /// Since the process began: something failed (not for want of power).
    failed: bool,
    /// What a sync failed for: files, and [`NAMES`].
    unsynced: BTreeSet<usize>,
    syncs_after_failure: u64,
    bytes_written: u64,
}

/// Which reads fail, and how often yet.
#[derive(Clone, Debug)]
struct FailingReads {
    prefix: String,
    bytes: Range<usize>,
    times: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl MemDisk {
    /// An empty disk for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self(Rc::new(RefCell::new(State { capacity, ..State::default() })))
    }

    /// An independent disk with the same content, for another future.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// The power goes at the `step`-th step from now, counted from 0.
    pub fn cut_at(&self, step: u64) {
        let mut state = self.0.borrow_mut();
        state.cut_at = Some(state.steps + step);
    }

    /// The `nth` sync from now, counted from 0, reports a failure. As on Linux, what it should have made durable reads well from
    /// then on, counts as clean, and is not on the medium until it is written again.
    pub fn fail_sync(&self, nth: u64) {
        let mut state = self.0.borrow_mut();
        state.sync_fails_at = Some(state.syncs + nth);
    }

    /// The `nth` write from now, counted from 0, fails with an input/output error; half of it may have been written.
    pub fn fail_write(&self, nth: u64) {
        let mut state = self.0.borrow_mut();
        state.write_fails_at = Some(state.writes + nth);
    }

    /// Reads of these `bytes` of files whose names begin with `prefix` fail, so many `times` (until the power goes, at most).
    pub fn fail_reads(&self, prefix: &str, bytes: Range<usize>, times: u64) {
        self.0.borrow_mut().reads_fail = Some(FailingReads { prefix: prefix.to_owned(), bytes, times });
    }

    /// Whether an injected failure has hit the process that uses the disk.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.borrow().failed
    }

    /// Syncs that were tried again on what one had failed for, by the same process: it went on as if nothing had happened.
    #[must_use]
    pub fn syncs_after_failure(&self) -> u64 {
        self.0.borrow().syncs_after_failure
    }

    /// The process that used the disk is gone; another one may use it.
    pub fn process_ended(&self) {
        let mut state = self.0.borrow_mut();
        (state.failed, state.syncs_after_failure) = (false, 0);
        state.unsynced.clear();
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// Syncs so far, of files and folders.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }

    /// Bytes written so far, in whole pages as a file system writes them.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.0.borrow().bytes_written
    }

    /// Bytes that the files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.borrow().used()
    }

    /// Changes how much fits.
    pub fn set_capacity(&self, capacity: u64) {
        self.0.borrow_mut().capacity = capacity;
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.0.borrow().down
    }

    /// Power comes back: what survives of the unsynced is decided by `survival` and `seed`, everything else is durable.
    pub fn restart(&self, survival: Survival, seed: u64) {
        self.0.borrow_mut().restart(survival, &mut Dice(seed ^ 0x9e37_79b9_7f4a_7c15));
    }

    /// All files by name, for damage and for looking.
    #[must_use]
    pub fn files(&self) -> Vec<(String, usize)> {
        let state = self.0.borrow();
        state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[inode].bytes.len())).collect()
    }

    /// Flips one bit of a file, on the medium.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) {
        self.damage(name, |bytes| {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        });
    }

    /// Changes the content of a file, on the medium.
    pub fn damage(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.0.borrow_mut();
        let Some(inode) = state.names.get(name).copied() else { return };
        if let Some(file) = state.inodes.get_mut(&inode) {
            change(&mut file.bytes);
            change(&mut file.durable);
        }
    }
}

/// A small generator (splitmix64): the simulator's seeds must not depend on a crate's version.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

impl State {
    fn used(&self) -> u64 {
        self.inodes.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// Counts a step. `true`: the operation takes effect in memory, but if the power goes here, it is also reported as failed.
    fn step(&mut self) -> Result<(), DiskError> {
        if self.down {
            return Err(off());
        }
        if self.cut_at == Some(self.steps) {
            self.down = true;
        }
        self.steps += 1;
        Ok(())
    }

    /// Whether this read is one that fails.
    fn read(&mut self, inode: usize, bytes: &Range<usize>) -> Result<(), DiskError> {
        let Some(failing) = &mut self.reads_fail else { return Ok(()) };
        let touches = bytes.start < failing.bytes.end && failing.bytes.start < bytes.end;
        let is_named = || self.names.iter().any(|(name, of)| *of == inode && name.starts_with(&failing.prefix));
        if !touches || failing.times == 0 || !is_named() {
            return Ok(());
        }
        failing.times -= 1;
        Err(DiskError::Failed("read: input/output error (injected)".into()))
    }

    fn answer(&self) -> Result<(), DiskError> {
        if self.down { Err(off()) } else { Ok(()) }
    }

    fn change_name(&mut self, change: NameChange) -> Result<(), DiskError> {
        self.step()?;
        apply(&mut self.names, &change);
        self.pending_names.push(change);
        if self.pending_names.len() > 64 {
            self.settle_names(32);
        }
        self.forget_unnamed();
        self.answer()
    }

    fn settle_names(&mut self, count: usize) {
        for change in self.pending_names.drain(..count) {
            apply(&mut self.durable_names, &change);
        }
    }

    fn forget_unnamed(&mut self) {
        let mut named: BTreeSet<usize> = self.names.values().chain(self.durable_names.values()).copied().collect();
        for change in &self.pending_names {
            if let NameChange::Link(_, inode) = change {
                named.insert(*inode);
            }
        }
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    fn sync(&mut self, what: usize) -> Result<(), DiskError> {
        self.step()?;
        self.answer()?;
        self.syncs += 1;
        self.syncs_after_failure += u64::from(self.unsynced.contains(&what));
        if self.sync_fails_at == Some(self.syncs - 1) {
            self.failed = true;
            self.unsynced.insert(what);
            return Err(DiskError::Failed("sync: input/output error (injected)".into()));
        }
        Ok(())
    }

    fn restart(&mut self, survival: Survival, dice: &mut Dice) {
        self.down = false;
        self.cut_at = None;
        self.sync_fails_at = None;
        self.write_fails_at = None;
        self.reads_fail = None;
        let kept = match survival {
            Survival::Dropped => 0,
            Survival::Kept => self.pending_names.len(),
            Survival::Torn(_) | Survival::Shredded => dice.below(self.pending_names.len() + 1),
        };
        self.settle_names(kept);
        self.pending_names.clear();
        self.names = self.durable_names.clone();
        self.forget_unnamed();
        for file in self.inodes.values_mut() {
            file.restart(survival, dice);
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
    }
}

impl Inode {
    fn restart(&mut self, survival: Survival, dice: &mut Dice) {
        for pending in std::mem::take(&mut self.pending) {
            match (survival, pending) {
                (Survival::Dropped, _) => {}
                (_, Pending::Cut(len)) => self.durable.resize(len, 0),
                (Survival::Kept, Pending::Write { offset, bytes }) => overwrite(&mut self.durable, offset, &bytes),
                (Survival::Torn(sector), Pending::Write { offset, bytes }) => {
                    for (start, piece) in sectors(offset, &bytes, sector) {
                        if dice.below(2) == 0 {
                            overwrite(&mut self.durable, start, piece);
                        }
                    }
                }
                (Survival::Shredded, Pending::Write { offset, bytes }) => {
                    for (start, piece) in sectors(offset, &bytes, 4096) {
                        match dice.below(3) {
                            0 => {}
                            1 => overwrite(&mut self.durable, start, piece),
                            _ => {
                                let page = start / 4096 * 4096;
                                let garbage: Vec<u8> = (0..4096).map(|_| dice.next() as u8).collect();
                                overwrite(&mut self.durable, page, &garbage);
                            }
                        }
                    }
                }
            }
        }
        self.bytes = self.durable.clone();
    }
}

/// Splits a write at multiples of `sector`.
fn sectors(offset: usize, bytes: &[u8], sector: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = offset + at;
        let len = (sector - start % sector).min(bytes.len() - at);
        let piece = &bytes[at..at + len];
        at += len;
        (len > 0).then_some((start, piece))
    })
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn off() -> DiskError {
    DiskError::Failed("the power is gone".into())
}

fn missing(path: &str) -> DiskError {
    DiskError::Failed(format!("{path}: no such file"))
}

impl Disk for MemDisk {
    type File = MemFile;

    fn create_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.dirs.insert(dir.to_owned());
        state.answer()
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        let state = self.0.borrow();
        state.answer()?;
        let inside = |name: &String| name.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        Ok(state.names.keys().filter_map(inside).filter(|name| !name.contains('/')).collect())
    }

    fn list_dirs(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        let state = self.0.borrow();
        state.answer()?;
        let inside = |name: &String| name.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        Ok(state.dirs.iter().filter_map(inside).filter(|name| !name.contains('/')).collect())
    }

    fn open(&mut self, path: &str) -> Result<Option<MemFile>, DiskError> {
        let state = self.0.borrow();
        state.answer()?;
        Ok(state.names.get(path).map(|inode| MemFile { disk: Rc::clone(&self.0), inode: *inode }))
    }

    fn create(&mut self, path: &str) -> Result<MemFile, DiskError> {
        let mut state = self.0.borrow_mut();
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Link(path.to_owned(), inode))?;
        Ok(MemFile { disk: Rc::clone(&self.0), inode })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if !state.names.contains_key(from) {
            return Err(missing(from));
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if !state.names.contains_key(path) {
            return Err(missing(path));
        }
        state.change_name(NameChange::Unlink(path.to_owned()))
    }

    fn sync_dir(&mut self, _dir: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.sync(NAMES)?;
        let count = state.pending_names.len();
        state.settle_names(count);
        state.forget_unnamed();
        Ok(())
    }
}

impl MemFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> T) -> Result<T, DiskError> {
        let mut state = self.disk.borrow_mut();
        state.inodes.get_mut(&self.inode).map(act).ok_or_else(|| missing("a removed file"))
    }
}

impl DiskFile for MemFile {
    fn len(&self) -> Result<u64, DiskError> {
        self.with(|file| file.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        self.disk.borrow().answer()?;
        self.disk.borrow_mut().read(self.inode, &(offset as usize..offset as usize + out.len()))?;
        self.with(|file| {
            let from = (offset as usize).min(file.bytes.len());
            let len = out.len().min(file.bytes.len() - from);
            out[..len].copy_from_slice(&file.bytes[from..from + len]);
            len
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let offset = offset as usize;
        let mut state = self.disk.borrow_mut();
        state.step()?;
        let growth = self.growth(&state, offset + bytes.len());
        if 0 < growth && state.used() + growth > state.capacity {
            return Err(DiskError::Full);
        }
        state.writes += 1;
        let fails = state.write_fails_at == Some(state.writes - 1);
        state.failed |= fails;
        let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        let pages = (offset + bytes.len()).div_ceil(4096) - offset / 4096;
        state.bytes_written += pages as u64 * 4096;
        if let Some(file) = state.inodes.get_mut(&self.inode) {
            overwrite(&mut file.bytes, offset, bytes);
            file.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
        }
        if fails {
            return Err(DiskError::Failed("write: input/output error (injected)".into()));
        }
        state.answer()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        let mut state = self.disk.borrow_mut();
        state.step()?;
        if let Some(file) = state.inodes.get_mut(&self.inode) {
            file.bytes.resize(len as usize, 0);
            file.pending.push(Pending::Cut(len as usize));
        }
        state.answer()
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.disk.borrow_mut();
        if let Err(error) = state.sync(self.inode) {
            if let (false, Some(file)) = (state.down, state.inodes.get_mut(&self.inode)) {
                file.pending.clear();
            }
            return Err(error);
        }
        if let Some(file) = state.inodes.get_mut(&self.inode) {
            for pending in std::mem::take(&mut file.pending) {
                match pending {
                    Pending::Write { offset, bytes } => overwrite(&mut file.durable, offset, &bytes),
                    Pending::Cut(len) => file.durable.resize(len, 0),
                }
            }
        }
        Ok(())
    }
}

impl MemFile {
    /// Bytes by which the file grows if it is written up to `end`.
    fn growth(&self, state: &State, end: usize) -> u64 {
        let len = state.inodes.get(&self.inode).map_or(0, |file| file.bytes.len());
        end.saturating_sub(len) as u64
    }
}
