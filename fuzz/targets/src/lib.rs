//! What is fuzzed, as plain functions of bytes: libFuzzer (`fuzz/`), the runner on stable (`src/main.rs`) and the tests
//! (`tests/corpus.rs`) call the same ones.
//!
//! - A target takes any bytes, and panics if something is wrong: with the reader of those bytes, or between two readers of them.
//! - A target is a function of its bytes alone: no clock, no file, no chance.
//! - Its seeds are text and small binary in `fuzz/corpus/NAME/`; wasm modules are made from them, never kept.
#![forbid(unsafe_code)]

mod calls;
mod cbor;
mod config;
mod envelope;
mod filters;
mod guest;
mod json;
pub mod mutate;
mod packets;
mod modules;
mod printable;
mod restore;
mod sites;
mod store;
mod topics;

use mutate::Recipe;

/// One thing to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of the libFuzzer harness, of its corpus, and of the argument.
    pub name: &'static str,
    /// What it reads and what it holds against what.
    pub about: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// How inputs are made from seeds where no coverage guides.
    pub recipe: Recipe,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "config",
        about: "gateway.toml, function.toml and a board to a plan: refused with faults, or within the board's room",
        run: config::run,
        recipe: Recipe { bytes_max: 8 << 10, words: config::WORDS },
    },
    Target {
        name: "topics",
        about: "topic names and filters: check, match, overlap, cover and the trigger index against a plain model",
        run: topics::run,
        recipe: Recipe { bytes_max: 512, words: topics::WORDS },
    },
    Target {
        name: "filters",
        about: "event-filter patterns: reading, and matching against a naive evaluator over serde_json",
        run: filters::run,
        recipe: Recipe { bytes_max: 2 << 10, words: filters::WORDS },
    },
    Target {
        name: "json",
        about: "the JSON field reader against serde_json",
        run: json::run,
        recipe: Recipe { bytes_max: 2 << 10, words: json::WORDS },
    },
    Target {
        name: "cbor",
        about: "the CBOR field reader against minicbor",
        run: cbor::run,
        recipe: Recipe { bytes_max: 2 << 10, words: cbor::WORDS },
    },
    Target {
        name: "store",
        about: "a store of damaged or forged files: opens, reads, commits, and opens again with what was committed",
        run: store::run,
        recipe: Recipe { bytes_max: 4 << 10, words: store::WORDS },
    },
    Target {
        name: "modules",
        about: "the module loader: raw bytes, damaged modules, and modules of wasm-smith, which are also called",
        run: modules::run,
        recipe: Recipe { bytes_max: 4 << 10, words: modules::WORDS },
    },
    Target {
        name: "calls",
        about: "host calls: guests that make any of them in any order with any arguments, twice, with the same outcome",
        run: calls::run,
        recipe: Recipe { bytes_max: 1 << 10, words: calls::WORDS },
    },
    Target {
        name: "packets",
        about: "the MQTT packet decoder of both versions, in pieces and at once",
        run: packets::run,
        recipe: Recipe { bytes_max: 2 << 10, words: packets::WORDS },
    },
    Target {
        name: "envelope",
        about: "records as they lie in a lane, to JSON and CBOR and back; and the reader of envelopes",
        run: envelope::run,
        recipe: Recipe { bytes_max: 2 << 10, words: envelope::WORDS },
    },
    Target {
        name: "printable",
        about: "text of others in a line of the log",
        run: printable::run,
        recipe: Recipe { bytes_max: 1 << 10, words: printable::WORDS },
    },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Splits `data` at the first `at`: before and behind it.
fn split_at(data: &[u8], at: u8) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == at) {
        Some(place) => (&data[..place], &data[place + 1..]),
        None => (data, &[]),
    }
}
