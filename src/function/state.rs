//! Durable state of a function: keys and values that live in the host and are committed with the message.
//!
//! - What a call puts or deletes is *staged*; [`State::commit`] makes it the state, [`State::clear_staged`] forgets it.
//! - Keys and values with [`ENTRY_COST`] each never exceed the quota, staged changes included.
//! - Every change since the last [`State::drain_dirty`] is handed out once; draining allocates nothing.
//! - What is kept for draining is bounded by the quota too, however often keys come and go between two drains.
//! - A put over a value that is as long or longer allocates nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::budget::costs::STATE_ENTRY;
use crate::units::Bytes;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Keys that one invocation may change.
pub const STAGED_KEYS_MAX: usize = 64;
/// Bytes of keys and values that one invocation may stage.
pub const STAGED_BYTES_MAX: usize = 16 << 10;
/// What an entry costs beside its key and value: the map's own bookkeeping, so that the quota bounds real memory.
pub const ENTRY_COST: usize = STATE_ENTRY as usize;

/// Takes a key that changed and its new value (`None`: deleted).
pub type TakeChange<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// Why a put was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The quota of the manifest.
    Quota,
    /// The bounds of one invocation.
    Call,
}

#[derive(Debug, Default)]
struct Slot {
    /// `None`: deleted, which has not been drained yet.
    value: Option<Vec<u8>>,
    /// Changed since the last drain.
    dirty: bool,
    /// Not there at the last drain: its deletion need not be told.
    born: bool,
}

#[derive(Debug)]
struct Change {
    key: Range<usize>,
    /// `None` deletes.
    value: Option<Range<usize>>,
    /// Room behind the value's start; a new value that fits is written in place.
    room: usize,
}

/// The state of one function.
#[derive(Debug)]
pub struct State {
    slots: BTreeMap<Box<[u8]>, Slot>,
    quota: usize,
    used: usize,
    /// `used` as it will be when the staged changes are committed.
    staged_used: usize,
    changes: Vec<Change>,
    arena: Vec<u8>,
    dirty: Vec<Range<usize>>,
    dirty_keys: Vec<u8>,
}

const fn cost(key: &[u8], value: usize) -> usize {
    key.len() + value + ENTRY_COST
}

impl State {
    /// An empty state with a quota for keys, values and [`ENTRY_COST`] each.
    #[must_use]
    pub fn new(quota: Bytes) -> Self {
        Self {
            slots: BTreeMap::new(),
            quota: quota.as_usize(),
            used: 0,
            staged_used: 0,
            changes: Vec::new(),
            arena: Vec::new(),
            dirty: Vec::new(),
            dirty_keys: Vec::new(),
        }
    }

    /// Bytes in use, [`ENTRY_COST`] for each entry included.
    #[must_use]
    pub const fn used(&self) -> Bytes {
        Bytes(self.used as u64)
    }

    /// The value as the running invocation sees it: its own changes first.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self.change(key) {
            Some(change) => change.value.clone().map(|range| &self.arena[range]),
            None => self.slots.get(key)?.value.as_deref(),
        }
    }

    fn change(&self, key: &[u8]) -> Option<&Change> {
        self.changes.iter().find(|change| self.arena[change.key.clone()] == *key)
    }

    /// Stages `key = value`. The caller has checked [`KEY_BYTES_MAX`] and [`VALUE_BYTES_MAX`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Full> {
        let before = self.get(key).map_or(0, |value| cost(key, value.len()));
        let after = self.staged_used - before + cost(key, value.len());
        if self.quota < after {
            return Err(Full::Quota);
        }
        let index = self.stage(key, value.len())?;
        let start = match &self.changes[index].value {
            Some(range) if value.len() <= self.changes[index].room => range.start,
            _ => {
                if STAGED_BYTES_MAX < self.arena.len() + value.len() {
                    return Err(Full::Call);
                }
                let start = self.arena.len();
                self.arena.resize(start + value.len(), 0);
                self.changes[index].room = value.len();
                start
            }
        };
        let range = start..start + value.len();
        self.arena[range.clone()].copy_from_slice(value);
        self.changes[index].value = Some(range);
        self.staged_used = after;
        Ok(())
    }

    /// Stages the deletion of `key`; `false` if there is none.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Full> {
        let Some(before) = self.get(key).map(|value| cost(key, value.len())) else {
            return Ok(false);
        };
        let index = self.stage(key, 0)?;
        self.changes[index].value = None;
        self.staged_used -= before;
        Ok(true)
    }

    /// The place of `key` among the changes, made if there is none and a value of `value_len` would fit as well.
    fn stage(&mut self, key: &[u8], value_len: usize) -> Result<usize, Full> {
        if let Some(index) = self.changes.iter().position(|change| self.arena[change.key.clone()] == *key) {
            return Ok(index);
        }
        let start = self.arena.len();
        if self.changes.len() == STAGED_KEYS_MAX || STAGED_BYTES_MAX < start + key.len() + value_len {
            return Err(Full::Call);
        }
        self.arena.extend_from_slice(key);
        self.changes.push(Change { key: start..start + key.len(), value: None, room: 0 });
        Ok(self.changes.len() - 1)
    }

    /// Keys that the running invocation has changed.
    #[must_use]
    pub fn staged_len(&self) -> usize {
        self.changes.len()
    }

    /// What the running invocation has put (`Some`) and deleted.
    pub fn staged(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let bytes = |range: &Range<usize>| &self.arena[range.clone()];
        self.changes.iter().map(move |change| (bytes(&change.key), change.value.as_ref().map(bytes)))
    }

    /// Forgets what is staged.
    pub fn clear_staged(&mut self) {
        self.changes.clear();
        self.arena.clear();
        self.staged_used = self.used;
    }

    /// What is staged becomes the state, and dirty.
    pub fn commit(&mut self) {
        let (changes, arena) = (core::mem::take(&mut self.changes), core::mem::take(&mut self.arena));
        for change in &changes {
            self.set(&arena[change.key.clone()], change.value.clone().map(|range| &arena[range]));
        }
        (self.changes, self.arena) = (changes, arena);
        self.clear_staged();
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        if !self.slots.contains_key(key) {
            if value.is_none() {
                return;
            }
            self.slots.insert(key.into(), Slot { born: true, ..Slot::default() });
        }
        let slot = self.slots.get_mut(key).expect("it was there or has just been inserted");
        if let Some(old) = &slot.value {
            self.used -= cost(key, old.len());
        }
        match value {
            Some(new) => {
                self.used += cost(key, new.len());
                overwrite(slot.value.get_or_insert_default(), new);
            }
            None => slot.value = None,
        }
        if slot.born && value.is_none() {
            self.slots.remove(key);
        } else if !slot.dirty {
            slot.dirty = true;
            self.list_dirty(key);
        }
    }

    fn list_dirty(&mut self, key: &[u8]) {
        // Keys that came and went again leave their names behind; they are swept before they outnumber the rest.
        if 2 * self.slots.len() + STAGED_KEYS_MAX < self.dirty.len() {
            self.dirty.clear();
            self.dirty_keys.clear();
            for key in self.slots.iter().filter(|(_, slot)| slot.dirty).map(|(key, _)| key) {
                push_range(&mut self.dirty_keys, &mut self.dirty, key);
            }
        } else {
            push_range(&mut self.dirty_keys, &mut self.dirty, key);
        }
    }

    /// Hands out each key that changed since the last time with its new value (`None`: deleted).
    pub fn drain_dirty(&mut self, take: &mut TakeChange<'_>) {
        for range in self.dirty.drain(..) {
            let key = &self.dirty_keys[range];
            let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.dirty) else { continue };
            take(key, slot.value.as_deref());
            (slot.dirty, slot.born) = (false, false);
            if slot.value.is_none() {
                self.slots.remove(key);
            }
        }
        self.dirty_keys.clear();
    }

    /// Takes a value over from flash (`None`: deleted), whatever the quota: a quota that was lowered deletes nothing.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let Some(slot) = self.slots.remove(key) {
            self.used -= slot.value.map_or(0, |old| cost(key, old.len()));
        }
        if let Some(value) = value {
            self.used += cost(key, value.len());
            self.slots.insert(key.into(), Slot { value: Some(value.to_vec()), ..Slot::default() });
        }
        self.staged_used = self.used;
    }

    /// Every key and value, in order of keys; staged changes are not seen.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.slots.iter().filter_map(|(key, slot)| Some((&**key, slot.value.as_deref()?)))
    }
}

fn overwrite(kept: &mut Vec<u8>, new: &[u8]) {
    kept.clear();
    // A value that shrank to a fraction gives its memory back: the quota counts lengths, not capacities.
    if new.len() + ENTRY_COST < kept.capacity() {
        kept.shrink_to(new.len());
    }
    kept.reserve_exact(new.len());
    kept.extend_from_slice(new);
}

fn push_range(bytes: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>, key: &[u8]) {
    let start = bytes.len();
    bytes.extend_from_slice(key);
    ranges.push(start..bytes.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirty(state: &mut State) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut out = Vec::new();
        state.drain_dirty(&mut |key, value| out.push((key.to_vec(), value.map(<[u8]>::to_vec))));
        out
    }

    #[test]
    fn staged_changes_are_seen_by_the_call_and_kept_only_when_committed() {
        let mut state = State::new(Bytes(1000));
        state.put(b"a", b"1").unwrap();
        state.put(b"a", b"22").unwrap();
        assert_eq!(state.get(b"a"), Some(&b"22"[..]));
        state.clear_staged();
        assert_eq!((state.get(b"a"), state.used()), (None, Bytes(0)));
        state.put(b"a", b"333").unwrap();
        state.commit();
        assert_eq!((state.get(b"a"), state.used()), (Some(&b"333"[..]), Bytes(4 + ENTRY_COST as u64)));
        assert_eq!(state.delete(b"a"), Ok(true));
        assert_eq!(state.get(b"a"), None);
        assert_eq!(state.delete(b"a"), Ok(false));
        assert_eq!(state.iter().count(), 1);
        state.commit();
        assert_eq!((state.used(), state.iter().count()), (Bytes(0), 0));
    }

    #[test]
    fn each_changed_key_is_drained_once_with_its_last_value() {
        let mut state = State::new(Bytes(1000));
        state.restore(b"other", Some(b"0"));
        for value in [&b"1"[..], b"2", b"3"] {
            state.put(b"k", value).unwrap();
            state.put(b"other", value).unwrap();
            state.commit();
        }
        state.delete(b"other").unwrap();
        state.commit();
        assert_eq!(dirty(&mut state), [(b"k".to_vec(), Some(b"3".to_vec())), (b"other".to_vec(), None)]);
        assert_eq!(dirty(&mut state), []);
        state.put(b"other", b"again").unwrap();
        state.commit();
        assert_eq!(dirty(&mut state).len(), 1);
    }

    #[test]
    fn keys_that_come_and_go_between_two_drains_cost_nothing_in_the_end() {
        let mut state = State::new(Bytes(1000));
        state.restore(b"stays", Some(b"1"));
        for round in 0..10_000u32 {
            state.put(&round.to_le_bytes(), b"v").unwrap();
            state.commit();
            state.delete(&round.to_le_bytes()).unwrap();
            state.commit();
        }
        assert!(state.dirty.len() <= 2 * STAGED_KEYS_MAX && state.slots.len() == 1);
        state.delete(b"stays").unwrap();
        state.commit();
        assert_eq!(dirty(&mut state), [(b"stays".to_vec(), None)]);
    }

    #[test]
    fn the_quota_counts_staged_changes_and_frees_what_is_deleted() {
        let mut state = State::new(Bytes(2 * ENTRY_COST as u64 + 4));
        state.put(b"a", b"1").unwrap();
        state.put(b"b", b"2").unwrap();
        assert_eq!(state.put(b"b", b"22"), Err(Full::Quota));
        assert_eq!(state.put(b"c", b""), Err(Full::Quota));
        state.commit();
        assert_eq!(state.put(b"c", b"1"), Err(Full::Quota));
        state.delete(b"a").unwrap();
        state.put(b"c", b"1").unwrap();
        state.commit();
        assert_eq!(state.iter().map(|(key, _)| key).collect::<Vec<_>>(), [b"b", b"c"]);
    }

    #[test]
    fn one_call_stages_a_bounded_number_of_keys_and_bytes() {
        let mut state = State::new(Bytes::mib(1));
        for key in 0..STAGED_KEYS_MAX {
            state.put(&[key as u8], b"v").unwrap();
        }
        assert_eq!(state.put(b"one more", b"v"), Err(Full::Call));
        state.clear_staged();
        let value = [7; VALUE_BYTES_MAX];
        let kept = (0..10u8).take_while(|key| state.put(&[*key], &value).is_ok()).count();
        assert_eq!(kept, 3);
        // Rewriting in place takes no room.
        for _ in 0..1000 {
            state.put(&[0], &value).unwrap();
        }
        assert!(state.arena.len() <= STAGED_BYTES_MAX);
    }

    #[test]
    fn restored_values_are_not_dirty_and_survive_a_lower_quota() {
        let mut state = State::new(Bytes(1));
        state.restore(b"k", Some(b"value"));
        assert_eq!(dirty(&mut state), []);
        assert_eq!(state.get(b"k"), Some(&b"value"[..]));
        assert_eq!(state.put(b"k", b"value"), Err(Full::Quota));
        state.restore(b"k", None);
        assert_eq!((state.get(b"k"), state.used()), (None, Bytes(0)));
    }
}
