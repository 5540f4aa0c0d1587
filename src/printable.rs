//! Text of others in lines of ours: whatever a device, a guest, a broker, an upstream or a file wrote, made fit for a log or a terminal.
//!
//! - One line stays one line, and no terminal obeys it: control characters (of C0, C1 and DEL), line and paragraph separators, and
//!   the invisible characters that reorder or hide text (Unicode 16, general category Cf, but for the soft hyphen and the marks
//!   of Arabic and Indic scripts) are written as escapes.
//! - It is cut at a length that the caller names, and the cut shows: `…`.
//! - A backslash stays as it is: escaping twice does no harm, and an escape that somebody wrote himself is only text.

use core::fmt::{self, Write};

/// Longest text of others within a sentence of ours, in characters.
pub const CHARS_MAX: usize = 256;

/// Shows text escaped, cut at [`CHARS_MAX`] characters.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

/// Shows text escaped, whole: for sentences whose length is bounded already.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        characters.by_ref().take(CHARS_MAX).try_for_each(|character| put(f, character))?;
        if characters.next().is_some() { f.write_char('…') } else { Ok(()) }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| put(f, character))
    }
}

/// Whether a character is written as an escape.
#[must_use]
pub const fn is_escaped(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Arabic letter mark, Mongolian vowel separator.
        | '\u{61c}' | '\u{180e}'
        // Zero-width characters, directional marks, separators, embeddings, overrides, invisible operators, isolates.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // Byte order mark, interlinear annotations.
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        // Shorthand and musical format controls, tags.
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

fn put(out: &mut impl Write, character: char) -> fmt::Result {
    match character {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        _ if is_escaped(character) => write!(out, "\\u{{{:x}}}", character as u32),
        _ => out.write_char(character),
    }
}

/// A line that grows to `bytes_max` and no further: what is written through it is escaped, and at the bound formatting ends.
#[derive(Debug)]
pub struct Line<'a> {
    line: &'a mut String,
    bytes_max: usize,
    is_full: bool,
}

impl<'a> Line<'a> {
    /// Appends to `line`.
    pub const fn new(line: &'a mut String, bytes_max: usize) -> Self {
        Self { line, bytes_max, is_full: false }
    }
}

impl Write for Line<'_> {
    /// # Errors
    /// At the bound: nobody need format what nobody will see.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.is_full {
                return Err(fmt::Error);
            }
            if self.bytes_max <= self.line.len() {
                self.is_full = true;
                self.line.push('…');
                return Err(fmt::Error);
            }
            put(self.line, character)?;
        }
        Ok(())
    }
}

/// The longest prefix of whole characters within `bytes_max`.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_or_a_log_would_obey_is_escaped() {
        for (text, want) in [
            ("plain", "plain"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}"),
            ("a\u{2028}b\u{2029}c\u{85}d", "a\\u{2028}b\\u{2029}c\\u{85}d"),
            ("\u{202e}gnp.exe\u{2066}\u{200b}", "\\u{202e}gnp.exe\\u{2066}\\u{200b}"),
            ("\u{feff}\u{e0041}", "\\u{feff}\\u{e0041}"),
            ("grün, ß, 温度, हिन्दी, 😀, {\"temp\": 1}, C:\\temp", "grün, ß, 温度, हिन्दी, 😀, {\"temp\": 1}, C:\\temp"),
        ] {
            assert_eq!((Printable(text).to_string().as_str(), Escaped(text).to_string().as_str()), (want, want));
            let mut line = String::new();
            Line::new(&mut line, 1000).write_str(text).unwrap();
            assert_eq!(line, want);
        }
    }

    #[test]
    fn every_character_comes_out_on_the_same_line_and_visible() {
        for character in '\0'..=char::MAX {
            let shown = Printable(character.encode_utf8(&mut [0; 4])).to_string();
            assert!(!shown.chars().any(|c| c.is_control() || is_escaped(c)), "{character:?}");
            assert!(shown.chars().count() == 1 || shown.starts_with('\\'), "{character:?}");
        }
    }

    #[test]
    fn text_is_cut_and_the_cut_shows() {
        let (fits, longer) = ("ü".repeat(CHARS_MAX), "ü".repeat(CHARS_MAX + 1));
        assert_eq!(Printable(&fits).to_string(), fits);
        assert_eq!(Printable(&longer).to_string(), format!("{fits}…"));
        let mut line = String::from("12:00 ");
        let _ = write!(Line::new(&mut line, 20), "{}never seen", "\n".repeat(1_000_000));
        assert!(line.ends_with("\\n…") && line.len() <= 20 + 8 + '…'.len_utf8(), "{line}");
        assert_eq!((cut("aü", 2), cut("aü", 3), cut("", 0)), ("a", "aü", ""));
    }

    #[test]
    fn formatting_ends_at_the_bound() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("more and ")?;
                }
            }
        }
        let mut line = String::new();
        let _ = write!(Line::new(&mut line, 2048), "{Endless}");
        assert!(line.len() <= 2048 + 8 + '…'.len_utf8());
    }
}
