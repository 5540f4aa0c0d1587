//! Faults: what is wrong with a file of the configuration, in a form that leads to the repair.
//!
//! - A fault names file and key; its text says what was wished, what room there is or what form is taken.
//! - Control characters are escaped: what a file says must not move the cursor of whoever reads the faults.
//! - The list is bounded: past [`FAULTS_MAX`] faults are counted only.

use core::cell::RefCell;
use core::fmt;

/// Faults kept with their text; a file with more is beyond reading anyway.
pub const FAULTS_MAX: usize = 200;

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
            found.list.push(Fault { severity, file: plain(file), key: plain(key), text: plain(text) });
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

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.extend(character.escape_debug());
        } else {
            plain.push(character);
        }
    }
    plain
}
