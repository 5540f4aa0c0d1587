//! The virtual world: the real gateway and the real store between a modelled broker and a modelled upstream, on a disk in memory,
//! in virtual time, with everything that goes wrong drawn from one seed.
//!
//! - The same seed gives the same trace, byte for byte. A failing seed names itself, and its faults can be shrunk to those that
//!   matter ([`shrink`]).
//! - After every step: the books balance, no bound of the budget is passed, fuel is charged once, what is acknowledged is on
//!   flash. After every start: the disk holds the last commit. At the end, when all has come to rest: every message that was
//!   owed is where it belongs exactly once, upstream's sequences have no unexplained gap, its meters are the truth.
//!
//! `queue` is the plan of what happens, `schedule` what goes wrong; `site` and `guests` the configuration and functions;
//! `broker`, `wire`, `link`, `machine`, `process`, `sink` the parts; `ledger` what must be so, `checks` the comparison; `campaign`
//! runs many. A new fault is a variant of [`Fault`] and an arm in [`World::suffer`].

mod broker;
pub mod campaign;
mod checks;
mod clock;
pub mod command;
mod guests;
mod ledger;
mod link;
mod machine;
mod meter;
mod process;
mod queue;
mod schedule;
pub mod shrink;
mod sink;
mod site;
mod story;
#[cfg(test)]
mod tests;
mod windows;
mod wire;

use weir::config::MqttVersion;
use weir::store::mem_disk::Survival;

use crate::fleet::Fleet;
use crate::rng::Rng;
use crate::scenario::Scenario;

pub use checks::Broken;
pub use queue::Trace;
pub use schedule::{Case, Fault, Noticed, Planned};
pub use story::{Failure, Story};

use broker::{Broker, Style};
use clock::{Clocks, EPOCH_MS};
use ledger::Ledger;
use machine::{Around, End, Machine};
use queue::{Happening, Outgoing, Queue};
use schedule::Climate;
use sink::{Sinks, Wanted};
use site::Site;
use windows::Windows;
use wire::Wire;

/// Happenings after which a world is taken to run in circles.
const HAPPENINGS_MAX: u64 = 20_000_000;
/// After the last reading, this much virtual time may pass until everything is at rest.
const REST_US_MAX: u64 = 48 * 3600 * 1_000_000;
/// All troubles are over for so long when a disk that is still full is looked at.
const TIGHT_PATIENCE_US: u64 = 600 * 1_000_000;
/// A connection from which nothing comes is given up after this.
const SILENCE_US: u64 = 4_000_000;

/// Runs the world of `seed` to its end.
pub fn run(seed: u64) -> Result<Story, Box<Failure>> {
    watch(seed, None, &mut |_, _| {})
}

/// Runs the world of `seed`, with `schedule` in place of its own faults, and tells `watcher` everything that happens: (virtual
/// microseconds, what).
pub fn watch(
    seed: u64,
    schedule: Option<&[Planned]>,
    watcher: &mut dyn FnMut(u64, &str),
) -> Result<Story, Box<Failure>> {
    let mut world = World::draw(seed);
    if let Some(schedule) = schedule {
        schedule.clone_into(&mut world.schedule);
    }
    let outcome = world.live(watcher);
    outcome.map_err(|broken| {
        Box::new(Failure {
            seed,
            at_us: world.queue.now_us(),
            broken,
            schedule: world.schedule.clone(),
            site: world.machine.site.text(),
        })
    })
}

/// The faults that `seed` draws.
#[must_use]
pub fn schedule(seed: u64) -> Vec<Planned> {
    World::draw(seed).schedule
}

struct World {
    seed: u64,
    rng: Rng,
    queue: Queue,
    fleet: Fleet,
    published: u64,
    broker: Broker,
    wire: Wire,
    machine: Machine,
    ledger: Ledger,
    sinks: Sinks,
    windows: Windows,
    /// The time of readings and faults ends here.
    end_us: u64,
    is_over: bool,
    happenings: u64,
    schedule: Vec<Planned>,
    /// The clock was wrong at some time.
    was_moved: bool,
    /// The disk has so many bytes, and gets no more before the end.
    tight: Option<u64>,
}

impl World {
    fn draw(seed: u64) -> Self {
        let mut rng = Rng::fork(seed, 0);
        let is_long = rng.chance(0.12);
        let span_ms = if is_long { 3_600_000 * (1 + rng.below(96)) } else { 1000 * (2 + rng.below(12)) };
        let end_us = span_ms * 1000;
        let climate = Climate { clocks: rng.chance(0.3), flips: rng.chance(0.15), sessions: rng.chance(0.3) };
        let site = Site::draw(&mut rng, &mut Rng::fork(seed, 5), end_us, is_long);
        let scenario = draw_scenario(&mut rng, span_ms, is_long);
        // What was thought of later has chance of its own, so that the others stay what they were.
        let mut late = Rng::fork(seed, 5);
        let latency = |rng: &mut Rng| [100, 2_000, 50_000, 300_000][rng.below(4) as usize];
        let style = Style {
            is_v5: site.config.broker.version == MqttVersion::V5,
            ids_go_round: rng.chance(0.5),
            in_flight_max: [20, 100][rng.below(2) as usize],
            again_max: [1, 4, u16::MAX, u16::MAX][late.below(4) as usize],
        };
        let granted = site.granted(&mut late);
        let clocks = Clocks::new(!climate.clocks || rng.chance(0.5), rng.chance(0.5));
        let (broker_us, upstream_us) = (latency(&mut rng), latency(&mut rng));
        let confirm_after_us = [20_000, 2_000_000][rng.below(2) as usize];
        Self {
            seed,
            queue: Queue::default(),
            fleet: Fleet::new(&scenario, seed, EPOCH_MS),
            published: 0,
            broker: Broker::new(style, granted, site.config.broker.in_flight),
            wire: Wire::new(Rng::fork(seed, 1), broker_us),
            machine: Machine::new(site, clocks, confirm_after_us),
            ledger: Ledger::default(),
            sinks: Sinks::new(Rng::fork(seed, 2), upstream_us),
            windows: Windows::default(),
            end_us,
            is_over: false,
            happenings: 0,
            schedule: schedule::draw(&mut Rng::fork(seed, 3), climate, end_us),
            was_moved: false,
            tight: None,
            rng: Rng::fork(seed, 4),
        }
    }

    fn live(&mut self, watcher: &mut dyn FnMut(u64, &str)) -> Result<Story, Broken> {
        for planned in self.schedule.clone() {
            self.queue.at(planned.at_us, Happening::Fault(planned.fault));
        }
        self.queue.after(0, Happening::Boot { boot: 0 });
        // Something happens at the end, whatever else does.
        self.queue.at(self.end_us, Happening::DiskRoom);
        self.plan_publish();
        self.rest(watcher)?;
        self.check_end()?;
        // What is true must be true for the next process as well.
        self.end_process(None);
        self.rest(watcher)?;
        self.check_end()?;
        Ok(self.story())
    }

    fn check_end(&mut self) -> Result<(), Broken> {
        let Self { machine, ledger, sinks, windows, was_moved, queue, .. } = self;
        let end = checks::End { ledger, upstream: &sinks.upstream, windows, was_moved: *was_moved };
        checks::end(machine, queue.now_us(), &end)
    }

    /// Lets happen what happens until nothing waits anywhere.
    fn rest(&mut self, watcher: &mut dyn FnMut(u64, &str)) -> Result<(), Broken> {
        while let Some(happening) = self.queue.pop() {
            watcher(self.queue.now_us(), self.queue.text());
            self.happenings += 1;
            let now_us = self.queue.now_us();
            if HAPPENINGS_MAX < self.happenings || self.end_us + REST_US_MAX < now_us {
                return Err(Broken::new(format!("does not come to rest: {}", self.unrest())));
            }
            if self.end_us <= now_us && !self.is_over && self.machine.asleep_until_us <= now_us {
                self.make_whole();
            }
            let outcome = self.happen(happening);
            self.wire.flush(&mut self.queue);
            match outcome {
                Ok(()) => {}
                Err(End::Died(reason)) => {
                    watcher(now_us, &format!("the process ends itself: {reason}"));
                    self.die();
                }
                Err(End::Broken(broken)) => return Err(broken),
            }
            if self.is_at_rest() {
                return Ok(());
            }
        }
        Err(Broken::new(format!("nothing happens any more: {}", self.unrest())))
    }

    /// Everything that is still broken is whole again at the end.
    fn make_whole(&mut self) {
        self.is_over = true;
        self.give_room();
        self.queue.after(self.end_us / 3 + TIGHT_PATIENCE_US, Happening::DiskGrows);
        if self.was_moved {
            self.machine.clocks.set(self.queue.now_us());
        }
        self.queue.after(0, Happening::DiskRoom);
        self.queue.after(0, Happening::UpstreamOver);
        if self.machine.site.has_beat {
            self.machine.site.config = self.machine.site.quiet.clone();
            self.end_process(None);
        }
    }

    /// Whatever filled the disk is gone, unless it is to stay full.
    fn give_room(&self) {
        self.machine.disk.set_capacity(self.tight.unwrap_or(u64::MAX));
    }

    fn is_at_rest(&mut self) -> bool {
        self.is_over
            && self.broker.is_idle()
            && self.machine.process.as_ref().is_some_and(|process| process.link.is_connected())
            && self.records_pending() == 0
            && self.fleet.next_due_us().is_none()
            && self.machine.is_idle()
    }

    /// Records that a sink should deliver.
    fn records_pending(&self) -> u64 {
        let lanes = self.machine.gateway().map_or(&[][..], |gateway| gateway.outbox().lanes());
        let sunk = lanes.iter().filter(|lane| lane.config().sink.is_some());
        sunk.map(|lane| lane.records_pending()).sum()
    }

    fn unrest(&self) -> String {
        format!(
            "broker idle {}, machine idle {}, {} records pending, blocked {:?}",
            self.broker.is_idle(),
            self.machine.is_idle(),
            self.records_pending(),
            self.machine.gateway().map(weir::gateway::Gateway::is_blocked),
        )
    }

    fn happen(&mut self, happening: Happening) -> Result<(), End> {
        let now_us = self.queue.now_us();
        if now_us < self.machine.asleep_until_us && happening.is_of_the_machine() {
            self.queue.at(self.machine.asleep_until_us, happening);
            return Ok(());
        }
        let Self { queue, rng, wire, broker, machine, sinks, ledger, .. } = self;
        let runs = |boot: u64, machine: &Machine| boot == machine.boot && machine.process.is_some();
        let linked = |conn: u64, machine: &Machine| {
            machine.process.as_ref().is_some_and(|process| process.link.conn() == Some(conn))
        };
        let mut around = Around { queue, rng, wire, ledger };
        match happening {
            Happening::Publish => self.publish(),
            Happening::Boot { boot } if boot == machine.boot => {
                machine.start(&mut around)?;
                if sinks.is_up(now_us) {
                    queue.after(0, Happening::Upstream { boot, is_up: true });
                }
            }
            Happening::Upstream { boot, is_up } if runs(boot, machine) => machine.upstream(is_up, &mut around)?,
            Happening::Wake { boot } if runs(boot, machine) => machine.wake(&mut around)?,
            Happening::Written { boot } if runs(boot, machine) => machine.written(&mut around)?,
            Happening::Idle { boot } if runs(boot, machine) => machine.idle(&mut around)?,
            Happening::Connect { boot } if runs(boot, machine) => self.connect(),
            Happening::Confirm { conn } if linked(conn, machine) => {
                if let Some(process) = &mut machine.process {
                    process.link.confirm(conn, around.wire);
                    process.link.plan_confirm(around.queue);
                }
            }
            Happening::Silence { conn } if linked(conn, machine) && !wire_carries(around.wire, conn) => {
                self.link_lost(Noticed::Gateway);
            }
            Happening::Down { conn, packet } if wire_carries(around.wire, conn) && linked(conn, machine) => {
                machine.arrive(packet, &mut around)?;
            }
            Happening::Up { conn, packet } if wire_carries(around.wire, conn) => {
                let is_up = broker.down_until_us <= now_us;
                if is_up || packet != Outgoing::Connect {
                    broker.take(conn, packet, ledger, wire)?;
                }
            }
            Happening::Drain { boot, lane } if runs(boot, machine) => self.drain(lane)?,
            Happening::Deliver { session, lane, sequence } => self.deliver(session, lane, sequence),
            Happening::Answer { session, lane, sequence, answer } => {
                let settled = sinks.answered(session, (lane, sequence), answer, machine.boot, around.queue);
                if !settled.is_empty() {
                    machine.settle(lane, &settled, &mut around)?;
                    queue.after(0, Happening::Drain { boot: machine.boot, lane });
                }
            }
            Happening::UpstreamOver => {
                sinks.break_connection();
                let boot = machine.boot;
                queue.after(0, Happening::Upstream { boot, is_up: false });
                if sinks.is_up(now_us) {
                    queue.after(0, Happening::Upstream { boot, is_up: true });
                }
            }
            Happening::DiskRoom => self.give_room(),
            Happening::DiskGrows => {
                machine.check_let_go()?;
                self.tight = None;
                self.give_room();
            }
            Happening::Fault(fault) => self.suffer(fault),
            _ => {}
        }
        Ok(())
    }

    fn plan_publish(&mut self) {
        if let Some(due_us) = self.fleet.next_due_us() {
            self.queue.at(due_us, Happening::Publish);
        }
    }

    fn publish(&mut self) {
        if let Some(message) = self.fleet.next() {
            self.published += 1;
            self.broker.publish(message, &mut self.ledger, &mut self.wire);
        }
        self.plan_publish();
    }

    fn connect(&mut self) {
        let Some(process) = &mut self.machine.process else { return };
        if process.link.conn().is_none() {
            let conn = self.wire.open();
            process.link.connect(conn, &mut self.wire);
            // A CONNECT that nobody answers, and a connection that dies without a word, are given up.
            self.queue.after(SILENCE_US, Happening::Silence { conn });
            if self.queue.now_us() < self.broker.down_until_us {
                self.link_lost(Noticed::Gateway);
            }
        }
    }

    fn deliver(&mut self, session: u64, lane: usize, sequence: u64) {
        if let Some(document) = self.sinks.deliver(session, lane, sequence, &mut self.queue) {
            self.windows.take(&document);
        }
    }

    fn drain(&mut self, lane: usize) -> Result<(), End> {
        let Some(gateway) = self.machine.gateway() else { return Ok(()) };
        let its = &gateway.outbox().lanes()[lane];
        if its.config().sink.is_none() {
            return Ok(());
        }
        let (name, live) = (its.config().name.clone(), its.live());
        let mut is_more = false;
        for Wanted { from, end, room } in self.sinks.wants(lane, live, self.queue.now_us()).into_iter().flatten() {
            let bytes_max = 1 + self.rng.below(8192) as usize;
            let Self { queue, rng, wire, machine, ledger, .. } = self;
            let records = machine.read(lane, from..end, bytes_max, &mut Around { queue, rng, wire, ledger })?;
            for (sequence, closes_message, bytes) in records.iter().take(room) {
                let record = (*sequence, *closes_message, bytes.as_slice());
                self.sinks.send(lane, &name, record, &mut self.queue);
            }
            is_more |= !records.is_empty();
        }
        if is_more {
            self.queue.after(0, Happening::Drain { boot: self.machine.boot, lane });
        }
        Ok(())
    }

    fn suffer(&mut self, fault: Fault) {
        let now_us = self.queue.now_us();
        let runs = self.machine.process.is_some();
        self.was_moved |= fault.moves_time();
        match fault {
            Fault::Kill if runs => self.end_process(None),
            Fault::PowerCut(survival, seed) if runs => self.end_process(Some((survival, seed))),
            Fault::Kill | Fault::PowerCut(..) => {}
            Fault::PowerCutAt(step, survival, seed) => {
                self.machine.disk.cut_at(step);
                self.machine.cut = (survival, seed);
            }
            Fault::LinkCut(noticed) => self.link_lost(noticed),
            Fault::BrokerDown { for_us, forgets } => {
                self.broker.down_until_us = self.broker.down_until_us.max(now_us + for_us);
                self.broker.go_down(forgets, &mut self.ledger);
                self.link_lost(Noticed::Both);
            }
            Fault::TakeOver { takes } => {
                self.broker.take_over(takes, &mut self.ledger);
                self.link_lost(Noticed::Both);
            }
            Fault::DiskFull { room, for_us } => {
                self.machine.disk.set_capacity(self.machine.disk.used() + room);
                self.queue.after(for_us, Happening::DiskRoom);
            }
            Fault::DiskTight(room) => {
                self.tight = Some(self.machine.disk.used() + room);
                self.give_room();
            }
            Fault::WriteFails(nth) => self.machine.disk.fail_write(nth),
            Fault::SyncFails(nth) => self.machine.disk.fail_sync(nth),
            Fault::ReadsFail(times) => self.machine.disk.fail_reads("", 0..usize::MAX, times),
            Fault::Flip(pick) => self.machine.flip(pick),
            Fault::ClockStep(by_ms) => self.machine.clocks.step(now_us, by_ms),
            Fault::ClockDrift(ppm) => self.machine.clocks.drift(now_us, ppm),
            Fault::ClockLost => self.machine.clocks.lose(now_us),
            Fault::ClockSet => self.machine.clocks.set(now_us),
            Fault::Suspend(for_us) => {
                if self.machine.asleep_until_us <= now_us {
                    self.machine.asleep_until_us = now_us + for_us;
                    // No connection outlives a sleep.
                    self.queue.after(for_us, Happening::UpstreamOver);
                }
            }
            Fault::UpstreamDown(_)
            | Fault::UpstreamLost
            | Fault::UpstreamVoid(_)
            | Fault::UpstreamSlow(_)
            | Fault::UpstreamRefuses { .. }
            | Fault::UpstreamTwice(_) => {
                self.sinks.suffer(fault, &mut self.queue);
                if !self.sinks.is_up(now_us) {
                    self.queue.after(0, Happening::Upstream { boot: self.machine.boot, is_up: false });
                }
            }
        }
    }

    /// The connection to the broker is gone; whoever notices acts.
    fn link_lost(&mut self, noticed: Noticed) {
        self.wire.sever();
        if noticed != Noticed::Gateway {
            self.broker.disconnected();
        }
        let away_us = self.broker.down_until_us.saturating_sub(self.queue.now_us());
        let delay_us = [1_000, 50_000, 3_000_000][self.rng.below(3) as usize].max(away_us / 20);
        let boot = self.machine.boot;
        let Some(process) = &mut self.machine.process else { return };
        let Some(conn) = process.link.conn() else { return };
        if noticed == Noticed::Broker {
            self.queue.after(delay_us, Happening::Silence { conn });
        } else {
            process.link.disconnected();
            self.queue.after(delay_us, Happening::Connect { boot });
        }
    }

    /// The disk failed under the process, for want of power or by an injected error.
    fn die(&mut self) {
        let survival = self.machine.disk.is_down().then_some(self.machine.cut);
        self.end_process(survival);
    }

    fn end_process(&mut self, survival: Option<(Survival, u64)>) {
        self.machine.stop(survival, &mut self.ledger);
        self.wire.sever();
        if survival.is_none() {
            // The kernel closes the sockets of a dead process; a dead machine closes nothing.
            self.broker.disconnected();
        } else if self.machine.clocks.power_cut(self.queue.now_us()) {
            self.was_moved = true;
            if self.is_over {
                self.machine.clocks.set(self.queue.now_us());
            }
        }
        self.sinks.break_connection();
        let delay_us = 1000 + self.rng.below(5_000_000);
        self.queue.after(delay_us, Happening::Boot { boot: self.machine.boot });
    }
}

const fn wire_carries(wire: &Wire, conn: u64) -> bool {
    wire.carries(conn)
}

/// Fleets of thermometers at QoS 0, 1 and 2, with everything that devices do wrong.
fn draw_scenario(rng: &mut Rng, span_ms: u64, is_long: bool) -> Scenario {
    let mut text = format!("name = \"world\"\nduration = \"{span_ms} ms\"\n");
    for (name, qos, devices_max) in [("a", 1, 6), ("b", 2, 6), ("c", 0, 3)] {
        if qos == 0 && rng.chance(0.5) {
            continue;
        }
        let interval_ms = if is_long { span_ms / (10 + rng.below(40)) } else { [50, 200, 1000][rng.below(3) as usize] };
        let rate = |rng: &mut Rng| [0.0, 0.01, 0.1][rng.below(3) as usize];
        text += &format!(
            "[[fleet]]\nname = \"{name}\"\nmodel = \"temperature\"\ndevices = {}\ntopic = \"site/{{device}}/temp\"\n\
             interval = \"{interval_ms} ms\"\njitter = 0.5\nqos = {qos}\nretain = {}\nmeter = \"{}\"\nbase = 52.0\nswing = 3.0\n\
             duplicate = {:?}\nlate = {:?}\nlate-by = \"{} s\"\nout-of-order = {:?}\nmalformed = {:?}\nwrong-type = {:?}\n\
             bad-time = {:?}\n",
            1 + rng.below(devices_max),
            rng.chance(0.3),
            guests::TEMP,
            rate(rng),
            rate(rng),
            1 + rng.below(60),
            rate(rng),
            rate(rng),
            rate(rng),
            rate(rng),
        );
    }
    Scenario::parse("world", &text).expect("a drawn scenario is without faults")
}
