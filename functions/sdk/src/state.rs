//! Durable state: typed values under keys, committed together with the event that changed them.
//!
//! - A stored value of another size (an older version of the function stored another type) reads as absent.
//! - Keys have 64 bytes at most: a longer one is replaced by its hash.

use core::marker::PhantomData;

use crate::answer::Error;
use crate::raw;
use crate::text::{Text, Writer};

/// Largest value, in bytes.
pub const VALUE_MAX: usize = 128;
const KEY_MAX: usize = 64;
const SMALL: usize = 24;

/// Values of type `T`, one per key, all under the name that `state { .. }` gave.
pub struct State<T> {
    name: &'static str,
    type_: PhantomData<T>,
}

/// A value of fixed size, little-endian. For numbers, `bool`, arrays and tuples; [`value!`](crate::value) makes structs.
pub trait Value: Sized {
    /// Bytes.
    const SIZE: usize;
    /// Appends the bytes.
    fn write(&self, out: &mut Writer);
    /// Takes the value off the front.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

impl<T: Value> State<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= 24, "a name in `state` has 1 to 24 bytes");
        Self { name, type_: PhantomData }
    }

    /// The value under `key`, usually a device; `""` for a single one.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<T> {
        const { assert!(T::SIZE <= VALUE_MAX, "a `state` value has at most 128 bytes") };
        // Most values are small: why clear 128 bytes for them?
        if T::SIZE <= SMALL {
            self.get_within::<SMALL>(key.as_ref())
        } else {
            self.get_within::<VALUE_MAX>(key.as_ref())
        }
    }

    fn get_within<const N: usize>(&self, key: &[u8]) -> Option<T> {
        let mut space = [0; N];
        let space = space.get_mut(..T::SIZE)?;
        if load(self.name, key, space) { T::take(&mut &*space) } else { None }
    }

    /// Stores `value` under `key`.
    pub fn put(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), Error> {
        const { assert!(T::SIZE <= VALUE_MAX, "a `state` value has at most 128 bytes") };
        let key = key.as_ref();
        if T::SIZE <= SMALL { self.put_within::<SMALL>(key, value) } else { self.put_within::<VALUE_MAX>(key, value) }
    }

    fn put_within<const N: usize>(&self, key: &[u8], value: &T) -> Result<(), Error> {
        let mut bytes = Text::<N>::new();
        value.write(&mut bytes);
        store(self.name, key, bytes.as_bytes())
    }

    /// Forgets the value; whether there was one.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> bool {
        raw::state_delete(full_key(self.name, key.as_ref(), &mut [0; KEY_MAX])) != raw::ABSENT
    }
}

/// Fills `value`; whether there is a value of exactly this size.
#[inline(never)]
fn load(name: &str, key: &[u8], value: &mut [u8]) -> bool {
    raw::state_get(full_key(name, key, &mut [0; KEY_MAX]), value) == value.len() as i32
}

#[inline(never)]
fn store(name: &str, key: &[u8], value: &[u8]) -> Result<(), Error> {
    Error::check(raw::state_put(full_key(name, key, &mut [0; KEY_MAX]), value))
}

/// `name:key`; of a key that is too long the 8 bytes of its FNV-1a hash, behind `~` in place of `:`.
#[inline(never)]
fn full_key<'s>(name: &str, key: &[u8], space: &'s mut [u8; KEY_MAX]) -> &'s [u8] {
    let end = name.len() + 1 + key.len();
    if end > KEY_MAX {
        return join(name, b'~', &hash(key).to_be_bytes(), name.len() + 9, space);
    }
    join(name, b':', key, end, space)
}

/// Three parts behind one another; `end` is the sum of their lengths.
fn join<'s>(name: &str, between: u8, key: &[u8], end: usize, space: &'s mut [u8; KEY_MAX]) -> &'s [u8] {
    // Names have at most 24 bytes and `end` is at most 64, so there is always room.
    let Some(full) = space.get_mut(..end) else { return &[] };
    if let Some((head, tail)) = full.split_at_mut_checked(name.len()) {
        head.copy_from_slice(name.as_bytes());
        if let Some((first, tail)) = tail.split_first_mut() {
            *first = between;
            if tail.len() == key.len() {
                tail.copy_from_slice(key);
            }
        }
    }
    full
}

#[cold]
#[inline(never)]
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

macro_rules! number_value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const SIZE: usize = size_of::<$type>();
            fn write(&self, out: &mut Writer) {
                out.bytes(&self.to_le_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, tail) = bytes.split_first_chunk()?;
                *bytes = tail;
                Some(Self::from_le_bytes(*head))
            }
        }
    )*};
}
number_value!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl Value for bool {
    const SIZE: usize = 1;
    fn write(&self, out: &mut Writer) {
        u8::from(*self).write(out);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        u8::take(bytes).map(|byte| byte != 0)
    }
}

impl<T: Value + Copy + Default, const N: usize> Value for [T; N] {
    const SIZE: usize = N * T::SIZE;
    fn write(&self, out: &mut Writer) {
        for item in self {
            item.write(out);
        }
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::take(bytes)?;
        }
        Some(items)
    }
}

macro_rules! tuple_value {
    ($($item:ident $place:tt),*) => {
        impl<$($item: Value),*> Value for ($($item,)*) {
            const SIZE: usize = 0 $(+ $item::SIZE)*;
            fn write(&self, out: &mut Writer) {
                $(self.$place.write(out);)*
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($item::take(bytes)?,)*))
            }
        }
    };
}
tuple_value!(A 0, B 1);
tuple_value!(A 0, B 1, C 2);
tuple_value!(A 0, B 1, C 2, D 3);

/// Declares a struct that [`State`] can hold.
///
/// ```
/// # use weir_sdk::prelude::*;
/// value! {
///     /// What is known of a device.
///     pub struct Last { value: f64, at_ms: i64 }
/// }
/// # let _ = Last { value: 1.0, at_ms: 2 };
/// ```
#[macro_export]
macro_rules! value {
    ($(#[$attribute:meta])* $vis:vis struct $name:ident { $($field:ident : $type:ty),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        $vis struct $name { $($field: $type),* }
        impl $crate::state::Value for $name {
            const SIZE: usize = 0 $(+ <$type as $crate::state::Value>::SIZE)*;
            fn write(&self, out: &mut $crate::text::Writer) {
                $($crate::state::Value::write(&self.$field, out);)*
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::state::Value::take(bytes)?),* })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    value! {
        #[derive(Debug, PartialEq)]
        struct Sample { on: bool, levels: [f64; 3], at: (i64, u8) }
    }

    #[test]
    fn a_struct_comes_back_as_it_went_and_every_cut_is_none() {
        let sample = Sample { on: true, levels: [1.5, -2.0, 3.0], at: (-7, 9) };
        let mut bytes = Text::<VALUE_MAX>::new();
        sample.write(&mut bytes);
        assert_eq!(bytes.as_bytes().len(), Sample::SIZE);
        assert_eq!(Sample::take(&mut bytes.as_bytes()), Some(sample));
        for cut in 0..Sample::SIZE {
            assert_eq!(Sample::take(&mut &bytes.as_bytes()[..cut]), None);
        }
    }

    #[test]
    fn long_keys_are_hashed_and_stay_different() {
        let full = |key: &[u8]| full_key("armed", key, &mut [0; KEY_MAX]).to_vec();
        assert_eq!(full(b"boiler-1"), b"armed:boiler-1");
        assert_eq!(full(b""), b"armed:");
        let (one, mut two) = ([b'x'; 300], [b'x'; 300]);
        two[299] = b'y';
        assert_eq!(full(&one).len(), 5 + 1 + 8);
        assert_eq!(full(&[b'x'; 58]).len(), KEY_MAX);
        assert_ne!(full(&one), full(&two));
    }
}
