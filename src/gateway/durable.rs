//! What of the gateway lies on flash: made into entries at the end of a batch, taken back at the start.

use std::collections::BTreeMap;

use super::complaints::Complaints;
use super::message::Scratch;
use super::outlets::Aggregates;
use super::routing::{Routing, RoutingError};
use super::usage::{Period, Periods};
use super::{FoldCounts, Gateway, Slot, deadline::Interval};
use crate::books::{Books, DropReason};
use crate::config::{Config, Trigger};
use crate::effect::Effects;
use crate::entry::{Entries, Space, put_varint, take_count, take_varint, unzigzag, zigzag};
use crate::field::Paths;
use crate::function::{Function, Usage};
use crate::manifest::MeterSpec;
use crate::marks::Marks;
use crate::outbox::{Heads, Outbox};
use crate::store::Recovered;
use crate::store_id::StoreId;
use crate::subscribed::Subscribed;
use crate::time::{Kept, Now, Stopwatch, TimeQuality, Timeline};
use crate::window::{MeterDef, Windows, WindowsError};

/// Why a gateway cannot be put together; each is a fault of the configuration or of a module.
#[derive(Debug)]
pub enum StartError {
    /// A trigger's paths.
    Routing(RoutingError),
    /// Two meters cannot be told apart.
    Windows(WindowsError),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Routing(error) => write!(f, "gateway.toml: {error}"),
            Self::Windows(error) => write!(f, "gateway.toml: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

const CLOCK_KEY: &[u8] = b"clock";
/// The end of the year 9999: no clock of ours has been there.
const WALL_MS_MAX: i64 = 253_402_300_799_999;
const BOOKS_KEY: &[u8] = b"books";

impl Gateway {
    /// Puts a gateway together from a checked configuration and its loaded functions (in the order of the configuration),
    /// and takes back what lies on flash. `effects` receives what follows at once: segments to release, aggregates of meters
    /// that are no longer configured, lines for the log.
    pub fn new(
        config: &Config,
        functions: Vec<Function>,
        recovered: Recovered,
        now: Now,
        stopwatch: Box<dyn Stopwatch>,
        effects: &mut Effects,
    ) -> Result<Self, StartError> {
        let mut paths = Paths::new();
        let mut slots = Vec::with_capacity(functions.len());
        let mut meters = Vec::new();
        for (function_config, mut function) in config.functions.iter().zip(functions) {
            let manifest = &function_config.manifest;
            let name = manifest.name.clone();
            function.bind_paths(&mut paths).map_err(|_| StartError::Routing(RoutingError::TooManyPaths))?;
            let meter_first = u16::try_from(meters.len()).unwrap_or(u16::MAX);
            meters.extend(manifest.meters.iter().map(|spec| meter_def(&name, spec)));
            slots.push(Slot {
                name,
                version: manifest.version.clone(),
                manifest: Box::new(manifest.clone()),
                function,
                keep_prefix: manifest.keep_prefix.clone(),
                report: function_config.report,
                meter_first,
                filtered: 0,
                misfits: 0,
                usage_dirty: false,
                period: None,
            });
        }
        let reads: Vec<bool> = slots.iter().map(|slot| slot.function.reads_fields()).collect();
        let routing = Routing::new(config, &reads, &mut paths).map_err(StartError::Routing)?;
        let outbox = Outbox::new(&config.lanes, config.store.segment_bytes.0);
        let mut gateway = Self {
            payload_max: config.payload_max.as_usize(),
            future_skew_max_ms: i64::try_from(config.future_skew_max.0).unwrap_or(i64::MAX),
            hops_max: config.hops_max,
            routing,
            intervals: intervals(config, now),
            usage_periods: None,
            paths,
            windows: Windows::new(meters).map_err(StartError::Windows)?,
            dead_letter_lane: outbox.lane_named("dead-letter"),
            outbox,
            on_flash: Heads::default(),
            on_its_way: Heads::default(),
            is_on_its_way: false,
            marks: Marks::new(config.broker.in_flight),
            subscribed: Subscribed::new(config),
            books: Books::default(),
            timeline: Timeline::default(),
            commit: 0,
            store: recovered.store,
            store_told: false,
            dirty: false,
            skewed: 0,
            hop_limited: 0,
            dead_letters_lost: 0,
            complaints: Complaints::default(),
            aggregates_lost: 0,
            fold_counts: FoldCounts::default(),
            kept_topic: String::new(),
            bytes: Vec::new(),
            scratch: Scratch::default(),
            stopwatch,
            tape: None,
            recordings: 0,
            slots,
        };
        gateway.recover(recovered, now, effects);
        let begun = gateway.timeline.peek(now);
        gateway.usage_periods = Periods::new(config, &mut gateway.slots, begun);
        gateway.dirty |= gateway.usage_periods.is_some();
        Ok(gateway)
    }

    fn recover(&mut self, recovered: Recovered, now: Now, effects: &mut Effects) {
        let is_damaged = recovered.report.is_loss() || recovered.report.healed;
        self.outbox.recover(recovered.lanes);
        let mut gone: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (key, value) in &recovered.entries {
            if let Some(function) = function_of(key).filter(|name| !self.slots.iter().any(|slot| slot.is_called(name)))
            {
                *gone.entry(function).or_default() += u64::from(key[0] == Space::State as u8);
            } else if self.restore(key, value, now).is_none() {
                let key = String::from_utf8_lossy(key).into_owned();
                let text = format!("the stored value of `{key}` does not fit this configuration; it is left aside");
                effects.say(log::Level::Warn, "", text);
            }
        }
        for (name, values) in gone {
            let name = String::from_utf8_lossy(name);
            let text = format!("function {name} is not configured any more; its state ({values} values) is left aside");
            effects.say(log::Level::Warn, "", text);
        }
        let forgotten = self.subscribed.restored();
        if 0 < forgotten {
            let text = format!("{forgotten} filters of configurations long past are not remembered any more");
            effects.say(log::Level::Info, "", text);
        }
        self.dirty |= self.subscribed.is_dirty();
        let damaged = |outbox: &Outbox| -> Vec<u64> {
            outbox.lanes().iter().map(|lane| lane.totals().dropped[DropReason::Damaged as usize]).collect()
        };
        let before = damaged(&self.outbox);
        self.outbox.recovered(&mut self.books, &mut effects.releases);
        for ((lane, before), after) in self.outbox.lanes().iter().zip(before).zip(damaged(&self.outbox)) {
            if before < after {
                let name = &lane.config().name;
                let text = format!("lane {name}: {} records are damaged on flash and lost", after - before);
                effects.say(log::Level::Error, "", text);
            }
        }
        if is_damaged {
            self.balance(effects);
        }
        self.on_flash.follow(&self.outbox, &self.books);
        self.on_flash.owe(&effects.releases);
        self.dirty |= self.outbox.wants_fold();
        self.windows.hold(Self::hold_until_ms(self.timeline.peek(now)));
        self.end_windows(now, effects);
    }

    /// Damage may have taken what the books say of some messages, or these messages and left the books. What does not fit
    /// together is entered, and said, as what it is.
    fn balance(&mut self, effects: &mut Effects) {
        let residue = self.residue();
        let count = u64::try_from(residue.unsigned_abs()).unwrap_or(u64::MAX);
        if residue > 0 {
            self.books.drop(DropReason::Damaged, count);
            effects.say(
                log::Level::Error,
                "",
                format!("{count} messages went with the damage; they are counted as such"),
            );
        } else if residue < 0 {
            self.books.received += count;
            let text = format!("the store holds {count} messages that its damaged books do not know; they are entered");
            effects.say(log::Level::Error, "", text);
        }
        self.dirty |= residue != 0;
    }

    /// Cells whose meter is gone leave as partial aggregates: their values were acknowledged.
    fn end_windows(&mut self, now: Now, effects: &mut Effects) {
        let now = self.timeline.peek(now);
        let Self { windows, outbox, books, bytes, aggregates_lost, .. } = self;
        let mut aggregates =
            Aggregates { now, outbox, books, releases: &mut effects.releases, lost: aggregates_lost, bytes };
        let restored = windows.restored(&mut |meter, aggregate| aggregates.put(meter, aggregate));
        self.dirty |= 0 < restored.emitted;
        if 0 < restored.emitted {
            let text = format!(
                "{} window cells no longer have a meter; their values go upstream as they are",
                restored.emitted
            );
            effects.say(log::Level::Warn, "", text);
        }
        if 0 < restored.lost {
            effects.say(log::Level::Error, "", format!("{} window cells were unreadable and are lost", restored.lost));
        }
    }

    fn restore(&mut self, key: &[u8], value: &[u8], now: Now) -> Option<()> {
        let (space, rest) = key.split_first()?;
        match *space {
            space if space == Space::Books as u8 && rest == BOOKS_KEY => self.books = Books::restore(value)?,
            space if space == Space::Books as u8 && rest == CLOCK_KEY => self.restore_clock(value, now)?,
            space if space == Space::Books as u8 && StoreId::is_called(rest) => self.store = StoreId::restore(value)?,
            space if space == Space::Lane as u8 => self.outbox.restore(key, value)?,
            space if space == Space::Marks as u8 => self.marks.restore(key, value)?,
            space if space == Space::Filter as u8 => self.subscribed.restore(key, value)?,
            space if space == Space::Cell as u8 => self.windows.restore(key, value).ok()?,
            space if space == Space::State as u8 => {
                let name = function_of(key)?;
                let slot = self.slots.iter_mut().find(|slot| slot.is_called(name))?;
                slot.function.restore_state(&rest[name.len() + 1..], Some(value));
            }
            space if space == Space::Usage as u8 => {
                let slot = self.slots.iter_mut().find(|slot| slot.is_called(rest))?;
                slot.function.restore_usage(&Usage::decode(value).filter(Usage::is_possible)?);
            }
            space if space == Space::Period as u8 => {
                let slot = self.slots.iter_mut().find(|slot| slot.is_called(rest))?;
                slot.period = Some(Period::decode(value)?);
            }
            _ => return None,
        }
        Some(())
    }

    fn restore_clock(&mut self, mut value: &[u8], now: Now) -> Option<()> {
        let commit = take_count(&mut value)?;
        let mut time = || take_varint(&mut value).map(unzigzag);
        let (wall_ms, age_ms) = (time()?, time()?);
        let quality = TimeQuality::from_code(*value.first()?);
        // Whatever the clock said: a number that is given twice is a key of marks that is written twice.
        self.commit = commit;
        // A clock that was stepped to before 1970 is not worth going on from; ages are.
        let kept = (0..=WALL_MS_MAX).contains(&wall_ms).then_some((wall_ms, quality));
        let (wall_ms, quality) = kept.unwrap_or((now.wall_ms, now.quality));
        self.timeline.restore(Kept { wall_ms, quality, age_ms: age_ms.clamp(-WALL_MS_MAX, WALL_MS_MAX) }, now);
        Some(())
    }

    /// Closes the batch: writes everything that has changed since the last one into `effects`, under the next commit number.
    /// Nothing changed: nothing is written.
    pub fn seal(&mut self, now: Now, effects: &mut Effects) {
        if !self.dirty {
            return;
        }
        let kept = self.timeline.kept(now);
        let now = self.timeline.peek(now);
        self.dirty = false;
        self.commit += 1;
        effects.commit = self.commit;
        let entries = &mut effects.entries;
        self.windows.drain_dirty(entries);
        for slot in &mut self.slots {
            slot.drain_dirty(entries, &mut self.bytes);
        }
        self.marks.seal(self.commit, entries, &mut self.bytes);
        self.subscribed.seal(self.commit, entries, &mut self.bytes);
        self.outbox.make_way(kept.age_ms, &mut self.books, &mut effects.releases);
        let scratch = (&mut effects.reads, &mut self.bytes);
        self.outbox.seal(now, kept.age_ms, &mut effects.lanes, entries, scratch);
        self.books.save(entries, &mut self.bytes);
        save_clock(self.commit, kept, entries, &mut self.bytes);
        if !core::mem::replace(&mut self.store_told, true) {
            self.store.save(entries);
        }
        self.on_its_way.follow(&self.outbox, &self.books);
        self.is_on_its_way = true;
    }

    /// The batch that was sealed last is on flash.
    pub fn committed(&mut self) {
        if core::mem::take(&mut self.is_on_its_way) {
            core::mem::swap(&mut self.on_flash, &mut self.on_its_way);
        }
    }

    /// The disk is full, and the sealed batch waits. What sinks have settled since the last commit, to be committed alone, if
    /// segments may go then or a sink waits for it: heads and books as they are without that batch. Whether there is something.
    pub fn seal_heads(&mut self, effects: &mut Effects) -> bool {
        let is_due = self.on_flash.makes_room(&mut self.outbox, &mut self.on_its_way);
        if is_due {
            self.on_flash.say(&mut effects.entries, &mut effects.releases, &mut self.bytes);
        }
        is_due
    }

    /// What [`Gateway::seal_heads`] made could not be committed.
    pub fn heads_waited(&mut self, effects: &Effects) {
        self.on_flash.owe(&effects.releases);
    }

    /// Tells the batch that waits what was settled meanwhile: heads that went back would hold segments that have gone.
    /// `effects` are as they were sealed.
    pub fn seal_again(&mut self, effects: &mut Effects) {
        self.on_its_way.say(&mut effects.entries, &mut effects.releases, &mut self.bytes);
    }

    /// Every key and its value as of the last sealed batch, for a snapshot. Call it with nothing unsealed.
    pub fn export(&mut self, now: Now, entries: &mut Entries) {
        let kept = self.timeline.kept(now);
        self.windows.export(entries);
        for slot in &mut self.slots {
            for (key, value) in slot.function.state_entries() {
                entries.put(&[&[Space::State as u8], slot.name.as_bytes(), &[0], key], value);
            }
            slot.save_usage(entries, &mut self.bytes);
            slot.save_period(true, entries, &mut self.bytes);
        }
        self.marks.export(entries);
        self.subscribed.export(entries, &mut self.bytes);
        self.outbox.export(entries);
        self.books.save(entries, &mut self.bytes);
        save_clock(self.commit, kept, entries, &mut self.bytes);
        self.store.save(entries);
    }

    /// Number of the last sealed commit.
    #[must_use]
    pub const fn commit(&self) -> u64 {
        self.commit
    }

    /// Rough size of the open batch on flash, bytes.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        const MARK_BYTES: usize = 5;
        self.outbox.staged_bytes() + self.marks.open_len() * MARK_BYTES
    }
}

/// The function that an entry belongs to, if it is one of a function's state or usage.
fn function_of(key: &[u8]) -> Option<&[u8]> {
    let (space, rest) = key.split_first()?;
    match *space {
        space if space == Space::State as u8 => Some(&rest[..rest.iter().position(|byte| *byte == 0)?]),
        space if space == Space::Usage as u8 || space == Space::Period as u8 => Some(rest),
        _ => None,
    }
}

impl Slot {
    fn is_called(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name
    }

    fn drain_dirty(&mut self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        let name = self.name.as_bytes();
        self.function.drain_dirty_state(&mut |key, value| {
            let key = [&[Space::State as u8][..], name, &[0], key];
            match value {
                Some(value) => entries.put(&key, value),
                None => entries.delete(&key),
            }
        });
        if core::mem::take(&mut self.usage_dirty) {
            self.save_usage(entries, scratch);
        }
        self.save_period(false, entries, scratch);
    }

    fn save_usage(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        scratch.clear();
        self.function.usage().encode(scratch);
        entries.put(&[&[Space::Usage as u8], self.name.as_bytes()], scratch);
    }
}

fn save_clock(commit: u64, kept: Kept, entries: &mut Entries, scratch: &mut Vec<u8>) {
    scratch.clear();
    put_varint(scratch, commit);
    put_varint(scratch, zigzag(kept.wall_ms));
    put_varint(scratch, zigzag(kept.age_ms));
    scratch.push(kept.quality as u8);
    entries.put(&[&[Space::Books as u8], CLOCK_KEY], scratch);
}

fn intervals(config: &Config, now: Now) -> Vec<Interval> {
    let mut intervals = Vec::new();
    for (slot, function) in config.functions.iter().enumerate() {
        for trigger in &function.triggers {
            if let Trigger::Interval(every) = trigger {
                let every_us = every.0.max(1) * 1000;
                intervals.push(Interval { slot, every_us, next_us: now.mono_us + every_us });
            }
        }
    }
    intervals
}

fn meter_def(function: &str, spec: &MeterSpec) -> MeterDef {
    let name = format!("{function}.{}", spec.name);
    MeterDef { topic: format!("meter/{name}"), name, spec: spec.clone() }
}
