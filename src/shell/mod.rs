//! The edge: everything that touches the world. Threads, files, sockets, clocks, signals are here and nowhere else.
pub mod clock;
pub mod logging;
pub mod notify;
pub mod pulse;
pub mod tls;
pub mod mqtt;
pub mod sink;
pub mod store;
pub mod dlq;
pub mod control;
pub mod metrics;
pub mod watch;
pub mod orders;
pub mod workbench;
pub mod run;
pub mod start;
pub mod cli;
