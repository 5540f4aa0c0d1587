//! The queues between the source link and the gateway's loop: what came in, and what may be acknowledged.
//!
//! - A batch crosses under one lock. Neither side ever waits for the other while it holds it.
//! - The inbox holds at most `count_max` entries and `bytes_max` bytes plus one packet. QoS 0 is dropped (and counted)
//!   where it would take the room kept for QoS 1 and 2; for those the link stops reading instead.
//! - Acknowledgements of a past connection are worthless and are dropped at once, so the queue holds at most what the
//!   present connection has delivered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Incoming;
use crate::config::Qos;

/// A committed message, to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// As it came.
    pub packet_id: u16,
    /// As it came; QoS 0 is ignored.
    pub qos: Qos,
}

/// Bounds of an [`Inbox`].
#[derive(Clone, Copy, Debug)]
pub struct InboxBounds {
    /// Entries.
    pub count_max: usize,
    /// Entries that QoS 0 leaves free for the rest.
    pub count_kept: usize,
    /// Topics and payloads.
    pub bytes_max: usize,
}

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    bounds: InboxBounds,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Incoming>,
    bytes: usize,
    dropped: u64,
}

/// Receiving end: the gateway's loop. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Inbox(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub fn new(bounds: InboxBounds) -> Self {
        let inner = Inner { queue: Mutex::default(), filled: Notify::new(), emptied: Notify::new(), bounds };
        Self(Arc::new(inner))
    }

    /// Waits until there is something, then moves at most `max` entries to `into`. Nothing is lost if the future is dropped.
    pub async fn take(&self, max: usize, into: &mut Vec<Incoming>) {
        while !self.try_take(max, into) {
            self.0.filled.notified().await;
        }
    }

    /// Moves at most `max` entries to `into`; whether there were any.
    pub fn try_take(&self, max: usize, into: &mut Vec<Incoming>) -> bool {
        let mut queue = lock(&self.0.queue);
        let count = queue.items.len().min(max);
        let mut freed = 0;
        if queue.dropped > 0 {
            into.push(Incoming::Dropped { count: core::mem::take(&mut queue.dropped) });
            freed = 1;
        }
        let mut bytes = 0;
        into.extend(queue.items.drain(..count).inspect(|item| bytes += item.bytes()));
        queue.bytes -= bytes;
        if count > 0 {
            self.0.emptied.notify_one();
        }
        count + freed > 0
    }

    /// Entries waiting, and their bytes.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let queue = lock(&self.0.queue);
        (queue.items.len(), queue.bytes)
    }

    /// Whether the link should read on.
    pub(super) fn has_room(&self) -> bool {
        let (count, bytes) = self.load();
        count < self.0.bounds.count_max && bytes < self.0.bounds.bytes_max
    }

    /// Waits until the consumer has taken something.
    pub(super) async fn emptied(&self) {
        self.0.emptied.notified().await;
    }

    /// Takes in what was decoded, oldest first. QoS 0 that does not fit is dropped and counted; returns how much.
    pub(super) fn put(&self, staged: &mut Vec<Incoming>) -> u64 {
        if staged.is_empty() {
            return 0;
        }
        let InboxBounds { count_max, count_kept, bytes_max } = self.0.bounds;
        let mut queue = lock(&self.0.queue);
        let before = queue.dropped;
        for item in staged.drain(..) {
            let bytes = item.bytes();
            let full = queue.items.len() + count_kept >= count_max || queue.bytes + bytes > bytes_max;
            if full && item.is_qos0() {
                queue.dropped += 1;
                continue;
            }
            queue.bytes += bytes;
            queue.items.push_back(item);
        }
        let dropped = queue.dropped - before;
        drop(queue);
        self.0.filled.notify_one();
        dropped
    }
}

#[derive(Debug, Default)]
struct Pending {
    epoch: u64,
    acks: Vec<Acked>,
}

#[derive(Debug, Default)]
struct AcksInner {
    pending: Mutex<Pending>,
    filled: Notify,
}

/// Where the gateway's loop puts what is committed. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub struct Acks(Arc<AcksInner>);

impl Acks {
    /// Acknowledges messages of connection `epoch`, in the order in which they came. Never waits. Messages of another than
    /// the present connection are ignored: the broker sends them again.
    pub fn send(&self, epoch: u64, acks: impl IntoIterator<Item = Acked>) {
        let mut pending = lock(&self.0.pending);
        if pending.epoch == epoch {
            pending.acks.extend(acks);
            drop(pending);
            self.0.filled.notify_one();
        }
    }

    /// A new connection begins: older acknowledgements are void.
    pub(super) fn begin(&self, epoch: u64) {
        let mut pending = lock(&self.0.pending);
        pending.epoch = epoch;
        pending.acks.clear();
    }

    /// Moves what is pending to `into`.
    pub(super) fn take(&self, into: &mut Vec<Acked>) {
        into.append(&mut lock(&self.0.pending).acks);
    }

    /// Waits until something was sent.
    pub(super) async fn filled(&self) {
        self.0.filled.notified().await;
    }
}
