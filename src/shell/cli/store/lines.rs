//! Lines of JSON for a terminal: whatever a device wrote, a line is ASCII.

use std::io::{BufWriter, Stdout, Write};

/// Standard output, as many lines as are wanted; ends when nobody reads any more.
pub(in super::super) struct Lines {
    out: BufWriter<Stdout>,
    left: u64,
}

impl Lines {
    pub(in super::super) fn new(limit: Option<u64>) -> Self {
        Self { out: BufWriter::new(std::io::stdout()), left: limit.unwrap_or(u64::MAX) }
    }

    /// Prints a document under the word `dump`; `false`: enough.
    pub(in super::super) fn put(&mut self, dump: &str, document: &str) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let rest = document.strip_prefix('{').unwrap_or(document);
        let comma = if rest.starts_with('}') { "" } else { "," };
        let line = format!("{{\"dump\":\"{dump}\"{comma}{}\n", ascii(rest));
        self.out.write_all(line.as_bytes()).is_ok() && self.left > 0
    }

    /// Prints what is left.
    pub(in super::super) fn end(mut self) {
        let _ = self.out.flush();
    }
}

/// JSON with everything beyond ASCII escaped (RFC 8259 §7): it stands in strings only, so the value stays the same.
pub(in super::super) fn ascii(json: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_ascii_and_means_the_same() {
        let value = serde_json::json!({ "a": "ü\u{7f}\u{9b}31m\u{202e}\u{1f600}\u{1b}" });
        let text = ascii(&value.to_string());
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
