//! How records leave a lane.

use crate::books::DropReason;

/// How one record left its lane through the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Upstream has acknowledged it.
    Delivered,
    /// It was older than the lane's TTL.
    Expired,
    /// It can never be delivered, or its bytes are damaged.
    Dropped(DropReason),
}

/// One record that left a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its number.
    pub sequence: u64,
    /// Whether it settles a message.
    pub closes_message: bool,
    /// How it left.
    pub outcome: Outcome,
}

/// Record totals of a lane since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneTotals {
    /// Acknowledged by upstream.
    pub delivered: u64,
    /// Too old.
    pub expired: u64,
    /// Folded into coarser ones, or appended again, to make room.
    pub rolled_up: u64,
    /// Gone, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
}
