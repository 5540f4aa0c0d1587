//! Records of a lane that left before those in front of them: dead letters that were taken out one by one, what was delivered
//! live ahead of a backlog, what was rolled up.
//!
//! - They are counted already, and lie on flash until their whole segment has left. The head jumps over them.
//! - Runs, disjoint and in order. Letters make at most [`RUNS_MAX`]; the two others one each.

use super::{Lane, Outbox};
use crate::books::DropReason;
use crate::effect::Release;
use crate::entry::{put_varint, take_count};

/// More holes are refused: the letters in front can be taken first.
pub(super) const RUNS_MAX: usize = 128;

/// Why [`Outbox::take_out`] does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is not there, or not any more, or not committed yet.
    Absent,
    /// Too many have left out of turn: those in front must go first.
    TooMany,
}

/// A place in a lane: the records before it, and the messages that they close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub seq: u64,
    pub message: u64,
}

impl Point {
    /// Records and messages from here to `end`.
    pub const fn until(self, end: Self) -> (u64, u64) {
        (end.seq.saturating_sub(self.seq), end.message.saturating_sub(self.message))
    }
}

/// Records that left, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    /// Behind the last one. The message is 0 where none is closed: who takes a letter out does not know its place.
    end: Point,
    /// Messages that they close.
    messages: u64,
}

/// The runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead(Vec<Run>);

impl Ahead {
    /// The end of the run in which `seq` lies.
    pub fn end_of(&self, seq: u64) -> Option<Point> {
        let at = self.0.partition_point(|run| run.end.seq <= seq);
        self.0.get(at).filter(|run| run.first <= seq).map(|run| run.end)
    }

    /// Whether `seq` has left.
    pub fn contains(&self, seq: u64) -> bool {
        self.end_of(seq).is_some()
    }

    /// How many records have left, and the messages that they closed.
    pub fn total(&self) -> (u64, u64) {
        self.within(0, u64::MAX)
    }

    /// The same for those before `end_seq` and not before `first_seq`. A run counts its messages where it ends.
    pub fn within(&self, first_seq: u64, end_seq: u64) -> (u64, u64) {
        self.0.iter().fold((0, 0), |(records, messages), run| {
            let part = run.end.seq.min(end_seq).saturating_sub(run.first.max(first_seq));
            let ends = first_seq < run.end.seq && run.end.seq <= end_seq;
            (records + part, messages + if ends { run.messages } else { 0 })
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What lies from `first` to `end` leaves and closes so many messages, those of runs within it included.
    pub fn insert(&mut self, first: u64, end: Point, messages: u64) {
        let mut joined = Run { first, end, messages };
        let touched = self.0.partition_point(|run| run.end.seq < first);
        let behind = self.0.partition_point(|run| run.first <= end.seq);
        for run in self.0.drain(touched..behind) {
            let is_within = first <= run.first && run.end.seq <= end.seq;
            joined.messages += if is_within { 0 } else { run.messages };
            joined.first = joined.first.min(run.first);
            joined.end =
                Point { seq: joined.end.seq.max(run.end.seq), message: joined.end.message.max(run.end.message) };
        }
        self.0.insert(touched, joined);
    }

    /// `seq`, which closes no message, leaves. `false`: that would be one run too many.
    pub fn take_out(&mut self, seq: u64) -> bool {
        let at = self.0.partition_point(|run| run.end.seq < seq);
        let joins = self.0.get(at).is_some_and(|run| run.first <= seq + 1);
        let fits = joins || self.0.len() < RUNS_MAX;
        if fits {
            self.insert(seq, Point { seq: seq + 1, message: 0 }, 0);
        }
        fits
    }

    /// The head goes to `to`: where it goes on to, past what has left, and how much that was, which is forgotten.
    pub fn pass(&mut self, mut to: Point) -> (Point, (u64, u64)) {
        let (mut records, mut messages) = (0, 0);
        while let Some(run) = self.0.first().copied().filter(|run| run.first <= to.seq) {
            self.0.remove(0);
            (records, messages) = (records + run.end.seq - run.first, messages + run.messages);
            if to.seq == run.first {
                to = Point { seq: run.end.seq, message: to.message + run.messages };
            } else if to.seq < run.end.seq {
                to = Point { seq: run.end.seq, message: to.message.max(run.end.message) };
            }
        }
        (to, (records, messages))
    }

    /// Forgets what lies at or behind `next`: numbers that are yet to be given.
    pub fn cut(&mut self, next: Point) {
        self.0.retain(|run| run.first < next.seq);
        if let Some(run) = self.0.last_mut().filter(|run| next.seq < run.end.seq) {
            let surplus = run.end.message.saturating_sub(next.message);
            run.messages = run.messages.saturating_sub(surplus);
            run.end = Point { seq: next.seq, message: run.end.message.min(next.message) };
        }
    }

    /// First number, number behind the last, and messages of each run.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.0.iter().map(|run| (run.first, run.end.seq, run.messages))
    }

    /// Appends them.
    pub fn save(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        let mut from = 0;
        for run in &self.0 {
            let numbers = [run.first - from, run.end.seq - run.first, run.end.message, run.messages];
            numbers.into_iter().for_each(|number| put_varint(out, number));
            from = run.end.seq;
        }
    }

    /// Reads what [`Ahead::save`] wrote.
    pub fn restore(from: &mut &[u8]) -> Option<Self> {
        let count = usize::try_from(take_count(from)?).ok().filter(|count| *count <= RUNS_MAX + 2)?;
        let (mut runs, mut end_seq) = (Vec::with_capacity(count), 0u64);
        for _ in 0..count {
            let mut next = || take_count(from);
            let first = end_seq.checked_add(next()?)?;
            end_seq = first.checked_add(next()?).filter(|end| first < *end)?;
            let (message, messages) = (next()?, next()?);
            runs.push(Run { first, end: Point { seq: end_seq, message }, messages });
        }
        Some(Self(runs))
    }
}

impl Outbox {
    /// Takes one record out of a lane, wherever in it: a dead letter that is replayed or purged. What follows stays.
    pub fn take_out(
        &mut self,
        lane: usize,
        sequence: u64,
        reason: DropReason,
        releases: &mut Vec<Release>,
    ) -> Result<(), NotTaken> {
        let chosen = self.lanes.get_mut(lane).ok_or(NotTaken::Absent)?;
        chosen.take_out(sequence, reason)?;
        chosen.release(lane, releases);
        Ok(())
    }
}

impl Lane {
    /// Whether the record has left, in its turn or before it.
    #[must_use]
    pub fn has_left(&self, sequence: u64) -> bool {
        sequence < self.head_seq || self.ahead.contains(sequence)
    }

    /// What has left before its turn: first number, number behind the last, and messages that were closed, of each run.
    pub fn left_before_turn(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.ahead.runs()
    }

    fn take_out(&mut self, sequence: u64, reason: DropReason) -> Result<(), NotTaken> {
        if self.sealed_seq() <= sequence || self.has_left(sequence) {
            return Err(NotTaken::Absent);
        }
        if !self.ahead.take_out(sequence) {
            return Err(NotTaken::TooMany);
        }
        // A pass that is under way may hold a copy.
        self.give_up_folding();
        self.totals.dropped[reason as usize] += 1;
        self.lose(reason as usize, (1, 0), sequence..sequence + 1);
        let _ = self.advance(Point { seq: self.head_seq, message: self.head_message });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Ahead {
        let mut ahead = Ahead::default();
        assert!(numbers.iter().all(|seq| ahead.take_out(*seq)));
        ahead
    }

    fn runs(ahead: &Ahead) -> Vec<(u64, u64, u64)> {
        ahead.runs().collect()
    }

    const fn at(seq: u64, message: u64) -> Point {
        Point { seq, message }
    }

    #[test]
    fn numbers_in_any_order_become_runs_and_come_back() {
        for numbers in [[3, 5, 4, 9, 8], [9, 8, 5, 4, 3], [4, 3, 5, 8, 9]] {
            let ahead = of(&numbers);
            assert_eq!(runs(&ahead), [(3, 6, 0), (8, 10, 0)]);
            assert_eq!((ahead.total(), ahead.contains(4), ahead.contains(6)), ((5, 0), true, false));
            let mut saved = Vec::new();
            ahead.save(&mut saved);
            assert_eq!(Ahead::restore(&mut saved.as_slice()), Some(ahead));
        }
        assert_eq!(Ahead::restore(&mut [1].as_slice()), None);
    }

    #[test]
    fn the_head_passes_what_has_left_before_it() {
        let mut ahead = of(&[3, 4, 8]);
        assert_eq!(ahead.pass(at(2, 1)), (at(2, 1), (0, 0)));
        assert_eq!((ahead.pass(at(3, 2)), ahead.total()), ((at(5, 2), (2, 0)), (1, 0)));
        let mut ahead = of(&[3, 4, 5, 8]);
        assert_eq!((ahead.within(0, 5), ahead.pass(at(5, 4)), ahead.total()), ((2, 0), (at(6, 4), (3, 0)), (1, 0)));
        let mut ahead = of(&[3, 4, 5, 8]);
        ahead.cut(at(5, 9));
        assert_eq!(ahead, of(&[3, 4]));
    }

    #[test]
    fn runs_that_close_messages_join_with_letters_on_both_sides() {
        let mut ahead = of(&[9, 20, 14]);
        ahead.insert(10, at(14, 13), 4);
        assert_eq!(runs(&ahead), [(9, 15, 4), (20, 21, 0)]);
        // What is in it was counted.
        ahead.insert(15, at(22, 19), 6);
        assert_eq!((runs(&ahead), ahead.end_of(9)), (vec![(9, 22, 10)], Some(at(22, 19))));
        for (to, want) in [(at(9, 9), at(22, 19)), (at(12, 11), at(22, 19)), (at(30, 27), at(30, 27))] {
            assert_eq!(ahead.clone().pass(to), (want, (13, 10)));
        }
        ahead.cut(at(20, 17));
        assert_eq!(runs(&ahead), [(9, 20, 8)]);
    }

    #[test]
    fn there_is_a_bound() {
        let mut ahead = of(&(1..=RUNS_MAX as u64).map(|number| number * 2).collect::<Vec<_>>());
        assert!(!ahead.take_out(1000) && ahead.take_out(3) && ahead.take_out(1000));
    }
}
