//! The loop: takes what happened, asks the gateway, commits, acknowledges, wakes the sinks. The one owner of everything.
//!
//! - Order of a batch: commit → acknowledge → release and wake. Nothing overtakes it.
//! - The loop never waits for flash: one batch is being committed while the next one fills.
//! - A failed commit ends the loop with [`RunError`]: nothing of the batch was acknowledged, broker and journal hold the truth.
//! - A full disk is no failure: the batch waits and is tried again, and no further message is taken meanwhile; what sinks deliver
//!   makes room.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::clock::{self, Clock};
use super::control::{Order, Request};
use super::logging;
use super::metrics::{self, Scrape, ShellNumbers};
use super::mqtt::{Acked, Incoming, Link};
use super::notify::Notify;
use super::orders::{self, Came, Orders};
use super::pulse::Pulse;
use super::sink::{LaneEnds, Records as _, Sink, SinkEvent};
use super::store::{CommitAnswer, StoreHandle};
use crate::backoff::Complaint;
use crate::books::DropReason;
use crate::config::{CommitPolicy, DEAD_LETTER, FullPolicy, LaneConfig, Qos};
use crate::cycle::{Answer, Cycle, Due, Kind, Submission};
use crate::effect::{Effects, READ_BYTES, Read};
use crate::event::{Event, Message, Poison};
use crate::gateway::Gateway;
use crate::health::{FunctionSign, LaneSign, Signs, SinkSign};
use crate::outbox::{Fetched, Lane};
use crate::time::Now;

/// Entries taken from the inbox at once.
const TURN_MAX: usize = 256;
/// The loop turns at least this often, so that the watch sees it live.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// What the loop sees around it is told to the watch this often.
const SIGNS_EVERY_US: u64 = 500_000;
/// A disk that was not full for so long has room.
const FULL_OVER_US: u64 = 10_000_000;
/// The last batch of an orderly end has this long to reach the flash.
const LAST_COMMIT_PATIENCE: Duration = Duration::from_secs(30);

/// The store failed: nothing of the last batch was acknowledged; a restart finds the truth.
#[derive(Debug)]
pub struct RunError(String);

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the commit failed: {}; nothing of it was acknowledged", self.0)
    }
}

impl std::error::Error for RunError {}

/// What the loop is made of.
pub struct Parts {
    /// The middle.
    pub gateway: Gateway,
    /// What its start left to be carried out.
    pub effects: Effects,
    /// The clock.
    pub clock: Clock,
    /// The link to the broker.
    pub link: Link,
    /// The store's thread.
    pub store: StoreHandle,
    /// Its answers.
    pub answers: mpsc::Receiver<CommitAnswer>,
    /// Names and tasks of the sinks.
    pub sinks: Vec<(String, Sink)>,
    /// What the sinks report.
    pub settled: mpsc::Receiver<SinkEvent>,
    /// Where the loop's own reads report.
    pub events: mpsc::Sender<SinkEvent>,
    /// What the sinks are told.
    pub ends: Arc<LaneEnds>,
    /// Requests for the metrics page.
    pub scrapes: mpsc::Receiver<Scrape>,
    /// Orders from the control socket.
    pub orders: Orders,
    /// What the watch sees of the loop.
    pub pulse: Arc<Pulse>,
    /// The supervisor.
    pub supervisor: Arc<Notify>,
    /// When to commit.
    pub policy: CommitPolicy,
    /// The Receive Maximum that the link announces.
    pub receive_max: u16,
    /// What the plan grants, bytes.
    pub rss_planned: u64,
    /// What the start found on flash, for the metrics page.
    pub found: Vec<(&'static str, u64)>,
    /// How long opening the store took, microseconds.
    pub open_us: u64,
}

/// The loop.
pub struct Loop {
    parts: Parts,
    cycle: Cycle,
    /// Taken from the inbox, not handled yet.
    incoming: Vec<Incoming>,
    next: usize,
    /// The disk is full.
    full: Complaint<()>,
    /// It was full then.
    full_us: u64,
    /// When the watch was last told of the surroundings.
    told_us: Option<u64>,
}

enum Turn {
    Incoming,
    Committed(Option<CommitAnswer>),
    Settled(SinkEvent),
    Scrape(Scrape),
    Came(Came),
    Deadline,
    Stop,
}

impl Loop {
    /// Ready to run.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let cycle = Cycle::new(parts.policy, parts.receive_max, core::mem::take(&mut parts.effects));
        Self {
            parts,
            cycle,
            incoming: Vec::with_capacity(TURN_MAX),
            next: 0,
            full: Complaint::default(),
            full_us: 0,
            told_us: None,
        }
    }

    /// Runs until SIGTERM or SIGINT asks for an orderly end, or the store fails.
    pub async fn run(mut self) -> Result<(), RunError> {
        let mut stop = Stop::new();
        self.release(&[]);
        // What the start has left to do (windows that are over, aggregates of meters that have gone) waits for no message.
        self.tick();
        // What is about to be subscribed is recorded first: the link opens behind this commit.
        let submission = self.cycle.submit(self.parts.clock.now(), &mut self.parts.gateway);
        self.submit(submission);
        if !self.cycle.is_committing() {
            self.parts.link.open();
        }
        loop {
            let now = self.parts.clock.now();
            clock::know(self.parts.gateway.time(now).wall_ms);
            self.log();
            self.submit_if_due(now);
            self.beat(now);
            match self.turn(now, &mut stop).await {
                Turn::Incoming => self.handle_incoming(),
                Turn::Committed(answer) => self.committed(answer)?,
                Turn::Settled(event) => self.settled(event),
                Turn::Scrape(reply) => {
                    drop(reply.send(metrics::text(&self.parts.gateway.status(), &self.numbers(now))))
                }
                Turn::Came(came) => self.came(came),
                Turn::Deadline => self.tick(),
                Turn::Stop => return self.finish().await,
            }
        }
    }

    /// Waits for the next thing to happen. Flash first, then sinks, so that room is made before more comes in.
    async fn turn(&mut self, now: Now, stop: &mut Stop) -> Turn {
        if self.next < self.incoming.len() && self.may_take() {
            return Turn::Incoming;
        }
        let deadline = self.deadline(now);
        let takes_letters = self.may_take();
        let takes = self.may_take() && self.next == self.incoming.len();
        let Self { parts, incoming, .. } = self;
        tokio::select! {
            biased;
            answer = parts.answers.recv(), if self.cycle.is_committing() => Turn::Committed(answer),
            Some(event) = parts.settled.recv() => Turn::Settled(event),
            () = parts.link.inbox.take(TURN_MAX, incoming), if takes => Turn::Incoming,
            Some(scrape) = parts.scrapes.recv() => Turn::Scrape(scrape),
            came = parts.orders.next(takes_letters) => Turn::Came(came),
            () = sleep_until(deadline) => Turn::Deadline,
            () = stop.asked() => Turn::Stop,
        }
    }

    fn may_take(&self) -> bool {
        self.cycle.may_take(&self.parts.gateway)
    }

    fn deadline(&self, now: Now) -> Instant {
        const IDLE_US: u64 = 60_000_000;
        let due = self.parts.gateway.deadline(now).into_iter().chain(self.cycle.deadline()).min();
        let at = Instant::from_std(self.parts.clock.instant(due.unwrap_or(now.mono_us + IDLE_US)));
        at.min(Instant::now() + HEARTBEAT)
    }

    fn handle_incoming(&mut self) {
        while self.next < self.incoming.len() && self.may_take() {
            let now = self.parts.clock.now();
            let item = core::mem::replace(&mut self.incoming[self.next], Incoming::Dropped { count: 0 });
            self.next += 1;
            self.handle(now, &item);
            if self.cycle.is_due(now, &self.parts.gateway) {
                break;
            }
        }
        if self.next == self.incoming.len() {
            self.incoming.clear();
            self.next = 0;
        }
    }

    fn handle(&mut self, now: Now, item: &Incoming) {
        self.parts.pulse.handled();
        let gateway = &mut self.parts.gateway;
        match item {
            Incoming::Publish { epoch, topic, payload, packet_id, qos, dup, retain, resubscribed } => {
                let Ok(topic) = core::str::from_utf8(topic) else { return };
                let message = Message {
                    topic,
                    payload,
                    qos: *qos,
                    packet_id: *packet_id,
                    dup: *dup,
                    retained: *retain,
                    resubscribed: *resubscribed,
                    epoch: *epoch,
                };
                gateway.handle(now, Event::Message(message), self.cycle.open());
                self.cycle.message(now, *qos != Qos::AtMostOnce);
            }
            Incoming::Unfit { epoch, unfit } => {
                let poison = Poison {
                    topic: &unfit.topic,
                    payload: &unfit.payload,
                    size: unfit.size as u64,
                    payload_len: unfit.payload_len as u64,
                    reason: unfit.why.text(),
                    qos: unfit.qos,
                    packet_id: unfit.packet_id,
                    dup: unfit.dup,
                    epoch: *epoch,
                };
                gateway.handle(now, Event::Poison(poison), self.cycle.open());
                self.cycle.message(now, unfit.qos != Qos::AtMostOnce);
            }
            Incoming::Connected { epoch, session_present, .. } => {
                let event = Event::Connected { epoch: *epoch, session_present: *session_present };
                gateway.handle(now, event, self.cycle.open());
                self.cycle.connected(*epoch);
            }
            // The link has said these itself, in the words of its cause.
            Incoming::Disconnected { .. } => {}
            Incoming::Granted { grants, .. } => {
                let granted = grants.iter().filter(|grant| grant.granted.is_ok());
                let filters: Vec<String> = granted.map(|grant| grant.filter.clone()).collect();
                gateway.handle(now, Event::Granted { filters: &filters }, self.cycle.open());
                self.cycle.idle_work(now);
            }
            Incoming::Released { packet_id } => {
                gateway.handle(now, Event::Released { packet_id: *packet_id }, self.cycle.open());
            }
            Incoming::Confirmed { epoch, acks_through, completed_through } => {
                let (epoch, acks_through, completed_through) = (*epoch, *acks_through, *completed_through);
                let event = Event::Confirmed { epoch, acks_through, completed_through };
                gateway.handle(now, event, self.cycle.open());
            }
            Incoming::Dropped { count: 0 } => {}
            Incoming::Dropped { count } => gateway.handle(now, Event::Lost { count: *count }, self.cycle.open()),
        }
        // Losses, and what a clock that was put right has moved.
        if self.parts.gateway.is_dirty() {
            self.cycle.idle_work(now);
        }
    }

    fn settled(&mut self, event: SinkEvent) {
        let now = self.parts.clock.now();
        let gone = if let SinkEvent::Gone { lane, lost } = &event { Some((*lane, *lost)) } else { None };
        let before = gone.map_or(0, |(lane, _)| self.damaged(lane));
        let event = match &event {
            SinkEvent::Settled { lane, records } => Event::Settled { lane: *lane, records },
            SinkEvent::Gone { lane, lost } => Event::Gone { lane: *lane, lost: *lost },
            SinkEvent::Upstream { lane, is_up } => Event::Upstream { lane: *lane, is_up: *is_up },
            SinkEvent::Fetched { lane, outcome } => {
                let fetched = outcome.as_ref().ok().map(|(batch, records)| Fetched {
                    first_seq: batch.first_seq,
                    records,
                    lost: batch.lost,
                });
                Event::Fetched { lane: *lane, fetched }
            }
        };
        let upstream = if let Event::Upstream { lane, .. } = event { Some(lane) } else { None };
        self.parts.gateway.handle(now, event, self.cycle.open());
        self.read();
        if let Some(lane) = upstream {
            // A mark is no promise, so it waits for no commit.
            let live = self.parts.gateway.outbox().lanes().get(lane).and_then(Lane::live);
            self.parts.ends.set_live(lane, live);
            self.parts.sinks.iter().for_each(|(_, sink)| sink.wake());
        }
        if let Some((lane, lost)) = gone {
            // Some of them may have left before.
            let (damaged, last) = (self.damaged(lane) - before, lost.until_seq - 1);
            let name = self.parts.gateway.outbox().lanes().get(lane).map_or("", |lane| &lane.config().name);
            if 0 < damaged {
                log::error!(
                    "lane {name}: {damaged} records, {} to {last}, are damaged on flash and lost; upstream gets a loss record",
                    lost.from_seq,
                );
            }
        }
        self.cycle.settled(now, &self.parts.gateway);
    }

    /// Records of the lane that were damaged.
    fn damaged(&self, lane: usize) -> u64 {
        let lane = self.parts.gateway.outbox().lanes().get(lane);
        lane.map_or(0, |lane| lane.totals().dropped[DropReason::Damaged as usize])
    }

    fn tick(&mut self) {
        let now = self.parts.clock.now();
        self.parts.gateway.handle(now, Event::Tick, self.cycle.open());
        self.cycle.ticked(now, &self.parts.gateway);
    }

    /// Reads what the gateway wants to see again; the answers come as events.
    fn read(&mut self) {
        for Read { lane, from_seq } in self.cycle.open().reads.drain(..) {
            let (store, events) = (self.parts.store.clone(), self.parts.events.clone());
            tokio::spawn(async move {
                let outcome = store.read(lane, from_seq, READ_BYTES.as_usize(), Vec::new()).await;
                // The loop has gone: the process ends.
                let _ = events.send(SinkEvent::Fetched { lane, outcome }).await;
            });
        }
    }

    fn submit_if_due(&mut self, now: Now) {
        let submission = self.cycle.submit_if_due(now, &mut self.parts.gateway);
        self.submit(submission);
    }

    fn submit(&mut self, submission: Option<Submission>) {
        self.read();
        let Some(Submission { kind, mut effects, snapshot }) = submission else { return };
        if kind == Kind::Batch {
            print_log(&mut effects);
            self.parts.orders.sealed();
        }
        self.parts.pulse.commit_began(self.parts.clock.now().mono_us);
        self.parts.store.commit(effects);
        if let Some(entries) = snapshot {
            self.parts.store.snapshot(entries);
        }
    }

    fn committed(&mut self, answer: Option<CommitAnswer>) -> Result<(), RunError> {
        let Some(answer) = answer else { return Err(RunError("the store's thread has ended".to_owned())) };
        let CommitAnswer { effects, result, wants_snapshot } = answer;
        self.parts.pulse.commit_ended();
        let now = self.parts.clock.now();
        match self.cycle.answered(now, effects, result, wants_snapshot, &mut self.parts.gateway) {
            Answer::Committed(Due { acks, releases }) => {
                if let Some(epoch) = acks.first().map(|ack| ack.epoch) {
                    let acks = acks.iter().map(|ack| Acked { packet_id: ack.packet_id, qos: ack.qos });
                    self.parts.link.acks.send(epoch, acks);
                }
                self.release(&releases);
                self.parts.link.open();
                self.parts.orders.committed();
                Ok(())
            }
            Answer::RoomMade(releases) => {
                self.release(&releases);
                Ok(())
            }
            Answer::Full => {
                self.full_us = now.mono_us;
                if self.full.note(now.mono_us / 1000, ()).is_some() {
                    log::error!(
                        "the disk is full: no message is taken until upstream has taken some records or there is room; free some, \
                         or lower the lanes' bytes-max"
                    );
                }
                Ok(())
            }
            Answer::Failed(what) => Err(RunError(what)),
        }
    }

    /// Gives the store back what no sink needs any more, and tells the sinks how far they may read.
    fn release(&mut self, releases: &[crate::effect::Release]) {
        for release in releases {
            self.parts.store.release(*release);
        }
        let gateway = &self.parts.gateway;
        for (index, (lane, on_flash)) in gateway.outbox().lanes().iter().zip(gateway.on_flash()).enumerate() {
            self.parts.ends.set(index, on_flash.head_seq(), on_flash.readable_seq());
            self.parts.ends.set_live(index, lane.live());
        }
        self.parts.sinks.iter().for_each(|(_, sink)| sink.wake());
    }

    fn log(&mut self) {
        print_log(self.cycle.open());
    }

    /// Something from the control socket.
    fn came(&mut self, came: Came) {
        let now = self.parts.clock.now();
        match came {
            Came::Asked(Order { request: Request::Status, reply }) => {
                let _ = reply.send(orders::status(&self.parts.gateway, &self.numbers(now)));
            }
            Came::Asked(Order { request: Request::Letters(wanted), reply }) => {
                let Parts { orders, gateway, store, .. } = &mut self.parts;
                orders.begin(wanted, reply, gateway, store);
            }
            Came::Asked(Order { request: Request::RecordBegin(functions), reply }) => {
                let _ = reply.send(orders::begin_recording(&mut self.parts.gateway, now, functions));
            }
            Came::Asked(Order { request: Request::RecordTake { id, end }, reply }) => {
                let _ = reply.send(orders::take_recording(&mut self.parts.gateway, now, id, end));
            }
            Came::Gathered(gathered) => {
                let Parts { orders, gateway, .. } = &mut self.parts;
                orders.take(gathered, gateway, now, self.cycle.open());
                self.cycle.message(now, false);
            }
        }
    }

    /// Shows the watch that the loop lives, and now and then what it sees.
    fn beat(&mut self, now: Now) {
        let disk_full = self.cycle.is_full();
        // While upstream takes records from a full disk, it is full and not full many times a second.
        if !disk_full && self.full_us + FULL_OVER_US < now.mono_us && self.full.clear() {
            log::info!("the disk has room again: messages are taken");
        }
        let held_back = disk_full || self.parts.gateway.is_blocked();
        self.parts.pulse.turned(now.mono_us, self.next < self.incoming.len() && !held_back);
        if self.told_us.is_some_and(|told| now.mono_us < told + SIGNS_EVERY_US) {
            return;
        }
        self.told_us = Some(now.mono_us);
        let status = self.parts.gateway.status();
        let configs = self.parts.gateway.outbox().lanes().iter().map(|lane| lane.config());
        // A lane without a sink is meant to run full; dead letters are meant to be looked at.
        let counts = |config: &LaneConfig| config.sink.is_some() || config.name == DEAD_LETTER;
        let lanes = status.lanes.iter().zip(configs.clone()).filter(|(_, config)| counts(config));
        let lanes = lanes.map(|(lane, config)| LaneSign {
            name: lane.name.to_owned(),
            bytes: lane.bytes,
            bytes_max: lane.bytes_max,
            rejects: config.full == FullPolicy::Reject,
        });
        let owed = |name: &String| {
            let its = status.lanes.iter().zip(configs.clone()).filter(|(_, config)| config.sink.as_ref() == Some(name));
            its.map(|(lane, _)| lane.records).sum()
        };
        let sinks = self.parts.sinks.iter();
        let sinks =
            sinks.map(|(name, sink)| SinkSign { name: name.clone(), up: sink.link().connected, owed: owed(name) });
        let functions = status.functions.iter().map(|function| FunctionSign {
            name: function.name.to_owned(),
            invocations: function.usage.invocations,
            errors: function.usage.errors_total(),
        });
        let link = self.parts.link.status();
        self.parts.pulse.tell(Signs {
            broker_up: link.connected,
            refused: link.refused,
            disk_full,
            sinks: sinks.collect(),
            lanes: lanes.collect(),
            functions: functions.collect(),
        });
    }

    fn numbers(&self, now: Now) -> ShellNumbers {
        let link = self.parts.link.status();
        let stats = self.parts.store.stats();
        ShellNumbers {
            broker: (link.connected, link.epoch),
            refused: link.refused.len() as u64,
            sinks: self
                .parts
                .sinks
                .iter()
                .map(|(name, sink)| (name.clone(), sink.link().connected, sink.status()))
                .collect(),
            found: self.parts.found.clone(),
            flash: metrics::flash(&stats),
            open_us: self.parts.open_us,
            rss: metrics::resident_bytes(),
            rss_planned: self.parts.rss_planned,
            uptime_us: now.mono_us,
        }
    }

    /// An orderly end: what was handled is committed and acknowledged; what was not stays with the broker.
    async fn finish(mut self) -> Result<(), RunError> {
        log::info!("stopping: committing what was taken");
        self.parts.supervisor.stopping();
        let now = self.parts.clock.now();
        self.parts.pulse.turned(now.mono_us, false);
        let deadline = Instant::now() + LAST_COMMIT_PATIENCE;
        loop {
            if self.cycle.is_committing() {
                match tokio::time::timeout_at(deadline, self.parts.answers.recv()).await {
                    Ok(answer) => self.committed(answer)?,
                    Err(_) => return Err(RunError("the last commit took too long".to_owned())),
                }
            } else if self.cycle.is_full() {
                // No failure: the broker has what was not acknowledged, and the next start goes on from what is on flash.
                log::warn!(
                    "the disk is full: the last batch is not committed and not acknowledged; the broker sends it again, but for QoS 0"
                );
                break;
            } else if self.parts.gateway.is_dirty() {
                let now = self.parts.clock.now();
                let submission = self.cycle.submit(now, &mut self.parts.gateway);
                self.submit(submission);
            } else {
                break;
            }
        }
        for (_, sink) in self.parts.sinks {
            sink.close().await;
        }
        self.parts.link.close().await;
        self.parts.store.close().await;
        log::info!("stopped");
        Ok(())
    }
}

fn print_log(effects: &mut Effects) {
    effects.log.drain(..).for_each(|line| logging::print(&line));
    let lost = core::mem::take(&mut effects.log_lost);
    if 0 < lost {
        log::warn!("{lost} log lines were left out: too many at once");
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Stop {
    fn new() -> Self {
        Self { terminate: signal(SignalKind::terminate()).ok(), interrupt: signal(SignalKind::interrupt()).ok() }
    }

    async fn asked(&mut self) {
        let Self { terminate, interrupt } = self;
        let terminate = async {
            match terminate {
                Some(signal) => drop(signal.recv().await),
                None => core::future::pending().await,
            }
        };
        let interrupt = async {
            match interrupt {
                Some(signal) => drop(signal.recv().await),
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            () = terminate => {}
            () = interrupt => {}
        }
    }
}
