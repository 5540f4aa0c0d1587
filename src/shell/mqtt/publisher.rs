//! The connection of a sink to its broker: QoS 1 publishes out, PUBACKs in.
//!
//! - It remembers nothing but packet ids: what is not acknowledged when it ends is the caller's to send again.
//! - A publish that the broker announced it would not take is refused here, before it ends the connection.

use core::time::Duration;
use std::sync::Arc;

use tokio::time::Instant;

use super::connect::{Memory, Role, connect};
use super::error::LinkError;
use super::packet::{self, Ack, AckKind, Packet, Version};
use super::status::SharedStatus;
use super::wire::Wire;
use crate::config::MqttConnection;
use crate::topic::TOPIC_BYTES_MAX;

/// Largest packet that MQTT can say (§1.5.5).
const PACKET_MAX: usize = 268_435_455;
/// A broker that answers nothing for this long while something is unacknowledged is given up.
const ACK_PATIENCE: Duration = Duration::from_secs(60);

/// A standing connection for publishing.
#[derive(Debug)]
pub struct Publisher {
    wire: Wire,
    version: Version,
    /// Unacknowledged publishes that both sides take.
    pub window: u16,
    packet_max: usize,
    in_flight: u32,
    last_ack: Instant,
}

/// The broker's answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// Of the publish.
    pub packet_id: u16,
    /// Below 0x80: taken. 0x10: taken, but nobody is subscribed. 3.1.1 always says 0.
    pub reason: u8,
}

/// Why a publish cannot be sent to this broker, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeverFits {
    /// The packet is larger than the broker takes.
    Packet {
        /// Bytes of the packet.
        size: usize,
        /// Bytes that the broker takes.
        max: usize,
    },
    /// The topic is longer than 65,535 bytes.
    Topic,
}

impl core::fmt::Display for NeverFits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Packet { size, max } => write!(f, "the packet has {size} bytes, the broker takes {max}"),
            Self::Topic => f.write_str("the topic is longer than 65535 bytes"),
        }
    }
}

impl Publisher {
    /// Connects with a clean session.
    pub async fn connect(
        connection: &MqttConnection,
        memory: &mut Memory,
        status: Arc<SharedStatus>,
    ) -> Result<Self, LinkError> {
        let session = connect(connection, Role::Publisher, memory).await?;
        let version = session.version;
        let window = connection.in_flight.min(session.connack.receive_max).max(1);
        let packet_max = session.connack.packet_max.map_or(PACKET_MAX, |max| max as usize);
        status.update(|status| {
            status.connected = true;
            status.version = Some(version);
            status.epoch += 1;
        });
        let keep_alive = Duration::from_millis(connection.keep_alive.0);
        let wire = Wire::new(session, connection.packet_max.as_usize(), keep_alive, status);
        Ok(Self { wire, version, window, packet_max, in_flight: 0, last_ack: Instant::now() })
    }

    /// Spoken version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether another publish may be written now: the window and the write buffer have room.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight < u32::from(self.window) && self.wire.has_room()
    }

    /// Writes a publish. The topic is a valid name, the packet id not in flight.
    pub fn publish(&mut self, topic: &[u8], packet_id: u16, payload: &[u8]) -> Result<(), NeverFits> {
        let size = packet::publish_len(self.version, topic.len(), payload.len());
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(NeverFits::Topic);
        }
        if size > self.packet_max {
            return Err(NeverFits::Packet { size, max: self.packet_max });
        }
        if self.in_flight == 0 {
            self.last_ack = Instant::now();
        }
        self.in_flight += 1;
        packet::put_publish(self.version, topic, packet_id, payload, self.wire.output());
        Ok(())
    }

    /// The next answer that has come in.
    pub fn next_ack(&mut self) -> Result<Option<PubAck>, LinkError> {
        while let Some(packet) = self.wire.take()? {
            match packet {
                Packet::Ack(Ack { kind: AckKind::PubAck, packet_id, reason }) => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.last_ack = Instant::now();
                    return Ok(Some(PubAck { packet_id, reason }));
                }
                Packet::PingResp => {
                    self.wire.pong();
                }
                Packet::Disconnect { reason: 0x8e, .. } => return Err(LinkError::TakenOver),
                Packet::Disconnect { reason, text } => return Err(LinkError::Disconnected { reason, text }),
                other => log::debug!("upstream: a packet that was not asked for: {other:?}"),
            }
        }
        Ok(None)
    }

    /// Writes what is pending, reads once; see [`Wire::turn`].
    pub async fn turn(&mut self, wake_at: Option<Instant>) -> Result<(), LinkError> {
        let give_up = (self.in_flight > 0).then(|| self.last_ack + ACK_PATIENCE);
        if give_up.is_some_and(|at| at <= Instant::now()) {
            return Err(LinkError::Stalled("acknowledges nothing for a minute"));
        }
        self.wire.turn(true, wake_at.into_iter().chain(give_up).min()).await
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.wire.close(0).await;
    }
}
