//! The modelled broker: one persistent session of one client, the gateway.
//!
//! - A QoS 1 or 2 message stays until it is acknowledged; at most `receive_max` are on their way. A new connection gets them
//!   again, in order, with their packet identifiers and DUP set (MQTT 5.0 §4.4).
//! - A connection is a pipe in each direction: in order, with a delay; what is in it when it breaks is lost.
//! - Packet identifiers are reused as soon as they are free, which is when mistaking one for another shows.

use std::collections::{BTreeMap, VecDeque};

use weir::config::Qos;

use super::queue::{Happening, Incoming, Queue};
use crate::fleet::Message;
use crate::rng::Rng;

/// The broker, and the link to it.
#[derive(Debug)]
pub struct Broker {
    messages: Vec<Message>,
    waiting: VecDeque<usize>,
    /// By packet identifier: message, order of sending, and whether its PUBREC has come.
    unacked: BTreeMap<u16, Unacked>,
    receive_max: u16,
    sent: u64,
    epoch: u64,
    is_connected: bool,
    /// When the last thing put into a pipe arrives.
    down_us: u64,
    up_us: u64,
    latency_us: u64,
    /// QoS 0 messages that came while no one was connected.
    pub lost_qos0: u64,
}

#[derive(Clone, Copy, Debug)]
struct Unacked {
    message: usize,
    order: u64,
    received: bool,
}

impl Broker {
    /// A broker whose client announces `receive_max`, over a link of some `latency_us` each way.
    #[must_use]
    pub const fn new(receive_max: u16, latency_us: u64) -> Self {
        Self {
            messages: Vec::new(),
            waiting: VecDeque::new(),
            unacked: BTreeMap::new(),
            receive_max,
            sent: 0,
            epoch: 0,
            is_connected: false,
            down_us: 0,
            up_us: 0,
            latency_us,
            lost_qos0: 0,
        }
    }

    /// A message of the list.
    #[must_use]
    pub fn message(&self, place: usize) -> &Message {
        &self.messages[place]
    }

    /// Number of the connection.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether connection `epoch` stands.
    #[must_use]
    pub const fn is_current(&self, epoch: u64) -> bool {
        self.is_connected && self.epoch == epoch
    }

    /// Whether a connection stands.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether every QoS 1 and 2 message is acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.unacked.is_empty()
    }

    /// A device publishes.
    pub fn publish(&mut self, message: Message, queue: &mut Queue, rng: &mut Rng) {
        let qos = message.qos;
        self.messages.push(message);
        let place = self.messages.len() - 1;
        if qos != Qos::AtMostOnce {
            self.waiting.push_back(place);
            self.send(queue, rng);
        } else if self.is_connected {
            self.deliver(Incoming::Publish { message: place, packet_id: 0, dup: false }, queue, rng);
        } else {
            self.lost_qos0 += 1;
        }
    }

    /// The gateway connects, with its session.
    pub fn connect(&mut self, queue: &mut Queue, rng: &mut Rng) {
        self.epoch += 1;
        self.is_connected = true;
        self.deliver(Incoming::Connected, queue, rng);
        let mut again: Vec<(u64, u16, usize)> = Vec::new();
        for (packet_id, unacked) in &self.unacked {
            if unacked.received {
                queue.after(2 * self.latency_us, Happening::Complete { packet_id: *packet_id });
            } else {
                again.push((unacked.order, *packet_id, unacked.message));
            }
        }
        again.sort_unstable();
        for (_, packet_id, message) in again {
            self.deliver(Incoming::Publish { message, packet_id, dup: true }, queue, rng);
        }
        self.send(queue, rng);
    }

    /// The connection breaks.
    pub fn disconnect(&mut self) {
        self.is_connected = false;
    }

    /// An acknowledgement (PUBACK or PUBREC) has come.
    pub fn acknowledged(&mut self, packet_id: u16, queue: &mut Queue, rng: &mut Rng) {
        let Some(unacked) = self.unacked.get_mut(&packet_id) else { return };
        if self.messages[unacked.message].qos == Qos::ExactlyOnce {
            unacked.received = true;
            queue.after(2 * self.latency_us, Happening::Complete { packet_id });
        } else {
            self.unacked.remove(&packet_id);
            self.send(queue, rng);
        }
    }

    /// The handshake of a QoS 2 message is over, if a connection stands to end it.
    pub fn completed(&mut self, packet_id: u16, queue: &mut Queue, rng: &mut Rng) {
        if self.is_connected && self.unacked.get(&packet_id).is_some_and(|unacked| unacked.received) {
            self.unacked.remove(&packet_id);
            self.send(queue, rng);
        }
    }

    /// A PINGREQ has come behind `acks` acknowledgements.
    pub fn pinged(&mut self, acks: u64, queue: &mut Queue, rng: &mut Rng) {
        self.deliver(Incoming::Confirmed { acks }, queue, rng);
    }

    /// Puts something into the pipe from the gateway to the broker.
    pub fn take(&mut self, happening: Happening, queue: &mut Queue, rng: &mut Rng) {
        self.up_us = self.up_us.max(queue.now_us() + self.delay(rng));
        queue.at(self.up_us, happening);
    }

    fn send(&mut self, queue: &mut Queue, rng: &mut Rng) {
        while self.is_connected && self.unacked.len() < usize::from(self.receive_max) {
            let Some(message) = self.waiting.pop_front() else { return };
            let free = (1..=self.receive_max).find(|id| !self.unacked.contains_key(id));
            let packet_id = free.expect("fewer are on their way than there are identifiers");
            self.sent += 1;
            self.unacked.insert(packet_id, Unacked { message, order: self.sent, received: false });
            self.deliver(Incoming::Publish { message, packet_id, dup: false }, queue, rng);
        }
    }

    fn deliver(&mut self, incoming: Incoming, queue: &mut Queue, rng: &mut Rng) {
        self.down_us = self.down_us.max(queue.now_us() + self.delay(rng));
        queue.at(self.down_us, Happening::Arrive { epoch: self.epoch, incoming });
    }

    fn delay(&self, rng: &mut Rng) -> u64 {
        self.latency_us / 2 + rng.below(self.latency_us + 1)
    }
}
