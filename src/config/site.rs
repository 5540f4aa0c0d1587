//! The site as the configuration sees it: files, environment and the host's name, looked at through a trait.

use std::path::{Path, PathBuf};

/// What a [`Site`] says of a file that is not there.
pub const NO_SUCH_FILE: &str = "no such file";

/// What reading a configuration may ask of the world; the shell answers, and tests do from memory.
pub trait Site {
    /// The text of a file. The error is for people: "no such file".
    fn read(&self, path: &Path) -> Result<String, String>;
    /// The length of a file in bytes.
    fn size(&self, path: &Path) -> Result<u64, String>;
    /// The permission bits of a file, where there are such.
    fn mode(&self, path: &Path) -> Option<u32>;
    /// Whether the environment has this variable.
    fn has_env(&self, name: &str) -> bool;
    /// The name of the machine.
    fn host_name(&self) -> Option<String>;
}

/// Where relative paths of a file begin, and whom to ask.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) site: &'a dyn Site,
}

impl Place<'_> {
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }
}
