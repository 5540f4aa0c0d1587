//! Where the value of a setting comes from that a board may set: the file, the board, or weir's own default.

use core::fmt;

use crate::strict::Section;

/// Who has decided a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It stands in `gateway.toml`.
    File,
    /// The board's default.
    Board,
    /// weir's default.
    Weir,
}

/// A setting that boards may have a default for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key: `commit.interval`.
    pub key: String,
    /// Its value, as it would stand in a file.
    pub value: String,
    /// Who decided.
    pub source: Source,
}

/// Those that were read so far.
#[derive(Debug, Default)]
pub(super) struct Settings(Vec<Setting>);

impl Settings {
    /// Reads `key` by `read`, which is told its default: the board's, or else `own`.
    pub(super) fn read<T: fmt::Display + Copy>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        board: Option<T>,
        own: T,
        read: impl FnOnce(&mut Section<'_>, &'static str, T) -> T,
    ) -> T {
        let source = match (section.has(key), board) {
            (true, _) => Source::File,
            (false, Some(_)) => Source::Board,
            (false, None) => Source::Weir,
        };
        let value = read(section, key, board.unwrap_or(own));
        self.0.push(Setting { key: section.path(key), value: value.to_string(), source });
        value
    }

    /// The value of a setting that is read elsewhere.
    pub(super) fn correct(&mut self, key: &str, value: impl fmt::Display) {
        if let Some(setting) = self.0.iter_mut().find(|setting| setting.key == key) {
            setting.value = value.to_string();
        }
    }

    pub(super) fn into_list(self) -> Vec<Setting> {
        self.0
    }
}
