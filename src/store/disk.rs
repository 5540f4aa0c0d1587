//! What the store needs of a disk: a handful of operations, each with the durability that a Linux file system gives.
//!
//! - Paths are relative, with `/`; files lie in folders one or two levels deep.
//! - Written data is durable after [`DiskFile::sync_data`], a created, renamed or removed name after [`Disk::sync_dir`].
//! - A failed sync is final: what it covered may be lost although it reads well, so nobody retries it.

use core::fmt;

/// Why an operation did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No space left: an ordinary answer, to be tried again when there is.
    Full,
    /// The medium, the file system or the rights failed; the text names operation, path and reason.
    Failed(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space left on the disk"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for DiskError {}

/// A folder of files.
pub trait Disk {
    /// An open file.
    type File: DiskFile;

    /// Creates `dir` and its parents unless they exist, durably.
    fn create_dir(&mut self, dir: &str) -> Result<(), DiskError>;
    /// Names of the files in `dir`, in any order; none if it does not exist.
    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError>;
    /// Names of the folders in `dir`, in any order; none if it does not exist.
    fn list_dirs(&mut self, dir: &str) -> Result<Vec<String>, DiskError>;
    /// Opens a file for reading and writing; `None` if there is none.
    fn open(&mut self, path: &str) -> Result<Option<Self::File>, DiskError>;
    /// Creates an empty file, or empties the one that is there.
    fn create(&mut self, path: &str) -> Result<Self::File, DiskError>;
    /// Renames a file, replacing what is at `to`. Open files stay what they were.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file.
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError>;
}

/// An open file.
pub trait DiskFile {
    /// Length in bytes.
    fn len(&self) -> Result<u64, DiskError>;
    /// Whether it is empty.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }
    /// Reads until `out` is full or the file ends; the bytes read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, DiskError>;
    /// Writes all of `bytes`, growing the file as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Cuts or extends (with zeros).
    fn set_len(&self, len: u64) -> Result<(), DiskError>;
    /// Makes what was written durable, with the length.
    fn sync_data(&self) -> Result<(), DiskError>;
}

/// How often a read is tried before the bytes are taken for gone.
const TRIES: u32 = 3;

/// Reads as [`DiskFile::read_at`] does, with patience; `None`: it cannot be read, now.
pub fn read_if_possible<F: DiskFile>(file: &F, offset: u64, out: &mut [u8]) -> Option<usize> {
    (0..TRIES).find_map(|_| file.read_at(offset, out).ok())
}
