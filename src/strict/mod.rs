//! Strict reading of TOML: every key that is there is known, every fault is collected, none stops the reading.
//!
//! - A [`Section`] remembers the keys that were asked of it; [`Section::close`] refuses all others and names the nearest.
//! - A value that is refused reads as absent: the caller goes on with its default, so that later faults are found too.
//!   Nothing that was read counts unless [`Faults::refused`] is false at the end.

mod fault;
mod near;
mod section;

pub use fault::{Fault, Faults, Severity};
pub use near::nearest;
pub use section::{Section, did_you_mean};

/// Parses `text`; syntax errors become faults with line and column.
pub fn parse(file: &str, text: &str, faults: &Faults) -> Option<toml::Table> {
    let (_, errors) = toml::de::DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return match text.parse() {
            Ok(table) => Some(table),
            Err(error) => {
                refuse_syntax(file, text, &error, faults);
                None
            }
        };
    }
    // What follows an error on its line is mostly its echo.
    let mut last_line = 0;
    for error in errors {
        let line = line_of(text, &error);
        if line != last_line {
            refuse_syntax(file, text, &error, faults);
        }
        last_line = line;
    }
    None
}

fn before<'a>(text: &'a str, error: &toml::de::Error) -> &'a str {
    error.span().and_then(|span| text.get(..span.start)).unwrap_or("")
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    before(text, error).bytes().filter(|byte| *byte == b'\n').count() + 1
}

fn refuse_syntax(file: &str, text: &str, error: &toml::de::Error, faults: &Faults) {
    let line = line_of(text, error);
    let before = before(text, error);
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = error.message().replace('\n', ", ");
    faults.refuse(file, &format!("line {line}, column {column}"), &format!("not TOML: {message}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_error_has_its_line_and_column() {
        let faults = Faults::default();
        assert!(parse("a.toml", "a = 1\nb = = 2\nc = \"open\nd = 4\n", &faults).is_none());
        let lines: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("a.toml: line 2, column 5: not TOML: "), "{lines:?}");
        assert!(lines[1].starts_with("a.toml: line 3, column"), "{lines:?}");
    }

    #[test]
    fn a_key_given_twice_is_a_syntax_error() {
        let faults = Faults::default();
        assert!(parse("a.toml", "a = 1\na = 2\n", &faults).is_none());
        let list = faults.into_list();
        assert!(list[0].to_string().contains("line 2") && list[0].text.contains("duplicate"), "{list:?}");
    }
}
