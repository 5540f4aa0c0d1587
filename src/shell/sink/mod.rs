//! Sinks: tasks that read records from their lanes and deliver them upstream.
//!
//! - A sink remembers nothing across a restart: it starts at the lanes' heads, and a record is done when the gateway has
//!   committed its [`SinkEvent`]. So a record may be delivered twice, always with the same lane and sequence.
//! - Records of one lane are settled in order, without a gap. Lanes are served by priority.
//! - Memory is bounded by one read ([`READ_MAX`]) and the window.

mod file;
mod lines;
mod mqtt;
mod pace;
mod window;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use file::{FileSink, spawn as spawn_file};
pub use lines::LineLog;
pub use mqtt::{MqttSink, spawn as spawn_mqtt};

use crate::books::DropReason;
use crate::outbox::{Outcome, Settled};
use crate::record::Record;
use crate::shell::mqtt::{SharedStatus, Status};
use crate::store::Batch;
use crate::units::Bytes;

/// What a sink reads from its lanes at once.
pub const READ_MAX: Bytes = Bytes::kib(64);

/// Where records are read from; the shell's handle of the store.
pub trait Records: Send + Sync + 'static {
    /// Fills `into` with encoded records (see [`Record::take`]) of `lane` from `from_seq` on: at most `bytes_max` bytes, but at
    /// least one record if there is one. An error is told to the log and tried again.
    fn read(
        &self,
        lane: usize,
        from_seq: u64,
        bytes_max: usize,
        into: Vec<u8>,
    ) -> impl Future<Output = Result<(Batch, Vec<u8>), String>> + Send;
}

/// Appends a record's envelope: (record, name of the lane, sequence, where to).
pub type Encode = Arc<dyn Fn(&Record<'_>, &str, u64, &mut Vec<u8>) + Send + Sync>;

/// A lane that a sink serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkLane {
    /// Index in the gateway.
    pub lane: usize,
    /// Its name.
    pub name: String,
    /// Lower goes first.
    pub priority: u8,
    /// First sequence that is not settled.
    pub head_seq: u64,
}

/// What a sink tells the gateway's loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkEvent {
    /// Records are settled: consecutive, each after all before it.
    Settled {
        /// Index of the lane.
        lane: usize,
        /// The records.
        records: Vec<Settled>,
    },
    /// The store cannot read these records any more.
    Gone {
        /// Index of the lane.
        lane: usize,
        /// Which.
        lost: crate::store::Lost,
    },
    /// The sink has a connection now, or has none any more: the same for all its lanes.
    Upstream {
        /// Index of the lane.
        lane: usize,
        /// Which of the two.
        is_up: bool,
    },
    /// What the loop has read for the gateway itself.
    Fetched {
        /// Index of the lane.
        lane: usize,
        /// The records, or why there are none.
        outcome: Result<(Batch, Vec<u8>), String>,
    },
}

/// Tells the loop whether a sink has its upstream.
async fn tell_upstream(lanes: &[SinkLane], events: &tokio::sync::mpsc::Sender<SinkEvent>, is_up: bool) {
    for lane in lanes {
        // The loop has gone: the process ends.
        let _ = events.send(SinkEvent::Upstream { lane: lane.lane, is_up }).await;
    }
}

/// Upstream will never take it (too large, no valid topic); the log says why.
const UNDELIVERABLE: Outcome = Outcome::Dropped(DropReason::Undeliverable);

/// Heads and tails of all lanes, as committed: written by the loop after each commit, read by the sinks.
#[derive(Debug)]
pub struct LaneEnds(Box<[Ends]>);

#[derive(Debug, Default)]
struct Ends {
    head: AtomicU64,
    tail: AtomicU64,
    mark: AtomicU64,
    live: AtomicU64,
}

/// What a sink may know of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneEnd {
    /// First sequence that upstream is still owed.
    pub head: u64,
    /// First one that is not committed yet, or not granted.
    pub tail: u64,
    /// Where live records begin, and the first of them that is owed; 0 if none goes ahead of the backlog.
    pub mark: u64,
    /// See `mark`.
    pub live: u64,
}

impl LaneEnds {
    /// `lanes` empty lanes.
    #[must_use]
    pub fn new(lanes: usize) -> Arc<Self> {
        Arc::new(Self((0..lanes).map(|_| Ends::default()).collect()))
    }

    /// `head`: first sequence that upstream is still owed. `tail`: first one that is not committed yet.
    pub fn set(&self, lane: usize, head: u64, tail: u64) {
        if let Some(ends) = self.0.get(lane) {
            ends.head.store(head, Ordering::Relaxed);
            ends.tail.store(tail, Ordering::Relaxed);
        }
    }

    /// `live`: where live records begin, and the first of them that is owed.
    pub fn set_live(&self, lane: usize, live: Option<(u64, u64)>) {
        if let Some(ends) = self.0.get(lane) {
            let (mark, live) = live.unwrap_or((0, 0));
            ends.live.store(live, Ordering::Relaxed);
            ends.mark.store(mark, Ordering::Relaxed);
        }
    }

    fn get(&self, lane: usize) -> LaneEnd {
        let load = |ends: &Ends| LaneEnd {
            head: ends.head.load(Ordering::Relaxed),
            tail: ends.tail.load(Ordering::Relaxed),
            mark: ends.mark.load(Ordering::Relaxed),
            live: ends.live.load(Ordering::Relaxed),
        };
        self.0.get(lane).map_or_else(LaneEnd::default, load)
    }
}

/// What a sink says of itself, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkStatus {
    /// Records delivered.
    pub delivered: u64,
    /// Records that upstream will never take.
    pub undeliverable: u64,
    /// Publishes that the broker refused for now.
    pub refused: u64,
    /// Publishes that the broker took although nobody is subscribed.
    pub without_subscriber: u64,
    /// Bytes of envelopes handed over, also again.
    pub bytes: u64,
}

/// The gateway's end of a running sink.
#[derive(Debug)]
pub struct Sink {
    wake: Arc<Notify>,
    stop: Arc<Notify>,
    status: Arc<Mutex<SinkStatus>>,
    link: Arc<SharedStatus>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Call after [`LaneEnds::set`]: there may be something to deliver.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// A copy of the sink's status.
    #[must_use]
    pub fn status(&self) -> SinkStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A copy of the status of its connection; a file sink is connected while its folder can be written.
    #[must_use]
    pub fn link(&self) -> Status {
        self.link.get()
    }

    /// Ends the sink; waits a short while for what is on its way (three seconds at most).
    pub async fn close(self) {
        self.stop.notify_one();
        if tokio::time::timeout(core::time::Duration::from_secs(3), self.task).await.is_err() {
            log::warn!("a sink did not end in time");
        }
    }
}
