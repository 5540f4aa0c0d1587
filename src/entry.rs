//! Durable entries: the keyed values of which a commit consists, as bytes.
//!
//! - An entry is a *new value*, never an increment: replaying a commit twice is the same as once.
//! - The first byte of a key is its [`Space`]; the store never looks further into a key or a value.
//! - Form: `varint shared, varint rest_len, rest, varint (value_len + 1), value`: the key is the first `shared` bytes of the key
//!   before it (nothing before the first one) and `rest`; a `0` in place of the last varint deletes the key. Keys of one owner
//!   follow each other, so most of a key is shared: 40 % fewer bytes in the commit of a meter with state for 100 devices.

/// Who owns a key; its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// Books, clock and identity: `b` + name.
    Books = b'b',
    /// An open window's cell: `c` + meter, window start, key.
    Cell = b'c',
    /// A lane's head (delivered through): `l` + lane name.
    Lane = b'l',
    /// A filter that the broker's session of ours may hold: `f` + session, function, filter (see `subscribed.rs`).
    Filter = b'f',
    /// Duplicate marks of one commit: `m` + commit number (big-endian).
    Marks = b'm',
    /// A function's durable state: `s` + function name, `0`, user key.
    State = b's',
    /// A function's usage totals: `u` + function name.
    Usage = b'u',
    /// Where a function's period of usage began: `p` + function name.
    Period = b'p',
}

/// Longest key: the names of a function or lane and the longest key of its own are far below.
pub const KEY_BYTES_MAX: usize = 1024;

/// A list of entries in encoded form, appended to and cleared, never shrunk.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    count: usize,
    /// The key that was put last, and room for the next one.
    last: Vec<u8>,
    key: Vec<u8>,
}

/// A place in a list, to which it can be cut back.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    bytes: usize,
    count: usize,
    last: Vec<u8>,
}

/// One entry of a list; the value is borrowed from it, `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key, its [`Space`] first.
    pub key: Vec<u8>,
    /// The new value, or `None`: the key is gone.
    pub value: Option<&'a [u8]>,
}

/// The bytes are not a list of entries: a bug or damage that the CRC did not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Entries {
    /// Sets `key` (given in parts that are joined) to `value`.
    pub fn put(&mut self, key: &[&[u8]], value: &[u8]) {
        self.put_key(key);
        put_varint(&mut self.bytes, value.len() as u64 + 1);
        self.bytes.extend_from_slice(value);
    }

    /// Deletes `key`.
    pub fn delete(&mut self, key: &[&[u8]]) {
        self.put_key(key);
        put_varint(&mut self.bytes, 0);
    }

    fn put_key(&mut self, key: &[&[u8]]) {
        let Self { bytes, count, last, key: whole } = self;
        whole.clear();
        key.iter().for_each(|part| whole.extend_from_slice(part));
        let shared = last.iter().zip(whole.iter()).take_while(|(before, now)| before == now).count();
        put_varint(bytes, shared as u64);
        put_varint(bytes, (whole.len() - shared) as u64);
        bytes.extend_from_slice(&whole[shared..]);
        core::mem::swap(last, whole);
        *count += 1;
    }

    /// The encoded form.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded form, given away.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The end of the list as it is now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), count: self.count, last: self.last.clone() }
    }

    /// Forgets what was put behind `mark`, which is of this list.
    pub fn cut(&mut self, mark: &Mark) {
        self.bytes.truncate(mark.bytes);
        self.count = self.count.min(mark.count);
        self.last.clone_from(&mark.last);
    }

    /// Forgets the entries, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.last.clear();
        self.count = 0;
    }
}

/// Walks the entries in `bytes`; stops after the first malformed one.
pub fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Malformed>> {
    let mut last = Vec::new();
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let value = take_entry(&mut bytes, &mut last);
        if value.is_none() {
            bytes = &[];
        }
        Some(value.map(|value| Entry { key: last.clone(), value }).ok_or(Malformed))
    })
}

/// Hands every entry in `bytes` to `visit`, without a copy of its key; `false` if one was malformed.
pub fn visit_entries<'a>(mut bytes: &'a [u8], mut visit: impl FnMut(&[u8], Option<&'a [u8]>)) -> bool {
    let mut key = Vec::new();
    while !bytes.is_empty() {
        let Some(value) = take_entry(&mut bytes, &mut key) else { return false };
        visit(&key, value);
    }
    true
}

/// Makes `key`, the key before, the entry's key, and returns the entry's value.
fn take_entry<'a>(bytes: &mut &'a [u8], key: &mut Vec<u8>) -> Option<Option<&'a [u8]>> {
    let shared = usize::try_from(take_varint(bytes)?).ok().filter(|shared| *shared <= key.len())?;
    let rest_len = take_varint(bytes)?;
    let rest = take(bytes, rest_len)?;
    // A few bytes may stand for a long key, and every entry gets its own.
    if KEY_BYTES_MAX < shared + rest.len() {
        return None;
    }
    key.truncate(shared);
    key.extend_from_slice(rest);
    Some(match take_varint(bytes)?.checked_sub(1) {
        None => None,
        Some(value_len) => Some(take(bytes, value_len)?),
    })
}

/// No count of anything on flash is larger: a gateway that counts a million a second gets there in two thousand years. So sums of
/// counts never overflow, whoever wrote them.
pub const COUNT_MAX: u64 = 1 << 56;

/// Takes a number that counts something; `None` if there is none, or one that cannot be.
pub fn take_count(bytes: &mut &[u8]) -> Option<u64> {
    take_varint(bytes).filter(|count| *count <= COUNT_MAX)
}

/// Splits the first `len` bytes off, or `None` if there are fewer.
pub fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let len = usize::try_from(len).ok()?;
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

/// Appends `value` in LEB128: 7 bits a byte, least significant first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 number off the front; `None` if it is cut short or longer than 64 bits.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Zigzag: small negative numbers become small unsigned ones.
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends an `f64` as the varint of its byte-swapped bits: round numbers take two or three bytes.
pub fn put_f64(out: &mut Vec<u8>, value: f64) {
    put_varint(out, value.to_bits().swap_bytes());
}

/// The inverse of [`put_f64`].
pub fn take_f64(bytes: &mut &[u8]) -> Option<f64> {
    take_varint(bytes).map(|bits| f64::from_bits(bits.swap_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_walked_in_order() {
        let mut list = Entries::default();
        list.put(&[b"b", b"totals"], b"abc");
        list.delete(&[b"s", b"f\0", b"key"]);
        list.put(&[b"sf\0", b"kex"], b"");
        list.put(&[b"sf"], b"1");
        let walked: Vec<_> = entries(list.bytes()).map(|entry| entry.unwrap()).collect();
        assert_eq!(
            walked,
            [
                Entry { key: b"btotals".to_vec(), value: Some(b"abc") },
                Entry { key: b"sf\0key".to_vec(), value: None },
                Entry { key: b"sf\0kex".to_vec(), value: Some(b"") },
                Entry { key: b"sf".to_vec(), value: Some(b"1") },
            ]
        );
        assert_eq!((list.len(), list.bytes().len()), (4, 13 + 9 + 4 + 4));
        list.clear();
        list.put(&[b"sf"], b"");
        assert_eq!(entries(list.bytes()).last().unwrap().unwrap().key, b"sf", "a cleared list has no key before");
    }

    #[test]
    fn every_cut_is_malformed_or_a_prefix_and_never_a_panic() {
        let mut list = Entries::default();
        list.put(&[b"key"], &[7; 300]);
        for cut in 1..list.bytes().len() {
            assert_eq!(entries(&list.bytes()[..cut]).last(), Some(Err(Malformed)), "cut at {cut}");
        }
    }

    #[test]
    fn a_short_list_does_not_grow_into_long_keys() {
        let mut list = Entries::default();
        list.put(&[&[7; KEY_BYTES_MAX]], b"");
        assert_eq!(entries(list.bytes()).last().unwrap().unwrap().key.len(), KEY_BYTES_MAX);
        list.clear();
        list.put(&[&[7; KEY_BYTES_MAX + 1]], b"");
        list.put(&[&[7; KEY_BYTES_MAX]], b"");
        assert_eq!(entries(list.bytes()).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    #[test]
    fn numbers_survive_the_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(take_varint(&mut out.as_slice()), Some(value));
        }
        for value in [0.0, -0.0, 1.5, 21.37, f64::INFINITY, f64::MIN_POSITIVE] {
            let mut out = Vec::new();
            put_f64(&mut out, value);
            assert_eq!(take_f64(&mut out.as_slice()).map(f64::to_bits), Some(value.to_bits()));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(take_varint(&mut [0xff; 11].as_slice()), None);
    }
}
