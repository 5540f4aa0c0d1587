//! One table of a TOML file, read key by key.

use core::cell::Cell;
use core::fmt::Display;
use core::ops::RangeInclusive;
use core::str::FromStr;

use toml::{Table, Value};

use super::{Faults, nearest};
use crate::units::{Bytes, Millis};

/// A table that is being read. Keys are kebab-case and lie directly in the table.
#[derive(Debug)]
pub struct Section<'a> {
    file: &'a str,
    path: String,
    table: Option<&'a Table>,
    asked: Vec<&'static str>,
    faults: &'a Faults,
    sound: Cell<bool>,
}

impl<'a> Section<'a> {
    /// The top of `file`.
    #[must_use]
    pub fn top(file: &'a str, table: &'a Table, faults: &'a Faults) -> Self {
        Self::new(file, String::new(), Some(table), faults)
    }

    fn new(file: &'a str, path: String, table: Option<&'a Table>, faults: &'a Faults) -> Self {
        Self { file, path, table, asked: Vec::new(), faults, sound: Cell::new(true) }
    }

    /// Whether the file has this section at all.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The file that it stands in.
    #[must_use]
    pub const fn file(&self) -> &'a str {
        self.file
    }

    /// The path of `key` within the file.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Gives an entry of a list its name: `function[2]` becomes `function.mean`.
    pub fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// Refuses the value of `key` (or the section itself: "").
    pub fn refuse(&self, key: &str, text: &str) {
        self.sound.set(false);
        self.faults.refuse(self.file, &self.path(key), text);
    }

    /// Warns of the value of `key`.
    pub fn warn(&self, key: &str, text: &str) {
        self.faults.warn(self.file, &self.path(key), text);
    }

    /// The value of `key`, unread.
    pub fn raw(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table.and_then(|table| table.get(key))
    }

    /// Whether `key` is given.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.raw(key).is_some()
    }

    fn of_kind<T>(&mut self, key: &'static str, wish: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.raw(key)?;
        let read = read(value);
        if read.is_none() {
            self.refuse(key, &format!("is {}; wants {wish}", kind(value)));
        }
        read
    }

    /// Text.
    pub fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.of_kind(key, "text", Value::as_str)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.of_kind(key, "true or false", Value::as_bool).unwrap_or(default)
    }

    /// Text that must be given.
    pub fn required_text(&mut self, key: &'static str, example: &str) -> Option<&'a str> {
        if self.has(key) {
            return self.text(key);
        }
        self.refuse(key, &format!("is missing; write {key} = \"{example}\""));
        None
    }

    /// Text in the form of `T`.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str, wish: &str) -> Option<T> {
        let text = self.of_kind(key, wish, Value::as_str)?;
        text.parse().map_err(|error: T::Err| self.refuse(key, &error.to_string())).ok()
    }

    /// A size with its unit, within `range`.
    pub fn bytes(&mut self, key: &'static str, default: Bytes, range: RangeInclusive<Bytes>) -> Bytes {
        self.quantity(key, "a size with its unit, as in \"64 KiB\"", default, range)
    }

    /// A duration with its unit, within `range`.
    pub fn millis(&mut self, key: &'static str, default: Millis, range: RangeInclusive<Millis>) -> Millis {
        self.quantity(key, "a duration with its unit, as in \"5 s\"", default, range)
    }

    /// A duration that may be left out.
    pub fn millis_option(&mut self, key: &'static str, range: RangeInclusive<Millis>) -> Option<Millis> {
        self.has(key).then(|| self.millis(key, *range.start(), range))
    }

    /// A size that may be left out.
    pub fn bytes_option(&mut self, key: &'static str, range: RangeInclusive<Bytes>) -> Option<Bytes> {
        self.has(key).then(|| self.bytes(key, *range.start(), range))
    }

    /// A whole number within `range`.
    pub fn number<N>(&mut self, key: &'static str, default: N, range: RangeInclusive<N>) -> N
    where
        N: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let wish = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(value) = self.of_kind(key, &wish, Value::as_integer) else { return default };
        match N::try_from(value) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.refuse(key, &format!("is {value}; wants {wish}"));
                default
            }
        }
    }

    fn quantity<T>(&mut self, key: &'static str, wish: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr<Err: Display> + PartialOrd + Display + Copy,
    {
        let Some(value) = self.parsed::<T>(key, wish) else { return default };
        if range.contains(&value) {
            return value;
        }
        let bound = if value < *range.start() {
            format!("at least {}", range.start())
        } else {
            format!("at most {}", range.end())
        };
        self.refuse(key, &format!("wants {value}; {bound} is taken"));
        default
    }

    /// One of some words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let wish = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let word = self.of_kind(key, &format!("one of {wish}"), Value::as_str)?;
        let chosen = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if chosen.is_none() {
            let meant = did_you_mean(word, choices.iter().map(|(name, _)| *name));
            self.refuse(key, &format!("`{word}` is none of {wish}{meant}"));
        }
        chosen
    }

    /// A list of texts in the form of `T`; a single text counts as a list of one.
    pub fn list<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let items = match self.raw(key)? {
            Value::Array(items) => items.as_slice(),
            single => core::slice::from_ref(single),
        };
        let mut read = Vec::with_capacity(items.len());
        for item in items {
            match item.as_str().map(str::parse::<T>) {
                Some(Ok(value)) => read.push(value),
                Some(Err(error)) => self.refuse(key, &error.to_string()),
                None => self.refuse(key, &format!("holds {}; wants a list of texts", kind(item))),
            }
        }
        Some(read)
    }

    /// The table under `key`; an absent one reads as empty.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let table = self.of_kind(key, &format!("a table: [{}]", self.path(key)), Value::as_table);
        Self::new(self.file, self.path(key), table, self.faults)
    }

    /// The tables under `key`, by their own keys, which the user chose.
    pub fn named_sections(&mut self, key: &'static str) -> Vec<(&'a str, Section<'a>)> {
        let path = self.path(key);
        let Some(table) = self.of_kind(key, &format!("tables: [{path}.NAME]"), Value::as_table) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in table {
            let own = format!("{path}.{name}");
            if !value.is_table() {
                self.faults.refuse(self.file, &own, &format!("is {}; wants a table: [{own}]", kind(value)));
            }
            sections.push((name.as_str(), Self::new(self.file, own, value.as_table(), self.faults)));
        }
        sections
    }

    /// The tables of the list `key`, `[[key]]` in the file; more than `max` are refused.
    pub fn sections(&mut self, key: &'static str, max: usize) -> Vec<Section<'a>> {
        let path = self.path(key);
        let Some(items) = self.of_kind(key, &format!("a list of tables: [[{path}]]"), Value::as_array) else {
            return Vec::new();
        };
        if items.len() > max {
            self.refuse(key, &format!("wants {} entries; at most {max} are taken", items.len()));
        }
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate().take(max) {
            let own = format!("{path}[{index}]");
            match item.as_table() {
                Some(table) => sections.push(Self::new(self.file, own, Some(table), self.faults)),
                None => self.faults.refuse(self.file, &own, &format!("is {}; wants [[{path}]]", kind(item))),
            }
        }
        sections
    }

    /// Keys and values that the user chose, the values as text.
    pub fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let path = self.path(key);
        let Some(table) = self.of_kind(key, &format!("a table: [{path}]"), Value::as_table) else { return Vec::new() };
        let mut pairs = Vec::with_capacity(table.len());
        for (name, value) in table {
            match plain_text(value) {
                Some(text) => pairs.push((name.clone(), text)),
                None => {
                    self.refuse(key, &format!("`{name}` is {}; wants text, a number or true or false", kind(value)))
                }
            }
        }
        pairs
    }

    /// Refuses every key that nobody asked for. Answers whether the section itself had no fault.
    pub fn close(self) -> bool {
        for key in self.table.iter().flat_map(|table| table.keys()) {
            if !self.asked.contains(&key.as_str()) {
                let meant = did_you_mean(key, self.asked.iter().copied());
                self.refuse(key, &format!("is not a key{}{meant}", self.known()));
            }
        }
        self.sound.get()
    }

    fn known(&self) -> String {
        if self.asked.len() <= 8 { format!(" (known: {})", self.asked.join(", ")) } else { String::new() }
    }
}

/// `; did you mean `NAME`?`, or nothing if no candidate is near.
pub fn did_you_mean<'b>(wrong: &str, candidates: impl IntoIterator<Item = &'b str>) -> String {
    nearest(wrong, candidates).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text \"{}\"", text.chars().take(40).collect::<String>().escape_debug()),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) => String::from("a date"),
        Value::Array(_) => String::from("a list"),
        Value::Table(_) => String::from("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, reader: impl Fn(&mut Section<'_>)) -> Vec<String> {
        let table: Table = text.parse().unwrap();
        let faults = Faults::default();
        let mut section = Section::top("a.toml", &table, &faults);
        reader(&mut section);
        section.close();
        faults.into_list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_refused_says_file_key_wish_and_form() {
        let reader = |section: &mut Section<'_>| {
            section.bytes("memory", Bytes::kib(64), Bytes::kib(1)..=Bytes::mib(1));
            section.number::<u16>("emits", 4, 1..=100);
            section.choice("full", &[("reject", 1), ("drop-oldest", 2)]);
            section.flag("report", false);
            section.section("tls").close();
        };
        for (text, want) in [
            ("memory = 64", "a.toml: memory: is the number 64; wants a size with its unit, as in \"64 KiB\""),
            ("memory = \"2 MiB\"", "a.toml: memory: wants 2 MiB; at most 1 MiB is taken"),
            ("emits = 0", "a.toml: emits: is 0; wants a whole number from 1 to 100"),
            ("emits = 99999", "a.toml: emits: is 99999; wants a whole number from 1 to 100"),
            (
                "full = \"drop-oldst\"",
                "a.toml: full: `drop-oldst` is none of \"reject\", \"drop-oldest\"; did you mean `drop-oldest`?",
            ),
            ("report = 1", "a.toml: report: is the number 1; wants true or false"),
            ("tls = 1", "a.toml: tls: is the number 1; wants a table: [tls]"),
            (
                "memroy = \"1 KiB\"",
                "a.toml: memroy: is not a key (known: memory, emits, full, report, tls); did you mean `memory`?",
            ),
        ] {
            assert_eq!(read(text, reader), [want], "{text}");
        }
    }

    #[test]
    fn all_faults_come_together() {
        let faults = read("a = 1\nb = 2\nmemory = 3", |section| {
            section.bytes("memory", Bytes::kib(64), Bytes(0)..=Bytes::mib(1));
        });
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
