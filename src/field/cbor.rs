//! CBOR (RFC 8949) in one pass: checks everything, keeps what is wanted.
//!
//! - Well-formed means what appendix F of the RFC says, and UTF-8 in every text string (and chunk of one).
//! - Tags are looked through, on values and keys. Keys that are not text are checked and skipped.
//! - Recursion is as deep as the nesting of arrays and maps, which [`DEPTH_MAX`] bounds; tags do not nest here.

use super::json::gather;
use super::{DEPTH_MAX, FieldKind, Form, Malformed, NONE, Node, PATH_BYTES_MAX, ROOT, TextBytes, Value, Wanted};
use super::{head as first_bytes, head_at, number};

/// Checks `payload` and tells `wanted` what is there.
pub(super) fn scan<W: Wanted>(payload: &[u8], wanted: &mut W) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(payload, wanted);
    match scanner.item(0, ROOT, DEPTH_MAX) {
        Err(Stop) => Err(scanner.fault),
        Ok(end) if end < payload.len() => Err(Malformed { at: end, what: "something follows the item" }),
        Ok(_) => Ok(()),
    }
}

/// The one item that begins at `start`, whatever follows it.
pub(super) fn scan_value<W: Wanted>(payload: &[u8], start: usize, wanted: &mut W) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(payload, wanted);
    scanner.item(start, ROOT, DEPTH_MAX).map(drop).map_err(|Stop| scanner.fault)
}

/// Length of the definite chunk of a string that begins `bytes`, and of its head.
pub(super) fn chunk_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = Head::read(bytes, 0)?;
    match (head.major, head.argument) {
        (BYTES | TEXT, Some(len)) => Some((usize::try_from(len).ok()?, head.end)),
        _ => None,
    }
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const BREAK: u8 = 0xff;

const ENDS: &str = "the payload ends too early";

/// The head of an item (RFC 8949 §3).
#[derive(Clone, Copy)]
struct Head {
    major: u8,
    /// The low five bits.
    info: u8,
    /// `None`: indefinite, or break.
    argument: Option<u64>,
    /// The first byte behind the head.
    end: usize,
}

impl Head {
    /// The head at `at`; `None`: there is none, see [`Head::fault`].
    #[inline(always)]
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let first = *bytes.get(at)?;
        let (major, info) = (first >> 5, first & 31);
        let (argument, width) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (u64::from(*bytes.get(at + 1)?), 1),
            25 => (u64::from(u16::from_be_bytes(*bytes.get(at + 1..)?.first_chunk()?)), 2),
            26 => (u64::from(u32::from_be_bytes(*bytes.get(at + 1..)?.first_chunk()?)), 4),
            27 => (u64::from_be_bytes(*bytes.get(at + 1..)?.first_chunk()?), 8),
            31 if !matches!(major, UNSIGNED | NEGATIVE | TAG) => {
                return Some(Self { major, info, argument: None, end: at + 1 });
            }
            _ => return None,
        };
        Some(Self { major, info, argument: Some(argument), end: at + 1 + width })
    }

    /// Why there is no head at `at`.
    fn fault(bytes: &[u8], at: usize) -> Malformed {
        match bytes.get(at).map(|first| first & 31) {
            Some(28..) => Malformed { at, what: "a head that the standard does not define" },
            _ => Malformed { at: bytes.len(), what: ENDS },
        }
    }
}

/// The payload is malformed; what and where is in `Scanner::fault`, so that answers fit registers.
struct Stop;

struct Scanner<'p, 'w, W> {
    bytes: &'p [u8],
    wanted: &'w mut W,
    fault: Malformed,
}

impl<'p, 'w, W: Wanted> Scanner<'p, 'w, W> {
    fn new(bytes: &'p [u8], wanted: &'w mut W) -> Self {
        Self { bytes, wanted, fault: Malformed { at: 0, what: "" } }
    }

    #[cold]
    #[inline(never)]
    fn fail(&mut self, at: usize, what: &'static str) -> Stop {
        self.fault = Malformed { at, what };
        Stop
    }

    #[inline(always)]
    fn one_head(&mut self, at: usize) -> Result<Head, Stop> {
        Head::read(self.bytes, at).ok_or_else(|| {
            let fault = Head::fault(self.bytes, at);
            self.fail(fault.at, fault.what)
        })
    }

    /// The head at `at` behind any tags, and where it begins.
    #[inline(always)]
    fn head(&mut self, mut at: usize) -> Result<(Head, usize), Stop> {
        loop {
            let head = self.one_head(at)?;
            if head.major != TAG {
                return Ok((head, at));
            }
            at = head.end;
        }
    }

    /// Reads the item at `at`; answers the first byte behind it.
    fn item(&mut self, at: usize, node: Node, depth: usize) -> Result<usize, Stop> {
        let (head, at) = self.head(at)?;
        match (head.major, head.argument) {
            (UNSIGNED, Some(size)) => Ok(self.put(node, head.end, unsigned(size))),
            (NEGATIVE, Some(size)) => Ok(self.put(node, head.end, negative(size))),
            (BYTES | TEXT, _) => {
                let (form, start, end, next) = self.string(head)?;
                Ok(self.put(node, next, Value::span(FieldKind::String, form, start, end)))
            }
            (ARRAY | MAP, _) if depth == 0 => Err(self.fail(at, "nested deeper than 32")),
            (ARRAY, _) => self.array(at, head, node, depth - 1),
            (MAP, _) => self.map(at, head, node, depth - 1),
            _ => {
                let value = simple(head).map_err(|what| self.fail(at, what))?;
                Ok(self.put(node, head.end, value))
            }
        }
    }

    #[inline]
    fn put(&mut self, node: Node, end: usize, value: Value) -> usize {
        if node != NONE {
            self.wanted.begin(node);
            self.wanted.put(node, value);
        }
        end
    }

    /// Reads the string behind `head`: its form, where its content starts and ends, and the first byte behind it.
    fn string(&mut self, head: Head) -> Result<(Form, usize, usize, usize), Stop> {
        if let Some(len) = head.argument {
            let end = self.content(head, len)?;
            return Ok((Form::Plain, head.end, end, end));
        }
        let mut at = head.end;
        loop {
            if self.bytes.get(at) == Some(&BREAK) {
                return Ok((Form::Chunked, head.end, at, at + 1));
            }
            let chunk = self.one_head(at)?;
            match chunk.argument {
                Some(len) if chunk.major == head.major => at = self.content(chunk, len)?,
                _ => return Err(self.fail(at, "a chunk of a string was expected")),
            }
        }
    }

    /// Checks `len` bytes behind `head`; answers where they end.
    #[inline(always)]
    fn content(&mut self, head: Head, len: u64) -> Result<usize, Stop> {
        let rest = &self.bytes[head.end..];
        let content = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(content) = content else { return Err(self.fail(self.bytes.len(), ENDS)) };
        let needs_check = head.major == TEXT && !content.is_ascii();
        if let Some(error) = needs_check.then(|| core::str::from_utf8(content).err()).flatten() {
            return Err(self.fail(head.end + error.valid_up_to(), "text is not UTF-8"));
        }
        Ok(head.end + content.len())
    }

    /// Whether an array or map of `count` (`None`: indefinite) has another entry at `at`, its `index`-th.
    #[inline]
    fn goes_on(&self, count: Option<u64>, index: u64, at: usize) -> bool {
        match count {
            Some(count) => index < count,
            None => self.bytes.get(at) != Some(&BREAK),
        }
    }

    fn array(&mut self, start: usize, head: Head, node: Node, depth: usize) -> Result<usize, Stop> {
        self.begin(node);
        let (mut at, mut place) = (head.end, 0u64);
        while self.goes_on(head.argument, place, at) {
            let child = match u32::try_from(place) {
                Ok(place) if node != NONE => self.wanted.place(node, place),
                _ => NONE,
            };
            at = self.item(at, child, depth)?;
            place += 1;
        }
        Ok(self.end(start, at, head, node, FieldKind::Array))
    }

    fn map(&mut self, start: usize, head: Head, node: Node, depth: usize) -> Result<usize, Stop> {
        self.begin(node);
        let (mut at, mut index) = (head.end, 0u64);
        while self.goes_on(head.argument, index, at) {
            let (child, end) = self.key(at, node, depth)?;
            at = self.item(end, child, depth)?;
            index += 1;
        }
        Ok(self.end(start, at, head, node, FieldKind::Object))
    }

    /// Reads the key at `at`; answers the node that it leads to and the first byte behind it.
    fn key(&mut self, at: usize, node: Node, depth: usize) -> Result<(Node, usize), Stop> {
        let (head, start) = self.head(at)?;
        if head.major != TEXT || node == NONE {
            return Ok((NONE, self.item(start, NONE, depth)?));
        }
        let (form, start, end, next) = self.string(head)?;
        let child = match form {
            Form::Plain => self.wanted.key(node, head_at(self.bytes, start, end), &self.bytes[start..end]),
            _ => {
                let mut buffer = [0; PATH_BYTES_MAX];
                let key = gather(TextBytes::new(form, &self.bytes[start..end]), &mut buffer);
                key.map_or(NONE, |key| self.wanted.key(node, first_bytes(key), key))
            }
        };
        Ok((child, next))
    }

    fn begin(&mut self, node: Node) {
        if node != NONE {
            self.wanted.begin(node);
        }
    }

    /// The array or map ends before `at` (or with the break there); answers the first byte behind it.
    fn end(&mut self, start: usize, at: usize, head: Head, node: Node, kind: FieldKind) -> usize {
        let end = at + usize::from(head.argument.is_none());
        if node != NONE {
            self.wanted.put(node, Value::span(kind, Form::Cbor, start, end));
        }
        end
    }
}

fn unsigned(size: u64) -> Value {
    match i64::try_from(size) {
        Ok(int) => Value::whole(int, size as f64),
        Err(_) => Value::float(size as f64),
    }
}

/// Minus one, minus `size` (RFC 8949 §3.1).
fn negative(size: u64) -> Value {
    match i64::try_from(size) {
        Ok(size) => Value::whole(!size, !size as f64),
        Err(_) => Value::float((-1 - i128::from(size)) as f64),
    }
}

/// Simple values and floats (RFC 8949 §3.3).
fn simple(head: Head) -> Result<Value, &'static str> {
    let bits = head.argument.ok_or("a break outside of an indefinite item")?;
    match (head.info, bits) {
        (20, _) => Ok(Value::boolean(false)),
        (21, _) => Ok(Value::boolean(true)),
        (24, 0..=31) => Err("a simple value in two bytes that fits one"),
        (25, half) => Ok(number::of_float(half_to_f64(half as u16))),
        (26, single) => Ok(number::of_float(f64::from(f32::from_bits(single as u32)))),
        (27, double) => Ok(number::of_float(f64::from_bits(double))),
        _ => Ok(Value::null()),
    }
}

/// IEEE 754 binary16 (RFC 8949 appendix D).
fn half_to_f64(half: u16) -> f64 {
    let (exponent, fraction) = (half >> 10 & 31, f64::from(half & 0x3ff));
    let size = match exponent {
        0 => fraction / 16_777_216.0,
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * f64::from_bits(u64::from(exponent + 1023 - 25) << 52),
    };
    if half >> 15 == 0 { size } else { -size }
}
