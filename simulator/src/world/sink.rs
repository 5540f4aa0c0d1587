//! The modelled way upstream: a sink for each lane, a connection that breaks, and the upstream that adds up what arrives.
//!
//! - A window of records is on its way at once; a lane's records are settled in order, when upstream has answered them.
//! - After a broken connection everything unanswered is sent again: upstream sees records twice, never too few.
//! - Upstream may be away, slow, refuse, lose its own answers, or get everything twice.

use std::collections::{BTreeMap, VecDeque};

use weir::books::DropReason;
use weir::config::SinkFormat;
use weir::envelope::{self, Origin};
use weir::outbox::{Outcome, Settled};
use weir::record::Record;

use super::queue::{Answer, Happening, Queue};
use super::schedule::Fault;
use super::site::GATEWAY;
use crate::rng::Rng;
use crate::upstream::Upstream;

/// Records of a lane on their way.
const WINDOW: usize = 32;
/// A lane that was refused is tried again after this, and after twice as long each time, up to a minute.
const RETRY_US: (u64, u64) = (1_000_000, 60_000_000);
/// How much slower a slow upstream is.
const SLOW: u64 = 100;

/// All sinks, and upstream.
#[derive(Debug)]
pub struct Sinks {
    rng: Rng,
    lanes: BTreeMap<usize, Lane>,
    /// Number of the connection.
    session: u64,
    /// Records on their way, by (lane, sequence).
    on_the_way: BTreeMap<(usize, u64), Vec<u8>>,
    latency_us: u64,
    down_until_us: u64,
    void_until_us: u64,
    slow_until_us: u64,
    twice_until_us: u64,
    refuses_until_us: u64,
    refuses_for_good: bool,
    /// What arrived.
    pub upstream: Upstream,
    /// Records refused for good.
    pub refused: u64,
    /// Records sent ahead of a backlog.
    pub ahead: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// In order; and of live records, while a backlog lies before them.
    ways: [Way; 2],
    /// Where live records begin; 0 if none goes ahead.
    mark: u64,
    /// Upstream does not want it now.
    held_until_us: u64,
    pause_us: u64,
    /// Nothing of it may be given up.
    is_precious: bool,
}

#[derive(Debug, Default)]
struct Way {
    next: u64,
    window: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    sequence: u64,
    closes_message: bool,
    outcome: Option<Outcome>,
}

impl Lane {
    /// Begins to send live records ahead of the backlog, or ends it when the backlog is done.
    fn split_or_join(&mut self, live: Option<(u64, u64)>) {
        let [in_order, ahead] = &mut self.ways;
        match live {
            Some((mark, through)) if self.mark == 0 && in_order.next < mark => {
                self.mark = mark;
                *ahead = Way { next: through, window: VecDeque::new() };
            }
            _ if 0 < self.mark && in_order.window.is_empty() && (live.is_none() || self.mark <= in_order.next) => {
                self.mark = 0;
                *in_order = core::mem::take(ahead);
            }
            _ => {}
        }
    }

    fn way(&mut self, sequence: u64) -> &mut Way {
        &mut self.ways[usize::from(0 < self.mark && self.mark <= sequence)]
    }
}

/// What a sink may read now.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// From here,
    pub from: u64,
    /// to here,
    pub end: u64,
    /// and no more records than this.
    pub room: usize,
}

impl Sinks {
    /// Nothing sent yet; records take some `latency_us` each way.
    #[must_use]
    pub fn new(rng: Rng, latency_us: u64) -> Self {
        Self {
            rng,
            lanes: BTreeMap::new(),
            session: 0,
            on_the_way: BTreeMap::new(),
            latency_us,
            down_until_us: 0,
            void_until_us: 0,
            slow_until_us: 0,
            twice_until_us: 0,
            refuses_until_us: 0,
            refuses_for_good: false,
            upstream: Upstream::default(),
            refused: 0,
            ahead: 0,
        }
    }

    /// The connection breaks; with it goes what is on its way, but what has arrived has arrived.
    pub fn break_connection(&mut self) {
        self.session += 1;
        self.lanes.clear();
        self.on_the_way.clear();
    }

    /// Something is wrong upstream.
    pub fn suffer(&mut self, fault: Fault, queue: &mut Queue) {
        let now_us = queue.now_us();
        let mut until = |for_us: u64| {
            queue.after(for_us, Happening::UpstreamOver);
            now_us + for_us
        };
        match fault {
            Fault::UpstreamDown(for_us) => {
                self.down_until_us = self.down_until_us.max(until(for_us));
                self.break_connection();
            }
            Fault::UpstreamLost => {
                until(0);
            }
            Fault::UpstreamVoid(for_us) => self.void_until_us = self.void_until_us.max(until(for_us)),
            Fault::UpstreamSlow(for_us) => self.slow_until_us = self.slow_until_us.max(until(for_us)),
            Fault::UpstreamTwice(for_us) => self.twice_until_us = self.twice_until_us.max(until(for_us)),
            Fault::UpstreamRefuses { for_us, for_good } => {
                self.refuses_until_us = self.refuses_until_us.max(until(for_us));
                self.refuses_for_good = for_good;
            }
            _ => {}
        }
    }

    /// Whether there is a connection.
    #[must_use]
    pub const fn is_up(&self, now_us: u64) -> bool {
        self.down_until_us <= now_us
    }

    /// What the lane's sink reads on: live records, and in order. `live`: where they begin, and the first that is owed.
    pub fn wants(&mut self, lane: usize, live: Option<(u64, u64)>, now_us: u64) -> [Option<Wanted>; 2] {
        let is_up = self.is_up(now_us);
        let lane = self.lanes.entry(lane).or_default();
        lane.split_or_join(live);
        if !is_up || now_us < lane.held_until_us {
            return [None, None];
        }
        let wanted = |way: &Way, end| {
            let room = WINDOW - way.window.len();
            (0 < room).then_some(Wanted { from: way.next, end, room })
        };
        match lane.mark {
            0 => [None, wanted(&lane.ways[0], u64::MAX)],
            mark => [wanted(&lane.ways[1], u64::MAX), wanted(&lane.ways[0], mark)],
        }
    }

    /// Sends one record.
    pub fn send(
        &mut self,
        lane: usize,
        name: &str,
        (sequence, closes_message, bytes): (u64, bool, &[u8]),
        queue: &mut Queue,
    ) {
        let Some(record) = Record::take(&mut &*bytes) else { return };
        let mut document = Vec::new();
        envelope::write(
            SinkFormat::Json,
            Origin { gateway: GATEWAY, lane: name, seq: sequence },
            &record,
            &mut document,
        );
        queue.note(&document);
        self.on_the_way.insert((lane, sequence), document);
        let own = self.lanes.entry(lane).or_default();
        own.is_precious = name == "meters";
        self.ahead += u64::from(0 < own.mark && own.mark <= sequence);
        let way = own.way(sequence);
        way.window.push_back(Sent { sequence, closes_message, outcome: None });
        way.next = sequence + 1;
        let delay_us = self.delay_us(queue);
        queue.after(delay_us, Happening::Deliver { session: self.session, lane, sequence });
    }

    fn delay_us(&mut self, queue: &Queue) -> u64 {
        let factor = if queue.now_us() < self.slow_until_us { SLOW } else { 1 };
        (self.latency_us / 2 + self.rng.below(self.latency_us + 1)) * factor
    }

    /// A record arrives upstream: its document, if it was not there before.
    pub fn deliver(&mut self, session: u64, lane: usize, sequence: u64, queue: &mut Queue) -> Option<Vec<u8>> {
        let now_us = queue.now_us();
        if session != self.session || now_us < self.down_until_us {
            return None;
        }
        let document = self.on_the_way.remove(&(lane, sequence))?;
        let is_precious = self.lanes.get(&lane).is_some_and(|lane| lane.is_precious);
        let answer = match (now_us < self.refuses_until_us, self.refuses_for_good && !is_precious) {
            (false, _) => Answer::Taken,
            (true, true) => Answer::Never,
            (true, false) => Answer::NotNow,
        };
        let is_new = answer == Answer::Taken && self.upstream.take(&document);
        if answer == Answer::Taken && now_us < self.twice_until_us {
            self.upstream.take(&document);
        }
        if self.void_until_us <= now_us {
            let delay_us = self.delay_us(queue);
            queue.after(delay_us, Happening::Answer { session, lane, sequence, answer });
        }
        is_new.then_some(document)
    }

    /// An answer arrives at the sink: what is settled by it, in order.
    pub fn answered(
        &mut self,
        session: u64,
        (index, sequence): (usize, u64),
        answer: Answer,
        boot: u64,
        queue: &mut Queue,
    ) -> Vec<Settled> {
        let mut settled = Vec::new();
        if session != self.session {
            return settled;
        }
        let Some(lane) = self.lanes.get_mut(&index) else { return settled };
        let outcome = match answer {
            Answer::Taken => {
                lane.pause_us = 0;
                Outcome::Delivered
            }
            Answer::Never => {
                self.refused += 1;
                Outcome::Dropped(DropReason::Undeliverable)
            }
            Answer::NotNow => {
                // Sent again later, from the first that is not done.
                if lane.ways.iter().any(|way| !way.window.is_empty()) {
                    for way in &mut lane.ways {
                        way.next = way.window.front().map_or(way.next, |first| first.sequence);
                        way.window.clear();
                    }
                    lane.pause_us = (lane.pause_us * 2).clamp(RETRY_US.0, RETRY_US.1);
                    lane.held_until_us = queue.now_us() + lane.pause_us;
                    self.on_the_way.retain(|(lane, _), _| *lane != index);
                    queue.after(lane.pause_us, Happening::Drain { boot, lane: index });
                }
                return settled;
            }
        };
        let way = lane.way(sequence);
        if let Some(sent) = way.window.iter_mut().find(|sent| sent.sequence == sequence) {
            sent.outcome = Some(outcome);
        }
        while let Some(Sent { sequence, closes_message, outcome: Some(outcome) }) = way.window.front() {
            settled.push(Settled { sequence: *sequence, closes_message: *closes_message, outcome: *outcome });
            way.window.pop_front();
        }
        settled
    }
}
