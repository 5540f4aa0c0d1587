//! What a world came to.

use core::fmt;

use super::World;
use super::checks::Broken;
use super::queue::Trace;
use super::schedule::Planned;

/// A world in which everything held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Its seed.
    pub seed: u64,
    /// Messages that devices published.
    pub published: u64,
    /// Messages that were sent to the gateway, retained ones included.
    pub messages: u64,
    /// Messages that the broker sent again and the gateway recognised.
    pub duplicates: u64,
    /// Processes that died.
    pub deaths: u64,
    /// Connections to the broker.
    pub connections: u64,
    /// Records that upstream saw more than once.
    pub repeated: u64,
    /// Records that arrived upstream.
    pub records: u64,
    /// Records that left undelivered, each told upstream.
    pub lost: u64,
    /// Records that were rolled up, each told upstream.
    pub rolled_up: u64,
    /// Records that went upstream ahead of a backlog.
    pub ahead: u64,
    /// Values that came late, each told upstream.
    pub late: u64,
    /// Attempts that found the disk full.
    pub full: u64,
    /// Starts that found the medium damaged.
    pub damages: u64,
    /// Virtual time, microseconds.
    pub elapsed_us: u64,
    /// Happenings.
    pub happenings: u64,
    /// Digest of all of them.
    pub trace: Trace,
}

impl World {
    /// What it came to.
    pub(super) fn story(&self) -> Story {
        let (gateway, upstream) = (self.machine.gateway(), &self.sinks.upstream);
        let kinds = ["aggregate", "message", "dead-letter", "loss", "usage"];
        let lanes = gateway.map_or(&[][..], |gateway| gateway.outbox().lanes());
        Story {
            seed: self.seed,
            published: self.published,
            messages: self.ledger.len(),
            duplicates: gateway.map_or(0, |gateway| gateway.books().duplicates),
            deaths: self.machine.deaths,
            connections: self.broker.connections,
            repeated: upstream.repeated,
            records: kinds.iter().map(|kind| upstream.records(kind)).sum(),
            lost: lanes.iter().map(|lane| lane.totals().dropped.iter().sum::<u64>() + lane.totals().expired).sum(),
            rolled_up: lanes.iter().map(|lane| lane.totals().rolled_up).sum(),
            ahead: self.sinks.ahead,
            late: self.windows.late,
            full: self.machine.full,
            damages: self.machine.damages,
            elapsed_us: self.queue.now_us(),
            happenings: self.happenings,
            trace: self.queue.trace(),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, messages, duplicates, deaths, connections, repeated, records, lost, full, .. } = self;
        write!(
            f,
            "seed {seed}: {messages} messages, {deaths} deaths, {connections} connections, {duplicates} redelivered, \
             {records} records upstream, {repeated} twice, {lost} lost and told, disk full {full}×, {:.0} s, trace {:016x}",
            self.elapsed_us as f64 / 1e6,
            self.trace.0
        )
    }
}

/// A world in which something does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// When, in virtual microseconds.
    pub at_us: u64,
    /// What.
    pub broken: Broken,
    /// What went wrong, all of it.
    pub schedule: Vec<Planned>,
    /// The site's configuration.
    pub site: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} fails after {:.6} s: {}", self.seed, self.at_us as f64 / 1e6, self.broken)?;
        for planned in &self.schedule {
            writeln!(f, "  {planned}")?;
        }
        write!(f, "{}", self.site.trim_end())
    }
}
