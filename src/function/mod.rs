//! Functions: a module loaded, its instance, its durable state, and what an invocation of it wants to do.
//!
//! - An invocation ends, within its fuel, its time and its memory; whatever the module does, the process lives.
//! - Its effects are all or nothing: they lie in [`Staged`] and in the staged part of the state until the caller takes
//!   them, and are empty after an error.
//! - `pristine`: an invocation begins from the image that `on_start` left, by a copy where the scan proves that a copy
//!   restores everything ([`image`]), else by a new instance. `warm`: the instance stays until something goes wrong.
//! - A trap, spent fuel, refused memory or a passed deadline throws the instance away; state and usage stay.
//! - The steady state allocates nothing: buffers are reused (`tests/function.rs` counts).
//!
//! Load: [`prescan`] (ceilings, facts) → [`rewrite`] (globals exported, trace) → [`guest`] (translation, instance)
//! → `weir_buf`, `on_start` → [`image`]. Call: image back → [`event`] into the buffer → handler → verdict.

pub mod error;
pub mod event;
mod guest;
pub mod host;
pub mod image;
pub mod limits;
pub mod names;
pub mod prescan;
mod refused;
pub mod rewrite;
pub mod staged;
pub mod state;
pub mod usage;

#[cfg(test)]
mod tests;

pub use error::{CallError, Fault, LoadError, Scene};
pub use event::{EventKind, Invocation, Seed};
pub use host::Bindings;
pub use limits::{GrowthRefused, MODULE_BYTES_MAX, Pool};
pub use refused::Bound;
pub use staged::{Emit, LogLine, METER_KEY_BYTES_MAX, MeterOp, Staged};
pub use usage::{ErrorKind, Usage, UsageRecord};

use core::fmt;

use weir_abi::{EXPORT_BUFFER, EXPORT_EVENT, EXPORT_INTERVAL, EXPORT_START, verdict};

use self::guest::{Allowance, Guest, Halt, Program};
use self::host::{Call, CallSet, Host, Phase};
use self::image::Image;
use self::limits::Limiter;
use self::refused::Refusals;
use self::state::TakeChange;
use crate::field::{FieldKind, Fields, Path, PathId, Paths, Value};
use crate::manifest::{InstancePolicy, Manifest};
use crate::time::Stopwatch;
use crate::units::{Bytes, Fuel, Millis};

/// Most fuel for `weir_buf` and for `on_start`, whatever the manifest grants: some 50 ms on the reference machine.
pub const START_FUEL_MAX: Fuel = Fuel(50_000_000);

/// What a handler decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The message is not wanted.
    Drop,
    /// The original bytes go on.
    Keep,
    /// Handled: what it emitted, metered or stored is all.
    Done,
}

impl Verdict {
    /// The word for it in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Keep => "keep",
            Self::Done => "done",
        }
    }
}

/// The set of paths is full: too many different fields are bound on this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathsFull;

/// How the next invocation gets its instance.
#[derive(Debug)]
enum Reset {
    /// The image is copied back.
    Copy(Image),
    /// A new instance each time; the text says why a copy would not do.
    Fresh(&'static str),
    /// The instance stays.
    Warm,
}

/// The instance, or what is left without one.
enum Body {
    /// Boxed, so that moving the function moves a pointer.
    Live(Box<Guest>),
    Gone(Box<Host>),
    /// Only while an instance is being made.
    Moving,
}

/// A loaded function.
pub struct Function {
    name: String,
    digest: u64,
    /// What the topic of a kept message gets in front.
    keep_prefix_len: usize,
    fuel: Fuel,
    time: Millis,
    refusals: Refusals,
    program: Program,
    body: Body,
    reset: Reset,
    /// Whether the instance has run since it was made or reset.
    touched: bool,
    bindings: Bindings,
    f64_paths: Vec<PathId>,
    typed_paths: Vec<PathId>,
    /// Why there will be no instance any more.
    broken: Option<String>,
    usage: Usage,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .field("reset", &self.reset)
            .field("bindings", &self.bindings)
            .field("broken", &self.broken)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

impl Function {
    /// Loads a module of at most `module_bytes_max`: scans, translates, instantiates, runs `on_start`, takes the image.
    ///
    /// Runs on the caller's thread; 2 MiB of stack are enough for any module (the tests load hostile ones on less).
    ///
    /// # Errors
    /// With the reason, whose fault it is, and what would help. Nothing stays behind.
    pub fn load(
        manifest: &Manifest,
        wasm: &[u8],
        module_bytes_max: Bytes,
        pool: &Pool,
        watch: &mut dyn Stopwatch,
    ) -> Result<Self, LoadError> {
        let size = Bytes(wasm.len() as u64);
        if module_bytes_max < size {
            return Err(LoadError::TooLarge { size, size_max: module_bytes_max });
        }
        let facts = prescan::scan(wasm)?;
        if manifest.limits.memory < facts.memory {
            return Err(LoadError::MemoryLimit { wants: facts.memory, memory_max: manifest.limits.memory });
        }
        let program = Program::translate(wasm, facts)?;
        let host = Host::new(manifest, Limiter::new(pool.clone(), manifest.limits.memory));
        let mut function = Self {
            name: manifest.name.clone(),
            digest: digest(wasm),
            keep_prefix_len: manifest.keep_prefix.len(),
            fuel: manifest.limits.fuel,
            time: manifest.limits.time,
            refusals: Refusals::new(manifest),
            program,
            body: Body::Gone(Box::new(host)),
            reset: Reset::Warm,
            touched: false,
            bindings: Bindings::default(),
            f64_paths: Vec::new(),
            typed_paths: Vec::new(),
            broken: None,
            usage: Usage::default(),
        };
        function.start(watch)?;
        function.bindings = function.host().bindings.clone();
        function.reset = function.choose_reset(manifest.instances);
        Ok(function)
    }

    fn choose_reset(&self, policy: InstancePolicy) -> Reset {
        match (policy, self.program.facts.not_restorable, &self.body) {
            (InstancePolicy::Warm, ..) => Reset::Warm,
            (InstancePolicy::Pristine, None, Body::Live(guest)) => {
                Reset::Copy(Image::take(&guest.store, guest.memory, &guest.globals))
            }
            (InstancePolicy::Pristine, why, _) => Reset::Fresh(why.unwrap_or("has no instance")),
        }
    }

    /// Makes an instance and runs its start. On failure there is none.
    fn start(&mut self, watch: &mut dyn Stopwatch) -> Result<(), LoadError> {
        let host = match core::mem::replace(&mut self.body, Body::Moving) {
            Body::Live(guest) => *guest::dismantle(guest.store),
            Body::Gone(host) => *host,
            Body::Moving => unreachable!("a function is not moved while it is made"),
        };
        match self.program.instantiate(host) {
            Ok(guest) => self.body = Body::Live(Box::new(guest)),
            Err((host, error)) => {
                self.body = Body::Gone(host);
                return Err(error);
            }
        }
        let started = self.run_start(watch);
        if started.is_err() {
            self.throw_away();
        }
        self.touched = false;
        started
    }

    fn run_start(&mut self, watch: &mut dyn Stopwatch) -> Result<(), LoadError> {
        // A start binds and reads settings. Whatever a manifest grants itself, loading stays short: nothing else bounds it where
        // the clock stands still (`weir check`).
        let (fuel, digest) = (self.fuel.min(START_FUEL_MAX), self.digest);
        let allowance = Allowance { fuel, ..self.allowance(watch.mono_us()) };
        let Body::Live(guest) = &mut self.body else {
            return Err(LoadError::Interpreter { what: "there is no instance".to_owned() });
        };
        let host = guest.store.data_mut();
        host.phase = Phase::Start;
        host.bindings = Bindings::default();
        host.staged.clear();
        host.view.payload.clear();
        host.view.values.clear();
        (host.view.now_ms, host.view.random) = (0, digest);
        let asked = guest.ask_buffer(allowance, watch);
        self.usage.fuel += fuel.0.saturating_sub(guest.fuel_left());
        match asked {
            Ok(checked) => checked?,
            Err(halt) => return Err(self.start_failed(halt, EXPORT_BUFFER, fuel)),
        }
        if let Some(on_start) = guest.on_start {
            let started = guest.run(on_start, (), allowance, watch);
            self.usage.fuel += fuel.0.saturating_sub(guest.fuel_left());
            match started {
                Ok(0..) => {}
                Ok(code) => return Err(LoadError::StartRefused { code }),
                Err(halt) => return Err(self.start_failed(halt, EXPORT_START, fuel)),
            }
        }
        guest.check_buffer(guest.store.data().bindings.f64.len())?;
        guest.store.data_mut().phase = Phase::Event;
        Ok(())
    }

    fn allowance(&self, now_us: u64) -> Allowance {
        Allowance { fuel: self.fuel, until_us: now_us.saturating_add(self.time.0.saturating_mul(1000)) }
    }

    /// Drops the instance: its memory goes back to the pool at once.
    fn throw_away(&mut self) {
        self.body = match core::mem::replace(&mut self.body, Body::Moving) {
            Body::Live(guest) => Body::Gone(guest::dismantle(guest.store)),
            body => body,
        };
    }

    fn start_failed(&self, halt: Halt, handler: &'static str, fuel: Fuel) -> LoadError {
        match halt {
            Halt::NoNumber { key, value } => LoadError::NoNumber { key, value },
            halt => LoadError::StartFailed(Box::new(self.failed(halt, handler, fuel))),
        }
    }

    /// A halt with its scene; `fuel` is what was allowed.
    fn failed(&self, halt: Halt, handler: &'static str, fuel: Fuel) -> CallError {
        let scene = Box::new(match &self.body {
            Body::Live(guest) => guest.scene(handler, &self.program.facts, fuel),
            _ => Scene::default(),
        });
        match halt {
            Halt::Trap(what) => CallError::Trapped { what, scene },
            Halt::Abort(text) => CallError::Aborted { text, scene },
            Halt::OutOfFuel => CallError::OutOfFuel { allowed: fuel, scene },
            Halt::OutOfMemory(refused) => CallError::OutOfMemory { refused, scene },
            Halt::TimedOut => CallError::TimedOut { allowed: self.time, scene },
            Halt::NoNumber { key, value } => {
                CallError::Trapped { what: LoadError::NoNumber { key, value }.to_string(), scene }
            }
        }
    }

    /// Hands an event to its handler. On success the effects wait in [`Function::staged`] and in the state
    /// ([`Function::commit_state`]); the next call clears what was not taken.
    ///
    /// `fields` is the scan of the payload with the set that [`Function::bind_paths`] filled.
    ///
    /// # Errors
    /// When the handler did not come to a verdict. Nothing is staged then but the log.
    pub fn call(
        &mut self,
        invocation: &Invocation<'_>,
        fields: &Fields,
        watch: &mut dyn Stopwatch,
    ) -> Result<Verdict, CallError> {
        let began_us = watch.mono_us();
        let outcome = self.attempt(invocation, fields, began_us, watch);
        self.usage.invocations += 1;
        self.usage.bytes_in += invocation.payload.len() as u64;
        if let Err(error) = &outcome {
            self.usage.errors[error.kind() as usize] += 1;
            let host = self.host_mut();
            host.staged.drop_effects();
            host.state.clear_staged();
        }
        let host = self.host();
        let (mut bytes_out, peak) = (host.staged.emit_bytes(), host.limiter.peak().0);
        if outcome == Ok(Verdict::Keep) {
            bytes_out += self.keep_prefix_len + invocation.topic.len() + invocation.payload.len();
        }
        self.usage.bytes_out += bytes_out as u64;
        self.usage.peak_memory = self.usage.peak_memory.max(peak);
        self.usage.time_us += watch.mono_us().saturating_sub(began_us);
        outcome
    }

    fn attempt(
        &mut self,
        invocation: &Invocation<'_>,
        fields: &Fields,
        began_us: u64,
        watch: &mut dyn Stopwatch,
    ) -> Result<Verdict, CallError> {
        self.make_ready(watch)?;
        let allowance = self.allowance(began_us);
        let handler = match invocation.kind {
            EventKind::Message => EXPORT_EVENT,
            EventKind::Interval => EXPORT_INTERVAL,
        };
        let Body::Live(guest) = &mut self.body else { return Err(no_instance(&"it is gone")) };
        let function = match invocation.kind {
            EventKind::Message => guest.on_event,
            EventKind::Interval => guest.on_interval,
        };
        let Some(function) = function else { return Err(no_instance(&format_args!("it exports no `{handler}`"))) };
        prepare(guest.store.data_mut(), invocation, fields, &self.typed_paths, self.program.facts.calls);
        let buffer = guest.buffer;
        let memory = guest.memory.data_mut(&mut guest.store);
        event::write(memory, buffer, invocation, self.bindings.want, &self.f64_paths, fields)
            .ok_or_else(|| no_instance(&"its event buffer does not lie within its memory"))?;
        self.touched = true;
        let returned = guest.run(function, buffer.pointer as i32, allowance, watch);
        self.usage.fuel += self.fuel.0.saturating_sub(guest.fuel_left());
        match returned {
            Ok(number) => self.judge(number, invocation.kind),
            Err(halt) => {
                let error = self.failed(halt, handler, self.fuel);
                self.throw_away();
                Err(error)
            }
        }
    }

    fn judge(&mut self, number: i32, kind: EventKind) -> Result<Verdict, CallError> {
        let error = match number {
            verdict::DROP => return Ok(Verdict::Drop),
            verdict::DONE => return Ok(Verdict::Done),
            verdict::KEEP if kind == EventKind::Message => return Ok(Verdict::Keep),
            ..0 => CallError::Refused { code: number, why: self.refusals.words(number, self.host().view.bound) },
            _ => CallError::BadVerdict { verdict: number },
        };
        // The guest returned in good order, so the image may be copied back; a warm instance must forget the event.
        if matches!(self.reset, Reset::Warm) {
            self.throw_away();
        }
        Err(error)
    }

    /// Sees to an instance that is as its policy says.
    fn make_ready(&mut self, watch: &mut dyn Stopwatch) -> Result<(), CallError> {
        let host = self.host_mut();
        host.staged.clear();
        host.state.clear_staged();
        (host.view.misread, host.view.read, host.view.bound) = (0, 0, None);
        if let Some(reason) = &self.broken {
            return Err(no_instance(reason));
        }
        let ready = match (&mut self.body, &self.reset) {
            (Body::Live(_), Reset::Warm) => true,
            (Body::Live(_), _) if !self.touched => true,
            (Body::Live(guest), Reset::Copy(image)) => image.restore(&mut guest.store, guest.memory, &guest.globals),
            _ => false,
        };
        if ready {
            self.touched = false;
            return Ok(());
        }
        self.usage.instances += 1;
        let made = self.start(watch).and_then(|()| match self.host().bindings == self.bindings {
            true => Ok(()),
            false => Err(LoadError::BindingsChanged),
        });
        self.host_mut().staged.clear();
        made.map_err(|error| {
            let failed = no_instance(&error);
            // What the pool or the clock refused may pass; what the module did it will do again.
            if !error.may_pass() {
                self.broken = Some(error.to_string());
            }
            self.throw_away();
            failed
        })
    }

    fn host(&self) -> &Host {
        match &self.body {
            Body::Live(guest) => guest.store.data(),
            Body::Gone(host) => host,
            Body::Moving => unreachable!("a function is not looked at while it is made"),
        }
    }

    fn host_mut(&mut self) -> &mut Host {
        match &mut self.body {
            Body::Live(guest) => guest.store.data_mut(),
            Body::Gone(host) => host,
            Body::Moving => unreachable!("a function is not looked at while it is made"),
        }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 64-bit FNV-1a of the module: tells versions apart in reports and dead letters. No protection against forgery.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether the module has the handler for a kind of event; a call without it fails.
    #[must_use]
    pub fn handles(&self, kind: EventKind) -> bool {
        match (&self.body, kind) {
            (Body::Live(guest), EventKind::Message) => guest.on_event.is_some(),
            (Body::Live(guest), EventKind::Interval) => guest.on_interval.is_some(),
            _ => false,
        }
    }

    /// What `on_start` asked for.
    #[must_use]
    pub const fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Whether it binds or looks up fields: payloads must be scanned before a call, and malformed ones kept from it.
    #[must_use]
    pub fn reads_fields(&self) -> bool {
        let bound = !self.bindings.f64.is_empty() || !self.bindings.typed.is_empty();
        bound || self.program.facts.calls.has_any(Call::LOOKS_UP)
    }

    /// Adds the bound paths to the set with which its payloads will be scanned.
    ///
    /// # Errors
    /// When the set is full; no field of this function is then found.
    pub fn bind_paths(&mut self, paths: &mut Paths) -> Result<(), PathsFull> {
        let mut add_all = |bound: &[crate::field::Path]| {
            bound.iter().map(|path| paths.add(path)).collect::<Option<Vec<_>>>().ok_or(PathsFull)
        };
        self.f64_paths = add_all(&self.bindings.f64)?;
        self.typed_paths = add_all(&self.bindings.typed)?;
        Ok(())
    }

    /// Effects of the last call; after an error only its log. After [`Function::load`]: the log of `on_start`.
    #[must_use]
    pub fn staged(&self) -> &Staged {
        &self.host().staged
    }

    /// Whether the last call emitted, metered or stored anything.
    #[must_use]
    pub fn left_something(&self) -> bool {
        let Host { staged, state, .. } = self.host();
        0 < staged.emits().len() + staged.meters().len() + state.staged_len()
    }

    /// The fields that are there and are not what the function reads there: numbers that are none (true), and what the last call
    /// found of another type by every getter that it tried (false).
    pub fn misfits<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = (&'a Path, Value, bool)> {
        let Bindings { f64, typed, .. } = &self.bindings;
        let no_number = |value: &Value| value.kind() != FieldKind::Absent && !value.f64().is_some_and(f64::is_finite);
        let numbers = f64.iter().zip(&self.f64_paths).map(|(path, id)| (path, fields.value(*id), true));
        let view = &self.host().view;
        let misread = view.misread & !view.read;
        let others = typed.iter().zip(&self.typed_paths).enumerate();
        let others = others.filter(move |(bit, _)| misread & 1 << bit != 0);
        let others = others.map(|(_, (path, id))| (path, fields.value(*id), false));
        numbers.filter(move |(_, value, _)| no_number(value)).chain(others)
    }

    /// What the last call put and deleted becomes the durable state, and dirty.
    pub fn commit_state(&mut self) {
        self.host_mut().state.commit();
    }

    /// What the last call put (`Some`) and deleted, in order of the keys' first change; empty once it is committed.
    pub fn staged_state(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.host().state.staged()
    }

    /// Hands out each key that changed since the last time with its value (`None`: deleted).
    pub fn drain_dirty_state(&mut self, take: &mut TakeChange<'_>) {
        self.host_mut().state.drain_dirty(take);
    }

    /// Takes a value over from flash (`None`: deleted).
    pub fn restore_state(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.host_mut().state.restore(key, value);
    }

    /// The durable state, in order of keys.
    pub fn state_entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.host().state.iter()
    }

    /// Bytes of durable state that the function may have.
    #[must_use]
    pub const fn state_max(&self) -> Bytes {
        self.refusals.state_max()
    }

    /// Bytes of durable state in use, as the quota counts them.
    #[must_use]
    pub fn state_used(&self) -> Bytes {
        self.host().state.used()
    }

    /// Its largest linear memory since it was loaded.
    #[must_use]
    pub fn memory_peak(&self) -> Bytes {
        self.host().limiter.peak()
    }

    /// What it used so far.
    #[must_use]
    pub const fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Takes totals over from flash; call it once, before the first call.
    pub fn restore_usage(&mut self, totals: &Usage) {
        self.usage.add(totals);
    }

    /// Why there is no instance and will be none; `None`: all is well.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// How invocations are kept apart, for people: `copy of N bytes`, or why a copy would not do.
    #[must_use]
    pub fn reset(&self) -> String {
        match &self.reset {
            Reset::Copy(image) => format!("pristine, by a copy of {}", Bytes(image.bytes() as u64)),
            Reset::Fresh(why) => format!("pristine, by a new instance each time: the module {why}"),
            Reset::Warm => "warm".to_owned(),
        }
    }
}

/// The host's side of an invocation.
fn prepare(host: &mut Host, invocation: &Invocation<'_>, fields: &Fields, typed: &[PathId], calls: CallSet) {
    let message = invocation.kind == EventKind::Message;
    let view = &mut host.view;
    (view.now_ms, view.codec) = (invocation.now_ms, invocation.codec);
    if calls.has(Call::Random) {
        view.random = invocation.random_seed();
    }
    view.payload.clear();
    if calls.has_any(Call::READS_PAYLOAD) && message {
        view.payload.extend_from_slice(invocation.payload);
    }
    view.values.clear();
    if message {
        view.values.extend(typed.iter().map(|id| fields.value(*id)));
    }
}

fn no_instance(reason: &dyn fmt::Display) -> CallError {
    CallError::Broken { reason: reason.to_string() }
}

/// [`Function::digest`] of a module.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    fnv1a(FNV_BASIS, bytes)
}

/// Where [`fnv1a`] begins.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// 64-bit FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv §2), going on from `hash`.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
