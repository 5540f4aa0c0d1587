//! The terminal: the picture is drawn over itself on a screen of its own; the old one comes back at the end.
//!
//! - One write a picture, every line cleared behind its end: nothing flickers.

use std::io::Write as _;

use super::frame;
use crate::state::State;

/// A screen without wrapping and cursor.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Terminals that know it show the picture when it is whole.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

/// The terminal, until the value goes.
pub struct Screen {
    colours: bool,
}

impl Screen {
    /// Takes the terminal.
    #[must_use]
    pub fn open() -> Self {
        write(OPEN);
        Self { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Draws the moment.
    pub fn draw(&self, state: &State) {
        let (width, height) = size();
        let mut out = String::from(BEGIN);
        for (index, line) in frame::lines(state, width, height).iter().take(height).enumerate() {
            if 0 < index {
                out.push_str("\r\n");
            }
            line.write(width, self.colours, &mut out);
            out.push_str("\x1b[K");
        }
        out.push_str(END);
        write(&out);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(CLOSE);
    }
}

/// Columns and lines.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    size.filter(|(width, height)| 0 < *width && 0 < *height).unwrap_or((80, 24))
}

/// A terminal that is gone is no reason to stop.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
