//! Event-filter patterns as AWS Lambda and EventBridge have them, evaluated before any code of a function runs.
//!
//! - Keys are joined by AND, the entries of a key's list and the branches of `$or` by OR.
//! - The outermost keys are `payload` (its fields), `topic` and `device`.
//! - A field that is an array holds if any of its items does. Values are compared as values: `20` is `20.0`, text is not
//!   a number, and whole numbers compare exactly: `1e-400`, whose nearest f64 is 0, is not `0`.
//! - A [`Pattern`] is valid and bounded by construction; [`Pattern::bind`] exchanges its paths for ids, and
//!   [`BoundPattern::matches`] allocates nothing.

mod parse;
mod test;
#[cfg(test)]
mod tests;

use crate::field::{FieldKind, Fields, Path, PathId, Paths, Value};
use test::{Subject, Test};

pub use parse::{DEPTH_MAX, FAULTS_MAX, LEAVES_MAX, PatternFault, TESTS_MAX, TEXT_BYTES_MAX};

/// A checked pattern, its fields still named by path.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    rule: Rule<Path>,
}

/// A pattern whose fields are read by one scan with the others of its [`Paths`].
#[derive(Clone, Debug, PartialEq)]
pub struct BoundPattern {
    rule: Rule<PathId>,
    reads_payload: bool,
}

/// The set of paths is full: the site's fault; fewer different fields must be bound or filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathsFull;

/// A pattern's tree. `P` names a field: by [`Path`] or by [`PathId`].
#[derive(Clone, Debug, PartialEq)]
enum Rule<P> {
    /// All hold.
    All(Vec<Rule<P>>),
    /// One holds.
    Any(Vec<Rule<P>>),
    /// One of the tests holds for what is looked at.
    Leaf(Source<P>, Vec<Test>),
}

/// What a leaf looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source<P> {
    Topic,
    Device,
    Field(P),
}

impl Pattern {
    /// Reads a pattern from its JSON form.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key and the fix.
    pub fn parse(pattern: &serde_json::Value) -> Result<Self, Vec<PatternFault>> {
        parse::pattern(pattern).map(|rule| Self { rule })
    }

    /// Reads a pattern from its TOML form, as it stands in `gateway.toml`.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub fn from_toml(pattern: &toml::Value) -> Result<Self, Vec<PatternFault>> {
        Self::parse(&parse::json_of(pattern)?)
    }

    /// The fields that it looks at, with repetitions.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = Vec::new();
        self.rule.each_field(&mut |path| paths.push(path));
        paths
    }

    /// Whether it looks into the payload; a codec of `raw` has no fields to look at.
    #[must_use]
    pub fn reads_payload(&self) -> bool {
        !self.paths().is_empty()
    }

    /// Adds its paths to `paths`.
    ///
    /// # Errors
    /// When `paths` has no room for them.
    pub fn bind(&self, paths: &mut Paths) -> Result<BoundPattern, PathsFull> {
        let rule = self.rule.map_fields(&mut |path| paths.add(path).ok_or(PathsFull))?;
        Ok(BoundPattern { rule, reads_payload: self.reads_payload() })
    }
}

impl BoundPattern {
    /// Whether it looks into the payload: if not, a message need not be scanned for its sake.
    #[must_use]
    pub const fn reads_payload(&self) -> bool {
        self.reads_payload
    }

    /// Whether the message is wanted. `fields` comes from a scan of `payload` with the paths that this was bound to; a
    /// malformed payload has been refused there.
    #[must_use]
    pub fn matches(&self, fields: &Fields, payload: &[u8], topic: &str, device: &str) -> bool {
        self.rule.holds(&Message { fields, payload, topic, device })
    }
}

/// What a pattern is held against.
struct Message<'a> {
    fields: &'a Fields,
    payload: &'a [u8],
    topic: &'a str,
    device: &'a str,
}

impl Rule<PathId> {
    fn holds(&self, message: &Message<'_>) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.holds(message)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(message)),
            Self::Leaf(Source::Topic, tests) => any(tests, &Subject::Text(message.topic.as_bytes())),
            Self::Leaf(Source::Device, tests) => any(tests, &Subject::Text(message.device.as_bytes())),
            Self::Leaf(Source::Field(id), tests) => any_of_field(tests, message.fields.value(*id), message.payload),
        }
    }
}

fn any(tests: &[Test], subject: &Subject<'_>) -> bool {
    tests.iter().any(|test| test.holds(subject))
}

fn any_of_field(tests: &[Test], value: Value, payload: &[u8]) -> bool {
    let mut holds = any(tests, &Subject::Field(value, payload));
    if !holds && value.kind() == FieldKind::Array {
        value.each_item(payload, &mut |item| holds = holds || any(tests, &Subject::Field(item, payload)));
    }
    holds
}

impl<P> Rule<P> {
    fn each_field<'a>(&'a self, out: &mut dyn FnMut(&'a P)) {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().for_each(|rule| rule.each_field(out)),
            Self::Leaf(Source::Field(path), _) => out(path),
            Self::Leaf(..) => {}
        }
    }

    fn map_fields<Q, E>(&self, field: &mut dyn FnMut(&P) -> Result<Q, E>) -> Result<Rule<Q>, E> {
        let mut each = |rules: &[Self]| rules.iter().map(|rule| rule.map_fields(field)).collect::<Result<_, E>>();
        Ok(match self {
            Self::All(rules) => Rule::All(each(rules)?),
            Self::Any(rules) => Rule::Any(each(rules)?),
            Self::Leaf(Source::Field(path), tests) => Rule::Leaf(Source::Field(field(path)?), tests.clone()),
            Self::Leaf(Source::Topic, tests) => Rule::Leaf(Source::Topic, tests.clone()),
            Self::Leaf(Source::Device, tests) => Rule::Leaf(Source::Device, tests.clone()),
        })
    }
}
