//! What fields mean, as tables; and both codecs against independent readers over generated and damaged documents.

mod cbor;
mod dice;
mod json;

use super::*;

/// Scans for one path, looks the same path up, and holds the two against each other.
fn read(codec: Codec, payload: &[u8], path: &str) -> Result<Value, Malformed> {
    let mut paths = Paths::new();
    // Neighbours in the set must not disturb.
    for other in ["zz", "a.zz", "a[7].zz", "."] {
        paths.add(&Path::parse(other).unwrap()).unwrap();
    }
    let id = paths.add(&Path::parse(path).unwrap()).unwrap();
    let mut fields = Fields::new();
    let scanned = paths.scan(codec, payload, &mut fields).map(|()| fields.value(id));
    match lookup(codec, payload, path) {
        Ok(value) => assert!(same(value, scanned.unwrap()), "{path}: {value:?} {scanned:?}"),
        Err(LookupError::Payload(malformed)) => assert_eq!(Err(malformed), scanned),
        Err(LookupError::Path(error)) => panic!("{path}: {error}"),
    }
    scanned
}

/// Equality that takes NaN for itself.
fn same(a: Value, b: Value) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// A value as text: kind, then number or bytes.
fn shown(value: Value, payload: &[u8]) -> String {
    let mut buffer = [0; 64];
    match value.kind() {
        FieldKind::Absent => "absent".into(),
        FieldKind::Null => "null".into(),
        FieldKind::Bool => value.bool().unwrap().to_string(),
        FieldKind::Int => format!("int {}", value.i64().unwrap()),
        FieldKind::Float => format!("float {:?}", value.f64()),
        kind @ (FieldKind::String | FieldKind::Array | FieldKind::Object) => {
            let len = value.text(payload, &mut buffer).unwrap();
            let by_iterator: Vec<u8> = value.text_bytes(payload).unwrap().collect();
            assert_eq!(buffer[..len], by_iterator);
            match core::str::from_utf8(&buffer[..len]) {
                Ok(text) if value.form != Form::Cbor => format!("{} {text}", format!("{kind:?}").to_lowercase()),
                _ => format!("{} {:02x?}", format!("{kind:?}").to_lowercase(), &buffer[..len]),
            }
        }
    }
}

#[test]
fn kinds_have_the_codes_of_the_abi() {
    for (kind, code) in [(FieldKind::Absent, 0), (FieldKind::Int, 3), (FieldKind::Object, 7)] {
        assert_eq!(kind.code(), code);
    }
}

#[test]
fn a_raw_payload_has_no_fields_and_is_never_malformed() {
    assert_eq!(read(Codec::Raw, b"{\"a\":1}", "a"), Ok(Value::ABSENT));
    assert_eq!(read(Codec::Raw, b"", "a"), Ok(Value::ABSENT));
}

#[test]
fn a_buffer_that_is_too_small_gets_the_front_and_the_true_length() {
    for payload in [br#"{"a":"12345"}"#.as_slice(), br#"{"a":"1\u003245"}"#] {
        let value = read(Codec::Json, payload, "a").unwrap();
        let mut buffer = [0; 3];
        let true_len = if payload.len() == 13 { 5 } else { 4 };
        assert_eq!(
            (value.text(payload, &mut buffer), &buffer),
            (Some(true_len), if true_len == 5 { b"123" } else { b"124" })
        );
    }
    assert_eq!(read(Codec::Json, b"{\"a\":1}", "a").unwrap().text(b"", &mut []), None);
}

#[test]
fn fields_of_an_earlier_message_are_gone() {
    let mut paths = Paths::new();
    let id = paths.add(&Path::parse("a").unwrap()).unwrap();
    let late = PathId(200);
    let mut fields = Fields::new();
    for (payload, want) in
        [("{\"a\":1}", Some(1)), ("{}", None), ("{\"a\":2}", Some(2)), ("{\"a\":2", None), ("", None)]
    {
        assert_eq!(paths.scan(Codec::Json, payload.as_bytes(), &mut fields).is_err(), !payload.ends_with('}'));
        assert_eq!((fields.i64(id), fields.kind(late)), (want, FieldKind::Absent), "{payload}");
    }
}

#[test]
fn a_value_read_from_another_payload_does_no_harm() {
    let value = read(Codec::Json, br#"{"a":["x\n",2]}"#, "a").unwrap();
    for payload in [b"".as_slice(), b"{", br#"{"a":"\u12"}     "#] {
        value.each_item(payload, &mut |_| {});
        let _ = value.text(payload, &mut [0; 8]);
    }
}
