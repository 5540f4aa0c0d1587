//! The one reader of the wall clock in the simulator.

/// Milliseconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "modelled devices stamp their readings with the real time")]
pub fn wall_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
