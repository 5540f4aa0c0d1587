//! The stream of messages that a scenario's devices send, in the order in which they are due.
//!
//! - The same scenario, seed and epoch give the same messages, byte for byte; each device draws from a stream of its own.
//! - A shard (every n-th device) sends exactly the messages that those devices send in the whole fleet.
//! - Nothing here waits: `due_us` says when a message is to be sent, the caller does it.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use weir::config::Qos;

use crate::model::{Memory, Moment};
use crate::rng::Rng;
use crate::scenario::{FleetSpec, Scenario};

/// Deferred messages (late, kept through an outage) at once; when there are more, a message is sent in time.
const DEFERRED_MAX: usize = 1_000_000;

/// One publish of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// When it is to be sent, in microseconds after the start.
    pub due_us: u64,
    /// Place of the device in [`roster`].
    pub device: u32,
    /// Number of the reading within its device, from 1; a duplicate repeats it.
    pub seq: u64,
    /// Where to.
    pub topic: Arc<str>,
    /// What.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// What is wrong with it.
    pub flaws: Flaws,
    /// What a meter adds up for it; `None`: nothing.
    pub metered: Option<f64>,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// The second of two publishes of the same reading.
    pub duplicate: bool,
    /// Sent long after it was taken.
    pub late: bool,
    /// Sent after a newer reading of its device.
    pub out_of_order: bool,
    /// Not decodable: a dead letter.
    pub malformed: bool,
    /// The metered field is text.
    pub wrong_type: bool,
    /// Stamped in 1970 or 2099.
    pub bad_time: bool,
}

/// A device of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    /// Its name, as the gateway knows it.
    pub name: String,
    /// Place of its group in the scenario.
    pub fleet: usize,
}

/// All devices of a scenario, in the order of [`Message::device`].
pub fn roster(scenario: &Scenario) -> impl Iterator<Item = DeviceName> {
    scenario.fleets.iter().enumerate().flat_map(|(fleet, spec)| {
        (1..=spec.devices).map(move |number| DeviceName { name: format!("{}-{number:03}", spec.name), fleet })
    })
}

/// The devices of a scenario at work: an iterator of messages.
#[derive(Clone, Debug)]
pub struct Fleet {
    specs: Vec<FleetSpec>,
    devices: Vec<Device>,
    /// Next regular readings: (due, place in `devices`).
    ready: BinaryHeap<Reverse<(u64, u32)>>,
    /// Messages that are taken and not yet sent: (due, order of making).
    pending: BTreeMap<(u64, u64), Message>,
    made: u64,
    epoch_ms: i64,
    until_us: u64,
}

#[derive(Clone, Debug)]
struct Device {
    place: u32,
    fleet: usize,
    topic: Arc<str>,
    rng: Rng,
    memory: Memory,
    seq: u64,
    /// A reading that waits for the next one to overtake it.
    held: Option<Message>,
}

impl Fleet {
    /// All devices of `scenario`, started at `epoch_ms` (since 1970).
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64, epoch_ms: i64) -> Self {
        Self::shard(scenario, seed, epoch_ms, 0, 1)
    }

    /// The devices whose place is `index` modulo `shards`.
    #[must_use]
    pub fn shard(scenario: &Scenario, seed: u64, epoch_ms: i64, index: u32, shards: u32) -> Self {
        let mut fleet = Self {
            specs: scenario.fleets.clone(),
            devices: Vec::new(),
            ready: BinaryHeap::new(),
            pending: BTreeMap::new(),
            made: 0,
            epoch_ms,
            until_us: scenario.duration_ms.map_or(u64::MAX, |ms| ms.saturating_mul(1000)),
        };
        for (place, device) in (0u32..).zip(roster(scenario)).filter(|(place, _)| place % shards.max(1) == index) {
            let spec = &scenario.fleets[device.fleet];
            let mut rng = Rng::fork(seed, u64::from(place));
            let first_us = rng.below(spec.interval_us);
            let topic = spec.topic.replace("{device}", &device.name).into();
            if first_us < fleet.until_us {
                fleet.ready.push(Reverse((first_us, fleet.devices.len() as u32)));
            }
            let (memory, seq, held) = (Memory::default(), 0, None);
            fleet.devices.push(Device { place, fleet: device.fleet, topic, rng, memory, seq, held });
        }
        fleet
    }

    /// No readings are taken at or after `until_us`; what is still held back is then due at once.
    pub fn end_at(&mut self, until_us: u64) {
        self.until_us = self.until_us.min(until_us);
        self.ready.retain(|Reverse((due_us, _))| *due_us < until_us);
        let deferred: Vec<Message> = self.pending.split_off(&(until_us, 0)).into_values().collect();
        let held = self.devices.iter_mut().filter_map(|device| device.held.take());
        for message in deferred.into_iter().chain(held.collect::<Vec<_>>()) {
            self.push(until_us, message);
        }
    }

    /// When the next message is due; `None` if there will be none.
    pub fn next_due_us(&mut self) -> Option<u64> {
        self.advance();
        self.pending.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// Takes readings until the first of the pending messages is the next one.
    fn advance(&mut self) {
        while let Some(Reverse((due_us, index))) = self.ready.peek().copied() {
            if self.pending.first_key_value().is_some_and(|((pending_us, _), _)| *pending_us <= due_us) {
                return;
            }
            self.ready.pop();
            self.take_reading(due_us, index);
        }
    }

    fn push(&mut self, due_us: u64, mut message: Message) {
        message.due_us = due_us.min(self.until_us);
        self.made += 1;
        self.pending.insert((message.due_us, self.made), message);
    }

    fn take_reading(&mut self, now_us: u64, index: u32) {
        let phase = self.specs[self.devices[index as usize].fleet].phase_at(now_us);
        let device = &mut self.devices[index as usize];
        let fleet = &self.specs[device.fleet];
        let gap = fleet.interval_us as f64 / phase.factor * (1.0 + fleet.jitter * (2.0 * device.rng.unit() - 1.0));
        let next_us = now_us.saturating_add((gap as u64).max(1));
        let (mut message, deferred_ms) = device.read(fleet, now_us, self.epoch_ms, phase.outage);
        let overtaken = device.held.take();
        let is_last = next_us >= self.until_us;
        if !is_last {
            self.ready.push(Reverse((next_us, index)));
        }
        if let Some(message) = &mut message {
            let full = self.pending.len() >= DEFERRED_MAX;
            message.flaws.late = deferred_ms > 0 && !full;
        }
        match message {
            Some(message) if message.flaws.out_of_order && !is_last => {
                self.devices[index as usize].held = Some(message);
            }
            Some(message) => {
                // Whole milliseconds, so that what was kept through an outage goes at one moment, in the order in which it was taken.
                let due_us =
                    if message.flaws.late { (now_us / 1000).saturating_add(deferred_ms) * 1000 } else { now_us };
                let ordered = self.specs[self.devices[index as usize].fleet].model.is_ordered();
                let copy = message.flaws.duplicate.then(|| {
                    // A meter of differences skips a reading that is no newer than the last.
                    let metered = if ordered { None } else { message.metered };
                    Message { metered, ..message.clone() }
                });
                let first = Flaws { duplicate: false, out_of_order: false, ..message.flaws };
                self.push(due_us, Message { flaws: first, ..message });
                if let Some(copy) = copy {
                    self.push(due_us, Message { flaws: Flaws { out_of_order: false, ..copy.flaws }, ..copy });
                }
            }
            None => {}
        }
        if let Some(overtaken) = overtaken {
            self.push(now_us, overtaken);
        }
    }
}

/// What a moment means for a group of devices.
struct Phase {
    factor: f64,
    /// Milliseconds until the link is back, and whether readings are kept until then.
    outage: Option<(u64, bool)>,
}

impl FleetSpec {
    fn phase_at(&self, now_us: u64) -> Phase {
        let now_ms = now_us / 1000;
        let within = |at_ms: u64, for_ms: u64| (at_ms..at_ms.saturating_add(for_ms)).contains(&now_ms);
        let factor =
            self.bursts.iter().filter(|burst| within(burst.at_ms, burst.for_ms)).map(|burst| burst.factor).product();
        let outage = self.outages.iter().find(|outage| within(outage.at_ms, outage.for_ms));
        Phase { factor, outage: outage.map(|outage| (outage.at_ms + outage.for_ms - now_ms, outage.keep)) }
    }
}

impl Device {
    /// The device's next reading and by how many milliseconds it is deferred; `None` if it is never sent.
    fn read(
        &mut self,
        spec: &FleetSpec,
        now_us: u64,
        epoch_ms: i64,
        outage: Option<(u64, bool)>,
    ) -> (Option<Message>, u64) {
        self.seq += 1;
        let (rates, rng) = (&spec.flaws, &mut self.rng);
        // Always the same draws in the same order, so that one rate does not shift the others' numbers.
        let flaws = Flaws {
            duplicate: rng.chance(rates.duplicate),
            late: rng.chance(rates.late),
            out_of_order: rng.chance(rates.out_of_order),
            malformed: rng.chance(rates.malformed),
            wrong_type: rng.chance(rates.wrong_type),
            bad_time: rng.chance(rates.bad_time),
        };
        let (lateness, variant) = (rng.unit(), rng.next());
        let time_ms = epoch_ms.saturating_add_unsigned(now_us / 1000);
        let stamp_ms = match (flaws.bad_time, variant & 1) {
            (false, _) => time_ms,
            (true, 0) => 86_400_000 + now_us as i64 / 1000,
            (true, _) => 4_070_908_800_000 + now_us as i64 / 1000,
        };
        let before = self.memory;
        let mut payload = Vec::with_capacity(64);
        let moment = Moment { time_ms, stamp_ms, seq: self.seq, wrong_type: flaws.wrong_type };
        let mut metered = spec.model.read(&mut self.memory, rng, moment, &mut payload);
        if flaws.malformed {
            damage(&mut payload, spec.model.is_json(), variant);
            metered = None;
        }
        let never_sent = matches!(outage, Some((_, false)));
        if flaws.malformed || never_sent {
            spec.model.forget(&mut self.memory, &before);
        }
        if never_sent {
            return (None, 0);
        }
        let deferred_ms = match (outage, flaws.late) {
            (Some((rest_ms, _)), _) => rest_ms,
            (None, true) => (rates.late_ms as f64 * (0.5 + lateness / 2.0)) as u64,
            (None, false) => 0,
        };
        let out_of_order = flaws.out_of_order && deferred_ms == 0;
        let flaws = Flaws { out_of_order, late: deferred_ms > 0, ..flaws };
        let (device, seq, topic) = (self.place, self.seq, Arc::clone(&self.topic));
        let message =
            Message { due_us: now_us, device, seq, topic, payload, qos: spec.qos, retain: spec.retain, flaws, metered };
        (Some(message), deferred_ms)
    }
}

/// Makes `payload` undecodable in one of several ways.
fn damage(payload: &mut Vec<u8>, is_json: bool, variant: u64) {
    match (is_json, variant % 6) {
        (_, 0) => payload.clear(),
        // An odd rest: an LPP value that is cut, a JSON object without an end.
        (_, 1) => payload.truncate(3),
        (true, 2) => payload.truncate(payload.len() - 1),
        (true, 3) => payload.extend_from_slice(b"}"),
        (true, 4) => payload[2] = 0xff,
        (true, _) => {
            payload.pop();
            payload.extend_from_slice(b",\"more\":NaN}");
        }
        (false, _) => payload[1] = 0xfe,
    }
}

impl Iterator for Fleet {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.advance();
        self.pending.pop_first().map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SAMPLE;

    const EPOCH_MS: i64 = 1_700_000_000_000;
    const FAULTS: &str = include_str!("../scenarios/faults.toml");

    fn fleet(text: &str, seed: u64) -> Fleet {
        let mut scenario = Scenario::parse("test", text).unwrap();
        scenario.duration_ms = Some(10_000);
        Fleet::new(&scenario, seed, EPOCH_MS)
    }

    fn share(messages: &[Message], is: impl Fn(&Flaws) -> bool) -> f64 {
        messages.iter().filter(|message| is(&message.flaws)).count() as f64 / messages.len() as f64
    }

    #[test]
    fn the_same_seed_gives_the_same_messages_and_another_seed_others() {
        for text in [SAMPLE, FAULTS] {
            let all: Vec<Message> = fleet(text, 5).collect();
            assert_eq!(all, fleet(text, 5).collect::<Vec<_>>());
            assert_ne!(all, fleet(text, 6).collect::<Vec<_>>());
            assert!(all.len() > 300, "{}", all.len());
            assert!(all.is_sorted_by_key(|message| message.due_us) && all.last().unwrap().due_us <= 10_000_000);
        }
    }

    #[test]
    fn shards_together_send_what_the_whole_fleet_sends() {
        let mut scenario = Scenario::parse("test", FAULTS).unwrap();
        scenario.duration_ms = Some(3000);
        let key = |message: &Message| (message.device, message.due_us, message.seq, message.flaws.duplicate);
        let mut whole: Vec<Message> = Fleet::new(&scenario, 1, EPOCH_MS).collect();
        let mut parts: Vec<Message> = (0..3).flat_map(|index| Fleet::shard(&scenario, 1, EPOCH_MS, index, 3)).collect();
        whole.sort_by_key(key);
        parts.sort_by_key(key);
        assert_eq!(whole, parts);
    }

    #[test]
    fn flaws_come_about_as_often_as_asked_for() {
        let quiet = FAULTS.split("[[burst]]").next().unwrap();
        let messages: Vec<Message> = fleet(quiet, 1).filter(|message| message.device < 20).collect();
        for (what, part, want) in [
            ("duplicate", share(&messages, |flaws| flaws.duplicate), 0.09),
            ("late", share(&messages, |flaws| flaws.late), 0.1),
            ("malformed", share(&messages, |flaws| flaws.malformed), 0.1),
            ("wrong type", share(&messages, |flaws| flaws.wrong_type), 0.05),
            ("bad time", share(&messages, |flaws| flaws.bad_time), 0.05),
        ] {
            assert!((part - want).abs() < 0.04, "{what}: {part} instead of {want}");
        }
    }

    #[test]
    fn what_is_called_malformed_is_malformed_and_nothing_else_is() {
        for message in fleet(FAULTS, 2) {
            let is_json = serde_json::from_slice::<serde_json::Value>(&message.payload).is_ok();
            assert_eq!(is_json, !message.flaws.malformed, "{}", message.payload.escape_ascii());
            let has_value = is_json && !message.flaws.wrong_type;
            assert!(message.metered.is_none() || has_value);
            assert!(message.device >= 20 || message.metered.is_some() == has_value);
        }
    }

    #[test]
    fn a_reading_out_of_order_follows_the_next_one_of_its_device() {
        let text =
            "[[fleet]]\nname=\"a\"\nmodel=\"door\"\ntopic=\"a/{device}\"\ninterval=\"100 ms\"\nout-of-order = 0.5\n";
        let order: Vec<u64> = fleet(text, 1).map(|message| message.seq).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=order.len() as u64).collect::<Vec<_>>());
        assert!(order.windows(2).filter(|pair| pair[0] == pair[1] + 1).count() > 10);
    }

    #[test]
    fn an_outage_silences_and_what_was_kept_comes_at_its_end() {
        for (keep, want) in [(true, 10), (false, 0)] {
            let text = format!(
                "[[fleet]]\nname=\"a\"\nmodel=\"energy\"\ntopic=\"{{device}}\"\ninterval=\"100 ms\"\njitter=0.003\n\
                 [[outage]]\nat=\"4 s\"\nfor=\"1 s\"\nkeep={keep}\n"
            );
            let messages: Vec<Message> = fleet(&text, 1).collect();
            let within = |message: &&Message| (4_000_000..4_990_000).contains(&message.due_us);
            assert_eq!(messages.iter().filter(within).count(), 0);
            assert_eq!(messages.iter().filter(|message| message.flaws.late).count(), want);
            assert!(messages.is_sorted_by_key(|message| message.seq));
        }
    }

    #[test]
    fn a_burst_multiplies_the_readings() {
        let text = "[[fleet]]\nname=\"a\"\nmodel=\"door\"\ntopic=\"{device}\"\ninterval=\"100 ms\"\n\
                    [[burst]]\nat=\"2 s\"\nfor=\"1 s\"\nfactor=10\n";
        let count = fleet(text, 1).filter(|message| (2_000_000..3_000_000).contains(&message.due_us)).count();
        assert!((90..=112).contains(&count), "{count}");
    }

    #[test]
    fn ending_early_sends_what_is_held_back_and_nothing_new() {
        let mut fleet = fleet(FAULTS, 3);
        let sent: Vec<Message> = fleet.by_ref().take_while(|message| message.due_us < 3_000_000).collect();
        fleet.end_at(3_000_000);
        let rest: Vec<Message> = fleet.collect();
        assert!(rest.iter().all(|message| message.due_us == 3_000_000));
        assert!(rest.iter().any(|message| message.flaws.late) && rest.len() < sent.len());
    }

    #[test]
    fn a_pulse_meter_adds_up_to_what_its_readers_see() {
        // The differences of the well-formed readings, as a function must compute them.
        let quiet = FAULTS.split("[[burst]]").next().unwrap();
        let mut last = std::collections::BTreeMap::new();
        for message in fleet(quiet, 1).filter(|message| message.device >= 20) {
            let json: Option<serde_json::Value> = serde_json::from_slice(&message.payload).ok();
            let Some(pulses) = json.and_then(|json| json["pulses"].as_u64()) else {
                assert_eq!(message.metered, None);
                continue;
            };
            let meter = crate::model::Energy { roll_over: 256, step_max: 100, ..Default::default() };
            let before = last.insert(message.device, pulses);
            let step = before.filter(|_| !message.flaws.duplicate).and_then(|before| meter.step(before, pulses));
            assert_eq!(message.metered, step.map(|step| step as f64 / 4.0));
        }
    }
}
