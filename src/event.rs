//! Everything that can happen to the gateway.

use crate::config::Qos;
use crate::outbox::{Fetched, Settled};
use crate::store::Lost;

/// A message from the broker, borrowed from the link's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS it was delivered with.
    pub qos: Qos,
    /// Packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// The broker says that it has sent it before.
    pub dup: bool,
    /// The broker had it retained.
    pub retained: bool,
    /// It is retained, and the session existed before this connection: only a trigger that is new to the session takes it,
    /// unless it takes them always.
    pub resubscribed: bool,
    /// The connection it came by.
    pub epoch: u64,
}

/// A publish that cannot become a message: it is dead-lettered *and acknowledged*, or it would come for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poison<'a> {
    /// Topic as it came, perhaps not UTF-8, perhaps empty.
    pub topic: &'a [u8],
    /// As much of the payload as was kept.
    pub payload: &'a [u8],
    /// True size of the packet, bytes.
    pub size: u64,
    /// True length of the payload, bytes, as far as it is known: of a packet that was passed over with its properties.
    pub payload_len: u64,
    /// What is wrong with it.
    pub reason: &'a str,
    /// QoS it was delivered with.
    pub qos: Qos,
    /// Packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// The broker says that it has sent it before.
    pub dup: bool,
    /// The connection it came by.
    pub epoch: u64,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message arrived.
    Message(Message<'a>),
    /// Something arrived that is no usable message.
    Poison(Poison<'a>),
    /// QoS 0 messages were thrown away because the inbox was full.
    Lost {
        /// How many.
        count: u64,
    },
    /// The link to the broker is up.
    Connected {
        /// Number of the connection, growing.
        epoch: u64,
        /// Whether the broker still had our session.
        session_present: bool,
    },
    /// The broker granted subscriptions.
    Granted {
        /// Their filters.
        filters: &'a [String],
    },
    /// The broker has said PUBREL: it will not send the QoS 2 message of this identifier again.
    Released {
        /// Packet identifier.
        packet_id: u16,
    },
    /// The broker has read the first `acks_through` acknowledgements of connection `epoch`.
    Confirmed {
        /// Number of the connection.
        epoch: u64,
        /// Acknowledgements.
        acks_through: u64,
    },
    /// A sink is done with records, in order of their numbers.
    Settled {
        /// Index of the lane.
        lane: usize,
        /// The records.
        records: &'a [Settled],
    },
    /// The store cannot read some records of a lane any more.
    Gone {
        /// Index of the lane.
        lane: usize,
        /// Which.
        lost: Lost,
    },
    /// Records that [`crate::effect::Read`] asked for; `None`: they cannot be read now.
    Fetched {
        /// Index of the lane.
        lane: usize,
        /// The records.
        fetched: Option<Fetched<'a>>,
    },
    /// The sink of a lane has a connection now, or has none any more.
    Upstream {
        /// Index of the lane.
        lane: usize,
        /// Which of the two.
        is_up: bool,
    },
    /// The time that [`crate::gateway::Gateway::deadline`] named has come, or any other time: nothing happens early.
    Tick,
}
