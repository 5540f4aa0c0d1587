//! What must hold in every world: after each step, and at the end.

use core::fmt;

use weir::books::DropReason;
use weir::config::FullPolicy;
use weir::entry::{self, Space};
use weir::function::{ErrorKind, Pool};
use weir::gateway::{Gateway, Status};
use weir::outbox::LaneTotals;

use super::guests::{ALARMS, BEATS, CALLS_KEY, DEEDS, ROGUE, STATS, TEMP};
use super::ledger::{Expected, Ledger};
use super::machine::Machine;
use super::site::{GATEWAY, Site};
use super::windows::Windows;
use crate::truth::Tally;
use crate::upstream::Upstream;

/// Something does not hold: a defect of the gateway, or of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    /// In words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn within(what: &str, is: u64, max: u64) -> Result<(), Broken> {
    if is <= max { Ok(()) } else { Err(Broken(format!("{what}: {is}, at most {max}"))) }
}

fn equal<T: PartialEq + fmt::Debug>(what: &str, is: T, wanted: T) -> Result<(), Broken> {
    if is == wanted { Ok(()) } else { Err(Broken(format!("{what}: {is:?}, must be {wanted:?}"))) }
}

/// After every event: the books balance, no lane is beyond its bound.
pub fn step(gateway: &Gateway) -> Result<(), Broken> {
    equal("residue of the books", gateway.residue(), 0)?;
    for lane in gateway.outbox().lanes() {
        let config = lane.config();
        if config.bytes_max.0 < lane.bytes() {
            within(&format!("bytes of lane {}", config.name), lane.bytes(), config.bytes_max.0)?;
        }
    }
    Ok(())
}

/// After some events: every bound that the budget adds up.
pub fn full_step(gateway: &Gateway, site: &Site, disk_used: u64) -> Result<(), Broken> {
    let status = gateway.status();
    let config = &site.config;
    let cells_max: u64 =
        config.functions.iter().flat_map(|function| &function.manifest.meters).map(|meter| meter.cells_max()).sum();
    within("cells of open windows", status.cells, cells_max)?;
    // The world's brokers keep to limits, theirs or ours, so marks leave long before there are none left; those of QoS 2 when the
    // broker has read PUBCOMP. Beyond: the open batch, and what a restart finds because its deletion was not committed yet.
    let marks_max = (u64::from(config.broker.in_flight) * 8).max(2048);
    within("duplicate marks", status.marks, marks_max + u64::from(config.commit.messages_max) * 3 + 128)?;
    within("bytes on flash", disk_used, site.budget.flash.total().0)?;
    for (function, own) in status.functions.iter().zip(&config.functions) {
        let limits = &own.manifest.limits;
        within(&format!("state of {}", function.name), function.state_bytes, limits.state.0)?;
        within(&format!("memory of {}", function.name), function.usage.peak_memory, limits.memory.0)?;
    }
    Ok(())
}

/// The guests' memories.
pub fn guests(pool: &Pool, site: &Site) -> Result<(), Broken> {
    within("linear memory of all guests", pool.granted().0, site.budget.guests.0)
}

/// What the end is compared with.
pub struct End<'a> {
    /// What must be so.
    pub ledger: &'a Ledger,
    /// What arrived.
    pub upstream: &'a Upstream,
    /// The aggregates that arrived, by window.
    pub windows: &'a Windows,
    /// Windows may lie elsewhere than the truth has them: the clock was wrong at some time.
    pub was_moved: bool,
}

/// At the end, when everything has come to rest: all is where it belongs, once.
pub fn end(machine: &mut Machine, now_us: u64, end: &End<'_>) -> Result<(), Broken> {
    let End { ledger, upstream, windows, was_moved } = end;
    let calls = ["stats", "beat"].map(|function| calls(machine, function, now_us));
    let (flips, site) = (machine.flips, &machine.site);
    let Some(gateway) = machine.gateway() else { return Err(Broken::new("no process at the end")) };
    full_step(gateway, site, machine.disk.used())?;
    sequences(gateway, upstream)?;
    equal("documents that are no records", upstream.foreign, 0)?;
    if ledger.is_damaged {
        return Ok(());
    }
    ledger.check_owed()?;
    let (expected, status) = (ledger.expected(), gateway.status());
    books(&status, expected)?;
    equal("calls of stats counted in state", calls[0], expected.metered)?;
    usage(&status, expected, calls[1])?;
    equal("aggregates that no lane took", status.aggregates_lost, 0)?;
    let lane = status.lanes.iter().find(|lane| lane.name == "meters");
    let lost = lane.map_or(0, |lane| lane.totals.dropped.iter().sum::<u64>());
    // Where rolling up makes no room the oldest leave.
    let may_lose = 0 < flips || site.config.lanes.iter().any(|lane| lane.full == FullPolicy::RollUp);
    if may_lose && 0 < lost {
        return Ok(());
    }
    meters(upstream, expected, site, calls[1])?;
    if !was_moved {
        windows.check(expected)?;
    }
    windows.check_marked(expected)
}

/// Upstream's sequences have no unexplained gap, and nothing behind the last one is missing.
fn sequences(gateway: &Gateway, upstream: &Upstream) -> Result<(), Broken> {
    for gap in upstream.gaps() {
        // What an idle lane has lost last is told with the next record that goes through it.
        let lane = gateway.outbox().lanes().iter().find(|lane| lane.config().name == gap.lane);
        let lost = lane.map_or(0, |lane| undelivered(lane.totals()));
        if lost.saturating_sub(upstream.told(GATEWAY, &gap.lane)) < gap.missing {
            return Err(Broken(gap.to_string()));
        }
    }
    for lane in gateway.outbox().lanes().iter().filter(|lane| lane.config().sink.is_some()) {
        let name = &lane.config().name;
        // The last records may have made room before they were sent; the loss record that says so came after them.
        let untold = undelivered(lane.totals());
        let end = upstream.lane_end(GATEWAY, name);
        if end != lane.next_seq() && (untold == 0 || lane.next_seq() < end) {
            equal(&format!("last sequence of lane {name}"), end, lane.next_seq())?;
        }
    }
    Ok(())
}

/// Numbers that upstream is told of in place of their records.
fn undelivered(totals: &LaneTotals) -> u64 {
    totals.dropped.iter().sum::<u64>() + totals.expired + totals.rolled_up
}

fn books(status: &Status<'_>, expected: &Expected) -> Result<(), Broken> {
    let books = status.books;
    equal("received", books.received, expected.received)?;
    equal("dead letters", books.dead_lettered, expected.dead_lettered)?;
    equal("aggregated", books.aggregated, expected.aggregated)?;
    equal("filtered", books.filtered, expected.filtered)?;
    equal("thrown away", books.dropped[DropReason::InboxFull as usize], expected.lost)?;
    let gone: u64 = books.dropped.iter().sum::<u64>() - expected.lost;
    let recorded = books.delivered + books.expired + gone + status.pending;
    equal("delivered, expired, dropped or pending", recorded, expected.recorded)
}

fn usage(status: &Status<'_>, expected: &Expected, beats: u64) -> Result<(), Broken> {
    for function in &status.functions {
        let usage = function.usage;
        match function.name {
            STATS => {
                equal("failures of stats", usage.errors_total(), 0)?;
                within("calls that metered, of all calls of stats", expected.metered, usage.invocations)?;
            }
            "alarm" => equal("calls of alarm", usage.invocations, expected.kept)?,
            "beat" => equal("calls of beat", usage.invocations, beats)?,
            ROGUE => {
                equal("calls of rogue", usage.invocations, expected.rogue_calls)?;
                for kind in ErrorKind::ALL {
                    let wanted = expected.rogue_errors_of(kind);
                    equal(&format!("failures of rogue by {}", kind.name()), usage.errors_of(kind), wanted)?;
                }
            }
            _ => {}
        }
        let charged = usage.fuel > 0;
        equal(&format!("{} was charged fuel", function.name), charged || usage.invocations == 0, true)?;
    }
    Ok(())
}

/// Per-device meters upstream are the truth.
fn meters(upstream: &Upstream, expected: &Expected, site: &Site, beats: u64) -> Result<(), Broken> {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(device, count)| (device.clone(), Tally { messages: *count, sum: *count as f64 })).collect()
    };
    let mut wanted =
        vec![(TEMP, expected.temps.clone()), (ALARMS, counts(&expected.alarms)), (DEEDS, counts(&expected.deeds))];
    if site.has_beat && 0 < beats {
        wanted.push((BEATS, [(String::new(), Tally { messages: beats, sum: beats as f64 })].into()));
    }
    for (meter, devices) in wanted {
        let arrived: std::collections::BTreeMap<String, Tally> =
            upstream.keys(meter).map(|(key, tally)| (key.to_owned(), tally)).collect();
        if arrived != devices {
            let differs = devices.keys().chain(arrived.keys()).find(|key| devices.get(*key) != arrived.get(*key));
            let key = differs.map_or("", String::as_str);
            equal(&format!("{meter} of {key:?} upstream"), arrived.get(key), devices.get(key))?;
        }
    }
    Ok(())
}

/// What a function has counted in its durable state.
fn calls(machine: &mut Machine, function: &str, now_us: u64) -> u64 {
    let key: Vec<u8> = [&[Space::State as u8], function.as_bytes(), &[0], CALLS_KEY].concat();
    let exported = machine.export(now_us);
    let found = entry::entries(exported.bytes()).flatten().find(|entry| entry.key == key);
    found.and_then(|entry| Some(u64::from_le_bytes(entry.value?.try_into().ok()?))).unwrap_or(0)
}
