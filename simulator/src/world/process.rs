//! A running gateway: the shipped [`Gateway`], [`Cycle`], [`Keeper`] and store, turned as the shell's loop and its store's thread
//! turn them, in virtual time.

use core::ops::Range;

use weir::books::Books;
use weir::config::Qos;
use weir::cycle::{Answer, Cycle, Due, Submission};
use weir::effect::{Effects, READ_BYTES, Read, Release};
use weir::event::{Event, Message};
use weir::function::Pool;
use weir::gateway::Gateway;
use weir::keeper::{Keeper, Snapshot};
use weir::outbox::{Fetched, Lane, Settled};
use weir::record::Record;
use weir::store::keyed::NoKeyed;
use weir::store::mem_disk::MemDisk;
use weir::store::{CommitError, Lost};
use weir::time::Now;

use super::checks::{self, Broken};
use super::ledger::IsOld;
use super::link::{Item, Link};
use super::machine::{Around, End, Machine};
use super::meter::FuelMeter;
use super::queue::{Happening, Incoming};
use super::site::Site;

/// A process connects this long after its first commit, at most.
const CONNECT_US_MAX: u64 = 200_000;
/// A commit takes up to this long to reach the disk.
const WRITE_US_MAX: u64 = 20_000;
/// The store's thread looks after its reserve when it had nothing to do for so long.
const IDLE_US: u64 = 200_000;
/// A lane that could not be read is read again after this.
const READ_RETRY_US: u64 = 1_000_000;
/// Of so many events, one is followed by a look at everything.
const LOOK_EVERY: u64 = 16;

/// The process.
pub struct Process {
    /// The middle.
    pub gateway: Gateway,
    /// Its end of the connection to the broker.
    pub link: Link,
    keeper: Keeper<MemDisk, NoKeyed>,
    cycle: Cycle,
    writing: Option<Submission>,
    /// The monotonic clock at its start.
    pub started_us: u64,
    /// The link may connect: what it subscribes is on record.
    is_open: bool,
    snapshot_us: u64,
    wake_us: Option<u64>,
    is_idle_planned: bool,
    events: u64,
    fuel: FuelMeter,
    /// Linear memory of its guests.
    pool: Pool,
    /// How far sinks may read each lane, as of the last commit.
    readable: Vec<u64>,
}

impl Process {
    /// A process that has just opened its store.
    #[must_use]
    pub fn new(
        site: &Site,
        gateway: Gateway,
        keeper: Keeper<MemDisk, NoKeyed>,
        effects: Effects,
        started_us: u64,
        confirm_after_us: u64,
        pool: Pool,
    ) -> Self {
        let broker = &site.config.broker;
        let is_v5 = broker.version == weir::config::MqttVersion::V5;
        let fuel = FuelMeter::new(&gateway);
        Self {
            link: Link::new(is_v5, !gateway.subscribed().fresh().is_empty(), broker.in_flight, confirm_after_us),
            gateway,
            keeper,
            cycle: Cycle::new(site.config.commit, broker.in_flight, effects),
            writing: None,
            started_us,
            is_open: false,
            snapshot_us: 0,
            wake_us: None,
            is_idle_planned: false,
            events: 0,
            fuel,
            pool,
            readable: Vec::new(),
        }
    }

    /// Whether nothing waits in it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_sealed = self.writing.is_none() && !self.cycle.is_committing() && !self.gateway.is_dirty();
        is_sealed && self.link.inbox.is_empty() && self.gateway.status().cells == 0
    }
}

impl Process {
    fn write(&mut self, submission: Submission, boot: u64, around: &mut Around<'_>) {
        let entries = submission.effects.entries.bytes();
        around.queue.note(entries);
        around.ledger.sealed(submission.kind, entries);
        self.writing = Some(submission);
        let delay_us = 100 + around.rng.below(WRITE_US_MAX);
        around.queue.after(delay_us, Happening::Written { boot });
    }
}

impl Machine {
    /// What is about to be subscribed is recorded first; the link opens behind that commit.
    pub fn open_link(&mut self, around: &mut Around<'_>) {
        let (now, boot) = (self.now(around), self.boot);
        let Some(process) = &mut self.process else { return };
        if !process.cycle.is_committing() {
            match process.cycle.submit(now, &mut process.gateway) {
                Some(submission) => process.write(submission, boot, around),
                None => self.link_is_open(around),
            }
        }
    }

    fn link_is_open(&mut self, around: &mut Around<'_>) {
        let boot = self.boot;
        let Some(process) = &mut self.process else { return };
        if !core::mem::replace(&mut process.is_open, true) {
            let delay_us = around.rng.below(CONNECT_US_MAX);
            around.queue.after(delay_us, Happening::Connect { boot });
        }
    }

    /// On a disk that stays full, everything that upstream takes is gone when it has had the time: no record waits, and hardly a
    /// segment is left to a lane with a sink.
    pub fn check_let_go(&self) -> Result<(), Broken> {
        let Some(process) = self.process.as_ref().filter(|process| process.cycle.is_full()) else { return Ok(()) };
        let own = 2 * (self.site.config.store.segment_bytes.0 + self.site.config.commit.bytes_max.0);
        for lane in process.gateway.on_flash().iter().filter(|lane| lane.config().sink.is_some()) {
            let (name, pending, bytes) = (&lane.config().name, lane.records_pending(), lane.bytes());
            if 0 < pending || own < bytes {
                let what = format!(
                    "the disk stays full although lane {name} holds {pending} records that upstream would take"
                );
                return Err(Broken::new(format!("{what}, and {bytes} bytes")));
            }
        }
        Ok(())
    }

    fn now(&self, around: &Around<'_>) -> Now {
        let started_us = self.process.as_ref().map_or(0, |process| process.started_us);
        self.read_clocks(started_us, around.queue.now_us())
    }

    /// Something came over the connection.
    pub fn arrive(&mut self, packet: Incoming, around: &mut Around<'_>) -> Result<(), End> {
        if let Some(process) = &mut self.process {
            process.link.arrive(packet);
        }
        self.work(around)
    }

    /// Hands one event to the gateway, and looks whether all still holds.
    fn handle(&mut self, now: Now, event: Event<'_>) -> Result<(), End> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.gateway.handle(now, event, process.cycle.open());
        process.events += 1;
        checks::step(&process.gateway)?;
        if process.events % LOOK_EVERY == 0 {
            checks::full_step(&process.gateway, &self.site, self.disk.used())?;
            checks::guests(&process.pool, &self.site)?;
        }
        Ok(())
    }

    fn handle_item(&mut self, item: Item, around: &mut Around<'_>) -> Result<(), End> {
        let now = self.now(around);
        match item {
            Item::Connected { epoch, session_present } => {
                self.handle(now, Event::Connected { epoch, session_present })?;
                if let Some(process) = &mut self.process {
                    process.cycle.connected(epoch);
                }
            }
            Item::Granted => {
                self.handle(now, Event::Granted { filters: &[super::site::FILTER.to_owned()] })?;
                if let Some(process) = &mut self.process {
                    process.cycle.idle_work(now);
                }
            }
            Item::Released { packet_id } => self.handle(now, Event::Released { packet_id })?,
            Item::Confirmed { epoch, acks, completions } => {
                self.handle(now, Event::Confirmed { epoch, acks_through: acks, completed_through: completions })?;
            }
            Item::Dropped { count } => {
                self.handle(now, Event::Lost { count })?;
                around.ledger.lost(count);
                if let Some(process) = &mut self.process {
                    process.cycle.idle_work(now);
                }
            }
            Item::Publish { epoch, instance, packet_id, dup, resubscribed } => {
                let published = around.ledger.message(instance).clone();
                let qos = around.ledger.qos(instance);
                let message = Message {
                    topic: &published.topic,
                    payload: &published.payload,
                    qos,
                    packet_id,
                    dup,
                    retained: around.ledger.is_retained(instance),
                    resubscribed,
                    epoch,
                };
                let is_new = |trigger| self.gateway().is_some_and(|gateway| gateway.subscribed().is_new(trigger, dup));
                // Triggers are numbered in the order of the configuration.
                let is_old = IsOld { stats: resubscribed && !is_new(0), rogue: resubscribed && !is_new(1) };
                let before = self.books();
                self.handle(now, Event::Message(message))?;
                let after = self.books();
                around.ledger.handled(instance, is_old, now, (&before, &after), &self.site)?;
                if let Some(process) = &mut self.process {
                    process.cycle.message(now, qos != Qos::AtMostOnce);
                    if after.received != before.received && !around.ledger.is_damaged {
                        let outcome = around.ledger.outcome(instance, is_old, &self.site);
                        let end_ms = super::ledger::window_of(&published, now, &self.site) + self.site.window_ms;
                        let is_late = outcome.metered.is_some() && end_ms <= now.wall_ms;
                        let is_certain = !self.clocks.was_moved;
                        process.fuel.message(&process.gateway, &outcome, is_certain.then_some(is_late))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn books(&self) -> Books {
        self.process.as_ref().map_or_else(Books::default, |process| process.gateway.books().clone())
    }

    /// Does what there is to do: reads, handles, submits, and plans the next look at the clock.
    pub fn work(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        loop {
            let now = self.now(around);
            let boot = self.boot;
            let Some(process) = &mut self.process else { return Ok(()) };
            process.link.read(around.ledger, around.wire);
            if let Some(submission) = process.cycle.submit_if_due(now, &mut process.gateway) {
                process.write(submission, boot, around);
            }
            self.fetch(around)?;
            let Some(process) = &mut self.process else { return Ok(()) };
            if !process.cycle.may_take(&process.gateway) {
                break;
            }
            let Some(item) = process.link.inbox.pop_front() else { break };
            self.handle_item(item, around)?;
        }
        self.plan_wake(around);
        Ok(())
    }

    /// The clock is looked at.
    pub fn wake(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let now_us = around.queue.now_us();
        let Some(process) = &mut self.process else { return Ok(()) };
        // Another one was planned that comes earlier, or has come.
        if process.wake_us.take_if(|wake_us| *wake_us <= now_us).is_none() {
            return Ok(());
        }
        self.tick(around)?;
        self.work(around)
    }

    /// Time has passed.
    pub fn tick(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let now = self.now(around);
        self.handle(now, Event::Tick)?;
        let Some(process) = &mut self.process else { return Ok(()) };
        if !around.ledger.is_damaged {
            process.fuel.interval(&process.gateway)?;
        }
        process.cycle.ticked(now, &process.gateway);
        Ok(())
    }

    /// The disk is done: the commit has happened, or has not.
    pub fn written(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let now = self.now(around);
        let snapshot_us = self.site.config.store.snapshot_interval.0 * 1000;
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(Submission { kind, effects, snapshot }) = process.writing.take() else { return Ok(()) };
        let (result, late) = process.keeper.commit(&effects);
        let snapshot_due = process.snapshot_us + snapshot_us <= now.mono_us;
        let wants_snapshot = snapshot_due || process.keeper.store.needs_snapshot();
        self.check_syncs()?;
        self.snapshot_done(late, now);
        match &result {
            Ok(()) => around.ledger.committed(kind, &self.site)?,
            Err(CommitError::Full) => self.full += 1,
            Err(CommitError::Failed(reason)) => return Err(self.failed("commit", reason)),
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        let outcome = snapshot.map(|entries| process.keeper.snapshot(entries));
        let answer = process.cycle.answered(now, effects, result, wants_snapshot, &mut process.gateway);
        self.snapshot_done(outcome, now);
        match answer {
            Answer::Committed(Due { acks, releases }) => {
                if let (Some(process), Some(epoch)) = (&mut self.process, acks.first().map(|ack| ack.epoch)) {
                    process.link.acknowledge(epoch, acks.iter().map(|ack| ack.packet_id), around.wire);
                    process.link.plan_confirm(around.queue);
                }
                self.release(&releases)?;
                self.link_is_open(around);
            }
            Answer::RoomMade(releases) => self.release(&releases)?,
            Answer::Full => {}
            Answer::Failed(reason) => return Err(End::Died(reason)),
        }
        self.drain_all(around);
        self.plan_idle(around);
        self.work(around)
    }

    fn snapshot_done(&mut self, outcome: Option<Snapshot>, now: Now) {
        let Some(process) = &mut self.process else { return };
        match outcome {
            Some(Snapshot::Written) => process.snapshot_us = now.mono_us,
            Some(Snapshot::NoRoom) => {
                process.snapshot_us = now.mono_us;
                self.full += 1;
            }
            // The next commit tells whether the disk is really broken.
            Some(Snapshot::Failed(_) | Snapshot::Outdated) | None => {}
        }
    }

    /// After a failed sync nothing may be taken for durable any more.
    fn check_syncs(&self) -> Result<(), Broken> {
        match self.disk.syncs_after_failure() {
            0 => Ok(()),
            syncs => {
                Err(Broken::new(format!("{syncs} syncs by a process of what one had failed for, by the same process")))
            }
        }
    }

    /// Gives the store back what no sink needs any more.
    pub fn release(&mut self, releases: &[Release]) -> Result<(), End> {
        for release in releases {
            let Some(process) = &mut self.process else { return Ok(()) };
            match process.keeper.release(*release) {
                Ok(()) | Err(CommitError::Full) => {}
                // The shell warns and goes on.
                Err(CommitError::Failed(_)) if self.disk.has_failed() => {}
                Err(CommitError::Failed(reason)) => return Err(self.failed("release", &reason)),
            }
        }
        if let Some(process) = &mut self.process {
            process.readable = process.gateway.on_flash().iter().map(Lane::readable_seq).collect();
        }
        Ok(())
    }

    /// Reads back what the gateway asks for, which lanes that roll up do.
    fn fetch(&mut self, around: &Around<'_>) -> Result<(), End> {
        loop {
            let now = self.now(around);
            let Some(process) = &mut self.process else { return Ok(()) };
            let Some(Read { lane, from_seq }) = process.cycle.open().reads.pop() else { return Ok(()) };
            let mut records = Vec::new();
            let fetched = match process.keeper.read(lane, from_seq, READ_BYTES.as_usize(), &mut records) {
                Ok(batch) => Some(Fetched { first_seq: batch.first_seq, records: &records, lost: batch.lost }),
                Err(_) => None,
            };
            self.handle(now, Event::Fetched { lane, fetched })?;
            if let Some(process) = &mut self.process {
                process.cycle.settled(now, &process.gateway);
            }
        }
    }

    /// Every sink has its upstream, or has lost it.
    pub fn upstream(&mut self, is_up: bool, around: &mut Around<'_>) -> Result<(), End> {
        let now = self.now(around);
        let lanes = self.gateway().map_or(0, |gateway| gateway.outbox().lanes().len());
        (0..lanes).try_for_each(|lane| self.handle(now, Event::Upstream { lane, is_up }))?;
        if let Some(process) = &mut self.process {
            process.cycle.settled(now, &process.gateway);
        }
        if is_up {
            self.drain_all(around);
        }
        self.work(around)
    }

    /// Every sink looks whether there is something to send.
    pub fn drain_all(&self, around: &mut Around<'_>) {
        let lanes = self.gateway().map_or(0, |gateway| gateway.outbox().lanes().len());
        for lane in 0..lanes {
            around.queue.after(0, Happening::Drain { boot: self.boot, lane });
        }
    }

    fn plan_idle(&mut self, around: &mut Around<'_>) {
        let Some(process) = &mut self.process else { return };
        if !core::mem::replace(&mut process.is_idle_planned, true) {
            around.queue.after(IDLE_US, Happening::Idle { boot: self.boot });
        }
    }

    /// The store's thread has nothing to do.
    pub fn idle(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.is_idle_planned = false;
        if process.writing.is_some() {
            self.plan_idle(around);
            return Ok(());
        }
        match process.keeper.store.maintain() {
            Ok(true) => self.plan_idle(around),
            Ok(false) | Err(CommitError::Full) => {}
            // The shell warns and goes on.
            Err(CommitError::Failed(_)) if self.disk.has_failed() => {}
            Err(CommitError::Failed(reason)) => return Err(self.failed("maintain", &reason)),
        }
        Ok(())
    }

    fn plan_wake(&mut self, around: &mut Around<'_>) {
        let now = self.now(around);
        let now_us = around.queue.now_us();
        let Some(process) = &mut self.process else { return };
        let deadline = process.gateway.deadline(now).into_iter().chain(process.cycle.deadline()).min();
        let Some(due_us) = deadline.map(|mono_us| process.started_us + mono_us) else { return };
        // A deadline that has passed and is still there would wake for ever within one moment.
        let due_us = due_us.max(now_us + 1000);
        if process.wake_us.is_none_or(|planned| due_us < planned) {
            process.wake_us = Some(due_us);
            around.queue.at(due_us, Happening::Wake { boot: self.boot });
        }
    }

    /// Reads committed records of a lane in a range: (sequence, whether it settles a message, record's own bytes).
    pub fn read(
        &mut self,
        lane: usize,
        range: Range<u64>,
        bytes_max: usize,
        around: &mut Around<'_>,
    ) -> Result<Vec<(u64, bool, Vec<u8>)>, End> {
        let Some(process) = &mut self.process else { return Ok(Vec::new()) };
        let from = range.start.max(process.gateway.on_flash()[lane].head_seq());
        let end = process.readable.get(lane).copied().unwrap_or(0).min(range.end);
        if end <= from {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        let batch = match process.keeper.read(lane, from, bytes_max, &mut bytes) {
            Ok(batch) => batch,
            Err(CommitError::Full) => return Ok(Vec::new()),
            // The sink tries again.
            Err(CommitError::Failed(_)) if self.disk.has_failed() && !self.disk.is_down() => {
                around.queue.after(READ_RETRY_US, Happening::Drain { boot: self.boot, lane });
                return Ok(Vec::new());
            }
            Err(CommitError::Failed(reason)) => return Err(self.failed("read", &reason)),
        };
        if let Some(lost) = batch.lost {
            self.gone(lane, lost, around)?;
        }
        let (mut rest, mut records) = (bytes.as_slice(), Vec::new());
        for sequence in batch.first_seq..(batch.first_seq + u64::from(batch.records)).min(end) {
            let before = rest;
            let Some(record) = Record::take(&mut rest) else {
                return Err(Broken::new(format!("lane {lane}: record {sequence} is unreadable")).into());
            };
            records.push((sequence, record.closes_message, before[..before.len() - rest.len()].to_vec()));
        }
        Ok(records)
    }

    /// The store cannot read some records any more.
    fn gone(&mut self, lane: usize, lost: Lost, around: &mut Around<'_>) -> Result<(), End> {
        if self.flips == 0 {
            return Err(Broken::new(format!("lane {lane}: {lost:?} of an undamaged disk")).into());
        }
        let now = self.now(around);
        self.handle(now, Event::Gone { lane, lost })?;
        if let Some(process) = &mut self.process {
            process.cycle.settled(now, &process.gateway);
        }
        self.work(around)
    }

    /// A sink is done with records.
    pub fn settle(&mut self, lane: usize, records: &[Settled], around: &mut Around<'_>) -> Result<(), End> {
        let now = self.now(around);
        self.handle(now, Event::Settled { lane, records })?;
        if let Some(process) = &mut self.process {
            process.cycle.settled(now, &process.gateway);
        }
        self.work(around)
    }
}
