//! `--name value`, and how long things take in words.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// The options of a command; each is asked for once, and what nobody asked for is a mistake.
pub struct Options(RefCell<BTreeMap<String, String>>);

impl Options {
    /// Reads pairs of `--name value`.
    pub fn read(arguments: &[String]) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for pair in arguments.chunks(2) {
            let name = pair[0].strip_prefix("--").ok_or_else(|| format!("`{}`: expected --NAME VALUE", pair[0]))?;
            let value = pair.get(1).ok_or_else(|| format!("--{name}: a value must follow"))?;
            found.insert(name.to_owned(), value.clone());
        }
        Ok(Self(RefCell::new(found)))
    }

    /// The option's value, or `default`.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        let Some(text) = self.0.borrow_mut().remove(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("--{name}: `{text}` does not fit"))
    }

    /// A time: `90s`, `30m`, `2h`.
    pub fn time(&self, name: &str, default: Duration) -> Result<Duration, String> {
        let Some(text) = self.0.borrow_mut().remove(name) else { return Ok(default) };
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let seconds = match unit {
            "s" | "" => 1,
            "m" => 60,
            "h" => 3600,
            _ => 0,
        };
        let number: u64 = text[..text.len() - unit.len()].parse().unwrap_or(0);
        match number * seconds {
            0 => Err(format!("--{name}: `{text}` is no time; write 90s, 30m or 2h")),
            seconds => Ok(Duration::from_secs(seconds)),
        }
    }

    /// All have been asked for.
    pub fn end(&self) -> Result<(), String> {
        match self.0.borrow().keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("--{name}: there is no such option here")),
        }
    }
}
