//! Boards: what a piece of hardware grants the gateway, one TOML file each.
//!
//! - The files of `boards/` are compiled in; a site may bring its own, of the same form.
//! - Every board names a target triple that `Cross.toml` knows.
//! - A board may have defaults of its own for what memory and flash depend on; what `gateway.toml` says goes before them.

use core::ops::RangeInclusive;

use crate::strict::{self, Faults, Section};
use crate::units::{Bytes, Millis};

/// Unacknowledged messages of the broker: what may be set.
pub const IN_FLIGHT: RangeInclusive<u16> = 1..=65_535;
/// Bytes of received, uncommitted messages: what may be set.
pub const INBOX: RangeInclusive<Bytes> = Bytes::kib(4)..=Bytes::mib(256);
/// Commit interval: what may be set.
pub const COMMIT_INTERVAL: RangeInclusive<Millis> = Millis(0)..=Millis(60_000);
/// Size of a segment: what may be set.
pub const SEGMENT: RangeInclusive<Bytes> = Bytes::kib(64)..=Bytes::mib(16);
/// sled's cache: what may be set. Above it sled's memory leaves all proportion (8 MiB: 95 MB measured).
pub const SLED_CACHE: RangeInclusive<Bytes> = Bytes::kib(512)..=Bytes::mib(4);

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
    /// Years that the flash lasts when so much is written each day.
    pub flash_years: u8,
    /// Whether a battery keeps the clock running without power.
    pub rtc: bool,
    /// Processor cores.
    pub cores: u8,
    /// Defaults that follow from all that.
    pub defaults: Defaults,
}

/// What a board sets where `gateway.toml` is silent; `None`: weir's own default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// `commit.interval`.
    pub commit_interval: Option<Millis>,
    /// `broker.in-flight`.
    pub in_flight: Option<u16>,
    /// `broker.inbox-max`.
    pub inbox_max: Option<Bytes>,
    /// `store.segment-bytes`.
    pub segment_bytes: Option<Bytes>,
    /// `store.sled`.
    pub sled: Option<bool>,
    /// `store.sled-cache`.
    pub sled_cache: Option<Bytes>,
}

/// The boards that are compiled in: name and file.
pub const BUILT_IN: [(&str, &str); 13] = [
    ("generic", include_str!("../boards/generic.toml")),
    ("generic-aarch64", include_str!("../boards/generic-aarch64.toml")),
    ("generic-armv7", include_str!("../boards/generic-armv7.toml")),
    ("pi-zero", include_str!("../boards/pi-zero.toml")),
    ("pi-zero-2w", include_str!("../boards/pi-zero-2w.toml")),
    ("pi-2b", include_str!("../boards/pi-2b.toml")),
    ("pi-3b", include_str!("../boards/pi-3b.toml")),
    ("pi-4b", include_str!("../boards/pi-4b.toml")),
    ("pi-5", include_str!("../boards/pi-5.toml")),
    ("cm4", include_str!("../boards/cm4.toml")),
    ("beaglebone-black", include_str!("../boards/beaglebone-black.toml")),
    ("qemu-virt-64m", include_str!("../boards/qemu-virt-64m.toml")),
    ("qemu-virt-128m", include_str!("../boards/qemu-virt-128m.toml")),
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
        let defaults = Defaults::read(section.section("defaults"));
        let board = Self {
            name: name.to_owned(),
            description: section.text("description").unwrap_or_default().to_owned(),
            target: target.unwrap_or_default().to_owned(),
            memory,
            flash,
            flash_writes_per_day,
            rtc: section.flag("rtc", false),
            cores: section.number("cores", 1, 1..=255),
            flash_years: section.number("flash-years", 2, 1..=100),
            defaults: defaults.unwrap_or_default(),
        };
        (section.close() && defaults.is_some()).then_some(board)
    }

    /// The compiled-in board of that name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Self::parse(name, &format!("boards/{name}.toml"), text, &Faults::default())
    }
}

impl Defaults {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let defaults = Self {
            commit_interval: section.millis_option("commit-interval", COMMIT_INTERVAL),
            in_flight: section.has("in-flight").then(|| section.number("in-flight", 1, IN_FLIGHT)),
            inbox_max: section.bytes_option("inbox-max", INBOX),
            segment_bytes: section.bytes_option("segment-bytes", SEGMENT),
            sled: section.has("sled").then(|| section.flag("sled", false)),
            sled_cache: section.bytes_option("sled-cache", SLED_CACHE),
        };
        section.close().then_some(defaults)
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
