//! Alerts when `value` is unusual for its device: its distance from a moving mean, in standard deviations (z), is above
//! `limit`. The z-scores go to the meter `z`; unusual readings are kept, the others dropped.
//!
//! - Mean and variance are exponentially weighted (`alpha` for the newest), by the update of T. Finch, "Incremental
//!   calculation of weighted mean and variance" (2009), §9.
//! - The first `warmup` readings of a device only teach.
//! - An unusual reading teaches as much as one at the limit would: a shock does not blind the function, and a new level is
//!   learnt in the end.
//! - `sigma_min` keeps a sensor that never moved from raising an alert at its first digit.
#![no_std]

use weir_sdk::math::sqrt;
use weir_sdk::prelude::*;

weir_sdk::function! {
    fields { value: Number = "value" }
    meters { z: Distribution = "z" }
    state { moments: State<Moments> = "m" }
    config { alpha: f64 = 0.05, limit: f64 = 4.0, sigma_min: f64 = 0.001, warmup: u32 = 30 }
    on_start = check;
    on_event = handle;
}

value! {
    /// What is known of a device.
    pub struct Moments { mean: f64, variance: f64, count: u32 }
}

/// Verdict code: the value is too large to square.
const TOO_LARGE: u16 = 16;

fn check(function: &Function) -> Result<(), &'static str> {
    if !(0.0 < function.alpha && function.alpha <= 1.0) {
        return Err("config: wants 0 < `alpha` <= 1");
    }
    if function.limit > 0.0 && function.sigma_min > 0.0 {
        Ok(())
    } else {
        Err("config: `limit` and `sigma_min` must be above 0")
    }
}

fn handle(function: &Function, event: &Event) -> Result<Verdict, Error> {
    let Some(value) = function.value.get(event) else { return Ok(Verdict::Drop) };
    if value.abs() > 1e150 {
        return Ok(Verdict::Error(TOO_LARGE));
    }
    let device = event.device();
    let known = function.moments.get(device).unwrap_or(Moments { mean: value, variance: 0.0, count: 0 });
    let sigma = sqrt(known.variance).max(function.sigma_min);
    let z = (value - known.mean) / sigma;
    let is_warm = known.count >= function.warmup;
    let is_unusual = is_warm && z.abs() > function.limit;

    let bound = function.limit * sigma;
    let distance = if is_unusual { (value - known.mean).min(bound).max(-bound) } else { value - known.mean };
    function.moments.put(device, &known.learn(distance, function.alpha))?;
    if is_warm {
        function.z.observe(z)?;
    }
    if is_unusual {
        emit!(
            ["alerts/", device],
            ["{\"value\":", value, ",\"mean\":", Fixed(known.mean, 3), ",\"z\":", Fixed(z, 2), "}"]
        )?;
    }
    Ok(Verdict::keep_if(is_unusual))
}

impl Moments {
    fn learn(self, distance: f64, alpha: f64) -> Self {
        // While little is known, all of it counts alike.
        let alpha = alpha.max(1.0 / (f64::from(self.count) + 1.0));
        let step = alpha * distance;
        Self {
            mean: self.mean + step,
            variance: (1.0 - alpha) * (self.variance + distance * step),
            count: self.count.saturating_add(1),
        }
    }
}
