//! The records of one lane that are on their way: sent in order, acknowledged in any order, settled in order.
//!
//! - `[settled, next)` are on their way or done; `next` is sent next. A rewind sends again what is not done.
//! - It spans at most `span_max` records, so it is as small as the window of the connection.

use std::collections::VecDeque;

use super::{Outcome, Settled};

#[derive(Clone, Copy, Debug)]
struct Slot {
    closes_message: bool,
    outcome: Option<Outcome>,
}

/// One lane's window.
#[derive(Debug)]
pub struct Window {
    settled: u64,
    next: u64,
    slots: VecDeque<Slot>,
    span_max: usize,
}

impl Window {
    /// Nothing before `head` is owed.
    #[must_use]
    pub fn new(head: u64, span_max: usize) -> Self {
        Self { settled: head, next: head, slots: VecDeque::new(), span_max: span_max.max(1) }
    }

    /// The sequence to be sent next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the span has room for `next`.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.next - self.settled < self.span_max as u64
    }

    /// Changes the span; what is on its way stays.
    pub fn set_span(&mut self, span_max: usize) {
        self.span_max = span_max.max(1);
    }

    /// Whether `next` was done before a rewind; if so it is passed over.
    pub fn skip_done(&mut self) -> bool {
        let done = self.slots.get(self.index(self.next)).is_some_and(|slot| slot.outcome.is_some());
        self.next += u64::from(done);
        done
    }

    /// `next` was sent, or needs no sending if it has an outcome.
    pub fn push(&mut self, closes_message: bool, outcome: Option<Outcome>) {
        let slot = Slot { closes_message, outcome };
        let index = self.index(self.next);
        match self.slots.get_mut(index) {
            Some(old) => *old = slot,
            None => self.slots.push_back(slot),
        }
        self.next += 1;
    }

    /// A record on its way is done.
    pub fn done(&mut self, sequence: u64, outcome: Outcome) {
        if sequence < self.settled {
            return;
        }
        let index = self.index(sequence);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.outcome = Some(outcome);
        }
    }

    /// Moves what is settled to `into`.
    pub fn settle(&mut self, into: &mut Vec<Settled>) {
        while let Some(&Slot { closes_message, outcome: Some(outcome) }) = self.slots.front() {
            // Done before a rewind, and `next` has not come by again.
            self.next = self.next.max(self.settled + 1);
            into.push(Settled { sequence: self.settled, closes_message, outcome });
            self.settled += 1;
            self.slots.pop_front();
        }
    }

    /// Everything that is not done is to be sent again.
    pub const fn rewind(&mut self) {
        self.next = self.settled;
    }

    /// Nothing before `sequence` is owed any more. Only while nothing is on its way.
    pub fn jump(&mut self, sequence: u64) {
        debug_assert!(self.slots.is_empty(), "records on their way would change their numbers");
        self.settled = self.settled.max(sequence);
        self.next = self.next.max(sequence);
    }

    fn index(&self, sequence: u64) -> usize {
        usize::try_from(sequence - self.settled).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNDELIVERABLE;
    use super::*;
    use Outcome::Delivered;

    /// Steps: `s` send, `d N` deliver, `u` undeliverable, `r` rewind. Returns what is settled, what is sent.
    fn run(span: usize, steps: &str) -> (Vec<u64>, Vec<u64>) {
        let mut window = Window::new(10, span);
        let (mut settled, mut sent) = (Vec::new(), Vec::new());
        let mut words = steps.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "s" => {
                    while window.skip_done() {}
                    assert!(window.has_room(), "{steps}");
                    sent.push(window.next());
                    window.push(false, None);
                }
                "u" => window.push(true, Some(UNDELIVERABLE)),
                "r" => window.rewind(),
                _ => window.done(words.next().unwrap().parse().unwrap(), Delivered),
            }
            window.settle(&mut settled);
        }
        (settled.iter().map(|record| record.sequence).collect(), sent)
    }

    #[test]
    fn records_settle_in_order_whatever_the_order_of_the_answers() {
        for (steps, settled, sent) in [
            ("s s s d 12 d 10", vec![10], vec![10, 11, 12]),
            ("s s s d 12 d 10 d 11", vec![10, 11, 12], vec![10, 11, 12]),
            ("s u s d 10", vec![10, 11], vec![10, 12]),
            ("s s s d 11 r s s", vec![], vec![10, 11, 12, 10, 12]),
            ("s s s d 11 r s d 10 s d 12", vec![10, 11, 12], vec![10, 11, 12, 10, 12]),
            ("s s d 11 r d 10 s", vec![10, 11], vec![10, 11, 12]),
            ("s d 10 d 10 d 9 s", vec![10], vec![10, 11]),
        ] {
            assert_eq!(run(8, steps), (settled, sent), "{steps}");
        }
    }

    #[test]
    fn the_span_is_bounded_also_behind_one_record_that_gets_no_answer() {
        let mut window = Window::new(0, 3);
        for _ in 0..3 {
            window.push(false, None);
        }
        window.done(1, Delivered);
        window.done(2, Delivered);
        let mut settled = Vec::new();
        window.settle(&mut settled);
        assert!(!window.has_room() && settled.is_empty());
    }
}
