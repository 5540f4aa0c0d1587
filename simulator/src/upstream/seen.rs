//! Which sequences of a lane have come, as ranges: as much memory as there are gaps, whatever the number of records.

use std::collections::BTreeMap;

/// The first record of a lane has this sequence.
const FIRST_SEQ: u64 = 1;
/// Ranges at most; beyond them the oldest gap is taken for final.
const RANGES_MAX: usize = 1 << 20;
/// Losses that are remembered one by one; further ones are added up with the last.
const LOSSES_MAX: usize = 10_000;

/// The sequences of one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Start of a range to its end, excluded. No two touch.
    ranges: BTreeMap<u64, u64>,
    losses: Vec<Lost>,
    given_up: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    first: u64,
    through: u64,
    records: u64,
}

impl Seen {
    /// Whether `sequence` is new.
    pub(super) fn note(&mut self, sequence: u64) -> bool {
        let before = self.ranges.range(..=sequence).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| sequence < end) {
            return false;
        }
        let start = match before {
            Some((start, end)) if end == sequence => start,
            _ => sequence,
        };
        let end = self.ranges.remove(&(sequence + 1)).unwrap_or(sequence + 1);
        self.ranges.insert(start, end);
        if RANGES_MAX < self.ranges.len() {
            self.give_up_oldest_gap();
        }
        true
    }

    fn give_up_oldest_gap(&mut self) {
        let mut oldest = self.ranges.iter().map(|(start, end)| (*start, *end));
        if let (Some((start, end)), Some((next, next_end))) = (oldest.next(), oldest.next()) {
            self.given_up += next - end;
            self.ranges.remove(&next);
            self.ranges.insert(start, next_end);
        }
    }

    /// A loss record says that `records` of those from `first` to `through` left undelivered.
    pub(super) fn excuse(&mut self, first: u64, through: u64, records: u64) {
        if self.losses.len() < LOSSES_MAX {
            self.losses.push(Lost { first, through, records });
        } else if let Some(last) = self.losses.last_mut() {
            *last = Lost {
                first: last.first.min(first),
                through: last.through.max(through),
                records: last.records + records,
            };
        }
    }

    /// Records that loss records have told of.
    pub(super) fn told(&self) -> u64 {
        self.losses.iter().map(|lost| lost.records).sum()
    }

    /// The number behind the highest one that came.
    pub(super) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(FIRST_SEQ, |(_, end)| *end)
    }

    /// Sequences below the highest that never came and that no loss record explains.
    pub(super) fn missing(&self) -> u64 {
        let all = self.missing_in(FIRST_SEQ, self.end()) + self.given_up;
        let excused = self.losses.iter().map(|lost| self.missing_in(lost.first, lost.through + 1).min(lost.records));
        all.saturating_sub(excused.sum())
    }

    /// How many of `from..until` never came.
    fn missing_in(&self, from: u64, until: u64) -> u64 {
        let first = self.ranges.range(..=from).next_back().map_or(from, |(start, _)| *start);
        let there = self.ranges.range(first..until).map(|(start, end)| {
            let (start, end) = ((*start).max(from), (*end).min(until));
            end.saturating_sub(start)
        });
        until.saturating_sub(from) - there.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequences: &[u64]) -> Seen {
        let mut seen = Seen::default();
        for sequence in sequences {
            seen.note(*sequence);
        }
        seen
    }

    #[test]
    fn whatever_the_order_each_counts_once_and_gaps_are_known() {
        for (sequences, missing, ranges) in [
            (&[1, 2, 3][..], 0, 1),
            (&[3, 2, 1], 0, 1),
            (&[1, 3, 2, 5], 1, 2),
            (&[2], 1, 1),
            (&[9, 1, 5, 5, 1], 6, 3),
            (&[], 0, 0),
        ] {
            let seen = seen(sequences);
            assert_eq!((seen.missing(), seen.ranges.len()), (missing, ranges), "{sequences:?}");
        }
        let mut again = seen(&[1, 2, 4]);
        assert_eq!([4, 1, 2, 3, 3].map(|sequence| again.note(sequence)), [false, false, false, true, false]);
    }

    #[test]
    fn a_loss_record_explains_as_many_as_it_names_and_no_others() {
        for (first, through, records, missing) in [(3, 6, 4, 2), (3, 6, 3, 3), (1, 9, 6, 0), (3, 4, 4, 4)] {
            let mut seen = seen(&[1, 2, 7, 10]);
            seen.excuse(first, through, records);
            assert_eq!(seen.missing(), missing, "{first} to {through}");
        }
    }
}
