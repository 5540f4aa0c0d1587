//! weir: functions at the edge. The library is the gateway's pure middle plus, under the feature `shell`, its edge.
//!
//! - The modules stand in the order of dependence: **a module uses only modules above it** (`tests/tidy.rs` holds it).
//! - Above `shell` there is no clock, lock, channel, file, random source or async runtime. Time comes in as an argument,
//!   work goes out as data. `cargo check --lib --no-default-features` proves it.
//! - No collection grows past a bound that comes from the configuration or a constant.
//!
//! Where to read on: `ARCHITECTURE.md`, then `gateway.rs`, `effect.rs`, `shell/run.rs`.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod printable;
pub mod units;
pub mod time;
pub mod topic;
pub mod entry;
pub mod store_id;
pub mod record;
pub mod field;
pub mod filter;
pub mod strict;
pub mod health;
pub mod board;
pub mod manifest;
pub mod config;
pub mod budget;
pub mod function;
pub mod dead_letter;
pub mod window;
pub mod envelope;
pub mod harness;
pub mod tape;
pub mod trigger;
pub mod marks;
pub mod subscribed;
pub mod books;
pub mod backoff;
pub mod pacing;
pub mod frame;
pub mod store;
pub mod effect;
pub mod keeper;
pub mod outbox;
pub mod event;
pub mod gateway;
pub mod cycle;

#[cfg(feature = "shell")]
pub mod shell;
