//! Documents against the schema of `docs/upstream.md`.

use std::borrow::Cow;

use super::*;
use crate::config::Qos;
use crate::function::usage::Usage;
use crate::window::REVISION_LATENESS;
use crate::window::sketch::Mapping;

const ORIGIN: Origin<'static> = Origin { gateway: "gw-1", store: "0badcafe", lane: "telemetry", seq: 42 };
const RECORD: Record<'static> = Record {
    kind: RecordKind::Message,
    closes_message: true,
    at_ms: 1_767_225_600_000,
    quality: TimeQuality::Synced,
    hops: 0,
    source: "",
    topic: "a/b",
    payload: b"",
};
const HEAD: &str = r#"{"v":1,"gateway":"gw-1","store":"0badcafe","lane":"telemetry","seq":42,"kind":"KIND","at":1767225600000,"quality":"synced","topic":"a/b""#;

fn json(record: &Record<'_>) -> String {
    // What is already in the buffer is left alone.
    let mut out = b"}".to_vec();
    write(SinkFormat::Json, ORIGIN, record, &mut out);
    String::from_utf8(out.split_off(1)).unwrap()
}

/// The document, which must begin with the common head, without it.
fn tail(kind: &str, record: &Record<'_>) -> String {
    let json = json(record);
    assert!(!json.contains('\n'));
    parse(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
    json.strip_prefix(&HEAD.replace("KIND", kind)).unwrap_or_else(|| panic!("{json}")).to_string()
}

fn aggregate(kind: MeterKind, key: &[u8], values: &[f64]) -> Vec<u8> {
    let mut stats = Stats::default();
    for (at_ms, value) in (60_000..).zip(values) {
        stats.fold(kind, &Mapping::default(), at_ms, *value);
    }
    let mut out = Vec::new();
    Aggregate {
        meter: "energy.power",
        unit: "W",
        kind,
        key,
        start_ms: 60_000,
        end_ms: 120_000,
        revision: REVISION_LATENESS,
        quality: TimeQuality::Restored,
        stats: Cow::Owned(stats),
    }
    .encode(&mut out);
    out
}

#[test]
fn a_messages_payload_is_json_or_text_or_base64() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let table: [(&[u8], &str); 12] = [
        (b"{\"t\": 21.5,\n \"s\": \"a \\\" b\"}", r#","payload":{"t":21.5,"s":"a \" b"}}"#),
        (b" 5 ", r#","payload":5}"#),
        (b"\"x\\\\\" ", r#","payload":"x\\"}"#),
        (b"", r#","text":""}"#),
        (b"on", r#","text":"on"}"#),
        (b"{\"t\":}", r#","text":"{\"t\":}"}"#),
        (b"NaN", r#","text":"NaN"}"#),
        (b"1e999", r#","text":"1e999"}"#),
        (br#"{"a":"\ud800"}"#, r#","text":"{\"a\":\"\\ud800\"}"}"#),
        (b"\x00line\n", r#","text":"\u0000line\n"}"#),
        (b"\xff\x00", r#","base64":"/wA="}"#),
        (deep.as_bytes(), &format!(r#","text":"{deep}"}}"#)),
    ];
    for (payload, expected) in table {
        assert_eq!(tail("message", &Record { payload, ..RECORD }), expected);
    }
    assert_eq!(
        tail("message", &Record { payload: b"1", source: "threshold", hops: 2, ..RECORD }),
        r#","source":"threshold","hops":2,"payload":1}"#
    );
}

#[test]
fn aggregates_tell_what_their_kind_keeps() {
    let record = Record { kind: RecordKind::Aggregate, ..RECORD };
    let common = r#","meter":"energy.power","unit":"W","type":"TYPE","key":"m-1","start":60000,"end":120000,"revision":1,"late":false,"window_quality":"restored""#;
    let gauge =
        r#","min":0.1,"max":0.3,"mean":0.19999999999999998,"first":0.1,"first_at":60000,"last":0.2,"last_at":60002"#;
    let table: [(MeterKind, &str, &[&str]); 3] = [
        (MeterKind::Counter, "counter", &[r#","count":3,"sum":0.6}"#]),
        (MeterKind::Gauge, "gauge", &[r#","count":3,"sum":0.6"#, gauge, "}"]),
        (
            MeterKind::Distribution,
            "distribution",
            &[
                r#","count":3,"sum":0.6"#,
                gauge,
                r#","variance":0.006666"#,
                r#","p50":"#,
                r#","sketch":{"accuracy":0.0"#,
            ],
        ),
    ];
    for (kind, name, parts) in table {
        let payload = aggregate(kind, b"m-1", &[0.1, 0.3, 0.2]);
        let mut rest = tail("aggregate", &Record { payload: &payload, ..record });
        for part in [common.replace("TYPE", name).as_str()].iter().chain(parts) {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part} not in {rest}"));
            rest = rest.split_off(at + part.len());
        }
    }
    let payload = aggregate(MeterKind::Counter, b"\xff", &[-1.5, -2.25]);
    let document = json(&Record { payload: &payload, ..record });
    assert!(document.contains(r#""key_base64":"/w==""#) && document.contains(r#""sum":-3.75"#), "{document}");
}

#[test]
fn an_aggregate_read_back_merges_as_the_original() {
    let values: Vec<f64> = (-40..60).map(|n| f64::from(n) * 1.37).chain([1e300, -1e-300, 0.0]).collect();
    for kind in [MeterKind::Counter, MeterKind::Gauge, MeterKind::Distribution] {
        for values in [&values[..], &values[..100], &[5.0]] {
            let payload = aggregate(kind, b"m-1", values);
            let document = json(&Record { kind: RecordKind::Aggregate, payload: &payload, ..RECORD });
            let parsed = parse(document.as_bytes()).unwrap();
            assert_eq!((parsed.gateway.as_str(), parsed.seq, parsed.at_ms), ("gw-1", 42, RECORD.at_ms));
            let mut original = Aggregate::decode(&payload).unwrap();
            let parsed = parsed.aggregate().unwrap();
            assert_eq!(parsed.stats.sum.to_f64(), original.stats.sum.to_f64());
            original.stats.to_mut().sum = parsed.stats.sum;
            assert_eq!(parsed.as_aggregate(), original);
        }
    }
}

#[test]
fn sums_are_written_with_all_their_decimals() {
    for (values, expected) in [
        (&[9_007_199_254_740_991.0, 0.125][..], r#""sum":9007199254740991.125}"#),
        (&[-0.25, 0.2], r#""sum":-0.05}"#),
        (&[1.0 / 3.0], r#""sum":0.3333333333333333}"#),
        (&[0.000_001], r#""sum":0.000001}"#),
        (&[f64::MAX, f64::MAX], r#""sum":1.7976931348623157e+308}"#),
    ] {
        let payload = aggregate(MeterKind::Counter, b"k", values);
        let document = json(&Record { kind: RecordKind::Aggregate, payload: &payload, ..RECORD });
        assert!(document.ends_with(expected), "{document}");
    }
}

#[test]
fn the_largest_numbers_leave_the_document_json() {
    let payload = aggregate(MeterKind::Distribution, b"k", &[f64::MAX, f64::MIN, f64::MAX]);
    let document = json(&Record { kind: RecordKind::Aggregate, payload: &payload, ..RECORD });
    assert!(!document.contains("null") && !document.contains("inf"));
    assert!(parse(document.as_bytes()).unwrap().aggregate().is_ok());
}

#[test]
fn dead_letters_losses_and_usage_have_fields_of_their_own() {
    let letter = |payload: &[u8], payload_len| {
        let mut out = Vec::new();
        DeadLetter {
            function: "f".into(),
            version: "2".into(),
            kind: "trap".into(),
            message: "unreachable in on_event".into(),
            topic: "s/1".into(),
            device: "1".into(),
            digest: 10,
            at_ms: 7,
            event_ms: 5,
            quality: TimeQuality::Synced,
            time_from_payload: true,
            event: EventKind::Message,
            sequence: 9,
            seed: u64::MAX,
            hops: 0,
            chained: false,
            retained: true,
            qos: Qos::ExactlyOnce,
            codec: Codec::Cbor,
            payload_len,
            truncated: payload_len != payload.len() as u64,
            payload: payload.into(),
        }
        .encode(&mut out);
        tail("dead-letter", &Record { kind: RecordKind::DeadLetter, payload: &out, ..RECORD })
    };
    let head = r#","function":"f","version":"2","error":"trap","message":"unreachable in on_event","device":"1","message_topic":"s/1","failed_at":7,"event_at":5,"time_from_payload":true,"event":"message","sequence":9,"seed":"ffffffffffffffff","digest":"000000000000000a","chained":false,"retained":true,"qos":2,"codec":"cbor""#;
    assert_eq!(letter(b"12", 2), format!(r#"{head},"payload_len":2,"truncated":false,"payload":12}}"#));
    assert_eq!(letter(b"12", 3), format!(r#"{head},"payload_len":3,"truncated":true,"text":"12"}}"#));
    assert_eq!(letter(b"\xc3", 3), format!(r#"{head},"payload_len":3,"truncated":true,"base64":"ww=="}}"#));

    let mut payload = Vec::new();
    Loss { reason: "lane-full".into(), records: 3, messages: 2, first_seq: 5, through_seq: 7 }.encode(&mut payload);
    assert_eq!(
        tail("loss", &Record { kind: RecordKind::Loss, payload: &payload, ..RECORD }),
        r#","reason":"lane-full","records":3,"messages":2,"first_seq":5,"through_seq":7}"#
    );

    payload.clear();
    let mut usage = Usage { invocations: 9, fuel: 5000, ..Usage::default() };
    usage.errors[ErrorKind::OutOfFuel as usize] = 2;
    UsageRecord { start_ms: 1, end_ms: 2, usage }.encode(&mut payload);
    assert_eq!(
        tail("usage", &Record { kind: RecordKind::Usage, payload: &payload, ..RECORD }),
        r#","start":1,"end":2,"invocations":9,"errors":{"out-of-fuel":2},"fuel":5000,"time_us":0,"bytes_in":0,"bytes_out":0,"peak_memory":0,"instances":0}"#
    );
}

#[test]
fn what_cannot_be_read_is_sent_as_damaged() {
    for kind in [RecordKind::Aggregate, RecordKind::DeadLetter, RecordKind::Loss, RecordKind::Usage] {
        let document = json(&Record { kind, payload: b"\x09", ..RECORD });
        assert!(document.ends_with(r#","damaged":true,"base64":"CQ=="}"#), "{document}");
    }
}

#[test]
fn cbor_has_the_same_fields() {
    let payload = aggregate(MeterKind::Distribution, b"m-1", &[1.5, -2.0, 0.0]);
    for (record, fields) in [
        (Record { payload: b"{\"t\": 1}", ..RECORD }, 10),
        (Record { kind: RecordKind::Aggregate, payload: &payload, ..RECORD }, 9 + 9 + 2 + 7 + 2 + 4 + 1),
        (Record { kind: RecordKind::Loss, payload: b"?", ..RECORD }, 11),
    ] {
        let mut out = Vec::new();
        write(SinkFormat::Cbor, ORIGIN, &record, &mut out);
        let mut decoder = minicbor::Decoder::new(&out);
        assert_eq!(decoder.map().unwrap(), None, "a map of indefinite length");
        let mut seen = 0;
        while decoder.datatype().unwrap() != minicbor::data::Type::Break {
            let key = decoder.str().unwrap();
            match key {
                "store" => assert_eq!(decoder.str().unwrap(), "0badcafe"),
                "seq" => assert_eq!(decoder.u64().unwrap(), 42),
                "sum" => assert_eq!(decoder.f64().unwrap(), -0.5),
                "payload" => assert_eq!(decoder.bytes().unwrap(), b"{\"t\": 1}"),
                _ => decoder.skip().unwrap(),
            }
            seen += 1;
        }
        decoder.skip().unwrap();
        assert_eq!((seen, decoder.position()), (fields, out.len()));
    }
}

#[test]
fn a_record_without_a_store_is_one_all_the_same() {
    let mut out = Vec::new();
    write(SinkFormat::Json, Origin { store: "", ..ORIGIN }, &Record { payload: b"1", ..RECORD }, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(r#"{"v":1,"gateway":"gw-1","lane":"telemetry","seq":42,"#), "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap().store, "");
    assert_eq!(parse(json(&Record { payload: b"1", ..RECORD }).as_bytes()).unwrap().store, "0badcafe");
}

#[test]
fn what_is_no_record_is_refused_with_the_reason() {
    let good = json(&Record { payload: b"1", ..RECORD });
    for (text, reason) in [
        ("nonsense".to_string(), "not a JSON object"),
        ("[]".to_string(), "not a JSON object"),
        (good.replace("\"v\":1", "\"v\":2"), "version 2"),
        (good.replace("\"seq\":42", "\"seq\":-1"), "`seq`"),
        (good.replace("message", "massage"), "`kind`"),
    ] {
        assert!(parse(text.as_bytes()).unwrap_err().to_string().contains(reason), "{text}");
    }
    assert!(parse(good.as_bytes()).unwrap().aggregate().is_err());
    assert_eq!(parse(good.as_bytes()).unwrap().payload().unwrap(), b"1");
}
