//! The JSON field reader against `serde_json`: what is taken, and what every path then holds.
//!
//! Input: the payload. The paths are those that the document has, and some that it has not.

use serde_json::Value as Model;
use weir::field::{Codec, DEPTH_MAX, FieldKind, Fields, LookupError, Path, Paths, Segment, Value, lookup};

pub(crate) const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"null",
    b"true",
    b"false",
    b"\\u0061",
    b"\\ud83d\\ude00",
    b"\\udc00",
    b"\\",
    b"1e400",
    b"-0.0",
    b"9007199254740993",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"1E-400",
    b"0.1",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\"a\":",
    b"\"temperature\":",
    b"\x7f",
    b"\x1f",
    b"2e1",
    b"\xef\xbb\xbf",
    b"123456789012345678901234567890",
];

pub(crate) fn run(payload: &[u8]) {
    let theirs = serde_json::from_slice::<Model>(payload);
    let mut found = Vec::new();
    if let Ok(model) = &theirs {
        collect(model, &mut Vec::new(), &mut found);
    }
    let mut paths = Paths::new();
    let bound: Vec<_> = found.iter().filter_map(|path| Some((path, paths.add(path)?))).collect();
    let mut fields = Fields::new();
    let ours = paths.scan(Codec::Json, payload, &mut fields);
    if let Err(malformed) = ours {
        assert!(malformed.at <= payload.len());
        assert!(matches!(lookup(Codec::Json, payload, "a"), Err(LookupError::Payload(other)) if other == malformed));
    }
    match (ours, &theirs) {
        (Ok(()), Ok(model)) => {
            assert!(depth(model) <= DEPTH_MAX);
            for (path, id) in bound {
                let value = fields.value(id);
                assert!(agrees(value, payload, follow(model, path.segments())), "{path}: {value:?}");
                let late = lookup(Codec::Json, payload, &path.to_string());
                assert_eq!(format!("{late:?}"), format!("{:?}", Ok::<_, LookupError>(value)), "{path}");
            }
        }
        // We stop at a lower depth than serde_json does.
        (Err(_), Ok(model)) => assert!(DEPTH_MAX < depth(model), "{ours:?} {theirs:?}"),
        (Ok(()), Err(_)) => panic!("taken, but serde_json says {theirs:?}"),
        (Err(_), Err(_)) => {}
    }
}

/// Levels of arrays and objects.
fn depth(model: &Model) -> usize {
    match model {
        Model::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Model::Object(keys) => 1 + keys.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn collect(model: &Model, at: &mut Vec<Segment>, out: &mut Vec<Path>) {
    // A path has bounds of its own; and more than a set holds need not be tried.
    let Ok(path) = Path::of(at.clone()) else { return };
    if 300 < out.len() {
        return;
    }
    out.push(path);
    let steps: Vec<Segment> = match model {
        Model::Object(keys) => keys.keys().map(|key| Segment::Key(key.as_str().into())).collect(),
        Model::Array(items) => (0..items.len() as u32).map(Segment::Place).collect(),
        _ => Vec::new(),
    };
    for step in steps.into_iter().chain([Segment::Key("none".into()), Segment::Place(9)]) {
        at.push(step);
        match follow(model, &at[at.len() - 1..]) {
            Some(inner) => collect(inner, at, out),
            None => out.extend(Path::of(at.clone())),
        }
        at.pop();
    }
}

fn follow<'m>(model: &'m Model, path: &[Segment]) -> Option<&'m Model> {
    path.iter().try_fold(model, |model, segment| match segment {
        Segment::Key(key) => model.as_object()?.get(&**key),
        Segment::Place(place) => model.as_array()?.get(*place as usize),
    })
}

fn agrees(value: Value, payload: &[u8], model: Option<&Model>) -> bool {
    let Some(model) = model else { return value.kind() == FieldKind::Absent };
    let raw =
        || serde_json::from_slice::<Model>(value.in_place(payload).expect("arrays and objects lie in place")).ok();
    match (model, value.kind()) {
        (Model::Null, FieldKind::Null) => true,
        (Model::Bool(want), FieldKind::Bool) => value.bool() == Some(*want),
        (Model::Number(want), FieldKind::Int | FieldKind::Float) => {
            // Built with `float_roundtrip`: both are the nearest, to the last place.
            value.f64() == want.as_f64() && want.as_i64().is_none_or(|want| value.i64() == Some(want))
        }
        (Model::String(want), FieldKind::String) => {
            let mut out = vec![0xaa; want.len() + 3];
            value.text(payload, &mut out) == Some(want.len())
                && out[..want.len()] == *want.as_bytes()
                && value.text_bytes(payload).is_some_and(|bytes| bytes.eq(want.bytes()))
        }
        (Model::Array(want), FieldKind::Array) => {
            let mut count = 0;
            value.each_item(payload, &mut |item| {
                assert!(agrees(item, payload, want.get(count)));
                count += 1;
            });
            count == want.len() && raw().as_ref() == Some(model)
        }
        (Model::Object(_), FieldKind::Object) => raw().as_ref() == Some(model),
        _ => false,
    }
}
