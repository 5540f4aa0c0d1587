//! CBOR: tables of meaning, every cut, and `minicbor` as the second opinion.

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};

use super::dice::Dice;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn items_mean_what_the_standard_says() {
    // Most are of RFC 8949, appendix A.
    for (text, want) in [
        ("00", "int 0"),
        ("1818", "int 24"),
        ("1b000000e8d4a51000", "int 1000000000000"),
        ("1b7fffffffffffffff", "int 9223372036854775807"),
        ("1bffffffffffffffff", "float Some(1.8446744073709552e19)"),
        ("20", "int -1"),
        ("3903e7", "int -1000"),
        ("3b7fffffffffffffff", "int -9223372036854775808"),
        ("3bffffffffffffffff", "float Some(-1.8446744073709552e19)"),
        ("f93e00", "float Some(1.5)"),
        ("f97bff", "int 65504"),
        ("f90001", "float Some(5.960464477539063e-8)"),
        ("f90400", "float Some(6.103515625e-5)"),
        ("f9c400", "int -4"),
        ("f98000", "int 0"),
        ("f97c00", "float Some(inf)"),
        ("f9fc00", "float Some(-inf)"),
        ("f97e00", "float None"),
        ("fa47c35000", "int 100000"),
        ("fa7f7fffff", "float Some(3.4028234663852886e38)"),
        ("fb3ff199999999999a", "float Some(1.1)"),
        ("fb7ff8000000000000", "float None"),
        ("f4", "false"),
        ("f5", "true"),
        ("f6", "null"),
        ("f7", "null"),
        ("f0", "null"),
        ("f8ff", "null"),
        ("c11a514b67b0", "int 1363896240"),
        ("d9d9f7c101", "int 1"),
        ("60", "string "),
        ("6449455446", "string IETF"),
        ("62c3bc", "string ü"),
        ("4401020304", "string \u{1}\u{2}\u{3}\u{4}"),
        ("42ff00", "string [ff, 00]"),
        ("5f42010243030405ff", "string \u{1}\u{2}\u{3}\u{4}\u{5}"),
        ("7f6673747265616d606c696e672d6c6f6e6765723132ff", "string streaming-longer12"),
        ("7fff", "string "),
        ("80", "array [80]"),
        ("83010203", "array [83, 01, 02, 03]"),
        ("9fff", "array [9f, ff]"),
        ("a0", "object [a0]"),
        ("bf6161019fff01ff", "object [bf, 61, 61, 01, 9f, ff, 01, ff]"),
    ] {
        let payload = hex(text);
        assert_eq!(shown(read(Codec::Cbor, &payload, ".").unwrap(), &payload), want, "{text}");
    }
}

#[test]
fn fields_are_found_by_their_paths() {
    for (text, path, want) in [
        ("a2 6161 01 6162 02", "b", "int 2"),
        ("a1 6161 a1 6162 82 0a a1 6163 6178", "a.b[1].c", "string x"),
        ("a1 6161 a1 6162 82 0a a1 6163 6178", "a.b[2]", "absent"),
        ("bf 6161 9f 01 02 ff 6162 03 ff", "a[1]", "int 2"),
        ("bf 6161 9f 01 02 ff 6162 03 ff", "b", "int 3"),
        ("a2 6161 01 6161 02", "a", "int 2"),
        ("a2 6161 a1 6162 01 6161 a0", "a.b", "absent"),
        ("a2 6161 a1 6162 01 6161 05", "a.b", "absent"),
        ("a3 01 05 4161 06 6161 07", "a", "int 7"),
        ("a2 a16161 01 01 6161 02", "a", "int 2"),
        ("a1 7f 6161 6162 ff 05", "ab", "int 5"),
        ("a1 c1 6161 c1 c1 05", "a", "int 5"),
        ("a1 61 2e 05", "\".\"", "int 5"),
        ("c1 82 01 c1 02", "[1]", "int 2"),
    ] {
        let payload = hex(text);
        assert_eq!(shown(read(Codec::Cbor, &payload, path).unwrap(), &payload), want, "{text} {path}");
    }
}

#[test]
fn a_malformed_payload_is_refused_wherever_it_is_wrong() {
    for (text, at) in [
        ("", 0),
        ("0000", 1),
        ("1c", 0),
        ("1f", 0),
        ("3f", 0),
        ("df00", 0),
        ("dc00", 0),
        ("ff", 0),
        ("81ff", 1),
        ("82 01", 2),
        ("a1 01", 2),
        ("a1 01 ff", 2),
        ("bf 01 ff", 2),
        ("f81f", 0),
        ("61ff", 1),
        ("63 61 62 c3", 3),
        ("7f 61c3 61bc ff", 2),
        ("7f 4161 ff", 1),
        ("5f 5fff ff", 1),
        ("7f 6161", 3),
        ("7bffffffffffffffff 61", 10),
        ("9bffffffffffffffff 01", 10),
        ("bbffffffffffffffff 0101", 11),
        ("c1", 1),
    ] {
        assert_eq!(read(Codec::Cbor, &hex(text), "a").map_err(|error| error.at), Err(at), "{text}");
    }
}

#[test]
fn nesting_is_taken_to_32_and_tags_do_not_nest() {
    for (depth, ok) in [(32, true), (33, false), (100_000, false)] {
        for open in ["81", "9f", "a160", "bf60"] {
            let close = if open.starts_with(['9', 'b']) { "ff" } else { "" };
            let payload = hex(&(open.repeat(depth) + "00" + &close.repeat(depth)));
            assert_eq!(read(Codec::Cbor, &payload, "a").is_ok(), ok, "{open} {depth}");
        }
        assert!(read(Codec::Cbor, &hex(&("c1".repeat(depth) + "00")), "a").is_ok());
    }
    // Keys nest too.
    assert!(read(Codec::Cbor, &hex(&("a1".repeat(33) + &"00".repeat(34))), "a").is_err());
}

#[test]
fn items_of_an_array_are_handed_out_in_order() {
    let payload = hex("a16161 9f 01 8202 03 7f616161 62ff f6 ff");
    let mut items = Vec::new();
    read(Codec::Cbor, &payload, "a").unwrap().each_item(&payload, &mut |item| items.push(shown(item, &payload)));
    assert_eq!(items, ["int 1", "array [82, 02, 03]", "string ab", "null"]);
}

/// What `minicbor` sees.
#[derive(Debug, PartialEq)]
enum Model {
    Nothing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Vec<u8>),
    Array(Vec<Model>),
    /// Text keys only; the last of duplicates.
    Map(Vec<(String, Model)>),
}

fn number(float: f64) -> Model {
    whole(float).map_or(Model::Float(float), Model::Int)
}

fn untag(decoder: &mut Decoder<'_>) -> Result<Type, Error> {
    loop {
        match decoder.datatype()? {
            Type::Tag => drop(decoder.tag()?),
            other => return Ok(other),
        }
    }
}

fn model(decoder: &mut Decoder<'_>) -> Result<Model, Error> {
    Ok(match untag(decoder)? {
        Type::Bool => Model::Bool(decoder.bool()?),
        Type::Null => decoder.null().map(|()| Model::Nothing)?,
        Type::Undefined => decoder.undefined().map(|()| Model::Nothing)?,
        Type::Simple => {
            let start = decoder.position();
            let value = decoder.simple()?;
            // minicbor takes what RFC 8949 §3.3 calls not well-formed.
            if value < 32 && decoder.position() - start == 2 {
                return Err(Error::message("a simple value in two bytes that fits one"));
            }
            Model::Nothing
        }
        Type::F16 => number(f64::from(decoder.f16()?)),
        Type::F32 => number(f64::from(decoder.f32()?)),
        Type::F64 => number(decoder.f64()?),
        Type::Bytes => Model::Text(decoder.bytes()?.to_vec()),
        Type::String => Model::Text(decoder.str()?.as_bytes().to_vec()),
        Type::BytesIndef => {
            let chunks: Result<Vec<_>, _> = decoder.bytes_iter()?.collect();
            Model::Text(chunks?.concat())
        }
        Type::StringIndef => {
            let chunks: Result<Vec<_>, _> = decoder.str_iter()?.collect();
            Model::Text(chunks?.concat().into_bytes())
        }
        Type::Array | Type::ArrayIndef => {
            let count = decoder.array()?;
            let mut items = Vec::new();
            while goes_on(decoder, count, items.len())? {
                items.push(model(decoder)?);
            }
            Model::Array(items)
        }
        Type::Map | Type::MapIndef => {
            let count = decoder.map()?;
            let (mut entries, mut read) = (Vec::new(), 0);
            while goes_on(decoder, count, read)? {
                let is_text = matches!(untag(decoder)?, Type::String | Type::StringIndef);
                let (key, value) = (model(decoder)?, model(decoder)?);
                if let (true, Model::Text(key)) = (is_text, key) {
                    let key = String::from_utf8(key).unwrap();
                    entries.retain(|(other, _)| *other != key);
                    entries.push((key, value));
                }
                read += 1;
            }
            Model::Map(entries)
        }
        Type::Break | Type::Unknown(_) | Type::Tag => return Err(Error::message("no item")),
        _ => {
            let int = i128::from(decoder.int()?);
            i64::try_from(int).map_or(Model::Float(int as f64), Model::Int)
        }
    })
}

fn goes_on(decoder: &mut Decoder<'_>, count: Option<u64>, read: usize) -> Result<bool, Error> {
    match count {
        Some(count) => Ok((read as u64) < count),
        None if decoder.datatype()? == Type::Break => decoder.skip().map(|()| false),
        None => Ok(true),
    }
}

fn collect(model: &Model, at: &mut Vec<Segment>, out: &mut Vec<Path>) {
    out.push(Path::of(at.clone()).unwrap());
    let inner: Vec<(Segment, &Model)> = match model {
        Model::Map(entries) => entries.iter().map(|(key, value)| (Segment::Key(key.as_str().into()), value)).collect(),
        Model::Array(items) => items.iter().enumerate().map(|(n, item)| (Segment::Place(n as u32), item)).collect(),
        _ => Vec::new(),
    };
    for (segment, model) in inner {
        at.push(segment);
        collect(model, at, out);
        at.pop();
    }
    at.push(Segment::Key("none".into()));
    out.push(Path::of(at.clone()).unwrap());
    at.pop();
}

fn follow<'m>(model: &'m Model, path: &[Segment]) -> Option<&'m Model> {
    path.iter().try_fold(model, |model, segment| match (segment, model) {
        (Segment::Key(wanted), Model::Map(entries)) => {
            entries.iter().find(|(key, _)| **key == **wanted).map(|(_, value)| value)
        }
        (Segment::Place(place), Model::Array(items)) => items.get(*place as usize),
        _ => None,
    })
}

fn agrees(value: Value, payload: &[u8], model: Option<&Model>) -> bool {
    match (model, value.kind()) {
        (None, FieldKind::Absent) | (Some(Model::Nothing), FieldKind::Null) => true,
        (Some(Model::Bool(want)), FieldKind::Bool) => value.bool() == Some(*want),
        (Some(Model::Int(want)), FieldKind::Int) => value.i64() == Some(*want),
        (Some(Model::Float(want)), FieldKind::Float) => value.f64() == Some(*want).filter(|float| !float.is_nan()),
        (Some(Model::Text(want)), FieldKind::String) => value.text_bytes(payload).unwrap().eq(want.iter().copied()),
        (Some(Model::Array(items)), FieldKind::Array) => {
            let mut count = 0;
            value.each_item(payload, &mut |item| {
                assert!(agrees(item, payload, items.get(count)));
                count += 1;
            });
            count == items.len()
        }
        (Some(Model::Map(_)), FieldKind::Object) => true,
        _ => false,
    }
}

fn hold_against_minicbor(payload: &[u8]) -> bool {
    let mut decoder = Decoder::new(payload);
    let theirs = model(&mut decoder);
    let theirs = theirs.ok().filter(|_| decoder.position() == payload.len());
    let mut found = Vec::new();
    if let Some(model) = &theirs {
        collect(model, &mut Vec::new(), &mut found);
    }
    let mut paths = Paths::new();
    let bound: Vec<_> = found.iter().filter_map(|path| Some((path, paths.add(path)?))).collect();
    let mut fields = Fields::new();
    let ours = paths.scan(Codec::Cbor, payload, &mut fields);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{ours:?} {theirs:?} {payload:02x?}");
    let Some(model) = theirs else { return false };
    for (path, id) in bound {
        let value = fields.value(id);
        assert!(agrees(value, payload, follow(&model, path.segments())), "{path}: {value:?} {payload:02x?}");
        assert!(same(lookup(Codec::Cbor, payload, &path.to_string()).unwrap(), value), "{path} {payload:02x?}");
    }
    true
}

/// A head in any width that holds the argument.
fn write_head(dice: &mut Dice, major: u8, argument: u64, out: &mut Vec<u8>) {
    let least = match argument {
        0..24 => 0,
        24..0x100 => 1,
        0x100..0x1_0000 => 2,
        0x1_0000..0x1_0000_0000 => 3,
        _ => 4,
    };
    let width = if dice.below(4) == 0 { least + dice.below(5 - least) } else { least };
    if width == 0 {
        return out.push(major << 5 | argument as u8);
    }
    out.push(major << 5 | (23 + width as u8));
    out.extend_from_slice(&argument.to_be_bytes()[8 - (1 << (width - 1))..]);
}

fn write_text(dice: &mut Dice, text: &str, out: &mut Vec<u8>) {
    let major = if dice.below(6) == 0 { 2 } else { 3 };
    if dice.below(5) > 0 {
        write_head(dice, major, text.len() as u64, out);
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(major << 5 | 31);
    for c in text.chars() {
        write_head(dice, major, c.len_utf8() as u64, out);
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.push(0xff);
}

fn write_item(dice: &mut Dice, depth: usize, out: &mut Vec<u8>) {
    while dice.below(8) == 0 {
        let tag = dice.below(300) as u64;
        write_head(dice, 6, tag, out);
    }
    match dice.below(if depth == 0 { 5 } else { 9 }) {
        0 => out.extend_from_slice(dice.one(&[b"\xf4".as_slice(), b"\xf5", b"\xf6", b"\xf7", b"\xe5", b"\xf8\x40"])),
        1 => {
            let (major, argument) = (dice.below(2) as u8, dice.roll() >> dice.below(64));
            write_head(dice, major, argument, out);
        }
        2 => {
            out.push(0xfb);
            out.extend_from_slice(&((dice.roll() as i32) as f64 / 8.0).to_be_bytes());
        }
        3 => {
            let (first, width) = [(0xf9, 2), (0xfa, 4), (0xfb, 8)][dice.below(3)];
            out.push(first);
            out.extend_from_slice(&dice.roll().to_be_bytes()[..width]);
        }
        4 => {
            let text = dice.one(&["", "on", "é€😀", "a text of some length"]);
            write_text(dice, text, out);
        }
        kind => {
            let (count, indefinite, is_map) = (dice.below(5), dice.below(3) == 0, kind > 6);
            let major = if is_map { 5 } else { 4 };
            if indefinite {
                out.push(major << 5 | 31)
            } else {
                write_head(dice, major, count as u64, out)
            }
            for _ in 0..count {
                match dice.below(8) {
                    _ if !is_map => {}
                    0 => write_item(dice, 0, out),
                    _ => {
                        let key = dice.one(&["a", "b", "ab", "", "é", "temperature", "temperatura"]);
                        write_text(dice, key, out);
                    }
                }
                write_item(dice, depth - 1, out);
            }
            if indefinite {
                out.push(0xff);
            }
        }
    }
}

#[test]
fn generated_documents_read_as_minicbor_reads_them() {
    let mut dice = Dice(3);
    for _ in 0..3_000 {
        let mut document = Vec::new();
        write_item(&mut dice, 4, &mut document);
        assert!(hold_against_minicbor(&document), "{document:02x?}");
        for cut in 0..document.len().min(300) {
            assert!(Paths::new().scan(Codec::Cbor, &document[..cut], &mut Fields::new()).is_err());
        }
    }
}

#[test]
fn damaged_documents_are_refused_exactly_where_minicbor_refuses_them() {
    let mut dice = Dice(4);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut document = Vec::new();
        write_item(&mut dice, 3, &mut document);
        dice.damage(
            &mut document,
            b"\x00\x18\x19\x1a\x1b\x1f\x20\x40\x5f\x60\x61\x7f\x80\x81\x9f\xa0\xa1\xbf\xc1\xf4\xf8\xf9\xff\xc3",
        );
        accepted += usize::from(hold_against_minicbor(&document));
    }
    assert!((1_000..15_000).contains(&accepted), "{accepted}");
}
