//! The store's number. A gateway whose data is lost begins its lanes at sequence 1 again; this tells the new records from the old.
//!
//! - It is drawn by whoever makes a store and given in; 0 is none.
//! - It is an entry, so it is lost with the data and not before. Upstream it is the field `store`.

use core::fmt;
use std::collections::BTreeMap;

use crate::entry::{Entries, Space};

const NAME: &[u8] = b"store";

/// A store's number; shown as upstream has it: eight hexadecimal digits, nothing for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreId(pub u32);

impl StoreId {
    /// The number among these entries, if it is there.
    #[must_use]
    pub fn of(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Self> {
        entries.get(&[&[Space::Books as u8], NAME].concat()).and_then(|value| Self::restore(value))
    }

    /// Whether an entry of [`Space::Books`] with this name is the number.
    #[must_use]
    pub fn is_called(name: &[u8]) -> bool {
        name == NAME
    }

    /// Takes it back from flash.
    #[must_use]
    pub fn restore(value: &[u8]) -> Option<Self> {
        value.try_into().ok().map(u32::from_le_bytes).filter(|number| *number != 0).map(Self)
    }

    /// Writes it, if there is one.
    pub fn save(self, entries: &mut Entries) {
        if self.0 != 0 {
            entries.put(&[&[Space::Books as u8], NAME], &self.0.to_le_bytes());
        }
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, "{:08x}", self.0) }
    }
}
