//! The guests of a world, as WAT: two that do what they should, one that keeps time, and one that does everything wrong.
//!
//! - What each invocation must lead to is written down beside it ([`Deed::outcome`]), for the ledger.

use core::fmt::Write as _;

use weir::function::ErrorKind;

use crate::rng::Rng;

/// The function that meters; its meter; the state in which it counts its calls.
pub const STATS: &str = "stats";
/// Its meter.
pub const TEMP: &str = "stats.temp";
/// The meter of the chained function.
pub const ALARMS: &str = "alarm.count";
/// The meter of the function that keeps time.
pub const BEATS: &str = "beat.count";
/// The function that does everything wrong.
pub const ROGUE: &str = "rogue";
/// Its meter.
pub const DEEDS: &str = "rogue.deeds";
/// The state in which a function counts its calls.
pub const CALLS_KEY: &[u8] = b"n";
/// Temperatures above this are kept.
pub const KEPT_ABOVE: f64 = 55.0;
/// Fuel of one call of the rogue.
pub const ROGUE_FUEL: u64 = 20_000;
/// Outputs of one call of the rogue.
pub const ROGUE_EMITS: u64 = 6;

const IMPORTS: &str = r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "abort" (func $abort (param i32 i32)))"#;

/// `n += 1` in durable state.
const COUNT: &str = r#"
    (i64.store (i32.const 32) (i64.const 0))
    (drop (call $get (i32.const 8) (i32.const 1) (i32.const 32) (i32.const 8)))
    (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.const 1)))
    (drop (call $put (i32.const 8) (i32.const 1) (i32.const 32) (i32.const 8)))"#;

fn module(extra: &str, data: &str, start: &str, rest: &str) -> String {
    format!(
        r#"(module {IMPORTS} {extra}
  (memory (export "memory") 1)
  (global (export "weir_abi") i32 (i32.const 1))
  (func (export "weir_buf") (result i64) (i64.const 0x400_0000_2000))
  (data (i32.const 0) "{data}") (data (i32.const 8) "n") (data (i32.const 64) "rogue/out") (data (i32.const 80) "beat/out")
  (func (export "on_start") (result i32) {start})
  {rest})"#
    )
}

/// `state n += 1; meter temp = temp; keep if temp > 55`; a message without a number is dropped, and counts as no call.
/// `call`: the host call that the kind of meter takes.
pub fn stats(call: &str) -> String {
    let extra = format!(r#"(import "weir1" "{call}" (func $set (param i32 i32 i32 f64) (result i32)))"#);
    let start = "(drop (call $bind (i32.const 0) (i32.const 4))) (call $meter (i32.const 0) (i32.const 4))";
    let rest = format!(
        r#"(func (export "on_event") (param $ev i32) (result i32) (local $t f64)
    (local.set $t (f64.load (i32.load offset=52 (local.get $ev))))
    (if (f64.ne (local.get $t) (local.get $t)) (then (return (i32.const 0))))
    (drop (call $set (i32.const 0) (i32.const 0) (i32.const 0) (local.get $t)))
    {COUNT}
    (select (i32.const 1) (i32.const 2) (f64.gt (local.get $t) (f64.const 55))))"#
    );
    module(&extra, "temp", start, &rest)
}

/// `meter count += 1` for every message.
pub fn alarm() -> String {
    let rest = r#"(func (export "on_event") (param $ev i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1))) (i32.const 2))"#;
    module("", "count", "(call $meter (i32.const 0) (i32.const 5))", rest)
}

/// `state n += 1; meter count += 1; emit beat/out n` at every interval.
pub fn beat() -> String {
    let rest = format!(
        r#"(func (export "on_event") (param i32) (result i32) (i32.const 0))
  (func (export "on_interval") (param $ev i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))
    {COUNT}
    (drop (call $emit (i32.const 80) (i32.const 8) (i32.const 32) (i32.const 8)))
    (i32.const 2))"#
    );
    module("", "count", "(call $meter (i32.const 0) (i32.const 5))", &rest)
}

/// What the rogue does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Meters 1: all is well.
    Behave,
    /// Drops the message.
    Ignore,
    /// Loops for ever.
    Loop,
    /// Traps, behind effects that must not remain.
    Trap,
    /// Grows beyond its limit.
    Grow,
    /// Emits until the host says no.
    Flood,
    /// Names memory that it does not have.
    LiePointer,
    /// Names a length that wraps around.
    LieLength,
    /// Aborts with a text.
    Abort,
    /// Returns an error of its own, behind effects that must not remain.
    Refuse,
    /// Returns a number that is no verdict.
    BadVerdict,
    /// Calls itself for ever.
    Recurse,
    /// Emits where it may not, and then behaves.
    Trespass,
    /// Fills its state until the host says no, then fails.
    Hoard,
}

/// What an invocation of the rogue leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeedOutcome {
    /// It metered 1 and emitted so many records.
    Done {
        /// Records.
        emits: u64,
    },
    /// The message is not wanted.
    Dropped,
    /// A dead letter of this kind.
    Failed(ErrorKind),
}

impl Deed {
    const ALL: [Self; 14] = [
        Self::Behave,
        Self::Ignore,
        Self::Loop,
        Self::Trap,
        Self::Grow,
        Self::Flood,
        Self::LiePointer,
        Self::LieLength,
        Self::Abort,
        Self::Refuse,
        Self::BadVerdict,
        Self::Recurse,
        Self::Trespass,
        Self::Hoard,
    ];

    /// Some deeds, for the numbers of messages in turn; most of the time it behaves.
    pub fn draw(rng: &mut Rng) -> Vec<Self> {
        let count = 2 + rng.below(7);
        let deed = |rng: &mut Rng| match rng.chance(0.4) {
            true => Self::Behave,
            false => Self::ALL[rng.below(Self::ALL.len() as u64) as usize],
        };
        (0..count).map(|_| deed(rng)).collect()
    }

    /// What it must lead to.
    #[must_use]
    pub const fn outcome(self) -> DeedOutcome {
        match self {
            Self::Behave | Self::Trespass => DeedOutcome::Done { emits: 0 },
            Self::Ignore => DeedOutcome::Dropped,
            Self::Flood => DeedOutcome::Done { emits: ROGUE_EMITS },
            Self::Loop => DeedOutcome::Failed(ErrorKind::OutOfFuel),
            Self::Grow => DeedOutcome::Failed(ErrorKind::OutOfMemory),
            Self::Trap | Self::LiePointer | Self::LieLength | Self::Recurse => DeedOutcome::Failed(ErrorKind::Trap),
            Self::Abort => DeedOutcome::Failed(ErrorKind::Abort),
            Self::Refuse | Self::Hoard => DeedOutcome::Failed(ErrorKind::Refused),
            Self::BadVerdict => DeedOutcome::Failed(ErrorKind::BadVerdict),
        }
    }

    /// The handler's code; a value is left on the stack.
    const fn code(self) -> &'static str {
        match self {
            Self::Behave => "(call $tick) (i32.const 2)",
            Self::Ignore => "(i32.const 0)",
            Self::Loop => "(call $tick) (loop $l (br $l)) (i32.const 2)",
            Self::Trap => "(call $tick) (call $leave) (unreachable)",
            Self::Grow => "(drop (memory.grow (i32.const 8))) (i32.const 2)",
            Self::Flood => {
                "(call $tick) (loop $l (br_if $l (i32.eqz
                   (call $emit (i32.const 64) (i32.const 9) (i32.const 0) (i32.const 32))))) (i32.const 2)"
            }
            Self::LiePointer => {
                "(call $tick) (drop (call $emit (i32.const 64) (i32.const 9) (i32.const 65530) (i32.const 100)))
                 (i32.const 2)"
            }
            Self::LieLength => {
                "(call $leave) (drop (call $put (i32.const 8) (i32.const 1) (i32.const 16) (i32.const -8))) (i32.const 2)"
            }
            Self::Abort => "(call $leave) (call $abort (i32.const 64) (i32.const 9)) (i32.const 2)",
            Self::Refuse => "(call $leave) (i32.const -7)",
            Self::BadVerdict => "(call $leave) (i32.const 99)",
            Self::Recurse => "(call $again (local.get $ev))",
            Self::Trespass => {
                "(drop (call $emit (i32.const 80) (i32.const 8) (i32.const 0) (i32.const 8))) (call $tick) (i32.const 2)"
            }
            Self::Hoard => {
                "(loop $l (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
                   (br_if $l (i32.eqz (call $put (i32.const 40) (i32.const 4) (i32.const 0) (i32.const 900)))))
                 (i32.const -8)"
            }
        }
    }
}

/// Does `deeds[seq % len]`.
pub fn rogue(deeds: &[Deed]) -> String {
    let mut blocks = "(br_table".to_owned();
    for number in 0..deeds.len() {
        let _ = write!(blocks, " $d{number}");
    }
    let _ = write!(
        blocks,
        " (i32.rem_u (i32.trunc_sat_f64_u (f64.load (i32.load offset=52 (local.get $ev)))) (i32.const {})))",
        deeds.len()
    );
    for (number, deed) in deeds.iter().enumerate() {
        blocks = format!("(block $d{number} {blocks}) {} (return)", deed.code());
    }
    let rest = format!(
        r#"(func $tick (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1))))
  (func $leave (call $tick)
    (drop (call $put (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 32)))
    (drop (call $emit (i32.const 64) (i32.const 9) (i32.const 0) (i32.const 8))))
  (func $again (param $n i32) (result i32) (i32.add (i32.const 1) (call $again (local.get $n))))
  (func (export "on_event") (param $ev i32) (result i32) {blocks} (unreachable))"#
    );
    let start = "(drop (call $bind (i32.const 0) (i32.const 3))) (call $meter (i32.const 16) (i32.const 5))";
    module(r#"(data (i32.const 16) "deeds")"#, "seq", start, &rest)
}
