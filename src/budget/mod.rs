//! The budget: the sum of every bound, held against what the board grants, before anything starts.
//!
//! - [`examine`] is the only way from a file to a [`Plan`]; `weir check` and `weir run` both take it, so they refuse alike.
//! - Every line names the key of the configuration that makes it larger or smaller.
//! - The numbers stand in [`costs`]; the modules that own the structures use the same.

pub mod costs;
mod flash;
mod memory;
mod room;

use std::path::Path;

use crate::board::Board;
use crate::config::{self, Config, Loaded, Site};
use crate::strict::Faults;
use crate::units::Bytes;

pub use flash::Writes;
pub use room::{More, Room};

/// One thing that takes room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key that decides: `function.mean.limits.memory`.
    pub key: String,
    /// What it is.
    pub what: String,
    /// At most.
    pub bytes: Bytes,
    /// What was served before it, for the refusal: "outbox and queues"; empty: nothing.
    after: &'static str,
}

impl Line {
    fn new(after: &'static str, key: impl Into<String>, what: impl Into<String>, bytes: u64) -> Self {
        Self { key: key.into(), what: what.into(), bytes: Bytes(bytes), after }
    }
}

/// Some room, and what takes it, in the order in which it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// What the board grants.
    pub room: Bytes,
    /// What is wanted.
    pub lines: Vec<Line>,
}

impl Ledger {
    /// The sum of all lines.
    #[must_use]
    pub fn total(&self) -> Bytes {
        Bytes(self.lines.iter().fold(0, |sum, line| sum.saturating_add(line.bytes.0)))
    }

    /// Whether the sum fits the room.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.total() <= self.room
    }

    /// What is left of the room; 0 if nothing is.
    #[must_use]
    pub fn left(&self) -> Bytes {
        Bytes(self.room.0.saturating_sub(self.total().0))
    }

    /// Refuses every key whose lines find less room than they want; a refused key takes none.
    fn check(&self, file: &str, board: &str, of: &str, faults: &Faults) {
        let mut left = self.room;
        for (index, line) in self.lines.iter().enumerate() {
            // A key is served once, where the last of its lines stands: its fault is one, whatever it makes larger.
            if self.lines[index + 1..].iter().any(|later| later.key == line.key) {
                continue;
            }
            let of_key: Vec<&Line> = self.lines[..=index].iter().filter(|other| other.key == line.key).collect();
            let wish = Bytes(of_key.iter().fold(0, |sum, line| sum.saturating_add(line.bytes.0)));
            if wish <= left {
                left = Bytes(left.0 - wish.0);
                continue;
            }
            let parts: Vec<String> = of_key.iter().map(|line| format!("{} for {}", line.bytes, line.what)).collect();
            let parts = if of_key.len() < 2 { String::new() } else { format!(" ({})", parts.join(", ")) };
            let after = if line.after.is_empty() { String::new() } else { format!(" after {}", line.after) };
            let text = format!("wants {wish}{parts}; board {board} has {left}{of} left{after}");
            faults.refuse(file, &line.key, &text);
        }
    }
}

/// Keyed state as entries.
#[derive(Clone, Debug)]
struct Keyed {
    bytes: u64,
    /// The key that makes most of it.
    key: String,
}

/// All bounds of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Resident memory.
    pub memory: Ledger,
    /// Flash.
    pub flash: Ledger,
    /// Bytes written to flash in a day.
    pub writes: Writes,
    /// Linear memories of all functions: the bound of the guests' memory pool.
    pub guests: Bytes,
    /// Keyed state (cells, function state, books, heads, marks) as entries, at most.
    pub keyed: Bytes,
}

impl Budget {
    /// Adds up `config` on `board`; `modules` are the sizes of the functions' modules, in their order.
    #[must_use]
    pub fn new(config: &Config, board: &Board, modules: &[Bytes]) -> Self {
        let keyed = memory::keyed(config);
        Self {
            memory: Ledger { room: board.memory, lines: memory::lines(config, modules, &keyed) },
            flash: Ledger { room: board.flash, lines: flash::lines(config, &keyed) },
            writes: Writes::new(config, board, &keyed),
            guests: memory::guests(config),
            keyed: Bytes(keyed.bytes),
        }
    }

    /// Adds what does not fit to `faults`, as faults of `file`.
    pub fn check(&self, file: &str, board: &Board, faults: &Faults) {
        self.memory.check(file, &board.name, "", faults);
        self.flash.check(file, &board.name, " of flash", faults);
        // State that finds no room is written nowhere: only one of the two is the cause.
        self.writes.check(file, &board.name, self.memory.fits() && self.flash.fits(), faults);
    }
}

/// A configuration that was read, and its budget. It may be run if no refusal came with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Configuration, board, module sizes.
    pub loaded: Loaded,
    /// The sum.
    pub budget: Budget,
}

impl Plan {
    /// Whether memory and flash suffice.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.budget.memory.fits() && self.budget.flash.fits()
    }
}

/// Reads the configuration in `file` and adds it up; everything that is wrong goes to `faults`, all at once. `board` takes
/// the place of the file's own.
pub fn examine(file: &Path, board: Option<&str>, site: &dyn Site, faults: &Faults) -> Option<Plan> {
    let loaded = config::load(file, board, site, faults)?;
    let budget = Budget::new(&loaded.config, &loaded.board, &loaded.modules);
    budget.check(&file.display().to_string(), &loaded.board, faults);
    Some(Plan { loaded, budget })
}
