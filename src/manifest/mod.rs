//! Function manifests: `function.toml` beside a module says what the function is, needs and may do.
//!
//! - Deny by default: a function emits only on topics that its manifest names, and uses only the meters listed there.
//! - Every limit has a default and a unit; unknown keys are refused.

mod parse;

use crate::topic::TopicFilter;
use crate::units::{Bytes, Fuel, Millis};

/// Meters of one function.
pub const METERS_MAX: usize = 64;
/// Letters of a function's, meter's, lane's or sink's name.
pub const LABEL_MAX: usize = 48;

/// Checks the form that all names have in the configuration.
pub fn check_label(name: &str) -> Result<(), String> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if letters && (1..=LABEL_MAX).contains(&name.len()) {
        return Ok(());
    }
    let shown: String = name.chars().take(60).collect();
    Err(format!("`{}` is not a name; 1 to {LABEL_MAX} of a-z, 0-9 and `-` are taken", shown.escape_debug()))
}

/// Limits of one function (per call unless said).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, initial and maximum.
    pub memory: Bytes,
    /// Fuel per invocation.
    pub fuel: Fuel,
    /// Wall time per invocation, checked between fuel slices.
    pub time: Millis,
    /// Emitted messages per invocation.
    pub emits: u16,
    /// Emitted bytes (topics and payloads) per invocation.
    pub emit_bytes: Bytes,
    /// Durable state of the function, keys and values.
    pub state: Bytes,
    /// Log bytes per invocation.
    pub log_bytes: Bytes,
    /// Meter operations per invocation.
    pub meter_ops: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Bytes::kib(64),
            fuel: Fuel(1_000_000),
            time: Millis(1000),
            emits: 16,
            emit_bytes: Bytes::kib(16),
            state: Bytes::kib(16),
            log_bytes: Bytes::kib(1),
            meter_ops: 64,
        }
    }
}

/// How an instance is prepared for the next invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstancePolicy {
    /// Every invocation starts from the image after `start`.
    #[default]
    Pristine,
    /// The instance keeps its memory between invocations, until a trap.
    Warm,
}

/// What a meter keeps for each key and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterKind {
    /// `add`: count and sum.
    Counter,
    /// `set`: count, sum, min, max, mean, first and last.
    Gauge,
    /// `observe`: all of gauge, variance, and quantiles from a mergeable sketch.
    Distribution,
}

/// Which clock puts a value into a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeterTime {
    /// The event's own time (bounded skew), the arrival time where it has none.
    #[default]
    Event,
    /// The time of processing.
    Processing,
}

/// A meter that a function may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterSpec {
    /// Unique within the gateway: `FUNCTION.NAME` upstream, `NAME` for the guest.
    pub name: String,
    /// What is kept.
    pub kind: MeterKind,
    /// Length of the tumbling window.
    pub window: Millis,
    /// How long after its end a window still takes late values.
    pub lateness: Millis,
    /// Which clock.
    pub time: MeterTime,
    /// Different keys per window; further keys share the overflow key `~overflow`, which is counted.
    pub keys_max: u32,
    /// Unit, as text for the reader upstream (`kWh`).
    pub unit: String,
}

impl MeterSpec {
    /// Windows of this meter that are kept at once at most: the running one, its successor (event times may be ahead of
    /// the clock), and those that still take late values.
    #[must_use]
    pub fn open_windows_max(&self) -> u64 {
        2 + self.lateness.0.div_ceil(self.window.0.max(1))
    }

    /// Cells of this meter that are kept at once at most: each open window has `keys_max` keys and the overflow key.
    #[must_use]
    pub fn cells_max(&self) -> u64 {
        self.open_windows_max().saturating_mul(u64::from(self.keys_max) + 1)
    }
}

/// A parsed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Function name: `[a-z0-9-]{1,48}`.
    pub name: String,
    /// A label for people; the identity is the digest.
    pub version: String,
    /// One line.
    pub description: String,
    /// File name of the module beside the manifest.
    pub module: String,
    /// Topics that the function may emit to.
    pub emits: Vec<TopicFilter>,
    /// Put before the original topic of a kept message, to make the topic on which it goes on; default `NAME/`.
    pub keep_prefix: String,
    /// Meters.
    pub meters: Vec<MeterSpec>,
    /// Limits.
    pub limits: Limits,
    /// Instance policy.
    pub instances: InstancePolicy,
    /// What its own error codes mean, for people: `[errors]`.
    pub errors: Vec<(u16, String)>,
    /// Default configuration, overridden by the site: key and value as text.
    pub config: Vec<(String, String)>,
}
