//! The demo: two brokers, a fleet, a gateway in a process of its own, an outage, a kill, and the books at the end.
//!
//! - Nothing of weir is replaced: `weir run` with a real configuration, a real data folder, real MQTT connections.
//! - Whatever ends the demo ends the gateway as well.
//! - Modules stand in the order of dependence.
#![forbid(unsafe_code)]

pub mod options;
pub mod broker;
pub mod session;
pub mod link;
pub mod folder;
pub mod gateway;
pub mod page;
pub mod collector;
pub mod script;
pub mod state;
pub mod view;
pub mod summary;
pub mod run;
