//! The bytes of a string as they are meant: JSON escapes resolved, chunks of CBOR strings joined, without a buffer.

use super::{Form, cbor};

/// The bytes of a string field, one by one. Cheap to clone, so a search can go back.
#[derive(Clone, Debug)]
pub struct TextBytes<'p> {
    rest: &'p [u8],
    form: Form,
    /// Bytes of `rest` that are still of the current CBOR chunk.
    chunk: usize,
    /// UTF-8 of an escape that is not handed out yet: the next byte lowest; 0 for none.
    pending: u32,
}

impl<'p> TextBytes<'p> {
    pub(super) const fn new(form: Form, raw: &'p [u8]) -> Self {
        Self { rest: raw, form, chunk: 0, pending: 0 }
    }

    /// The bytes as one slice.
    #[must_use]
    pub const fn plain(bytes: &'p [u8]) -> Self {
        Self::new(Form::Plain, bytes)
    }

    fn pop(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn escaped(&mut self) -> Option<u8> {
        if self.pending != 0 {
            let byte = self.pending as u8;
            self.pending >>= 8;
            return Some(byte);
        }
        match self.pop()? {
            b'\\' => match self.pop()? {
                b'b' => Some(8),
                b'f' => Some(12),
                b'n' => Some(b'\n'),
                b'r' => Some(b'\r'),
                b't' => Some(b'\t'),
                b'u' => self.unicode(),
                other => Some(other),
            },
            other => Some(other),
        }
    }

    /// The character of a `\u` escape, and of the one behind it if they are a surrogate pair.
    fn unicode(&mut self) -> Option<u8> {
        let mut code = self.unit(0)?;
        if is_high(code) {
            let low = self.unit(2)?;
            code = 0x10000 + ((code & 0x3ff) << 10 | low & 0x3ff);
        }
        let mut utf8 = [0; 4];
        char::from_u32(code)?.encode_utf8(&mut utf8);
        // A byte 0 stands only at the front (U+0000), so what is pending never holds one.
        self.pending = u32::from_le_bytes(utf8) >> 8;
        Some(utf8[0])
    }

    fn unit(&mut self, skip: usize) -> Option<u32> {
        let unit = hex4(self.rest, skip)?;
        self.rest = &self.rest[skip + 4..];
        Some(unit)
    }

    fn chunked(&mut self) -> Option<u8> {
        while self.chunk == 0 {
            let (len, head) = cbor::chunk_head(self.rest)?;
            self.rest = self.rest.get(head..)?;
            self.chunk = len;
        }
        self.chunk -= 1;
        self.pop()
    }
}

impl Iterator for TextBytes<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        match self.form {
            Form::Plain | Form::Json | Form::Cbor => self.pop(),
            Form::Escaped => self.escaped(),
            Form::Chunked => self.chunked(),
        }
    }
}

/// Four hexadecimal digits at `at`.
pub(super) fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}

/// The first half of a surrogate pair.
pub(super) const fn is_high(unit: u32) -> bool {
    unit >> 10 == 0x36
}

/// The second half of a surrogate pair.
pub(super) const fn is_low(unit: u32) -> bool {
    unit >> 10 == 0x37
}
