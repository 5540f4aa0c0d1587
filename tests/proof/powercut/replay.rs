//! The disk as a power cut leaves it: the events of a record go into the model disk of the store's own tests, one for the data
//! folder and one for the files upstream, and the model decides what survives of what no sync covered.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use weir::store::disk::{Disk as _, DiskFile as _};
use weir::store::mem_disk::{MemDisk, Survival};
use weir_simulator::rng::Rng;

use super::trace::{Event, Present};

/// Folders and files, by path.
#[derive(Clone, Default)]
pub struct State {
    dirs: BTreeSet<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl State {
    /// What a record of a run on it must know.
    pub fn present(&self) -> Vec<Present> {
        let dirs = self.dirs.iter().cloned().map(Present::Dir);
        dirs.chain(self.files.iter().map(|(path, bytes)| Present::File(path.clone(), bytes.len() as u64))).collect()
    }

    /// Makes it in `folder`.
    pub fn write(&self, folder: &Path) {
        self.dirs.iter().for_each(|dir| fs::create_dir_all(folder.join(dir)).unwrap());
        self.files.iter().for_each(|(path, bytes)| fs::write(folder.join(path), bytes).unwrap());
    }
}

/// A disk that runs through a record.
pub struct Replay {
    data: MemDisk,
    upstream: MemDisk,
    dirs: BTreeSet<String>,
}

/// What is done to writes that were under way.
pub const DATA: [Survival; 5] =
    [Survival::Dropped, Survival::Kept, Survival::Torn(512), Survival::Torn(4096), Survival::Shredded];
/// Files upstream are appended to, and a line's page holds the lines before it: that a page turns to garbage as a whole is more
/// than a file of lines can stand.
pub const UPSTREAM: [Survival; 4] = [Survival::Dropped, Survival::Kept, Survival::Torn(512), Survival::Torn(4096)];

impl Replay {
    /// A disk with this content, all of it durable.
    pub fn new(base: &State) -> Self {
        let replay = Self { data: MemDisk::default(), upstream: MemDisk::default(), dirs: base.dirs.clone() };
        for (path, bytes) in &base.files {
            let (mut disk, path) = replay.disk(path);
            let file = disk.create(path).unwrap();
            file.write_at(0, bytes).unwrap();
            file.sync_data().unwrap();
        }
        for mut disk in [replay.data.clone(), replay.upstream.clone()] {
            disk.sync_dir("").unwrap();
        }
        replay
    }

    fn disk<'a>(&self, path: &'a str) -> (MemDisk, &'a str) {
        let disk = if path.starts_with("upstream") { &self.upstream } else { &self.data };
        (disk.clone(), path)
    }

    /// Another disk that is where this one is.
    pub fn fork(&self) -> Self {
        Self { data: self.data.fork(), upstream: self.upstream.fork(), dirs: self.dirs.clone() }
    }

    /// The next event, on a medium that acknowledges a sync and does not do it.
    pub fn apply_lying(&mut self, event: &Event) -> Result<(), String> {
        if matches!(event, Event::Sync(_) | Event::SyncDir(_)) { Ok(()) } else { self.apply(event) }
    }

    /// The next event.
    pub fn apply(&mut self, event: &Event) -> Result<(), String> {
        let failed = |error: weir::store::disk::DiskError| format!("{error}: {event:.100?}");
        match event {
            Event::MakeDir(path) => {
                self.dirs.insert(path.clone());
                Ok(())
            }
            Event::Create(path) => {
                let (mut disk, path) = self.disk(path);
                disk.create(path).map(drop).map_err(failed)
            }
            Event::Write { path, offset, bytes } => self.with(path, |file| file.write_at(*offset, bytes)),
            Event::SetLen(path, len) => self.with(path, |file| file.set_len(*len)),
            Event::Sync(path) => self.with(path, |file| file.sync_data()),
            Event::SyncDir(path) => {
                let (mut disk, path) = self.disk(path);
                disk.sync_dir(path).map_err(failed)
            }
            Event::Rename(from, to) => {
                let (mut disk, from) = self.disk(from);
                disk.rename(from, to).map_err(failed)
            }
            Event::Remove(path) => {
                let (mut disk, path) = self.disk(path);
                disk.remove(path).map_err(failed)
            }
            Event::Sent(_) | Event::Had(_) => Ok(()),
        }
    }

    fn with(
        &self,
        path: &str,
        act: impl FnOnce(&weir::store::mem_disk::MemFile) -> Result<(), weir::store::disk::DiskError>,
    ) -> Result<(), String> {
        let (mut disk, path) = self.disk(path);
        match disk.open(path) {
            Ok(Some(file)) => act(&file).map_err(|error| format!("{path}: {error}")),
            // A file that was removed while it was open.
            Ok(None) => Ok(()),
            Err(error) => Err(format!("{path}: {error}")),
        }
    }

    /// What is there if the power goes now.
    pub fn cut(&self, data: Survival, upstream: Survival, dice: &mut Rng) -> State {
        let mut files = Vec::new();
        for (disk, survival) in [(&self.data, data), (&self.upstream, upstream)] {
            let mut disk = disk.fork();
            disk.restart(survival, dice.next());
            for (path, len) in disk.files() {
                let mut bytes = vec![0; len];
                let file = disk.open(&path).unwrap().expect("it is listed");
                file.read_at(0, &mut bytes).unwrap();
                files.push((path, bytes));
            }
        }
        State { dirs: self.dirs.clone(), files }
    }
}
