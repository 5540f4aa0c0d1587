//! The gateway's end of the connection to the broker, as the shell's link is: reads in order, acknowledges what it is told to,
//! pings to have acknowledgements confirmed, connects again.
//!
//! - It never waits for the gateway: what finds no room stays in the socket; QoS 0 that finds none is dropped and counted.
//! - In 3.1.1, which knows no Receive Maximum, it stops reading when so many messages are unacknowledged.

use std::collections::VecDeque;

use weir::config::Qos;

use super::ledger::Ledger;
use super::queue::{Happening, Incoming, Outgoing, Queue};
use super::wire::Wire;

/// QoS 0 messages find no room behind so many.
const QOS0_ROOM: usize = 64;

/// What waits for the gateway's loop.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// A connection was made.
    Connected { epoch: u64, session_present: bool },
    /// A message.
    Publish { epoch: u64, instance: usize, packet_id: u16, dup: bool, resubscribed: bool },
    /// The subscription is granted.
    Granted,
    /// The broker will not send this QoS 2 message again.
    Released { packet_id: u16 },
    /// The broker has so many acknowledgements of the connection.
    Confirmed { epoch: u64, acks: u64, completions: u64 },
    /// QoS 0 messages that found no room.
    Dropped { count: u64 },
}

/// The link of one process.
#[derive(Debug)]
pub struct Link {
    is_v5: bool,
    /// A trigger has not had the retained messages of its subscription.
    is_fresh: bool,
    in_flight: u32,
    confirm_after_us: u64,
    /// The connection, and whether it stands.
    conn: Option<(u64, bool)>,
    epoch: u64,
    /// The session was there before this connection.
    session_present: bool,
    socket: VecDeque<Incoming>,
    unacked: u32,
    /// Acknowledgements, and answers to PUBREL.
    written: (u64, u64),
    confirmed: (u64, u64),
    /// What was written before the ping that is on its way.
    pinging: Option<(u64, u64)>,
    confirm_planned: bool,
    dropped: u64,
    /// What waits for the gateway.
    pub inbox: VecDeque<Item>,
}

impl Link {
    /// Not connected.
    #[must_use]
    pub const fn new(is_v5: bool, is_fresh: bool, in_flight: u16, confirm_after_us: u64) -> Self {
        Self {
            is_v5,
            is_fresh,
            in_flight: in_flight as u32,
            confirm_after_us,
            conn: None,
            epoch: 0,
            session_present: false,
            socket: VecDeque::new(),
            unacked: 0,
            written: (0, 0),
            confirmed: (0, 0),
            pinging: None,
            confirm_planned: false,
            dropped: 0,
            inbox: VecDeque::new(),
        }
    }

    /// The connection, if the link has one or tries to.
    #[must_use]
    pub fn conn(&self) -> Option<u64> {
        self.conn.map(|(conn, _)| conn)
    }

    /// Whether a connection stands, as far as the link knows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.conn.is_some_and(|(_, stands)| stands)
    }

    /// Connects over a new connection.
    pub fn connect(&mut self, conn: u64, wire: &mut Wire) {
        self.conn = Some((conn, false));
        self.socket.clear();
        (self.unacked, self.written, self.confirmed, self.pinging) = (0, (0, 0), (0, 0), None);
        self.confirm_planned = false;
        wire.up(conn, Outgoing::Connect);
    }

    /// The connection is gone. What was read is read.
    pub fn disconnected(&mut self) {
        self.conn = None;
        self.socket.clear();
    }

    /// Something is in the socket.
    pub fn arrive(&mut self, packet: Incoming) {
        self.socket.push_back(packet);
    }

    /// Reads what there is room for.
    pub fn read(&mut self, ledger: &Ledger, wire: &mut Wire) {
        while self.may_read() {
            let Some(packet) = self.socket.pop_front() else { break };
            self.take(packet, ledger, wire);
        }
        // The loop is told when it next takes something; here, in its order.
        if 0 < self.dropped && self.inbox.len() < QOS0_ROOM {
            self.inbox.push_back(Item::Dropped { count: core::mem::take(&mut self.dropped) });
        }
    }

    fn may_read(&self) -> bool {
        let kept = 2 * self.in_flight as usize + 64;
        (self.is_v5 || self.unacked < self.in_flight) && self.inbox.len() < kept + QOS0_ROOM
    }

    fn take(&mut self, packet: Incoming, ledger: &Ledger, wire: &mut Wire) {
        let Some((conn, stands)) = &mut self.conn else { return };
        let (conn, epoch) = (*conn, self.epoch);
        match packet {
            Incoming::ConnAck { session_present } => {
                *stands = true;
                self.epoch += 1;
                self.session_present = session_present;
                self.inbox.push_back(Item::Connected { epoch: self.epoch, session_present });
                wire.up(conn, Outgoing::Subscribe { fresh: self.is_fresh });
            }
            Incoming::Publish { instance, packet_id, dup } => {
                if ledger.qos(instance) == Qos::AtMostOnce && QOS0_ROOM <= self.inbox.len() {
                    self.dropped += 1;
                    return;
                }
                self.unacked += u32::from(packet_id != 0);
                let resubscribed = ledger.is_retained(instance) && self.session_present;
                self.inbox.push_back(Item::Publish { epoch, instance, packet_id, dup, resubscribed });
            }
            Incoming::SubAck => {
                self.is_fresh = false;
                self.inbox.push_back(Item::Granted);
            }
            Incoming::PubRel { packet_id } => {
                wire.up(conn, Outgoing::PubComp { packet_id });
                self.written.1 += 1;
                self.inbox.push_back(Item::Released { packet_id });
            }
            Incoming::PingResp => {
                if let Some(read) = self.pinging.take().filter(|read| self.confirmed != *read) {
                    self.confirmed = read;
                    self.inbox.push_back(Item::Confirmed { epoch, acks: read.0, completions: read.1 });
                }
            }
        }
    }

    /// Acknowledges messages of connection `epoch`.
    pub fn acknowledge(&mut self, epoch: u64, packet_ids: impl Iterator<Item = u16>, wire: &mut Wire) {
        let Some((conn, true)) = self.conn.filter(|_| epoch == self.epoch) else { return };
        for packet_id in packet_ids {
            wire.up(conn, Outgoing::Ack { packet_id });
            self.written.0 += 1;
            self.unacked = self.unacked.saturating_sub(1);
        }
    }

    /// Plans a look at what is unconfirmed, if there is something.
    pub fn plan_confirm(&mut self, queue: &mut Queue) {
        if let Some((conn, true)) = self.conn
            && self.confirmed != self.written
            && !self.confirm_planned
        {
            self.confirm_planned = true;
            queue.after(self.confirm_after_us, Happening::Confirm { conn });
        }
    }

    /// Pings, if there is something to be confirmed and no ping on its way.
    pub fn confirm(&mut self, conn: u64, wire: &mut Wire) {
        if self.conn == Some((conn, true)) {
            self.confirm_planned = false;
            if self.pinging.is_none() && self.confirmed != self.written {
                self.pinging = Some(self.written);
                wire.up(conn, Outgoing::Ping);
            }
        }
    }
}
