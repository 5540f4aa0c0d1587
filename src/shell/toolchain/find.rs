//! Programs of this machine: found, asked, run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Trouble;

/// Folders that are looked through before those of `PATH`.
static FIRST: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Looks through these folders first, from now on; the first call counts.
pub fn look_first(folders: Vec<PathBuf>) {
    let _ = FIRST.set(folders);
}

/// A program, and the words that make it what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub file: PathBuf,
    /// Put before all other arguments.
    pub words: Vec<String>,
}

impl Tool {
    /// A program that is what is wanted by itself.
    #[must_use]
    pub const fn plain(file: PathBuf) -> Self {
        Self { file, words: Vec::new() }
    }

    /// Ready for further arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.args(&self.words);
        command
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        let words: String = self.words.iter().map(|word| format!(" {word}")).collect();
        format!("{}{words}", self.file.display())
    }
}

/// The program `name` in `PATH` or in the folders where daemons lie.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = FIRST.get().into_iter().flatten().cloned();
    let folders = first.chain(std::env::split_paths(&path)).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The first of a program's names that works; plain, and with the numbers of versions that Debian gives.
pub fn find_version(name: &str, works: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let versions = ["", "-24", "-23", "-22", "-21", "-20", "-19", "-18", "-17", "-16", "-15", "-14"];
    let mut found = versions.iter().filter_map(|version| find(&format!("{name}{version}")));
    found.find(|file| works(file))
}

/// Whether `folder` has a file whose name begins so.
#[must_use]
pub fn has_file(folder: &Path, prefix: &str) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with(prefix)))
}

/// Standard output of a command that succeeded.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a tool; what it says goes to standard error.
///
/// # Errors
/// It could not be run, or said no.
pub fn run(command: &mut Command, what: &str) -> Result<(), Trouble> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Trouble::Failed(format!("{what}: {error}: {command:?}")))?;
    let said = [output.stdout, output.stderr].concat();
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), &said);
    match output.status.success() {
        true => Ok(()),
        false => Err(Trouble::Failed(format!("{what} failed ({})", output.status))),
    }
}
