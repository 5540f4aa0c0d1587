//! What must hold in every world: after each step, and at the end.

use core::fmt;

use weir::books::DropReason;
use weir::config::{Config, Qos};
use weir::entry::{self, Space};
use weir::gateway::Gateway;

use super::machine::Machine;
use super::site::{ALARMS, CALLS_KEY, GATEWAY, KEPT_ABOVE, STATS, TEMP};
use crate::compare::Comparison;
use crate::fleet::Message;
use crate::truth::Truth;
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

fn holds(what: &str, is: impl PartialEq + fmt::Debug, wanted: impl fmt::Debug, does: bool) -> Result<(), Broken> {
    if does { Ok(()) } else { Err(Broken(format!("{what}: {is:?}, wanted {wanted:?}"))) }
}

fn equal<T: PartialEq + fmt::Debug>(what: &str, is: T, wanted: T) -> Result<(), Broken> {
    if is == wanted { Ok(()) } else { Err(Broken(format!("{what}: {is:?}, wanted {wanted:?}"))) }
}

/// After every event: the books balance, no bound is passed.
pub fn step(gateway: &Gateway, config: &Config) -> Result<(), Broken> {
    equal("residue of the books", gateway.residue(), 0)?;
    let status = gateway.status();
    let cells_max: u64 =
        config.functions.iter().flat_map(|function| &function.manifest.meters).map(|meter| meter.cells_max()).sum();
    holds("cells of open windows", status.cells, cells_max, status.cells <= cells_max)?;
    // Beyond the bound of the sealed ones: the open batch, and what a restart finds because its deletion was not committed yet.
    let marks_max = u64::from(config.broker.in_flight) * 4 + u64::from(config.commit.messages_max) * 3;
    holds("duplicate marks", status.marks, marks_max, status.marks <= marks_max)?;
    for lane in &status.lanes {
        holds(&format!("bytes of lane {}", lane.name), lane.bytes, lane.bytes_max, lane.bytes <= lane.bytes_max)?;
    }
    Ok(())
}

/// At the end, when everything has come to rest: all is where it belongs, once.
pub fn end(
    machine: &mut Machine,
    now_us: u64,
    messages: &[&Message],
    truth: &Truth,
    upstream: &Upstream,
) -> Result<(), Broken> {
    let calls = calls(machine, now_us);
    let Some(gateway) = machine.gateway() else { return Err(Broken::new("no process at the end")) };
    let (books, status) = (gateway.books(), gateway.status());
    let protected: Vec<&&Message> = messages.iter().filter(|message| message.qos != Qos::AtMostOnce).collect();
    let count = |is: fn(&Message) -> bool| protected.iter().filter(|message| is(message)).count() as u64;
    let kept = count(|message| message.metered.is_some_and(|value| value > KEPT_ABOVE));
    let metered = count(|message| message.metered.is_some());

    equal("received", books.received, protected.len() as u64)?;
    equal("dead letters", books.dead_lettered, count(|message| message.flaws.malformed))?;
    equal("aggregated", books.aggregated, metered - kept)?;
    equal("delivered or lost for room", books.delivered + books.dropped[DropReason::LaneFull as usize], kept)?;
    equal("filtered", books.filtered, protected.len() as u64 - metered - books.dead_lettered)?;
    equal("calls counted in state", calls, metered)?;
    equal("aggregates lost", status.aggregates_lost, 0)?;
    equal("dead letters lost", status.dead_letters_lost, 0)?;

    let comparison = Comparison::new(truth, upstream);
    if !comparison.is_exact() {
        return Err(Broken(format!("upstream is not the truth:\n{comparison}")));
    }
    let alarms = upstream.totals(ALARMS);
    equal("alarms upstream", (alarms.messages, alarms.sum), (kept, kept as f64))?;
    equal("dead letters upstream", upstream.records("dead-letter"), books.dead_lettered)?;
    equal("documents that are no records", upstream.foreign, 0)?;
    for lane in gateway.outbox().lanes() {
        let name = &lane.config().name;
        let end = upstream.lane_end(GATEWAY, name);
        // The last records may have made room before they were sent; the loss record that says so came after them.
        equal(&format!("last sequence of lane {name}"), end, lane.next_seq())?;
    }
    Ok(())
}

/// What the metering function has counted in its durable state.
fn calls(machine: &mut Machine, now_us: u64) -> u64 {
    let key: Vec<u8> = [&[Space::State as u8], STATS.as_bytes(), &[0], CALLS_KEY].concat();
    let exported = machine.export(now_us);
    let found = entry::entries(exported.bytes()).flatten().find(|entry| entry.key == key);
    found.and_then(|entry| Some(u64::from_le_bytes(entry.value?.try_into().ok()?))).unwrap_or(0)
}

/// The meter's name, for scenarios.
pub const METER: &str = TEMP;
