//! What the gateway tells of itself: one plain snapshot, for metrics, the live view and tests.

use super::Gateway;
use crate::books::Books;
use crate::function::Usage;
use crate::outbox::LaneTotals;

/// One function's numbers.
#[derive(Clone, Debug)]
pub struct FunctionStatus<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version label.
    pub version: &'a str,
    /// Totals since the store was made.
    pub usage: &'a Usage,
    /// Messages that its declarative filters turned away, since the start.
    pub filtered: u64,
    /// Fields that it reads as numbers and that were something else, since the start.
    pub misfits: u64,
    /// Bytes of its durable state.
    pub state_bytes: u64,
}

/// One lane's numbers.
#[derive(Clone, Debug)]
pub struct LaneStatus<'a> {
    /// Its name.
    pub name: &'a str,
    /// Records that wait.
    pub records: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Records that left undelivered, of which upstream is still to be told.
    pub losses_untold: u64,
    /// Bytes on flash.
    pub bytes: u64,
    /// The bound.
    pub bytes_max: u64,
    /// Totals since the store was made.
    pub totals: &'a LaneTotals,
}

/// The gateway's numbers.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// Gateway books.
    pub books: &'a Books,
    /// Messages that wait in some lane.
    pub pending: u64,
    /// Must be 0.
    pub residue: i128,
    /// Number of the last commit.
    pub commit: u64,
    /// Duplicate marks held.
    pub marks: u64,
    /// Cells of open windows.
    pub cells: u64,
    /// Values folded late.
    pub late: u64,
    /// Values folded into an overflow key.
    pub overflow: u64,
    /// Event times that were not believed: in the future, before 2000, or no numbers.
    pub skewed: u64,
    /// Outputs stopped because a chain was too long.
    pub hop_limited: u64,
    /// Dead letters that found no room.
    pub dead_letters_lost: u64,
    /// Aggregates that no lane takes.
    pub aggregates_lost: u64,
    /// Functions, in the order of the configuration.
    pub functions: Vec<FunctionStatus<'a>>,
    /// Lanes, by priority.
    pub lanes: Vec<LaneStatus<'a>>,
}

impl Gateway {
    /// The numbers now.
    #[must_use]
    pub fn status(&self) -> Status<'_> {
        let functions = self.slots.iter().map(|slot| FunctionStatus {
            name: &slot.name,
            version: &slot.version,
            usage: slot.function.usage(),
            filtered: slot.filtered,
            misfits: slot.misfits,
            state_bytes: slot.function.state_used().0,
        });
        let lanes = self.outbox.lanes().iter().map(|lane| LaneStatus {
            name: &lane.config().name,
            records: lane.records_pending(),
            messages: lane.messages_pending(),
            losses_untold: lane.losses_untold(),
            bytes: lane.bytes(),
            bytes_max: lane.config().bytes_max.0,
            totals: lane.totals(),
        });
        Status {
            books: &self.books,
            pending: self.outbox.messages_pending(),
            residue: self.residue(),
            commit: self.commit,
            marks: self.marks.len() as u64,
            cells: self.windows.cells() as u64,
            late: self.fold_counts.late,
            overflow: self.fold_counts.overflow,
            skewed: self.skewed,
            hop_limited: self.hop_limited,
            dead_letters_lost: self.dead_letters_lost,
            aggregates_lost: self.aggregates_lost,
            functions: functions.collect(),
            lanes: lanes.collect(),
        }
    }
}
