//! The modelled way upstream: a sink for each lane, a connection that breaks, and the upstream that adds up what arrives.
//!
//! - A window of records is on its way at once; a lane's records are settled in order, when upstream has acknowledged them.
//! - After a broken connection everything unacknowledged is sent again: upstream sees records twice, never too few.

use std::collections::{BTreeMap, VecDeque};

use weir::config::SinkFormat;
use weir::envelope::{self, Origin};
use weir::outbox::{Outcome, Settled};
use weir::record::Record;

use super::queue::{Happening, Queue};
use super::site::GATEWAY;
use crate::rng::Rng;
use crate::upstream::Upstream;

/// Records of a lane on their way.
const WINDOW: usize = 32;

/// All sinks, and upstream.
#[derive(Debug)]
pub struct Sinks {
    lanes: BTreeMap<usize, Lane>,
    /// Number of the connection.
    session: u64,
    is_up: bool,
    /// Records on their way, by (lane, sequence).
    on_the_way: BTreeMap<(usize, u64), Vec<u8>>,
    latency_us: u64,
    /// What arrived.
    pub upstream: Upstream,
}

#[derive(Debug, Default)]
struct Lane {
    next: u64,
    window: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    sequence: u64,
    closes_message: bool,
    acknowledged: bool,
}

impl Sinks {
    /// Nothing sent yet; records take some `latency_us` each way.
    #[must_use]
    pub fn new(latency_us: u64) -> Self {
        let (lanes, on_the_way, upstream) = (BTreeMap::new(), BTreeMap::new(), Upstream::default());
        Self { lanes, session: 0, is_up: true, on_the_way, latency_us, upstream }
    }

    /// The connection breaks; with it goes what is on its way, but what has arrived has arrived.
    pub fn break_connection(&mut self) {
        self.session += 1;
        self.lanes.clear();
        self.on_the_way.clear();
    }

    /// Upstream goes away or comes back.
    pub fn set_up(&mut self, is_up: bool) {
        self.is_up = is_up;
        self.break_connection();
    }

    /// From where the lane's sink reads on, and how many it may read; `None`: not now.
    #[must_use]
    pub fn wants(&self, lane: usize) -> Option<(u64, usize)> {
        let lane = self.lanes.get(&lane);
        let room = WINDOW - lane.map_or(0, |lane| lane.window.len());
        (self.is_up && room > 0).then(|| (lane.map_or(0, |lane| lane.next), room))
    }

    /// Sends one record.
    pub fn send(
        &mut self,
        lane: usize,
        name: &str,
        (sequence, closes_message, bytes): (u64, bool, &[u8]),
        queue: &mut Queue,
        rng: &mut Rng,
    ) {
        let Some(record) = Record::take(&mut &*bytes) else { return };
        let mut document = Vec::new();
        envelope::write(
            SinkFormat::Json,
            Origin { gateway: GATEWAY, lane: name, seq: sequence },
            &record,
            &mut document,
        );
        self.on_the_way.insert((lane, sequence), document);
        let own = self.lanes.entry(lane).or_default();
        own.window.push_back(Sent { sequence, closes_message, acknowledged: false });
        own.next = sequence + 1;
        let delay_us = self.latency_us / 2 + rng.below(self.latency_us + 1);
        queue.after(delay_us, Happening::Deliver { session: self.session, lane, sequence });
    }

    /// A record arrives upstream.
    pub fn deliver(&mut self, session: u64, lane: usize, sequence: u64, queue: &mut Queue, rng: &mut Rng) {
        if session != self.session || !self.is_up {
            return;
        }
        if let Some(document) = self.on_the_way.remove(&(lane, sequence)) {
            self.upstream.take(&document);
            let delay_us = self.latency_us / 2 + rng.below(self.latency_us + 1);
            queue.after(delay_us, Happening::Delivered { session, lane, sequence });
        }
    }

    /// An acknowledgement arrives at the sink: what is settled by it, in order.
    pub fn acknowledged(&mut self, session: u64, lane: usize, sequence: u64) -> Vec<Settled> {
        let mut settled = Vec::new();
        if session != self.session {
            return settled;
        }
        let Some(lane) = self.lanes.get_mut(&lane) else { return settled };
        if let Some(sent) = lane.window.iter_mut().find(|sent| sent.sequence == sequence) {
            sent.acknowledged = true;
        }
        while lane.window.front().is_some_and(|sent| sent.acknowledged) {
            let Some(Sent { sequence, closes_message, .. }) = lane.window.pop_front() else { break };
            settled.push(Settled { sequence, closes_message, outcome: Outcome::Delivered });
        }
        settled
    }
}
