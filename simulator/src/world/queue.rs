//! What will happen when, in virtual time.
//!
//! - Happenings of the same moment happen in the order in which they were planned.
//! - Every happening goes into the trace: two runs with the same trace did the same.

use core::cmp::Reverse;
use core::fmt::Write as _;
use std::collections::{BTreeMap, BinaryHeap};

/// Everything that can happen in a world. What carries a `boot` or an `epoch` is void if that process or connection is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The next message of the fleet is due at the broker.
    Publish,
    /// The gateway's link to the broker comes up.
    Connect { boot: u64 },
    /// Something from the broker arrives at the gateway.
    Arrive { epoch: u64, incoming: Incoming },
    /// An acknowledgement arrives at the broker.
    Ack { epoch: u64, packet_id: u16 },
    /// A PINGREQ arrives at the broker, sent behind so many acknowledgements.
    Ping { epoch: u64, acks: u64 },
    /// The handshake of a QoS 2 message is over: its identifier is free.
    Complete { packet_id: u16 },
    /// The gateway looks at its clock.
    Wake { boot: u64 },
    /// The disk is done with a commit.
    Written { boot: u64 },
    /// A sink looks whether there is something to send.
    Drain { boot: u64, lane: usize },
    /// A record arrives upstream.
    Deliver { session: u64, lane: usize, sequence: u64 },
    /// Upstream's acknowledgement arrives at the sink.
    Delivered { session: u64, lane: usize, sequence: u64 },
    /// Something goes wrong, or is over.
    Fault(Fault),
    /// The gateway's process starts.
    Boot { boot: u64 },
}

/// What the broker sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The connection was made; the session was there.
    Connected,
    /// A publish: its place in the broker's list of messages.
    Publish { message: usize, packet_id: u16, dup: bool },
    /// PINGRESP: so many acknowledgements have been read.
    Confirmed { acks: u64 },
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9: what was written is written.
    Kill,
    /// The power goes, now.
    PowerCut,
    /// The power goes at this many steps of the disk from now.
    PowerCutAt(u64),
    /// The link between broker and gateway breaks; what is on its way is lost.
    LinkLost,
    /// Upstream is away.
    UpstreamDown,
    /// Upstream is there again.
    UpstreamUp,
    /// The connection to upstream breaks: records may have arrived whose acknowledgements did not.
    UpstreamLost,
    /// The disk has no room left.
    DiskFull,
    /// It has.
    DiskRoom,
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
