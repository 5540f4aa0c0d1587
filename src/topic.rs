//! MQTT topic names and filters: check, match (MQTT 5.0 §4.7), and the `$share/GROUP/FILTER` form (§4.8.2).
//!
//! - A [`TopicFilter`] is valid by construction; `+` and `#` stand for whole levels only.
//! - Wildcards at the first level never match names that begin with `$`.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest topic name or filter in bytes (MQTT 5.0 §1.5.4).
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Most levels of a filter (brokers take no more either): the trigger index goes as deep.
pub const FILTER_LEVELS_MAX: usize = 200;

/// A valid topic filter, with the group of a shared subscription set apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter {
    share_group: Option<String>,
    filter: String,
}

/// Why a topic name or filter was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicError {
    text: String,
    why: &'static str,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.text.escape_debug(), self.why)
    }
}

impl std::error::Error for TopicError {}

impl TopicFilter {
    /// The filter without a share group.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.filter
    }

    /// The group of a shared subscription.
    #[must_use]
    pub fn share_group(&self) -> Option<&str> {
        self.share_group.as_deref()
    }

    /// Whether `topic` (a name, no wildcards) matches.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.filter, topic)
    }

    /// Whether some topic name matches both filters.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        overlap(self.filter.split('/'), other.filter.split('/'))
    }

    /// The narrowest filter that takes every topic name of either; `None` if they are of different shares.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let filter = join(self.filter.split('/'), other.filter.split('/'));
        (self.share_group == other.share_group).then(|| Self { share_group: self.share_group.clone(), filter })
    }

    /// Whether every topic name that matches `other` matches `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.filter.starts_with(['+', '#']) && other.filter.starts_with('$') {
            return false;
        }
        let (mut ours, mut theirs) = (self.filter.split('/'), other.filter.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(level)) if level != "#" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

/// The narrowest filter that takes what either takes.
fn join<'a>(mut a: impl Iterator<Item = &'a str>, mut b: impl Iterator<Item = &'a str>) -> String {
    let mut levels = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => return levels.join("/"),
            (Some(x), Some(y)) if x == y && x != "#" => levels.push(x),
            (Some(x), Some(y)) if x != "#" && y != "#" => levels.push("+"),
            _ => {
                levels.push("#");
                return levels.join("/");
            }
        }
    }
}

fn overlap<'a>(mut a: impl Iterator<Item = &'a str>, mut b: impl Iterator<Item = &'a str>) -> bool {
    let mut first = true;
    loop {
        match (a.next(), b.next()) {
            (Some("#" | "+"), Some(level)) | (Some(level), Some("#" | "+")) if first && level.starts_with('$') => {
                return false;
            }
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == "+" || y == "+" || x == y => {}
            _ => return false,
        }
        first = false;
    }
}

fn matches(filter: &str, topic: &str) -> bool {
    if filter.starts_with(['+', '#']) && topic.starts_with('$') {
        return false;
    }
    let (mut levels, mut names) = (filter.split('/'), topic.split('/'));
    loop {
        match (levels.next(), names.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}

/// Checks a topic *name*: not empty, no wildcards, no NUL, at most [`TOPIC_BYTES_MAX`] bytes.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let refuse = |why| Err(TopicError { text: name.chars().take(80).collect(), why });
    match name {
        "" => refuse("is empty"),
        _ if name.len() > TOPIC_BYTES_MAX => refuse("is longer than 65535 bytes"),
        _ if name.contains(['+', '#']) => refuse("has a wildcard; a topic name has none"),
        _ if name.contains('\0') => refuse("has a NUL character"),
        _ => Ok(()),
    }
}

impl FromStr for TopicFilter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let refuse = |why| Err(TopicError { text: text.chars().take(80).collect(), why });
        let (share_group, filter) = match text.strip_prefix("$share/") {
            None => (None, text),
            Some(rest) => match rest.split_once('/') {
                Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => {
                    (Some(group.to_owned()), filter)
                }
                _ => return refuse("is not of the form $share/GROUP/FILTER"),
            },
        };
        if filter.is_empty() {
            return refuse("is empty");
        }
        if text.len() > TOPIC_BYTES_MAX {
            return refuse("is longer than 65535 bytes");
        }
        if filter.contains('\0') {
            return refuse("has a NUL character");
        }
        if FILTER_LEVELS_MAX < filter.split('/').count() {
            return refuse("has more than 200 levels");
        }
        let mut levels = filter.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "#" if levels.peek().is_some() => return refuse("has `#` before the last level"),
                "#" | "+" => {}
                _ if level.contains(['+', '#']) => {
                    return refuse("has a wildcard inside a level; `+` and `#` stand for whole levels");
                }
                _ => {}
            }
        }
        Ok(Self { share_group, filter: filter.to_owned() })
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.share_group {
            Some(group) => write!(f, "$share/{group}/{}", self.filter),
            None => f.write_str(&self.filter),
        }
    }
}

impl<'de> Deserialize<'de> for TopicFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for TopicFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (text, topic, want) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("$share/g/a/+", "a/b", true),
        ] {
            assert_eq!(filter(text).matches(topic), want, "{text} {topic}");
        }
    }

    #[test]
    fn malformed_filters_are_refused() {
        assert!("a/".repeat(199).parse::<TopicFilter>().is_ok() && "a/".repeat(200).parse::<TopicFilter>().is_err());
        for text in ["", "a/#/b", "a#", "a/b+", "$share/g", "$share//a", "$share/+/a", "a\0b"] {
            assert!(text.parse::<TopicFilter>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_and_cover_are_decided_by_levels() {
        for (a, b, overlaps, covers) in [
            ("a/#", "a/+/c", true, true),
            ("a/+", "a/#", true, false),
            ("a/b", "a/c", false, false),
            ("+/b", "a/+", true, false),
            ("#", "$SYS/a", false, false),
            ("a/+", "a/b", true, true),
        ] {
            assert_eq!(filter(a).overlaps(&filter(b)), overlaps, "{a} {b}");
            assert_eq!(filter(b).overlaps(&filter(a)), overlaps, "{b} {a}");
            assert_eq!(filter(a).covers(&filter(b)), covers, "{a} {b}");
        }
    }

    #[test]
    fn a_joined_filter_covers_both_and_is_the_narrowest_by_levels() {
        for (a, b, want) in [
            ("a/+/c", "+/b/c", "+/+/c"),
            ("site/+/temp", "site/lab/#", "site/+/#"),
            ("a/b", "a/b/c", "a/b/#"),
            ("a/b", "a/c", "a/+"),
            ("$SYS/a", "$SYS/+", "$SYS/+"),
        ] {
            let joined = filter(a).joined(&filter(b)).unwrap();
            assert_eq!(joined.to_string(), want);
            assert!(joined.covers(&filter(a)) && joined.covers(&filter(b)), "{a} {b}");
        }
        assert_eq!(filter("$share/g/a").joined(&filter("a")), None);
    }

    #[test]
    fn names_have_no_wildcards() {
        assert!(check_name("a/b").is_ok() && check_name("").is_err() && check_name("a/+").is_err());
    }
}
