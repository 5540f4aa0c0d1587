//! What an invocation leaves: its staged effects on success, a dead letter otherwise.

use super::message::{Chain, Turn};
use super::outlets::{Aggregates, Outlets};
use super::{Gateway, Slot};
use crate::books::DropReason;
use crate::dead_letter::DeadLetter;
use crate::effect::Effects;
use crate::field::Fields;
use crate::function::{CallError, EventKind, Invocation, Verdict};
use crate::outbox::{Offer, Outbox};
use crate::record::{Record, RecordKind};
use crate::tape::Tape;
use crate::time::Stopwatch;
use crate::units::Bytes;
use crate::window::FoldTime;

/// A dead letter keeps a payload whole that takes at most this part of its lane, and all of a batch half of it.
const LETTER_DIVISOR: usize = 4;
/// What is left of a larger one.
const CUT_PAYLOAD_MAX: usize = 4096;

/// From here on, in percent of its bound, a function's durable state is said to fill.
const STATE_WARN_PERCENT: u64 = 80;

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    /// In a word.
    pub kind: &'static str,
    /// For people.
    pub what: &'a str,
    /// Length of the payload, where not all of it was taken in.
    pub payload_len: Option<u64>,
}

impl<'a> Failure<'a> {
    pub const fn new(kind: &'static str, what: &'a str) -> Self {
        Self { kind, what, payload_len: None }
    }
}

impl Gateway {
    /// Applies what a successful invocation has staged.
    pub(super) fn apply(
        &mut self,
        turn: &mut Turn<'_>,
        slot: usize,
        verdict: Verdict,
        invocation: &Invocation<'_>,
        hops: u8,
        chain: &mut Chain,
    ) {
        self.fold(turn, slot, invocation);
        let Turn { now, effects, course, .. } = turn;
        let Self { slots, outbox, books, routing, hops_max, kept_topic, .. } = self;
        let mut outlets = Outlets {
            now: *now,
            outbox,
            books,
            routing,
            hops_max: *hops_max,
            chain,
            course,
            releases: &mut effects.releases,
        };
        let Slot { name, function, keep_prefix, .. } = &mut slots[slot];
        let staged = function.staged();
        for emit in staged.emits() {
            outlets.output(name, emit.topic, emit.payload, hops);
        }
        if verdict == Verdict::Keep && invocation.kind == EventKind::Message {
            kept_topic.clear();
            kept_topic.push_str(keep_prefix);
            kept_topic.push_str(invocation.topic);
            outlets.output(name, kept_topic, invocation.payload, hops);
        }
        outlets.course.absorbed |= verdict == Verdict::Done && function.left_something();
        function.commit_state();
        let (used, max) = (function.state_used(), function.state_max());
        if max.0.saturating_mul(STATE_WARN_PERCENT) <= used.0.saturating_mul(100)
            && 0 < max.0
            && let Some(more) = self.complaints.due(Some(slot), "state-quota", *now)
        {
            let text = format!(
                "durable state holds {used} of {max} (function.limits.state); once it is full, events that need more become dead \
                 letters{more}"
            );
            effects.say(log::Level::Warn, name, text);
        }
        if core::mem::take(&mut turn.course.hop_limited) {
            self.hop_limited += 1;
            let what =
                format!("the chain is longer than gateway.hops-max ({}), or has too many outputs", self.hops_max);
            self.dead_letter(turn, Some(slot), Failure::new("hop-limit", &what), invocation, hops);
        }
    }

    /// Folds what the function has metered into the windows.
    fn fold(&mut self, turn: &mut Turn<'_>, slot: usize, invocation: &Invocation<'_>) {
        let Turn { now, effects, course, .. } = turn;
        let now = *now;
        let Self { slots, outbox, books, windows, bytes, aggregates_lost, fold_counts, .. } = self;
        let Slot { function, meter_first, .. } = &slots[slot];
        let mut aggregates =
            Aggregates { now, outbox, books, releases: &mut effects.releases, lost: aggregates_lost, bytes };
        let at = FoldTime {
            event_ms: invocation.time_ms,
            now_ms: now.wall_ms,
            quality: invocation.quality,
            is_own: !invocation.time_from_payload,
            clock: now.quality,
            hold_until_ms: Self::hold_until_ms(now),
        };
        for op in function.staged().meters() {
            let key = op.key.unwrap_or(invocation.device).as_bytes();
            let folded = windows.fold(at, *meter_first + op.meter, key, op.value, &mut |meter, aggregate| {
                aggregates.put(meter, aggregate);
            });
            fold_counts.count(folded);
            course.absorbed = true;
        }
    }

    /// Keeps an event that could not be handled, with the reason, where it can be listed and replayed.
    pub(super) fn dead_letter(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Option<usize>,
        failure: Failure<'_>,
        invocation: &Invocation<'_>,
        hops: u8,
    ) {
        let Turn { now, effects, course, .. } = turn;
        course.failed = true;
        let Failure { kind, what, .. } = failure;
        let slot_of = slot.map(|slot| &self.slots[slot]);
        let (function, version) = slot_of.map_or(("", ""), |slot| (&*slot.name, &*slot.version));
        if let Some(more) = self.complaints.due(slot, kind, *now) {
            effects.say(
                log::Level::Warn,
                function,
                format!("dead letter ({kind}) on {}: {what}{more}", invocation.topic),
            );
        }
        let Some(lane) = self.dead_letter_lane else {
            self.dead_letters_lost += 1;
            return;
        };
        let payload = invocation.payload;
        let payload_len = failure.payload_len.unwrap_or(payload.len() as u64);
        let its = &self.outbox.lanes()[lane];
        let bytes_max = its.config().bytes_max.as_usize();
        // Room for whole ones is bounded, so that many in one batch leave it to the others to be there at all.
        let whole_max = (bytes_max / LETTER_DIVISOR).min((bytes_max / 2).saturating_sub(its.staged_bytes()));
        let kept_len = if payload.len() <= whole_max { payload.len() } else { payload.len().min(CUT_PAYLOAD_MAX) };
        let letter = DeadLetter {
            function: function.into(),
            version: version.into(),
            digest: slot_of.map_or(0, |slot| slot.function.digest()),
            kind: kind.into(),
            message: what.into(),
            topic: invocation.topic.into(),
            device: invocation.device.into(),
            at_ms: invocation.now_ms,
            event_ms: invocation.time_ms,
            quality: invocation.quality,
            time_from_payload: invocation.time_from_payload,
            event: invocation.kind,
            sequence: invocation.sequence,
            seed: invocation.random_seed(),
            hops,
            chained: invocation.chained,
            retained: invocation.retained,
            qos: invocation.qos,
            codec: invocation.codec,
            payload_len,
            truncated: (kept_len as u64) < payload_len,
            payload: (&payload[..kept_len]).into(),
        };
        let mut bytes = Vec::new();
        letter.encode(&mut bytes);
        let record = Record {
            kind: RecordKind::DeadLetter,
            closes_message: false,
            at_ms: now.wall_ms,
            quality: now.quality,
            hops,
            source: function,
            topic: invocation.topic,
            payload: &bytes,
        };
        let dropped = |outbox: &Outbox| outbox.lanes()[lane].totals().dropped[DropReason::LaneFull as usize];
        let before = dropped(&self.outbox);
        match self.outbox.offer(lane, &record, &mut self.books, &mut effects.releases) {
            Offer::Queued { .. } => {}
            Offer::NoLane | Offer::NeverFits => self.dead_letters_lost += 1,
        }
        let gone = dropped(&self.outbox) - before;
        if 0 < gone
            && let Some(more) = self.complaints.due(None, "letters-full", *now)
        {
            let lane = &self.outbox.lanes()[lane];
            let text = format!(
                "lane {}: full ({}), so the oldest dead letters make room and are gone ({gone} now, {} so far); `weir dlq` replays or \
                 purges them{more}",
                lane.config().name,
                lane.config().bytes_max,
                dropped(&self.outbox),
            );
            effects.say(log::Level::Warn, "", text);
        }
    }
}

impl Slot {
    /// Calls the function; its log lines, and a REPORT line if the site asks for it, go to `effects` whatever the outcome.
    pub(super) fn call(
        &mut self,
        invocation: &Invocation<'_>,
        fields: &Fields,
        stopwatch: &mut dyn Stopwatch,
        tape: Option<&mut Tape>,
        effects: &mut Effects,
    ) -> Result<Verdict, CallError> {
        self.usage_dirty = true;
        let (fuel, time_us) = (self.function.usage().fuel, self.function.usage().time_us);
        let outcome = self.function.call(invocation, fields, stopwatch);
        if let Some(tape) = tape {
            let spent = self.function.usage().fuel - fuel;
            tape.call(&self.manifest, &self.function, invocation, &outcome, spent);
        }
        for line in self.function.staged().logs() {
            effects.say(log_level(line.level), &self.name, String::from_utf8_lossy(line.text).into_owned());
        }
        if self.report {
            let usage = self.function.usage();
            let outcome = outcome.as_ref().map_or_else(|error| error.kind().name(), |verdict| verdict.name());
            let report = format!(
                "REPORT sequence: {} version: {} duration: {:.3} ms fuel: {} peak memory: {} outcome: {outcome}",
                invocation.sequence,
                self.version,
                (usage.time_us - time_us) as f64 / 1000.0,
                usage.fuel - fuel,
                Bytes(usage.peak_memory),
            );
            effects.say(log::Level::Info, &self.name, report);
        }
        outcome
    }
}

const fn log_level(level: u8) -> log::Level {
    match level {
        1 => log::Level::Error,
        2 => log::Level::Warn,
        3 => log::Level::Info,
        _ => log::Level::Debug,
    }
}
