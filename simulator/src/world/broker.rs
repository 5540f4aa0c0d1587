//! The modelled broker: sessions of one client, the gateway, as MQTT has them.
//!
//! - A QoS 1 or 2 message stays in the session until it is acknowledged; so many are on their way as our Receive Maximum and the
//!   broker's own limit allow. A connection that resumes the session gets them again, in order and before anything new, all at
//!   once or a few at a time, with their packet identifiers and DUP set (MQTT 5.0 §4.4); a QoS 2 message whose PUBREC has
//!   come gets its PUBREL again.
//! - Packet identifiers are the lowest free ones, or go round. Either way an identifier is not given to a twin (same topic, same
//!   payload) of the message that had it last: MQTT gives those two no identity that a receiver could tell them by.
//! - Only what is in a session is owed to the gateway. A session that is lost, or taken over by a stranger, owes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use weir::config::{Qos, RetainedPolicy};
use weir::marks::Marks;

use super::checks::Broken;
use super::ledger::Ledger;
use super::queue::{Incoming, Outgoing};
use super::site::Subscription;
use super::wire::Wire;
use crate::fleet::Message;

/// How a broker is made.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// MQTT 5; else 3.1.1, which knows no Receive Maximum and no retain handling.
    pub is_v5: bool,
    /// Packet identifiers go round; else the lowest free one is taken.
    pub ids_go_round: bool,
    /// Unacknowledged messages at once, by the broker's own limit.
    pub in_flight_max: u16,
    /// Messages of an earlier connection that are on their way again at once; the others follow as they are acknowledged.
    pub again_max: u16,
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    style: Style,
    asked: Subscription,
    /// Receive Maximum that the gateway announces.
    receive_max: u16,
    session: Option<Session>,
    /// The connection that the broker believes in.
    conn: Option<u64>,
    retained: BTreeMap<Arc<str>, Arc<Message>>,
    /// Connections made.
    pub connections: u64,
    /// It is not there until then.
    pub down_until_us: u64,
    /// Sessions that were lost or taken over.
    pub sessions_lost: u64,
}

#[derive(Debug, Default)]
struct Session {
    is_subscribed: bool,
    waiting: VecDeque<usize>,
    /// By packet identifier.
    unacked: BTreeMap<u16, Unacked>,
    /// Those of an earlier connection that have to be sent again, in order.
    again: VecDeque<u16>,
    /// Hash of the message that had the identifier last.
    holders: BTreeMap<u16, u32>,
    last_id: u16,
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Unacked {
    instance: usize,
    order: u64,
    is_received: bool,
    /// Sent over the present connection.
    is_sent: bool,
}

impl Broker {
    /// A broker without a session.
    #[must_use]
    pub const fn new(style: Style, asked: Subscription, receive_max: u16) -> Self {
        Self {
            style,
            asked,
            receive_max,
            session: None,
            conn: None,
            retained: BTreeMap::new(),
            connections: 0,
            down_until_us: 0,
            sessions_lost: 0,
        }
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.is_subscribed && session.waiting.is_empty() && session.unacked.is_empty())
    }

    /// A device publishes.
    pub fn publish(&mut self, message: Message, ledger: &mut Ledger, wire: &mut Wire) {
        let message = Arc::new(message);
        if message.retain {
            self.retained.insert(Arc::clone(&message.topic), Arc::clone(&message));
        }
        if self.session.as_ref().is_some_and(|session| session.is_subscribed) {
            self.route(message, false, ledger, wire);
        }
    }

    fn route(&mut self, message: Arc<Message>, retained: bool, ledger: &mut Ledger, wire: &mut Wire) {
        let qos = message.qos.min(self.asked.qos);
        let Some(session) = &mut self.session else { return };
        if qos != Qos::AtMostOnce {
            session.waiting.push_back(ledger.owe(message, qos, retained));
            self.send(ledger, wire);
        } else if let Some(conn) = self.conn {
            let instance = ledger.offer(message, qos, retained);
            wire.down(conn, Incoming::Publish { instance, packet_id: 0, dup: false });
        }
    }

    /// Something came from the gateway.
    pub fn take(&mut self, conn: u64, packet: Outgoing, ledger: &mut Ledger, wire: &mut Wire) -> Result<(), Broken> {
        if packet == Outgoing::Connect {
            self.connect(conn, ledger, wire);
            return Ok(());
        }
        if self.conn != Some(conn) {
            return Ok(());
        }
        match packet {
            Outgoing::Connect => {}
            Outgoing::Subscribe { fresh } => self.subscribe(conn, fresh, ledger, wire),
            Outgoing::Ack { packet_id } => self.acknowledged(packet_id, ledger, wire)?,
            Outgoing::PubComp { packet_id } => self.release(packet_id, ledger, wire),
            Outgoing::Ping => wire.down(conn, Incoming::PingResp),
        }
        Ok(())
    }

    /// A connection with our identifier: whatever stood before is closed.
    fn connect(&mut self, conn: u64, ledger: &mut Ledger, wire: &mut Wire) {
        self.conn = Some(conn);
        self.connections += 1;
        let session_present = self.session.is_some();
        wire.down(conn, Incoming::ConnAck { session_present });
        let session = self.session.get_or_insert_default();
        session.unacked.values_mut().for_each(|unacked| unacked.is_sent = false);
        let mut again: Vec<(u64, u16)> = session.unacked.iter().map(|(id, unacked)| (unacked.order, *id)).collect();
        again.sort_unstable();
        session.again = again.into_iter().map(|(_, packet_id)| packet_id).collect();
        self.send(ledger, wire);
    }

    fn subscribe(&mut self, conn: u64, fresh: bool, ledger: &mut Ledger, wire: &mut Wire) {
        let Some(session) = &mut self.session else { return };
        wire.down(conn, Incoming::SubAck);
        let is_new = !core::mem::replace(&mut session.is_subscribed, true);
        // MQTT 5.0 §3.8.3.1, retain handling; 3.1.1 sends them always.
        let sends = match (self.style.is_v5, self.asked.retained) {
            (false, _) | (true, RetainedPolicy::Always) => true,
            (true, RetainedPolicy::SkipOnResubscribe) => is_new || fresh,
            (true, RetainedPolicy::Never) => false,
        };
        if sends {
            let retained: Vec<Arc<Message>> = self.retained.values().cloned().collect();
            retained.into_iter().for_each(|message| self.route(message, true, ledger, wire));
        }
    }

    fn acknowledged(&mut self, packet_id: u16, ledger: &mut Ledger, wire: &mut Wire) -> Result<(), Broken> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(unacked) = session.unacked.get_mut(&packet_id) else {
            return Err(Broken::new(format!("an acknowledgement of {packet_id}, which nobody sent")));
        };
        ledger.check_acknowledged(unacked.instance)?;
        if ledger.qos(unacked.instance) == Qos::ExactlyOnce {
            unacked.is_received = true;
            if let Some(conn) = self.conn {
                wire.down(conn, Incoming::PubRel { packet_id });
            }
        } else {
            session.unacked.remove(&packet_id);
            self.send(ledger, wire);
        }
        Ok(())
    }

    fn release(&mut self, packet_id: u16, ledger: &mut Ledger, wire: &mut Wire) {
        let Some(session) = &mut self.session else { return };
        if session.unacked.get(&packet_id).is_some_and(|unacked| unacked.is_received) {
            session.unacked.remove(&packet_id);
            self.send(ledger, wire);
        }
    }

    /// Sends what may be on its way.
    fn send(&mut self, ledger: &mut Ledger, wire: &mut Wire) {
        let own = self.style.in_flight_max;
        let window = if self.style.is_v5 { own.min(self.receive_max) } else { own };
        let (Some(conn), Some(session)) = (self.conn, &mut self.session) else { return };
        while let Some(packet_id) = session.again.front().copied() {
            let on_the_way = session.unacked.values().filter(|unacked| unacked.is_sent).count();
            if usize::from(self.style.again_max) <= on_the_way {
                return;
            }
            session.again.pop_front();
            let Some(unacked) = session.unacked.get_mut(&packet_id) else { continue };
            unacked.is_sent = true;
            let Unacked { instance, is_received, .. } = *unacked;
            let packet = match is_received {
                true => Incoming::PubRel { packet_id },
                false => Incoming::Publish { instance, packet_id, dup: true },
            };
            wire.down(conn, packet);
        }
        while session.unacked.len() < usize::from(window) {
            let Some(instance) = session.waiting.pop_front() else { return };
            let message = ledger.message(instance);
            let hash = Marks::hash(message.topic.as_bytes(), &message.payload);
            let packet_id = session.free_id(self.style.ids_go_round, hash);
            session.sent += 1;
            let order = session.sent;
            session.unacked.insert(packet_id, Unacked { instance, order, is_received: false, is_sent: true });
            session.holders.insert(packet_id, hash);
            wire.down(conn, Incoming::Publish { instance, packet_id, dup: false });
        }
    }

    /// The broker knows that the connection is gone.
    pub const fn disconnected(&mut self) {
        self.conn = None;
    }

    /// It goes away, and forgets everything or nothing.
    pub fn go_down(&mut self, forgets: bool, ledger: &mut Ledger) {
        self.conn = None;
        if forgets {
            if let Some(session) = self.session.take() {
                self.sessions_lost += 1;
                session.instances().for_each(|instance| ledger.forgive(instance));
            }
            self.retained.clear();
        }
    }

    /// A stranger with our identifier takes the session and acknowledges the next messages.
    pub fn take_over(&mut self, takes: u64, ledger: &mut Ledger) {
        self.conn = None;
        let Some(session) = &mut self.session else { return };
        self.sessions_lost += u64::from(0 < takes);
        for _ in 0..takes {
            let next = session.unacked.iter().min_by_key(|(_, unacked)| unacked.order).map(|(id, _)| *id);
            let taken = match next {
                Some(packet_id) => session.unacked.remove(&packet_id).map(|unacked| unacked.instance),
                None => session.waiting.pop_front(),
            };
            let Some(instance) = taken else { return };
            ledger.forgive(instance);
        }
    }
}

impl Session {
    fn instances(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().copied().chain(self.unacked.values().map(|unacked| unacked.instance))
    }

    fn free_id(&mut self, goes_round: bool, hash: u32) -> u16 {
        let first = if goes_round { self.last_id } else { 0 };
        let ids = (1..=u16::MAX).map(|step| (u32::from(first) + u32::from(step) - 1) % u32::from(u16::MAX) + 1);
        let free = ids
            .map(|id| id as u16)
            .find(|id| !self.unacked.contains_key(id) && self.holders.get(id).is_none_or(|holder| *holder != hash));
        self.last_id = free.expect("fewer are on their way than there are identifiers");
        self.last_id
    }
}
