//! The source link: subscribes at the local broker, hands messages to the gateway's loop, acknowledges what it committed.
//!
//! - The link never acknowledges by itself; PUBCOMP is its only own answer, at once and whatever it knows of the id.
//! - It never waits for the consumer: when the inbox is full, or 3.1.1 has delivered `in_flight` unacknowledged messages, it
//!   stops reading (TCP holds the broker back) and goes on pinging. In 5.0 Receive Maximum does this without stopping.
//! - It ends only when told to. Every fault is a [`LinkError`], a pause with jitter, and another attempt.

use core::time::Duration;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Incoming;
use super::connect::{Memory, Role, Session, connect};
use super::error::{LinkError, reason_name};
use super::inbox::{Acked, Acks, Inbox, InboxBounds};
use super::packet::{self, Ack, AckKind, Asked, Packet, Publish, Unfit, Version};
use super::retry::Retry;
use super::status::{SharedStatus, Status};
use super::subscriptions::Grant;
use super::wire::{Wire, Written};
use crate::config::{MqttConnection, Qos, RetainedPolicy, Subscription};
use crate::units::Bytes;

/// Acks are confirmed by a ping at once, but pings for that are so far apart. The sooner, the fewer messages can be taken for
/// one whose packet id and bytes they have.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(20);
/// Filters in one SUBSCRIBE or UNSUBSCRIBE (some brokers take no more).
const FILTERS_MAX: usize = 8;
/// The broker answers subscriptions within this time, or the session is not worth keeping.
const SUBACK_PATIENCE: Duration = Duration::from_secs(60);
/// Refused subscriptions are tried again: access rules change without a reconnection.
const REFUSED_RETRY: Duration = Duration::from_secs(300);
/// Packets handed over under one lock.
const STAGED_MAX: usize = 64;
/// Room for QoS 0 beyond what QoS 1 and 2 can need.
const QOS0_ROOM: usize = 1024;

/// What the link is to do.
#[derive(Clone, Debug)]
pub struct Source {
    /// The local broker.
    pub connection: MqttConnection,
    /// What to subscribe: no two overlap (`Config::subscriptions`).
    pub subscriptions: Vec<Subscription>,
    /// Filters that a kept session may hold and must not.
    pub unsubscribed: Vec<String>,
    /// Subscribed filters of which retained messages are wanted again, because a trigger is new.
    pub fresh: Vec<String>,
    /// Bytes of messages that wait for the loop (`inbox_max` of the configuration).
    pub inbox_max: Bytes,
    /// For the jitter of reconnections; should differ between gateways and runs.
    pub seed: u64,
}

/// The gateway's end of a running link.
#[derive(Debug)]
pub struct Link {
    /// What came in.
    pub inbox: Inbox,
    /// What may be acknowledged.
    pub acks: Acks,
    status: Arc<SharedStatus>,
    open: Arc<Notify>,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Link {
    /// Lets the link connect; until then it waits. What it will subscribe must be on record by then.
    pub fn open(&self) {
        self.open.notify_one();
    }

    /// A copy of the link's status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.get()
    }

    /// The status, for a reader elsewhere.
    #[must_use]
    pub fn shared_status(&self) -> Arc<SharedStatus> {
        self.status.clone()
    }

    /// Sends pending acks and a DISCONNECT, and waits for the end (two seconds at most). The broker keeps the session.
    pub async fn close(self) {
        self.stop.notify_one();
        if tokio::time::timeout(Duration::from_secs(2), self.task).await.is_err() {
            log::warn!("the broker link did not end in time");
        }
    }
}

/// Starts the link on the current runtime; it connects when it is [opened](Link::open). A broker that is away is not an error.
#[must_use]
pub fn spawn(source: Source) -> Link {
    let in_flight = usize::from(source.connection.in_flight.max(1));
    // Twice: what a lost connection left in the inbox is delivered again by the next one.
    let kept = 2 * in_flight + STAGED_MAX;
    let inbox = Inbox::new(InboxBounds {
        count_max: kept + QOS0_ROOM,
        count_kept: kept,
        bytes_max: source.inbox_max.as_usize(),
    });
    let acks = Acks::default();
    let status = Arc::new(SharedStatus::default());
    let (open, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let runner = Runner {
        retry: Retry::new("broker", source.seed),
        memory: Memory::default(),
        epoch: 0,
        received: Box::default(),
        source,
        inbox: inbox.clone(),
        acks: acks.clone(),
        status: status.clone(),
        open: open.clone(),
        stop: stop.clone(),
    };
    Link { inbox, acks, status, open, stop, task: tokio::spawn(runner.run()) }
}

struct Runner {
    source: Source,
    retry: Retry,
    memory: Memory,
    epoch: u64,
    received: Box<Received>,
    inbox: Inbox,
    acks: Acks,
    status: Arc<SharedStatus>,
    open: Arc<Notify>,
    stop: Arc<Notify>,
}

/// QoS 2 packet ids that got their PUBREC and not yet their PUBREL: a bit each.
struct Received([u64; 1024]);

impl Default for Received {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl Received {
    const fn insert(&mut self, id: u16) {
        self.0[id as usize / 64] |= 1 << (id % 64);
    }

    const fn remove(&mut self, id: u16) -> bool {
        let (word, bit) = (&mut self.0[id as usize / 64], 1 << (id % 64));
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }
}

/// Why a session's loop came back without an error.
struct Stopped;

impl Runner {
    async fn run(mut self) {
        tokio::select! {
            biased;
            () = self.stop.notified() => return,
            () = self.open.notified() => {}
        }
        loop {
            let stop = self.stop.clone();
            let (error, held) = tokio::select! {
                biased;
                () = stop.notified() => return,
                outcome = connect(&self.source.connection, Role::Source, &mut self.memory) => match outcome {
                    Err(error) => (error, None),
                    Ok(session) => {
                        let begun = Instant::now();
                        match self.serve(session).await {
                            Ok(Stopped) => return,
                            Err(error) => (error, Some(begun.elapsed())),
                        }
                    }
                },
            };
            let (pause, reason) = self.retry.failed(error, held, &self.source.connection, &self.status);
            if held.is_some() {
                self.inbox.put(&mut vec![Incoming::Disconnected { epoch: self.epoch, reason }]);
            }
            tokio::select! {
                biased;
                () = self.stop.notified() => return,
                () = self.retry.wait(pause) => {}
            }
        }
    }

    async fn serve(&mut self, session: Session) -> Result<Stopped, LinkError> {
        let MqttConnection { host, port, keep_alive, packet_max, .. } = &self.source.connection;
        let (version, session_present) = (session.version, session.connack.session_present);
        let keep_alive = Duration::from_millis(keep_alive.0);
        let wire = Wire::new(session, packet_max.as_usize(), keep_alive, self.status.clone());
        self.epoch += 1;
        self.acks.begin(self.epoch);
        self.status.update(|status| {
            status.connected = true;
            status.version = Some(version);
            status.epoch = self.epoch;
            status.refused.clear();
        });
        let kept = if session_present { "kept our session" } else { "has no session of ours" };
        log::info!("broker: connected to {host}:{port}, {version}; it {kept}");
        if self.epoch > 1 && !session_present {
            log::warn!("broker: it forgot our session: messages published while we were away are lost");
        }
        if !session_present {
            *self.received = Received::default();
        }
        let mut serving = Serving {
            session_present,
            epoch: self.epoch,
            unacked: 0,
            unacked_max: match version {
                Version::V311 => u32::from(self.source.connection.in_flight.max(1)),
                Version::V5 => u32::MAX,
            },
            staged: vec![Incoming::Connected { epoch: self.epoch, version, session_present }],
            pinged_at: None,
            confirmed: Written::default(),
            subscribing: Subscribing::default(),
            received: &mut self.received,
            fresh: &mut self.source.fresh,
            status: self.status.clone(),
            wire,
        };
        if session_present {
            // Before the new ones, or a message of both would come twice.
            serving.subscribing.end(&self.source.unsubscribed, &mut serving.wire);
        }
        let asked = asked(&self.source.subscriptions, serving.fresh);
        serving.subscribing.begin(asked, &mut serving.wire);
        let outcome = serving.run(&self.inbox, &self.acks, &self.stop).await;
        let reason = match &outcome {
            Ok(Stopped) => Some(0),
            Err(LinkError::Malformed(_)) => Some(0x81),
            Err(LinkError::Stalled(_)) => Some(0x83),
            Err(_) => None,
        };
        if let Some(reason) = reason {
            serving.wire.close(reason).await;
        }
        outcome
    }
}

/// The lines of the SUBSCRIBE. A trigger that is new has not had the retained messages of a subscription that is not.
fn asked(subscriptions: &[Subscription], fresh: &[String]) -> Vec<Asked> {
    let line = |one: &Subscription| {
        let filter = one.filter.to_string();
        let retained = match one.retained {
            RetainedPolicy::SkipOnResubscribe if fresh.contains(&filter) => RetainedPolicy::Always,
            policy => policy,
        };
        Asked { filter, qos: one.qos, retained }
    };
    subscriptions.iter().map(line).collect()
}

/// One session, from CONNACK to its end.
struct Serving<'a> {
    wire: Wire,
    epoch: u64,
    session_present: bool,
    unacked: u32,
    unacked_max: u32,
    staged: Vec<Incoming>,
    pinged_at: Option<Instant>,
    confirmed: Written,
    subscribing: Subscribing,
    received: &'a mut Received,
    status: Arc<SharedStatus>,
    fresh: &'a mut Vec<String>,
}

impl Serving<'_> {
    async fn run(&mut self, inbox: &Inbox, acks: &Acks, stop: &Notify) -> Result<Stopped, LinkError> {
        let mut acked = Vec::new();
        loop {
            let reading = self.take_in(inbox)?;
            acks.take(&mut acked);
            self.acknowledge(&mut acked);
            let wake_at = self.on_time()?;
            if inbox.load().0 >= STAGED_MAX {
                // The loop shares our thread: without a pause it would find a full inbox, and QoS 0 dropped.
                tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                () = stop.notified() => {
                    acks.take(&mut acked);
                    self.acknowledge(&mut acked);
                    return Ok(Stopped);
                }
                () = acks.filled() => {}
                () = inbox.emptied(), if !reading => {}
                result = self.wire.turn(reading, wake_at) => result?,
            }
        }
    }

    /// Handles what was read, as far as there is room; whether to read on.
    fn take_in(&mut self, inbox: &Inbox) -> Result<bool, LinkError> {
        loop {
            inbox.put(&mut self.staged);
            while self.staged.len() < STAGED_MAX {
                if self.unacked >= self.unacked_max || !self.wire.has_room() {
                    inbox.put(&mut self.staged);
                    return Ok(false);
                }
                let Some(packet) = self.wire.take()? else {
                    inbox.put(&mut self.staged);
                    return Ok(inbox.has_room());
                };
                self.on_packet(packet)?;
            }
            if !inbox.has_room() {
                inbox.put(&mut self.staged);
                return Ok(false);
            }
        }
    }

    fn on_packet(&mut self, packet: Packet) -> Result<(), LinkError> {
        let epoch = self.epoch;
        match packet {
            Packet::Publish(Publish { topic, payload, packet_id, qos, dup, retain }) => {
                self.unacked += u32::from(qos != Qos::AtMostOnce);
                let resubscribed = retain && self.session_present;
                self.staged.push(Incoming::Publish {
                    epoch,
                    topic,
                    payload,
                    packet_id,
                    qos,
                    dup,
                    retain,
                    resubscribed,
                });
            }
            Packet::Unfit(unfit) => {
                self.unacked += u32::from(unfit.qos != Qos::AtMostOnce);
                let Unfit { size, why, .. } = unfit;
                log::debug!("broker: a publish of {size} bytes is unfit: {why:?}");
                self.staged.push(Incoming::Unfit { epoch, unfit });
            }
            Packet::Ack(Ack { kind: AckKind::PubRel, packet_id, .. }) => {
                // 0x92, packet identifier not found: no error after a restart, and the broker can forget the id.
                let reason = if self.received.remove(packet_id) { 0 } else { 0x92 };
                self.wire.complete(Ack { kind: AckKind::PubComp, packet_id, reason });
                self.staged.push(Incoming::Released { packet_id });
            }
            Packet::Ack(_) => log::debug!("broker: an acknowledgement of a publish that was not ours"),
            Packet::SubAck { packet_id, codes } => {
                if let Some(grants) = self.subscribing.on_suback(packet_id, &codes) {
                    self.fresh.retain(|filter| !grants.iter().any(|one| one.filter == *filter && one.granted.is_ok()));
                    self.status.update(|status| {
                        status.refused.retain(|filter| grants.iter().all(|one| one.filter != *filter));
                        let refused = grants.iter().filter(|one| one.granted.is_err());
                        status.refused.extend(refused.map(|one| one.filter.clone()));
                    });
                    self.staged.push(Incoming::Granted { epoch, grants });
                }
            }
            Packet::UnsubAck { packet_id, codes } => self.subscribing.on_unsuback(packet_id, &codes),
            Packet::PingResp => {
                if let Some(read) = self.wire.pong().filter(|read| *read != self.confirmed) {
                    self.confirmed = read;
                    let Written { acks: acks_through, completions: completed_through } = read;
                    self.staged.push(Incoming::Confirmed { epoch, acks_through, completed_through });
                }
            }
            Packet::Disconnect { reason: 0x8e, .. } => return Err(LinkError::TakenOver),
            Packet::Disconnect { reason, text } => return Err(LinkError::Disconnected { reason, text }),
            Packet::ConnAck(_) => return Err(packet::Malformed("a second CONNACK").into()),
        }
        Ok(())
    }

    fn acknowledge(&mut self, acked: &mut Vec<Acked>) {
        for Acked { packet_id, qos } in acked.drain(..) {
            let kind = match qos {
                Qos::AtMostOnce => continue,
                Qos::AtLeastOnce => AckKind::PubAck,
                Qos::ExactlyOnce => {
                    self.received.insert(packet_id);
                    AckKind::PubRec
                }
            };
            self.wire.ack(Ack { kind, packet_id, reason: 0 });
            self.unacked = self.unacked.saturating_sub(1);
        }
    }

    /// Does what is due; returns when something is due next, always a time to come.
    fn on_time(&mut self) -> Result<Option<Instant>, LinkError> {
        self.subscribing.on_time(&mut self.wire)?;
        let confirm_at = self.confirm();
        Ok(confirm_at.into_iter().chain(self.subscribing.due()).min())
    }

    /// Has unconfirmed acks confirmed by a ping; any ping that is on its way is waited for first.
    fn confirm(&mut self) -> Option<Instant> {
        if self.wire.written() == self.confirmed || self.wire.is_pinging() {
            return None;
        }
        let now = Instant::now();
        let due = self.pinged_at.map_or(now, |at| at + CONFIRM_INTERVAL);
        if now < due {
            return Some(due);
        }
        self.pinged_at = Some(now);
        self.wire.ping();
        None
    }
}

/// The subscriptions of one session until the broker has answered them all.
#[derive(Default)]
struct Subscribing {
    waiting: Vec<(u16, Vec<Asked>)>,
    ending: Vec<(u16, Vec<String>)>,
    grants: Vec<Grant>,
    refused: Vec<Asked>,
    due: Option<Instant>,
    last_id: u16,
    /// Grants of the first round were told.
    was_told: bool,
}

impl Subscribing {
    fn begin(&mut self, mut asked: Vec<Asked>, wire: &mut Wire) {
        if asked.is_empty() {
            return;
        }
        self.due = Some(Instant::now() + SUBACK_PATIENCE);
        while !asked.is_empty() {
            let rest = asked.split_off(asked.len().min(FILTERS_MAX));
            let (version, id) = (wire.version(), self.next_id());
            packet::subscribe(version, id, &asked, wire.output());
            self.waiting.push((id, core::mem::replace(&mut asked, rest)));
        }
    }

    /// Ends subscriptions that the session may hold.
    fn end(&mut self, filters: &[String], wire: &mut Wire) {
        for filters in filters.chunks(FILTERS_MAX) {
            self.due = Some(Instant::now() + SUBACK_PATIENCE);
            let (version, id) = (wire.version(), self.next_id());
            packet::unsubscribe(version, id, filters, wire.output());
            self.ending.push((id, filters.to_vec()));
        }
    }

    const fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 0x7fff + 1;
        self.last_id
    }

    fn on_unsuback(&mut self, packet_id: u16, codes: &[u8]) {
        let Some(index) = self.ending.iter().position(|(id, _)| *id == packet_id) else { return };
        let (_, filters) = self.ending.swap_remove(index);
        // 3.1.1 says no more than that they are over.
        for (filter, code) in filters.iter().zip(codes.iter().copied().chain(core::iter::repeat(0x11))) {
            match code {
                0 => log::info!("broker: `{filter}` of an earlier configuration is subscribed no more"),
                1..0x80 => log::debug!("broker: `{filter}` is not subscribed"),
                refused => log::error!(
                    "broker: it refuses to end the subscription `{filter}` of an earlier configuration: {} (0x{refused:02x}); \
                     messages may come twice; check its access rules, or take a new client-id",
                    reason_name(refused)
                ),
            }
        }
        self.settled();
    }

    /// What is due when everything is answered.
    fn settled(&mut self) {
        if self.waiting.is_empty() && self.ending.is_empty() {
            self.due = (!self.refused.is_empty()).then(|| Instant::now() + REFUSED_RETRY);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    /// All grants of the round, once the last answer is in.
    fn on_suback(&mut self, packet_id: u16, codes: &[u8]) -> Option<Vec<Grant>> {
        let index = self.waiting.iter().position(|(id, _)| *id == packet_id)?;
        let (_, asked) = self.waiting.swap_remove(index);
        for (line, index) in asked.into_iter().zip(0..) {
            let grant = Grant::new(&line, codes.get(index).copied().unwrap_or(0x80));
            if grant.granted.is_err() {
                self.refused.push(line);
            }
            self.grants.push(grant);
        }
        if !self.waiting.is_empty() {
            return None;
        }
        self.settled();
        for grant in &self.grants {
            match grant.granted {
                Err(_) if self.was_told => log::debug!("broker: {grant}"),
                Err(_) => log::error!("broker: {grant}"),
                Ok(_) if grant.falls_short() => log::warn!("broker: {grant}"),
                Ok(_) => log::debug!("broker: {grant}"),
            }
        }
        self.was_told = true;
        Some(core::mem::take(&mut self.grants))
    }

    fn on_time(&mut self, wire: &mut Wire) -> Result<(), LinkError> {
        match self.due {
            Some(due) if due <= Instant::now() => {
                if !self.waiting.is_empty() || !self.ending.is_empty() {
                    return Err(LinkError::Stalled("does not answer SUBSCRIBE or UNSUBSCRIBE"));
                }
                let refused = core::mem::take(&mut self.refused);
                self.due = None;
                self.begin(refused, wire);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
