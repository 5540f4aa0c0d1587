//! The log: lines on standard error, for a terminal or the journal of systemd.
//!
//! - A line is one line, whatever a device, a function, a broker or a file wrote into it: it goes through [`printable`], and is
//!   cut at [`LINE_BYTES_MAX`]. No more than that is ever formatted.
//! - Under systemd (`JOURNAL_STREAM` is set) a line starts with its priority; elsewhere with the time of day (UTC) and level.

use std::fmt::Write as _;
use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::clock::Clock;
use crate::printable;

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
        let line = compose(self.journal, record);
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

/// The whole line, its end included.
fn compose(journal: bool, record: &Record<'_>) -> String {
    let mut line = String::with_capacity(160);
    if journal {
        line.push_str(priority(record.level()));
    } else {
        push_time(&mut line);
        line.push_str(name(record.level()));
    }
    let mut out = printable::Line::new(&mut line, LINE_BYTES_MAX);
    // An error is the bound: the rest is left off.
    let _ = match record.target().strip_prefix("function ") {
        Some(function) => write!(out, "{function}: {}", record.args()),
        None => out.write_fmt(*record.args()),
    };
    line.push('\n');
    line
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
    const DAY_MS: i64 = 86_400_000;
    let of_day = Clock::default().now().wall_ms.rem_euclid(DAY_MS);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let _ = write!(line, "{hours:02}:{minutes:02}:{:02}.{:03}", of_day / 1000 % 60, of_day % 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(journal: bool, target: &str, text: &str) -> String {
        compose(
            journal,
            &Record::builder().level(Level::Warn).target(target).args(format_args!("dead letter on {text}")).build(),
        )
    }

    #[test]
    fn no_text_of_others_begins_a_line_of_its_own_or_moves_the_cursor() {
        for text in
            ["a\n<3>kernel: panic", "a\r\u{1b}[1A\u{1b}[2Kerased", "a\u{2028}b", "a\u{9b}2J", "\u{202e}desrever", "\0"]
        {
            for journal in [true, false] {
                let line = line(journal, "weir", text);
                let body = line.strip_suffix('\n').unwrap();
                assert!(!body.chars().any(printable::is_escaped), "{line:?}");
            }
        }
        assert_eq!(line(true, "function mean", "x\ny"), "<4>mean: dead letter on x\\ny\n");
        assert_eq!(line(true, "function a\n<2>b", "x"), "<4>a\\n<2>b: dead letter on x\n");
    }

    #[test]
    fn the_longest_topic_gives_a_bounded_line() {
        for text in ["x".repeat(65_535), "\u{1b}".repeat(65_535), "ü".repeat(32_767), "😀".repeat(16_383)] {
            let line = line(false, "weir", &text);
            assert!(line.len() <= LINE_BYTES_MAX + 16 && line.ends_with("…\n"), "{}", line.len());
        }
    }
}
