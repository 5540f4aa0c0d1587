//! Reading patterns: strict and bounded, every fault at once, each with its key and the fix.

use core::fmt;
use core::ops::Bound;

use serde_json::{Map, Value as Json};

use super::test::{Needle, Number, Part, Test, Token};
use super::{Rule, Source};
use crate::field::{Path, Segment};
use crate::printable::cut;

/// Most keys with a list.
pub const LEAVES_MAX: usize = 64;
/// Most entries of all lists together, those of `anything-but` included.
pub const TESTS_MAX: usize = 256;
/// Deepest nesting of keys, the outermost and `$or` included.
pub const DEPTH_MAX: usize = 8;
/// Longest text that is compared with, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// Faults that are told of one pattern.
pub const FAULTS_MAX: usize = 64;
/// Bytes of the place that a fault names: keys are as long as their writer likes.
const PLACE_BYTES_MAX: usize = 512;

/// One thing that is wrong with a pattern: the site's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternFault {
    /// Where, from the pattern's top: `payload.temp[0].numeric`; empty for the pattern as a whole.
    pub key: String,
    /// What is wrong, and the fix.
    pub what: String,
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.what),
            key => write!(f, "{key}: {}", self.what),
        }
    }
}

impl std::error::Error for PatternFault {}

const OPERATORS: &str = "anything-but, equals-ignore-case, exists, numeric, prefix, suffix, wildcard";

pub(super) fn pattern(pattern: &Json) -> Result<Rule<Path>, Vec<PatternFault>> {
    let mut reader = Reader::default();
    let rule = reader.top(pattern, "", 1);
    if reader.leaves > LEAVES_MAX {
        reader.fault("", format!("has {} keys with a list; at most {LEAVES_MAX} are taken", reader.leaves));
    }
    if reader.tests > TESTS_MAX {
        reader.fault("", format!("has {} entries in its lists; at most {TESTS_MAX} are taken", reader.tests));
    }
    if reader.faults.is_empty() { Ok(rule) } else { Err(reader.faults) }
}

/// The JSON form of a TOML pattern.
pub(super) fn json_of(value: &toml::Value) -> Result<Json, Vec<PatternFault>> {
    let mut reader = Reader::default();
    let json = reader.json_of(value, "");
    if reader.faults.is_empty() { Ok(json) } else { Err(reader.faults) }
}

#[derive(Default)]
struct Reader {
    faults: Vec<PatternFault>,
    leaves: usize,
    tests: usize,
}

/// Where keys lead at this level of the pattern.
#[derive(Clone, Copy)]
enum Level<'a> {
    /// `payload`, `topic`, `device`.
    Top,
    /// Below `payload`.
    Field(&'a [Segment]),
}

impl Reader {
    fn fault(&mut self, key: &str, what: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(PatternFault { key: key.into(), what: what.into() });
        }
    }

    fn top(&mut self, value: &Json, at: &str, depth: usize) -> Rule<Path> {
        self.object(value, at, Level::Top, depth)
    }

    /// Keys joined by AND.
    fn object(&mut self, value: &Json, at: &str, level: Level<'_>, depth: usize) -> Rule<Path> {
        let mut rules = Vec::new();
        match value {
            Json::Object(keys) if keys.is_empty() => self.fault(at, "is empty; name a key, or leave the filter out"),
            Json::Object(_) if depth > DEPTH_MAX => {
                self.fault(at, format!("is nested deeper than {DEPTH_MAX} keys; filter by a field further out"));
            }
            Json::Object(keys) => {
                for (key, value) in keys {
                    rules.push(self.key(key, value, &joined(at, key), level, depth));
                }
            }
            _ => self.fault(at, "is not a table of keys; write one, as in {\"payload\": {\"temp\": [20]}}"),
        }
        Rule::All(rules)
    }

    fn key(&mut self, key: &str, value: &Json, at: &str, level: Level<'_>, depth: usize) -> Rule<Path> {
        match (level, key) {
            (_, "$or") => self.or(value, at, level, depth),
            (Level::Top, "topic") => self.leaf(value, at, Source::Topic),
            (Level::Top, "device") => self.leaf(value, at, Source::Device),
            (Level::Top, "payload") => self.field(value, at, &[], depth),
            (Level::Top, _) => {
                self.fault(at, "is unknown; the outermost keys are payload, topic, device and $or");
                Rule::All(Vec::new())
            }
            (Level::Field(above), _) => {
                let mut segments = above.to_vec();
                segments.push(Segment::Key(key.into()));
                self.field(value, at, &segments, depth)
            }
        }
    }

    /// Branches joined by OR.
    fn or(&mut self, value: &Json, at: &str, level: Level<'_>, depth: usize) -> Rule<Path> {
        let mut rules = Vec::new();
        match value {
            Json::Array(branches) if !branches.is_empty() => {
                for (index, branch) in branches.iter().enumerate() {
                    rules.push(self.object(branch, &format!("{at}[{index}]"), level, depth + 1));
                }
            }
            _ => self.fault(at, "is not a list of patterns; write one, as in \"$or\": [{…}, {…}]"),
        }
        Rule::Any(rules)
    }

    /// A field, or keys below it.
    fn field(&mut self, value: &Json, at: &str, segments: &[Segment], depth: usize) -> Rule<Path> {
        if value.is_object() {
            return self.object(value, at, Level::Field(segments), depth + 1);
        }
        match Path::of(segments.to_vec()) {
            Ok(path) => self.leaf(value, at, Source::Field(path)),
            Err(error) => {
                self.fault(at, error.what);
                Rule::All(Vec::new())
            }
        }
    }

    /// A list of entries joined by OR.
    fn leaf(&mut self, value: &Json, at: &str, source: Source<Path>) -> Rule<Path> {
        self.leaves += 1;
        let is_text = !matches!(source, Source::Field(_));
        let mut tests = Vec::new();
        match value {
            Json::Array(entries) if entries.is_empty() => self.fault(at, "is an empty list, which nothing can match"),
            Json::Array(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    let at = format!("{at}[{index}]");
                    if is_text && never_of_text(entry) {
                        self.fault(
                            &at,
                            "can never hold, for topic and device are always text; write a text, or prefix, …",
                        );
                    }
                    tests.extend(self.entry(entry, &at));
                }
            }
            Json::Object(_) => self.fault(at, "is a table; topic and device have no keys below, write a list"),
            // Neither table nor list: short, but for a text.
            _ => self.fault(at, format!("is not a list; write [{}]", cut(&value.to_string(), PLACE_BYTES_MAX))),
        }
        Rule::Leaf(source, tests)
    }

    fn entry(&mut self, entry: &Json, at: &str) -> Option<Test> {
        match entry {
            Json::Object(operator) => self.operator(operator, at),
            Json::Array(_) => {
                self.tests += 1;
                self.fault(at, "is a list inside a list; the entries of one list are alternatives already");
                None
            }
            _ => self.literal(entry, at),
        }
    }

    fn literal(&mut self, value: &Json, at: &str) -> Option<Test> {
        self.tests += 1;
        match value {
            Json::Null => Some(Test::Null),
            Json::Bool(value) => Some(Test::Bool(*value)),
            Json::Number(_) => self.number(value, at).map(Test::Number),
            Json::String(text) => self.checked(text, at).map(|text| exact(Part::Whole, text)),
            Json::Array(_) | Json::Object(_) => {
                self.fault(at, "is not a text, number, truth value or null");
                None
            }
        }
    }

    fn operator(&mut self, operator: &Map<String, Json>, at: &str) -> Option<Test> {
        let mut entries = operator.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            self.tests += 1;
            self.fault(at, format!("has {} operators; write one a table, of {OPERATORS}", operator.len()));
            return None;
        };
        let at = &joined(at, name);
        match name.as_str() {
            "anything-but" => self.anything_but(value, at),
            "numeric" => {
                self.tests += 1;
                self.numeric(value, at)
            }
            "exists" => {
                self.tests += 1;
                match value {
                    Json::Bool(wanted) => Some(Test::Exists(*wanted)),
                    _ => {
                        self.fault(at, "is neither true nor false");
                        None
                    }
                }
            }
            "prefix" | "suffix" | "equals-ignore-case" | "wildcard" => self.text_operator(name, value, at),
            _ => {
                self.tests += 1;
                self.fault(at, format!("is an unknown operator; known are {OPERATORS}"));
                None
            }
        }
    }

    /// An operator on text with its one operand.
    fn text_operator(&mut self, name: &str, value: &Json, at: &str) -> Option<Test> {
        self.tests += 1;
        let part = match name {
            "prefix" => Part::Start,
            "suffix" => Part::End,
            _ => Part::Whole,
        };
        match (name, value) {
            ("wildcard", Json::String(text)) => {
                let text = self.checked(text, at)?;
                self.wildcard(text, at)
            }
            ("equals-ignore-case", Json::String(text)) => self.checked(text, at).map(|text| any_case(part, text)),
            (_, Json::String(text)) => self.checked(text, at).map(|text| exact(part, text)),
            ("prefix" | "suffix", Json::Object(inner)) => match inner.get("equals-ignore-case") {
                Some(Json::String(text)) if inner.len() == 1 => {
                    let at = joined(at, "equals-ignore-case");
                    self.checked(text, &at).map(|text| any_case(part, text))
                }
                _ => {
                    self.fault(
                        at,
                        format!("takes a text or a table, as in {{\"{name}\": {{\"equals-ignore-case\": \"x\"}}}}"),
                    );
                    None
                }
            },
            _ => {
                self.fault(at, format!("takes a text, as in {{\"{name}\": \"x\"}}"));
                None
            }
        }
    }

    /// A value, a list of values, or one operator on text with one operand or a list of them.
    fn anything_but(&mut self, value: &Json, at: &str) -> Option<Test> {
        let mut tests = Vec::new();
        match value {
            Json::Object(operator) => match operator.iter().next().map(|(name, value)| (name.as_str(), value)) {
                Some((name @ ("prefix" | "suffix" | "equals-ignore-case" | "wildcard"), value))
                    if operator.len() == 1 =>
                {
                    let at = joined(at, name);
                    for (at, value) in items(value, &at) {
                        tests.extend(self.text_operator(name, value, &at));
                    }
                }
                _ => {
                    let takes =
                        "takes a value, a list of values, or one of prefix, suffix, equals-ignore-case, wildcard";
                    self.tests += 1;
                    self.fault(at, takes);
                    return None;
                }
            },
            _ => {
                for (at, value) in items(value, at) {
                    tests.extend(self.literal(value, &at));
                }
            }
        }
        if matches!(value, Json::Array(list) if list.is_empty()) {
            self.fault(at, "is an empty list; to ask that the field is there, write {\"exists\": true}");
        }
        Some(Test::AnythingBut(tests))
    }

    /// One or two comparisons.
    fn numeric(&mut self, value: &Json, at: &str) -> Option<Test> {
        let forms = "takes comparisons, as in [\">\", 20], [\">=\", 0, \"<\", 100] or [\"=\", 5]";
        let parts = match value {
            Json::Array(parts) if matches!(parts.len(), 2 | 4) => parts,
            _ => {
                self.fault(at, forms);
                return None;
            }
        };
        let (mut low, mut high) = (Bound::Unbounded, Bound::Unbounded);
        for pair in parts.chunks_exact(2) {
            let (sign, Json::Number(_)) = (pair[0].as_str().unwrap_or_default(), &pair[1]) else {
                self.fault(at, forms);
                return None;
            };
            let number = self.number(&pair[1], at)?;
            let (bound, slot) = match sign {
                "=" if parts.len() == 2 => return Some(Test::Number(number)),
                ">" => (Bound::Excluded(number.float), &mut low),
                ">=" => (Bound::Included(number.float), &mut low),
                "<" => (Bound::Excluded(number.float), &mut high),
                "<=" => (Bound::Included(number.float), &mut high),
                _ => {
                    self.fault(at, forms);
                    return None;
                }
            };
            if *slot != Bound::Unbounded {
                self.fault(at, "has two bounds on the same side; write a lower and an upper one");
                return None;
            }
            *slot = bound;
        }
        if nothing_between(low, high) {
            self.fault(at, "is an empty range, which nothing can match");
        }
        Some(Test::Range(low, high))
    }

    fn number(&mut self, value: &Json, at: &str) -> Option<Number> {
        let float = value.as_f64().filter(|float| float.is_finite());
        match (value.as_i64(), float) {
            (int @ Some(_), Some(float)) => Some(Number { int, float }),
            (None, Some(float)) => Some(Number { int: crate::field::whole(float), float }),
            (_, None) => {
                self.fault(at, "is outside the range of numbers");
                None
            }
        }
    }

    fn checked<'t>(&mut self, text: &'t str, at: &str) -> Option<&'t str> {
        if text.len() > TEXT_BYTES_MAX {
            self.fault(at, format!("is a text of {} bytes; at most {TEXT_BYTES_MAX} are taken", text.len()));
            return None;
        }
        Some(text)
    }

    /// `*` for any text, `\*` and `\\` for themselves.
    fn wildcard(&mut self, text: &str, at: &str) -> Option<Test> {
        let (mut tokens, mut bytes) = (Vec::new(), text.bytes());
        while let Some(byte) = bytes.next() {
            match byte {
                b'*' if tokens.last() == Some(&Token::Any) => {
                    self.fault(at, "has two `*` in a row; one stands for any text already");
                    return None;
                }
                b'*' => tokens.push(Token::Any),
                b'\\' => match bytes.next() {
                    Some(escaped @ (b'*' | b'\\')) => tokens.push(Token::Byte(escaped)),
                    _ => {
                        self.fault(at, "has a `\\` before neither `*` nor `\\`; write `\\\\` for the sign itself");
                        return None;
                    }
                },
                _ => tokens.push(Token::Byte(byte)),
            }
        }
        Some(Test::Wildcard(tokens))
    }

    fn json_of(&mut self, value: &toml::Value, at: &str) -> Json {
        match value {
            toml::Value::String(text) => text.as_str().into(),
            toml::Value::Integer(int) => (*int).into(),
            toml::Value::Boolean(value) => (*value).into(),
            toml::Value::Float(float) => serde_json::Number::from_f64(*float).map_or_else(
                || {
                    self.fault(at, "is not a finite number, which no payload holds");
                    Json::Null
                },
                Json::Number,
            ),
            toml::Value::Datetime(_) => {
                self.fault(at, "is a date, which payloads do not have; write it in quotes to compare it as text");
                Json::Null
            }
            toml::Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| self.json_of(item, &format!("{at}[{index}]"))).collect()
            }
            toml::Value::Table(table) => {
                table.iter().map(|(key, value)| (key.clone(), self.json_of(value, &joined(at, key)))).collect()
            }
        }
    }
}

fn joined(at: &str, key: &str) -> String {
    let key = cut(key, PLACE_BYTES_MAX);
    if at.is_empty() { key.to_owned() } else { format!("{}.{key}", cut(at, PLACE_BYTES_MAX)) }
}

/// The entries of a list with their keys, or the value itself.
fn items<'a>(value: &'a Json, at: &'a str) -> impl Iterator<Item = (String, &'a Json)> {
    let (list, one) = match value {
        Json::Array(list) => (list.as_slice(), None),
        one => (&[][..], Some((at.to_owned(), one))),
    };
    list.iter().enumerate().map(move |(index, item)| (format!("{at}[{index}]"), item)).chain(one)
}

fn never_of_text(entry: &Json) -> bool {
    match entry {
        Json::Object(operator) => {
            operator.contains_key("numeric") || operator.get("exists") == Some(&Json::Bool(false))
        }
        other => !other.is_string() && !other.is_array(),
    }
}

fn exact(part: Part, text: &str) -> Test {
    Test::Text(part, Needle::Exact(text.as_bytes().into()))
}

fn any_case(part: Part, text: &str) -> Test {
    let bytes = |chars: &mut dyn Iterator<Item = char>| chars.collect::<String>().into_bytes().into_boxed_slice();
    let chars = text.chars().map(|c| [bytes(&mut c.to_lowercase()), bytes(&mut c.to_uppercase())]);
    Test::Text(part, Needle::AnyCase(chars.collect()))
}

fn nothing_between(low: Bound<f64>, high: Bound<f64>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}
