//! A pulse counter becomes energy: the difference of two readings of `pulses`, in kWh, goes to the meter `energy`.
//!
//! - The first reading of a device is the base: it counts nothing.
//! - A reading that fell is a roll-over if adding `modulus` makes a step of at most `step_max`; else the counter was reset,
//!   and what it has counted since is the step.
//! - A step above `step_max` is not believed (a broken reading): it becomes the new base, with a warning.
//! - A reading that is not newer than the last one (late, or sent twice) is skipped: the counter is cumulative, so the newer
//!   one held its pulses already.
//! - What is not a whole number from 0 to below `modulus` is an error.
#![no_std]

use weir_sdk::prelude::*;

weir_sdk::function! {
    fields { pulses: Number = "pulses" }
    meters { energy: Counter = "energy" }
    state { last: State<Reading> = "last" }
    config { pulses_per_kwh: f64 = 1000.0, modulus: f64 = 4294967296.0, step_max: f64 = 100000.0 }
    on_start = check;
    on_event = handle;
}

value! {
    /// A device's newest reading.
    pub struct Reading { pulses: f64, at_ms: i64 }
}

/// Verdict code: the reading is no count of pulses.
const NOT_A_COUNT: u16 = 16;

fn check(function: &Function) -> Result<(), &'static str> {
    if function.pulses_per_kwh <= 0.0 {
        return Err("config: `pulses_per_kwh` must be above 0");
    }
    if !(0.0 < function.step_max && function.step_max < function.modulus && function.modulus <= 9007199254740992.0) {
        return Err("config: wants 0 < `step_max` < `modulus` <= 2^53");
    }
    Ok(())
}

fn handle(function: &Function, event: &Event) -> Result<Verdict, Error> {
    let Some(pulses) = function.pulses.get(event) else { return Ok(Verdict::Drop) };
    if !(0.0..function.modulus).contains(&pulses) || pulses != (pulses as u64) as f64 {
        return Ok(Verdict::Error(NOT_A_COUNT));
    }
    let (device, at_ms) = (event.device(), event.time_ms());
    let last = function.last.get(device);
    if last.is_some_and(|last| at_ms <= last.at_ms) {
        return Ok(Verdict::Drop);
    }
    function.last.put(device, &Reading { pulses, at_ms })?;
    let Some(last) = last else { return Ok(Verdict::Done) };
    let step = step(function, last.pulses, pulses);
    if step > function.step_max {
        log!(warn, device, ": a step of ", step, " pulses is not believed");
    } else {
        function.energy.add(step / function.pulses_per_kwh)?;
    }
    Ok(Verdict::Done)
}

fn step(function: &Function, before: f64, now: f64) -> f64 {
    let rolled_over = now + function.modulus - before;
    if now >= before {
        now - before
    } else if rolled_over <= function.step_max {
        rolled_over
    } else {
        now
    }
}
