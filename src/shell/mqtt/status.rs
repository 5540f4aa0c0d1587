//! What a link says of itself, for metrics and logs.
//!
//! - Writers lock for a few assignments, once a turn; a reader copies.

use std::sync::Mutex;

use super::packet::Version;

/// A copy of a link's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the session stands.
    pub connected: bool,
    /// Version spoken, since the first CONNACK.
    pub version: Option<Version>,
    /// Connections so far; the number of the present or last one.
    pub epoch: u64,
    /// Attempts that failed, and connections that ended.
    pub failures: u64,
    /// Bytes read from the socket (before TLS: plain text).
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Filters that the broker refused in the present or last connection, and has not granted since.
    pub refused: Vec<String>,
    /// Why the last attempt or connection failed; kept after recovery.
    pub last_error: String,
}

impl Status {
    /// Connections after the first.
    #[must_use]
    pub const fn reconnects(&self) -> u64 {
        self.epoch.saturating_sub(1)
    }
}

/// The status that the link's task writes.
#[derive(Debug, Default)]
pub struct SharedStatus(Mutex<Status>);

impl SharedStatus {
    /// A copy.
    #[must_use]
    pub fn get(&self) -> Status {
        self.0.lock().map(|status| status.clone()).unwrap_or_default()
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        if let Ok(mut status) = self.0.lock() {
            change(&mut status);
        }
    }
}
