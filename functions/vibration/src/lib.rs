//! Vibration of a machine from a block of samples, `{"samples":[0.02,-0.11,..]}`: RMS and crest factor (peak over RMS), both
//! of the signal without its mean; an alert when the crest factor passes `crest_max`: shocks, as of a damaged bearing.
//!
//! - Fewer than `samples_min` samples, or no `samples`, are dropped; more than 1024, or one that is not a number, is an
//!   error.
//! - A still signal (RMS 0) has the crest factor 0.
#![no_std]

use weir_sdk::math::sqrt;
use weir_sdk::prelude::*;

weir_sdk::function! {
    fields { samples: Field = "samples" }
    meters { rms: Distribution = "rms", crest: Distribution = "crest" }
    config { crest_max: f64 = 6.0, samples_min: u32 = 16 }
    on_event = handle;
}

/// Verdict code: `samples` is not a list of numbers.
const NOT_NUMBERS: u16 = 16;

/// As many samples as are taken.
static ROOM: Scratch<[f64; 1024]> = Scratch::new([0.0; 1024]);

fn handle(function: &Function, event: &Event) -> Result<Verdict, Error> {
    let signal = match ROOM.with(|room| function.samples.numbers(event, room).map(Signal::of)) {
        Ok(signal) => signal,
        Err(Error::Absent) => return Ok(Verdict::Drop),
        Err(Error::WrongType) if function.samples.kind(event) == Kind::Null => return Ok(Verdict::Drop),
        Err(Error::WrongType) => return Ok(Verdict::Error(NOT_NUMBERS)),
        Err(other) => return Err(other),
    };
    if signal.sum.is_nan() {
        return Ok(Verdict::Error(NOT_NUMBERS));
    }
    if signal.count < function.samples_min.max(1) {
        return Ok(Verdict::Drop);
    }
    let (rms, crest) = signal.rms_and_crest();
    function.rms.observe(rms)?;
    function.crest.observe(crest)?;
    if crest > function.crest_max {
        let device = event.device();
        emit!(
            ["alerts/", device],
            ["{\"rms\":", rms, ",\"crest\":", Fixed(crest, 2), ",\"samples\":", signal.count, "}"]
        )?;
    }
    Ok(Verdict::Done)
}

/// Sums over the samples.
struct Signal {
    count: u32,
    sum: f64,
    sum_of_squares: f64,
    min: f64,
    max: f64,
}

impl Signal {
    /// An item that is no number makes the sum NaN.
    fn of(samples: &[f64]) -> Self {
        let mut signal = Self {
            count: samples.len() as u32,
            sum: 0.0,
            sum_of_squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        };
        for sample in samples {
            signal.sum += sample;
            signal.sum_of_squares += sample * sample;
            signal.min = if *sample < signal.min { *sample } else { signal.min };
            signal.max = if *sample > signal.max { *sample } else { signal.max };
        }
        signal
    }

    fn rms_and_crest(&self) -> (f64, f64) {
        let mean = self.sum / f64::from(self.count);
        let variance = self.sum_of_squares / f64::from(self.count) - mean * mean;
        // What rounding leaves of a still signal is none.
        let rms = if variance > mean * mean * 1e-12 { sqrt(variance) } else { 0.0 };
        let peak = (self.max - mean).max(mean - self.min);
        (rms, if rms > 0.0 { peak / rms } else { 0.0 })
    }
}
