//! When to close a batch: as late as the commit interval allows, but never so late that the broker waits for us.
//!
//! A broker sends only so many messages without our acknowledgement (our Receive Maximum, or a smaller limit of its own that it
//! does not tell: mosquitto's `max_inflight_messages`, 20 by default). Once they are on their way, waiting for the interval gains
//! nothing and costs throughput: the batch is complete. The limit is learnt: if a burst arrives right after our acknowledgements,
//! the broker was waiting, and the number it had sent is its limit.
//!
//! What nobody waits for (a record was delivered: a crash only delivers it again, under its number) rides with the next batch, and
//! makes one of its own only after [`PATIENCE`]: where few messages come, half of the commits were for that.
//!
//! - A batch is open for at most `interval`; it holds at most `messages_max` messages and about `bytes_max` bytes.

use crate::config::CommitPolicy;
use crate::units::Millis;

/// Decides for one gateway.
#[derive(Debug)]
pub struct Pacing {
    policy: CommitPolicy,
    receive_max: u32,
    /// Messages without our acknowledgement at which the broker was seen to wait; `receive_max` until then.
    window: u32,
    opened_us: Option<u64>,
    /// Since when something waits that may wait.
    idle_us: Option<u64>,
    unacked: u32,
    batch_messages: u32,
    /// The last acknowledgements: when, and how many messages the broker had on their way until then.
    last_acks: Option<(u64, u32)>,
    since_acks: u32,
}

/// Messages that come this soon after our acknowledgements had been waiting for them.
const BURST_US: u64 = 3_000;
/// A window smaller than this is not believed: two messages in a burst prove nothing.
const WINDOW_MIN: u32 = 8;
/// So long may wait what nobody waits for.
const PATIENCE: Millis = Millis(5_000);

impl Pacing {
    /// With the policy of the configuration and the Receive Maximum that we announce.
    #[must_use]
    pub fn new(policy: CommitPolicy, receive_max: u16) -> Self {
        let receive_max = u32::from(receive_max);
        Self {
            policy,
            receive_max,
            window: receive_max,
            opened_us: None,
            idle_us: None,
            unacked: 0,
            batch_messages: 0,
            last_acks: None,
            since_acks: 0,
        }
    }

    /// A message was handled; `unacked` says whether the broker waits for an acknowledgement of it.
    pub fn message(&mut self, mono_us: u64, unacked: bool) {
        self.opened_us.get_or_insert(mono_us);
        self.batch_messages += 1;
        if !unacked {
            return;
        }
        self.unacked += 1;
        if self.window < self.unacked {
            self.window = self.unacked.min(self.receive_max);
        }
        if let Some((at, sent)) = self.last_acks {
            self.since_acks += 1;
            let burst = mono_us.saturating_sub(at) <= BURST_US;
            if burst && WINDOW_MIN <= sent && sent <= 2 * self.since_acks {
                self.window = sent;
                self.last_acks = None;
            } else if !burst {
                self.last_acks = None;
            }
        }
    }

    /// Something else that needs a commit has happened (a window closed).
    pub fn work(&mut self, mono_us: u64) {
        self.opened_us.get_or_insert(mono_us);
    }

    /// Something has happened that a commit should say some time (a record was delivered).
    pub fn idle_work(&mut self, mono_us: u64) {
        self.idle_us.get_or_insert(mono_us);
    }

    /// Whether the open batch should be committed now.
    #[must_use]
    pub fn is_due(&self, mono_us: u64, staged_bytes: usize) -> bool {
        let is_over = self.deadline().is_some_and(|deadline| deadline <= mono_us);
        let is_full = self.policy.messages_max <= self.batch_messages
            || self.window <= self.unacked
            || self.policy.bytes_max.as_usize() <= staged_bytes;
        is_over || self.opened_us.is_some() && is_full
    }

    /// When the open batch is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let interval = self.policy.interval;
        let opened = self.opened_us.map(|at| at + interval.0 * 1000);
        let idle = self.idle_us.map(|at| at + interval.max(PATIENCE).0 * 1000);
        opened.into_iter().chain(idle).min()
    }

    /// The batch is sealed and on its way to flash.
    pub fn sealed(&mut self) {
        (self.opened_us, self.idle_us) = (None, None);
        self.batch_messages = 0;
    }

    /// `acks` acknowledgements were handed to the link.
    pub fn acked(&mut self, mono_us: u64, acks: u32) {
        if 0 < acks {
            self.last_acks = Some((mono_us, self.unacked));
            self.since_acks = 0;
            self.unacked = self.unacked.saturating_sub(acks);
        }
    }

    /// A new connection: nothing of the old one can be acknowledged any more.
    pub fn connected(&mut self) {
        self.unacked = 0;
        self.window = self.receive_max;
        self.last_acks = None;
    }

    /// The learnt limit.
    #[must_use]
    pub const fn window(&self) -> u32 {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    fn pacing(interval_ms: u64) -> Pacing {
        let policy = CommitPolicy { interval: Millis(interval_ms), messages_max: 1000, bytes_max: Bytes::kib(64) };
        Pacing::new(policy, 512)
    }

    #[test]
    fn a_lone_message_waits_for_the_interval() {
        let mut pacing = pacing(100);
        pacing.message(0, true);
        assert!(!pacing.is_due(99_999, 0) && pacing.is_due(100_000, 0));
        pacing.sealed();
        assert!(!pacing.is_due(1_000_000, 0) && pacing.deadline().is_none());
    }

    #[test]
    fn what_nobody_waits_for_rides_with_the_next_batch_and_goes_alone_only_after_its_patience() {
        let mut pacing = pacing(100);
        pacing.idle_work(0);
        assert_eq!(pacing.deadline(), Some(5_000_000));
        assert!(!pacing.is_due(4_999_999, 1 << 20) && pacing.is_due(5_000_000, 0));
        pacing.message(1_000_000, true);
        assert_eq!(pacing.deadline(), Some(1_100_000));
        pacing.sealed();
        assert_eq!(pacing.deadline(), None);
    }

    #[test]
    fn bytes_and_messages_and_the_receive_maximum_close_a_batch_early() {
        let mut full = pacing(100);
        full.message(0, false);
        assert!(full.is_due(1, 64 * 1024));
        for _ in 0..999 {
            full.message(1, false);
        }
        assert!(full.is_due(2, 0));
        let mut window = pacing(100);
        for _ in 0..512 {
            window.message(0, true);
        }
        assert!(window.is_due(1, 0));
    }

    #[test]
    fn a_broker_that_waits_at_twenty_is_recognised_by_its_burst_and_no_longer_kept_waiting() {
        let mut pacing = pacing(100);
        for _ in 0..20 {
            pacing.message(0, true);
        }
        assert!(!pacing.is_due(50_000, 0));
        pacing.sealed();
        pacing.acked(100_000, 20);
        for _ in 0..20 {
            pacing.message(100_500, true);
        }
        assert_eq!(pacing.window(), 20);
        assert!(pacing.is_due(100_600, 0), "the second batch does not wait for the interval");
    }

    #[test]
    fn steady_traffic_is_not_taken_for_a_burst() {
        let mut pacing = pacing(100);
        for at in 0..100 {
            pacing.message(at * 1000, true);
        }
        pacing.sealed();
        pacing.acked(100_000, 100);
        for at in 101..150 {
            pacing.message(at * 1000, true);
        }
        assert_eq!(pacing.window(), 512);
    }
}
