//! A lane's head on flash: how far it was delivered, its totals, its losses, and what has left before its turn.

use super::Lane;
use super::ahead::Point;
use crate::books::Books;
use crate::entry::{Entries, Space, put_varint, take_count};
use crate::frame;

impl Lane {
    pub(super) fn save(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        scratch.clear();
        let head = [self.head_seq, self.head_message, u64::from(self.next_segment)];
        for number in head.into_iter().chain([self.totals.delivered, self.totals.expired, self.totals.rolled_up]) {
            put_varint(scratch, number);
        }
        for number in self.totals.dropped {
            put_varint(scratch, number);
        }
        self.save_reach(scratch);
        self.losses.save(scratch);
        entries.put(&[&[Space::Lane as u8], self.config.name.as_bytes()], scratch);
    }

    pub(super) fn restore(&mut self, mut value: &[u8]) -> Option<()> {
        let value = &mut value;
        self.head_seq = take_count(value)?.min(self.next_seq);
        self.head_message = take_count(value)?.min(self.next_message);
        let next_segment = u32::try_from(take_count(value)?).ok().filter(|segment| *segment <= frame::SEGMENT_MAX)?;
        self.next_segment = self.next_segment.max(next_segment);
        self.totals.delivered = take_count(value)?;
        self.totals.expired = take_count(value)?;
        self.totals.rolled_up = take_count(value)?;
        for number in &mut self.totals.dropped {
            *number = take_count(value)?;
        }
        self.restore_reach(value)?;
        self.losses.restore(value)
    }

    /// Records between the head and the first one that the store still has are lost to damage.
    pub(super) fn enter_damage(&mut self, books: &mut Books) {
        let (first_seq, first_message) = match self.extents.front() {
            Some(first) => (first.first_seq, first.first_message),
            None => (self.next_seq, self.next_message),
        };
        self.skip_to(Point { seq: first_seq, message: first_message }, books);
    }
}
