//! One window of one meter: its keys and their statistics.
//!
//! - Keys are looked up in a hash table of our own: the same keys in the same order give the same table (the world's trace
//!   depends on it), nothing is ever removed one by one, and a window's storage is taken over by the next one.
//! - Memory grows by a quarter at a time, so that capacity stays near what is used.

use super::REVISION_END;
use super::cell::Stats;
use crate::time::{TimeQuality, WallMillis};

/// One key's cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub stats: Stats,
    pub quality: TimeQuality,
    /// Changed since it was last drained.
    pub dirty: bool,
    /// Lies on flash, so that its end must be written.
    pub stored: bool,
    key_at: u32,
    key_len: u16,
}

/// By which clock all values of a window were timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Timing {
    /// The devices' own, or several.
    #[default]
    Mixed,
    /// The gateway's, which was set.
    Set,
    /// The gateway's, which was not.
    Unset,
}

impl Timing {
    pub fn of(is_own: bool, clock: TimeQuality) -> Self {
        match (is_own, clock) {
            (false, _) => Self::Mixed,
            (true, TimeQuality::Synced) => Self::Set,
            (true, _) => Self::Unset,
        }
    }
}

/// An open window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub start_ms: WallMillis,
    /// When it is emitted.
    pub due_ms: WallMillis,
    pub revision: u8,
    pub timing: Timing,
    /// Whether one of the cells is the overflow key's.
    pub overflows: bool,
    /// Cells that changed since the last drain.
    pub dirty: Vec<u32>,
    /// The first `used` are in use; the others keep their memory.
    cells: Vec<Cell>,
    used: usize,
    /// Keys, one after another.
    keys: Vec<u8>,
    /// 1 + index into `cells`, or 0; a power of two of them, at least a quarter of which is free.
    slots: Vec<u32>,
}

impl Window {
    /// An empty window's storage, as this window.
    pub fn opened(self, start_ms: WallMillis, due_ms: WallMillis, revision: u8) -> Self {
        Self { start_ms, due_ms, revision, timing: Timing::Mixed, ..self }
    }

    /// A value that was timed so comes in.
    pub fn join(&mut self, timing: Timing) {
        if self.timing != timing {
            self.timing = Timing::Mixed;
        }
    }

    /// Waits for the clock to be set, if it goes by one that was not.
    pub fn hold(&mut self, until_ms: WallMillis) {
        if self.timing == Timing::Unset && self.revision == REVISION_END {
            self.due_ms = self.due_ms.max(until_ms);
        }
    }

    /// Cells in use.
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Cells that there is memory for.
    pub fn capacity(&self) -> usize {
        self.cells.capacity()
    }

    pub fn cell(&self, index: u32) -> &Cell {
        &self.cells[index as usize]
    }

    pub fn cell_mut(&mut self, index: u32) -> &mut Cell {
        &mut self.cells[index as usize]
    }

    pub fn key(&self, index: u32) -> &[u8] {
        let cell = self.cell(index);
        &self.keys[cell.key_at as usize..][..cell.key_len as usize]
    }

    /// The cell of `key`.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash(key) as usize & mask;
        loop {
            let index = self.slots[at].checked_sub(1)?;
            if self.key(index) == key {
                return Some(index);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an empty cell for `key`, which has none and is at most `u16::MAX` long.
    pub fn insert(&mut self, key: &[u8]) -> u32 {
        if (self.slots.len() * 3) / 4 <= self.used {
            self.grow_slots();
        }
        if self.used == self.cells.len() {
            if self.cells.len() == self.cells.capacity() {
                self.cells.reserve_exact(4.max(self.cells.len() / 4));
            }
            self.cells.push(Cell::default());
        }
        if self.keys.capacity() < self.keys.len() + key.len() {
            self.keys.reserve_exact(key.len().max(64).max(self.keys.len() / 4));
        }
        let index = self.used as u32;
        let cell = &mut self.cells[self.used];
        cell.key_at = self.keys.len() as u32;
        cell.key_len = key.len() as u16;
        self.keys.extend_from_slice(key);
        self.used += 1;
        place(&mut self.slots, hash(key), index);
        index
    }

    fn grow_slots(&mut self) {
        let len = (self.slots.len() * 2).max(8);
        self.slots.clear();
        self.slots.reserve_exact(len);
        self.slots.resize(len, 0);
        for index in 0..self.used as u32 {
            let hash = hash(self.key(index));
            place(&mut self.slots, hash, index);
        }
    }

    /// Notes that a cell changed.
    #[inline]
    pub fn mark(&mut self, index: u32) {
        let cell = &mut self.cells[index as usize];
        if !cell.dirty {
            cell.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Every change lies on flash.
    pub fn drained(&mut self) {
        for index in self.dirty.drain(..) {
            let cell = &mut self.cells[index as usize];
            (cell.dirty, cell.stored) = (false, true);
        }
    }

    /// The cells' indexes in the order of their keys.
    pub fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.used as u32).collect();
        order.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        order
    }

    /// Empty, keeps the memory.
    pub fn clear(&mut self) {
        for cell in &mut self.cells[..self.used] {
            cell.stats.clear();
            (cell.quality, cell.dirty, cell.stored) = Default::default();
        }
        self.used = 0;
        self.overflows = false;
        self.dirty.clear();
        self.keys.clear();
        self.slots.fill(0);
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let sketches: usize = self.cells.iter().filter_map(|cell| cell.stats.sketch.as_ref()).map(|s| s.bytes()).sum();
        self.cells.capacity() * size_of::<Cell>()
            + self.keys.capacity()
            + (self.slots.capacity() + self.dirty.capacity()) * 4
            + sketches
    }
}

fn place(slots: &mut [u32], hash: u32, index: u32) {
    let mask = slots.len() - 1;
    let mut at = hash as usize & mask;
    while slots[at] != 0 {
        at = (at + 1) & mask;
    }
    slots[at] = index + 1;
}

/// Eight bytes at a time, each multiplied to 128 bits and folded. Not secret: whoever may choose device names can make
/// look-ups walk; `keys_max` bounds how far.
#[inline]
fn hash(key: &[u8]) -> u32 {
    let mut hash = key.len() as u64;
    let mut rest = key;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash = mix(hash ^ u64::from_le_bytes(*word));
        rest = tail;
    }
    let last = rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
    (mix(hash ^ last) >> 32) as u32
}

#[inline]
fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_found_and_nothing_else() {
        let mut window = Window::default();
        for round in 0..3 {
            for n in 0..1000u32 {
                let key = format!("device-{}", n * 7 + round);
                assert_eq!(window.find(key.as_bytes()), None);
                assert_eq!(window.insert(key.as_bytes()), n);
            }
            for n in 0..1000u32 {
                let key = format!("device-{}", n * 7 + round);
                assert_eq!(window.find(key.as_bytes()), Some(n));
                assert_eq!(window.key(n), key.as_bytes());
            }
            assert_eq!(window.find(b""), None);
            assert_eq!(window.sorted().len(), 1000);
            assert!(window.capacity() <= 1250);
            window.clear();
            assert_eq!((window.len(), window.find(b"device-7")), (0, None));
        }
    }

    #[test]
    fn similar_keys_spread() {
        let mut worst = 0;
        let mut buckets = vec![0u8; 4096];
        for n in 0..4096 {
            let bucket = &mut buckets[hash(format!("dev{n:05}").as_bytes()) as usize % 4096];
            *bucket += 1;
            worst = worst.max(*bucket);
        }
        assert!(worst <= 8, "{worst}");
    }
}
