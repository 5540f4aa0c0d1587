//! The shortest schedule of faults with which a seed still fails: delta debugging (Zeller and Hildebrandt, 2002).
//!
//! - The result is 1-minimal: taking any one fault out makes the world whole.
//! - Any failure counts, whatever its words: a shorter way to another symptom of a defect is a shorter way to the defect.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::checks::Broken;
use super::schedule::Planned;
use super::{Failure, watch};

/// Runs of a world that shrinking may cost.
const RUNS_MAX: u32 = 400;

/// Why the world of `seed` with `schedule` fails, if it does. A panic is a defect like any other.
#[must_use]
pub fn failure(seed: u64, schedule: &[Planned]) -> Option<Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| watch(seed, Some(schedule), &mut |_, _| {})));
    match outcome {
        Ok(Ok(_)) => None,
        Ok(Err(failure)) => Some(*failure),
        Err(panic) => Some(panicked(seed, schedule, &*panic)),
    }
}

/// A panic as a failure.
#[must_use]
pub fn panicked(seed: u64, schedule: &[Planned], panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Failure {
        seed,
        at_us: 0,
        broken: Broken::new(format!("panic: {}", text.unwrap_or("without words"))),
        schedule: schedule.to_vec(),
        site: String::new(),
    }
}

/// Shrinks the schedule of `failure`; what it then fails by.
#[must_use]
pub fn shrink(failure: Failure) -> Failure {
    let seed = failure.seed;
    let mut runs = 0;
    let mut best = failure;
    let mut parts = 2;
    while best.schedule.len() > 1 || (best.schedule.len() == 1 && parts == 2) {
        let length = best.schedule.len().div_ceil(parts);
        let shorter = (0..parts).find_map(|part| {
            let (from, to) = (part * length, ((part + 1) * length).min(best.schedule.len()));
            if to <= from || RUNS_MAX <= runs {
                return None;
            }
            runs += 1;
            let rest = [&best.schedule[..from], &best.schedule[to..]].concat();
            self::failure(seed, &rest)
        });
        match shorter {
            Some(found) => {
                best = found;
                parts = 2.max(parts - 1);
            }
            None if parts < best.schedule.len() => parts = (parts * 2).min(best.schedule.len()),
            None => break,
        }
    }
    best
}
