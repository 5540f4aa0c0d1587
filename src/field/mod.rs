//! Fields of payloads: one native pass over JSON (RFC 8259) or CBOR (RFC 8949) fills a slot for every wanted path.
//!
//! - The whole payload is checked, whatever is wanted; what a field means is said in `functions/abi/README.md`, "Fields".
//! - One pass a message, whatever the number of functions and filters that look.
//! - Nothing is allocated once [`Fields`] has grown to the number of paths; a [`Value`] points into the payload.

mod cbor;
mod json;
mod number;
mod path;
mod paths;
#[cfg(test)]
mod tests;
mod text;

use core::fmt;

use serde::{Deserialize, Serialize};
use weir_abi::field_kind;

pub use number::whole;
pub use path::{PATH_BYTES_MAX, PATH_STEPS_MAX, Path, PathError, Segment};
pub use paths::{PATHS_MAX, PathId, Paths};
pub use text::TextBytes;

/// Deepest nesting of arrays and objects; deeper is malformed.
pub const DEPTH_MAX: usize = 32;

/// How payloads are read for fields and filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// RFC 8259 text.
    #[default]
    Json,
    /// RFC 8949.
    Cbor,
    /// Opaque: no fields.
    Raw,
}

/// What a field is; the codes are those of the ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum FieldKind {
    /// No such field.
    #[default]
    Absent = field_kind::ABSENT,
    /// `null`; in CBOR also `undefined` and simple values without a meaning.
    Null = field_kind::NULL,
    /// `true` or `false`.
    Bool = field_kind::BOOL,
    /// A whole number that fits `i64`, however it is written (`20`, `20.0`, `2e1`).
    Int = field_kind::INT,
    /// Any other number.
    Float = field_kind::FLOAT,
    /// Text, or a CBOR byte string.
    String = field_kind::STRING,
    /// An array.
    Array = field_kind::ARRAY,
    /// An object or map.
    Object = field_kind::OBJECT,
}

impl FieldKind {
    /// The ABI's code, see [`weir_abi::field_kind`].
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

/// The payload is not what its codec says: the device's fault; the message becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Byte offset in the payload.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Malformed {}

/// How the bytes of a [`Value`] lie in the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    /// As they are.
    #[default]
    Plain,
    /// JSON text with escapes.
    Escaped,
    /// A CBOR string of indefinite length: definite chunks, each with its head.
    Chunked,
    /// An array or object in JSON.
    Json,
    /// An array or map in CBOR.
    Cbor,
}

/// One field of one payload: numbers by value, text by its place in that payload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Value {
    kind: FieldKind,
    form: Form,
    start: u32,
    end: u32,
    float: f64,
    int: i64,
}

impl Value {
    /// No such field.
    pub const ABSENT: Self = Self::new(FieldKind::Absent, 0, 0.0);

    const fn new(kind: FieldKind, int: i64, float: f64) -> Self {
        Self { kind, form: Form::Plain, start: 0, end: 0, float, int }
    }

    const fn null() -> Self {
        Self::new(FieldKind::Null, 0, 0.0)
    }

    const fn boolean(value: bool) -> Self {
        Self::new(FieldKind::Bool, value as i64, 0.0)
    }

    const fn whole(int: i64, float: f64) -> Self {
        Self::new(FieldKind::Int, int, float)
    }

    const fn float(float: f64) -> Self {
        Self::new(FieldKind::Float, 0, float)
    }

    /// Offsets are below `PAYLOAD_BYTES_MAX`, so nothing is cut.
    const fn span(kind: FieldKind, form: Form, start: usize, end: usize) -> Self {
        Self { kind, form, start: start as u32, end: end as u32, float: 0.0, int: 0 }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> FieldKind {
        self.kind
    }

    /// The number, rounded if `f64` cannot hold it; `None` for NaN and for what is not a number.
    #[must_use]
    pub fn f64(&self) -> Option<f64> {
        (matches!(self.kind, FieldKind::Int | FieldKind::Float) && !self.float.is_nan()).then_some(self.float)
    }

    /// The whole number, exactly.
    #[must_use]
    pub fn i64(&self) -> Option<i64> {
        (self.kind == FieldKind::Int).then_some(self.int)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        (self.kind == FieldKind::Bool).then_some(self.int != 0)
    }

    /// The bytes where they lie: of text without escapes, or the raw bytes of an array or object.
    #[must_use]
    pub fn in_place<'p>(&self, payload: &'p [u8]) -> Option<&'p [u8]> {
        let in_place = self.has_text() && !matches!(self.form, Form::Escaped | Form::Chunked);
        in_place.then(|| self.raw(payload))
    }

    /// Copies the unescaped text, or the raw bytes of an array or object, and answers the true length: `out` holds
    /// the first `min(length, out.len())` bytes. `None`: a number, `null`, a truth value, or absent.
    pub fn text(&self, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        if let Some(bytes) = self.in_place(payload) {
            let len = bytes.len().min(out.len());
            out[..len].copy_from_slice(&bytes[..len]);
            return Some(bytes.len());
        }
        let mut len = 0;
        for byte in self.text_bytes(payload)? {
            if let Some(slot) = out.get_mut(len) {
                *slot = byte;
            }
            len += 1;
        }
        Some(len)
    }

    /// The same bytes as [`Value::text`], one by one, without a buffer.
    #[must_use]
    pub fn text_bytes<'p>(&self, payload: &'p [u8]) -> Option<TextBytes<'p>> {
        self.has_text().then(|| TextBytes::new(self.form, self.raw(payload)))
    }

    /// Hands out the items of an array in order; nothing if this is no array. `payload` is the one it was read from.
    pub fn each_item(&self, payload: &[u8], out: &mut dyn FnMut(Value)) {
        let Some(payload) = payload.get(..self.end as usize) else { return };
        let mut items = Items { out };
        // The payload was checked when this value was read, so there is nothing new to report.
        let _ = match (self.kind, self.form) {
            (FieldKind::Array, Form::Json) => json::scan_value(payload, self.start as usize, &mut items),
            (FieldKind::Array, Form::Cbor) => cbor::scan_value(payload, self.start as usize, &mut items),
            _ => Ok(()),
        };
    }

    const fn has_text(&self) -> bool {
        matches!(self.kind, FieldKind::String | FieldKind::Array | FieldKind::Object)
    }

    fn raw<'p>(&self, payload: &'p [u8]) -> &'p [u8] {
        payload.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The slots that a scan fills: one for each [`PathId`]. Reused from message to message.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    slots: Vec<Value>,
    present: paths::Mask,
}

impl Fields {
    /// No slots yet; the first scan makes them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every field becomes absent.
    pub const fn clear(&mut self) {
        self.present = [0; PATHS_MAX / 64];
    }

    /// The field; [`Value::ABSENT`] if the payload has none or the id is not of the scanned set.
    #[must_use]
    #[inline]
    pub fn value(&self, id: PathId) -> Value {
        let present = self.present[id.index() / 64] >> (id.index() % 64) & 1 != 0;
        if present { self.slots[id.index()] } else { Value::ABSENT }
    }

    /// [`Value::kind`] of the field.
    #[must_use]
    pub fn kind(&self, id: PathId) -> FieldKind {
        self.value(id).kind()
    }

    /// [`Value::f64`] of the field.
    #[must_use]
    pub fn f64(&self, id: PathId) -> Option<f64> {
        self.value(id).f64()
    }

    /// [`Value::i64`] of the field.
    #[must_use]
    pub fn i64(&self, id: PathId) -> Option<i64> {
        self.value(id).i64()
    }

    /// [`Value::bool`] of the field.
    #[must_use]
    pub fn bool(&self, id: PathId) -> Option<bool> {
        self.value(id).bool()
    }

    /// [`Value::text`] of the field; `payload` is the one that was scanned.
    pub fn text(&self, payload: &[u8], id: PathId, out: &mut [u8]) -> Option<usize> {
        self.value(id).text(payload, out)
    }

    #[inline]
    fn put(&mut self, id: PathId, value: Value) {
        self.slots[id.index()] = value;
        self.present[id.index() / 64] |= 1 << (id.index() % 64);
    }

    #[inline]
    fn forget(&mut self, ids: &paths::Mask) {
        for (present, gone) in self.present.iter_mut().zip(ids) {
            *present &= !gone;
        }
    }
}

impl Paths {
    /// Reads `payload` once and fills a slot of `out` for every path of the set. [`Codec::Raw`] has no fields.
    ///
    /// # Errors
    /// When the payload is malformed anywhere; every field is absent then.
    pub fn scan(&self, codec: Codec, payload: &[u8], out: &mut Fields) -> Result<(), Malformed> {
        out.clear();
        if out.slots.len() < self.len() {
            out.slots.resize(self.len(), Value::ABSENT);
        }
        let scanned = scan(codec, payload, &mut paths::Fill { paths: self, out });
        if scanned.is_err() {
            out.clear();
        }
        scanned
    }
}

/// Why a late look-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// The guest's fault: the text is no path.
    Path(PathError),
    /// The device's fault: the payload is malformed.
    Payload(Malformed),
}

/// Reads one path that was not bound: a pass over the whole payload, without allocation.
///
/// # Errors
/// When `path` is no path, or the payload is malformed anywhere.
pub fn lookup(codec: Codec, payload: &[u8], path: &str) -> Result<Value, LookupError> {
    let mut one = One { steps: heapless::Vec::new(), found: Value::ABSENT };
    // `steps` hands out PATH_STEPS_MAX steps at most, which is the capacity.
    path::steps(path, |step| {
        let _ = one.steps.push(step);
    })
    .map_err(LookupError::Path)?;
    scan(codec, payload, &mut one).map_err(LookupError::Payload)?;
    Ok(one.found)
}

/// Largest payload that can be read: offsets are 32 bits.
const PAYLOAD_BYTES_MAX: usize = u32::MAX as usize;

fn scan<W: Wanted>(codec: Codec, payload: &[u8], wanted: &mut W) -> Result<(), Malformed> {
    match codec {
        Codec::Raw => Ok(()),
        _ if payload.len() > PAYLOAD_BYTES_MAX => Err(Malformed { at: PAYLOAD_BYTES_MAX, what: "longer than 4 GiB" }),
        Codec::Json => json::scan(payload, wanted),
        Codec::Cbor => cbor::scan(payload, wanted),
    }
}

/// A place in the tree of wanted paths.
type Node = u16;
/// The payload's outermost value.
const ROOT: Node = 0;
/// A place below which nothing is wanted.
const NONE: Node = Node::MAX;

/// What a scanner asks and tells while it walks the payload. Never asked about [`NONE`].
trait Wanted {
    /// The node of `key` below `node`, or [`NONE`]; `head` is [`head`] of the key.
    fn key(&self, node: Node, head: u64, key: &[u8]) -> Node;
    /// The node of an array place below `node`, or [`NONE`].
    fn place(&self, node: Node, place: u32) -> Node;
    /// A value begins at `node`: what an earlier duplicate of its key held is void.
    fn begin(&mut self, node: Node);
    /// The value at `node`.
    fn put(&mut self, node: Node, value: Value);
}

/// The first eight bytes of a key, little-endian, padded with zeros.
fn head(key: &[u8]) -> u64 {
    key.iter().take(8).rev().fold(0, |head, byte| head << 8 | u64::from(*byte))
}

/// [`head`] of the key that lies at `start..end`, by one load where the payload goes on for eight bytes.
#[inline]
fn head_at(bytes: &[u8], start: usize, end: usize) -> u64 {
    let len = end - start;
    match load8(bytes, start) {
        Some(word) if len >= 8 => word,
        Some(word) => word & ((1 << (len * 8)) - 1),
        None => head(&bytes[start..end]),
    }
}

/// Eight bytes from `at`, little-endian.
#[inline]
fn load8(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// One path, for [`lookup`]: the node is the number of steps taken.
struct One<'a> {
    steps: heapless::Vec<path::Step<'a>, PATH_STEPS_MAX>,
    found: Value,
}

impl Wanted for One<'_> {
    fn key(&self, node: Node, _: u64, key: &[u8]) -> Node {
        match self.steps.get(usize::from(node)) {
            Some(path::Step::Key(name)) if name.is(key) => node + 1,
            _ => NONE,
        }
    }

    fn place(&self, node: Node, place: u32) -> Node {
        match self.steps.get(usize::from(node)) {
            Some(path::Step::Place(wanted)) if *wanted == place => node + 1,
            _ => NONE,
        }
    }

    fn begin(&mut self, _: Node) {
        self.found = Value::ABSENT;
    }

    fn put(&mut self, node: Node, value: Value) {
        if usize::from(node) == self.steps.len() {
            self.found = value;
        }
    }
}

/// Every item of one array, for [`Value::each_item`].
struct Items<'a> {
    out: &'a mut dyn FnMut(Value),
}

/// The node that all items share.
const ITEM: Node = 1;

impl Wanted for Items<'_> {
    fn key(&self, _: Node, _: u64, _: &[u8]) -> Node {
        NONE
    }

    fn place(&self, node: Node, _: u32) -> Node {
        if node == ROOT { ITEM } else { NONE }
    }

    fn begin(&mut self, _: Node) {}

    fn put(&mut self, node: Node, value: Value) {
        if node == ITEM {
            (self.out)(value);
        }
    }
}
