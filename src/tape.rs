//! The tape: calls of functions as lines of a recording, kept until the recorder takes them.
//!
//! - It never holds more than [`TAPE_BYTES_MAX`]; a call for which there is no room ends it, and the recording says so. Nothing waits
//!   for the recorder.
//! - One that nobody has asked for its lines in [`ABANDONED_US`] is thrown away.

use core::fmt::Write as _;

use crate::function::{CallError, Function, Invocation, Verdict};
use crate::harness::recording::{Call, End, Line};
use crate::harness::{Event, Outcome};
use crate::manifest::Manifest;

/// Lines that wait for the recorder, bytes.
pub const TAPE_BYTES_MAX: usize = 128 << 10;
/// Lines that are handed out at once, bytes, but for one longer line.
pub const PORTION_BYTES_MAX: usize = 64 << 10;
/// After so long without a word of the recorder it is taken for gone, microseconds.
pub const ABANDONED_US: u64 = 30_000_000;

/// A recording under way.
#[derive(Debug)]
pub struct Tape {
    id: u64,
    /// Names of the functions that are recorded; none: all.
    functions: Vec<String>,
    lines: String,
    calls: u64,
    ended: Option<&'static str>,
    asked_us: u64,
}

/// What the recorder gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Whole lines.
    pub lines: String,
    /// Nothing will follow.
    pub ended: bool,
}

impl Tape {
    /// A new tape. The recorder names it by `id`.
    #[must_use]
    pub const fn new(id: u64, functions: Vec<String>, now_us: u64) -> Self {
        Self { id, functions, lines: String::new(), calls: 0, ended: None, asked_us: now_us }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Whether its recorder is gone.
    #[must_use]
    pub const fn is_abandoned(&self, now_us: u64) -> bool {
        self.asked_us + ABANDONED_US < now_us
    }

    /// Whether this function is recorded.
    #[must_use]
    pub fn is_of(&self, function: &str) -> bool {
        self.functions.is_empty() || self.functions.iter().any(|name| name == function)
    }

    /// Adds a line; false if there was no room for it.
    pub fn put(&mut self, line: &Line) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let before = self.lines.len();
        let text = serde_json::to_string(line).expect("a line has text for keys");
        let fits = before + text.len() < TAPE_BYTES_MAX;
        if fits {
            let _ = writeln!(self.lines, "{text}");
        } else if TAPE_BYTES_MAX <= text.len() {
            self.ended = Some("a call was too large to be recorded");
        } else {
            self.ended = Some("more came than the recorder took in time");
        }
        fits
    }

    /// Records a call that has just ended, its state not committed.
    pub fn call(
        &mut self,
        manifest: &Manifest,
        function: &Function,
        invocation: &Invocation<'_>,
        result: &Result<Verdict, CallError>,
        fuel: u64,
    ) {
        if self.ended.is_some() || !self.is_of(&manifest.name) {
            return;
        }
        let outcome = Outcome::of(manifest, function, invocation, result, fuel);
        let call = Call { function: manifest.name.clone(), event: Event::of(invocation), outcome };
        self.calls += u64::from(self.put(&Line::Call(Box::new(call))));
    }

    /// Takes lines off the front. `end`: the recorder wants no more.
    pub fn take(&mut self, now_us: u64, end: bool) -> Portion {
        self.asked_us = now_us;
        if end {
            self.ended.get_or_insert("asked");
        }
        let portion_max = self.lines.len().min(PORTION_BYTES_MAX);
        let bytes = self.lines.as_bytes();
        let within = bytes[..portion_max].iter().rposition(|byte| *byte == b'\n');
        let whole = within.or_else(|| bytes.iter().position(|byte| *byte == b'\n')).map_or(0, |at| at + 1);
        let rest = self.lines.split_off(whole);
        let mut lines = core::mem::replace(&mut self.lines, rest);
        let reason = self.ended.filter(|_| self.lines.is_empty());
        if let Some(reason) = reason {
            let end = Line::End(End { reason: reason.to_owned(), calls: self.calls });
            let _ = writeln!(lines, "{}", serde_json::to_string(&end).expect("an end is plain"));
        }
        Portion { lines, ended: reason.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(len: usize) -> Line {
        Line::End(End { reason: "x".repeat(len), calls: 0 })
    }

    #[test]
    fn lines_come_whole_in_portions_and_the_last_says_how_it_ended() {
        let mut tape = Tape::new(1, Vec::new(), 0);
        for _ in 0..100 {
            assert!(tape.put(&line(1000)));
        }
        let mut lines = 0;
        for round in 0.. {
            assert!(round < 10);
            let portion = tape.take(5, true);
            assert!(portion.lines.len() <= PORTION_BYTES_MAX && portion.lines.ends_with('\n'));
            lines += portion.lines.lines().count();
            if portion.ended {
                assert!(portion.lines.contains(r#""reason":"asked""#));
                break;
            }
        }
        assert_eq!(lines, 101);
        assert!(!tape.put(&line(1)), "it has ended");
    }

    #[test]
    fn it_is_bounded_and_what_was_there_before_the_bound_is_not_lost() {
        let mut tape = Tape::new(1, Vec::new(), 0);
        let fit = (0..1000).take_while(|_| tape.put(&line(1000))).count();
        assert!(TAPE_BYTES_MAX / 1100 < fit && fit < TAPE_BYTES_MAX / 1000, "{fit}");
        assert!(tape.lines.len() <= TAPE_BYTES_MAX);
        let portions: Vec<Portion> = (0..3).map(|_| tape.take(1, false)).collect();
        let last =
            portions.iter().position(|portion| portion.ended).expect("the rest of two portions is a third at most");
        assert!(0 < last && portions[..last].iter().all(|portion| !portion.lines.is_empty()));
        let lines: usize = portions[..=last].iter().map(|portion| portion.lines.lines().count()).sum();
        assert_eq!(lines, fit + 1);
        assert!(portions[last].lines.contains("more came than the recorder took"));
    }

    #[test]
    fn a_recorder_that_has_gone_is_noticed() {
        let mut tape = Tape::new(1, vec!["a".to_owned()], 0);
        assert!(tape.is_of("a") && !tape.is_of("b"));
        tape.take(ABANDONED_US, false);
        assert!(!tape.is_abandoned(2 * ABANDONED_US) && tape.is_abandoned(2 * ABANDONED_US + 1));
    }
}
