//! A function by itself: events in, effects out, outside of a gateway. `weir test`, `weir invoke`, `weir replay` and the tests of the
//! examples are this.
//!
//! - Loading, limits, calls and the reading of fields are the gateway's own ([`Function`]): what passes here passes there.
//! - Nothing is folded, delivered or stored: what a call *wants* is the answer ([`Outcome`]). Its state lives as long as the harness.
//! - An event that the gateway would keep from the function (a malformed payload) is kept from it here too.

pub mod case;
pub mod document;
pub mod outcome;
pub mod play;
pub mod recording;

pub use case::{Case, Step};
pub use document::{Blob, Event};
pub use outcome::{Difference, Outcome};
pub use play::{Played, play};

use crate::field::{Codec, Fields, Malformed, Paths};
use crate::function::{EventKind, Function, Invocation, LoadError, MODULE_BYTES_MAX, Pool, Seed};
use crate::manifest::Manifest;
use crate::time::{Stopwatch, TimeQuality, WallMillis};

/// A loaded function, ready for events.
#[derive(Debug)]
pub struct Harness {
    manifest: Manifest,
    function: Function,
    paths: Paths,
    fields: Fields,
    sequence: u64,
    time_ms: WallMillis,
}

impl Harness {
    /// Loads the module with all the memory that the manifest grants. The first event without a time comes a second after `start_ms`.
    ///
    /// # Errors
    /// As the gateway would refuse it.
    pub fn load(
        manifest: Manifest,
        wasm: &[u8],
        start_ms: WallMillis,
        watch: &mut dyn Stopwatch,
    ) -> Result<Self, LoadError> {
        let pool = Pool::new(manifest.limits.memory);
        let mut function = Function::load(&manifest, wasm, MODULE_BYTES_MAX, &pool, watch)?;
        let mut paths = Paths::new();
        function.bind_paths(&mut paths).expect("one function binds fewer fields than a gateway keeps");
        Ok(Self { manifest, function, paths, fields: Fields::new(), sequence: 0, time_ms: start_ms })
    }

    /// Hands the event to the function, and takes what it did to its state over if it came to a verdict.
    pub fn call(&mut self, event: &Event, watch: &mut dyn Stopwatch) -> Outcome {
        self.sequence += 1;
        self.time_ms = event.time.unwrap_or(self.time_ms.saturating_add(1000));
        let payload = event.payload_bytes();
        if let Err(malformed) = self.read(event, &payload) {
            return Outcome::malformed(event.codec, malformed);
        }
        let invocation = Invocation {
            kind: event.kind,
            sequence: event.sequence.unwrap_or(self.sequence),
            seed: event.seed.map_or(Seed::OfCall(0), Seed::Given),
            time_ms: self.time_ms,
            quality: event.quality.unwrap_or(TimeQuality::Synced),
            time_from_payload: event.time_from_payload,
            now_ms: event.now.unwrap_or(self.time_ms),
            qos: event.qos,
            retained: event.retained,
            chained: event.chained,
            replayed: event.replayed,
            topic: &event.topic,
            device: event.device(),
            payload: &payload,
            codec: event.codec,
        };
        let before = self.function.usage().fuel;
        let result = self.function.call(&invocation, &self.fields, watch);
        let fuel = self.function.usage().fuel - before;
        let outcome = Outcome::of(&self.manifest, &self.function, &invocation, &result, fuel);
        if result.is_ok() {
            self.function.commit_state();
        }
        outcome
    }

    fn read(&mut self, event: &Event, payload: &[u8]) -> Result<(), Malformed> {
        let looks = self.function.reads_fields() && event.kind == EventKind::Message && event.codec != Codec::Raw;
        if looks {
            return self.paths.scan(event.codec, payload, &mut self.fields);
        }
        self.fields = Fields::new();
        Ok(())
    }

    /// The function.
    #[must_use]
    pub const fn function(&self) -> &Function {
        &self.function
    }

    /// Its manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the function's `on_start` or last call logged.
    #[must_use]
    pub fn log(&self) -> Vec<outcome::LogLine> {
        outcome::log_of(&self.function)
    }

    /// Puts a value into the function's durable state.
    pub fn restore_state(&mut self, key: &[u8], value: &[u8]) {
        self.function.restore_state(key, Some(value));
    }
}

/// The settings in the place of the manifest's.
///
/// # Errors
/// A manifest that declares settings declares them all.
pub fn configure<'a>(
    manifest: &mut Manifest,
    settings: impl IntoIterator<Item = (&'a str, String)>,
) -> Result<(), String> {
    let declares = !manifest.config.is_empty();
    for (key, value) in settings {
        match manifest.config.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None if declares => return Err(format!("`{key}` is not a setting of the manifest's [config]")),
            None => manifest.config.push((key.to_owned(), value)),
        }
    }
    manifest.config.sort_unstable();
    Ok(())
}
