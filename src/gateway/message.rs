//! The way of one message: duplicate or new, triggers, declarative filter, call, effects, chains, and its fate in the books.

use std::io::Write as _;

use super::apply::Failure;
use super::doubts::Doubts;
use super::routing::{Device, Listener, topic_level};
use super::{Gateway, scans::Scans};
use crate::books::{DropReason, Fate};
use crate::budget::costs;
use crate::config::{Qos, RetainedPolicy};
use crate::effect::{Ack, Effects};
use crate::event::{Message, Poison};
use crate::field::{FieldKind, Fields, Value};
use crate::function::{Invocation, Seed};
use crate::marks::Marks;
use crate::time::{Now, TimeQuality, WallMillis};
use crate::trigger::TriggerId;

/// Buffers that every message uses again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub scans: Scans,
    pub chain: Chain,
    matched: Vec<TriggerId>,
    device: Vec<u8>,
    current: Vec<u8>,
}

/// Outputs that functions of this gateway still have to take, first in, first out.
#[derive(Debug, Default)]
pub(super) struct Chain {
    bytes: Vec<u8>,
    items: Vec<ChainItem>,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct ChainItem {
    start: usize,
    topic_len: usize,
    end: usize,
    hops: u8,
}

/// Most outputs of one message that wait for functions of this gateway.
const CHAIN_ITEMS_MAX: usize = 256;

impl Chain {
    /// Forgets every output.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        self.next = 0;
    }

    /// False if the chain is full.
    pub fn push(&mut self, topic: &str, payload: &[u8], hops: u8) -> bool {
        let start = self.bytes.len();
        let end = start + topic.len() + payload.len();
        if self.items.len() == CHAIN_ITEMS_MAX || costs::CHAIN.as_usize() < end {
            return false;
        }
        self.bytes.extend_from_slice(topic.as_bytes());
        self.bytes.extend_from_slice(payload);
        self.items.push(ChainItem { start, topic_len: topic.len(), end, hops });
        true
    }

    /// Copies the next output into `into`: (length of its topic, hops).
    fn pop(&mut self, into: &mut Vec<u8>) -> Option<(usize, u8)> {
        let item = *self.items.get(self.next)?;
        self.next += 1;
        into.clear();
        into.extend_from_slice(&self.bytes[item.start..item.end]);
        Some((item.topic_len, item.hops))
    }
}

/// What one message, or one output on its way through a chain, looks like to triggers.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub hops: u8,
    pub qos: Qos,
    pub retained: bool,
    pub resubscribed: bool,
    /// When it first came, and how far that is to be trusted: a dead letter that is handled once more.
    pub arrived: Option<(WallMillis, TimeQuality)>,
    pub dup: bool,
}

/// One event's turn: what it is handled with, and what has become of it so far.
pub(super) struct Turn<'e> {
    pub now: Now,
    pub effects: &'e mut Effects,
    pub course: Course,
    /// Functions called so far: the number of the next call.
    calls: u32,
}

impl<'e> Turn<'e> {
    pub fn new(now: Now, effects: &'e mut Effects) -> Self {
        Self { now, effects, course: Course::default(), calls: 0 }
    }
}

/// What became of a message so far.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub failed: bool,
    /// An output could not go further down the chain.
    pub hop_limited: bool,
    pub absorbed: bool,
    pub dropped: Option<DropReason>,
    /// The newest record: lane, sequence, where it starts among the lane's staged bytes.
    pub newest: Option<(usize, u64, usize)>,
}

impl Course {
    /// What it comes to.
    pub const fn fate(&self) -> Fate {
        match self {
            Self { failed: true, .. } => Fate::DeadLettered,
            Self { newest: Some(_), .. } => Fate::Pending,
            Self { absorbed: true, .. } => Fate::Aggregated,
            Self { dropped: Some(reason), .. } => Fate::Dropped(*reason),
            _ => Fate::Filtered,
        }
    }
}

impl<'a> Job<'a> {
    /// The call that is due for the job, as far as no trigger has a say in it.
    fn invocation(&self, turn: &Turn<'_>, sequence: u64) -> Invocation<'a> {
        let (time_ms, quality) = self.arrived.unwrap_or((turn.now.wall_ms, turn.now.quality));
        Invocation {
            sequence,
            seed: Seed::OfCall(turn.calls),
            time_ms,
            quality,
            now_ms: turn.now.wall_ms,
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retained: self.retained,
            chained: 0 < self.hops,
            replayed: self.arrived.is_some(),
            ..Invocation::default()
        }
    }
}

impl Gateway {
    pub(super) fn on_message(&mut self, now: Now, message: &Message<'_>, effects: &mut Effects) {
        let hash = |message: &Message<'_>| Marks::hash(message.topic.as_bytes(), message.payload);
        let known = message.qos != Qos::AtMostOnce
            && self.is_known(message.qos, message.packet_id, message.dup, message.epoch, hash(message), effects);
        if known {
            return;
        }
        self.enter();
        let job = Job {
            topic: message.topic,
            payload: message.payload,
            hops: 0,
            qos: message.qos,
            retained: message.retained,
            resubscribed: message.resubscribed,
            arrived: None,
            dup: message.dup,
        };
        let mut turn = Turn::new(now, effects);
        if self.payload_max < message.payload.len() {
            let what = format!(
                "the payload has {} bytes; gateway.payload-max allows {}",
                message.payload.len(),
                self.payload_max
            );
            let invocation = job.invocation(&turn, self.books.received);
            self.dead_letter(&mut turn, None, Failure::new("too-large", &what), &invocation, 0);
        } else {
            let mut scratch = core::mem::take(&mut self.scratch);
            scratch.chain.clear();
            self.dispatch(&mut turn, &job, false, &mut scratch);
            self.run_chain(&mut turn, &mut scratch);
            self.scratch = scratch;
        }
        let course = turn.course;
        self.settle(&course);
    }

    pub(super) fn on_poison(&mut self, now: Now, poison: &Poison<'_>, effects: &mut Effects) {
        let hash = Marks::hash(poison.topic, &poison.size.to_le_bytes());
        let known = poison.qos != Qos::AtMostOnce
            && self.is_known(poison.qos, poison.packet_id, poison.dup, poison.epoch, hash, effects);
        if known {
            return;
        }
        self.enter();
        let topic = String::from_utf8_lossy(poison.topic);
        let job = Job {
            topic: &topic,
            payload: poison.payload,
            hops: 0,
            qos: poison.qos,
            retained: false,
            resubscribed: false,
            arrived: None,
            dup: poison.dup,
        };
        let mut turn = Turn::new(now, effects);
        let invocation = job.invocation(&turn, self.books.received);
        let failure = Failure { payload_len: Some(poison.payload_len), ..Failure::new("poison", poison.reason) };
        self.dead_letter(&mut turn, None, failure, &invocation, 0);
        let course = turn.course;
        self.settle(&course);
    }

    /// Whether an acknowledged publish has been handled before. Its acknowledgement is due either way, after the commit.
    fn is_known(&mut self, qos: Qos, packet_id: u16, dup: bool, epoch: u64, hash: u32, effects: &mut Effects) -> bool {
        self.dirty = true;
        effects.acks.push(Ack { epoch, packet_id, qos });
        if dup && self.marks.is_duplicate(packet_id, hash) {
            self.books.duplicates += 1;
            return true;
        }
        self.marks.add(packet_id, hash, dup);
        false
    }

    fn enter(&mut self) {
        self.books.received += 1;
        self.dirty = true;
    }

    pub(super) fn settle(&mut self, course: &Course) -> Fate {
        let fate = course.fate();
        if let (Fate::Pending, Some((lane, sequence, start))) = (fate, course.newest) {
            self.outbox.close_message(lane, sequence, start);
        }
        self.books.settle(fate);
        fate
    }

    /// Lets functions of this gateway take what others of it have put out, until nothing is left.
    pub(super) fn run_chain(&mut self, turn: &mut Turn<'_>, scratch: &mut Scratch) {
        let mut current = core::mem::take(&mut scratch.current);
        while let Some((topic_len, hops)) = scratch.chain.pop(&mut current) {
            let (topic, payload) = current.split_at(topic_len);
            let topic = core::str::from_utf8(topic).expect("a chain holds whole topics");
            let (qos, retained, resubscribed, dup) = (Qos::AtMostOnce, false, false, false);
            let job = Job { topic, payload, hops, qos, retained, resubscribed, dup, arrived: None };
            self.dispatch(turn, &job, true, scratch);
        }
        scratch.current = current;
    }

    /// Calls every function that wants the job, once: by the first of its triggers that takes it.
    fn dispatch(&mut self, turn: &mut Turn<'_>, job: &Job<'_>, chained: bool, scratch: &mut Scratch) {
        let mut matched = core::mem::take(&mut scratch.matched);
        matched.clear();
        let index = if chained { &self.routing.chain } else { &self.routing.broker };
        index.find(job.topic, &mut |id| matched.push(id));
        matched.sort_unstable();
        scratch.scans.forget();
        let mut rest = matched.as_slice();
        while let Some(first) = rest.first() {
            // Triggers are numbered function by function.
            let slot = self.routing.listeners[usize::from(*first)].slot;
            let count = rest.iter().take_while(|id| self.routing.listeners[usize::from(**id)].slot == slot).count();
            let (own, others) = rest.split_at(count);
            let mut turned_away = false;
            let taken = own.iter().any(|id| match self.wake(turn, usize::from(*id), job, scratch) {
                Wake::Taken => true,
                Wake::Filtered => {
                    turned_away = true;
                    false
                }
                Wake::Skipped => false,
            });
            self.slots[slot].filtered += u64::from(turned_away && !taken);
            rest = others;
        }
        scratch.matched = matched;
    }

    /// Calls one function for the job, if its trigger's policy and filter let it.
    pub(super) fn wake(&mut self, turn: &mut Turn<'_>, listener: usize, job: &Job<'_>, scratch: &mut Scratch) -> Wake {
        let now = turn.now;
        let listener = &self.routing.listeners[listener];
        let slot = listener.slot;
        let is_old = || job.resubscribed && !self.subscribed.is_new(listener.wish, job.dup);
        if job.retained && !takes_retained(listener.retained, is_old) {
            return Wake::Skipped;
        }
        let mut invocation = Invocation { codec: listener.codec, ..job.invocation(turn, self.books.received) };
        let fields = match scratch.scans.read(listener, &self.paths, job.payload) {
            Ok(fields) => fields,
            Err(malformed) => {
                let what = format!("malformed {:?} at byte {}: {}", listener.codec, malformed.at, malformed.what);
                self.dead_letter(turn, Some(slot), Failure::new("malformed", &what), &invocation, job.hops);
                return Wake::Taken;
            }
        };
        invocation.device = device_of(listener, job, fields, &mut scratch.device);
        if let Some(pattern) = &listener.pattern
            && !pattern.matches(fields, job.payload, job.topic, invocation.device)
        {
            return Wake::Filtered;
        }
        let slot_of = &mut self.slots[slot];
        let mut doubts = Doubts { slot, now, complaints: &mut self.complaints, effects: turn.effects };
        let doubted = doubts.time(listener, fields, self.future_skew_max_ms, &slot_of.name, &mut invocation);
        if doubted {
            // The device's clock and ours do not agree, so neither is to be trusted much.
            invocation.quality = invocation.quality.min(TimeQuality::Restored);
        }
        self.skewed += u64::from(doubted);
        slot_of.misfits += doubts.numbers(slot_of, fields, &invocation);
        turn.calls += 1;
        match self.slots[slot].call(&invocation, fields, self.stopwatch.as_mut(), self.tape.as_mut(), turn.effects) {
            Ok(verdict) => self.apply(turn, slot, verdict, &invocation, job.hops, &mut scratch.chain),
            Err(error) => {
                let what = error.to_string();
                self.dead_letter(turn, Some(slot), Failure::new(error.kind().name(), &what), &invocation, job.hops);
            }
        }
        Wake::Taken
    }
}

/// What a trigger did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Its function was called, or could not be.
    Taken,
    /// Its filter turned the message away.
    Filtered,
    /// It takes no such retained message.
    Skipped,
}

fn takes_retained(policy: RetainedPolicy, is_old: impl FnOnce() -> bool) -> bool {
    match policy {
        RetainedPolicy::Always => true,
        RetainedPolicy::SkipOnResubscribe => !is_old(),
        RetainedPolicy::Never => false,
    }
}

fn device_of<'a>(listener: &Listener, job: &Job<'a>, fields: &Fields, buffer: &'a mut Vec<u8>) -> &'a str {
    match listener.device {
        Device::Topic => job.topic,
        Device::TopicLevel(level) => topic_level(job.topic, level),
        Device::Field(path) => {
            device_name(fields.value(path), job.payload, buffer);
            core::str::from_utf8(buffer).unwrap_or("")
        }
    }
}

/// Longest name of a device that is read from a payload; a longer one is cut.
const DEVICE_BYTES_MAX: usize = 128;

/// The text of the field, or its whole number; nothing for any other value.
fn device_name(value: Value, payload: &[u8], name: &mut Vec<u8>) {
    name.clear();
    if let Some(number) = value.i64() {
        let _ = write!(name, "{number}");
    } else if value.kind() == FieldKind::String
        && let Some(text) = value.text_bytes(payload)
    {
        name.extend(text.take(DEVICE_BYTES_MAX));
    }
}
