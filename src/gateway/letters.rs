//! Dead letters taken up again: replayed to the function that failed, or thrown away.
//!
//! - A replay is one step: the letter leaves its lane and the message enters once more, in the same commit. So it has its effect
//!   once, whatever happens meanwhile; if it fails again there is a new letter.
//! - Only the function that failed is called: what others made of the message stands already.
//! - In the books a replay is a message of its own (`replayed`), and what comes of it is its fate.

use super::Gateway;
use super::message::{Job, Turn};
use crate::books::{DropReason, Fate};
use crate::dead_letter::DeadLetter;
use crate::effect::Effects;
use crate::function::Staged;
use crate::outbox::NotTaken;
use crate::record::{Record, RecordKind};
use crate::time::Now;

/// Which function a replay is meant for, if the caller says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Its name.
    pub function: &'a str,
    /// Its version label.
    pub version: Option<&'a str>,
}

/// Why a letter stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoReplay {
    /// It is not there, or not any more.
    Absent,
    /// The record is no dead letter.
    NoLetter,
    /// There was no message: an interval failed, or a packet that was none.
    NoMessage,
    /// The message was longer than what a letter keeps.
    Cut {
        /// Bytes that were kept.
        kept: u64,
        /// Bytes of the message.
        of: u64,
    },
    /// Its function is not configured.
    NoFunction(String),
    /// Its function has another name or version than the one that was asked for.
    Other {
        /// Name of the function.
        function: String,
        /// Its configured version.
        version: String,
    },
    /// No trigger takes its topic now.
    NoTrigger,
    /// Too many letters have left out of turn.
    TooMany,
}

impl core::fmt::Display for NoReplay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Absent => f.write_str("is not there, or not any more"),
            Self::NoLetter => f.write_str("is no dead letter"),
            Self::NoMessage => f.write_str("has no message that could be handled again; it can be purged"),
            Self::Cut { kept, of } => write!(f, "only the first {kept} of {of} bytes of its message were kept"),
            Self::NoFunction(name) => write!(f, "its function `{}` is not configured", name.escape_debug()),
            Self::Other { function, version } => {
                write!(f, "is for the function {function}, which is configured at version {version}")
            }
            Self::NoTrigger => f.write_str("no trigger takes its topic now"),
            Self::TooMany => f.write_str("too many letters have left out of turn; take the oldest ones first"),
        }
    }
}

impl From<NotTaken> for NoReplay {
    fn from(not: NotTaken) -> Self {
        match not {
            NotTaken::Absent => Self::Absent,
            NotTaken::TooMany => Self::TooMany,
        }
    }
}

impl Gateway {
    /// The lane of dead letters.
    #[must_use]
    pub const fn dead_letter_lane(&self) -> Option<usize> {
        self.dead_letter_lane
    }

    /// What the last call of a function has staged; `None`: there is no such function.
    #[must_use]
    pub fn staged_of(&self, function: &str) -> Option<&Staged> {
        self.slots.iter().find(|slot| slot.name == function).map(|slot| slot.function.staged())
    }

    /// Handles the message of the dead letter `record`, number `sequence` of its lane, once more, and takes the letter out.
    ///
    /// # Errors
    /// Nothing happened, and why.
    pub fn replay(
        &mut self,
        now: Now,
        sequence: u64,
        record: &Record<'_>,
        expected: Option<Expected<'_>>,
        effects: &mut Effects,
    ) -> Result<Fate, NoReplay> {
        let now = self.timeline.read(now);
        let lane = self.dead_letter_lane.ok_or(NoReplay::Absent)?;
        let letter = Some(record).filter(|record| record.kind == RecordKind::DeadLetter);
        let letter = letter.and_then(|record| DeadLetter::decode(record.payload)).ok_or(NoReplay::NoLetter)?;
        let kept = letter.payload.len() as u64;
        if letter.topic.is_empty() || letter.kind == "poison" {
            return Err(NoReplay::NoMessage);
        }
        if kept < letter.payload_len {
            return Err(NoReplay::Cut { kept, of: letter.payload_len });
        }
        let listeners = self.listeners_of(&letter, record.hops > 0, expected)?;
        self.outbox.take_out(lane, sequence, DropReason::Replayed, &mut effects.releases)?;
        self.books.replayed += 1;
        self.dirty = true;
        let job = Job {
            topic: &letter.topic,
            payload: &letter.payload,
            hops: record.hops,
            arrived: Some((letter.at_ms, record.quality)),
            ..Job::of_interval()
        };
        let mut turn = Turn::new(now, effects);
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.chain.clear();
        scratch.scans.forget();
        for listener in listeners {
            let woken = self.wake(&mut turn, listener, &job, record.hops > 0, &mut scratch);
            // A letter is one call that failed: of a function with several triggers for the topic one is called.
            if woken && !letter.function.is_empty() {
                break;
            }
        }
        self.run_chain(&mut turn, &mut scratch);
        self.scratch = scratch;
        let course = turn.course;
        Ok(self.settle(&course))
    }

    /// The triggers that a replay wakes.
    fn listeners_of(
        &self,
        letter: &DeadLetter<'_>,
        chained: bool,
        expected: Option<Expected<'_>>,
    ) -> Result<Vec<usize>, NoReplay> {
        let is_called = |name: &str| self.slots.iter().position(|slot| slot.name == name);
        let named = (!letter.function.is_empty()).then(|| &*letter.function);
        let slot = match named.or(expected.map(|expected| expected.function)) {
            Some(name) => Some(is_called(name).ok_or_else(|| NoReplay::NoFunction(name.to_owned()))?),
            None => None,
        };
        if let (Some(slot), Some(expected)) = (slot, expected) {
            let slot = &self.slots[slot];
            if slot.name != expected.function || expected.version.is_some_and(|version| version != slot.version) {
                return Err(NoReplay::Other { function: slot.name.clone(), version: slot.version.clone() });
            }
        }
        let index = if chained { &self.routing.chain } else { &self.routing.broker };
        let mut found = Vec::new();
        index.find(&letter.topic, &mut |id| found.push(usize::from(id)));
        found.sort_unstable();
        found.retain(|listener| slot.is_none_or(|slot| self.routing.listeners[*listener].slot == slot));
        if found.is_empty() { Err(NoReplay::NoTrigger) } else { Ok(found) }
    }

    /// Throws the dead letter `sequence` away; counted, and said upstream where its lane has a sink.
    ///
    /// # Errors
    /// Nothing happened, and why.
    pub fn purge(&mut self, sequence: u64, effects: &mut Effects) -> Result<(), NoReplay> {
        let lane = self.dead_letter_lane.ok_or(NoReplay::Absent)?;
        self.outbox.take_out(lane, sequence, DropReason::Purged, &mut effects.releases)?;
        self.dirty = true;
        Ok(())
    }
}
