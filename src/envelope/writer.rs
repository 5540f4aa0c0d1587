//! One way of writing for two formats: maps, arrays and scalars as JSON text or as CBOR items (RFC 8949).
//!
//! - JSON is written without white space, on one line. A number that is not finite would be `null`; there is none.
//! - CBOR maps and arrays have indefinite length, so that nothing is counted in advance.

use core::fmt;

use minicbor::encode::Encoder;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::base64;
use crate::config::SinkFormat;
use crate::window::sum::Sum;

/// Appends to a buffer. Whoever calls it nests rightly: that is not checked.
pub(super) struct Writer<'a> {
    cbor: bool,
    /// Where the document begins in `out`.
    begin: usize,
    out: &'a mut Vec<u8>,
}

/// A CBOR encoder over memory cannot fail.
macro_rules! cbor {
    ($self:ident.$call:ident($($argument:expr)?)) => {
        Encoder::new(&mut *$self.out).$call($($argument)?).map(drop).expect("memory takes everything")
    };
}

impl<'a> Writer<'a> {
    pub fn new(format: SinkFormat, out: &'a mut Vec<u8>) -> Self {
        Self { cbor: format == SinkFormat::Cbor, begin: out.len(), out }
    }

    /// The comma before whatever is not the first in its map or array.
    fn separate(&mut self) {
        if !matches!(self.out[self.begin..].last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    pub fn begin_map(&mut self) {
        if self.cbor {
            return cbor!(self.begin_map());
        }
        self.separate();
        self.out.push(b'{');
    }

    pub fn end_map(&mut self) {
        if self.cbor { cbor!(self.end()) } else { self.out.push(b'}') }
    }

    pub fn begin_array(&mut self) {
        if self.cbor {
            return cbor!(self.begin_array());
        }
        self.separate();
        self.out.push(b'[');
    }

    pub fn end_array(&mut self) {
        if self.cbor { cbor!(self.end()) } else { self.out.push(b']') }
    }

    /// The key of the next value.
    pub fn key(&mut self, key: &str) {
        self.str(key);
        if !self.cbor {
            self.out.push(b':');
        }
    }

    fn str(&mut self, text: &str) {
        if self.cbor {
            return cbor!(self.str(text));
        }
        self.separate();
        serde_json::to_writer(&mut *self.out, text).expect("memory takes every text");
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.cbor {
            return cbor!(self.bytes(bytes));
        }
        self.separate();
        self.out.push(b'"');
        base64::encode(bytes, self.out);
        self.out.push(b'"');
    }

    pub fn u64(&mut self, number: u64) {
        if self.cbor { cbor!(self.u64(number)) } else { self.plain(format_args!("{number}")) }
    }

    pub fn i64(&mut self, number: i64) {
        if self.cbor { cbor!(self.i64(number)) } else { self.plain(format_args!("{number}")) }
    }

    fn f64(&mut self, number: f64) {
        if self.cbor {
            return cbor!(self.f64(number));
        }
        self.separate();
        serde_json::to_writer(&mut *self.out, &number).expect("memory takes every number");
    }

    fn plain(&mut self, text: fmt::Arguments<'_>) {
        use std::io::Write;
        self.separate();
        self.out.write_fmt(text).expect("memory takes everything");
    }

    pub fn field_str(&mut self, key: &str, text: &str) {
        self.key(key);
        self.str(text);
    }

    pub fn field_u64(&mut self, key: &str, number: u64) {
        self.key(key);
        self.u64(number);
    }

    pub fn field_i64(&mut self, key: &str, number: i64) {
        self.key(key);
        self.i64(number);
    }

    pub fn field_f64(&mut self, key: &str, number: f64) {
        self.key(key);
        self.f64(number);
    }

    pub fn field_bool(&mut self, key: &str, truth: bool) {
        self.key(key);
        if self.cbor { cbor!(self.bool(truth)) } else { self.plain(format_args!("{truth}")) }
    }

    /// A sum: in JSON all its decimals where they are known exactly, so that readers with decimals add up exactly.
    pub fn field_sum(&mut self, key: &str, sum: &Sum) {
        match sum.exact_micros().filter(|_| !self.cbor) {
            None => self.field_f64(key, sum.to_f64()),
            Some(micros) => {
                self.key(key);
                let sign = if micros < 0 { "-" } else { "" };
                let (whole, part) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
                if part == 0 {
                    self.plain(format_args!("{sign}{whole}"));
                } else {
                    let part = format!("{part:06}");
                    self.plain(format_args!("{sign}{whole}.{}", part.trim_end_matches('0')));
                }
            }
        }
    }

    /// Bytes: in JSON as `KEY_base64` (or `base64`, for no key).
    pub fn field_bytes(&mut self, key: &str, bytes: &[u8]) {
        match (self.cbor, key) {
            (true, "") => self.key("bytes"),
            (true, key) => self.key(key),
            (false, "") => self.key("base64"),
            (false, key) => self.key(&format!("{key}_base64")),
        }
        self.bytes(bytes);
    }

    /// Bytes that are mostly text.
    pub fn field_text_or_bytes(&mut self, key: &str, bytes: &[u8]) {
        match core::str::from_utf8(bytes) {
            Ok(text) => self.field_str(key, text),
            Err(_) => self.field_bytes(key, bytes),
        }
    }

    /// A payload: JSON as it is (without white space), other text as `text`, other bytes as `base64`. In CBOR: bytes.
    pub fn field_payload(&mut self, key: &str, payload: &[u8]) {
        if self.cbor {
            return self.field_bytes(key, payload);
        }
        if serde_json::from_slice::<Taken>(payload).is_err() || core::str::from_utf8(payload).is_err() {
            return self.field_opaque_payload(payload);
        }
        self.key(key);
        copy_dense(payload, self.out);
    }

    /// A payload that is not to be read as JSON: `text`, or `base64`. In CBOR: bytes.
    pub fn field_opaque_payload(&mut self, payload: &[u8]) {
        match core::str::from_utf8(payload) {
            _ if self.cbor => self.field_bytes("payload", payload),
            Ok(text) => self.field_str("text", text),
            Err(_) => self.field_bytes("", payload),
        }
    }
}

/// Copies JSON without the white space between tokens, so that it stays on one line.
fn copy_dense(json: &[u8], out: &mut Vec<u8>) {
    let (mut quoted, mut escaped) = (false, false);
    for byte in json {
        if !quoted && byte.is_ascii_whitespace() {
            continue;
        }
        out.push(*byte);
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
    }
}

/// JSON that a strict reader takes: nested at most 127 deep, numbers within `f64`, no halves of surrogate pairs.
struct Taken;

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TakenVisitor)
    }
}

struct TakenVisitor;

impl<'de> Visitor<'de> for TakenVisitor {
    type Value = Taken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Taken, E> {
        Ok(Taken)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Taken, E> {
        Ok(Taken)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Taken, E> {
        Ok(Taken)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Taken, E> {
        Ok(Taken)
    }
    fn visit_str<E>(self, _: &str) -> Result<Taken, E> {
        Ok(Taken)
    }
    fn visit_unit<E>(self) -> Result<Taken, E> {
        Ok(Taken)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Taken, A::Error> {
        while items.next_element::<Taken>()?.is_some() {}
        Ok(Taken)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Taken, A::Error> {
        while items.next_entry::<Taken, Taken>()?.is_some() {}
        Ok(Taken)
    }
}
