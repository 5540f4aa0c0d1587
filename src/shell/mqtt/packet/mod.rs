//! MQTT packets as both versions (3.1.1 and 5.0) have them, in and out of a byte buffer.
//!
//! - rumqttc's codec carries what is rare and rich: CONNECT, SUBSCRIBE, and the properties of CONNACK and DISCONNECT.
//! - PUBLISH and the acknowledgements are read here: topic and payload stay slices of the read buffer in both versions, and
//!   a bad publish still yields its packet id, so that it can be acknowledged. (The codec gives an error without the id: the
//!   broker would send the same packet for ever. It also refuses reason codes that it does not know.)
//! - A packet larger than the limit is passed over as it streams in; it is never held.
//! - [`Malformed`] means that the peer can no longer be understood: the connection must end.

mod decode;
mod encode;

use bytes::Bytes;

pub use decode::{Decoder, HEAD_MAX};
pub use encode::{Asked, Connect, ack, ping, publish_len, put_disconnect, put_publish, subscribe, unsubscribe};

use crate::config::Qos;

/// Spoken protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V311,
    /// 5.0.
    V5,
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::V311 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        })
    }
}

/// A packet from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    ConnAck(ConnAck),
    /// PUBLISH.
    Publish(Publish),
    /// PUBLISH that cannot be handed on, but can be acknowledged.
    Unfit(Unfit),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack),
    /// SUBACK: a code for each filter, in their order.
    SubAck {
        /// Of the SUBSCRIBE.
        packet_id: u16,
        /// 0, 1, 2 granted; 0x80 and more refused.
        codes: Vec<u8>,
    },
    /// UNSUBACK: in 5.0 a code for each filter, in their order; in 3.1.1 none.
    UnsubAck {
        /// Of the UNSUBSCRIBE.
        packet_id: u16,
        /// 0 ended, 0x11 was none; 0x80 and more refused.
        codes: Vec<u8>,
    },
    /// PINGRESP.
    PingResp,
    /// DISCONNECT (5.0 only).
    Disconnect {
        /// MQTT 5.0 §3.14.2.1.
        reason: u8,
        /// The broker's own words, often empty.
        text: String,
    },
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// A valid topic name.
    pub topic: Bytes,
    /// Application data.
    pub payload: Bytes,
    /// 0 for QoS 0.
    pub packet_id: u16,
    /// How it is acknowledged.
    pub qos: Qos,
    /// Sent before, in this session.
    pub dup: bool,
    /// Sent because of the subscription, not because it was just published.
    pub retain: bool,
}

/// A publish that is no message for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// 0 for QoS 0.
    pub packet_id: u16,
    /// How it is acknowledged.
    pub qos: Qos,
    /// Sent before, in this session.
    pub dup: bool,
    /// The topic's bytes, whatever they are.
    pub topic: Bytes,
    /// Application data; nothing of a packet that was passed over.
    pub payload: Bytes,
    /// Its true length; of a packet that was passed over, with its properties.
    pub payload_len: usize,
    /// Size of the whole packet.
    pub size: usize,
    /// What is wrong with it.
    pub why: Why,
}

/// Why a publish is unfit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The topic is empty.
    NoTopic,
    /// The topic is not UTF-8.
    NotUtf8,
    /// The topic has a NUL in it.
    Nul,
    /// The topic has `+` or `#` in it.
    Wildcard,
    /// The properties overrun the packet.
    Properties,
    /// Larger than the limit; its bytes were passed over.
    TooLarge,
}

impl Why {
    /// A sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoTopic => "the topic is empty",
            Self::NotUtf8 => "the topic is not UTF-8",
            Self::Nul => "the topic has a NUL in it",
            Self::Wildcard => "the topic has a wildcard in it, `+` or `#`, which only filters have",
            Self::Properties => "the properties overrun the packet",
            Self::TooLarge => "the packet is larger than broker.packet-max",
        }
    }
}

/// What an acknowledgement acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AckKind {
    /// QoS 1.
    PubAck = 0x40,
    /// QoS 2, first of three.
    PubRec = 0x50,
    /// QoS 2, second.
    PubRel = 0x62,
    /// QoS 2, third.
    PubComp = 0x70,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which one.
    pub kind: AckKind,
    /// Of the publish.
    pub packet_id: u16,
    /// 0 is success; always 0 in 3.1.1.
    pub reason: u8,
}

/// The broker's answer to CONNECT. The limits are those of 5.0; 3.1.1 has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// 0 is success; other codes differ between the versions.
    pub code: u8,
    /// In the form of 3.1.1, whatever was asked.
    pub is_v311: bool,
    /// The broker knew the session.
    pub session_present: bool,
    /// Unacknowledged publishes that the broker takes.
    pub receive_max: u16,
    /// Largest packet that the broker takes.
    pub packet_max: Option<u32>,
    /// Highest QoS that the broker takes.
    pub max_qos: u8,
    /// Keep-alive in seconds that the broker wants instead of ours.
    pub keep_alive: Option<u16>,
    /// The broker's own words, often empty.
    pub text: String,
}

/// What the front of a buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A packet; its bytes are taken.
    Packet(Packet),
    /// Part of one: at least so many more bytes must come.
    Wants(usize),
}

/// The peer does not speak MQTT as we know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);
