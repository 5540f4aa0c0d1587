//! The data folder's own numbers, and whether it has held data: the file `identity`.
//!
//! - The number is made once; frames of another folder are never valid here. Everything hangs on it, so a damaged or missing
//!   file must not decide: where there is data, the data tells.
//! - `used` stands behind the number as soon as something was committed. If the data is then gone, that is no new folder.
//! - `store-` and eight digits is the number of which records tell upstream. The salt is not told to anybody: whoever knew it could
//!   make payloads that look like frames. A store whose data is gone gets another number, as its lanes begin again.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Folder, OpenError};
use crate::store::find_salt;
use crate::store_id::StoreId;

const USED: &str = "used";
const STORE: &str = "store-";

/// The file.
#[derive(Debug)]
pub(super) struct Identity {
    /// Salt of all frames.
    pub salt: u32,
    /// Something was committed here once.
    pub has_held_data: bool,
    /// The number that records tell.
    pub store: StoreId,
    dir: PathBuf,
    marked: bool,
    /// The file was there at the start.
    was_written: bool,
}

/// What the file says.
pub(super) struct Written {
    /// The number, if it can be read.
    pub salt: Option<u32>,
    /// The file says that something was committed here.
    pub used: bool,
    /// The number that records tell, if it is there.
    pub store: Option<StoreId>,
    /// It says so, or it looks as if: a file that cannot be read, or folders without it, are no new folder.
    pub has_held_data: bool,
}

impl Written {
    /// Reads the file in the data folder `dir`.
    pub fn read(dir: &Path) -> Self {
        let text = fs::read(dir.join("identity")).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut words = text.as_deref().unwrap_or_default().split_whitespace();
        let salt = words.next().and_then(|number| u32::from_str_radix(number, 16).ok());
        let (mut used, mut store) = (false, None);
        for word in words {
            used |= word == USED;
            let number = word.strip_prefix(STORE).and_then(|number| u32::from_str_radix(number, 16).ok());
            store = store.or(number.filter(|number| *number != 0).map(StoreId));
        }
        let is_strange = salt.is_none() && (text.is_some() || dir.join("journal").is_dir());
        Self { salt, used, store, has_held_data: used || is_strange }
    }
}

impl Identity {
    /// Reads the file, or makes it.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("identity");
        let Written { salt: written, used, store, has_held_data } = Written::read(dir);
        let found = find_salt(&mut Folder::read_only(dir));
        let found = found.map_err(|error| OpenError::Store(error.into(), dir.to_owned()))?;
        let salt = found.or(written).unwrap_or_else(random);
        let mut identity = Self {
            salt,
            has_held_data,
            store: store.unwrap_or_else(drawn),
            dir: dir.to_owned(),
            marked: used,
            was_written: false,
        };
        if found.is_some() && written != found {
            log::warn!("{}: was damaged or missing and is written anew from the data", path.display());
            // A full disk is no reason to stay away: the data tells the next time as well.
            identity.marked = identity.write(false).is_err();
        } else if written.is_none() || store.is_none() {
            let written = identity.write(used);
            written.map_err(|error| OpenError::Io(error, format!("cannot write {}", path.display())))?;
        }
        identity.was_written = path.exists();
        Ok(identity)
    }

    /// The number that records tell is this, as the data knows; or, with `None`, it must be another: the data is gone.
    pub fn renumber(&mut self, known: Option<StoreId>) {
        if known != Some(self.store) {
            self.store = known.unwrap_or_else(drawn);
            if let Err(error) = self.write(self.marked) {
                log::debug!("{}: cannot be written: {error}", self.dir.join("identity").display());
            }
        }
    }

    /// Whether the folder is still there, as far as its file tells: what is written into a folder that was removed is gone.
    pub fn is_gone(&self) -> bool {
        self.was_written
            && fs::symlink_metadata(self.dir.join("identity"))
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Something is committed. Tried again at the next start if there is no room for it.
    pub fn mark(&mut self) {
        if !self.marked {
            self.marked = true;
            if let Err(error) = self.write(true) {
                log::debug!("{}: cannot be marked as used: {error}", self.dir.display());
            }
        }
    }

    fn write(&self, is_used: bool) -> io::Result<()> {
        let temporary = self.dir.join("identity.tmp");
        let mut file = File::create(&temporary)?;
        let word = if is_used { " used" } else { "" };
        file.write_all(format!("{:08x}{word} {STORE}{}\n", self.salt, self.store).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join("identity"))?;
        File::open(&self.dir)?.sync_all()
    }
}

fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// A number for a new store.
fn drawn() -> StoreId {
    StoreId(random().max(1))
}
