//! Boards: what a piece of hardware grants the gateway, one TOML file each.
//!
//! - The files of `boards/` are compiled in; a site may bring its own, of the same form.
//! - Every board names a target triple that `Cross.toml` knows.

use crate::strict::{self, Faults, Section};
use crate::units::Bytes;

/// A profile of hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Name: that of its file.
    pub name: String,
    /// One line.
    pub description: String,
    /// Rust target triple of the binary.
    pub target: String,
    /// Memory that the gateway may take, as resident set.
    pub memory: Bytes,
    /// Flash that the gateway may take.
    pub flash: Bytes,
    /// Bytes that the gateway may write to flash in a day if the card is to last.
    pub flash_writes_per_day: Bytes,
    /// Whether a battery keeps the clock running without power.
    pub rtc: bool,
    /// Processor cores.
    pub cores: u8,
}

/// The boards that are compiled in: name and file.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("generic", include_str!("../boards/generic.toml")),
    ("pi-zero", include_str!("../boards/pi-zero.toml")),
    ("pi-zero-2w", include_str!("../boards/pi-zero-2w.toml")),
    ("pi-3b", include_str!("../boards/pi-3b.toml")),
    ("pi-4b", include_str!("../boards/pi-4b.toml")),
    ("pi-5", include_str!("../boards/pi-5.toml")),
];

impl Board {
    /// Parses `text`, the content of `file`; what is wrong goes to `faults`.
    pub fn parse(name: &str, file: &str, text: &str, faults: &Faults) -> Option<Self> {
        let table = strict::parse(file, text, faults)?;
        let mut section = Section::top(file, &table, faults);
        let memory = required_size(&mut section, "memory", "48 MiB");
        let flash = required_size(&mut section, "flash", "512 MiB");
        let flash_writes_per_day = required_size(&mut section, "flash-writes-per-day", "4 GiB");
        let target = section.required_text("target", "aarch64-unknown-linux-musl");
        let board = Self {
            name: name.to_owned(),
            description: section.text("description").unwrap_or_default().to_owned(),
            target: target.unwrap_or_default().to_owned(),
            memory,
            flash,
            flash_writes_per_day,
            rtc: section.flag("rtc", false),
            cores: section.number("cores", 1, 1..=255),
        };
        section.close().then_some(board)
    }

    /// The compiled-in board of that name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Self::parse(name, &format!("boards/{name}.toml"), text, &Faults::default())
    }
}

fn required_size(section: &mut Section<'_>, key: &'static str, example: &str) -> Bytes {
    if !section.has(key) {
        section.refuse(key, &format!("is missing; write {key} = \"{example}\""));
    }
    section.bytes(key, Bytes(0), Bytes(1)..=Bytes(1 << 50))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_board_parses() {
        for (name, _) in BUILT_IN {
            let board = Board::built_in(name).expect(name);
            assert!(board.target.contains("-musl") && !board.description.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_board_without_memory_or_with_an_unknown_key_is_refused() {
        let faults = Faults::default();
        let text = "target = \"a-musl\"\nflash = \"1 GiB\"\nflash-writes-per-day = \"1 GiB\"\nram = \"1 MiB\"\n";
        assert!(Board::parse("x", "x.toml", text, &faults).is_none());
        let list: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(list.len(), 2, "{list:?}");
        assert!(list[0].contains("memory: is missing") && list[1].starts_with("x.toml: ram: is not a key"), "{list:?}");
    }
}
