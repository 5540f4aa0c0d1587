//! Alerts when a device's `temp` rises to `high`, and again when it has fallen to `low`; keeps readings while it is high.
//!
//! - Between the limits the last state holds (hysteresis): a reading that trembles around a limit makes one alert.
//! - A message without a number in `temp` changes nothing and is dropped.
#![no_std]

use weir_sdk::prelude::*;

weir_sdk::function! {
    fields { temp: Number = "temp" }
    state { is_high: State<bool> = "high" }
    config { high: f64 = 80.0, low: f64 = 75.0 }
    on_start = check;
    on_event = handle;
}

fn check(function: &Function) -> Result<(), &'static str> {
    if function.low <= function.high { Ok(()) } else { Err("config: `low` is above `high`") }
}

fn handle(function: &Function, event: &Event) -> Result<Verdict, Error> {
    let Some(temp) = function.temp.get(event) else { return Ok(Verdict::Drop) };
    let device = event.device();
    let was_high = function.is_high.get(device).unwrap_or(false);
    let is_high = if was_high { temp > function.low } else { temp >= function.high };
    if is_high != was_high {
        function.is_high.put(device, &is_high)?;
        let state = if is_high { "high" } else { "normal" };
        emit!(["alerts/", device], ["{\"state\":\"", state, "\",\"temp\":", temp, "}"])?;
    }
    Ok(Verdict::keep_if(is_high))
}
