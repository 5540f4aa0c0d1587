//! Host calls: a guest that makes any of them, in any order, with any arguments.
//!
//! Input: one byte of settings; then steps, as far as a byte `fe`: of `on_start`, and behind it of `on_event`, as far as another
//! `fe`; the rest is the payload. A step is the call's number and a byte for each argument, or one of the moves in [`Script::step`].

use weir::field::Codec;
use weir::function::host::Call;

use crate::guest::{exercise, module, signed, unsigned};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\xfe",
    b"\x00\x00\x01",
    b"\x0c\x02\x03\x04\x05",
    b"\x11\x02\x03\x04\x05",
    b"\xf0\x01",
    b"\xf1\x02",
    b"\xf2",
    b"\xf3\x05",
    b"\xf4\x01",
    b"{\"a\":1}",
    b"{\"a\":{\"b\":[1,\"x\\n\",null]},\"temp\":21.5}",
    b"\xa1\x61a\x01",
    b"\x11",
    b"\x13",
    b"\x0d\x00\x02\x03\x00",
    b"\x1c",
];

/// What lies in memory from 16 on.
pub(crate) const TEXT: &[u8] =
    b"out/a\0\0\0a.b[0]\0\0.\0\0\0\0\0\0\0temp\0\0\0\0limit\0\0\0place\0\0\0count\0\0\0level\0\0\0spread\0\0a\0\0\0\0\0\0\0\xff\xfe\0\0\0\0\0\0in/x";

/// The local of the last result, and that of the counter: behind a handler's parameter, if it has one.
#[derive(Clone, Copy)]
struct Locals {
    last: u8,
    counter: u8,
}

struct Script<'a> {
    bytes: &'a [u8],
    code: Vec<u8>,
    locals: Locals,
}

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn i32(&mut self, value: i32) {
        self.code.push(0x41);
        signed(&mut self.code, value.into());
    }

    /// One step; `None`: there is no other.
    fn step(&mut self) -> Option<()> {
        match self.next()? {
            // The last result as it is, or the first bytes of memory, become an argument of what follows.
            0xf0 => {
                let value = self.next().map_or(0, i32::from);
                self.i32(value * 8);
                self.code.extend([0x28, 2, 0, 0x21, self.locals.last]);
            }
            // Memory is written: a byte at a place.
            0xf1 => {
                let (at, value) = (self.next().map_or(0, i32::from), self.next().map_or(0, i32::from));
                self.i32(at);
                self.i32(value);
                self.code.extend([0x3a, 0, 0]);
            }
            // Memory grows by a page.
            0xf2 => self.code.extend([0x41, 1, 0x40, 0, 0x1a]),
            // The next step, some hundred times.
            0xf3 => {
                let times = 1 + self.next().map_or(0, i32::from);
                self.i32(times);
                self.code.extend([0x21, self.locals.counter, 0x03, 0x40]);
                let inner = self.next();
                self.call(inner.unwrap_or(0));
                self.code.extend([0x20, self.locals.counter, 0x41, 1, 0x6b, 0x22, self.locals.counter, 0x0d, 0, 0x0b]);
            }
            // A return with the last result, if it is even.
            0xf4 => self.code.extend([
                0x20,
                self.locals.last,
                0x41,
                1,
                0x71,
                0x45,
                0x04,
                0x40,
                0x20,
                self.locals.last,
                0x0f,
                0x0b,
            ]),
            0xf5 => self.code.push(0x00),
            number => self.call(number),
        }
        Some(())
    }

    fn call(&mut self, number: u8) {
        let index = usize::from(number) % Call::ALL.len();
        let (params, results) = Call::ALL[index].signature();
        for param in params {
            let choice = self.next().unwrap_or(0);
            self.argument(&param.to_string(), choice);
        }
        self.code.push(0x10);
        unsigned(&mut self.code, index as u64);
        for result in results {
            match result.to_string().as_str() {
                "i32" => {}
                // Whole numbers and floats become the last result too.
                "i64" => self.code.push(0xa7),
                _ => self.code.extend([0xfc, 2]),
            }
            self.code.extend([0x21, self.locals.last]);
        }
    }

    fn argument(&mut self, ty: &str, choice: u8) {
        const FLOATS: [f64; 10] =
            [0.0, -0.0, 1.0, -1.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, 21.5];
        const EDGES: [i32; 14] =
            [-1, -2, i32::MIN, i32::MAX, 65_535, 65_536, 65_528, 65_537, 1 << 24, 4096, 4097, 256, 257, 1 << 16 | 8];
        match (ty, choice) {
            ("f64", choice) => {
                self.code.push(0x44);
                self.code.extend(FLOATS[usize::from(choice) % FLOATS.len()].to_le_bytes());
            }
            // Small numbers are lengths and codes, multiples of eight lie on the text.
            (_, 0..32) => self.i32(choice.into()),
            (_, 32..64) => self.i32(i32::from(choice - 32) * 8 + 16),
            (_, 64..96) => self.i32(EDGES[usize::from(choice) % EDGES.len()]),
            (_, 96..112) => self.code.extend([0x20, self.locals.last]),
            (_, 112..128) => self.code.extend([0x20, self.locals.counter]),
            _ => self.i32(i32::from(choice) * 4),
        }
    }
}

/// The steps of a handler, and what is left of the bytes.
fn handler(bytes: &[u8], parameters: u8) -> (Vec<u8>, &[u8]) {
    let (steps, rest) = crate::split_at(bytes, 0xfe);
    let locals = Locals { last: parameters, counter: parameters + 1 };
    let mut script = Script { bytes: &steps[..steps.len().min(600)], code: Vec::new(), locals };
    while script.step().is_some() {}
    // The verdict: the last result's lowest bits, so that most of them are verdicts.
    let code = [script.code, vec![0x20, locals.last, 0x41, 3, 0x71]].concat();
    (code, rest)
}

pub(crate) fn run(data: &[u8]) {
    let Some((settings, rest)) = data.split_first() else { return };
    let (start, rest) = handler(rest, 0);
    let (event, payload) = handler(rest, 1);
    // A start that answers anything but 0 or more refuses.
    let wasm = module(&start, &event, TEXT);
    let codec = [Codec::Json, Codec::Cbor, Codec::Raw][usize::from(*settings) % 3];
    exercise(&wasm, codec, payload);
}
