//! Records of a lane that left before those in front of them: dead letters that were replayed or purged one by one.
//!
//! - They lie on flash until the head passes them, and are counted already. Ranges, disjoint and in order; at most [`RANGES_MAX`].

use super::{Lane, Outbox, losses};
use crate::books::DropReason;
use crate::effect::Release;
use crate::entry::{put_varint, take_varint};

/// More holes are refused: the letters in front can be taken first.
pub(super) const RANGES_MAX: usize = 128;

/// Why [`Outbox::take_out`] does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is not there, or not any more, or not committed yet.
    Absent,
    /// Too many have left out of turn: those in front must go first.
    TooMany,
}

/// The ranges, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead(Vec<(u64, u64)>);

impl Ahead {
    /// Whether `seq` has left.
    pub fn contains(&self, seq: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// How many have left.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last + 1 - first).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `seq` leaves. `false`: that would be one range too many.
    pub fn insert(&mut self, seq: u64) -> bool {
        let at = self.0.partition_point(|(first, _)| *first <= seq);
        let joins_before = at > 0 && self.0[at - 1].1 + 1 >= seq;
        let joins_after = self.0.get(at).is_some_and(|(first, _)| *first == seq + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                let (_, last) = self.0.remove(at);
                self.0[at - 1].1 = last;
            }
            (true, false) => self.0[at - 1].1 = self.0[at - 1].1.max(seq),
            (false, true) => self.0[at].0 = seq,
            (false, false) if self.0.len() < RANGES_MAX => self.0.insert(at, (seq, seq)),
            (false, false) => return false,
        }
        true
    }

    /// The head stands at `head`: where it goes on to, past what has left.
    pub fn pass(&mut self, head: u64) -> u64 {
        self.take_below(head);
        match self.0.first().copied() {
            Some((first, last)) if first == head => {
                self.0.remove(0);
                last + 1
            }
            _ => head,
        }
    }

    /// Forgets what lies before `seq`; how many those were.
    pub fn take_below(&mut self, seq: u64) -> u64 {
        let mut taken = 0;
        while let Some((first, last)) = self.0.first_mut().filter(|(first, _)| *first < seq) {
            let end = (*last + 1).min(seq);
            taken += end - *first;
            *first = end;
            if *last < end {
                self.0.remove(0);
            }
        }
        taken
    }

    /// Forgets what lies at or behind `seq`: a number that is yet to be given.
    pub fn cut(&mut self, seq: u64) {
        self.0.retain(|(first, _)| *first < seq);
        if let Some((_, last)) = self.0.last_mut() {
            *last = (*last).min(seq.saturating_sub(1));
        }
    }

    /// Appends them.
    pub fn save(&self, out: &mut Vec<u8>) {
        let mut from = 0;
        for (first, last) in &self.0 {
            put_varint(out, first - from);
            put_varint(out, last - first);
            from = *last;
        }
    }

    /// Reads what [`Ahead::save`] wrote.
    pub fn restore(mut bytes: &[u8]) -> Option<Self> {
        let (mut ranges, mut from) = (Vec::new(), 0u64);
        while !bytes.is_empty() && ranges.len() < RANGES_MAX {
            let first = from.checked_add(take_varint(&mut bytes)?)?;
            let last = first.checked_add(take_varint(&mut bytes)?).filter(|last| *last < u64::MAX)?;
            if first <= from && !ranges.is_empty() {
                return None;
            }
            ranges.push((first, last));
            from = last;
        }
        bytes.is_empty().then_some(Self(ranges))
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

    /// Takes back which records of a lane have left before their turn; call after [`Outbox::recover`].
    pub fn restore_ahead(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let name = core::str::from_utf8(key.get(1..)?).ok()?;
        let lane = self.lanes.iter_mut().find(|lane| lane.config.name == name)?;
        (lane.ahead, lane.ahead_saved) = (Ahead::restore(value)?, true);
        Some(())
    }
}

impl Lane {
    /// Whether the record has left before its turn.
    #[must_use]
    pub fn has_left(&self, sequence: u64) -> bool {
        sequence < self.head_seq || self.ahead.contains(sequence)
    }

    /// Notes a run of records that left undelivered.
    pub(super) fn lose_range(&mut self, reason: usize, lost: losses::Lost) {
        self.losses.lose(reason, lost);
        self.dirty = true;
    }

    fn take_out(&mut self, sequence: u64, reason: DropReason) -> Result<(), NotTaken> {
        if self.sealed_seq() <= sequence || self.has_left(sequence) {
            return Err(NotTaken::Absent);
        }
        if !self.ahead.insert(sequence) {
            return Err(NotTaken::TooMany);
        }
        self.totals.dropped[reason as usize] += 1;
        self.lose_range(reason as usize, losses::Lost::one(sequence, 0));
        self.head_seq = self.ahead.pass(self.head_seq);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Ahead {
        let mut ahead = Ahead::default();
        assert!(numbers.iter().all(|seq| ahead.insert(*seq)));
        ahead
    }

    #[test]
    fn numbers_in_any_order_become_ranges_and_come_back() {
        for numbers in [[3, 5, 4, 9, 8], [9, 8, 5, 4, 3], [4, 3, 5, 8, 9]] {
            let ahead = of(&numbers);
            assert_eq!(ahead.0, [(3, 5), (8, 9)]);
            assert_eq!((ahead.len(), ahead.contains(4), ahead.contains(6)), (5, true, false));
            let mut saved = Vec::new();
            ahead.save(&mut saved);
            assert_eq!(Ahead::restore(&saved), Some(ahead));
        }
        assert_eq!(Ahead::restore(&[1]), None);
    }

    #[test]
    fn the_head_passes_what_has_left_before_it() {
        let mut ahead = of(&[3, 4, 8]);
        assert_eq!((ahead.pass(2), ahead.pass(3), ahead.len()), (2, 5, 1));
        let mut ahead = of(&[3, 4, 5, 8]);
        assert_eq!((ahead.take_below(5), ahead.len(), ahead.pass(5)), (2, 2, 6));
        let mut ahead = of(&[3, 4, 5, 8]);
        ahead.cut(5);
        assert_eq!(ahead, of(&[3, 4]));
    }

    #[test]
    fn there_is_a_bound() {
        let mut ahead = of(&(1..=RANGES_MAX as u64).map(|number| number * 2).collect::<Vec<_>>());
        assert!(!ahead.insert(1000) && ahead.insert(3) && ahead.insert(1000));
    }
}
