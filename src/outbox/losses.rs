//! Which losses of a lane upstream has not been told of yet.
//!
//! - Losses are told by loss records, which wait in the lane themselves. One that leaves undelivered gives back what it was
//!   to tell, so that the next one tells it: what upstream has is complete, however long it was away.
//! - At most one loss record for each reason is on its way; further losses wait for its delivery.
//! - All of it is part of the lane's head on flash.

use crate::books::DropReason;
use crate::entry::{put_varint, take_count, take_varint};

/// Reasons for which a record leaves undelivered: those of [`DropReason`], and two behind them.
pub(super) const REASONS: usize = DropReason::ALL.len() + 2;
/// Too old.
pub(super) const EXPIRED: usize = DropReason::ALL.len();
/// Not lost: folded into a coarser one, or appended again.
pub(super) const ROLLED_UP: usize = DropReason::ALL.len() + 1;

/// The reason's name upstream.
pub(super) fn name(reason: usize) -> &'static str {
    match reason {
        EXPIRED => "expired",
        ROLLED_UP => "rolled-up",
        _ => DropReason::ALL.get(reason).map_or("unknown", |reason| reason.name()),
    }
}

/// Records that left undelivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many.
    pub records: u64,
    /// How many of them settled a message.
    pub messages: u64,
    /// Sequence of the first.
    pub first_seq: u64,
    /// Sequence of the last.
    pub through_seq: u64,
}

impl Lost {
    fn add(&mut self, other: Self) {
        if self.records == 0 {
            *self = other;
        } else if 0 < other.records {
            self.records += other.records;
            self.messages += other.messages;
            self.first_seq = self.first_seq.min(other.first_seq);
            self.through_seq = self.through_seq.max(other.through_seq);
        }
    }

    const fn numbers(&self) -> [u64; 4] {
        [self.records, self.messages, self.first_seq, self.through_seq]
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut next = || take_count(from);
        Some(Self { records: next()?, messages: next()?, first_seq: next()?, through_seq: next()? })
    }
}

/// The losses of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    untold: [Lost; REASONS],
    /// What the loss record of this sequence tells, which may not be delivered yet.
    telling: [Option<(u64, Lost)>; REASONS],
}

impl Losses {
    /// `lost` left undelivered: all between its first and its last that had not left before.
    pub fn lose(&mut self, reason: usize, lost: Lost) {
        for (untold, telling) in self.untold.iter_mut().zip(&mut self.telling) {
            if let Some((_, given_back)) = telling.take_if(|(seq, _)| (lost.first_seq..=lost.through_seq).contains(seq))
            {
                untold.add(given_back);
            }
        }
        self.untold[reason].add(lost);
    }

    /// The record `seq` was delivered: if it told something, that is told.
    pub fn heard(&mut self, seq: u64) {
        for telling in &mut self.telling {
            *telling = telling.filter(|(its, _)| *its != seq);
        }
    }

    /// Whether something is to be told.
    pub fn is_due(&self) -> bool {
        self.untold.iter().zip(&self.telling).any(|(untold, telling)| 0 < untold.records && telling.is_none())
    }

    /// What is to be told for the reason.
    pub fn due(&mut self, reason: usize) -> Option<Lost> {
        let due = 0 < self.untold[reason].records && self.telling[reason].is_none();
        due.then(|| core::mem::take(&mut self.untold[reason]))
    }

    /// The record `seq` tells it.
    pub fn told(&mut self, reason: usize, seq: u64, lost: Lost) {
        self.telling[reason] = Some((seq, lost));
    }

    /// Appends what must survive a restart.
    pub fn save(&self, out: &mut Vec<u8>) {
        for (reason, untold) in (0..).zip(&self.untold).filter(|(_, untold)| 0 < untold.records) {
            [reason, 0].into_iter().chain(untold.numbers()).for_each(|number| put_varint(out, number));
        }
        for (reason, telling) in (0..).zip(&self.telling) {
            if let Some((seq, lost)) = telling {
                [reason, *seq].into_iter().chain(lost.numbers()).for_each(|number| put_varint(out, number));
            }
        }
    }

    /// Reads what [`Losses::save`] wrote, to the end of `from`.
    pub fn restore(&mut self, from: &mut &[u8]) -> Option<()> {
        while !from.is_empty() {
            let reason = usize::try_from(take_varint(from)?).ok().filter(|reason| *reason < REASONS)?;
            // Sequences begin at 1.
            match take_count(from)? {
                0 => self.untold[reason] = Lost::take(from)?,
                seq => self.telling[reason] = Some((seq, Lost::take(from)?)),
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = DropReason::LaneFull as usize;

    const fn lost(first_seq: u64, through_seq: u64) -> Lost {
        Lost { records: through_seq + 1 - first_seq, messages: 0, first_seq, through_seq }
    }

    #[test]
    fn a_loss_record_that_is_lost_gives_back_what_it_was_to_tell() {
        let mut losses = Losses::default();
        losses.lose(FULL, lost(1, 3));
        let due = losses.due(FULL).unwrap();
        assert_eq!(due, lost(1, 3));
        losses.told(FULL, 9, due);
        // 4 to 9 go for another reason, and the loss record with them.
        losses.lose(EXPIRED, lost(4, 9));
        assert_eq!((losses.due(FULL), losses.due(EXPIRED)), (Some(lost(1, 3)), Some(lost(4, 9))));
    }

    #[test]
    fn further_losses_wait_until_the_loss_record_is_delivered() {
        let mut losses = Losses::default();
        losses.told(FULL, 9, lost(1, 3));
        losses.lose(FULL, lost(4, 6));
        losses.heard(8);
        assert_eq!(losses.due(FULL), None);
        losses.heard(9);
        assert_eq!(losses.due(FULL), Some(lost(4, 6)));
        assert_eq!(losses.due(FULL), None);
    }

    #[test]
    fn losses_of_one_reason_are_told_together() {
        let mut losses = Losses::default();
        losses.lose(FULL, lost(1, 3));
        losses.lose(EXPIRED, lost(4, 4));
        losses.lose(FULL, lost(8, 9));
        assert_eq!(losses.due(FULL), Some(Lost { records: 5, messages: 0, first_seq: 1, through_seq: 9 }));
    }

    #[test]
    fn nothing_is_forgotten_over_a_restart() {
        let mut losses = Losses::default();
        losses.lose(EXPIRED, lost(4, 400));
        losses.told(FULL, 9, lost(1, 3));
        let mut saved = Vec::new();
        losses.save(&mut saved);
        let mut again = Losses::default();
        assert_eq!((again.restore(&mut saved.as_slice()), &again), (Some(()), &losses));
        assert_eq!(Losses::default().restore(&mut [77].as_slice()), None);
    }
}
