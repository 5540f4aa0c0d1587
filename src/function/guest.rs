//! A program and its instance: made from a module, run in slices of fuel, thrown away.
//!
//! - An instance has a store of its own, so that dropping it frees everything.
//! - A run ends: by its verdict, a trap, the fuel, or the deadline that is looked at between slices.
//! - A panic of the interpreter costs the instance, not the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmi::{
    Engine, Error, Global, Instance, Linker, Memory, Module, Store, TrapCode, TypedFunc, TypedResumableCall, Val,
    WasmParams, WasmResults,
};
use weir_abi::{BUFFER_MIN, EXPORT_BUFFER, EXPORT_EVENT, EXPORT_INTERVAL, EXPORT_MEMORY, EXPORT_START};

use super::error::{LoadError, Scene};
use super::host::{self, Host, Stop};
use super::limits::{self, FUEL_SLICE, GrowthRefused};
use super::prescan::Facts;
use super::rewrite;
use crate::time::Stopwatch;
use crate::units::{Bytes, Fuel};

/// A translated module and what it is linked with. Instances are made from it.
pub(super) struct Program {
    module: Module,
    linker: Linker<Host>,
    engine: Engine,
    pub(super) facts: Facts,
}

/// What a run may spend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) fuel: Fuel,
    /// Reading of the stopwatch at which it ends.
    pub(super) until_us: u64,
}

/// Why a run ended without a result.
#[derive(Debug)]
pub(super) enum Halt {
    Trap(String),
    Abort(String),
    OutOfFuel,
    OutOfMemory(GrowthRefused),
    TimedOut,
    /// A setting was read as a number and is none.
    NoNumber {
        key: String,
        value: String,
    },
}

/// The event buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffer {
    pub(super) pointer: u32,
    pub(super) capacity: u32,
}

/// An instance.
pub(super) struct Guest {
    pub(super) store: Store<Host>,
    pub(super) memory: Memory,
    /// The mutable globals, for the image.
    pub(super) globals: Vec<Global>,
    trace: Global,
    buffer_call: TypedFunc<(), i64>,
    pub(super) on_start: Option<TypedFunc<(), i32>>,
    pub(super) on_event: Option<TypedFunc<i32, i32>>,
    pub(super) on_interval: Option<TypedFunc<i32, i32>>,
    pub(super) buffer: Buffer,
}

impl Program {
    /// Translates a module that has passed the scan.
    pub(super) fn translate(wasm: &[u8], facts: Facts) -> Result<Self, LoadError> {
        let interpreter = |error: &dyn core::fmt::Display| LoadError::Interpreter { what: error.to_string() };
        let traced = rewrite::rewrite(wasm, &facts)?;
        let engine = limits::engine();
        let module = catch_unwind(AssertUnwindSafe(|| Module::new(&engine, &traced)))
            .map_err(|_| interpreter(&"it panicked while it translated the module"))?
            .map_err(|error| interpreter(&error))?;
        let linker = host::linker(&engine, facts.calls).map_err(|error| interpreter(&error))?;
        Ok(Self { module, linker, engine, facts })
    }

    /// Makes an instance around `host`, or gives it back.
    pub(super) fn instantiate(&self, mut host: Host) -> Result<Guest, (Box<Host>, LoadError)> {
        host.memory = None;
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| &mut host.limiter);
        match self.assemble(&mut store) {
            Ok((instance, memory)) => match Parts::find(&store, instance, &self.facts) {
                Ok(parts) => {
                    store.data_mut().memory = Some(memory);
                    Ok(parts.into_guest(store, memory))
                }
                Err(error) => Err((dismantle(store), error)),
            },
            Err(error) => Err((dismantle(store), error)),
        }
    }

    fn assemble(&self, store: &mut Store<Host>) -> Result<(Instance, Memory), LoadError> {
        let instance = self.linker.instantiate_and_start(&mut *store, &self.module).map_err(|error| {
            match store.data_mut().limiter.take_refusal() {
                Some(GrowthRefused::Limit { wants, memory_max }) => LoadError::MemoryLimit { wants, memory_max },
                Some(GrowthRefused::Pool { wants, room }) => LoadError::Pool { wants, room },
                _ => LoadError::Interpreter { what: error.to_string() },
            }
        })?;
        let memory = instance.get_memory(&*store, EXPORT_MEMORY);
        Ok((instance, memory.ok_or(LoadError::MissingExport { name: EXPORT_MEMORY })?))
    }
}

/// Takes the host out of a store; memory goes back to the pool.
pub(super) fn dismantle(store: Store<Host>) -> Box<Host> {
    let mut host = Box::new(store.into_data());
    host.memory = None;
    host.limiter.release();
    host
}

/// The exports of an instance.
struct Parts {
    globals: Vec<Global>,
    trace: Global,
    buffer_call: TypedFunc<(), i64>,
    on_start: Option<TypedFunc<(), i32>>,
    on_event: Option<TypedFunc<i32, i32>>,
    on_interval: Option<TypedFunc<i32, i32>>,
}

impl Parts {
    fn find(store: &Store<Host>, instance: Instance, facts: &Facts) -> Result<Self, LoadError> {
        let global = |name: &str| instance.get_global(store, name);
        let missing = |name| LoadError::MissingExport { name };
        let names = facts.mutable_globals.iter().map(|index| rewrite::global_name(*index));
        Ok(Self {
            globals: names.filter_map(|name| global(&name)).collect(),
            trace: global(rewrite::TRACE).ok_or(missing(rewrite::TRACE))?,
            buffer_call: function(store, instance, EXPORT_BUFFER, "() -> i64")?.ok_or(missing(EXPORT_BUFFER))?,
            on_start: function(store, instance, EXPORT_START, "() -> i32")?,
            on_event: function(store, instance, EXPORT_EVENT, "(i32) -> i32")?,
            on_interval: function(store, instance, EXPORT_INTERVAL, "(i32) -> i32")?,
        })
    }

    fn into_guest(self, store: Store<Host>, memory: Memory) -> Guest {
        let Self { globals, trace, buffer_call, on_start, on_event, on_interval } = self;
        let buffer = Buffer::default();
        Guest { store, memory, globals, trace, buffer_call, on_start, on_event, on_interval, buffer }
    }
}

fn wrong_type(name: &str, expected: &str) -> LoadError {
    LoadError::WrongType { name: name.to_owned(), expected: expected.to_owned() }
}

/// An exported function, `None` if there is none of that name.
fn function<P: WasmParams, R: WasmResults>(
    store: &Store<Host>,
    instance: Instance,
    name: &str,
    expected: &str,
) -> Result<Option<TypedFunc<P, R>>, LoadError> {
    match instance.get_export(store, name) {
        None => Ok(None),
        Some(export) => match export.into_func().map(|function| function.typed(store)) {
            Some(Ok(function)) => Ok(Some(function)),
            _ => Err(wrong_type(name, expected)),
        },
    }
}

impl Guest {
    /// Asks for the event buffer and checks it; `fields` is how many `f64` stand behind the header.
    pub(super) fn ask_buffer(
        &mut self,
        allowance: Allowance,
        watch: &mut dyn Stopwatch,
    ) -> Result<Result<(), LoadError>, Halt> {
        let packed = self.run(self.buffer_call, (), allowance, watch)? as u64;
        self.buffer = Buffer { pointer: (packed >> 32) as u32, capacity: packed as u32 };
        Ok(self.check_buffer(0))
    }

    /// Whether the buffer lies within the memory and takes a header with `fields` numbers behind it.
    pub(super) fn check_buffer(&self, fields: usize) -> Result<(), LoadError> {
        let Buffer { pointer, capacity } = self.buffer;
        let end = u64::from(pointer) + u64::from(capacity);
        let needed = u64::from(weir_abi::HEADER_LEN) + 8 * fields as u64;
        let why = match () {
            () if pointer == 0 => "is the null pointer",
            () if pointer % 8 != 0 => "is not 8-aligned",
            () if capacity < BUFFER_MIN => "is smaller than 256 bytes",
            () if (self.memory.data_size(&self.store) as u64) < end => "lies outside the memory",
            () if u64::from(capacity) < needed => "is too small for the header and the bound fields",
            () => return Ok(()),
        };
        Err(LoadError::Buffer { pointer, capacity, why })
    }

    /// Calls a function of the guest.
    pub(super) fn run<P: WasmParams, R: WasmResults>(
        &mut self,
        function: TypedFunc<P, R>,
        params: P,
        allowance: Allowance,
        watch: &mut dyn Stopwatch,
    ) -> Result<R, Halt> {
        let _ = self.trace.set(&mut self.store, Val::I64(0));
        catch_unwind(AssertUnwindSafe(|| self.run_slices(function, params, allowance, watch)))
            .unwrap_or_else(|_| Err(Halt::Trap("the interpreter panicked".to_owned())))
    }

    fn run_slices<P: WasmParams, R: WasmResults>(
        &mut self,
        function: TypedFunc<P, R>,
        params: P,
        allowance: Allowance,
        watch: &mut dyn Stopwatch,
    ) -> Result<R, Halt> {
        self.grant(allowance.fuel.0, FUEL_SLICE);
        let mut call = function.call_resumable(&mut self.store, params);
        loop {
            match call {
                Ok(TypedResumableCall::Finished(result)) => return Ok(result),
                Ok(TypedResumableCall::OutOfFuel(suspended)) => {
                    let (left, needed) = (self.fuel_left(), suspended.required_fuel());
                    if left < needed || left == 0 {
                        return Err(Halt::OutOfFuel);
                    }
                    if allowance.until_us <= watch.mono_us() {
                        return Err(Halt::TimedOut);
                    }
                    self.grant(left, FUEL_SLICE.max(needed));
                    call = suspended.resume(&mut self.store);
                }
                Ok(TypedResumableCall::HostTrap(stopped)) => return Err(stopped_by(stopped.host_error())),
                Err(error) => return Err(self.trapped(&error)),
            }
        }
    }

    /// Gives the interpreter a slice of `left` and keeps the rest.
    fn grant(&mut self, left: u64, slice: u64) {
        let slice = slice.min(left);
        self.store.data_mut().reserve = left - slice;
        // Fails only without fuel metering, which the configuration switches on.
        let _ = self.store.set_fuel(slice);
    }

    /// What is left of the invocation's fuel.
    pub(super) fn fuel_left(&self) -> u64 {
        self.store.get_fuel().unwrap_or_default() + self.store.data().reserve
    }

    fn trapped(&mut self, error: &Error) -> Halt {
        match error.as_trap_code() {
            Some(TrapCode::OutOfFuel) => Halt::OutOfFuel,
            Some(TrapCode::GrowthOperationLimited) => match self.store.data_mut().limiter.take_refusal() {
                Some(refused) => Halt::OutOfMemory(refused),
                None => Halt::Trap(error.to_string()),
            },
            _ => match error.downcast_ref::<Stop>() {
                Some(_) => stopped_by(error),
                None => Halt::Trap(error.to_string()),
            },
        }
    }

    /// Where the guest stands, for a report.
    pub(super) fn scene(&self, handler: &'static str, facts: &Facts, allowed: Fuel) -> Scene {
        let Val::I64(trace) = self.trace.get(&self.store) else { return Scene::default() };
        Scene {
            handler,
            frames: rewrite::frames(trace, facts.imported_functions).map(|index| facts.names.get(index)).collect(),
            fuel: Fuel(allowed.0.saturating_sub(self.fuel_left())),
            memory: Bytes(self.memory.data_size(&self.store) as u64),
        }
    }
}

fn stopped_by(error: &Error) -> Halt {
    match error.downcast_ref::<Stop>() {
        Some(Stop::OutOfFuel) => Halt::OutOfFuel,
        Some(Stop::Abort(text)) => Halt::Abort(text.clone()),
        Some(Stop::NoNumber { key, value }) => Halt::NoNumber { key: key.clone(), value: value.clone() },
        Some(stop @ Stop::OutOfBounds { .. }) => Halt::Trap(stop.to_string()),
        None => Halt::Trap(error.to_string()),
    }
}
