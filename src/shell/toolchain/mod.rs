//! Functions built to wasm with what the machine has: the compilers and their flags stand here and nowhere else.
//!
//! - Nothing is installed or fetched, and nothing is written outside of the function's folder and its `work` folder. What is missing
//!   is named, with the command that gets it.
//! - A module is linked to be small: 2 KiB of stack at the bottom of the memory, so that running over it traps instead of
//!   overwriting data; a memory that cannot grow; pages of one byte where the linker knows them; no custom section but the names.
//! - This folder uses nothing of the program, so that the project's own commands (xtask) read the same one.

pub mod assemblyscript;
pub mod c;
pub mod find;
pub mod linker;
pub mod rust;
pub mod zig;

use std::fmt;
use std::path::{Path, PathBuf};

pub use linker::Linker;

/// What a function is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `Cargo.toml`.
    Rust,
    /// `NAME.c`.
    C,
    /// `NAME.zig`.
    Zig,
    /// `NAME.ts`.
    AssemblyScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Zig, Self::AssemblyScript];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Zig => "zig",
            Self::AssemblyScript => "assemblyscript",
        }
    }

    /// The language of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }

    /// The file by which a function's folder shows its language.
    #[must_use]
    pub fn source(self, name: &str) -> String {
        match self {
            Self::Rust => "Cargo.toml".to_owned(),
            Self::C => format!("{name}.c"),
            Self::Zig => format!("{name}.zig"),
            Self::AssemblyScript => format!("{name}.ts"),
        }
    }

    /// The language in which the function `name` in `folder` is written.
    #[must_use]
    pub fn of(folder: &Path, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| folder.join(language.source(name)).is_file())
    }
}

/// Why there is no module.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A tool is not there; the text says which, and how to get it.
    Missing(String),
    /// A tool said no, on standard error, or could not be run.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

/// A function's source.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// Its name, and that of its main file.
    pub name: &'a str,
    /// Where `weir.h`, `weir.zig` or `weir.ts` lies.
    pub sdk: &'a Path,
    /// For what is made on the way.
    pub work: &'a Path,
}

/// What was made.
#[derive(Debug)]
pub struct Compiled {
    /// The module's file.
    pub module: PathBuf,
    /// With what, for people.
    pub by: String,
}

/// Builds the function.
///
/// # Errors
/// A tool is missing, or the source does not compile.
pub fn build(language: Language, source: &Source<'_>) -> Result<Compiled, Trouble> {
    std::fs::create_dir_all(source.work)
        .map_err(|error| Trouble::Failed(format!("{}: {error}", source.work.display())))?;
    match language {
        Language::Rust => rust::build(source),
        Language::C => c::build(source),
        Language::Zig => zig::build(source),
        Language::AssemblyScript => assemblyscript::build(source),
    }
}
