//! Text of others in a line of the log.

use std::fmt::Write as _;

use weir::printable::{CHARS_MAX, Escaped, Line, Printable, cut, is_escaped};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\n",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8",
    b"\xc2\x9b",
    b"\0",
    b"\xf0\x9f\x98\x80",
    b"\xf3\xa0\x80\x81",
];

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let whole = Escaped(&text).to_string();
    assert!(!whole.chars().any(|c| c.is_control() || is_escaped(c)), "{whole:?}");
    let short = Printable(&text).to_string();
    match text.char_indices().nth(CHARS_MAX) {
        None => assert_eq!(short, whole),
        Some((end, _)) => assert_eq!(short, format!("{}…", Escaped(&text[..end]))),
    }
    for bytes_max in [0, 1, 7, 64, 2048] {
        let mut line = String::new();
        let complete = Line::new(&mut line, bytes_max).write_str(&text).is_ok();
        assert!(line.len() <= bytes_max + 12);
        if complete {
            assert_eq!(line, whole);
        } else {
            // Text may hold a `…` of its own at the very place of the cut, so the line may look like the whole.
            let begun = line.strip_suffix('…').expect("a cut shows");
            assert!(bytes_max <= begun.len() && begun.len() < whole.len(), "{line:?} {whole:?}");
            assert!(whole.starts_with(begun), "{line:?} {whole:?}");
        }
        let prefix = cut(&text, bytes_max);
        assert!(prefix.len() <= bytes_max && text.starts_with(prefix));
    }
}
