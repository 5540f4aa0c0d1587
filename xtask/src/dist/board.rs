//! What packaging must know of a board: read from its file, which the gateway itself reads strictly.

use std::path::Path;

use crate::cross::Target;

/// A board as a package sees it.
#[derive(Debug)]
pub struct Board {
    /// Its name.
    pub name: String,
    /// Its target.
    pub target: &'static Target,
    /// Memory that the gateway may take.
    pub memory_bytes: u64,
}

impl Board {
    /// The board `name` of the project at `root`.
    pub fn get(root: &Path, name: &str) -> Result<Self, String> {
        let file = root.join("boards").join(name).with_extension("toml");
        let text = std::fs::read_to_string(&file)
            .map_err(|_| format!("`{name}` is none of the boards: {}", names(root).join(", ")))?;
        let value = |key: &str| {
            let line = text.lines().find(|line| line.split('=').next().is_some_and(|word| word.trim() == key));
            let value = line.and_then(|line| line.split('"').nth(1)).map(str::to_owned);
            value.ok_or_else(|| format!("{}: no {key} = \"…\"", file.display()))
        };
        let memory = value("memory")?;
        let mib: Option<u64> = memory.strip_suffix(" MiB").and_then(|number| number.parse().ok());
        let memory_bytes = mib.ok_or_else(|| format!("{}: memory: write it as \"N MiB\"", file.display()))? << 20;
        Ok(Self { name: name.to_owned(), target: Target::get(&value("target")?)?, memory_bytes })
    }

    /// The board that stands for all of a target that have no package of their own.
    pub fn of_target(root: &Path, target: &Target) -> Result<Self, String> {
        let name = match target.triple {
            "aarch64-unknown-linux-musl" => "generic-aarch64",
            "armv7-unknown-linux-musleabihf" => "generic-armv7",
            "arm-unknown-linux-musleabihf" => "pi-zero",
            _ => "generic",
        };
        Self::get(root, name)
    }
}

/// All boards.
pub fn names(root: &Path) -> Vec<String> {
    let files = std::fs::read_dir(root.join("boards")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".toml")?.to_owned())).collect();
    names.sort();
    names
}
