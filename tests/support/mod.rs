//! What the tests share: a world of real processes (`broker`, `gateway`, `fleet`, `upstream`), and one without any (`middle`).
#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may panic, and wait in real time")]

pub mod middle;

#[cfg(feature = "shell")]
pub mod broker;
#[cfg(feature = "shell")]
pub mod certs;
#[cfg(feature = "shell")]
pub mod crashes;
#[cfg(feature = "shell")]
pub mod device;
#[cfg(feature = "shell")]
pub mod fake;
#[cfg(feature = "shell")]
pub mod fleet;
#[cfg(feature = "shell")]
pub mod gateway;
#[cfg(feature = "shell")]
pub mod guests;
#[cfg(feature = "shell")]
pub mod ledger;
#[cfg(feature = "shell")]
pub mod process;
#[cfg(feature = "shell")]
pub mod proxy;
#[cfg(feature = "shell")]
pub mod site;
#[cfg(feature = "shell")]
pub mod upstream;
