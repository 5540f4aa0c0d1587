//! The simulator: modelled devices that publish, the truth of what they published, and the comparison with what arrived.
//!
//! - Everything but `publish` is pure: a seed decides what is sent, the caller decides when.
//! - Modules stand in the order of dependence.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod rng;
pub mod model;
pub mod scenario;
pub mod fleet;
pub mod truth;
pub mod upstream;
pub mod compare;
pub mod world;

#[cfg(feature = "shell")]
pub mod publish;
#[cfg(feature = "shell")]
pub mod emulated;
