//! The world's own books: what every message must have become, and what the disk must hold.
//!
//! - A message that a session owes the gateway is handled in exactly one commit that happened; one at QoS 0, or of a session
//!   that was lost, in at most one. Which commits happened is known: by the store's answer, or by what a restart finds.
//! - What a message leads to is worked out here from the site, without the gateway's code: totals, meters, windows, letters.
//! - The entries on the disk are those of the last commit that happened, key for key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir::books::Books;
use weir::config::{Qos, RetainedPolicy};
use weir::cycle::Kind;
use weir::entry::{self, Space};
use weir::function::usage::ERROR_KINDS;
use weir::function::{ErrorKind, Usage};
use weir::time::Now;

use super::checks::Broken;
use super::guests::{DeedOutcome, KEPT_ABOVE, ROGUE, STATS};
use super::site::{SKEW_MAX_MS, Site};
use crate::fleet::Message;
use crate::truth::Tally;

/// 2000-01-01: no earlier event time is believed.
const YEAR_2000_MS: i64 = 946_684_800_000;

/// A message on its way to the gateway: one publish, or one retained message sent upon a subscription.
#[derive(Clone, Debug)]
struct Instance {
    message: Arc<Message>,
    qos: Qos,
    is_retained: bool,
    /// The session keeps it until it is acknowledged.
    is_owed: bool,
    is_committed: bool,
}

/// Whether a retained message is one that a trigger has had before, by what the gateway has recorded of its subscriptions. A grant
/// that a crash keeps from flash makes a trigger new once more: it may have such a message twice, as two messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct IsOld {
    /// For `stats`.
    pub stats: bool,
    /// For the rogue.
    pub rogue: bool,
}

/// What a message leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What `stats` meters.
    pub metered: Option<f64>,
    /// `stats` keeps it.
    pub is_kept: bool,
    /// What the rogue did, if it was called.
    pub deed: Option<DeedOutcome>,
    /// Dead letters.
    pub letters: u64,
}

/// Where the message stands in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Somebody failed.
    DeadLettered,
    /// It became records.
    Recorded,
    /// It went into meters.
    Aggregated,
    /// Nobody wanted it.
    Filtered,
}

impl Outcome {
    /// The fate that follows.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let emits = matches!(self.deed, Some(DeedOutcome::Done { emits: 1.. }));
        match self {
            Self { letters: 1.., .. } => Fate::DeadLettered,
            _ if self.is_kept || emits => Fate::Recorded,
            Self { metered: Some(_), .. } | Self { deed: Some(DeedOutcome::Done { .. }), .. } => Fate::Aggregated,
            _ => Fate::Filtered,
        }
    }
}

/// A message that the gateway handled.
#[derive(Clone, Copy, Debug)]
struct Handled {
    instance: usize,
    outcome: Outcome,
    /// Start of the window that its value belongs to, where that is certain.
    window: Option<i64>,
}

/// What lies in one batch.
#[derive(Debug, Default)]
struct Batch {
    handled: Vec<Handled>,
    /// QoS 0 messages that were thrown away.
    lost: u64,
    /// New values, as sealed.
    entries: Vec<u8>,
}

/// What must be so when all commits so far are true.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Messages, those thrown away included.
    pub received: u64,
    /// Thrown away.
    pub lost: u64,
    /// By fate.
    pub dead_lettered: u64,
    /// By fate.
    pub recorded: u64,
    /// By fate.
    pub aggregated: u64,
    /// By fate.
    pub filtered: u64,
    /// Dead letters made.
    pub letters: u64,
    /// Calls of `stats` that metered.
    pub metered: u64,
    /// Kept messages.
    pub kept: u64,
    /// By device.
    pub temps: BTreeMap<String, Tally>,
    /// Kept messages by device.
    pub alarms: BTreeMap<String, u64>,
    /// Good deeds by device.
    pub deeds: BTreeMap<String, u64>,
    /// Values by (device, start of the window).
    pub windows: BTreeMap<(String, i64), Tally>,
    /// Failed calls of the rogue, by kind.
    pub rogue_errors: [u64; ERROR_KINDS],
    /// Calls of the rogue.
    pub rogue_calls: u64,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger {
    instances: Vec<Instance>,
    /// As of the last commit that is known to have happened.
    expected: Expected,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The batch being filled; what is in it, by instance.
    open: Batch,
    /// The batch on its way to the disk.
    flight: Option<Batch>,
    /// What sinks have settled, on its way past the batch.
    heads: Option<Vec<u8>>,
    /// In the open batch or on its way.
    unsure: BTreeSet<usize>,
    /// The medium lost something that was committed, and said so: totals prove nothing any more.
    pub is_damaged: bool,
}

impl Ledger {
    fn add(&mut self, message: Arc<Message>, qos: Qos, is_retained: bool, is_owed: bool) -> usize {
        self.instances.push(Instance { message, qos, is_retained, is_owed, is_committed: false });
        self.instances.len() - 1
    }

    /// A session owes a message.
    pub fn owe(&mut self, message: Arc<Message>, qos: Qos, is_retained: bool) -> usize {
        self.add(message, qos, is_retained, true)
    }

    /// A QoS 0 message is sent.
    pub fn offer(&mut self, message: Arc<Message>, qos: Qos, is_retained: bool) -> usize {
        self.add(message, qos, is_retained, false)
    }

    /// The session is gone, or a stranger has acknowledged it: it is owed no more.
    pub fn forgive(&mut self, instance: usize) {
        self.instances[instance].is_owed = false;
    }

    /// Quality of service it is delivered with.
    #[must_use]
    pub fn qos(&self, instance: usize) -> Qos {
        self.instances[instance].qos
    }

    /// Whether it is a retained message that a subscription brought.
    #[must_use]
    pub fn is_retained(&self, instance: usize) -> bool {
        self.instances[instance].is_retained
    }

    /// The message.
    #[must_use]
    pub fn message(&self, instance: usize) -> &Arc<Message> {
        &self.instances[instance].message
    }

    /// Messages so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.instances.len() as u64
    }

    /// What must be so.
    #[must_use]
    pub const fn expected(&self) -> &Expected {
        &self.expected
    }

    /// What the broker may believe: an acknowledged message is on flash.
    pub fn check_acknowledged(&self, instance: usize) -> Result<(), Broken> {
        if self.instances[instance].is_committed || self.is_damaged {
            return Ok(());
        }
        Err(Broken::new(format!("message {instance} was acknowledged before its commit")))
    }

    /// The gateway has handled a message: `before` and `after` are its books.
    pub fn handled(
        &mut self,
        instance: usize,
        is_old: IsOld,
        now: Now,
        (before, after): (&Books, &Books),
        site: &Site,
    ) -> Result<(), Broken> {
        if self.is_damaged {
            return Ok(());
        }
        let known = self.instances[instance].is_committed || self.unsure.contains(&instance);
        let (received, duplicates) = (after.received - before.received, after.duplicates - before.duplicates);
        match (received, duplicates, known) {
            (0, 1, true) => return Ok(()),
            (1, 0, false) => {}
            (0, 1, false) => {
                return Err(Broken::new(format!("message {instance} is new and was taken for a duplicate")));
            }
            (1, 0, true) => return Err(Broken::new(format!("message {instance} is counted twice"))),
            _ => return Err(Broken::new(format!("{received} received, {duplicates} duplicates for one message"))),
        }
        let outcome = self.outcome(instance, is_old, site);
        let fates = |books: &Books| [books.dead_lettered, books.aggregated, books.filtered];
        let (then, since) = (fates(before), fates(after));
        let wanted = match outcome.fate() {
            Fate::DeadLettered => [1, 0, 0],
            Fate::Recorded => [0, 0, 0],
            Fate::Aggregated => [0, 1, 0],
            Fate::Filtered => [0, 0, 1],
        };
        let became: Vec<u64> = then.iter().zip(since).map(|(then, since)| since - then).collect();
        if became != wanted {
            return Err(Broken::new(format!(
                "message {instance} ({:?}) became {became:?} (dead-lettered, aggregated, filtered), must be {wanted:?}: {outcome:?}",
                self.instances[instance].message.flaws
            )));
        }
        let window = outcome.metered.map(|_| window_of(&self.instances[instance].message, now, site));
        self.open.handled.push(Handled { instance, outcome, window });
        self.unsure.insert(instance);
        Ok(())
    }

    /// QoS 0 messages were thrown away.
    pub fn lost(&mut self, count: u64) {
        self.open.lost += count;
    }

    /// What a message must lead to.
    #[must_use]
    pub fn outcome(&self, instance: usize, is_old: IsOld, site: &Site) -> Outcome {
        let Instance { message, is_retained, .. } = &self.instances[instance];
        let takes = |function: &str, is_old: bool| match site.retained(function) {
            _ if !is_retained => true,
            RetainedPolicy::Always => true,
            RetainedPolicy::SkipOnResubscribe => !is_old,
            RetainedPolicy::Never => false,
        };
        let (stats, rogue) = (takes(STATS, is_old.stats), takes(ROGUE, is_old.rogue) && !site.deeds.is_empty());
        if message.flaws.malformed {
            return Outcome { letters: u64::from(stats) + u64::from(rogue), ..Outcome::default() };
        }
        let wanted = |value: &f64| stats && site.wanted_from.is_none_or(|from| from <= *value);
        let metered = message.metered.filter(wanted);
        let deed = rogue.then(|| site.deeds[(message.seq % site.deeds.len() as u64) as usize].outcome());
        let is_kept = metered.is_some_and(|value| KEPT_ABOVE < value);
        let letters = u64::from(matches!(deed, Some(DeedOutcome::Failed(_))));
        Outcome { metered, is_kept, deed, letters }
    }

    /// These entries are on their way: of the open batch, which is closed; of the same once more; or of none.
    pub fn sealed(&mut self, kind: Kind, entries: &[u8]) {
        match (kind, &mut self.flight) {
            (Kind::Heads, _) => self.heads = Some(entries.to_vec()),
            (Kind::Again, Some(batch)) => batch.entries = entries.to_vec(),
            _ => {
                let mut batch = core::mem::take(&mut self.open);
                batch.entries = entries.to_vec();
                self.flight = Some(batch);
            }
        }
    }

    /// What is on its way is on flash.
    pub fn committed(&mut self, kind: Kind, site: &Site) -> Result<(), Broken> {
        if kind == Kind::Heads {
            apply(&mut self.entries, &self.heads.take().unwrap_or_default());
            return Ok(());
        }
        let Some(batch) = self.flight.take() else { return Ok(()) };
        apply(&mut self.entries, &batch.entries);
        self.expected.lost += batch.lost;
        self.expected.received += batch.lost;
        for handled in batch.handled {
            self.unsure.remove(&handled.instance);
            let instance = &mut self.instances[handled.instance];
            if core::mem::replace(&mut instance.is_committed, true) {
                return Err(Broken::new(format!("message {} is committed twice", handled.instance)));
            }
            self.expected.count(&instance.message, &handled, site);
        }
        Ok(())
    }

    /// The process is gone, with what it had not written.
    pub fn process_gone(&mut self) {
        self.open = Batch::default();
    }

    /// A restart found `found` on the disk: the last commit that happened is the one that was answered, or the one behind it.
    /// `is_told`: the store has said that something was damaged.
    pub fn recovered(&mut self, found: &BTreeMap<Vec<u8>, Vec<u8>>, is_told: bool, site: &Site) -> Result<(), Broken> {
        self.open = Batch::default();
        let heads = self.heads.take();
        if self.is_damaged {
            self.flight = None;
            return Ok(());
        }
        if let Some(heads) = heads {
            let mut with_heads = self.entries.clone();
            apply(&mut with_heads, &heads);
            if is_same(found, &with_heads) {
                self.entries = with_heads;
            }
        }
        let mut with_flight = self.entries.clone();
        if let Some(flight) = &self.flight {
            apply(&mut with_flight, &flight.entries);
        }
        if self.flight.is_some() && is_same(found, &with_flight) {
            self.committed(Kind::Batch, site)?;
        } else if !is_same(found, &self.entries) {
            if is_told {
                self.is_damaged = true;
            } else {
                return Err(Broken::new(difference(found, &self.entries, &with_flight)));
            }
        }
        self.flight = None;
        self.unsure.clear();
        Ok(())
    }

    /// The books that a process starts with.
    pub fn check_books(&self, books: &Books) -> Result<(), Broken> {
        let Expected { received, dead_lettered, aggregated, filtered, .. } = self.expected;
        let is = [books.received, books.dead_lettered, books.aggregated, books.filtered];
        let wanted = [received, dead_lettered, aggregated, filtered];
        if is == wanted || self.is_damaged {
            return Ok(());
        }
        Err(Broken::new(format!("books after a start: {is:?}, must be {wanted:?}")))
    }

    /// At the end: everything owed was handled.
    pub fn check_owed(&self) -> Result<(), Broken> {
        let missing = self.instances.iter().position(|instance| instance.is_owed && !instance.is_committed);
        match missing.filter(|_| !self.is_damaged) {
            Some(instance) => Err(Broken::new(format!("message {instance} was acknowledged and never handled"))),
            None => Ok(()),
        }
    }
}

impl Expected {
    fn count(&mut self, message: &Message, handled: &Handled, site: &Site) {
        let Handled { outcome, window, .. } = handled;
        self.received += 1;
        match outcome.fate() {
            Fate::DeadLettered => self.dead_lettered += 1,
            Fate::Recorded => self.recorded += 1,
            Fate::Aggregated => self.aggregated += 1,
            Fate::Filtered => self.filtered += 1,
        }
        self.letters += outcome.letters;
        let device = message.topic.split('/').nth(1).unwrap_or_default();
        if let Some(value) = outcome.metered {
            self.metered += 1;
            self.temps.entry(device.to_owned()).or_default().add(1, value);
            if let Some(start) = window {
                self.windows.entry((device.to_owned(), *start)).or_default().add(1, value);
            }
        }
        if outcome.is_kept {
            self.kept += 1;
            if site.has_alarm {
                *self.alarms.entry(device.to_owned()).or_default() += 1;
            }
        }
        self.rogue_calls += u64::from(outcome.deed.is_some());
        match outcome.deed {
            Some(DeedOutcome::Done { .. }) => *self.deeds.entry(device.to_owned()).or_default() += 1,
            Some(DeedOutcome::Failed(kind)) => self.rogue_errors[kind as usize] += 1,
            Some(DeedOutcome::Dropped) | None => {}
        }
    }

    /// Failed calls of the rogue of one kind.
    #[must_use]
    pub const fn rogue_errors_of(&self, kind: ErrorKind) -> u64 {
        self.rogue_errors[kind as usize]
    }
}

/// The window of a message's value, if it came at `now`.
pub fn window_of(message: &Message, now: Now, site: &Site) -> i64 {
    let stamp = || {
        let text = core::str::from_utf8(&message.payload).ok()?;
        let digits = text.split_once("\"ts\":")?.1.split(',').next()?;
        digits.parse::<i64>().ok()
    };
    // A gateway whose own clock is not set lives before 2000 as well.
    let earliest = if YEAR_2000_MS <= now.wall_ms { YEAR_2000_MS } else { 0 };
    let time_ms = stamp()
        .filter(|_| site.has_time)
        .filter(|ms| (earliest..now.wall_ms.saturating_add(SKEW_MAX_MS)).contains(ms))
        .unwrap_or(now.wall_ms);
    time_ms - time_ms.rem_euclid(site.window_ms)
}

fn apply(to: &mut BTreeMap<Vec<u8>, Vec<u8>>, entries: &[u8]) {
    for entry in entry::entries(entries).flatten() {
        match entry.value {
            Some(value) => to.insert(entry.key, value.to_vec()),
            None => to.remove(&entry.key),
        };
    }
}

/// Whether `found` is `wanted`, but for what a snapshot may say otherwise.
fn is_same(found: &BTreeMap<Vec<u8>, Vec<u8>>, wanted: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    let mut keys = found.keys().chain(wanted.keys().filter(|key| !found.contains_key(*key)));
    keys.all(|key| is_same_value(key, found, wanted))
}

/// A snapshot has the heads of lanes that nothing ever went into and the start of functions that were never called, and has
/// marks that were released or whose deletion is due no more. (What a mark is for shows when a message comes again.)
fn is_same_value(key: &[u8], found: &BTreeMap<Vec<u8>, Vec<u8>>, wanted: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    let (found, wanted) = (found.get(key), wanted.get(key));
    let space = key.first().copied().unwrap_or_default();
    match (found, wanted) {
        (found, wanted) if found == wanted => true,
        (Some(_), None) if space == Space::Lane as u8 => true,
        (_, Some(_)) if space == Space::Marks as u8 => true,
        (Some(found), wanted) if space == Space::Usage as u8 => {
            let wanted = wanted.map_or(Some(Usage::default()), |wanted| Usage::decode(wanted));
            Usage::decode(found).zip(wanted).is_some_and(|(found, wanted)| {
                let calls = |usage: &Usage| (usage.invocations, usage.errors, usage.bytes_in, usage.bytes_out);
                calls(&found) == calls(&wanted) && wanted.fuel <= found.fuel
            })
        }
        _ => false,
    }
}

fn difference(
    found: &BTreeMap<Vec<u8>, Vec<u8>>,
    answered: &BTreeMap<Vec<u8>, Vec<u8>>,
    behind: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> String {
    let keys: BTreeSet<&Vec<u8>> = found.keys().chain(answered.keys()).chain(behind.keys()).collect();
    let other = |key: &&&Vec<u8>| !is_same_value(key, found, answered) && !is_same_value(key, found, behind);
    let differs = keys.iter().filter(other).count();
    let first = keys.iter().find(other).map_or_else(String::new, |key| String::from_utf8_lossy(key).into_owned());
    format!(
        "a restart finds neither the last commit that was answered nor the one behind it: {differs} of {} entries are of \
         neither, the first is {first:?}",
        keys.len()
    )
}
