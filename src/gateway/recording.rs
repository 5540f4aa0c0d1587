//! Recording: who asks for it, and what it begins with.

use super::Gateway;
use crate::harness::recording::{Line, Recorded};
use crate::tape::{Portion, Tape};
use crate::time::Now;

impl Gateway {
    /// Begins to record these functions (none: all), with what they are now; the number by which it is asked for.
    ///
    /// # Errors
    /// Another recording is under way, a function is not there, or their state has no room on a tape.
    pub fn begin_recording(&mut self, now: Now, functions: Vec<String>) -> Result<u64, String> {
        if self.tape.as_ref().is_some_and(|tape| !tape.is_abandoned(now.mono_us)) {
            return Err("another recording is under way".to_owned());
        }
        if let Some(wrong) = functions.iter().find(|name| !self.slots.iter().any(|slot| slot.name == **name)) {
            return Err(format!("`{}` is no function of this gateway", wrong.escape_debug()));
        }
        self.recordings += 1;
        let mut tape = Tape::new(self.recordings, functions, now.mono_us);
        for slot in self.slots.iter().filter(|slot| tape.is_of(&slot.name)).collect::<Vec<_>>() {
            let recorded = Recorded::of(&slot.manifest, &slot.function);
            if !tape.put(&Line::Function(Box::new(recorded))) {
                return Err("the functions' durable state has no room in a recording; name fewer functions".to_owned());
            }
        }
        let id = tape.id();
        self.tape = Some(tape);
        Ok(id)
    }

    /// What was recorded since the last time. `end`: no more is wanted.
    ///
    /// # Errors
    /// There is no such recording, or not any more.
    pub fn take_recording(&mut self, now: Now, id: u64, end: bool) -> Result<Portion, String> {
        let gone = || "this recording is not there any more".to_owned();
        let tape = self.tape.as_mut().filter(|tape| tape.id() == id).ok_or_else(gone)?;
        let portion = tape.take(now.mono_us, end);
        if portion.ended {
            self.tape = None;
        }
        Ok(portion)
    }

    /// Throws away what nobody asks for.
    pub(super) fn forget_recording(&mut self, now: Now) {
        if self.tape.as_ref().is_some_and(|tape| tape.is_abandoned(now.mono_us)) {
            self.tape = None;
        }
    }
}
