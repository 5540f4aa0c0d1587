//! The cycle of batches: one fills while another is on its way to flash, and what follows from a commit follows it.
//!
//! - Order of a batch: commit → acknowledge → release. Nothing overtakes it: acknowledgements are only reachable through
//!   the answer to their commit.
//! - One batch at a time is on its way. A full disk is no failure: that batch waits and is tried again, and no further
//!   message is taken meanwhile. What sinks deliver then is committed alone, past it, as soon as a segment may go with it; and
//!   then the batch is tried again at once. So a full disk empties itself, whoever filled it.
//! - The shell's loop and the simulator's machine both turn it; neither decides anything of this by itself.

use crate::config::CommitPolicy;
use crate::effect::{Ack, Effects, Release};
use crate::entry::{Entries, Mark};
use crate::gateway::Gateway;
use crate::pacing::Pacing;
use crate::store::CommitError;
use crate::time::Now;

/// A full disk is tried again after this.
pub const FULL_RETRY_US: u64 = 1_000_000;

/// The cycle.
#[derive(Debug)]
pub struct Cycle {
    policy: CommitPolicy,
    pacing: Pacing,
    /// The batch that fills.
    open: Effects,
    /// An emptied one, for its buffers.
    spare: Effects,
    /// What is on its way to flash.
    committing: Option<Kind>,
    /// The entries of a batch that is on its way end here.
    sealed: Mark,
    /// The disk was full.
    waiting: Option<Waiting>,
    wants_snapshot: bool,
    epoch: u64,
}

/// What a submission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was handled.
    Batch,
    /// The same, once more: the disk was full.
    Again,
    /// What sinks have settled, alone, while a batch waits.
    Heads,
}

/// A batch that waits for room.
#[derive(Debug)]
struct Waiting {
    effects: Effects,
    /// Its entries end here, and what sinks have settled since goes behind.
    sealed: Mark,
    /// When it is tried again.
    retry_us: u64,
    /// When heads may be tried: the disk may have no room even for these.
    heads_us: u64,
}

/// A batch for the store, and a snapshot as of it.
#[derive(Debug)]
pub struct Submission {
    /// What it is.
    pub kind: Kind,
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
    /// What sinks have settled is on flash, alone: these segments may go. The batch is tried again behind that.
    RoomMade(Vec<Release>),
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
            committing: None,
            sealed: Mark::default(),
            waiting: None,
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
        self.committing.is_some()
    }

    /// Whether a batch waits because the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.is_some() || self.committing == Some(Kind::Again)
    }

    /// Whether a further message may be handled: no lane asks for back-pressure, the disk is not full, and the open batch has room.
    #[must_use]
    pub fn may_take(&self, gateway: &Gateway) -> bool {
        let full = self.is_full() || gateway.is_blocked();
        // While one batch is being committed the next may grow to what two would hold, no further.
        let crowded = self.is_committing() && self.policy.bytes_max.as_usize() * 2 < gateway.staged_bytes();
        !full && !crowded && !gateway.fills_segment()
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

    /// The gateway has looked at its clock.
    pub fn ticked(&mut self, now: Now, gateway: &Gateway) {
        if gateway.is_dirty() {
            self.pacing.work(now.mono_us);
        }
    }

    /// Whether the open batch should be closed now.
    #[must_use]
    pub fn is_due(&self, now: Now, gateway: &Gateway) -> bool {
        self.pacing.is_due(now.mono_us, gateway.staged_bytes()) || gateway.fills_segment()
    }

    /// When there is something to do next at the latest, in monotonic microseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match &self.waiting {
            _ if self.is_committing() => None,
            Some(waiting) => Some(waiting.retry_us),
            None => self.pacing.deadline(),
        }
    }

    /// What is to be committed now, if something is and nothing else is on its way: the open batch, if its time has come. Or what
    /// makes room for the batch that waits, or that batch once more.
    pub fn submit_if_due(&mut self, now: Now, gateway: &mut Gateway) -> Option<Submission> {
        if self.is_committing() {
            return None;
        }
        if let Some(waiting) = self.waiting.take() {
            return self.try_again(now, waiting, gateway);
        }
        if self.is_due(now, gateway) { self.submit(now, gateway) } else { None }
    }

    fn try_again(&mut self, now: Now, mut waiting: Waiting, gateway: &mut Gateway) -> Option<Submission> {
        if waiting.retry_us <= now.mono_us {
            waiting.effects.entries.cut(&waiting.sealed);
            gateway.seal_again(&mut waiting.effects);
            self.sealed = waiting.sealed;
            return Some(self.submitted(Kind::Again, waiting.effects, None));
        }
        let mut heads = core::mem::take(&mut self.spare);
        let is_due = waiting.heads_us <= now.mono_us && gateway.seal_heads(&mut heads);
        self.waiting = Some(waiting);
        if is_due {
            return Some(self.submitted(Kind::Heads, heads, None));
        }
        self.spare = heads;
        None
    }

    const fn submitted(&mut self, kind: Kind, effects: Effects, snapshot: Option<Vec<u8>>) -> Submission {
        self.committing = Some(kind);
        Submission { kind, effects, snapshot }
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
        self.sealed = effects.entries.mark();
        Some(self.submitted(Kind::Batch, effects, snapshot))
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
        let kind = self.committing.take();
        self.wants_snapshot |= wants_snapshot;
        match (result, &mut self.waiting) {
            (Err(CommitError::Failed(what)), _) => Answer::Failed(what),
            (Ok(()), Some(waiting)) if kind == Some(Kind::Heads) => {
                waiting.retry_us = now.mono_us;
                let releases = core::mem::take(&mut effects.releases);
                self.keep(effects);
                Answer::RoomMade(releases)
            }
            (Err(CommitError::Full), Some(waiting)) => {
                gateway.heads_waited(&effects);
                waiting.heads_us = now.mono_us + FULL_RETRY_US;
                self.keep(effects);
                Answer::Full
            }
            (Ok(()), _) => {
                gateway.committed();
                let due = self.due(now, &mut effects, gateway);
                self.keep(effects);
                Answer::Committed(due)
            }
            (Err(CommitError::Full), None) => {
                let sealed = core::mem::take(&mut self.sealed);
                let retry_us = now.mono_us + FULL_RETRY_US;
                self.waiting = Some(Waiting { effects, sealed, retry_us, heads_us: now.mono_us });
                Answer::Full
            }
        }
    }

    /// Keeps the buffers.
    fn keep(&mut self, mut effects: Effects) {
        effects.clear();
        self.spare = effects;
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
