//! JSON (RFC 8259) in one pass: checks everything, keeps what is wanted.
//!
//! - Strings are stepped through eight bytes at a time; a payload with a byte above 127 is checked for UTF-8 as a whole.
//! - Recursion is as deep as the nesting, which [`DEPTH_MAX`] bounds.

use super::text::{hex4, is_high, is_low};
use super::{DEPTH_MAX, FieldKind, Form, Malformed, NONE, Node, PATH_BYTES_MAX, ROOT, TextBytes, Value, Wanted};
use super::{head, head_at, load8, number};

/// Checks `payload` and tells `wanted` what is there.
pub(super) fn scan<W: Wanted>(payload: &[u8], wanted: &mut W) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(payload, wanted);
    let scanned = scanner.document().and_then(|()| scanner.utf8());
    scanned.map_err(|Stop| scanner.fault)
}

/// The one value that begins at `start`, whatever follows it.
pub(super) fn scan_value<W: Wanted>(payload: &[u8], start: usize, wanted: &mut W) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(payload, wanted);
    let scanned = scanner.value(start, ROOT, DEPTH_MAX);
    scanned.map(drop).map_err(|Stop| scanner.fault)
}

/// The payload is malformed; what and where is in `Scanner::fault`, so that answers fit registers.
struct Stop;

struct Scanner<'p, 'w, W> {
    bytes: &'p [u8],
    wanted: &'w mut W,
    /// All bytes of strings, or-ed: the high bits tell whether there is anything but ASCII.
    seen: u64,
    fault: Malformed,
}

const ENDS: &str = "the payload ends too early";

impl<'p, 'w, W: Wanted> Scanner<'p, 'w, W> {
    fn new(bytes: &'p [u8], wanted: &'w mut W) -> Self {
        Self { bytes, wanted, seen: 0, fault: Malformed { at: 0, what: "" } }
    }

    #[cold]
    #[inline(never)]
    fn fail(&mut self, at: usize, what: &'static str) -> Stop {
        let at = at.min(self.bytes.len());
        self.fault = Malformed { at, what: if at == self.bytes.len() { ENDS } else { what } };
        Stop
    }

    fn document(&mut self) -> Result<(), Stop> {
        let start = self.space(0);
        let end = self.value(start, ROOT, DEPTH_MAX)?;
        let end = self.space(end);
        if end == self.bytes.len() { Ok(()) } else { Err(self.fail(end, "something follows the document")) }
    }

    fn utf8(&mut self) -> Result<(), Stop> {
        if self.seen & HIGH == 0 {
            return Ok(());
        }
        match core::str::from_utf8(self.bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(error.valid_up_to(), "text is not UTF-8")),
        }
    }

    /// The first byte from `at` on that is not white space; in compact documents that is `at`.
    #[inline(always)]
    fn space(&self, at: usize) -> usize {
        match self.bytes.get(at) {
            Some(..=b' ') => self.long_space(at),
            _ => at,
        }
    }

    fn long_space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(at) {
            at += 1;
        }
        at
    }

    /// Reads the value at `at`; answers the first byte behind it.
    #[inline(always)]
    fn value(&mut self, at: usize, node: Node, depth: usize) -> Result<usize, Stop> {
        match self.bytes.get(at) {
            Some(b'"') => {
                let (end, form) = self.string(at + 1)?;
                self.put(node, Value::span(FieldKind::String, form, at + 1, end));
                Ok(end + 1)
            }
            Some(b'-' | b'0'..=b'9') => self.number(at, node),
            Some(b'{') => self.object(at, node, depth),
            Some(b'[') => self.array(at, node, depth),
            Some(b't') => self.literal(at, b"true", node, Value::boolean(true)),
            Some(b'f') => self.literal(at, b"false", node, Value::boolean(false)),
            Some(b'n') => self.literal(at, b"null", node, Value::null()),
            _ => Err(self.fail(at, "a value was expected")),
        }
    }

    #[inline]
    fn put(&mut self, node: Node, value: Value) {
        if node != NONE {
            self.wanted.begin(node);
            self.wanted.put(node, value);
        }
    }

    fn literal(&mut self, at: usize, text: &'static [u8], node: Node, value: Value) -> Result<usize, Stop> {
        let end = at + text.len();
        if self.bytes.get(at..end) == Some(text) {
            self.put(node, value);
            return Ok(end);
        }
        let wrong = self.bytes[at..].iter().zip(text).take_while(|(a, b)| a == b).count();
        Err(self.fail(at + wrong, "a value was expected"))
    }

    #[inline]
    fn number(&mut self, at: usize, node: Node) -> Result<usize, Stop> {
        if node != NONE {
            return self.wanted_number(at, node);
        }
        match number::skip(self.bytes, at) {
            Some(end) => Ok(end),
            None => number::skip_with_care(self.bytes, at).map_err(|(at, what)| self.fail(at, what)),
        }
    }

    fn wanted_number(&mut self, at: usize, node: Node) -> Result<usize, Stop> {
        let shape = number::shape(self.bytes, at).map_err(|(at, what)| self.fail(at, what))?;
        match shape.value(self.bytes, at) {
            Some(value) => self.put(node, value),
            None => return Err(self.fail(at, number::OUT_OF_RANGE)),
        }
        Ok(shape.end)
    }

    fn object(&mut self, start: usize, node: Node, depth: usize) -> Result<usize, Stop> {
        if depth == 0 {
            return Err(self.fail(start, TOO_DEEP));
        }
        self.begin(node);
        let mut at = self.space(start + 1);
        if self.bytes.get(at) == Some(&b'}') {
            return Ok(self.end(start, at + 1, node, FieldKind::Object));
        }
        loop {
            if self.bytes.get(at) != Some(&b'"') {
                return Err(self.fail(at, "a key in quotes was expected"));
            }
            let key = at + 1;
            let (end, form) = self.string(key)?;
            let child = if node == NONE { NONE } else { self.child(node, key, end, form) };
            at = self.space(end + 1);
            if self.bytes.get(at) != Some(&b':') {
                return Err(self.fail(at, "`:` was expected behind the key"));
            }
            at = self.space(at + 1);
            at = self.value(at, child, depth - 1)?;
            at = self.space(at);
            match self.bytes.get(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b'}') => return Ok(self.end(start, at + 1, node, FieldKind::Object)),
                _ => return Err(self.fail(at, "`,` or `}` was expected")),
            }
        }
    }

    fn array(&mut self, start: usize, node: Node, depth: usize) -> Result<usize, Stop> {
        if depth == 0 {
            return Err(self.fail(start, TOO_DEEP));
        }
        self.begin(node);
        let mut at = self.space(start + 1);
        if self.bytes.get(at) == Some(&b']') {
            return Ok(self.end(start, at + 1, node, FieldKind::Array));
        }
        let mut place = 0u32;
        loop {
            let child = if node == NONE { NONE } else { self.wanted.place(node, place) };
            at = self.value(at, child, depth - 1)?;
            at = self.space(at);
            match self.bytes.get(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b']') => return Ok(self.end(start, at + 1, node, FieldKind::Array)),
                _ => return Err(self.fail(at, "`,` or `]` was expected")),
            }
            place = place.saturating_add(1);
        }
    }

    #[inline]
    fn begin(&mut self, node: Node) {
        if node != NONE {
            self.wanted.begin(node);
        }
    }

    #[inline]
    fn end(&mut self, start: usize, end: usize, node: Node, kind: FieldKind) -> usize {
        if node != NONE {
            self.wanted.put(node, Value::span(kind, Form::Json, start, end));
        }
        end
    }

    #[inline]
    fn child(&mut self, node: Node, start: usize, end: usize, form: Form) -> Node {
        if form == Form::Plain {
            let key = &self.bytes[start..end];
            return self.wanted.key(node, head_at(self.bytes, start, end), key);
        }
        let mut buffer = [0; PATH_BYTES_MAX];
        match gather(TextBytes::new(form, &self.bytes[start..end]), &mut buffer) {
            Some(key) => self.wanted.key(node, head(key), key),
            None => NONE,
        }
    }

    /// Reads the string whose content begins at `at`; answers where its closing quote stands.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<(usize, Form), Stop> {
        let at = self.run(at)?;
        if self.bytes[at] == b'"' { Ok((at, Form::Plain)) } else { self.escaped(at) }
    }

    /// The next `"` or `\` from `at` on.
    #[inline(always)]
    fn run(&mut self, mut at: usize) -> Result<usize, Stop> {
        while let Some(word) = load8(self.bytes, at) {
            self.seen |= word;
            let special = specials(word);
            if special != 0 {
                at += special.trailing_zeros() as usize / 8;
                return if self.bytes[at] < 0x20 { Err(self.fail(at, CONTROL)) } else { Ok(at) };
            }
            at += 8;
        }
        self.run_to_the_end(at)
    }

    fn run_to_the_end(&mut self, mut at: usize) -> Result<usize, Stop> {
        loop {
            match self.bytes.get(at) {
                Some(b'"' | b'\\') => return Ok(at),
                Some(0x20..) => self.seen |= u64::from(self.bytes[at]),
                _ => return Err(self.fail(at, CONTROL)),
            }
            at += 1;
        }
    }

    #[cold]
    fn escaped(&mut self, mut at: usize) -> Result<(usize, Form), Stop> {
        while self.bytes[at] == b'\\' {
            at = self.escape(at)?;
            at = self.run(at)?;
        }
        Ok((at, Form::Escaped))
    }

    /// Checks the escape at `at`; answers the first byte behind it.
    fn escape(&mut self, at: usize) -> Result<usize, Stop> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => match hex4(self.bytes, at + 2) {
                Some(unit) if is_low(unit) => Err(self.fail(at, LONE)),
                Some(unit) if is_high(unit) => match (self.bytes.get(at + 6..at + 8), hex4(self.bytes, at + 8)) {
                    (Some(b"\\u"), Some(low)) if is_low(low) => Ok(at + 12),
                    (Some(b"\\u"), None) => Err(self.fail(self.digits_end(at + 8), HEX)),
                    (None, _) => Err(self.fail(self.bytes.len(), ENDS)),
                    _ => Err(self.fail(at, LONE)),
                },
                Some(_) => Ok(at + 6),
                None => Err(self.fail(self.digits_end(at + 2), HEX)),
            },
            _ => Err(self.fail(at + 1, "an unknown escape")),
        }
    }

    fn digits_end(&self, at: usize) -> usize {
        at + self.bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count()
    }
}

const TOO_DEEP: &str = "nested deeper than 32";
const CONTROL: &str = "a control character inside a string";
const LONE: &str = "half a surrogate pair";
const HEX: &str = "\\u wants four hexadecimal digits";

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// Marks (in the high bit) the bytes that end a run of plain text: `"`, `\` and control characters. Above the first
/// mark there may be false ones.
#[inline]
fn specials(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    (zero(word ^ (LOW * 0x22)) | zero(word ^ (LOW * 0x5c)) | control) & HIGH
}

/// The bytes of a key in `buffer`; `None`: longer than any path's key.
pub(super) fn gather<'b>(bytes: TextBytes<'_>, buffer: &'b mut [u8; PATH_BYTES_MAX]) -> Option<&'b [u8]> {
    let mut len = 0;
    for byte in bytes {
        *buffer.get_mut(len)? = byte;
        len += 1;
    }
    Some(&buffer[..len])
}
