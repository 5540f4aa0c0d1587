//! Fuel metered is fuel spent, and late values are counted: every invocation is looked at, in whatever process it happens.
//!
//! - Calls are counted one by one: a message that is handled calls each function that must be called, once; one that is not
//!   handled (a duplicate, a filtered one) costs nothing.
//! - What fails is charged as well: a guest that runs out of fuel has spent exactly its allowance, any other call less, but some.

use weir::function::{ErrorKind, Usage};
use weir::gateway::Gateway;

use super::checks::Broken;
use super::guests::{DeedOutcome, ROGUE, ROGUE_FUEL, STATS};
use super::ledger::Outcome;

/// Fuel of the dearest step of the rogue: so much may be left when the next one does not fit.
const STEP_MAX: u64 = 32;

/// What each function has used so far, in one process.
#[derive(Debug)]
pub struct FuelMeter {
    used: Vec<(String, Usage)>,
    late: u64,
}

fn read(gateway: &Gateway) -> Vec<(String, Usage)> {
    gateway.status().functions.iter().map(|function| (function.name.to_owned(), *function.usage)).collect()
}

impl FuelMeter {
    /// As a process begins.
    #[must_use]
    pub fn new(gateway: &Gateway) -> Self {
        Self { used: read(gateway), late: gateway.status().late }
    }

    /// A message was handled, with this outcome; `is_late`: its value came behind the end of its window, where that is certain.
    pub fn message(&mut self, gateway: &Gateway, outcome: &Outcome, is_late: Option<bool>) -> Result<(), Broken> {
        let late = core::mem::replace(&mut self.late, gateway.status().late);
        if is_late.is_some_and(|is_late| self.late != late + u64::from(is_late)) {
            return Err(Broken::new(format!(
                "a value that is late ({is_late:?}): {late} were counted, then {}",
                self.late
            )));
        }
        self.look(gateway, &mut |name, used| {
            let failed = |kind: ErrorKind| used.errors_of(kind);
            let wanted = match name {
                // A reading without a number calls `stats` as well, unless a filter turns it away.
                STATS if outcome.metered.is_none() => used.invocations.min(1),
                STATS => 1,
                ROGUE => u64::from(outcome.deed.is_some()),
                _ => u64::from(outcome.is_kept && name == "alarm"),
            };
            let errors = match (name, outcome.deed) {
                (ROGUE, Some(DeedOutcome::Failed(kind))) if failed(kind) == 1 => 1,
                (ROGUE, Some(DeedOutcome::Failed(kind))) => return Err(format!("did not fail by {kind:?}: {used:?}")),
                _ => 0,
            };
            check(used, wanted, errors)?;
            match (name, outcome.deed) {
                // A fresh instance, and its start, may have been charged on top.
                (ROGUE, Some(DeedOutcome::Failed(ErrorKind::OutOfFuel)))
                    if used.fuel + STEP_MAX < ROGUE_FUEL || 2 * ROGUE_FUEL <= used.fuel =>
                {
                    Err(format!("ran out of {ROGUE_FUEL} fuel and was charged {}", used.fuel))
                }
                (ROGUE, Some(deed))
                    if deed != DeedOutcome::Failed(ErrorKind::OutOfFuel) && 2 * ROGUE_FUEL <= used.fuel =>
                {
                    Err(format!("was charged {} for {deed:?}", used.fuel))
                }
                _ => Ok(()),
            }
        })
    }

    /// Time has passed: only intervals may have been called. What they count for the time when they were due may be late.
    pub fn interval(&mut self, gateway: &Gateway) -> Result<(), Broken> {
        self.late = gateway.status().late;
        self.look(gateway, &mut |name, used| {
            let wanted = if name == "beat" { used.invocations.min(1) } else { 0 };
            check(used, wanted, 0)
        })
    }

    fn look(
        &mut self,
        gateway: &Gateway,
        judge: &mut dyn FnMut(&str, &Usage) -> Result<(), String>,
    ) -> Result<(), Broken> {
        let now = read(gateway);
        for ((name, before), (_, after)) in self.used.iter().zip(&now) {
            let used = after.since(before);
            judge(name, &used).map_err(|what| Broken::new(format!("usage of {name}: {what}")))?;
        }
        self.used = now;
        Ok(())
    }
}

fn check(used: &Usage, invocations: u64, errors: u64) -> Result<(), String> {
    if used.invocations != invocations || used.errors_total() != errors {
        let is = (used.invocations, used.errors_total());
        return Err(format!("{is:?} calls and failures, must be {:?}", (invocations, errors)));
    }
    match (invocations, used.fuel) {
        (0, 0) | (1.., 1..) => Ok(()),
        (calls, fuel) => Err(format!("{calls} calls were charged {fuel} fuel")),
    }
}
