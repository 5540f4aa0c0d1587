//! The cycle of batches: one fills while another is on its way to flash, and what follows from a commit follows it.
//!
//! - Order of a batch: commit → acknowledge → release. Nothing overtakes it: acknowledgements are only reachable through
//!   the answer to their commit.
//! - One batch at a time is on its way. A full disk is no failure: that batch waits and is tried again, and no further
//!   message is taken meanwhile.
//! - The shell's loop and the simulator's machine both turn it; neither decides anything of this by itself.

use crate::config::CommitPolicy;
use crate::effect::{Ack, Effects, Release};
use crate::entry::Entries;
use crate::gateway::Gateway;
use crate::pacing::Pacing;
use crate::store::CommitError;
use crate::time::Now;

/// A full disk is tried again after this.
pub const FULL_RETRY_US: u64 = 1_000_000;
/// Retries after which the process ends if sinks have delivered meanwhile: a start on a full disk can let go what a running
/// gateway cannot.
const FULL_RETRIES_MAX: u32 = 120;

/// The cycle.
#[derive(Debug)]
pub struct Cycle {
    policy: CommitPolicy,
    pacing: Pacing,
    /// The batch that fills.
    open: Effects,
    /// An emptied one, for its buffers.
    spare: Effects,
    /// A batch is on its way to flash.
    committing: bool,
    /// The disk was full: this batch is sent again then.
    waiting: Option<(u64, Effects)>,
    full_retries: u32,
    wants_snapshot: bool,
    epoch: u64,
}

/// A batch for the store, and a snapshot as of it.
#[derive(Debug)]
pub struct Submission {
    /// To be committed.
    pub effects: Effects,
    /// To be written behind it: every entry as of this batch, taken before anything else was handled.
    pub snapshot: Option<Vec<u8>>,
}

/// What follows from a commit that happened.
#[derive(Debug, Default)]
pub struct Due {
    /// Acknowledgements for the connection that stands, in order of receipt.
    pub acks: Vec<Ack>,
    /// Segments to let go.
    pub releases: Vec<Release>,
}

/// What the store's answer means.
#[derive(Debug)]
pub enum Answer {
    /// It is on flash: now, and only now, the broker and the sinks may know.
    Committed(Due),
    /// The disk is full: the batch waits.
    Full,
    /// Nothing of the batch may be acknowledged; the process ends, and a restart finds the truth.
    Failed(String),
}

impl Cycle {
    /// An empty batch beside what the gateway's start has left in `effects`. `receive_max` is what the link announces.
    #[must_use]
    pub fn new(policy: CommitPolicy, receive_max: u16, effects: Effects) -> Self {
        Self {
            policy,
            pacing: Pacing::new(policy, receive_max),
            open: effects,
            spare: Effects::default(),
            committing: false,
            waiting: None,
            full_retries: 0,
            wants_snapshot: false,
            epoch: 0,
        }
    }

    /// The batch that fills: where the gateway puts its effects.
    pub const fn open(&mut self) -> &mut Effects {
        &mut self.open
    }

    /// Whether a batch is on its way to flash.
    #[must_use]
    pub const fn is_committing(&self) -> bool {
        self.committing
    }

    /// When the batch that waits for a full disk is to be tried again, if one does.
    #[must_use]
    pub fn retry_us(&self) -> Option<u64> {
        self.waiting.as_ref().map(|(retry_us, _)| *retry_us)
    }

    /// Whether a further message may be handled: no lane asks for back-pressure, the disk is not full, and the open batch has room.
    #[must_use]
    pub fn may_take(&self, gateway: &Gateway) -> bool {
        let full = self.waiting.is_some() || gateway.is_blocked();
        // While one batch is being committed the next may grow to what two would hold, no further.
        let crowded = self.committing && self.policy.bytes_max.as_usize() * 2 < gateway.staged_bytes();
        !full && !crowded
    }

    /// A message was handled; `unacked` says whether the broker waits for an acknowledgement of it.
    pub fn message(&mut self, now: Now, unacked: bool) {
        self.pacing.message(now.mono_us, unacked);
    }

    /// A connection to the broker was made.
    pub fn connected(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.pacing.connected();
    }

    /// Something was handled that a commit should say some time.
    pub fn idle_work(&mut self, now: Now) {
        self.pacing.idle_work(now.mono_us);
    }

    /// A sink has told what it settled.
    pub fn settled(&mut self, now: Now, gateway: &Gateway) {
        // A segment that may go is room that somebody may wait for; and a sink may wait for a commit to go on.
        if self.open.releases.is_empty() && !gateway.is_starved() {
            self.pacing.idle_work(now.mono_us);
        } else {
            self.pacing.work(now.mono_us);
        }
    }

    /// The gateway has looked at its clock. What is to be sent to the store once more, if a full disk is to be tried again.
    pub fn ticked(&mut self, now: Now, gateway: &Gateway) -> Option<Effects> {
        if gateway.is_dirty() {
            self.pacing.work(now.mono_us);
        }
        let (_, mut effects) = self.waiting.take_if(|(retry_us, _)| *retry_us <= now.mono_us)?;
        // What the sinks delivered meanwhile frees segments, but only with a commit behind this one.
        effects.room_follows = !self.open.releases.is_empty();
        self.committing = true;
        Some(effects)
    }

    /// Whether the open batch should be closed now.
    #[must_use]
    pub fn is_due(&self, now: Now, gateway: &Gateway) -> bool {
        self.pacing.is_due(now.mono_us, gateway.staged_bytes())
    }

    /// When there is something to do next at the latest, in monotonic microseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let batch = if self.committing || self.waiting.is_some() { None } else { self.pacing.deadline() };
        batch.into_iter().chain(self.retry_us()).min()
    }

    /// The open batch, if its time has come and no other is on its way.
    pub fn submit_if_due(&mut self, now: Now, gateway: &mut Gateway) -> Option<Submission> {
        if self.committing || self.waiting.is_some() || !self.is_due(now, gateway) {
            return None;
        }
        self.submit(now, gateway)
    }

    /// Closes the open batch; `None` if there is nothing in it to commit. Only while no other is on its way.
    pub fn submit(&mut self, now: Now, gateway: &mut Gateway) -> Option<Submission> {
        gateway.seal(now, &mut self.open);
        self.pacing.sealed();
        if self.open.is_empty() {
            return None;
        }
        let mut effects = core::mem::replace(&mut self.open, core::mem::take(&mut self.spare));
        // What is to be read back waits for no commit.
        core::mem::swap(&mut self.open.reads, &mut effects.reads);
        let snapshot = core::mem::take(&mut self.wants_snapshot).then(|| {
            let mut entries = Entries::default();
            gateway.export(now, &mut entries);
            entries.into_bytes()
        });
        self.committing = true;
        Some(Submission { effects, snapshot })
    }

    /// The store has answered for `effects`.
    pub fn answered(
        &mut self,
        now: Now,
        mut effects: Effects,
        result: Result<(), CommitError>,
        wants_snapshot: bool,
        gateway: &mut Gateway,
    ) -> Answer {
        self.committing = false;
        self.wants_snapshot |= wants_snapshot;
        match result {
            Ok(()) => {
                self.full_retries = 0;
                let due = self.due(now, &mut effects, gateway);
                effects.clear();
                self.spare = effects;
                Answer::Committed(due)
            }
            Err(CommitError::Full) => {
                self.full_retries += 1;
                if FULL_RETRIES_MAX < self.full_retries && !self.open.releases.is_empty() {
                    return Answer::Failed("the disk is full, and what was delivered cannot be let go".to_owned());
                }
                self.waiting = Some((now.mono_us + FULL_RETRY_US, effects));
                Answer::Full
            }
            Err(CommitError::Failed(what)) => Answer::Failed(what),
        }
    }

    fn due(&mut self, now: Now, effects: &mut Effects, gateway: &mut Gateway) -> Due {
        let epoch = self.epoch;
        let acks: Vec<Ack> = effects.acks.iter().filter(|ack| ack.epoch == epoch).copied().collect();
        if !acks.is_empty() {
            self.pacing.acked(now.mono_us, u32::try_from(acks.len()).unwrap_or(u32::MAX));
            gateway.acked(effects.commit, epoch, acks.len() as u64);
        }
        Due { acks, releases: core::mem::take(&mut effects.releases) }
    }
}
