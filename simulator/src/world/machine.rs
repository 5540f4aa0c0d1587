//! The gateway's process on its machine: the real [`Gateway`] and the real [`Store`] over a disk in memory, driven as the shell
//! drives them, in virtual time.
//!
//! - One batch is being filled while another is being written; nothing is acknowledged, released or delivered before its commit.
//! - The machine dies when the disk fails, is killed, or loses its power; what a new process finds is what the disk kept.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use weir::effect::{Effects, READ_BYTES};
use weir::entry::Entries;
use weir::event::{Event, Message};
use weir::gateway::Gateway;
use weir::outbox::{Fetched, Settled};
use weir::record::Record;
use weir::store::keyed::NoKeyed;
use weir::store::mem_disk::{MemDisk, Survival};
use weir::store::{Commit, CommitError, LaneAppend, Settings, Store};
use weir::time::{Now, Stopwatch, TimeQuality};

use super::broker::Broker;
use super::checks::Broken;
use super::queue::{Happening, Incoming, Queue};
use super::site::Site;
use crate::rng::Rng;

/// The world begins at this time.
pub const EPOCH_MS: i64 = 1_800_000_000_000;
/// A commit takes up to this long to reach the disk.
const WRITE_US_MAX: u64 = 20_000;
/// A full disk is asked again after this long.
const FULL_RETRY_US: u64 = 50_000;
/// After the acknowledgements of a commit, a PINGREQ follows in this time.
const PING_US: u64 = 500_000;
/// A crash inside one thousand steps of the disk.
const QOS0_INBOX_MAX: usize = 2000;

/// The machine, up or down.
#[derive(Debug)]
pub struct Machine {
    site: Site,
    disk: MemDisk,
    clock: Rc<Cell<u64>>,
    /// Number of the process, growing.
    pub boot: u64,
    pub process: Option<Process>,
    /// The power went: unsynced writes are at risk.
    powerless: Option<Survival>,
    /// Processes that died, and found the disk full.
    pub deaths: u64,
    pub full: u64,
    pub lost_inbox: u64,
}

/// A running gateway.
pub struct Process {
    pub gateway: Gateway,
    store: Store<MemDisk, NoKeyed>,
    effects: Effects,
    writing: Option<Effects>,
    dirty_since_us: Option<u64>,
    batched: u32,
    inbox: VecDeque<(u64, Incoming)>,
    /// The link's own count: acknowledgements sent over connection `acks_epoch`, and those that a PINGREQ has followed.
    acks_epoch: u64,
    acks: u64,
    pinged: u64,
    ping_planned: bool,
    started_us: u64,
    snapshot_us: u64,
    wake_us: Option<u64>,
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Process").field("inbox", &self.inbox.len()).finish_non_exhaustive()
    }
}

/// The virtual clock, as functions see it.
struct Watch(Rc<Cell<u64>>);

impl Stopwatch for Watch {
    fn mono_us(&mut self) -> u64 {
        self.0.get()
    }
}

/// The process is dead.
#[derive(Debug)]
pub enum End {
    /// The disk failed: the process ends itself, a new one reads what is there.
    Died,
    /// Something does not hold.
    Broken(Broken),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// What the machine acts upon.
pub struct Around<'a> {
    pub queue: &'a mut Queue,
    pub rng: &'a mut Rng,
    pub broker: &'a mut Broker,
}

impl Machine {
    /// A machine with an empty disk, switched off.
    #[must_use]
    pub fn new(site: Site) -> Self {
        let clock = Rc::new(Cell::new(0));
        let (process, powerless) = (None, None);
        Self { site, disk: MemDisk::default(), clock, boot: 0, process, powerless, deaths: 0, full: 0, lost_inbox: 0 }
    }

    /// Its site.
    #[must_use]
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// Its disk.
    #[must_use]
    pub const fn disk(&self) -> &MemDisk {
        &self.disk
    }

    fn settings(&self) -> Settings {
        let store = &self.site.config.store;
        Settings {
            segment_bytes: u32::try_from(store.segment_bytes.0).unwrap_or(u32::MAX),
            journal_bytes_max: store.journal_bytes_max.0,
            dirty_bytes_max: 1 << 20,
            salt: 7,
            lanes: self.site.config.lanes.iter().map(|lane| lane.name.clone()).collect(),
        }
    }

    /// The clocks, for a process that started at `started_us`.
    fn now(&self, started_us: u64, now_us: u64) -> Now {
        self.clock.set(now_us - started_us);
        let wall_ms = EPOCH_MS.saturating_add_unsigned(now_us / 1000);
        Now { mono_us: now_us - started_us, wall_ms, quality: TimeQuality::Synced }
    }

    /// Starts a process: opens the store, recovers, commits what follows at once.
    pub fn start(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        if let Some(survival) = self.powerless.take() {
            self.disk.restart(survival, around.rng.next());
        }
        let now_us = around.queue.now_us();
        let now = self.now(now_us, now_us);
        let (store, recovered) = match Store::open(self.disk.clone(), NoKeyed, &self.settings()) {
            Ok(opened) => opened,
            Err(CommitError::Full) => return Err(Broken::new("opening needs room on the disk").into()),
            Err(CommitError::Failed(reason)) if self.disk.is_down() => {
                let _ = reason;
                return Err(End::Died);
            }
            Err(CommitError::Failed(reason)) => return Err(Broken::new(format!("open: {reason}")).into()),
        };
        if recovered.report.is_loss() {
            return Err(Broken::new(format!("an undamaged disk has losses: {:?}", recovered.report)).into());
        }
        let mut watch = Watch(Rc::clone(&self.clock));
        let functions = self.site.functions(&mut watch);
        let mut effects = Effects::default();
        let gateway = Gateway::new(&self.site.config, functions, recovered, now, Box::new(watch), &mut effects)
            .map_err(|error| Broken::new(format!("start: {error}")))?;
        let lanes = gateway.outbox().lanes().len();
        self.process = Some(Process {
            gateway,
            store,
            effects,
            writing: None,
            dirty_since_us: None,
            batched: 0,
            inbox: VecDeque::new(),
            acks_epoch: 0,
            acks: 0,
            pinged: 0,
            ping_planned: false,
            started_us: now_us,
            snapshot_us: now_us,
            wake_us: None,
        });
        for lane in 0..lanes {
            self.handle(Event::Upstream { lane, is_up: true }, around)?;
            around.queue.after(0, Happening::Drain { boot: self.boot, lane });
        }
        let delay_us = around.rng.below(200_000);
        around.queue.after(delay_us, Happening::Connect { boot: self.boot });
        self.work(around)
    }

    /// The process is gone. With `survival` the power went too.
    pub fn stop(&mut self, survival: Option<Survival>) {
        self.process = None;
        self.powerless = survival.or(self.powerless);
        self.boot += 1;
        self.deaths += 1;
    }

    /// Something came over the link.
    pub fn arrive(&mut self, epoch: u64, incoming: Incoming, around: &mut Around<'_>) -> Result<(), End> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let is_qos0 = matches!(incoming, Incoming::Publish { packet_id: 0, .. });
        if is_qos0 && QOS0_INBOX_MAX <= process.inbox.len() {
            self.lost_inbox += 1;
            return self.handle(Event::Lost { count: 1 }, around);
        }
        process.inbox.push_back((epoch, incoming));
        self.work(around)
    }

    /// Reads back what the gateway asks for, which lanes that roll up do.
    fn fetch(&mut self, around: &Around<'_>) -> Result<(), End> {
        loop {
            let Some(process) = &mut self.process else { return Ok(()) };
            let Some(read) = process.effects.reads.pop() else { return Ok(()) };
            let name = process.gateway.outbox().lanes()[read.lane].config().name.clone();
            let mut records = Vec::new();
            let batch = process.store.read(&name, read.from_seq, READ_BYTES.as_usize(), &mut records);
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Err(self.failed("read", &error.to_string())),
            };
            let fetched = Fetched { first_seq: batch.first_seq, records: &records, lost: batch.lost };
            self.handle(Event::Fetched { lane: read.lane, fetched: Some(fetched) }, around)?;
        }
    }

    /// Hands one event to the gateway.
    fn handle(&mut self, event: Event<'_>, around: &Around<'_>) -> Result<(), End> {
        let Some(started_us) = self.process.as_ref().map(|process| process.started_us) else { return Ok(()) };
        let now = self.now(started_us, around.queue.now_us());
        if let Some(process) = &mut self.process {
            process.gateway.handle(now, event, &mut process.effects);
            super::checks::step(&process.gateway, &self.site.config)?;
        }
        Ok(())
    }

    /// Handles what lies in the inbox, seals and writes what is due, and plans the next look at the clock.
    pub fn work(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let batch_max = self.site.config.commit.messages_max;
        loop {
            let Some(process) = &mut self.process else { return Ok(()) };
            // While a full batch waits for the disk, what comes waits in the inbox.
            if process.gateway.is_blocked() || batch_max <= process.batched {
                break;
            }
            let Some((epoch, incoming)) = process.inbox.pop_front() else { break };
            match incoming {
                Incoming::Connected => {
                    self.handle(Event::Connected { epoch, session_present: true }, around)?;
                }
                Incoming::Confirmed { acks } => {
                    self.handle(Event::Confirmed { epoch, acks_through: acks }, around)?;
                }
                Incoming::Publish { message, packet_id, dup } => {
                    process.batched += 1;
                    let published = around.broker.message(message).clone();
                    let message = Message {
                        topic: &published.topic,
                        payload: &published.payload,
                        qos: published.qos,
                        packet_id,
                        dup,
                        retained: false,
                        resubscribed: false,
                        epoch,
                    };
                    self.handle(Event::Message(message), around)?;
                }
            }
        }
        self.seal_if_due(around);
        self.fetch(around)?;
        self.plan_wake(around);
        Ok(())
    }

    /// The clock is looked at.
    pub fn wake(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        if let Some(process) = &mut self.process {
            process.wake_us = None;
        }
        self.handle(Event::Tick, around)?;
        self.ping(around);
        self.work(around)
    }

    fn ping(&mut self, around: &mut Around<'_>) {
        let Some(process) = &mut self.process else { return };
        let epoch = around.broker.epoch();
        process.ping_planned = false;
        if process.acks_epoch == epoch && process.pinged < process.acks && around.broker.is_connected() {
            process.pinged = process.acks;
            around.broker.take(Happening::Ping { epoch, acks: process.acks }, around.queue, around.rng);
        }
    }

    fn seal_if_due(&mut self, around: &mut Around<'_>) {
        let Some(process) = &mut self.process else { return };
        let policy = &self.site.config.commit;
        if process.writing.is_some() || !process.gateway.is_dirty() {
            return;
        }
        let now_us = around.queue.now_us();
        let since_us = *process.dirty_since_us.get_or_insert(now_us);
        let is_full = policy.messages_max <= process.batched
            || policy.bytes_max.as_usize() <= process.gateway.staged_bytes()
            || process.gateway.is_blocked();
        if !is_full && now_us < since_us + policy.interval.0 * 1000 {
            return;
        }
        self.seal(now_us);
        let delay_us = 100 + around.rng.below(WRITE_US_MAX);
        around.queue.after(delay_us, Happening::Written { boot: self.boot });
    }

    fn seal(&mut self, now_us: u64) {
        let Some(started_us) = self.process.as_ref().map(|process| process.started_us) else { return };
        let now = self.now(started_us, now_us);
        if let Some(process) = &mut self.process {
            process.gateway.seal(now, &mut process.effects);
            // What is to be read back waits for no commit.
            let reads = core::mem::take(&mut process.effects.reads);
            process.writing = Some(core::mem::take(&mut process.effects));
            process.effects.reads = reads;
            (process.dirty_since_us, process.batched) = (None, 0);
        }
    }

    /// The disk is done: the commit has happened, or has not.
    pub fn written(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let Some(effects) = self.process.as_mut().and_then(|process| process.writing.take()) else { return Ok(()) };
        if !self.commit(effects, around)? {
            around.queue.after(FULL_RETRY_US, Happening::Written { boot: self.boot });
            return Ok(());
        }
        self.snapshot_if_due(around)?;
        self.work(around)
    }

    /// Commits and carries out the rest. False: the disk is full, and the effects wait for the next try.
    fn commit(&mut self, effects: Effects, around: &mut Around<'_>) -> Result<bool, End> {
        let Some(process) = &mut self.process else { return Ok(true) };
        let names: Vec<String> =
            process.gateway.outbox().lanes().iter().map(|lane| lane.config().name.clone()).collect();
        let lanes: Vec<LaneAppend<'_>> = effects.lanes.iter().map(|batch| append(batch, &names)).collect();
        let is_needed = !effects.is_empty();
        if is_needed {
            match process.store.commit(&Commit { entries: effects.entries.bytes(), lanes: &lanes }) {
                Ok(()) => {}
                Err(CommitError::Full) => {
                    self.full += 1;
                    process.writing = Some(effects);
                    return Ok(false);
                }
                Err(CommitError::Failed(reason)) => return Err(self.failed("commit", &reason)),
            }
        }
        let epoch = around.broker.epoch();
        let current = effects.acks.iter().filter(|ack| ack.epoch == epoch && around.broker.is_current(epoch));
        let packet_ids: Vec<u16> = current.map(|ack| ack.packet_id).collect();
        if process.acks_epoch != epoch {
            (process.acks_epoch, process.acks, process.pinged) = (epoch, 0, 0);
        }
        process.acks += packet_ids.len() as u64;
        if !packet_ids.is_empty() {
            process.gateway.acked(effects.commit, epoch, packet_ids.len() as u64);
        }
        for packet_id in &packet_ids {
            around.broker.take(Happening::Ack { epoch, packet_id: *packet_id }, around.queue, around.rng);
        }
        if !packet_ids.is_empty() && !process.ping_planned {
            process.ping_planned = true;
            around.queue.after(PING_US, Happening::Wake { boot: self.boot });
        }
        for release in &effects.releases {
            let segments = release.from_segment..release.below_segment;
            match process.store.release_range(&names[release.lane], segments) {
                Ok(()) | Err(CommitError::Full) => {}
                Err(CommitError::Failed(reason)) => return Err(self.failed("release", &reason)),
            }
        }
        for lane in 0..names.len() {
            around.queue.after(0, Happening::Drain { boot: self.boot, lane });
        }
        Ok(true)
    }

    /// A disk without power explains a failure; another one must not fail.
    fn failed(&self, what: &str, reason: &str) -> End {
        if self.disk.is_down() { End::Died } else { Broken::new(format!("{what}: {reason}")).into() }
    }

    /// Between two commits: closes the open batch, commits it, and writes all that there is.
    fn snapshot_if_due(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let now_us = around.queue.now_us();
        let interval_us = self.site.config.store.snapshot_interval.0 * 1000;
        let Some(process) = &self.process else { return Ok(()) };
        if !process.store.needs_snapshot() && now_us < process.snapshot_us + interval_us {
            return Ok(());
        }
        self.seal(now_us);
        let Some(effects) = self.process.as_mut().and_then(|process| process.writing.take()) else { return Ok(()) };
        if !self.commit(effects, around)? {
            around.queue.after(FULL_RETRY_US, Happening::Written { boot: self.boot });
            return Ok(());
        }
        let Some(started_us) = self.process.as_ref().map(|process| process.started_us) else { return Ok(()) };
        let now = self.now(started_us, now_us);
        let Some(process) = &mut self.process else { return Ok(()) };
        let mut entries = Entries::default();
        process.gateway.export(now, &mut entries);
        match process.store.snapshot(entries.bytes()) {
            Ok(()) => process.snapshot_us = now_us,
            Err(CommitError::Full) => self.full += 1,
            Err(CommitError::Failed(reason)) => return Err(self.failed("snapshot", &reason)),
        }
        Ok(())
    }

    fn plan_wake(&mut self, around: &mut Around<'_>) {
        let Some(started_us) = self.process.as_ref().map(|process| process.started_us) else { return };
        let now_us = around.queue.now_us();
        let now = self.now(started_us, now_us);
        let Some(process) = &mut self.process else { return };
        let deadline = process.gateway.deadline(now).map(|mono_us| started_us + mono_us);
        let policy_us = self.site.config.commit.interval.0 * 1000;
        let seal = process.dirty_since_us.filter(|_| process.writing.is_none()).map(|since_us| since_us + policy_us);
        let Some(due_us) = deadline.into_iter().chain(seal).min() else { return };
        // A deadline that has passed and is still there would wake for ever within one moment.
        let due_us = due_us.max(now_us + 1000);
        if process.wake_us.is_none_or(|planned| due_us < planned) {
            process.wake_us = Some(due_us);
            around.queue.at(due_us, Happening::Wake { boot: self.boot });
        }
    }

    /// Reads committed records of a lane from `from` on: (sequence, record's own bytes, whether it settles a message).
    pub fn read(&mut self, lane: usize, from: u64, bytes_max: usize) -> Result<Vec<(u64, bool, Vec<u8>)>, End> {
        let Some(process) = &mut self.process else { return Ok(Vec::new()) };
        let chosen = &process.gateway.outbox().lanes()[lane];
        let (name, from) = (chosen.config().name.clone(), from.max(chosen.head_seq()));
        let readable_seq = chosen.readable_seq();
        let mut bytes = Vec::new();
        let batch = match process.store.read(&name, from, bytes_max, &mut bytes) {
            Ok(batch) => batch,
            Err(CommitError::Full) => return Ok(Vec::new()),
            Err(CommitError::Failed(reason)) => return Err(self.failed("read", &reason)),
        };
        if let Some(lost) = batch.lost {
            return Err(Broken::new(format!("lane {name}: {lost:?} of an undamaged disk, read from {from}")).into());
        }
        let (mut rest, mut records) = (bytes.as_slice(), Vec::new());
        for sequence in
            (batch.first_seq..batch.first_seq + u64::from(batch.records)).take_while(|seq| *seq < readable_seq)
        {
            let before = rest;
            let Some(record) = Record::take(&mut rest) else {
                return Err(Broken::new(format!("lane {name}: record {sequence} is unreadable")).into());
            };
            records.push((sequence, record.closes_message, before[..before.len() - rest.len()].to_vec()));
        }
        Ok(records)
    }

    /// A sink is done with records.
    pub fn settle(&mut self, lane: usize, records: &[Settled], around: &mut Around<'_>) -> Result<(), End> {
        self.handle(Event::Settled { lane, records }, around)?;
        self.work(around)
    }

    /// Whether nothing waits in the process.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let is_sealed = process.writing.is_none() && !process.gateway.is_dirty();
            is_sealed && process.inbox.is_empty() && process.gateway.status().cells == 0
        })
    }

    /// The gateway, if the process runs.
    #[must_use]
    pub fn gateway(&self) -> Option<&Gateway> {
        self.process.as_ref().map(|process| &process.gateway)
    }

    /// All entries as a snapshot would have them.
    pub fn export(&mut self, now_us: u64) -> Entries {
        let mut entries = Entries::default();
        let Some(started_us) = self.process.as_ref().map(|process| process.started_us) else { return entries };
        let now = self.now(started_us, now_us);
        if let Some(process) = &mut self.process {
            process.gateway.export(now, &mut entries);
        }
        entries
    }
}

fn append<'a>(batch: &'a weir::effect::LaneBatch, names: &'a [String]) -> LaneAppend<'a> {
    LaneAppend {
        lane: &names[batch.lane],
        segment: batch.segment,
        first_seq: batch.first_seq,
        count: batch.count,
        first_message: batch.first_message,
        messages: batch.messages,
        at_ms: batch.at_ms,
        records: &batch.records,
    }
}
