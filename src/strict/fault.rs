//! Faults: what is wrong with a file of the configuration, in a form that leads to the repair.
//!
//! - A fault names file and key; its text says what was wished, what room there is or what form is taken.
//! - The list is bounded: past [`FAULTS_MAX`] faults are counted only, and long keys and texts are cut.
//! - A file may come from somebody else, with a function: a fault is shown on one line, and no terminal obeys what is in it.

use core::cell::RefCell;
use core::fmt;

use crate::printable::{Escaped, cut};

/// Faults kept with their text; a file with more is beyond reading anyway.
pub const FAULTS_MAX: usize = 200;

/// Bytes kept of a fault's key.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes kept of a fault's text.
pub const TEXT_BYTES_MAX: usize = 2048;

/// Whether the gateway starts in spite of the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not.
    Refusal,
    /// It does; what is likely meant differs from what is written.
    Warning,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Refused or warned of.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// The key, from the top of the file, entries of lists by their names: `function.mean.limits.memory`.
    pub key: String,
    /// Wish and room, or what is wrong and the repair.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        match self.key.as_str() {
            "" => write!(f, "{}: {warning}{}", self.file, self.text),
            key => write!(f, "{}: {warning}{key}: {}", self.file, self.text),
        }
    }
}

/// The faults of all files, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Faults(RefCell<Found>);

#[derive(Debug, Default)]
struct Found {
    list: Vec<Fault>,
    refusals: usize,
    left_off: usize,
}

impl Faults {
    /// Adds a refusal.
    pub fn refuse(&self, file: &str, key: &str, text: &str) {
        self.add(Severity::Refusal, file, key, text);
    }

    /// Adds a warning.
    pub fn warn(&self, file: &str, key: &str, text: &str) {
        self.add(Severity::Warning, file, key, text);
    }

    fn add(&self, severity: Severity, file: &str, key: &str, text: &str) {
        let mut found = self.0.borrow_mut();
        found.refusals += usize::from(severity == Severity::Refusal);
        if found.list.len() < FAULTS_MAX {
            let (key, text) = (plain(key, KEY_BYTES_MAX), plain(text, TEXT_BYTES_MAX));
            found.list.push(Fault { severity, file: plain(file, KEY_BYTES_MAX), key, text });
        } else {
            found.left_off += 1;
        }
    }

    /// Whether something was refused: then nothing that was read may be used.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.0.borrow().refusals > 0
    }

    /// The faults, and how many more there were.
    #[must_use]
    pub fn into_list(self) -> Vec<Fault> {
        let mut found = self.0.into_inner();
        if found.left_off > 0 {
            let text = format!("and {} more faults", found.left_off);
            found.list.push(Fault {
                severity: Severity::Refusal,
                file: String::from("weir"),
                key: String::new(),
                text,
            });
        }
        found.list
    }
}

/// Escaped, and cut so that it shows.
fn plain(text: &str, bytes_max: usize) -> String {
    let kept = cut(text, bytes_max);
    let more = if kept.len() < text.len() { "…" } else { "" };
    format!("{}{more}", Escaped(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_that_no_terminal_obeys_and_of_bounded_length() {
        let faults = Faults::default();
        faults.refuse("a.toml", "x\u{1b}[2J", "`\n<2>forged` is not a key");
        faults.refuse("a.toml", &"k".repeat(1 << 20), &"ü".repeat(1 << 20));
        let list = faults.into_list();
        assert_eq!(list[0].to_string(), "a.toml: x\\u{1b}[2J: `\\n<2>forged` is not a key");
        let long = list[1].to_string();
        assert!(long.len() < KEY_BYTES_MAX + TEXT_BYTES_MAX + 20 && long.ends_with('…'), "{}", long.len());
    }

    #[test]
    fn faults_past_the_bound_are_counted() {
        let faults = Faults::default();
        (0..FAULTS_MAX + 5).for_each(|_| faults.refuse("a.toml", "k", "wrong"));
        let list = faults.into_list();
        assert_eq!((list.len(), list[FAULTS_MAX].text.as_str()), (FAULTS_MAX + 1, "and 5 more faults"));
    }
}
