//! Write functions for a weir gateway in Rust: no `std`, no allocator, small modules.
//!
//! - Safe: the only `unsafe` is in `raw`, at the border to the host; what is misused does not compile.
//! - Small: no `core::fmt`; a threshold with durable state per device is 2.8 KB of wasm, function names included.
//! - [`function!`] declares a function; [`prelude`] has what a handler needs. `functions/README.md` shows the way from an
//!   empty crate to a running function, and the examples beside this crate are read as a tutorial.
#![cfg_attr(not(test), no_std)]

// Where functions are only checked (clippy, rustdoc, unit tests on this machine), `std` brings what `panic` brings elsewhere.
#[cfg(not(target_arch = "wasm32"))]
extern crate std;

#[macro_use]
mod macros;
#[macro_use]
pub mod text;
pub mod answer;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod config;
pub mod event;
pub mod field;
pub mod math;
pub mod meter;
pub mod number;
#[cfg(all(target_arch = "wasm32", feature = "panic-handler"))]
mod panic;
#[doc(hidden)]
pub mod raw;
pub mod state;

/// What a handler needs.
pub mod prelude {
    pub use crate::answer::{Error, Verdict};
    pub use crate::event::{Event, Interval, TimeQuality};
    pub use crate::field::{Field, Flag, Kind, Number};
    pub use crate::meter::{Counter, Distribution, Gauge};
    pub use crate::raw::Scratch;
    pub use crate::state::State;
    pub use crate::text::{Fixed, Json, Scaled, Text};
    pub use crate::{emit, log, text, value};
}
