//! What goes wrong, and when: a schedule of faults, drawn from a seed or written down.
//!
//! - A fault carries everything that decides it, its length too: one can be taken out of a schedule and the others mean what
//!   they meant before. So a failing schedule can be shrunk.
//! - Text, a fault a line: `SECONDS NAME WORDS…`. What is printed can be read back.

use core::fmt;
use core::str::FromStr;

use weir::store::mem_disk::Survival;

use crate::rng::Rng;

/// A fault and when it strikes, in virtual microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at_us: u64,
    /// What.
    pub fault: Fault,
}

/// Who notices that a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// Both ends.
    Both,
    /// Only the gateway: the broker goes on sending until the next CONNECT takes the session over.
    Gateway,
    /// Only the broker: the gateway goes on acknowledging until its keep-alive fails.
    Broker,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9: what was written is written.
    Kill,
    /// The power goes now; what of the unsynced survives is decided by the number.
    PowerCut(Survival, u64),
    /// The power goes at this many steps of the disk from now.
    PowerCutAt(u64, Survival, u64),
    /// The connection to the broker breaks.
    LinkCut(Noticed),
    /// No connection to the broker for a while.
    BrokerDown {
        /// How long.
        for_us: u64,
        /// Sessions, queues and retained messages are gone afterwards.
        forgets: bool,
    },
    /// A stranger connects with our client identifier.
    TakeOver {
        /// Messages of the session that the stranger acknowledges.
        takes: u64,
    },
    /// Upstream is away.
    UpstreamDown(u64),
    /// The connection upstream breaks: records may have arrived whose acknowledgements did not.
    UpstreamLost,
    /// Upstream takes everything, and its acknowledgements go nowhere.
    UpstreamVoid(u64),
    /// Upstream answers a hundred times slower.
    UpstreamSlow(u64),
    /// Upstream refuses everything: not now, or (where a lane may lose) never.
    UpstreamRefuses {
        /// How long.
        for_us: u64,
        /// It will never take what it refused.
        for_good: bool,
    },
    /// Everything reaches upstream twice.
    UpstreamTwice(u64),
    /// The disk has so many bytes left for a while.
    DiskFull {
        /// Bytes.
        room: u64,
        /// How long.
        for_us: u64,
    },
    /// The disk has so many bytes left, and gets no room but what the gateway itself lets go.
    DiskTight(u64),
    /// So many writes from now, one fails with EIO.
    WriteFails(u64),
    /// So many syncs from now, one fails with EIO, and what it covered is not on the medium.
    SyncFails(u64),
    /// So many reads from now on fail with EIO, and then the medium reads well again. Fewer than it takes to give anything up.
    ReadsFail(u64),
    /// A bit of some file is flipped on the medium.
    Flip(u64),
    /// The wall clock is set by somebody, without a word.
    ClockStep(i64),
    /// The wall clock runs faster or slower by parts of a million.
    ClockDrift(i64),
    /// The wall clock is back in 1970 and nothing has set it.
    ClockLost,
    /// The time service sets the clock.
    ClockSet,
    /// The machine sleeps: processes stand still.
    Suspend(u64),
}

impl Fault {
    /// Whether windows may lie elsewhere than the truth has them after this, marked or not.
    #[must_use]
    pub const fn moves_time(self) -> bool {
        matches!(self, Self::ClockStep(_) | Self::ClockDrift(_) | Self::ClockLost | Self::ClockSet)
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} {}", self.at_us / 1_000_000, self.at_us % 1_000_000, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kill => f.write_str("kill"),
            Self::PowerCut(survival, seed) => write!(f, "power-cut {} {seed}", name(survival)),
            Self::PowerCutAt(steps, survival, seed) => write!(f, "power-cut-at {steps} {} {seed}", name(survival)),
            Self::LinkCut(Noticed::Both) => f.write_str("link-cut both"),
            Self::LinkCut(Noticed::Gateway) => f.write_str("link-cut gateway"),
            Self::LinkCut(Noticed::Broker) => f.write_str("link-cut broker"),
            Self::BrokerDown { for_us, forgets } => {
                write!(f, "broker-down {for_us} {}", if forgets { "forgets" } else { "keeps" })
            }
            Self::TakeOver { takes } => write!(f, "take-over {takes}"),
            Self::UpstreamDown(for_us) => write!(f, "upstream-down {for_us}"),
            Self::UpstreamLost => f.write_str("upstream-lost"),
            Self::UpstreamVoid(for_us) => write!(f, "upstream-void {for_us}"),
            Self::UpstreamSlow(for_us) => write!(f, "upstream-slow {for_us}"),
            Self::UpstreamRefuses { for_us, for_good } => {
                write!(f, "upstream-refuses {for_us} {}", if for_good { "for-good" } else { "for-now" })
            }
            Self::UpstreamTwice(for_us) => write!(f, "upstream-twice {for_us}"),
            Self::DiskFull { room, for_us } => write!(f, "disk-full {room} {for_us}"),
            Self::DiskTight(room) => write!(f, "disk-tight {room}"),
            Self::WriteFails(nth) => write!(f, "write-fails {nth}"),
            Self::SyncFails(nth) => write!(f, "sync-fails {nth}"),
            Self::ReadsFail(times) => write!(f, "reads-fail {times}"),
            Self::Flip(pick) => write!(f, "flip {pick}"),
            Self::ClockStep(by_ms) => write!(f, "clock-step {by_ms}"),
            Self::ClockDrift(ppm) => write!(f, "clock-drift {ppm}"),
            Self::ClockLost => f.write_str("clock-lost"),
            Self::ClockSet => f.write_str("clock-set"),
            Self::Suspend(for_us) => write!(f, "suspend {for_us}"),
        }
    }
}

fn name(survival: Survival) -> &'static str {
    match survival {
        Survival::Dropped => "dropped",
        Survival::Kept => "kept",
        Survival::Torn(_) => "torn",
        Survival::Shredded => "shredded",
    }
}

fn survival(name: &str) -> Option<Survival> {
    Some(match name {
        "dropped" => Survival::Dropped,
        "kept" => Survival::Kept,
        "torn" => Survival::Torn(512),
        "shredded" => Survival::Shredded,
        _ => return None,
    })
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("`{line}` is no fault; one is `SECONDS NAME WORDS…`, as a failure prints it"))
    }
}

/// A world that is written down: a seed, and the faults in place of those that it draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The seed: configuration, devices, delays.
    pub seed: u64,
    /// What goes wrong.
    pub schedule: Vec<Planned>,
}

impl FromStr for Case {
    type Err = String;

    /// `seed N`, then a fault a line. Lines that begin with `#` say why.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let seed = lines.next().and_then(|line| line.strip_prefix("seed ")?.parse().ok());
        let seed = seed.ok_or("the first line that is no remark must be `seed N`")?;
        Ok(Self { seed, schedule: lines.map(str::parse).collect::<Result<_, _>>()? })
    }
}

fn parse(line: &str) -> Option<Planned> {
    let (time, fault) = line.trim().split_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    let micros: u64 = micros.parse().ok().filter(|_| micros.len() == 6)?;
    let at_us = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
    Some(Planned { at_us, fault: parse_fault(fault)? })
}

fn parse_fault(text: &str) -> Option<Fault> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| word.parse::<u64>().ok();
    let signed = |word: &str| word.parse::<i64>().ok();
    Some(match *words.as_slice() {
        ["kill"] => Fault::Kill,
        ["power-cut", how, seed] => Fault::PowerCut(survival(how)?, number(seed)?),
        ["power-cut-at", steps, how, seed] => Fault::PowerCutAt(number(steps)?, survival(how)?, number(seed)?),
        ["link-cut", "both"] => Fault::LinkCut(Noticed::Both),
        ["link-cut", "gateway"] => Fault::LinkCut(Noticed::Gateway),
        ["link-cut", "broker"] => Fault::LinkCut(Noticed::Broker),
        ["broker-down", for_us, how] => Fault::BrokerDown { for_us: number(for_us)?, forgets: how == "forgets" },
        ["take-over", takes] => Fault::TakeOver { takes: number(takes)? },
        ["upstream-down", for_us] => Fault::UpstreamDown(number(for_us)?),
        ["upstream-lost"] => Fault::UpstreamLost,
        ["upstream-void", for_us] => Fault::UpstreamVoid(number(for_us)?),
        ["upstream-slow", for_us] => Fault::UpstreamSlow(number(for_us)?),
        ["upstream-refuses", for_us, how] => {
            Fault::UpstreamRefuses { for_us: number(for_us)?, for_good: how == "for-good" }
        }
        ["upstream-twice", for_us] => Fault::UpstreamTwice(number(for_us)?),
        ["disk-full", room, for_us] => Fault::DiskFull { room: number(room)?, for_us: number(for_us)? },
        ["disk-tight", room] => Fault::DiskTight(number(room)?),
        ["write-fails", nth] => Fault::WriteFails(number(nth)?),
        ["sync-fails", nth] => Fault::SyncFails(number(nth)?),
        ["reads-fail", times] => Fault::ReadsFail(number(times)?),
        ["flip", pick] => Fault::Flip(number(pick)?),
        ["clock-step", by_ms] => Fault::ClockStep(signed(by_ms)?),
        ["clock-drift", ppm] => Fault::ClockDrift(signed(ppm)?),
        ["clock-lost"] => Fault::ClockLost,
        ["clock-set"] => Fault::ClockSet,
        ["suspend", for_us] => Fault::Suspend(number(for_us)?),
        _ => return None,
    })
}

/// Which kinds of faults a world knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Climate {
    /// Clocks step, drift, are lost and set.
    pub clocks: bool,
    /// Bits flip.
    pub flips: bool,
    /// The broker forgets sessions, strangers take them over.
    pub sessions: bool,
}

/// A schedule for `end_us` of virtual time.
pub fn draw(rng: &mut Rng, climate: Climate, end_us: u64) -> Vec<Planned> {
    let mut schedule = Vec::new();
    if climate.clocks && rng.chance(0.4) {
        schedule.push(Planned { at_us: 0, fault: Fault::ClockLost });
        schedule.push(Planned { at_us: rng.below(end_us), fault: Fault::ClockSet });
    }
    let mut before_us = 0;
    for _ in 0..rng.below(20) {
        // Misfortunes seldom come singly, and what one leaves half done the next one finds.
        let soon_us = before_us + rng.below(1_500_000);
        let at_us = if rng.chance(0.5) { soon_us } else { rng.below(end_us) }.min(end_us - 1);
        before_us = at_us;
        if let Some(fault) = draw_fault(rng, climate, end_us) {
            schedule.push(Planned { at_us, fault });
        }
    }
    for _ in 0..if climate.flips { 1 + rng.below(6) } else { 0 } {
        schedule.push(Planned { at_us: rng.below(end_us), fault: Fault::Flip(rng.next() >> 1) });
    }
    schedule.sort_by_key(|planned| planned.at_us);
    schedule
}

/// Only a shorter world may have a disk that stays full.
const TIGHT_US_MAX: u64 = 60_000_000;

fn draw_fault(rng: &mut Rng, climate: Climate, end_us: u64) -> Option<Fault> {
    let for_us = 1 + rng.below(end_us / 3);
    let seed = rng.below(1 << 32);
    let survival = [Survival::Dropped, Survival::Kept, Survival::Torn(512), Survival::Shredded][rng.below(4) as usize];
    let noticed = [Noticed::Both, Noticed::Gateway, Noticed::Broker][rng.below(3) as usize];
    Some(match rng.below(27) {
        0..=2 => Fault::Kill,
        3 => Fault::PowerCut(survival, seed),
        4..=6 => Fault::PowerCutAt(rng.below(300), survival, seed),
        7..=10 => Fault::LinkCut(noticed),
        11 => Fault::BrokerDown { for_us, forgets: climate.sessions && rng.chance(0.5) },
        12 => Fault::TakeOver { takes: if climate.sessions { rng.below(6) } else { 0 } },
        13 => Fault::UpstreamDown(for_us),
        14 => Fault::UpstreamLost,
        15 => Fault::UpstreamVoid(for_us),
        16 => Fault::UpstreamSlow(for_us),
        17 => Fault::UpstreamRefuses { for_us, for_good: rng.chance(0.5) },
        18 => Fault::UpstreamTwice(for_us),
        19 => Fault::DiskFull { room: rng.below(100_000), for_us },
        20 => Fault::WriteFails(rng.below(60)),
        21 => Fault::SyncFails(rng.below(30)),
        22 => Fault::Suspend(for_us),
        23 => Fault::ReadsFail(1 + rng.below(20)),
        // A batch that waits is tried again each second: not for days.
        26 if end_us < TIGHT_US_MAX => Fault::DiskTight(rng.below(100_000)),
        24 if climate.clocks => {
            let by_ms = [3_600_000, -3_600_000, 1_500, -1_500, 60_000, -60_000][rng.below(6) as usize];
            Fault::ClockStep(by_ms)
        }
        25 if climate.clocks => match rng.below(3) {
            0 => Fault::ClockDrift([200, -200, 20_000, -20_000][rng.below(4) as usize]),
            1 => Fault::ClockLost,
            _ => Fault::ClockSet,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_back() {
        let climate = Climate { clocks: true, flips: true, sessions: true };
        let mut rng = Rng::new(1);
        let mut all = Vec::new();
        for _ in 0..200 {
            all.extend(draw(&mut rng, climate, 10_000_000));
        }
        assert!(all.len() > 1000);
        for planned in all {
            assert_eq!(planned.to_string().parse(), Ok(planned));
        }
        let case: Case = "# why\nseed 7\n\n0.500000 kill\n".parse().unwrap();
        assert_eq!(case, Case { seed: 7, schedule: vec![Planned { at_us: 500_000, fault: Fault::Kill }] });
        assert!("0.500000 kill".parse::<Case>().is_err() && "seed 7\nkill".parse::<Case>().is_err());
        for wrong in ["", "kill", "1 kill", "1.0 kill", "1.000000 stumble", "1.000000 flip", "1.000000 flip x"] {
            assert!(wrong.parse::<Planned>().is_err(), "{wrong}");
        }
    }
}
