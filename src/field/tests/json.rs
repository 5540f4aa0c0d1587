//! JSON: tables of meaning, every cut, and `serde_json` as the second opinion.

use std::fmt::Write;

use serde_json::Value as Model;

use super::dice::Dice;
use super::*;

#[test]
fn fields_are_found_by_their_paths() {
    for (payload, path, want) in [
        (r#"{"a":1}"#, "a", "int 1"),
        (r#" { "a" : 1 , "b" : 2.5 } "#, "b", "float Some(2.5)"),
        (r#"{"a":{"b":[10,{"c":"x"}]}}"#, "a.b[1].c", "string x"),
        (r#"{"a":{"b":[10,{"c":"x"}]}}"#, "a.b[0]", "int 10"),
        (r#"{"a":{"b":[10,{"c":"x"}]}}"#, "a.b[2]", "absent"),
        (r#"{"a":{"b":[10,{"c":"x"}]}}"#, "a.b", r#"array [10,{"c":"x"}]"#),
        (r#"{"a":{"b":[10,{"c":"x"}]}}"#, "a.c", "absent"),
        (r#"{"a":{"b":[ ]}}"#, "a", r#"object {"b":[ ]}"#),
        (r#"{"a":{"0":1}}"#, "a[0]", "absent"),
        (r#"{"a":[1]}"#, "a.b", "absent"),
        (r#"[[1,2],[3]]"#, "[1][0]", "int 3"),
        (r#"{"a.b":{"c":7}}"#, r#""a.b".c"#, "int 7"),
        (r#"{"":{"":7}}"#, "\"\".\"\"", "int 7"),
        (r#"21.5"#, ".", "float Some(21.5)"),
        (r#" "on" "#, ".", "string on"),
        (r#"{"a":null}"#, "a", "null"),
        (r#"{"a":true,"b":false}"#, "b", "false"),
        (r#"{"a":"1"}"#, "a", "string 1"),
        (r#"{"temperature":1,"temperature2":2,"temperatur":3}"#, "temperature2", "int 2"),
        (r#"{"abcdefghi":1,"abcdefghj":2}"#, "abcdefghj", "int 2"),
    ] {
        assert_eq!(shown(read(Codec::Json, payload.as_bytes(), path).unwrap(), payload.as_bytes()), want, "{payload}");
    }
}

#[test]
fn of_duplicate_keys_the_last_one_counts() {
    for (payload, path, want) in [
        (r#"{"a":1,"a":2}"#, "a", "int 2"),
        (r#"{"a":1,"\u0061":2}"#, "a", "int 2"),
        (r#"{"a":{"b":1},"a":{}}"#, "a.b", "absent"),
        (r#"{"a":{"b":1},"a":5}"#, "a.b", "absent"),
        (r#"{"a":{"b":1},"a":[]}"#, "a.b", "absent"),
        (r#"{"a":{"b":1,"c":2},"a":{"c":3}}"#, "a.b", "absent"),
        (r#"{"a":[1,2],"a":[3]}"#, "a[1]", "absent"),
        (r#"{"a":5,"a":{"b":1}}"#, "a.b", "int 1"),
        (r#"{"a":{"b":1},"c":{"b":2}}"#, "a.b", "int 1"),
    ] {
        assert_eq!(shown(read(Codec::Json, payload.as_bytes(), path).unwrap(), payload.as_bytes()), want, "{payload}");
    }
}

#[test]
fn text_and_keys_are_unescaped() {
    for (payload, path, want) in [
        (r#"{"a":"x\"\\\/\n"}"#, "a", "string x\"\\/\n"),
        (r#"{"a":"\b\f\r\t"}"#, "a", "string \u{8}\u{c}\r\t"),
        (r#"{"a":"\u00e9\u20AC"}"#, "a", "string é€"),
        (r#"{"a":"\ud83d\ude00!"}"#, "a", "string 😀!"),
        (r#"{"a":"\u0000x"}"#, "a", "string \0x"),
        (r#"{"a":"é€😀"}"#, "a", "string é€😀"),
        (r#"{"k\u002ek":1}"#, r#""k.k""#, "int 1"),
        (r#"{"\ud83d\ude00":1}"#, "😀", "int 1"),
        (r#"{"😀":1}"#, "😀", "int 1"),
    ] {
        assert_eq!(shown(read(Codec::Json, payload.as_bytes(), path).unwrap(), payload.as_bytes()), want, "{payload}");
    }
    let long = format!("{{\"{}\\n\":1,\"a\":2}}", "k".repeat(300));
    assert_eq!(read(Codec::Json, long.as_bytes(), "a").unwrap().i64(), Some(2));
}

#[test]
fn a_malformed_payload_is_refused_wherever_it_is_wrong() {
    for (payload, at) in [
        (b"".as_slice(), 0),
        (b"   ", 3),
        (b"{", 1),
        (b"{}x", 2),
        (b"{} {}", 3),
        (br#"{"a":1,}"#, 7),
        (br#"{"a" 1}"#, 5),
        (br#"{"a":1 "b":2}"#, 7),
        (b"{a:1}", 1),
        (b"[1,]", 3),
        (b"[1 2]", 3),
        (b"[,1]", 1),
        (b"[1}", 2),
        (br#"{"a":01}"#, 5),
        (br#"{"a":+1}"#, 5),
        (br#"{"a":.5}"#, 5),
        (br#"{"a":NaN}"#, 5),
        (br#"{"a":nul}"#, 8),
        (br#"{"a":truth}"#, 8),
        (br#"{"a":1,"z":1e999}"#, 11),
        (b"[\"a\tb\"]", 3),
        (b"[\"abcdefgh\x01\"]", 10),
        (br#"["\x"]"#, 3),
        (br#"["\u12g4"]"#, 6),
        (br#"["\ud800"]"#, 2),
        (br#"["\ud800\n"]"#, 2),
        (br#"["\ud800\u0041"]"#, 2),
        (br#"["\udc00"]"#, 2),
        (br#"{"\udc00":1}"#, 2),
        (b"[\"\xff\"]", 2),
        (b"[\"abcdefghijk\xc3\"]", 13),
        (b"{\"\xed\xa0\x80\":1}", 2),
        (b"\xef\xbb\xbf{}", 0),
        (b"{}\0", 2),
        (b"'a'", 0),
        (b"[1,2]//", 5),
    ] {
        let shown = String::from_utf8_lossy(payload);
        assert_eq!(read(Codec::Json, payload, "a").map_err(|error| error.at), Err(at), "{shown}");
    }
}

#[test]
fn nesting_is_taken_to_32() {
    for (depth, ok) in [(32, true), (33, false), (100_000, false)] {
        let payload = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(read(Codec::Json, payload.as_bytes(), "a").is_ok(), ok, "{depth}");
        let payload = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert_eq!(read(Codec::Json, payload.as_bytes(), "a").is_ok(), ok, "{depth}");
    }
    let payload = "{\"a\":".repeat(32) + "1" + &"}".repeat(32);
    assert_eq!(read(Codec::Json, payload.as_bytes(), &vec!["a"; 32].join(".")).unwrap().i64(), Some(1));
}

#[test]
fn every_cut_of_a_document_is_malformed() {
    for document in [
        r#"{"device":"boiler-1","temp":21.5e-1,"on":true,"tags":["a\u00e9","\ud83d\ude00",null,-0.25],"n":{"m":false}}"#,
        r#"[{"n":"température","v":-12},[[]],{}]"#,
        r#""a string with \"escapes\" and an é""#,
    ] {
        assert!(read(Codec::Json, document.as_bytes(), "temp").is_ok());
        for cut in 0..document.len() {
            let malformed = read(Codec::Json, &document.as_bytes()[..cut], "temp").unwrap_err();
            assert!(malformed.at <= cut, "{cut}");
        }
    }
}

#[test]
fn items_of_an_array_are_handed_out_in_order() {
    let payload = br#"{"a":[1,[2,3],{"x":4},"five",null]}"#;
    let mut items = Vec::new();
    read(Codec::Json, payload, "a").unwrap().each_item(payload, &mut |item| items.push(shown(item, payload)));
    assert_eq!(items, ["int 1", "array [2,3]", "object {\"x\":4}", "string five", "null"]);
}

#[test]
fn many_paths_are_filled_in_one_pass() {
    let mut paths = Paths::new();
    let ids: Vec<_> =
        (0..PATHS_MAX).map(|n| paths.add(&Path::parse(&format!("key-{}.v", n * 7)).unwrap()).unwrap()).collect();
    let payload: String = (0..2000).map(|n| format!("\"key-{n}\":{{\"v\":{n}}},")).collect();
    let payload = format!("{{{payload}\"end\":1}}");
    let mut fields = Fields::new();
    paths.scan(Codec::Json, payload.as_bytes(), &mut fields).unwrap();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(fields.i64(*id), Some(n as i64 * 7));
    }
}

const KEYS: [&str; 8] = ["a", "b", "ab", "a b", "", "é", "temperature", "temperatura"];
const NUMBERS: [&str; 20] = [
    "0",
    "-0",
    "1",
    "-1",
    "20.0",
    "2e1",
    "1.5",
    "-0.25",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "1e300",
    "1E-300",
    "123456789.125",
    "0.1e+2",
    "1e400",
    "3.141592653589793",
    "1700000000000",
];
const TEXTS: [&str; 8] = [
    "",
    "on",
    "é€😀",
    r"\u00e9",
    r"\ud83d\ude00",
    r#"a\"b\\c\/"#,
    "a text of some length, longer than a word",
    r"\n\t",
];
const LIKELY: &[u8] = b"{}[]\",:\\.-+eE0123456789truefalsn \n\x00\x1f\x7f\x80\xc3\xe2ud";

fn write_value(dice: &mut Dice, depth: usize, out: &mut String) {
    let space = |dice: &mut Dice, out: &mut String| out.push_str(dice.one(&["", "", "", " ", "\n\t", "\r\n  "]));
    space(dice, out);
    match dice.below(if depth == 0 { 5 } else { 9 }) {
        0 => out.push_str(dice.one(&["null", "true", "false"])),
        1 => out.push_str(dice.one(&NUMBERS)),
        2 => write!(out, "{}.{}", dice.roll() as i32, dice.below(100_000)).unwrap(),
        3 => write!(out, "{}", dice.roll() as i64 >> dice.below(64)).unwrap(),
        4 => write!(out, "\"{}\"", dice.one(&TEXTS)).unwrap(),
        5 | 6 => {
            out.push('[');
            for index in 0..dice.below(4) {
                out.push_str(if index > 0 { "," } else { "" });
                write_value(dice, depth - 1, out);
            }
            out.push(']');
        }
        _ => {
            out.push('{');
            for index in 0..dice.below(6) {
                out.push_str(if index > 0 { "," } else { "" });
                space(dice, out);
                let key = dice.one(&KEYS);
                match (dice.below(8), key) {
                    (0, "a") => out.push_str("\"\\u0061\""),
                    _ => write!(out, "\"{key}\"").unwrap(),
                }
                space(dice, out);
                out.push(':');
                write_value(dice, depth - 1, out);
            }
            out.push('}');
        }
    }
    space(dice, out);
}

/// Paths that the document has, and some that it has not.
fn collect(model: &Model, at: &mut Vec<Segment>, out: &mut Vec<Path>) {
    out.push(Path::of(at.clone()).unwrap());
    let steps: Vec<Segment> = match model {
        Model::Object(keys) => keys.keys().map(|key| Segment::Key(key.as_str().into())).collect(),
        Model::Array(items) => (0..items.len() as u32).map(Segment::Place).collect(),
        _ => Vec::new(),
    };
    for step in steps.into_iter().chain([Segment::Key("none".into()), Segment::Place(9)]) {
        at.push(step);
        match follow(model, &at[at.len() - 1..]) {
            Some(inner) => collect(inner, at, out),
            None => out.push(Path::of(at.clone()).unwrap()),
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
    let raw = || serde_json::from_slice::<Model>(value.in_place(payload).unwrap()).unwrap();
    match (model, value.kind()) {
        (Model::Null, FieldKind::Null) => true,
        (Model::Bool(want), FieldKind::Bool) => value.bool() == Some(*want),
        (Model::Number(want), FieldKind::Int | FieldKind::Float) => {
            let (ours, theirs) = (value.f64().unwrap(), want.as_f64().unwrap());
            // Without `float_roundtrip`, serde_json may be off in the last places.
            let close = ours == theirs || (ours - theirs).abs() <= 4.0 * f64::EPSILON * ours.abs();
            close && want.as_i64().is_none_or(|want| value.i64() == Some(want))
        }
        (Model::String(want), FieldKind::String) => value.text_bytes(payload).unwrap().eq(want.bytes()),
        (Model::Array(want), FieldKind::Array) => {
            let mut count = 0;
            value.each_item(payload, &mut |item| {
                assert!(agrees(item, payload, want.get(count)));
                count += 1;
            });
            count == want.len() && raw() == *model
        }
        (Model::Object(_), FieldKind::Object) => raw() == *model,
        _ => false,
    }
}

fn hold_against_serde(payload: &[u8]) -> bool {
    let theirs = serde_json::from_slice::<Model>(payload);
    let mut found = Vec::new();
    if let Ok(model) = &theirs {
        collect(model, &mut Vec::new(), &mut found);
    }
    let mut paths = Paths::new();
    let bound: Vec<_> = found.iter().filter_map(|path| Some((path, paths.add(path)?))).collect();
    let mut fields = Fields::new();
    let ours = paths.scan(Codec::Json, payload, &mut fields);
    let shown = String::from_utf8_lossy(payload);
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?} {shown}");
    let Ok(model) = theirs else { return false };
    for (path, id) in bound {
        let value = fields.value(id);
        assert!(agrees(value, payload, follow(&model, path.segments())), "{path}: {value:?} {shown}");
        assert!(same(lookup(Codec::Json, payload, &path.to_string()).unwrap(), value), "{path} {shown}");
    }
    true
}

#[test]
fn generated_documents_read_as_serde_json_reads_them() {
    let mut dice = Dice(1);
    let accepted = (0..2_000).filter(|_| {
        let mut document = String::new();
        write_value(&mut dice, 4, &mut document);
        hold_against_serde(document.as_bytes())
    });
    assert!(accepted.count() > 1_000);
}

#[test]
fn damaged_documents_are_refused_exactly_where_serde_json_refuses_them() {
    let mut dice = Dice(2);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut document = String::new();
        write_value(&mut dice, 3, &mut document);
        let mut document = document.into_bytes();
        dice.damage(&mut document, LIKELY);
        accepted += usize::from(hold_against_serde(&document));
    }
    // Damage that nothing notices would prove nothing, and so would damage that always kills.
    assert!((1_000..15_000).contains(&accepted), "{accepted}");
}
