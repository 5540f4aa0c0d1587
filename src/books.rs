//! The books: where every received message went. `received = delivered + filtered + aggregated + dead-lettered + expired +
//! dropped(reason) + pending`, all the time; the residue is a metric that must be 0.
//!
//! - Every message is entered once when it is received and once when it is settled; what is neither is pending in a lane.
//! - A message that produced records is settled by the last of them (see `record.rs`); one that failed in any function is
//!   dead-lettered; one that only metered or stored is aggregated; one that nobody wanted is filtered.
//! - The books are committed with the effects they count, so they balance after a crash as well.

use crate::entry::{Entries, Space, put_varint, take_count};

/// Why a message or record left without being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// A QoS 0 message came while the inbox was full.
    InboxFull = 0,
    /// The lane was full and its policy is to drop the oldest.
    LaneFull = 1,
    /// No lane takes the topic.
    NoLane = 2,
    /// The upstream refuses the record for good (too large for it).
    Undeliverable = 3,
    /// The record's bytes on flash were damaged.
    Damaged = 4,
    /// The record is larger than its whole lane.
    TooLarge = 5,
}

impl DropReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 6] =
        [Self::InboxFull, Self::LaneFull, Self::NoLane, Self::Undeliverable, Self::Damaged, Self::TooLarge];

    /// The name used in metrics and upstream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InboxFull => "inbox-full",
            Self::LaneFull => "lane-full",
            Self::NoLane => "no-lane",
            Self::Undeliverable => "undeliverable",
            Self::Damaged => "damaged",
            Self::TooLarge => "too-large",
        }
    }
}

/// Where one message went at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody wanted it.
    Filtered,
    /// It went into meters or state.
    Aggregated,
    /// It became a dead letter.
    DeadLettered,
    /// It became at least one record; the last one settles it.
    Pending,
    /// It is gone, counted.
    Dropped(DropReason),
}

/// Totals since the store was made, in messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Received, without recognised duplicates.
    pub received: u64,
    /// Its last record was delivered upstream.
    pub delivered: u64,
    /// Nobody wanted it.
    pub filtered: u64,
    /// It went into meters or state.
    pub aggregated: u64,
    /// It became a dead letter.
    pub dead_lettered: u64,
    /// Its last record grew older than its lane allows.
    pub expired: u64,
    /// Gone, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Redeliveries that were recognised: acknowledged again, not received again.
    pub duplicates: u64,
}

impl Books {
    /// Enters a message's fate.
    pub fn settle(&mut self, fate: Fate) {
        match fate {
            Fate::Filtered => self.filtered += 1,
            Fate::Aggregated => self.aggregated += 1,
            Fate::DeadLettered => self.dead_lettered += 1,
            Fate::Pending => {}
            Fate::Dropped(reason) => self.drop(reason, 1),
        }
    }

    /// Enters `messages` that are gone.
    pub fn drop(&mut self, reason: DropReason, messages: u64) {
        self.dropped[reason as usize] += messages;
    }

    /// `received` less everything that is accounted for; anything but 0 is a defect.
    #[must_use]
    pub fn residue(&self, pending: u64) -> i128 {
        let settled = self.delivered
            + self.filtered
            + self.aggregated
            + self.dead_lettered
            + self.expired
            + self.dropped.iter().sum::<u64>();
        i128::from(self.received) - i128::from(settled) - i128::from(pending)
    }

    fn totals(&self) -> [u64; 7] {
        [
            self.received,
            self.delivered,
            self.filtered,
            self.aggregated,
            self.dead_lettered,
            self.expired,
            self.duplicates,
        ]
    }

    /// Writes the books as one entry.
    pub fn save(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        scratch.clear();
        for total in self.totals().into_iter().chain(self.dropped) {
            put_varint(scratch, total);
        }
        entries.put(&[&[Space::Books as u8], b"books"], scratch);
    }

    /// Reads what [`Books::save`] wrote; `None` if it is not that.
    #[must_use]
    pub fn restore(mut value: &[u8]) -> Option<Self> {
        let value = &mut value;
        let mut books = Self {
            received: take_count(value)?,
            delivered: take_count(value)?,
            filtered: take_count(value)?,
            aggregated: take_count(value)?,
            dead_lettered: take_count(value)?,
            expired: take_count(value)?,
            duplicates: take_count(value)?,
            dropped: Default::default(),
        };
        for total in &mut books.dropped {
            *total = take_count(value)?;
        }
        Some(books)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::entries;

    #[test]
    fn every_fate_balances_what_was_received() {
        let mut books = Books::default();
        let fates =
            [Fate::Filtered, Fate::Aggregated, Fate::DeadLettered, Fate::Dropped(DropReason::NoLane), Fate::Pending];
        for fate in fates {
            books.received += 1;
            books.settle(fate);
        }
        assert_eq!((books.residue(1), books.residue(0)), (0, 1));
        books.delivered += 1;
        assert_eq!(books.residue(0), 0);
    }

    #[test]
    fn books_come_back_as_they_were_saved() {
        let mut books = Books { received: 300, duplicates: 2, ..Books::default() };
        books.drop(DropReason::Damaged, 7);
        let mut list = Entries::default();
        books.save(&mut list, &mut Vec::new());
        let entry = entries(list.bytes()).next().unwrap().unwrap();
        assert_eq!(Books::restore(entry.value.unwrap()), Some(books));
        assert_eq!(Books::restore(&[1, 2]), None);
    }
}
