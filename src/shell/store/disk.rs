//! The real disk: a folder of files.
//!
//! - Everything lies below one root; paths come from the store and name nothing outside it.
//! - Running out of space is told apart from failure ([`DiskError::Full`]); everything else names operation, path and reason.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::disk::{Disk, DiskError, DiskFile};

/// The wait behind a read that failed: the 60 tries of a start are then spread over three seconds.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// A folder on a file system.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    writable: bool,
}

/// One of its files.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    path: PathBuf,
}

impl Folder {
    /// The folder at `root`, which exists.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), writable: true }
    }

    /// The same, for looking only: files are opened for reading, so that it works where nothing may be written.
    #[must_use]
    pub fn read_only(root: &Path) -> Self {
        Self { root: root.to_owned(), writable: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn names(&self, dir: &str, wanted: fn(&fs::FileType) -> bool) -> Result<Vec<String>, DiskError> {
        let path = self.path(dir);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(told("list", &path, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| told("list", &path, &error))?;
            if entry.file_type().is_ok_and(|kind| wanted(&kind)) {
                // The store's own names are ASCII; others are not its business.
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }
}

fn told(operation: &str, path: &Path, error: &io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full,
        _ => DiskError::Failed(format!("cannot {operation} {}: {error}", path.display())),
    }
}

fn sync_folder(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| told("sync", path, &error))
}

impl Disk for Folder {
    type File = OpenFile;

    fn create_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        let path = self.path(dir);
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&path).map_err(|error| told("create", &path, &error))?;
        // Every folder on the way may be new.
        let mut parents = path.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.root));
        parents.try_for_each(sync_folder)
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.names(dir, fs::FileType::is_file)
    }

    fn list_dirs(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.names(dir, fs::FileType::is_dir)
    }

    fn open(&mut self, path: &str) -> Result<Option<OpenFile>, DiskError> {
        let path = self.path(path);
        match OpenOptions::new().read(true).write(self.writable).open(&path) {
            Ok(file) => Ok(Some(OpenFile { file, path })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(told("open", &path, &error)),
        }
    }

    fn create(&mut self, path: &str) -> Result<OpenFile, DiskError> {
        let path = self.path(path);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        file.map(|file| OpenFile { file, path: path.clone() }).map_err(|error| told("create", &path, &error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).map_err(|error| told("rename", &from, &error))
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let path = self.path(path);
        fs::remove_file(&path).map_err(|error| told("remove", &path, &error))
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        sync_folder(&self.path(dir))
    }
}

impl DiskFile for OpenFile {
    fn len(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|error| told("measure", &self.path, &error))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        let mut read = 0;
        while read < out.len() {
            match self.file.read_at(&mut out[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // A card that is busy with itself fails at once, and is better in a moment; whoever reads tries again.
                    std::thread::sleep(READ_PAUSE);
                    return Err(told("read", &self.path, &error));
                }
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(|error| told("write", &self.path, &error))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(|error| told("resize", &self.path, &error))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|error| told("sync", &self.path, &error))
    }
}
