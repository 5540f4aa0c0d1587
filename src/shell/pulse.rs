//! What the loop leaves for the watch to see: written at each turn, read by another thread when the loop may hang.
//!
//! - The loop never waits here: the lock guards a few copies, and the watch holds it no longer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::health::{Beat, Signs};

/// No commit is on its way.
const NONE: u64 = u64::MAX;

/// The loop's pulse.
#[derive(Debug)]
pub struct Pulse {
    turned_us: AtomicU64,
    commit_since_us: AtomicU64,
    handled: AtomicU64,
    waiting: AtomicBool,
    signs: Mutex<Option<Signs>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            turned_us: AtomicU64::new(0),
            commit_since_us: AtomicU64::new(NONE),
            handled: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            signs: Mutex::new(None),
        }
    }
}

impl Pulse {
    /// The loop has turned. `waiting`: messages wait, and nothing known holds them back.
    pub fn turned(&self, now_us: u64, waiting: bool) {
        self.turned_us.store(now_us, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// A message was handled.
    pub fn handled(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    /// A commit has gone to the store.
    pub fn commit_began(&self, now_us: u64) {
        self.commit_since_us.store(now_us, Ordering::Relaxed);
    }

    /// Its answer has come.
    pub fn commit_ended(&self) {
        self.commit_since_us.store(NONE, Ordering::Relaxed);
    }

    /// What the loop sees around it.
    pub fn tell(&self, signs: Signs) {
        *self.signs.lock().unwrap_or_else(PoisonError::into_inner) = Some(signs);
    }

    /// For the watch.
    #[must_use]
    pub fn beat(&self) -> Beat {
        let since = self.commit_since_us.load(Ordering::Relaxed);
        Beat {
            turned_us: self.turned_us.load(Ordering::Relaxed),
            commit_since_us: (since != NONE).then_some(since),
            handled: self.handled.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// For the watch; `None`: the loop has not told anything yet.
    #[must_use]
    pub fn signs(&self) -> Option<Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
