//! What happens by itself: intervals, windows that close, records that expire.

use super::Gateway;
use super::apply::Failure;
use super::message::Turn;
use super::outlets::Aggregates;
use crate::effect::Effects;
use crate::field::Fields;
use crate::function::{EventKind, Invocation, Seed};
use crate::time::{Now, STEP_MIN_MS, Shift, TimeQuality, WallMillis};

/// An interval trigger.
#[derive(Debug)]
pub(super) struct Interval {
    pub slot: usize,
    pub every_us: u64,
    pub next_us: u64,
}

/// The wall clock may step: a deadline by it is looked at this often.
const WALL_CHECK_US: u64 = 1_000_000;
/// The same for records that expire, which are in less of a hurry.
const EXPIRY_CHECK_US: u64 = 60_000_000;

/// For so long after the start, windows that go by a clock that is not set wait for it: a Pi has the network's time within
/// a minute of having the network.
const HOLD_US: u64 = 120_000_000;

impl Gateway {
    /// When [`crate::event::Event::Tick`] is due at the latest, in monotonic microseconds; `None`: nothing waits.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<u64> {
        let age_ms = self.timeline.age(now);
        let now = self.timeline.peek(now);
        let by_wall = |due_ms: WallMillis, check_us: u64| {
            let wait_ms = u64::try_from(due_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
            now.mono_us + wait_ms.saturating_mul(1000).min(check_us)
        };
        let windows = self.windows.deadline_ms().map(|due_ms| by_wall(due_ms, WALL_CHECK_US));
        let expiry = self.outbox.deadline_ms().map(|due_ms| {
            let wait_ms = u64::try_from(due_ms.saturating_sub(age_ms)).unwrap_or(0);
            now.mono_us + wait_ms.saturating_mul(1000).min(EXPIRY_CHECK_US)
        });
        let intervals = self.intervals.iter().map(|interval| interval.next_us).min();
        let usage = self.usage_periods.as_ref().map(|periods| periods.next_us);
        windows.into_iter().chain(expiry).chain(intervals).chain(usage).min()
    }

    pub(super) fn on_tick(&mut self, now: Now, effects: &mut Effects) {
        for index in 0..self.intervals.len() {
            if self.intervals[index].next_us <= now.mono_us {
                self.on_interval(now, index, effects);
            }
        }
        self.close_windows(now, effects);
        self.tell_usage(now, effects);
        self.forget_recording(now);
        let age_ms = self.timeline.age(now);
        self.dirty |= self.outbox.expire(age_ms, &mut self.books, &mut effects.releases);
    }

    /// Until when windows wait for the clock to be set.
    pub(super) fn hold_until_ms(now: Now) -> WallMillis {
        let left_ms = HOLD_US.saturating_sub(now.mono_us) / 1000;
        if left_ms == 0 { WallMillis::MIN } else { now.wall_ms.saturating_add_unsigned(left_ms) }
    }

    /// The clock was set, or stepped: what went by it and is still open moves with it.
    pub(super) fn on_shift(&mut self, now: Now, shift: Shift, effects: &mut Effects) {
        self.dirty = true;
        let latest_ms = now.wall_ms.saturating_add(self.future_skew_max_ms);
        let Self { windows, outbox, books, bytes, aggregates_lost, .. } = self;
        let mut aggregates =
            Aggregates { now, outbox, books, releases: &mut effects.releases, lost: aggregates_lost, bytes };
        let cells = windows.shift(shift, now, latest_ms, &mut |meter, aggregate| aggregates.put(meter, aggregate));
        if shift.by_ms.abs() < STEP_MIN_MS {
            return effects.say(log::Level::Info, "", "the clock is set, and was right before".to_owned());
        }
        let was = match shift.was {
            TimeQuality::Synced => "was set and stepped",
            _ if now.quality != TimeQuality::Synced => "is not set and was moved",
            TimeQuality::Unset => "was not set and is now",
            TimeQuality::Restored => "went on from the last known time and is set now",
        };
        let (seconds, which) =
            ((shift.by_ms.unsigned_abs() + 500) / 1000, if shift.by_ms < 0 { "ahead" } else { "behind" });
        let text = format!("the clock {was}: it was {seconds} s {which}; {cells} cells of open windows move with it");
        effects.say(log::Level::Warn, "", text);
    }

    fn on_interval(&mut self, now: Now, index: usize, effects: &mut Effects) {
        let interval = &mut self.intervals[index];
        // After a long stop the interval is run once, not once for each time it was missed.
        let missed = (now.mono_us - interval.next_us) / interval.every_us;
        interval.next_us += (missed + 1) * interval.every_us;
        let late_us = now.mono_us - (interval.next_us - interval.every_us);
        let slot = interval.slot;
        self.dirty = true;
        let invocation = Invocation {
            kind: EventKind::Interval,
            sequence: self.books.received,
            seed: Seed::OfCall(u32::try_from(index).unwrap_or(u32::MAX)),
            time_ms: now.wall_ms.saturating_sub_unsigned(late_us / 1000),
            quality: now.quality,
            now_ms: now.wall_ms,
            ..Invocation::default()
        };
        let mut turn = Turn::new(now, effects);
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.chain.clear();
        self.slots[slot].usage_dirty = true;
        match self.slots[slot].call(
            &invocation,
            &Fields::default(),
            self.stopwatch.as_mut(),
            self.tape.as_mut(),
            turn.effects,
        ) {
            Ok(verdict) => {
                self.apply(&mut turn, slot, verdict, &invocation, 0, &mut scratch.chain);
                self.run_chain(&mut turn, &mut scratch);
            }
            Err(error) => {
                let what = error.to_string();
                self.dead_letter(&mut turn, Some(slot), Failure::new(error.kind().name(), &what), &invocation, 0);
            }
        }
        self.scratch = scratch;
    }

    /// Emits every partial aggregate that is due into the lane that takes its topic.
    fn close_windows(&mut self, now: Now, effects: &mut Effects) {
        let Self { windows, outbox, books, bytes, aggregates_lost, dirty, .. } = self;
        let mut aggregates =
            Aggregates { now, outbox, books, releases: &mut effects.releases, lost: aggregates_lost, bytes };
        windows.close_due(now.wall_ms, &mut |meter, aggregate| {
            *dirty = true;
            aggregates.put(meter, aggregate);
        });
    }
}
