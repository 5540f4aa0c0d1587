//! What will happen when, in virtual time.
//!
//! - Happenings of the same moment happen in the order in which they were planned.
//! - Every happening goes into the trace: two runs with the same trace did the same.

use core::cmp::Reverse;
use core::fmt::Write as _;
use std::collections::{BTreeMap, BinaryHeap};

use super::schedule::Fault;

/// Everything that can happen in a world. What carries a `boot`, `conn` or `session` is void if that process or connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The next message of the fleet is due at the broker.
    Publish,
    /// The gateway's process starts.
    Boot { boot: u64 },
    /// The gateway looks at its clock.
    Wake { boot: u64 },
    /// The disk is done with a commit.
    Written { boot: u64 },
    /// The store's thread had nothing to do for a while.
    Idle { boot: u64 },
    /// The gateway's link to the broker tries to connect.
    Connect { boot: u64 },
    /// The link looks whether acknowledgements should be confirmed by a ping.
    Confirm { conn: u64 },
    /// The link gives a connection up from which nothing comes.
    Silence { conn: u64 },
    /// Something from the broker arrives at the gateway.
    Down { conn: u64, packet: Incoming },
    /// Something from the gateway arrives at the broker.
    Up { conn: u64, packet: Outgoing },
    /// A sink looks whether there is something to send.
    Drain { boot: u64, lane: usize },
    /// A record arrives upstream.
    Deliver { session: u64, lane: usize, sequence: u64 },
    /// Upstream's answer arrives at the sink.
    Answer { session: u64, lane: usize, sequence: u64, answer: Answer },
    /// A trouble upstream may be over.
    UpstreamOver,
    /// The sinks have a connection now, or have none any more.
    Upstream { boot: u64, is_up: bool },
    /// There may be room on the disk again.
    DiskRoom,
    /// A disk that stays full is made larger; what could go by then must be gone.
    DiskGrows,
    /// Something goes wrong.
    Fault(Fault),
}

impl Happening {
    /// Whether it needs the gateway's machine awake.
    pub const fn is_of_the_machine(self) -> bool {
        !matches!(
            self,
            Self::Publish
                | Self::Up { .. }
                | Self::Deliver { .. }
                | Self::UpstreamOver
                | Self::DiskRoom
                | Self::DiskGrows
                | Self::Fault(_)
        )
    }
}

/// What the broker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The connection was made.
    ConnAck { session_present: bool },
    /// A publish: its place in the ledger.
    Publish { instance: usize, packet_id: u16, dup: bool },
    /// The subscription is granted.
    SubAck,
    /// A QoS 2 message may be forgotten.
    PubRel { packet_id: u16 },
    /// The ping is answered.
    PingResp,
}

/// What the gateway sends to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// CONNECT with our session.
    Connect,
    /// SUBSCRIBE with all filters; `fresh`: a trigger is new, and wants the retained messages in any case.
    Subscribe { fresh: bool },
    /// PUBACK or PUBREC.
    Ack { packet_id: u16 },
    /// PUBCOMP.
    PubComp { packet_id: u16 },
    /// PINGREQ.
    Ping,
}

/// What upstream says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Taken.
    Taken,
    /// Not now.
    NotNow,
    /// Never.
    Never,
}

/// The plan.
#[derive(Debug, Default)]
pub struct Queue {
    now_us: u64,
    planned: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    trace: Trace,
    /// The last happening, as text.
    text: String,
}

/// A digest of everything that happened (FNV-1a, 64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(pub u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Takes `bytes` in.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Queue {
    /// Microseconds since the world began.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Plans `happening` at `at_us`, or now if that has passed.
    pub fn at(&mut self, at_us: u64, happening: Happening) {
        self.planned += 1;
        self.heap.push(Reverse((at_us.max(self.now_us), self.planned)));
        self.happenings.insert(self.planned, happening);
    }

    /// Plans `happening` in `delay_us`.
    pub fn after(&mut self, delay_us: u64, happening: Happening) {
        self.at(self.now_us + delay_us, happening);
    }

    /// The next happening; time goes on to it.
    pub fn pop(&mut self) -> Option<Happening> {
        let Reverse((at_us, number)) = self.heap.pop()?;
        self.now_us = at_us;
        let happening = self.happenings.remove(&number)?;
        self.trace.add(&at_us.to_le_bytes());
        self.text.clear();
        write!(self.text, "{happening:?}").expect("a String takes every text");
        self.trace.add(self.text.as_bytes());
        Some(happening)
    }

    /// Notes bytes that something made: a commit, a document.
    pub fn note(&mut self, bytes: &[u8]) {
        self.trace.add(bytes);
    }

    /// The last happening in words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of all that happened so far.
    #[must_use]
    pub const fn trace(&self) -> Trace {
        self.trace
    }
}
