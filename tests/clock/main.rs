//! Time is not trusted: boots in 1970, a clock that is set late or steps, before the middle alone and before the real binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod middle;
#[cfg(feature = "shell")]
mod real;
#[path = "../support/mod.rs"]
mod support;
