//! Publishing a fleet to a real broker, as fast and as faithfully as asked for.
//!
//! - Several connections, each with its shard of the devices, so that the order within a device is kept.
//! - The truth that comes back counts what the broker acknowledged; what it may have twice is marked.
//! - rumqttc's codec, but not its event loop: that one writes each packet alone, and forgets what is on its way when the broker
//!   has lost the session.

pub mod broker;
pub mod clock;
mod codec;
mod flight;
mod link;
mod listen;

use core::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use broker::{AddressError, Broker, Version};
pub use listen::listen;

use crate::fleet::Fleet;
use crate::scenario::Scenario;
use crate::truth::Truth;
use flight::Flight;
use link::Link;

/// How to publish.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub broker: Broker,
    /// Connections; each has its share of the devices.
    pub connections: u32,
    /// Unacknowledged publishes of one connection at most.
    pub in_flight: u16,
    /// Messages at most, over all connections.
    pub count: Option<u64>,
    /// Whether messages wait until they are due; else they go as fast as the broker takes them.
    pub is_paced: bool,
    /// How long a broker may be away before the run ends.
    pub patience_ms: u64,
    /// The time of the scenario's start, in milliseconds since 1970; `None`: now.
    pub epoch_ms: Option<i64>,
}

impl Options {
    /// Four connections, paced.
    #[must_use]
    pub const fn new(broker: Broker) -> Self {
        let (count, is_paced, patience_ms, epoch_ms) = (None, true, 30_000, None);
        Self { broker, connections: 4, in_flight: 500, count, is_paced, patience_ms, epoch_ms }
    }
}

/// What happens meanwhile, for a live view.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages handed to a connection.
    pub sent: AtomicU64,
    /// Messages that the broker has acknowledged (QoS 0: sent).
    pub acknowledged: AtomicU64,
    /// Messages that the broker refused for good.
    pub refused: AtomicU64,
    /// Acknowledgements that said: nobody subscribes to this.
    pub no_subscribers: AtomicU64,
    /// Connections lost and built up again.
    pub reconnects: AtomicU64,
    /// The longest time by which a message was sent after it was due, in microseconds.
    pub behind_us_max: AtomicU64,
    notes: Mutex<Vec<String>>,
}

const NOTES_MAX: usize = 100;

impl Progress {
    fn note(&self, text: String) {
        if let Ok(mut notes) = self.notes.lock()
            && notes.len() < NOTES_MAX
        {
            notes.push(text);
        }
    }

    /// What is worth telling since the last call, at most a hundred lines.
    pub fn take_notes(&self) -> Vec<String> {
        self.notes.lock().map(|mut notes| core::mem::take(&mut *notes)).unwrap_or_default()
    }
}

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The broker could not be reached for [`Options::patience_ms`].
    Unreachable {
        /// Its address.
        broker: String,
        /// What the last attempt said.
        reason: String,
    },
    /// The broker refused the connection; trying again would not help.
    Refused {
        /// Its reason.
        reason: String,
    },
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { broker, reason } => {
                write!(f, "{broker}: cannot be reached: {reason}; is the broker running?")
            }
            Self::Refused { reason } => {
                write!(f, "the broker refuses the connection: {reason}; check user and password")
            }
        }
    }
}

impl std::error::Error for PublishError {}

/// What a run came to.
#[derive(Debug)]
pub struct Published {
    /// What was published.
    pub truth: Truth,
    /// How long it took.
    pub elapsed_us: u64,
    /// Why it ended early, if it did.
    pub error: Option<PublishError>,
}

/// Publishes what `scenario`'s devices say until its end, [`Options::count`], or until `stop` becomes true; then waits for the
/// outstanding acknowledgements.
pub async fn publish(
    scenario: &Scenario,
    seed: u64,
    options: &Options,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
) -> Published {
    let epoch_ms = options.epoch_ms.unwrap_or_else(clock::wall_ms);
    let start = Instant::now();
    let devices: u64 = scenario.fleets.iter().map(|fleet| fleet.devices).sum();
    let shards = options.connections.clamp(1, u32::try_from(devices).unwrap_or(u32::MAX).max(1));
    let mut links = JoinSet::new();
    for shard in 0..shards {
        let share = |count: u64| count / u64::from(shards) + u64::from(u64::from(shard) < count % u64::from(shards));
        let link = Link {
            options: options.clone(),
            client_id: format!("weir-sim-{}-{seed}-{shard}", std::process::id()),
            fleet: Fleet::shard(scenario, seed, epoch_ms, shard, shards),
            left: options.count.map_or(u64::MAX, share),
            truth: Truth::new(scenario, seed),
            start,
            progress: Arc::clone(&progress),
            stop: stop.clone(),
            flight: Flight::new(options.in_flight.max(1)),
            is_stopped: false,
        };
        links.spawn(link.run());
    }
    let (mut truth, mut error) = (Truth::new(scenario, seed), None);
    while let Some(done) = links.join_next().await {
        let (part, outcome) = done.expect("a link neither panics nor is aborted");
        truth.merge(&part);
        error = error.or(outcome.err());
    }
    let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Published { truth, elapsed_us, error }
}
