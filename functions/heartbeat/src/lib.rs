//! A sign of life: at each interval one message on `status/NAME`, `{"beat":7,"at_ms":1800000000000,"clock":"synced"}`.
//!
//! - `beat` counts on through restarts: a number that the receiver misses is a message that it has not got (yet).
//! - While the gateway is off there are no beats: `at_ms` shows for how long, if `clock` is `synced`.
#![no_std]

use weir_sdk::prelude::*;

weir_sdk::function! {
    state { beats: State<u64> = "beats" }
    config { name: Text<32> = "gateway" }
    on_interval = beat;
}

fn beat(function: &Function, interval: &Interval) -> Result<Verdict, Error> {
    let beat = function.beats.get("").unwrap_or(0) + 1;
    function.beats.put("", &beat)?;
    let clock = match interval.time_quality() {
        TimeQuality::Synced => "synced",
        TimeQuality::Restored => "restored",
        TimeQuality::Unset => "unset",
    };
    emit!(
        ["status/", function.name],
        ["{\"beat\":", beat, ",\"at_ms\":", interval.time_ms(), ",\"clock\":\"", clock, "\"}"]
    )?;
    Ok(Verdict::Done)
}
