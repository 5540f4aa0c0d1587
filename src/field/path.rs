//! Paths of fields: `a.b[0].c`, keys in quotes where they hold `.`, `[` or `"`, and `.` alone for the whole payload.
//!
//! - Two paths are equal when they name the same place, however they were written; [`Path`] prints the shortest form.
//! - [`steps`] reads a path without allocating; it is what late look-ups of guests use.

use core::fmt;

/// Longest path as text, in bytes.
pub const PATH_BYTES_MAX: usize = 256;
/// Most keys and places in a path; deeper payloads are malformed, so a longer path could never be found.
pub const PATH_STEPS_MAX: usize = super::DEPTH_MAX;

/// The place of a field in a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    segments: Vec<Segment>,
}

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A key of an object, unescaped.
    Key(Box<str>),
    /// A place in an array, from 0.
    Place(u32),
}

/// Why a path was refused: the writer's fault; the text says what would be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Byte offset in the path's text.
    pub at: usize,
    /// What is wrong there, and the fix.
    pub what: &'static str,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path is wrong at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for PathError {}

const EMPTY: &str = "a key is missing; keys are joined by single dots, an empty key is written \"\"";
const QUOTE: &str = "a quote inside a key; put the whole key in quotes and write the quote as \\\"";
const UNCLOSED: &str = "the quoted key does not end; close it with a quote";
const ESCAPE: &str = "inside quotes only \\\" and \\\\ are escapes";
const JOINT: &str = "after a key or place comes `.`, `[` or the end";
const PLACE: &str = "an array place is a whole number without leading zeros in brackets, as in [0]";
const LONG: &str = "the path is longer than 256 bytes";
const DEEP: &str = "the path has more than 32 steps, and deeper payloads are malformed";

impl Path {
    /// The whole payload: for payloads that are a bare number or text.
    #[must_use]
    pub const fn root() -> Self {
        Self { segments: Vec::new() }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Where the text is no path, and what would be.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut segments = Vec::new();
        steps(text, |step| segments.push(step.to_segment()))?;
        Ok(Self { segments })
    }

    /// The path from its steps.
    ///
    /// # Errors
    /// When there are more than [`PATH_STEPS_MAX`] steps, or the text form would pass [`PATH_BYTES_MAX`].
    pub fn of(segments: Vec<Segment>) -> Result<Self, PathError> {
        let path = Self { segments };
        match () {
            () if path.segments.len() > PATH_STEPS_MAX => Err(PathError { at: 0, what: DEEP }),
            () if path.to_string().len() > PATH_BYTES_MAX => Err(PathError { at: PATH_BYTES_MAX, what: LONG }),
            () => Ok(path),
        }
    }

    /// The steps from the payload's outermost value to the field.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str(".");
        }
        for (index, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Place(place) => write!(f, "[{place}]")?,
                Segment::Key(key) => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    if key.is_empty() || key.contains(['.', '[', '"']) {
                        write!(f, "\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))?;
                    } else {
                        f.write_str(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// One step of a path's text, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// A key.
    Key(Name<'a>),
    /// A place in an array.
    Place(u32),
}

/// A key as it stands in a path's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    raw: &'a str,
    quoted: bool,
}

impl Name<'_> {
    /// Whether the name, unescaped, is `key`.
    pub(super) fn is(self, key: &[u8]) -> bool {
        if self.quoted { self.unescaped().eq(key.iter().copied()) } else { self.raw.as_bytes() == key }
    }

    fn unescaped(&self) -> impl Iterator<Item = u8> {
        let mut bytes = self.raw.bytes();
        core::iter::from_fn(move || match bytes.next() {
            Some(b'\\') => bytes.next(),
            other => other,
        })
    }

    fn to_boxed(self) -> Box<str> {
        if !self.quoted {
            return self.raw.into();
        }
        let mut chars = self.raw.chars();
        core::iter::from_fn(|| chars.next().and_then(|c| if c == '\\' { chars.next() } else { Some(c) })).collect()
    }
}

impl Step<'_> {
    fn to_segment(self) -> Segment {
        match self {
            Step::Key(name) => Segment::Key(name.to_boxed()),
            Step::Place(place) => Segment::Place(place),
        }
    }
}

/// Reads a path's text and hands its steps out in order: at most [`PATH_STEPS_MAX`], none for `.`.
pub(super) fn steps<'a>(text: &'a str, mut out: impl FnMut(Step<'a>)) -> Result<(), PathError> {
    let bytes = text.as_bytes();
    if bytes.len() > PATH_BYTES_MAX {
        return Err(PathError { at: PATH_BYTES_MAX, what: LONG });
    }
    if text == "." {
        return Ok(());
    }
    let (mut at, mut count) = (0, 0);
    loop {
        if count == PATH_STEPS_MAX {
            return Err(PathError { at, what: DEEP });
        }
        let (step, end) = match bytes.get(at) {
            Some(b'[') => place(text, at)?,
            Some(b'.') if count > 0 => key(text, at + 1)?,
            _ if count == 0 => key(text, at)?,
            _ => return Err(PathError { at, what: JOINT }),
        };
        out(step);
        count += 1;
        at = end;
        if at == bytes.len() {
            return Ok(());
        }
    }
}

/// The key that begins at `at`, and where it ends.
fn key(text: &str, at: usize) -> Result<(Step<'_>, usize), PathError> {
    let rest = &text[at..];
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut bytes = quoted.bytes().enumerate();
        while let Some((offset, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    let name = Name { raw: &quoted[..offset], quoted: true };
                    return Ok((Step::Key(name), at + offset + 2));
                }
                b'\\' if !matches!(bytes.next(), Some((_, b'"' | b'\\'))) => {
                    return Err(PathError { at: at + 1 + offset, what: ESCAPE });
                }
                _ => {}
            }
        }
        return Err(PathError { at, what: UNCLOSED });
    }
    let raw = &rest[..rest.find(['.', '[']).unwrap_or(rest.len())];
    match raw.find('"') {
        Some(offset) => Err(PathError { at: at + offset, what: QUOTE }),
        None if raw.is_empty() => Err(PathError { at, what: EMPTY }),
        None => Ok((Step::Key(Name { raw, quoted: false }), at + raw.len())),
    }
}

/// The place whose `[` stands at `at`, and where it ends.
fn place(text: &str, at: usize) -> Result<(Step<'_>, usize), PathError> {
    let refused = PathError { at, what: PLACE };
    let inner = &text[at + 1..];
    let digits = &inner[..inner.find(']').ok_or(refused)?];
    let canonical = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.parse() {
        Ok(place) if canonical => Ok((Step::Place(place), at + digits.len() + 2)),
        _ => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let path = Path::parse(text).unwrap();
        let parts = path.segments().iter().map(|segment| match segment {
            Segment::Key(key) => format!("<{key}>"),
            Segment::Place(place) => place.to_string(),
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_path_is_keys_and_places() {
        for (text, want) in [
            ("temp", "<temp>"),
            ("a.b[0].c", "<a> <b> 0 <c>"),
            ("[2][10]", "2 10"),
            ("[0].x", "0 <x>"),
            ("\"a.b\".c", "<a.b> <c>"),
            ("\"\"", "<>"),
            (r#""a\"b\\""#, "<a\"b\\>"),
            ("ä.ö]", "<ä> <ö]>"),
            ("a\\b", "<a\\b>"),
            ("\"x\"[1]", "<x> 1"),
            (".", ""),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused_where_it_goes_wrong() {
        for (text, at) in [
            ("", 0),
            (".a", 0),
            ("a.", 2),
            ("a..b", 2),
            ("a\"b", 1),
            ("\"a", 0),
            ("\"a\\n\"", 2),
            ("\"a\"b", 3),
            ("a[", 1),
            ("a[01]", 1),
            ("a[-1]", 1),
            ("a[+1]", 1),
            ("a[4294967296]", 1),
            ("a[]", 1),
            ("a[0]b", 4),
            ("a.[0]", 2),
        ] {
            assert_eq!(Path::parse(text).unwrap_err().at, at, "{text}");
        }
        assert!(Path::parse(&"k".repeat(257)).is_err() && Path::parse(&"[0]".repeat(33)).is_err());
        assert!(Path::parse(&"k".repeat(256)).is_ok() && Path::parse(&"[0]".repeat(32)).is_ok());
    }

    #[test]
    fn the_text_form_comes_back() {
        for text in ["a.b[0].c", "\"a.b\".c", "[2][10]", r#""a\"b\\""#, "\"\".x", ".", "a\\b"] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Path::parse("\"temp\"").unwrap(), Path::parse("temp").unwrap());
    }

    #[test]
    fn names_compare_unescaped() {
        for (text, key, want) in [("ab", "ab", true), (r#""a\"b""#, "a\"b", true), (r#""a\\""#, "a\\\\", false)] {
            steps(text, |step| assert!(matches!(step, Step::Key(name) if name.is(key.as_bytes()) == want))).unwrap();
        }
    }
}
