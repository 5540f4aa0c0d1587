//! Nanoseconds to read fields of payloads and to evaluate a filter.
//!
//! `cargo bench --no-default-features --bench fields`
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use weir::field::{Codec, Fields, Path, Paths, lookup};
use weir::filter::Pattern;

const SMALL: &str =
    r#"{"device":"boiler-17","ts":1718000000123,"temp":21.53,"hum":44.8,"bat":3.61,"seq":48213,"fw":"1.4.2"}"#;
const MIDDLE: &str = r#"{"id":"a7f3-22","site":"plant-4","line":7,"temp":21.53,"hum":44.8,"press":1013.25,"vib":{"x":0.012,"y":-0.031,"z":9.807},"state":"running","alarms":[],"bat":3.61,"rssi":-71,"fw":"1.4.2-rc1","ts":1718000000123}"#;

fn main() {
    println!("{:<44} {:>6} {:>9}", "what", "bytes", "ns");
    scan("1 field", Codec::Json, SMALL.as_bytes(), &["temp"]);
    scan("3 fields", Codec::Json, SMALL.as_bytes(), &["temp", "hum", "ts"]);
    scan("no field (check only)", Codec::Json, MIDDLE.as_bytes(), &[]);
    scan("1 field", Codec::Json, MIDDLE.as_bytes(), &["temp"]);
    scan("3 fields", Codec::Json, MIDDLE.as_bytes(), &["temp", "hum", "ts"]);
    scan("8 fields", Codec::Json, MIDDLE.as_bytes(), &["id", "temp", "hum", "press", "vib.x", "vib.z", "state", "ts"]);
    let cbor = cbor_of(MIDDLE);
    scan("3 fields, CBOR", Codec::Cbor, &cbor, &["temp", "hum", "ts"]);
    time("serde_json::from_slice::<Value>", MIDDLE.len(), || {
        black_box(serde_json::from_slice::<serde_json::Value>(black_box(MIDDLE.as_bytes())).unwrap());
    });
    time("lookup of 1 field", MIDDLE.len(), || {
        black_box(lookup(Codec::Json, black_box(MIDDLE.as_bytes()), "ts").unwrap());
    });
    filter();
}

fn scan(what: &str, codec: Codec, payload: &[u8], wanted: &[&str]) {
    let mut paths = Paths::new();
    for path in wanted {
        paths.add(&Path::parse(path).unwrap()).unwrap();
    }
    let mut fields = Fields::new();
    time(what, payload.len(), || {
        paths.scan(codec, black_box(payload), &mut fields).unwrap();
        black_box(&fields);
    });
}

fn filter() {
    let pattern = serde_json::json!({
        "topic": [{"prefix": "plant/"}],
        "payload": {"temp": [{"numeric": [">", 20]}], "state": ["running", "starting"]},
    });
    let mut paths = Paths::new();
    let pattern = Pattern::parse(&pattern).unwrap().bind(&mut paths).unwrap();
    let mut fields = Fields::new();
    paths.scan(Codec::Json, MIDDLE.as_bytes(), &mut fields).unwrap();
    time("filter: 3 keys, fields read before", MIDDLE.len(), || {
        assert!(pattern.matches(black_box(&fields), MIDDLE.as_bytes(), black_box("plant/4/7"), "a7f3-22"));
    });
}

/// Prints the best of many short rounds: what the machine does when nothing else runs.
fn time(what: &str, bytes: usize, mut run: impl FnMut()) {
    const ROUND: u32 = 1_000;
    let best = (0..2_000)
        .map(|_| {
            let start = Instant::now();
            (0..ROUND).for_each(|_| run());
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("{what:<44} {bytes:>6} {:>9.1}", best.as_secs_f64() * 1e9 / f64::from(ROUND));
}

fn cbor_of(json: &str) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encode(&serde_json::from_str(json).unwrap(), &mut encoder);
    encoder.into_writer()
}

fn encode(value: &serde_json::Value, out: &mut minicbor::Encoder<Vec<u8>>) {
    use serde_json::Value;
    match value {
        Value::Null => drop(out.null().unwrap()),
        Value::Bool(value) => drop(out.bool(*value).unwrap()),
        Value::Number(number) => match number.as_i64() {
            Some(int) => drop(out.i64(int).unwrap()),
            None => drop(out.f64(number.as_f64().unwrap()).unwrap()),
        },
        Value::String(text) => drop(out.str(text).unwrap()),
        Value::Array(items) => {
            out.array(items.len() as u64).unwrap();
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Object(entries) => {
            out.map(entries.len() as u64).unwrap();
            for (key, value) in entries {
                out.str(key).unwrap();
                encode(value, out);
            }
        }
    }
}
