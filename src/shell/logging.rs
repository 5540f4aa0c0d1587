//! The log: lines on standard error, for a terminal or the journal of systemd.
//!
//! - A line is one line: control characters of whatever a device sent are escaped, and it is cut at [`LINE_BYTES_MAX`].
//! - Under systemd (`JOURNAL_STREAM` is set) a line starts with its priority; elsewhere with the time of day (UTC) and level.

use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::clock::Clock;

/// Longest line.
pub const LINE_BYTES_MAX: usize = 2048;

struct Logger {
    journal: bool,
}

/// Starts logging at `level` and above. A second call changes the level only.
pub fn start(level: LevelFilter) {
    let logger = Logger { journal: std::env::var_os("JOURNAL_STREAM").is_some() };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::debug!("logging started");
    }
    log::set_max_level(level);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The libraries' own chatter is for their developers.
        let ours = metadata.target().starts_with("weir") || metadata.target().starts_with("function");
        ours || metadata.level() <= Level::Warn && !metadata.target().starts_with("sled")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::with_capacity(160);
        if self.journal {
            line.push_str(priority(record.level()));
        } else {
            push_time(&mut line);
            line.push_str(name(record.level()));
        }
        if let Some(function) = record.target().strip_prefix("function ") {
            line.push_str(function);
            line.push_str(": ");
        }
        escape_into(&mut line, &record.args().to_string());
        line.push('\n');
        // A log that cannot be written must not stop the gateway.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Prints a line of the gateway or of one of its functions.
pub fn print(line: &crate::effect::LogLine) {
    if line.source.is_empty() {
        log::log!(target: "weir", line.level, "{}", line.text);
    } else {
        log::log!(target: &format!("function {}", line.source), line.level, "{}", line.text);
    }
}

/// Appends `text` with control characters escaped, cut at [`LINE_BYTES_MAX`].
pub fn escape_into(line: &mut String, text: &str) {
    for character in text.chars() {
        if LINE_BYTES_MAX <= line.len() {
            line.push('…');
            return;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

const fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Error => " ERROR ",
        Level::Warn => " WARN  ",
        Level::Info => " INFO  ",
        Level::Debug | Level::Trace => " DEBUG ",
    }
}

fn push_time(line: &mut String) {
    use std::fmt::Write as _;
    const DAY_MS: i64 = 86_400_000;
    let of_day = Clock::default().now().wall_ms.rem_euclid(DAY_MS);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let _ = write!(line, "{hours:02}:{minutes:02}:{:02}.{:03}", of_day / 1000 % 60, of_day % 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_is_cut() {
        let mut line = String::new();
        escape_into(&mut line, "a\nb\u{1b}[31m\tü");
        assert_eq!(line, "a\\nb\\u{1b}[31m\\tü");
        let mut long = String::new();
        escape_into(&mut long, &"x".repeat(LINE_BYTES_MAX * 2));
        assert!(long.len() <= LINE_BYTES_MAX + '…'.len_utf8());
    }
}
