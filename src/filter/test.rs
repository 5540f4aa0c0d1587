//! One entry of a pattern's list, held against one value.
//!
//! - Every test but `exists` is false for what is not there; a test for text is false for what is not text.
//! - Text is compared byte for byte without a copy, also where the payload holds it with escapes or in chunks.

use core::ops::Bound;

use crate::field::{FieldKind, TextBytes, Value};

/// One entry of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, or `{"numeric": ["=", n]}`.
    Number(Number),
    /// `{"numeric": [">", 0, "<=", 5]}`.
    Range(Bound<f64>, Bound<f64>),
    /// A text, `prefix`, `suffix`, `equals-ignore-case`.
    Text(Part, Needle),
    /// `wildcard`.
    Wildcard(Vec<Token>),
    /// `exists`.
    Exists(bool),
    /// `anything-but`: a value is there and none of these holds for it.
    AnythingBut(Vec<Test>),
}

/// A number of a pattern: whole where it is whole and fits, and as f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number {
    pub(super) int: Option<i64>,
    pub(super) float: f64,
}

/// Which part of the text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Start,
    End,
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Needle {
    Exact(Box<[u8]>),
    /// For each character its lower and upper case, in UTF-8.
    AnyCase(Vec<[Box<[u8]>; 2]>),
}

/// A step of a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    /// `*`: any bytes, also none.
    Any,
}

/// What a test looks at.
pub(super) enum Subject<'a> {
    /// Topic or device.
    Text(&'a [u8]),
    /// A field of this payload.
    Field(Value, &'a [u8]),
}

impl Subject<'_> {
    fn kind(&self) -> FieldKind {
        match self {
            Self::Text(_) => FieldKind::String,
            Self::Field(value, _) => value.kind(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Text(_) => Value::ABSENT,
            Self::Field(value, _) => *value,
        }
    }

    fn text(&self) -> Option<TextBytes<'_>> {
        match self {
            Self::Text(text) => Some(TextBytes::plain(text)),
            Self::Field(value, payload) if value.kind() == FieldKind::String => value.text_bytes(payload),
            Self::Field(..) => None,
        }
    }

    /// The text as it lies in memory, if it is text without escapes.
    fn in_place(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Field(value, payload) if value.kind() == FieldKind::String => value.in_place(payload),
            Self::Field(..) => None,
        }
    }
}

impl Test {
    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        let value = subject.value();
        match self {
            Self::Null => value.kind() == FieldKind::Null,
            Self::Bool(wanted) => value.bool() == Some(*wanted),
            Self::Number(wanted) => wanted.is(value),
            Self::Range(low, high) => value.f64().is_some_and(|number| within(number, *low, *high)),
            Self::Exists(wanted) => (subject.kind() != FieldKind::Absent) == *wanted,
            Self::AnythingBut(tests) => {
                !matches!(subject.kind(), FieldKind::Absent | FieldKind::Array | FieldKind::Object)
                    && !tests.iter().any(|test| test.holds(subject))
            }
            Self::Text(part, needle) => match (needle, subject.in_place()) {
                (Needle::Exact(needle), Some(text)) => part.of_slice(text, needle),
                _ => subject.text().is_some_and(|text| part.of(text, needle)),
            },
            Self::Wildcard(tokens) => subject.text().is_some_and(|text| fits(tokens, text)),
        }
    }
}

impl Number {
    fn is(self, value: Value) -> bool {
        match (self.int, value.i64()) {
            (Some(wanted), Some(int)) => wanted == int,
            // Whole numbers within i64 are whole on both sides, so a lone one is unequal.
            (None, None) => value.f64() == Some(self.float),
            _ => false,
        }
    }
}

fn within(number: f64, low: Bound<f64>, high: Bound<f64>) -> bool {
    use core::ops::RangeBounds;
    (low, high).contains(&number)
}

impl Part {
    fn of_slice(self, text: &[u8], needle: &[u8]) -> bool {
        match self {
            Self::Whole => text == needle,
            Self::Start => text.starts_with(needle),
            Self::End => text.ends_with(needle),
        }
    }

    fn of(self, mut text: TextBytes<'_>, needle: &Needle) -> bool {
        match self {
            Self::Whole => needle.strip(text).is_some_and(|mut rest| rest.next().is_none()),
            Self::Start => needle.strip(text).is_some(),
            Self::End => loop {
                if Self::Whole.of(text.clone(), needle) {
                    return true;
                }
                if text.next().is_none() {
                    return false;
                }
            },
        }
    }
}

impl Needle {
    /// What follows the needle at the front of `text`.
    fn strip<'p>(&self, text: TextBytes<'p>) -> Option<TextBytes<'p>> {
        match self {
            Self::Exact(needle) => strip(text, needle),
            Self::AnyCase(chars) => chars
                .iter()
                .try_fold(text, |rest, [lower, upper]| strip(rest.clone(), lower).or_else(|| strip(rest, upper))),
        }
    }
}

fn strip<'p>(mut text: TextBytes<'p>, front: &[u8]) -> Option<TextBytes<'p>> {
    front.iter().all(|byte| text.next() == Some(*byte)).then_some(text)
}

/// Whether the wildcard fits the whole text: on a mismatch the last `*` swallows one byte more.
fn fits(tokens: &[Token], mut text: TextBytes<'_>) -> bool {
    let (mut at, mut last_star) = (0, None);
    loop {
        let mut ahead = text.clone();
        match (tokens.get(at), ahead.next()) {
            (Some(Token::Any), _) => {
                at += 1;
                last_star = Some((at, text.clone()));
            }
            (Some(Token::Byte(wanted)), Some(byte)) if *wanted == byte => {
                at += 1;
                text = ahead;
            }
            (None, None) => return true,
            (Some(Token::Byte(_)), None) => return false,
            _ => match &mut last_star {
                None => return false,
                Some((behind, swallowed)) => {
                    swallowed.next();
                    (at, text) = (*behind, swallowed.clone());
                }
            },
        }
    }
}
