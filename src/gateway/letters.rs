//! Dead letters taken up again: replayed to the function that failed, or thrown away.
//!
//! - A replay is one step: the letter leaves its lane and the message enters once more, in the same commit. So it has its effect
//!   once, whatever happens meanwhile; if it fails again there is a new letter.
//! - Only the function that failed is called: what others made of the message stands already.
//! - In the books a replay is a message of its own (`replayed`), and what comes of it is its fate.

use super::Gateway;
use super::apply::Failure;
use super::message::{Job, Scratch, Turn, Wake};
use crate::books::{DropReason, Fate};
use crate::dead_letter::DeadLetter;
use crate::effect::Effects;
use crate::function::{EventKind, Invocation, Seed, Staged};
use crate::outbox::NotTaken;
use crate::record::{Record, RecordKind};
use crate::time::Now;

/// How an event goes once more.
enum Way {
    /// To the function that was called with it.
    Call(usize),
    /// To these triggers.
    Wake(Vec<usize>),
}

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
    /// The packet was no message.
    NoMessage,
    /// Its function has handled it; only an output could not go further down the chain.
    Handled,
    /// Longer than what functions take.
    TooLarge {
        /// The bound, bytes.
        payload_max: u64,
    },
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
            Self::NoMessage => f.write_str("is of a packet that was no message; it can be purged"),
            Self::Handled => {
                f.write_str("its function has handled it, only an output could not go on; raise gateway.hops-max")
            }
            Self::TooLarge { payload_max } => {
                write!(f, "is longer than gateway.payload-max allows ({payload_max} bytes)")
            }
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

    /// Handles the event of the dead letter `record`, number `sequence` of its lane, once more, and takes the letter out.
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
        let now = self.time_now(now, effects);
        let lane = self.dead_letter_lane.ok_or(NoReplay::Absent)?;
        let letter = Some(record).filter(|record| record.kind == RecordKind::DeadLetter);
        let letter = letter.and_then(|record| DeadLetter::decode(record.payload)).ok_or(NoReplay::NoLetter)?;
        let way = self.way_of(&letter, expected)?;
        self.outbox.take_out(lane, sequence, DropReason::Replayed, &mut effects.releases)?;
        self.dirty = true;
        let mut turn = Turn::new(now, effects);
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.chain.clear();
        scratch.scans.forget();
        match way {
            Way::Call(slot) => self.call_again(&mut turn, slot, &letter, &mut scratch),
            Way::Wake(listeners) => self.wake_again(&mut turn, &listeners, &letter, &mut scratch),
        }
        self.run_chain(&mut turn, &mut scratch);
        self.scratch = scratch;
        let course = turn.course;
        if letter.event == EventKind::Interval {
            // The books are about messages.
            return Ok(course.fate());
        }
        self.books.replayed += 1;
        Ok(self.settle(&course))
    }

    /// How the event goes once more; what does not go changes nothing.
    fn way_of(&self, letter: &DeadLetter<'_>, expected: Option<Expected<'_>>) -> Result<Way, NoReplay> {
        match &*letter.kind {
            "poison" => return Err(NoReplay::NoMessage),
            "hop-limit" => return Err(NoReplay::Handled),
            _ => {}
        }
        if letter.truncated {
            return Err(NoReplay::Cut { kept: letter.payload.len() as u64, of: letter.payload_len });
        }
        if self.payload_max < letter.payload.len() {
            return Err(NoReplay::TooLarge { payload_max: self.payload_max as u64 });
        }
        let named = (!letter.function.is_empty()).then(|| &*letter.function);
        let slot = match named.or(expected.map(|expected| expected.function)) {
            Some(name) => {
                let slot = self.slots.iter().position(|slot| slot.name == name);
                Some(slot.ok_or_else(|| NoReplay::NoFunction(name.to_owned()))?)
            }
            None => None,
        };
        if let (Some(slot), Some(expected)) = (slot, expected) {
            let slot = &self.slots[slot];
            if slot.name != expected.function || expected.version.is_some_and(|version| version != slot.version) {
                return Err(NoReplay::Other { function: slot.name.clone(), version: slot.version.clone() });
            }
        }
        match slot {
            // It was called: the letter has what with.
            Some(slot) if named.is_some() && letter.kind != "malformed" => Ok(Way::Call(slot)),
            slot => self.listeners_of(letter, slot).map(Way::Wake),
        }
    }

    /// The triggers that take the letter's topic now, of one function or of all.
    fn listeners_of(&self, letter: &DeadLetter<'_>, slot: Option<usize>) -> Result<Vec<usize>, NoReplay> {
        let index = if letter.chained { &self.routing.chain } else { &self.routing.broker };
        let mut found = Vec::new();
        index.find(&letter.topic, &mut |id| found.push(usize::from(id)));
        found.sort_unstable();
        found.retain(|listener| slot.is_none_or(|slot| self.routing.listeners[*listener].slot == slot));
        if found.is_empty() { Err(NoReplay::NoTrigger) } else { Ok(found) }
    }

    /// Calls the function with what it was called with; only the time of processing is now.
    fn call_again(&mut self, turn: &mut Turn<'_>, slot: usize, letter: &DeadLetter<'_>, scratch: &mut Scratch) {
        let invocation = Invocation {
            kind: letter.event,
            sequence: letter.sequence,
            seed: Seed::Given(letter.seed),
            time_ms: letter.event_ms,
            quality: letter.quality,
            time_from_payload: letter.time_from_payload,
            now_ms: turn.now.wall_ms,
            qos: letter.qos,
            retained: letter.retained,
            chained: letter.chained,
            replayed: true,
            topic: &letter.topic,
            device: &letter.device,
            payload: &letter.payload,
            codec: letter.codec,
        };
        let looks = letter.event == EventKind::Message && self.slots[slot].function.reads_fields();
        let fields = match scratch.scans.read_as(letter.codec, looks, &self.paths, &letter.payload) {
            Ok(fields) => fields,
            Err(malformed) => {
                // It looks at fields now, and did not before.
                let what = format!("malformed {:?} at byte {}: {}", letter.codec, malformed.at, malformed.what);
                return self.dead_letter(turn, Some(slot), Failure::new("malformed", &what), &invocation, letter.hops);
            }
        };
        match self.slots[slot].call(&invocation, fields, self.stopwatch.as_mut(), self.tape.as_mut(), turn.effects) {
            Ok(verdict) => self.apply(turn, slot, verdict, &invocation, letter.hops, &mut scratch.chain),
            Err(error) => {
                let (kind, what) = (error.kind().name(), error.to_string());
                self.dead_letter(turn, Some(slot), Failure::new(kind, &what), &invocation, letter.hops);
            }
        }
    }

    /// Hands the message to its triggers: no function has been called with it yet.
    fn wake_again(&mut self, turn: &mut Turn<'_>, listeners: &[usize], letter: &DeadLetter<'_>, scratch: &mut Scratch) {
        let job = Job {
            topic: &letter.topic,
            payload: &letter.payload,
            hops: letter.hops,
            qos: letter.qos,
            retained: letter.retained,
            resubscribed: false,
            dup: false,
            arrived: Some((letter.event_ms, letter.quality)),
        };
        for listener in listeners {
            let woken = self.wake(turn, *listener, &job, scratch) == Wake::Taken;
            // A letter of a function is one call that did not come about: of several triggers for the topic one is taken.
            if woken && !letter.function.is_empty() {
                break;
            }
        }
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
