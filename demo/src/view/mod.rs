//! Showing what happens: a live picture on a terminal, or a line a second.

pub mod text;
mod frame;
mod plain;
mod screen;

use std::io::IsTerminal as _;

use crate::state::State;
use plain::Plain;
use screen::Screen;

/// Where the demo shows itself.
pub enum View {
    /// A picture that is drawn over itself.
    Live(Screen),
    /// Lines.
    Plain(Plain),
}

impl View {
    /// The live view, if standard output is a terminal and nobody asked for lines.
    #[must_use]
    pub fn new(plain: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if plain || dumb || !std::io::stdout().is_terminal() {
            Self::Plain(Plain::default())
        } else {
            Self::Live(Screen::open())
        }
    }

    /// Shows the moment.
    pub fn show(&mut self, state: &State) {
        match self {
            Self::Live(screen) => screen.draw(state),
            Self::Plain(plain) => plain.print(state),
        }
    }

    /// Ends the picture, so that text can follow. Says whether what happened must be told again.
    pub fn close(self) -> bool {
        matches!(self, Self::Live(_))
    }
}
