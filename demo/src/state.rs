//! Everything that the demo knows at a moment: what the views show and the summary is made of.
//!
//! - Counters of the gateway's process begin anew when it is started again; here they go on.

use std::collections::VecDeque;

use crate::page::{Flash, Page};

/// Rates are means over this.
const RATE_MS: u64 = 1000;
/// A point of the history is a mean over this.
const POINT_MS: u64 = 500;
/// Points of the history.
const POINTS_MAX: usize = 60;

/// What the demo is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Brokers and gateway come up.
    #[default]
    Starting,
    /// The fleet publishes.
    Running,
    /// The fleet is done; windows close and lanes drain.
    Settling,
    /// Everything has ended.
    Done,
}

/// What has arrived upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Records, each counted once.
    pub records: u64,
    /// Of these: aggregates of windows.
    pub aggregates: u64,
    /// Of these: messages that functions kept or emitted.
    pub messages: u64,
    /// Of these: dead letters.
    pub dead_letters: u64,
    /// Deliveries of records that were there already.
    pub repeated: u64,
}

/// Counters at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Messages that the devices' broker has.
    pub published: u64,
    /// Records upstream.
    pub arrived: u64,
}

/// Rates, and how they were before.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    samples: VecDeque<(u64, Counted)>,
    /// Messages a second into the broker.
    pub published: f64,
    /// Records a second upstream.
    pub arrived: f64,
    /// Older rates, newest last.
    pub history: VecDeque<(f64, f64)>,
    point_at_ms: u64,
}

impl Rates {
    /// Takes the counters at `at_ms`.
    pub fn sample(&mut self, at_ms: u64, counted: Counted) {
        self.samples.push_back((at_ms, counted));
        while 2 < self.samples.len() && self.samples[1].0 + RATE_MS <= at_ms {
            self.samples.pop_front();
        }
        let Some((first_ms, first)) = self.samples.front().copied() else { return };
        let seconds = at_ms.saturating_sub(first_ms).max(1) as f64 / 1000.0;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        self.published = rate(counted.published, first.published);
        self.arrived = rate(counted.arrived, first.arrived);
        if self.point_at_ms + POINT_MS <= at_ms {
            self.point_at_ms = at_ms;
            self.history.push_back((self.published, self.arrived));
            if POINTS_MAX < self.history.len() {
                self.history.pop_front();
            }
        }
    }
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// After the start of the fleet.
    pub at_ms: u64,
    /// In words.
    pub text: String,
    /// Whether it went wrong (by intention or not).
    pub bad: bool,
}

/// The moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What the demo is at.
    pub phase: Phase,
    /// After the start of the fleet.
    pub at_ms: u64,
    /// How long the fleet publishes.
    pub for_ms: u64,
    /// Devices.
    pub devices: u64,
    /// Messages that the devices' broker has.
    pub published: u64,
    /// The newest look at the gateway.
    pub page: Page,
    /// Whether the gateway's process runs.
    pub gateway_up: bool,
    /// Whether the link to the upstream is whole.
    pub link_up: bool,
    /// What is upstream.
    pub arrived: Arrived,
    /// Messages that the broker delivered to the gateway again.
    pub redelivered: u64,
    /// Rates.
    pub rates: Rates,
    /// What happened, oldest first.
    pub happened: Vec<Happened>,
    /// Flash of gateway processes that have ended.
    pub flash_before: Flash,
    /// Looks at the gateway.
    pub looks: u64,
    /// Looks at which the books did not balance.
    pub unbalanced: u64,
    /// Largest resident memory seen.
    pub rss_max: u64,
    /// Highest rate into the broker seen.
    pub rate_max: f64,
    /// Most records that waited in the outbox.
    pub waiting_max: u64,
    /// Times that the gateway was killed.
    pub kills: u64,
    /// Milliseconds without a link.
    pub outage_ms: u64,
}

impl State {
    /// Takes a new look at the gateway.
    pub fn look(&mut self, page: Page) {
        self.looks += 1;
        self.unbalanced += u64::from(page.books.residue != 0 || page.books.reckoned_residue() != 0);
        self.rss_max = self.rss_max.max(page.rss);
        self.waiting_max = self.waiting_max.max(page.waiting());
        self.page = page;
    }

    /// The gateway's process has ended.
    pub fn process_ended(&mut self) {
        self.flash_before = self.flash();
        self.page.flash = Flash::default();
        self.gateway_up = false;
        self.page.broker_up = false;
        self.page.sink_up = false;
    }

    /// Flash over all processes of the gateway.
    #[must_use]
    pub fn flash(&self) -> Flash {
        let (before, now) = (self.flash_before, self.page.flash);
        Flash { commits: before.commits + now.commits, bytes: before.bytes + now.bytes }
    }

    /// Notes what happened.
    pub fn tell(&mut self, bad: bool, text: impl Into<String>) {
        self.happened.push(Happened { at_ms: self.at_ms, text: text.into(), bad });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_over_a_second() {
        let mut rates = Rates::default();
        for step in 0..=20 {
            rates.sample(step * 250, Counted { published: step * 100, arrived: step.min(10) });
        }
        assert!((rates.published - 400.0).abs() < 1.0, "{}", rates.published);
        assert!(rates.arrived < 0.1 && rates.history.len() == 10, "{rates:?}");
    }

    #[test]
    fn flash_goes_on_over_a_restart_and_an_unbalanced_look_is_kept() {
        let look = |commits: u64, received: u64| {
            let mut page = Page { flash: Flash { commits, bytes: commits * 10 }, rss: commits, ..Page::default() };
            page.books.received = received;
            page
        };
        let mut state = State::default();
        state.look(look(5, 0));
        state.process_ended();
        state.look(look(2, 3));
        assert_eq!(state.flash(), Flash { commits: 7, bytes: 70 });
        assert_eq!((state.looks, state.unbalanced, state.rss_max), (2, 1, 5));
    }
}
