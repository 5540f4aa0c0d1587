//! Lines: one a second, and one for everything that happens.

use std::io::Write as _;

use super::text::{bytes, grouped};
use crate::state::State;

const LINE_MS: u64 = 1000;

/// What was printed so far.
#[derive(Debug, Default)]
pub struct Plain {
    next_ms: u64,
    told: usize,
}

impl Plain {
    /// Prints what is new.
    pub fn print(&mut self, state: &State) {
        let mut out = String::new();
        for happened in &state.happened[self.told..] {
            let seconds = happened.at_ms as f64 / 1000.0;
            out.push_str(&format!("{seconds:5.1} s  >> {}\n", happened.text));
        }
        self.told = state.happened.len();
        if self.next_ms <= state.at_ms && 0 < state.looks {
            self.next_ms = (state.at_ms / LINE_MS + 1) * LINE_MS;
            out.push_str(&line(state));
        }
        drop(std::io::stdout().lock().write_all(out.as_bytes()));
    }
}

fn line(state: &State) -> String {
    let books = &state.page.books;
    let gateway = if state.gateway_up { "up  " } else { "DOWN" };
    let link = if state.link_up { "up  " } else { "DOWN" };
    format!(
        "{:5.1} s  gateway {gateway} link {link} | in {:>5.0}/s {:>7} | filtered {:>6} metered {:>6} kept {:>6} dead {:>4} | \
         outbox {:>5} | upstream {:>6} | rss {:>8} | residue {}\n",
        state.at_ms as f64 / 1000.0,
        state.rates.published,
        grouped(books.received),
        grouped(books.filtered),
        grouped(books.aggregated),
        grouped(books.delivered + books.pending + books.expired + books.dropped()),
        grouped(books.dead_lettered),
        grouped(state.page.waiting()),
        grouped(state.arrived.records),
        bytes(state.page.rss),
        books.residue,
    )
}
