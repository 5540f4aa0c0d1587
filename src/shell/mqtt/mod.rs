//! MQTT connections: the source link to the local broker, and the publisher of a sink.
//!
//! - We drive the session ourselves over rumqttc's codec: all packets of one read are handled together, all packets of one
//!   turn leave in one write, an ack leaves only after its commit, and a PUBREL of an unknown id is answered (after a
//!   restart every id is unknown).
//! - [`source`] turns the session into a stream of [`Incoming`]; [`publisher`] is the other direction. Both stand on
//!   [`wire`] (socket, buffers, keep-alive) and [`connect`] (TCP, TLS, CONNECT, fallback to 3.1.1).
//! - Every connection has an *epoch*, counted from 1. Packet ids mean something only together with it.

pub mod connect;
pub mod error;
pub mod inbox;
pub mod packet;
pub mod publisher;
pub mod retry;
pub mod source;
pub mod status;
pub mod subscriptions;
pub mod wire;

use bytes::Bytes;

pub use inbox::{Acked, Acks, Inbox, InboxBounds};
pub use packet::{Unfit, Version, Why};
pub use source::{Link, Source, spawn};
pub use status::{SharedStatus, Status};
pub use subscriptions::Grant;

use crate::config::Qos;

/// What the source link tells the gateway's loop.
///
/// Every [`Incoming::Publish`] and [`Incoming::Unfit`] with QoS 1 or 2 waits for its [`Acked`], and is sent again by the
/// broker (with `dup`, in a later epoch) until it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The broker took us in.
    Connected {
        /// Number of the connection.
        epoch: u64,
        /// Spoken version.
        version: Version,
        /// The broker kept our session. If not, what it held for us is gone, and packet ids start anew.
        session_present: bool,
    },
    /// The connection ended.
    Disconnected {
        /// Number of the connection.
        epoch: u64,
        /// A sentence for people.
        reason: String,
    },
    /// The broker answered all subscriptions.
    Granted {
        /// Number of the connection.
        epoch: u64,
        /// Each filter, and what became of it.
        grants: Vec<Grant>,
    },
    /// A message.
    Publish {
        /// Number of the connection.
        epoch: u64,
        /// A valid topic name.
        topic: Bytes,
        /// Application data.
        payload: Bytes,
        /// 0 for QoS 0.
        packet_id: u16,
        /// How it must be acknowledged.
        qos: Qos,
        /// May have been delivered before. A QoS 2 message can come twice with `dup` until its PUBREC was seen.
        dup: bool,
        /// Retained, sent because we subscribed.
        retain: bool,
        /// Retained, and the session was there before this connection: the message may not be new to us.
        resubscribed: bool,
    },
    /// A publish that can only be counted, dead-lettered and acknowledged.
    Unfit {
        /// Number of the connection.
        epoch: u64,
        /// What is known of it.
        unfit: Unfit,
    },
    /// A PUBREL for the QoS 2 message of this packet id; it is answered.
    Released {
        /// Of the message.
        packet_id: u16,
    },
    /// The broker has surely seen the first `acks_through` acks of this epoch (counted in the order of [`Acks::send`],
    /// QoS 1 and 2 alike): it will not send those messages again.
    Confirmed {
        /// Number of the connection.
        epoch: u64,
        /// Acks since the epoch began.
        acks_through: u64,
        /// Answers to PUBREL since then.
        completed_through: u64,
    },
    /// QoS 0 messages that came while the inbox was full.
    Dropped {
        /// How many.
        count: u64,
    },
}

impl Incoming {
    /// Bytes that this entry holds of the inbox's bound.
    fn bytes(&self) -> usize {
        match self {
            Self::Publish { topic, payload, .. } => topic.len() + payload.len(),
            Self::Unfit { unfit, .. } => unfit.topic.len() + unfit.payload.len(),
            _ => 0,
        }
    }

    const fn is_qos0(&self) -> bool {
        matches!(self, Self::Publish { qos: Qos::AtMostOnce, .. })
    }
}
