//! The edge: everything that touches the world. Threads, files, sockets, clocks, signals are here and nowhere else.
pub mod clock;
pub mod logging;
pub mod metrics;
pub mod tls;
pub mod mqtt;
pub mod sink;
pub mod store;
pub mod run;
pub mod start;
pub mod cli;
