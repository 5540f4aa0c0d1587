//! The MQTT sink: records as QoS 1 publishes on `PREFIX/GATEWAY/LANE/TOPIC`, a window of them on their way.
//!
//! - A record is delivered when its PUBACK says so; what has none when the connection ends is sent again by the next one.
//! - A refusal that may pass (not authorised, quota) holds its lane back and is tried again, with growing pauses. One that
//!   cannot pass (too large for the broker, no valid topic) settles the record as undeliverable.
//! - A lane that drains live first has two windows while its backlog lasts: live records go ahead, and every
//!   [`BACKLOG_SHARE`]th is one of the backlog.
//! - The record's topic follows the lane; a record without one is published on `PREFIX/GATEWAY/LANE`.

use core::time::Duration;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::pace::Pace;
use super::window::Window;
use super::{
    Encode, LaneEnd, LaneEnds, Outcome, READ_MAX, Records, Settled, Sink, SinkEvent, SinkLane, SinkStatus,
    UNDELIVERABLE, tell_upstream,
};
use crate::backoff::{Backoff, Complaint};
use crate::config::MqttConnection;
use crate::record::Record;
use crate::shell::mqtt::SharedStatus;
use crate::shell::mqtt::connect::Memory;
use crate::shell::mqtt::error::{LinkError, reason_name};
use crate::shell::mqtt::publisher::{PubAck, Publisher};
use crate::shell::mqtt::retry::Retry;
use crate::store::Batch;
use crate::topic::check_name;
use crate::units::Millis;

/// Time that is given to records on their way when the sink is told to end.
const GOODBYE: Duration = Duration::from_secs(1);
/// While live records go ahead, one in so many is of the backlog.
const BACKLOG_SHARE: u32 = 8;
/// A lane whose records cannot be read is tried again after this.
const READ_RETRY: Duration = Duration::from_secs(1);

/// What an MQTT sink is to do.
pub struct MqttSink {
    /// Name of the sink.
    pub name: String,
    /// The upstream broker.
    pub connection: MqttConnection,
    /// First levels of every topic.
    pub topic_prefix: String,
    /// The gateway's id.
    pub gateway: String,
    /// Records a second at most.
    pub rate_max: Option<u32>,
    /// Makes the payload.
    pub encode: Encode,
    /// Its lanes.
    pub lanes: Vec<SinkLane>,
    /// Heads and tails of all lanes.
    pub ends: Arc<LaneEnds>,
    /// Where deliveries are told.
    pub events: mpsc::Sender<SinkEvent>,
    /// For the jitter of reconnections.
    pub seed: u64,
}

/// Starts the sink on the current runtime. An upstream that is away is not an error.
#[must_use]
pub fn spawn<R: Records>(mut sink: MqttSink, records: Arc<R>) -> Sink {
    sink.lanes.sort_by_key(|lane| lane.priority);
    let (wake, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let status = Arc::new(Mutex::new(SinkStatus::default()));
    let link = Arc::new(SharedStatus::default());
    let lanes = sink.lanes.iter().map(|lane| Lane::new(lane, &sink)).collect();
    let runner = Runner {
        out: Out {
            lanes,
            slots: Slots::default(),
            held: [None, None],
            reading: None,
            spare: Vec::new(),
            topic: Vec::new(),
            payload: Vec::new(),
            pace: Pace::new(sink.rate_max, Instant::now()),
            unheard: Complaint::default(),
            started: Instant::now(),
            status: status.clone(),
            records,
            sink,
        },
        link: link.clone(),
        stop: stop.clone(),
        wake: wake.clone(),
    };
    Sink { wake, stop, status, link, task: tokio::spawn(runner.run()) }
}

struct Runner<R> {
    out: Out<R>,
    link: Arc<SharedStatus>,
    stop: Arc<Notify>,
    wake: Arc<Notify>,
}

/// Everything but the connection.
struct Out<R> {
    sink: MqttSink,
    records: Arc<R>,
    lanes: Vec<Lane>,
    slots: Slots,
    /// For records in order, and for live ones.
    held: [Option<Held>; 2],
    reading: Option<Reading>,
    spare: Vec<u8>,
    topic: Vec<u8>,
    payload: Vec<u8>,
    pace: Pace,
    unheard: Complaint<()>,
    started: Instant,
    status: Arc<Mutex<SinkStatus>>,
}

struct Lane {
    /// Index in the gateway.
    lane: usize,
    name: String,
    /// `PREFIX/GATEWAY/LANE/`.
    topic: String,
    window: Window,
    /// Where live records begin, and their window, while a backlog lies before them.
    live: Option<(u64, Window)>,
    /// The span of both.
    span: usize,
    /// Live records since the last one of the backlog.
    ahead: u32,
    in_flight: u32,
    /// Something was refused: no more until then, and then from the first that is not done.
    hold_until: Option<Instant>,
    backoff: Backoff,
    complaint: Complaint<u8>,
}

/// A batch that was read and is being sent.
struct Held {
    index: usize,
    next: u64,
    bytes: Vec<u8>,
    at: usize,
}

/// A read under way, of the lane with this index.
type Reading = Pin<Box<dyn Future<Output = ReadOutcome> + Send>>;
type ReadOutcome = (Want, Result<(Batch, Vec<u8>), String>);

/// The record that is to be sent next: the lane's index, whether it is a live one, its sequence.
type Want = (usize, bool, u64);

/// Packet ids, and the records that they stand for.
#[derive(Default)]
struct Slots {
    records: Vec<Option<(usize, u64)>>,
    free: Vec<u16>,
}

impl Slots {
    fn reset(&mut self, window: u16) {
        self.records.clear();
        self.records.resize(window.into(), None);
        self.free.clear();
        self.free.extend((0..window).rev());
    }

    /// The packet id that the next [`Slots::take`] gives.
    fn peek(&self) -> Option<u16> {
        self.free.last().map(|slot| slot + 1)
    }

    fn take(&mut self, index: usize, sequence: u64) {
        if let Some(slot) = self.free.pop() {
            self.records[usize::from(slot)] = Some((index, sequence));
        }
    }

    fn give_back(&mut self, packet_id: u16) -> Option<(usize, u64)> {
        let slot = packet_id.checked_sub(1)?;
        let record = self.records.get_mut(usize::from(slot))?.take()?;
        self.free.push(slot);
        Some(record)
    }

    fn are_all_free(&self) -> bool {
        self.free.len() == self.records.len()
    }
}

impl Lane {
    fn new(lane: &SinkLane, sink: &MqttSink) -> Self {
        let MqttSink { topic_prefix, gateway, seed, .. } = sink;
        Self {
            lane: lane.lane,
            name: lane.name.clone(),
            topic: format!("{topic_prefix}/{gateway}/{}/", lane.name),
            window: Window::new(lane.head_seq, 1),
            live: None,
            span: 1,
            ahead: 0,
            in_flight: 0,
            hold_until: None,
            backoff: Backoff::new(Millis(1000), Millis(60_000), seed ^ lane.lane as u64),
            complaint: Complaint::default(),
        }
    }

    /// Its next record that may go (committed, not held back, within the window), and whether it is a live one.
    fn next(&mut self, ends: &LaneEnds, now: Instant) -> Option<(bool, u64)> {
        if let Some(until) = self.hold_until {
            if now < until || self.in_flight > 0 {
                return None;
            }
            self.hold_until = None;
            self.rewind();
        }
        let LaneEnd { head, tail, mark, live } = ends.get(self.lane);
        if self.window.is_empty() && self.window.next() < head {
            self.window.jump(head);
        }
        self.split_or_join(mark, live);
        let end = self.live.as_ref().map_or(tail, |(mark, _)| *mark);
        let in_order = is_ready(&mut self.window, end).then_some((false, self.window.next()));
        let Some((_, window)) = &mut self.live else { return in_order };
        let live = is_ready(window, tail).then_some((true, window.next()));
        if BACKLOG_SHARE <= self.ahead + 1 { in_order.or(live) } else { live.or(in_order) }
    }

    /// Begins to send live records ahead of the backlog, or ends it when the backlog is done.
    fn split_or_join(&mut self, mark: u64, live: u64) {
        match self.live.take() {
            // What is settled is all before the mark; in order it goes on behind what was sent live.
            Some((mark, window)) if self.window.is_empty() && mark <= self.window.next() => self.window = window,
            None if self.window.next() < mark => self.live = Some((mark, Window::new(live.max(mark), self.span))),
            kept => self.live = kept,
        }
    }

    /// The window that a record belongs to.
    fn window_of(&mut self, sequence: u64) -> &mut Window {
        match &mut self.live {
            Some((mark, window)) if *mark <= sequence => window,
            _ => &mut self.window,
        }
    }

    fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        let live = self.live.as_mut().map(|(_, window)| window);
        core::iter::once(&mut self.window).chain(live)
    }

    /// Everything that is not done goes again.
    fn rewind(&mut self) {
        self.windows().for_each(Window::rewind);
    }
}

fn is_ready(window: &mut Window, end: u64) -> bool {
    while window.skip_done() {}
    window.next() < end && window.has_room()
}

impl<R: Records> Runner<R> {
    async fn run(mut self) {
        let mut memory = Memory::default();
        let mut retry = Retry::new(&format!("sink {}", self.out.sink.name), self.out.sink.seed);
        loop {
            let connection = self.out.sink.connection.clone();
            let stop = self.stop.clone();
            let (error, held) = tokio::select! {
                biased;
                () = stop.notified() => return,
                outcome = Publisher::connect(&connection, &mut memory, self.link.clone()) => match outcome {
                    Err(error) => (error, None),
                    Ok(publisher) => {
                        let begun = Instant::now();
                        match self.serve(publisher).await {
                            Ok(()) => return,
                            Err(error) => {
                                tell_upstream(&self.out.sink.lanes, &self.out.sink.events, false).await;
                                (error, Some(begun.elapsed()))
                            }
                        }
                    }
                }
            };
            let (pause, _) = retry.failed(error, held, &connection, &self.link);
            tokio::select! {
                biased;
                () = self.stop.notified() => return,
                () = retry.wait(pause) => {}
            }
        }
    }

    /// Delivers until the connection ends (`Err`) or the sink is told to end (`Ok`).
    async fn serve(&mut self, mut publisher: Publisher) -> Result<(), LinkError> {
        let MqttConnection { host, port, .. } = &self.out.sink.connection;
        let (name, version, window) = (&self.out.sink.name, publisher.version(), publisher.window);
        log::info!("sink {name}: connected to {host}:{port}, {version}, a window of {window}");
        self.out.begin(window);
        tell_upstream(&self.out.sink.lanes, &self.out.sink.events, true).await;
        let mut goodbye: Option<Instant> = None;
        loop {
            while let Some(ack) = publisher.next_ack()? {
                self.out.on_ack(ack);
            }
            self.out.tell().await;
            let now = Instant::now();
            let wake_at = match goodbye {
                Some(until) if until <= now || self.out.slots.are_all_free() => {
                    publisher.close().await;
                    return Ok(());
                }
                Some(until) => Some(until),
                None => self.out.fill(&mut publisher, now),
            };
            tokio::select! {
                biased;
                () = self.stop.notified() => goodbye = Some(Instant::now() + GOODBYE),
                read = next_read(&mut self.out.reading) => self.out.on_read(read).await,
                () = self.wake.notified() => {}
                result = publisher.turn(wake_at) => result?,
            }
        }
    }
}

/// Waits for the read under way, or for ever.
async fn next_read(reading: &mut Option<Reading>) -> ReadOutcome {
    match reading {
        Some(future) => {
            let outcome = future.await;
            *reading = None;
            outcome
        }
        None => core::future::pending().await,
    }
}

impl<R: Records> Out<R> {
    /// A new connection: everything unacknowledged goes again.
    fn begin(&mut self, window: u16) {
        self.slots.reset(window);
        self.held = [None, None];
        for lane in &mut self.lanes {
            lane.in_flight = 0;
            lane.hold_until = None;
            lane.span = window.into();
            lane.windows().for_each(|its| its.set_span(window.into()));
            lane.rewind();
        }
    }

    /// Publishes what may go; returns when to look again although nothing happened.
    fn fill(&mut self, publisher: &mut Publisher, now: Instant) -> Option<Instant> {
        while publisher.has_room() {
            if let Some(until) = self.pace.wait_until(now) {
                return Some(until);
            }
            let ends = &self.sink.ends;
            let mut lanes = self.lanes.iter_mut().enumerate();
            let wanted =
                lanes.find_map(|(index, lane)| lane.next(ends, now).map(|(is_live, next)| (index, is_live, next)));
            let Some(want) = wanted else { break };
            let (index, is_live, next) = want;
            match self.held[usize::from(is_live)].take() {
                Some(held) if (held.index, held.next) == (index, next) && held.at < held.bytes.len() => {
                    self.lanes[index].ahead = if is_live { self.lanes[index].ahead + 1 } else { 0 };
                    self.held[usize::from(is_live)] = self.publish(publisher, held);
                    self.pace.pass(now);
                }
                // Records of a lane that goes first have come, or this batch is spent: read on elsewhere.
                held => {
                    if let Some(held) = held {
                        self.spare = held.bytes;
                    }
                    self.read(want);
                    break;
                }
            }
        }
        // A hold that is over waits for room, not for time.
        self.lanes.iter().filter_map(|lane| lane.hold_until).filter(|until| now < *until).min()
    }

    /// Sends the first record of the batch, or settles it as undeliverable.
    fn publish(&mut self, publisher: &mut Publisher, mut held: Held) -> Option<Held> {
        let lane = &mut self.lanes[held.index];
        let sequence = held.next;
        let mut rest = &held.bytes[held.at..];
        let taken = Record::take(&mut rest);
        let at = held.bytes.len() - rest.len();
        let Some(record) = taken else {
            log::error!("sink {}: record {sequence} of lane {} cannot be read", self.sink.name, lane.name);
            lane.window_of(sequence).push(false, Some(UNDELIVERABLE));
            // Where the next one begins is not known either: it is read anew.
            self.spare = held.bytes;
            return None;
        };
        self.topic.clear();
        self.topic.extend_from_slice(lane.topic.as_bytes());
        self.topic.extend_from_slice(record.topic.as_bytes());
        if record.topic.is_empty() {
            self.topic.pop();
        }
        self.payload.clear();
        (self.sink.encode)(&record, &lane.name, sequence, &mut self.payload);
        let sent = match check_name(record.topic) {
            Err(error) if !record.topic.is_empty() => Err(format!("its topic {error}")),
            _ => publisher
                .publish(&self.topic, self.slots.peek().unwrap_or(0), &self.payload)
                .map_err(|error| error.to_string()),
        };
        match sent {
            Ok(()) => {
                self.slots.take(held.index, sequence);
                lane.in_flight += 1;
                lane.window_of(sequence).push(record.closes_message, None);
                lock(&self.status).bytes += self.payload.len() as u64;
            }
            Err(why) => {
                log::warn!("sink {}: record {sequence} of lane {} is undeliverable: {why}", self.sink.name, lane.name);
                lane.window_of(sequence).push(record.closes_message, Some(UNDELIVERABLE));
            }
        }
        held.at = at;
        held.next += 1;
        Some(held)
    }

    fn on_ack(&mut self, PubAck { packet_id, reason }: PubAck) {
        let Some((index, sequence)) = self.slots.give_back(packet_id) else { return };
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (sink, lane) = (&self.sink.name, &mut self.lanes[index]);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        match reason {
            0x10 => {
                lock(&self.status).without_subscriber += 1;
                if self.unheard.note(now_ms, ()).is_some() {
                    log::warn!("sink {sink}: the broker takes records, but nobody is subscribed to {}#", lane.topic);
                }
                lane.window_of(sequence).done(sequence, Outcome::Delivered);
            }
            0..0x80 => {
                if lane.complaint.clear() {
                    log::info!("sink {sink}: lane {} is taken again", lane.name);
                    lane.backoff = Backoff::new(Millis(1000), Millis(60_000), self.sink.seed ^ now_ms);
                }
                lane.window_of(sequence).done(sequence, Outcome::Delivered);
            }
            // Topic name invalid, packet too large, payload format invalid: the same record will not do better later.
            0x90 | 0x95 | 0x99 => {
                let why = reason_name(reason);
                log::warn!("sink {sink}: record {sequence} of lane {} is undeliverable: {why}", lane.name);
                lane.window_of(sequence).done(sequence, UNDELIVERABLE);
            }
            _ => {
                lock(&self.status).refused += 1;
                if lane.hold_until.is_none() {
                    let pause = lane.backoff.after(Millis(0));
                    lane.hold_until = Some(Instant::now() + Duration::from_millis(pause.0));
                }
                if lane.complaint.note(now_ms, reason).is_some() {
                    let why = reason_name(reason);
                    log::error!(
                        "sink {sink}: the broker refuses records of lane {} on {}…: {why} (0x{reason:02x}); they wait on \
                         flash, check its access rules and quotas",
                        lane.name,
                        lane.topic
                    );
                }
            }
        }
    }

    /// Tells the loop what is settled.
    async fn tell(&mut self) {
        for lane in &mut self.lanes {
            let number = lane.lane;
            let settled: Vec<Vec<Settled>> = lane
                .windows()
                .map(|window| {
                    let mut records = Vec::new();
                    window.settle(&mut records);
                    records
                })
                .filter(|records| !records.is_empty())
                .collect();
            for records in settled {
                let lost = records.iter().filter(|record| record.outcome == UNDELIVERABLE).count() as u64;
                {
                    let mut status = lock(&self.status);
                    status.undeliverable += lost;
                    status.delivered += records.len() as u64 - lost;
                }
                // The loop has gone: the process ends.
                let _ = self.sink.events.send(SinkEvent::Settled { lane: number, records }).await;
            }
        }
    }

    fn read(&mut self, want: Want) {
        if self.reading.is_some() {
            return;
        }
        let (index, _, from_seq) = want;
        let (records, lane) = (self.records.clone(), self.lanes[index].lane);
        let into = core::mem::take(&mut self.spare);
        self.reading =
            Some(Box::pin(async move { (want, records.read(lane, from_seq, READ_MAX.as_usize(), into).await) }));
    }

    async fn on_read(&mut self, ((index, is_live, from_seq), outcome): ReadOutcome) {
        let lane = &mut self.lanes[index];
        let (batch, bytes) = match outcome {
            Ok(read) => read,
            Err(error) => {
                log::error!("sink {}: lane {} cannot be read: {error}", self.sink.name, lane.name);
                lane.hold_until = Some(Instant::now() + READ_RETRY);
                return;
            }
        };
        if batch.first_seq > from_seq {
            let window = lane.window_of(from_seq);
            if !window.is_empty() || window.next() != from_seq {
                // The gap is told in its order: read again when all before it is settled.
                self.spare = bytes;
                lane.hold_until = Some(Instant::now());
                return;
            }
            window.jump(batch.first_seq);
            if let Some(lost) = batch.lost {
                let _ = self.sink.events.send(SinkEvent::Gone { lane: lane.lane, lost }).await;
            }
        }
        if batch.records == 0 {
            self.spare = bytes;
            if batch.lost.is_none() {
                lane.hold_until = Some(Instant::now() + READ_RETRY);
            }
            return;
        }
        self.held[usize::from(is_live)] = Some(Held { index, next: batch.first_seq, bytes, at: 0 });
    }
}

fn lock(status: &Mutex<SinkStatus>) -> std::sync::MutexGuard<'_, SinkStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}
