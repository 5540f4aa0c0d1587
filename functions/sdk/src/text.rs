//! Text in a fixed space: bytes put one behind another, without `core::fmt` (some 10 KiB of module) and without a heap.
//!
//! - Nothing is written past the capacity; a [`Text`] that was cut knows it, and `emit!` refuses to send it.
//! - What is shown of an `f64` is a JSON number that reads back as the same value; NaN and infinities become `null`.

use weir_abi::DECIMALS_MAX;

use crate::{number, raw};

/// Bytes put one behind another, at most as many as `S` has.
#[derive(Clone, Copy)]
pub struct Space<S: ?Sized> {
    len: usize,
    cut: bool,
    bytes: S,
}

/// At most `N` bytes.
pub type Text<const N: usize> = Space<[u8; N]>;

/// A [`Text`] of any size, to append to: a `&mut Text<N>` is one.
pub type Writer = Space<[u8]>;

/// What can be put into a text.
pub trait Show {
    /// Appends the value.
    fn show(&self, out: &mut Writer);
}

impl<const N: usize> Text<N> {
    /// An empty text.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: 0, cut: false, bytes: [0; N] }
    }

    /// Appends; a part that does not fit, and everything after it, is left out.
    pub fn push(&mut self, part: &(impl Show + ?Sized)) {
        part.show(self);
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Appends `bytes`, or nothing if they do not fit.
    #[inline(never)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.len..).and_then(|free| free.get_mut(..bytes.len())) {
            Some(free) if !self.cut => {
                free.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.cut = true,
        }
    }

    /// Appends what `read` writes to the free space, or nothing if the length that it answers does not fit.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> i32) {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let len = read(free) as usize;
        if len <= free.len() && !self.cut {
            self.len += len;
        } else {
            self.cut = true;
        }
    }
}

impl<S: AsRef<[u8]>> Space<S> {
    /// The bytes so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref().get(..self.len).unwrap_or_default()
    }
}

impl<S: ?Sized> Space<S> {
    /// Whether something did not fit.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Empties it.
    pub const fn clear(&mut self) {
        (self.len, self.cut) = (0, false);
    }
}

impl<const N: usize> Text<N> {
    /// Replaces the text by what `read` writes; its code if that is below 0.
    pub(crate) fn read(&mut self, read: impl FnOnce(&mut [u8]) -> i32) -> Result<(), i32> {
        self.clear();
        let code = read(&mut self.bytes);
        let len = usize::try_from(code).map_err(|_| code)?;
        (self.len, self.cut) = (len.min(N), len > N);
        Ok(())
    }
}

impl<const N: usize> AsRef<[u8]> for Text<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// A number with a fixed count of decimals (at most 9): `Fixed(21.366, 1)` shows `21.4`.
#[derive(Clone, Copy)]
pub struct Fixed(pub f64, pub u8);

/// A whole number of 10^-n, exactly: `Scaled(-125, 1)` shows `-12.5`. At most 18 decimals.
#[derive(Clone, Copy)]
pub struct Scaled(pub i64, pub u8);

/// Bytes as a JSON string: quoted, with the escapes that RFC 8259 asks for. Not checked to be UTF-8.
#[derive(Clone, Copy)]
pub struct Json<'a>(pub &'a [u8]);

/// Bytes in hexadecimal, lower case.
#[derive(Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl Show for [u8] {
    fn show(&self, out: &mut Writer) {
        out.bytes(self);
    }
}

impl Show for str {
    fn show(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }
}

impl<const N: usize> Show for Text<N> {
    fn show(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, out: &mut Writer) {
        (**self).show(out);
    }
}

impl Show for bool {
    fn show(&self, out: &mut Writer) {
        out.bytes(if *self { b"true" } else { b"false" });
    }
}

impl Show for f64 {
    fn show(&self, out: &mut Writer) {
        show_f64(*self, -1, out);
    }
}

/// The host writes numbers: exactly, and for less than a guest would.
#[inline(never)]
fn show_f64(value: f64, decimals: i32, out: &mut Writer) {
    out.fill(|space| raw::format_f64(value, decimals, space));
}

impl Show for Fixed {
    fn show(&self, out: &mut Writer) {
        show_f64(self.0, i32::from(self.1).min(DECIMALS_MAX), out);
    }
}

impl Show for Scaled {
    fn show(&self, out: &mut Writer) {
        if self.0 < 0 {
            out.bytes(b"-");
        }
        number::show_scaled(self.0.unsigned_abs(), usize::from(self.1.min(18)), out);
    }
}

macro_rules! show_whole {
    ($($type:ty),*) => {$(
        impl Show for $type {
            fn show(&self, out: &mut Writer) {
                #[allow(unused_comparisons, reason = "one body for signed and unsigned")]
                if *self < 0 {
                    out.bytes(b"-");
                }
                #[allow(clippy::unnecessary_cast, reason = "one body for all widths")]
                number::show_scaled((*self as i64).unsigned_abs(), 0, out);
            }
        }
    )*};
}
show_whole!(i8, i16, i32, i64, u8, u16, u32);

impl Show for u64 {
    fn show(&self, out: &mut Writer) {
        number::show_scaled(*self, 0, out);
    }
}

impl Show for usize {
    fn show(&self, out: &mut Writer) {
        number::show_scaled(*self as u64, 0, out);
    }
}

macro_rules! show_tuple {
    ($($part:ident $place:tt),*) => {
        impl<$($part: Show),*> Show for ($($part,)*) {
            fn show(&self, out: &mut Writer) {
                $(self.$place.show(out);)*
            }
        }
    };
}
show_tuple!(A 0, B 1);
show_tuple!(A 0, B 1, C 2);
show_tuple!(A 0, B 1, C 2, D 3);
show_tuple!(A 0, B 1, C 2, D 3, E 4);
show_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

impl Show for Json<'_> {
    fn show(&self, out: &mut Writer) {
        out.bytes(b"\"");
        for byte in self.0 {
            match byte {
                b'"' | b'\\' => out.bytes(&[b'\\', *byte]),
                0..0x20 => {
                    out.bytes(b"\\u00");
                    Hex(&[*byte]).show(out);
                }
                _ => out.bytes(&[*byte]),
            }
        }
        out.bytes(b"\"");
    }
}

impl Show for Hex<'_> {
    fn show(&self, out: &mut Writer) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        for byte in self.0 {
            out.bytes(&[digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Joins parts into a [`Text`]: `text!(64; "room ", 7, ": ", Fixed(21.366, 1))`.
#[macro_export]
macro_rules! text {
    ($capacity:expr; $($part:expr),* $(,)?) => {{
        let mut text = $crate::text::Text::<{ $capacity }>::new();
        let out: &mut $crate::text::Writer = &mut text;
        $($crate::text::Show::show(&$part, out);)*
        text
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_one_behind_another() {
        let text = text!(64; "a", 7u8, b"-"[..], -3, '/' as u32, true, Json(b"q\"\n"), Hex(&[0, 0xaf]), Scaled(-5, 2), i64::MIN);
        assert_eq!(text.as_bytes(), b"a7--347true\"q\\\"\\u000a\"00af-0.05-9223372036854775808".as_slice());
        assert!(!text.is_cut());
    }

    #[test]
    fn a_text_that_is_full_keeps_what_fitted_and_says_that_it_was_cut() {
        let mut text = text!(4; "abc", "de", "f");
        assert_eq!((text.as_bytes(), text.is_cut()), (b"abc".as_slice(), true));
        text.clear();
        text.push("fits");
        assert_eq!((text.as_bytes(), text.is_cut()), (b"fits".as_slice(), false));
    }
}
