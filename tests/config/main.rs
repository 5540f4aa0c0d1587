//! `gateway.toml` and all that it names, from texts in memory: what is read, and what is refused in which words.
#![allow(missing_docs, clippy::unwrap_used)]

mod budget;
mod flow;
mod read;
mod refused;
mod texts;
