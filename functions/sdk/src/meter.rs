//! Meters: named quantities that the gateway folds by key and window. They stand in the manifest; a handle is bound at start.

use crate::answer::Error;
use crate::raw;

/// What can stand in `meters { .. }`.
#[doc(hidden)]
pub trait Register: Sized {
    /// As the manifest has it.
    const KIND: &'static str;
    fn register(name: &str) -> Result<Self, i32>;
}

macro_rules! meter {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $own:ident, $keyed:ident, $call:path, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $type(i32);

        impl Register for $type {
            const KIND: &'static str = $kind;
            fn register(name: &str) -> Result<Self, i32> {
                let id = raw::meter(name);
                if id < 0 { Err(id) } else { Ok(Self(id)) }
            }
        }

        impl $type {
            #[allow(clippy::should_implement_trait, reason = "`add` is what counters do everywhere")]
            #[doc = concat!($what, " under the event's device (an interval: the empty key).")]
            pub fn $own(self, value: f64) -> Result<(), Error> {
                self.$keyed(b"", value)
            }
            #[doc = concat!($what, " under `key`.")]
            pub fn $keyed(self, key: &[u8], value: f64) -> Result<(), Error> {
                Error::check($call(self.0, key, value))
            }
        }
    };
}

meter!(
    /// `kind = "counter"`: count and sum.
    Counter, "counter", add, add_for, raw::meter_add, "Adds `value`"
);
meter!(
    /// `kind = "gauge"`: count, sum, min, max, first and last.
    Gauge, "gauge", set, set_for, raw::meter_set, "Sets the value"
);
meter!(
    /// `kind = "distribution"`: all of a gauge, variance and quantiles.
    Distribution, "distribution", observe, observe_for, raw::meter_observe, "Observes `value`"
);
