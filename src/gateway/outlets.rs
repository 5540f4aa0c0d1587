//! Where an output goes: to functions of this gateway that listen to its topic, and into the first lane that takes it.
//!
//! - An output that functions take goes into a lane only if the lane names it by more than a bare `#`: what is passed on inside
//!   the box is not sent upstream by accident.
//! - An output that nobody takes is counted as dropped, with its reason.

use super::message::{Chain, Course};
use super::routing::Routing;
use crate::books::{Books, DropReason};
use crate::effect::Release;
use crate::outbox::{Offer, Outbox};
use crate::record::{Record, RecordKind};
use crate::time::Now;
use crate::window::{Aggregate, MeterDef};

/// The parts of the gateway that take outputs, for the time of one invocation.
pub(super) struct Outlets<'a> {
    pub now: Now,
    pub outbox: &'a mut Outbox,
    pub books: &'a mut Books,
    pub routing: &'a Routing,
    pub hops_max: u8,
    pub chain: &'a mut Chain,
    pub course: &'a mut Course,
    pub releases: &'a mut Vec<Release>,
}

impl Outlets<'_> {
    /// Puts a function's output out.
    pub fn output(&mut self, source: &str, topic: &str, payload: &[u8], hops: u8) {
        let mut taken = false;
        self.routing.chain.find(topic, &mut |_| taken = true);
        if taken && (self.hops_max <= hops || !self.chain.push(topic, payload, hops + 1)) {
            self.course.hop_limited = true;
            return;
        }
        let Some(lane) = self.outbox.lane_for(topic, taken) else {
            if !taken {
                self.course.dropped = Some(DropReason::NoLane);
            }
            return;
        };
        let record = Record {
            kind: RecordKind::Message,
            closes_message: false,
            at_ms: self.now.wall_ms,
            quality: self.now.quality,
            hops,
            source,
            topic,
            payload,
        };
        match self.outbox.offer(lane, &record, self.books, self.releases) {
            Offer::Queued { lane, sequence, start } => self.course.newest = Some((lane, sequence, start)),
            Offer::NoLane => self.course.dropped = Some(DropReason::NoLane),
            Offer::NeverFits => self.course.dropped = Some(DropReason::TooLarge),
        }
    }
}

/// Where partial aggregates and usage records go: into the lane that takes their topic.
pub(super) struct Aggregates<'a> {
    pub now: Now,
    pub outbox: &'a mut Outbox,
    pub books: &'a mut Books,
    pub releases: &'a mut Vec<Release>,
    pub lost: &'a mut u64,
    /// Scratch.
    pub bytes: &'a mut Vec<u8>,
}

impl Aggregates<'_> {
    /// Puts one partial aggregate out, or counts it as lost: a configuration in which no lane takes it is warned about.
    pub fn put(&mut self, meter: &MeterDef, aggregate: &Aggregate<'_>) {
        self.bytes.clear();
        aggregate.encode(self.bytes);
        self.put_bytes(RecordKind::Aggregate, &meter.name, &meter.topic);
    }

    /// Puts out what is encoded in `bytes`.
    pub fn put_bytes(&mut self, kind: RecordKind, source: &str, topic: &str) {
        let record = Record {
            kind,
            closes_message: false,
            at_ms: self.now.wall_ms,
            quality: self.now.quality,
            hops: 0,
            source,
            topic,
            payload: self.bytes,
        };
        // `weir check` warns where no lane takes the topic; its values are acknowledged, so they go somewhere.
        let lane = self.outbox.lane_for(topic, false).or(Some(0));
        match lane.map(|lane| self.outbox.offer(lane, &record, self.books, self.releases)) {
            Some(Offer::Queued { .. }) => {}
            Some(Offer::NoLane | Offer::NeverFits) | None => *self.lost += 1,
        }
    }
}
