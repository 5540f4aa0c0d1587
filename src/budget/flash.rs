//! Flash: the room on it, and what a day writes to it.

use crate::board::Board;
use crate::config::{CommitPolicy, Config, SinkKind, Trigger};
use crate::strict::Faults;
use crate::units::{Bytes, Millis};

use super::{Keyed, Line, costs};

const FIRST: &str = "";
const STATE: &str = "journal and snapshots";

pub(super) fn lines(config: &Config, keyed: &Keyed) -> Vec<Line> {
    let segment = config.store.segment_bytes.0;
    let mut lines = vec![
        Line::new(
            FIRST,
            "store.segment-bytes",
            "reserve for the gateway's own bookkeeping",
            costs::RESERVE_SEGMENTS * segment,
        ),
        Line::new(FIRST, "store.journal-bytes-max", "journal", config.store.journal_bytes_max.0),
        Line::new(
            FIRST,
            &*keyed.key,
            "snapshot, and the one before",
            keyed.bytes.saturating_add(costs::FLASH_PAGE).saturating_mul(2),
        ),
    ];
    if config.store.sled {
        let sled = costs::SLED_FLASH.0 + costs::SLED_FLASH_FACTOR.saturating_mul(keyed.bytes);
        lines.push(Line::new(FIRST, &*keyed.key, "sled: keyed state", sled));
    }
    let copies = if config.store.sled { 2 + costs::SLED_FLASH_FACTOR } else { 2 };
    let marks = costs::MARKS_MAX * costs::MARK_BEYOND_ENTRY * copies;
    lines.push(Line::new(FIRST, "broker", "marks, should the broker keep to no limit of messages", marks));
    for lane in &config.lanes {
        // One segment is being filled while another leaves.
        let bytes = lane.bytes_max.0 + segment;
        lines.push(Line::new(STATE, format!("lane.{}.bytes-max", lane.name), "records of the lane", bytes));
    }
    for sink in &config.sinks {
        if let SinkKind::File { file_bytes_max, files_max, .. } = &sink.kind {
            let bytes = file_bytes_max.0.saturating_mul(u64::from(*files_max));
            lines.push(Line::new(STATE, format!("sink.{}.files-max", sink.name), "files of the sink", bytes));
        }
    }
    lines
}

/// Bytes that a day writes to flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes {
    /// No message comes; interval triggers fire.
    pub idle: Bytes,
    /// Messages come all the time, few in each commit: the price of the commit interval itself.
    pub steady: Bytes,
    /// Every commit is full, every flush and snapshot writes all of the state.
    pub worst: Bytes,
    /// What the board grants.
    pub granted: Bytes,
    /// What the flash bears in its life: the board's grant over the years that it is meant for.
    pub endurance: Bytes,
    /// The commit interval that `steady` is counted with.
    interval: Millis,
    /// The interval that would fit, if one does.
    fits: Option<Millis>,
    /// What of `steady` is snapshots and flushes of the state.
    upkeep: Bytes,
}

const DAY_MS: u64 = 86_400_000;
/// A commit with a record: one aligned frame in the journal, one in the lane.
const COMMIT: u64 = 2 * costs::FLASH_PAGE;

impl Writes {
    pub(super) fn new(config: &Config, board: &Board, keyed: &Keyed) -> Self {
        let keyed = keyed.bytes;
        let interval = config.commit.interval.0.max(costs::COMMIT_MS_MIN);
        let commits = DAY_MS / interval;
        let idle_commits = firings(config).min(commits);
        let snapshots = DAY_MS / config.store.snapshot_interval.0.max(1);
        let flushes = if config.store.sled { DAY_MS / config.store.flush_interval.0.max(1) } else { 0 };
        let base = |commits: u64| {
            let upkeep = snapshots.min(commits).saturating_mul(keyed) + flushes.min(commits) * COMMIT;
            (upkeep, commits.saturating_mul(COMMIT).saturating_add(upkeep))
        };
        // Each full journal asks for one more snapshot.
        let frames = commits.saturating_mul(config.commit.bytes_max.0 + COMMIT);
        let forced = frames / config.store.journal_bytes_max.0.max(1);
        let worst = frames.saturating_add((snapshots + forced + 2 * flushes).saturating_mul(keyed));
        let (upkeep, steady) = base(commits);
        let spare = board.flash_writes_per_day.0.saturating_sub(upkeep).max(1);
        let fits = Millis((DAY_MS * COMMIT).div_ceil(spare).next_multiple_of(50));
        Self {
            idle: Bytes(base(idle_commits).1),
            steady: Bytes(steady),
            worst: Bytes(worst.max(steady)),
            granted: board.flash_writes_per_day,
            endurance: Bytes(board.flash_writes_per_day.0.saturating_mul(u64::from(board.flash_years) * 365)),
            interval: config.commit.interval,
            fits: (fits <= CommitPolicy::INTERVAL_MAX).then_some(fits),
            upkeep: Bytes(upkeep),
        }
    }

    /// Days until the flash is worn if so much is written each day; `None`: these writes never wear it out.
    #[must_use]
    pub fn life_days(&self, per_day: Bytes) -> Option<u64> {
        self.endurance.0.checked_div(per_day.0)
    }

    /// `fits_all`: memory and flash have room for everything.
    pub(super) fn check(&self, file: &str, board: &str, fits_all: bool, faults: &Faults) {
        let Self { steady, granted, interval, fits, upkeep, .. } = self;
        if steady <= granted {
            return;
        }
        let (key, text) = match fits {
            Some(fits) => (
                "commit.interval",
                format!(
                    "{interval} writes {steady} a day when messages come all the time; board {board} grants {granted}; {fits} would fit"
                ),
            ),
            None if !fits_all => return,
            // No commit interval that is taken would help: the state itself is written too often.
            None => (
                "store.snapshot-interval",
                format!(
                    "snapshots and flushes of the state write {upkeep} a day when messages come all the time; board {board} grants {granted}"
                ),
            ),
        };
        faults.warn(file, key, &text);
    }
}

/// How often interval triggers fire in a day.
fn firings(config: &Config) -> u64 {
    let triggers = config.functions.iter().flat_map(|function| &function.triggers);
    let each = triggers.filter_map(|trigger| match trigger {
        Trigger::Interval(interval) => Some(DAY_MS / interval.0.max(1)),
        _ => None,
    });
    each.fold(0, u64::saturating_add)
}
