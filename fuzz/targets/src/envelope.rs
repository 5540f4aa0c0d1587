//! Records as they lie in a lane, to JSON and CBOR; and the reader of envelopes.
//!
//! Input: one byte (bit 0: the rest is an envelope to be read; else it is a lane's bytes).

use weir::config::SinkFormat;
use weir::envelope::{Origin, parse, write};
use weir::record::{Record, RecordKind};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\"v\":1",
    b"\"kind\":\"aggregate\"",
    b"\"kind\":\"message\"",
    b"\"seq\":42",
    b"\"sketch\":{",
    b"\"positive\":[[1,2]]",
    b"\"negative\":[[-2147483648,4294967295]]",
    b"\"level\":255",
    b"\"sum\":1e308",
    b"\"count\":18446744073709551615",
    b"\"base64\":\"/w==\"",
    b"\x01",
    b"\x02",
    b"\x03",
    b"\x04",
    b"\x05",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"{}",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\n",
    b"\x01\x01\x01",
];

pub(crate) fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    if how & 1 == 1 {
        return read(bytes);
    }
    let mut rest = bytes;
    while let Some(record) = Record::take(&mut rest) {
        check(&record);
    }
    // The payload's own forms, without the frame around them that mutations would have to get right.
    for code in 1..=5 {
        let kind = RecordKind::from_code(code).expect("there are five kinds");
        check(&Record {
            kind,
            closes_message: false,
            at_ms: -1,
            quality: weir::time::TimeQuality::Unset,
            hops: how >> 1,
            source: "f",
            topic: "a/b",
            payload: bytes,
        });
    }
}

/// Whatever a record's bytes are, it gives one document, and what was read of it comes back.
fn check(record: &Record<'_>) {
    let origin = Origin { gateway: "gw", store: "0badcafe", lane: "telemetry", seq: 42 };
    let mut json = Vec::new();
    write(SinkFormat::Json, origin, record, &mut json);
    let text = core::str::from_utf8(&json).expect("JSON is text");
    assert!(!text.contains(['\n', '\r']), "one line: {text:?}");
    let parsed = parse(&json).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((parsed.kind, parsed.seq, parsed.at_ms), (record.kind, 42, record.at_ms));
    assert_eq!((parsed.topic.as_str(), parsed.source.as_str()), (record.topic, record.source));
    let damaged = parsed.fields.contains_key("damaged");
    match record.kind {
        RecordKind::Message => {
            let payload = parsed.payload().expect("a message has its payload");
            let same = payload == record.payload
                || serde_json::from_slice::<serde_json::Value>(&payload).ok()
                    == serde_json::from_slice::<serde_json::Value>(record.payload).ok();
            assert!(same, "{payload:?} {:?}", record.payload);
        }
        RecordKind::Aggregate if !damaged => {
            // Numbers that are no numbers have no form in JSON; all others can be read and merged.
            if let Ok(aggregate) = parsed.aggregate() {
                let mut out = Vec::new();
                aggregate.as_aggregate().encode(&mut out);
            }
        }
        _ => {}
    }
    let mut cbor = Vec::new();
    write(SinkFormat::Cbor, origin, record, &mut cbor);
    let mut decoder = minicbor::Decoder::new(&cbor);
    decoder.skip().unwrap_or_else(|error| panic!("{error}: {cbor:02x?}"));
    assert_eq!(decoder.position(), cbor.len());
}

fn read(bytes: &[u8]) {
    let Ok(parsed) = parse(bytes) else { return };
    let _ = parsed.payload();
    if let Ok(aggregate) = parsed.aggregate() {
        let mut out = Vec::new();
        aggregate.as_aggregate().encode(&mut out);
        let _ = (aggregate.stats.mean(), aggregate.stats.variance(), aggregate.stats.quantile(0.5));
    }
}
