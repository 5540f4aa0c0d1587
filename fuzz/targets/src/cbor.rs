//! The CBOR field reader against `minicbor`: what is taken, and what every path then holds.
//!
//! Input: the payload. The paths are those that the document has, and some that it has not.

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};
use weir::field::{Codec, DEPTH_MAX, FieldKind, Fields, LookupError, Path, Paths, Segment, Value, lookup, whole};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\x00",
    b"\x18\xff",
    b"\x19\xff\xff",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x40",
    b"\x5f\x41a\xff",
    b"\x61a",
    b"\x7f\x61a\xff",
    b"\x80",
    b"\x9f",
    b"\xff",
    b"\xa1\x61a",
    b"\xbf",
    b"\xc1",
    b"\xd8\x20",
    b"\xf4",
    b"\xf6",
    b"\xf7",
    b"\xf8\x20",
    b"\xf8\x1f",
    b"\xf9\x7e\x00",
    b"\xf9\x3c\x00",
    b"\xfa\x47\xc3\x50\x00",
    b"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a",
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x1c",
    b"\x62\xc3\xbc",
    b"\x61\xff",
];

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

/// Why there is no model.
#[derive(Debug)]
enum No {
    /// Nested deeper than we take; the rest was not looked at.
    Deep,
    Malformed,
}

impl From<Error> for No {
    fn from(_: Error) -> Self {
        Self::Malformed
    }
}

pub(crate) fn run(payload: &[u8]) {
    let mut decoder = Decoder::new(payload);
    let theirs = model(&mut decoder, DEPTH_MAX).and_then(|model| match decoder.position() == payload.len() {
        true => Ok(model),
        false => Err(No::Malformed),
    });
    let mut found = Vec::new();
    if let Ok(model) = &theirs {
        collect(model, &mut Vec::new(), &mut found);
    }
    let mut paths = Paths::new();
    let bound: Vec<_> = found.iter().filter_map(|path| Some((path, paths.add(path)?))).collect();
    let mut fields = Fields::new();
    let ours = paths.scan(Codec::Cbor, payload, &mut fields);
    if let Err(malformed) = ours {
        assert!(malformed.at <= payload.len());
        assert!(matches!(lookup(Codec::Cbor, payload, "a"), Err(LookupError::Payload(other)) if other == malformed));
    }
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let Ok(model) = theirs else { return };
    for (path, id) in bound {
        let value = fields.value(id);
        assert!(agrees(value, payload, follow(&model, path.segments())), "{path}: {value:?}");
        let late = lookup(Codec::Cbor, payload, &path.to_string());
        assert_eq!(format!("{late:?}"), format!("{:?}", Ok::<_, LookupError>(value)), "{path}");
    }
}

fn number(float: f64) -> Model {
    whole(float).map_or(Model::Float(float), Model::Int)
}

fn untag(decoder: &mut Decoder<'_>) -> Result<Type, No> {
    loop {
        match decoder.datatype()? {
            Type::Tag => drop(decoder.tag()?),
            other => return Ok(other),
        }
    }
}

fn model(decoder: &mut Decoder<'_>, depth: usize) -> Result<Model, No> {
    Ok(match untag(decoder)? {
        Type::Bool => Model::Bool(decoder.bool()?),
        Type::Null => decoder.null().map(|()| Model::Nothing)?,
        Type::Undefined => decoder.undefined().map(|()| Model::Nothing)?,
        Type::Simple => {
            let start = decoder.position();
            let value = decoder.simple()?;
            // minicbor takes what RFC 8949 §3.3 calls not well-formed.
            if value < 32 && decoder.position() - start == 2 {
                return Err(No::Malformed);
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
            let depth = depth.checked_sub(1).ok_or(No::Deep)?;
            let count = decoder.array()?;
            let mut items = Vec::new();
            while goes_on(decoder, count, items.len())? {
                items.push(model(decoder, depth)?);
            }
            Model::Array(items)
        }
        Type::Map | Type::MapIndef => {
            let depth = depth.checked_sub(1).ok_or(No::Deep)?;
            let count = decoder.map()?;
            let (mut entries, mut read) = (Vec::new(), 0);
            while goes_on(decoder, count, read)? {
                let is_text = matches!(untag(decoder)?, Type::String | Type::StringIndef);
                let (key, value) = (model(decoder, depth)?, model(decoder, depth)?);
                if let (true, Model::Text(key)) = (is_text, key) {
                    let key = String::from_utf8(key).map_err(|_| No::Malformed)?;
                    entries.retain(|(other, _)| *other != key);
                    entries.push((key, value));
                }
                read += 1;
            }
            Model::Map(entries)
        }
        Type::Break | Type::Unknown(_) | Type::Tag => return Err(No::Malformed),
        _ => {
            let int = i128::from(decoder.int()?);
            i64::try_from(int).map_or(Model::Float(int as f64), Model::Int)
        }
    })
}

fn goes_on(decoder: &mut Decoder<'_>, count: Option<u64>, read: usize) -> Result<bool, No> {
    match count {
        Some(count) => Ok((read as u64) < count),
        None if decoder.datatype()? == Type::Break => Ok(decoder.skip().map(|()| false)?),
        None => Ok(true),
    }
}

fn collect(model: &Model, at: &mut Vec<Segment>, out: &mut Vec<Path>) {
    let Ok(path) = Path::of(at.clone()) else { return };
    if 300 < out.len() {
        return;
    }
    out.push(path);
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
    out.extend(Path::of(at.clone()));
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
        (Some(Model::Text(want)), FieldKind::String) => {
            let mut out = vec![0xaa; want.len() + 3];
            value.text(payload, &mut out) == Some(want.len())
                && out[..want.len()] == **want
                && value.text_bytes(payload).is_some_and(|bytes| bytes.eq(want.iter().copied()))
        }
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
