//! Event-filter patterns: reading, and matching against a naive evaluator that follows the words of the documentation over
//! `serde_json` values.
//!
//! Input: a pattern in JSON; behind a line feed a topic, a device, and the payload, a line each.

use serde_json::Value as Json;
use weir::field::{Codec, Fields, Paths};
use weir::filter::{FAULTS_MAX, Pattern};

pub(crate) const WORDS: &[&[u8]] = &[
    b"{\"payload\":{\"a\":[1]}}",
    b"\"numeric\":[\">\",0,\"<=\",5]",
    b"\"numeric\":[\"=\",5]",
    b"\"prefix\":\"a\"",
    b"\"suffix\":\"a\"",
    b"\"wildcard\":\"a*b\"",
    b"\"equals-ignore-case\":\"A\"",
    b"\"exists\":true",
    b"\"exists\":false",
    b"\"anything-but\":[1,\"a\"]",
    b"\"anything-but\":{\"prefix\":[\"a\"]}",
    b"\"$or\":[{\"a\":[1]},{\"b\":[2]}]",
    b"\"topic\":",
    b"\"device\":",
    b"\"payload\":",
    b"[null]",
    b"[true]",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"a\"",
    b"\n",
    b"\\u0061",
    b"*",
    b"1e300",
    b"9007199254740993",
    b"20.0",
    b"-0.0",
    b"\"\xc3\x9f\"",
    b"\"\xc5\xbf\"",
];

pub(crate) fn run(data: &[u8]) {
    let (text, rest) = crate::split_at(data, b'\n');
    let Ok(json) = serde_json::from_slice::<Json>(text) else { return };
    let pattern = match Pattern::parse(&json) {
        Ok(pattern) => pattern,
        Err(faults) => {
            assert!(!faults.is_empty() && faults.len() <= FAULTS_MAX);
            return faults.iter().for_each(|fault| assert!(fault.to_string().len() < 4096, "{fault}"));
        }
    };
    let (topic, rest) = crate::split_at(rest, b'\n');
    let (device, payload) = crate::split_at(rest, b'\n');
    let (topic, device) = (String::from_utf8_lossy(topic), String::from_utf8_lossy(device));
    let mut paths = Paths::new();
    let Ok(bound) = pattern.bind(&mut paths) else { return };
    assert_eq!(bound.reads_payload(), pattern.reads_payload());
    let mut fields = Fields::new();
    if paths.scan(Codec::Json, payload, &mut fields).is_err() {
        return;
    }
    let model = serde_json::from_slice::<Json>(payload).expect("what we read, serde_json reads: target json");
    if numbers(payload).any(is_rounded) {
        return;
    }
    let event = Event { payload: &model, topic: &topic, device: &device };
    let wanted = event.all(&json, Where::Top);
    assert_eq!(bound.matches(&fields, payload, &topic, &device), wanted, "{json} {topic} {device} {model}");
}

/// The numbers of a document that is one, as they are written.
fn numbers(payload: &[u8]) -> impl Iterator<Item = &str> {
    let (mut in_text, mut is_escaped) = (false, false);
    let outside = payload.split(move |byte| {
        let stays_in = in_text && (is_escaped || *byte != b'"');
        is_escaped = in_text && !is_escaped && *byte == b'\\';
        let is_quote = !stays_in && *byte == b'"';
        in_text = stays_in || (is_quote && !in_text);
        in_text || !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
    });
    // The `e` of `true` and `false` is no number.
    outside
        .filter_map(|token| core::str::from_utf8(token).ok())
        .filter(|token| token.contains(|c: char| c.is_ascii_digit()))
}

/// Whether serde_json takes a number for another whole one, or for none, and we may know it exactly: `9007199254740993.0`,
/// `1e-400`, `0.99999999999999999999`.
fn is_rounded(number: &str) -> bool {
    let read: Json = serde_json::from_str(number).expect("a number of a document that was read");
    int(&read) != exactly_whole(number)
}

/// By its digits: the whole number within i64 that is written there.
fn exactly_whole(number: &str) -> Option<i64> {
    let (digits, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // Far more than a payload has digits, whatever is written there.
    let power: i64 = power.parse().unwrap_or(if power.starts_with('-') { -1 << 40 } else { 1 << 40 });
    let zeros = power.saturating_add((all.len() - significant.len()) as i64).saturating_sub(fraction.len() as i64);
    let zeros = usize::try_from(zeros).ok().filter(|zeros| *zeros < 20)?;
    format!("{sign}{significant}{}", "0".repeat(zeros)).parse().ok()
}

struct Event<'a> {
    payload: &'a Json,
    topic: &'a str,
    device: &'a str,
}

/// At which table of the pattern we are.
#[derive(Clone, Copy)]
enum Where<'a> {
    Top,
    /// Below `payload`, beside this value; `None`: there is none.
    At(Option<&'a Json>),
}

impl<'a> Event<'a> {
    /// Keys joined by AND.
    fn all(&self, pattern: &Json, place: Where<'a>) -> bool {
        let keys = pattern.as_object().expect("a pattern that was read");
        keys.iter().all(|(key, value)| match (key.as_str(), place) {
            ("$or", _) => {
                value.as_array().is_some_and(|branches| branches.iter().any(|branch| self.all(branch, place)))
            }
            ("topic", Where::Top) => Self::one(value, Some(&Json::from(self.topic))),
            ("device", Where::Top) => Self::one(value, Some(&Json::from(self.device))),
            (_, Where::Top) => self.field(value, Some(self.payload)),
            (key, Where::At(at)) => self.field(value, at.and_then(|at| at.as_object()?.get(key))),
        })
    }

    fn field(&self, value: &Json, at: Option<&'a Json>) -> bool {
        if value.is_object() { self.all(value, Where::At(at)) } else { Self::one(value, at) }
    }

    /// Entries joined by OR; an array holds if any of its items does.
    fn one(entries: &Json, subject: Option<&Json>) -> bool {
        let entries = entries.as_array().expect("a pattern that was read");
        let any = |subject: Option<&Json>| entries.iter().any(|entry| holds(entry, subject));
        any(subject) || subject.and_then(Json::as_array).is_some_and(|items| items.iter().any(|item| any(Some(item))))
    }
}

fn holds(entry: &Json, subject: Option<&Json>) -> bool {
    let Some((name, operand)) = entry.as_object().and_then(|operator| operator.iter().next()) else {
        return subject.is_some_and(|subject| equal(entry, subject));
    };
    match name.as_str() {
        "exists" => operand.as_bool() == Some(subject.is_some()),
        "anything-but" => subject.is_some_and(|subject| {
            !subject.is_array()
                && !subject.is_object()
                && !excluded(operand).iter().any(|entry| holds(entry, Some(subject)))
        }),
        "numeric" => subject.is_some_and(|subject| numeric(operand, subject)),
        _ => subject.and_then(Json::as_str).is_some_and(|text| compare(name, operand, text)),
    }
}

/// The entries that `anything-but` excludes.
fn excluded(operand: &Json) -> Vec<Json> {
    let list = |value: &Json| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    match operand.as_object().and_then(|operator| operator.iter().next()) {
        None => list(operand),
        Some((name, value)) => {
            list(value).into_iter().map(|value| serde_json::json!({ name.as_str(): value })).collect()
        }
    }
}

fn equal(wanted: &Json, subject: &Json) -> bool {
    match (wanted, subject) {
        (Json::Number(_), Json::Number(_)) => exactly(wanted, subject),
        (Json::Array(_) | Json::Object(_), _) => false,
        _ => wanted == subject,
    }
}

/// Whole numbers within i64 are compared exactly, however they are written; all others as f64.
fn exactly(a: &Json, b: &Json) -> bool {
    match (int(a), int(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.as_f64() == b.as_f64(),
        _ => false,
    }
}

fn int(number: &Json) -> Option<i64> {
    number.as_i64().or_else(|| weir::field::whole(number.as_f64()?))
}

fn numeric(operand: &Json, subject: &Json) -> bool {
    let (Some(parts), Some(number)) = (operand.as_array(), subject.as_f64()) else { return false };
    parts.chunks(2).all(|pair| {
        let bound = pair[1].as_f64().unwrap_or(f64::NAN);
        match pair[0].as_str() {
            Some("=") => exactly(&pair[1], subject),
            Some(">") => number > bound,
            Some(">=") => number >= bound,
            Some("<") => number < bound,
            Some("<=") => number <= bound,
            _ => false,
        }
    })
}

fn compare(name: &str, operand: &Json, text: &str) -> bool {
    // {"prefix": {"equals-ignore-case": "x"}}
    let inner = operand.get("equals-ignore-case").and_then(Json::as_str);
    match (name, inner, operand.as_str()) {
        ("prefix", None, Some(wanted)) => text.starts_with(wanted),
        ("suffix", None, Some(wanted)) => text.ends_with(wanted),
        ("equals-ignore-case", None, Some(wanted)) => any_case(text, wanted).iter().any(|rest| rest.is_empty()),
        ("prefix", Some(wanted), _) => !any_case(text, wanted).is_empty(),
        ("suffix", Some(wanted), _) => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| any_case(&text[at..], wanted).contains(&"")),
        ("wildcard", _, Some(wanted)) => wild(&tokens(wanted), text.as_bytes()),
        _ => false,
    }
}

/// What may follow `wanted` at the front of `text`, whatever the case of each of its letters.
fn any_case<'t>(text: &'t str, wanted: &str) -> Vec<&'t str> {
    wanted.chars().fold(vec![text], |rests, letter| {
        let (lower, upper): (String, String) = (letter.to_lowercase().collect(), letter.to_uppercase().collect());
        let strip = |rest: &'t str| {
            // The lower case is tried first, and where it fits the upper is not.
            rest.strip_prefix(lower.as_str()).or_else(|| rest.strip_prefix(upper.as_str()))
        };
        rests.into_iter().filter_map(strip).collect()
    })
}

/// Bytes, or `None` for `*`.
fn tokens(wanted: &str) -> Vec<Option<u8>> {
    let (mut out, mut bytes) = (Vec::new(), wanted.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'*' => None,
            b'\\' => bytes.next(),
            other => Some(other),
        });
    }
    out
}

/// By a table of which tokens fit which prefixes.
fn wild(tokens: &[Option<u8>], text: &[u8]) -> bool {
    let mut fits: Vec<bool> = core::iter::once(true).chain(text.iter().map(|_| false)).collect();
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        let mut reached = false;
        for at in 0..=text.len() {
            reached |= fits[at];
            match token {
                None => next[at] = reached,
                Some(byte) if at > 0 => next[at] = fits[at - 1] && text[at - 1] == *byte,
                Some(_) => {}
            }
        }
        fits = next;
    }
    fits[text.len()]
}
