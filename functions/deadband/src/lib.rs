//! Report by exception: a reading is kept when it differs from the last kept one by more than `band`, or when the last kept
//! one is `silence_max` seconds old or older; the others are dropped.
//!
//! - The first reading of a device is kept, and so is one whose time lies `silence_max` before the last kept one: the
//!   device's clock was set.
//! - A message without a number in `value` changes nothing and is dropped.
#![no_std]

use weir_sdk::prelude::*;

weir_sdk::function! {
    fields { value: Number = "value" }
    state { last: State<Last> = "last" }
    config { band: f64 = 0.5, silence_max: u32 = 900 }
    on_start = check;
    on_event = handle;
}

value! {
    /// The last reading that was kept.
    pub struct Last { value: f64, at_ms: i64 }
}

fn check(function: &Function) -> Result<(), &'static str> {
    if function.band >= 0.0 { Ok(()) } else { Err("config: `band` is negative") }
}

fn handle(function: &Function, event: &Event) -> Result<Verdict, Error> {
    let Some(value) = function.value.get(event) else { return Ok(Verdict::Drop) };
    let at_ms = event.time_ms();
    let news = match function.last.get(event.device()) {
        None => true,
        Some(last) => {
            let age_ms = at_ms.saturating_sub(last.at_ms).unsigned_abs();
            (value - last.value).abs() > function.band || age_ms >= u64::from(function.silence_max) * 1000
        }
    };
    if news {
        function.last.put(event.device(), &Last { value, at_ms })?;
    }
    Ok(Verdict::keep_if(news))
}
