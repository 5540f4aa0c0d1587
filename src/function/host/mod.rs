//! Host calls: what a guest may ask for, and the host's side of an invocation.
//!
//! - A call stages into bounded lists or copies; it does nothing else, and never calls the guest.
//! - A pointer or length outside the memory traps; everything else answers with a code.
//! - A call charges fuel for the bytes it works on, before the work where the amount is known.

mod config;
mod effects;
mod fields;
mod number;
mod state;

use core::fmt;

use wasmi::errors::{HostError, LinkerError};
use wasmi::{Caller, Engine, Error, Linker, Memory};
use wasmparser::ValType::{self, F64, I32, I64};
use weir_abi::{IMPORT_MODULE, code, want};

use super::limits::Limiter;
use super::refused::Bound;
use super::staged::Staged;
use super::state::State;
use crate::field::{Codec, Path, Value};
use crate::manifest::{Manifest, MeterKind};
use crate::topic::TopicFilter;

pub(super) use config::splitmix;

macro_rules! calls {
    ($($variant:ident $name:literal ($($param:expr),*) [$($result:expr),*] $function:path;)*) => {
        /// A host call of ABI version 1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Call { $(#[doc = concat!("`", $name, "`")] $variant),* }

        impl Call {
            /// All calls.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name under which it is imported.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Parameters and results.
            #[must_use]
            pub const fn signature(self) -> (&'static [ValType], &'static [ValType]) {
                match self { $(Self::$variant => (&[$($param),*], &[$($result),*])),* }
            }

            fn define(self, linker: &mut Linker<Host>) -> Result<(), LinkerError> {
                match self {
                    $(Self::$variant => linker.func_wrap(IMPORT_MODULE, $name, $function).map(drop)),*
                }
            }
        }
    };
}

calls! {
    BindF64 "bind_f64" (I32, I32) [I32] fields::bind_f64;
    Bind "bind" (I32, I32) [I32] fields::bind;
    Want "want" (I32) [I32] fields::want;
    Meter "meter" (I32, I32) [I32] effects::meter;
    FieldKind "field_kind" (I32) [I32] fields::field_kind;
    FieldF64 "field_f64" (I32) [F64] fields::field_f64;
    FieldI64 "field_i64" (I32, I32) [I32] fields::field_i64;
    FieldStr "field_str" (I32, I32, I32) [I32] fields::field_str;
    FieldF64s "field_f64s" (I32, I32, I32) [I32] fields::field_f64s;
    LookupF64 "lookup_f64" (I32, I32) [F64] fields::lookup_f64;
    LookupStr "lookup_str" (I32, I32, I32, I32) [I32] fields::lookup_str;
    Payload "payload" (I32, I32, I32) [I32] fields::payload;
    Emit "emit" (I32, I32, I32, I32) [I32] effects::emit;
    MeterAdd "meter_add" (I32, I32, I32, F64) [I32] effects::meter_add;
    MeterSet "meter_set" (I32, I32, I32, F64) [I32] effects::meter_set;
    MeterObserve "meter_observe" (I32, I32, I32, F64) [I32] effects::meter_observe;
    StateGet "state_get" (I32, I32, I32, I32) [I32] state::state_get;
    StatePut "state_put" (I32, I32, I32, I32) [I32] state::state_put;
    StateDelete "state_delete" (I32, I32) [I32] state::state_delete;
    ConfigGet "config_get" (I32, I32, I32, I32) [I32] config::config_get;
    ConfigF64 "config_f64" (I32, I32, F64) [F64] config::config_f64;
    FormatF64 "format_f64" (F64, I32, I32, I32) [I32] number::format_f64;
    Log "log" (I32, I32, I32) [] effects::log;
    NowMs "now_ms" () [I64] config::now_ms;
    Random "random" (I32, I32) [I32] config::random;
    Abort "abort" (I32, I32) [] config::abort;
}

impl Call {
    /// Calls that read the payload from the host's copy of it.
    pub const READS_PAYLOAD: &'static [Self] =
        &[Self::FieldStr, Self::FieldF64s, Self::LookupF64, Self::LookupStr, Self::Payload];
    /// Calls that need a payload which is well-formed.
    pub const LOOKS_UP: &'static [Self] = &[Self::LookupF64, Self::LookupStr];

    /// The call of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|call| call.name() == name)
    }
}

/// A set of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSet(u32);

impl CallSet {
    /// Adds one.
    pub const fn insert(&mut self, call: Call) {
        self.0 |= 1 << call as u32;
    }

    /// Whether it is in.
    #[must_use]
    pub const fn has(self, call: Call) -> bool {
        self.0 >> call as u32 & 1 != 0
    }

    /// Whether any of them is in.
    #[must_use]
    pub fn has_any(self, calls: &[Call]) -> bool {
        calls.iter().any(|call| self.has(*call))
    }
}

/// A linker with the calls that a module imports.
pub(super) fn linker(engine: &Engine, calls: CallSet) -> Result<Linker<Host>, LinkerError> {
    let mut linker = Linker::new(engine);
    for call in Call::ALL.iter().filter(|call| calls.has(**call)) {
        call.define(&mut linker)?;
    }
    Ok(linker)
}

/// What runs: decides which calls are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// `weir_buf` and `on_start`: binds, and has no effects.
    #[default]
    Start,
    /// A handler.
    Event,
}

/// What `on_start` asked for. Recorded at the first load; later runs must ask for the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Bindings {
    /// Fields written as `f64` beside every header, in order.
    pub f64: Vec<Path>,
    /// Fields for the typed getters, in order.
    pub typed: Vec<Path>,
    /// What is copied into the buffer: bits of [`weir_abi::want`].
    pub want: i32,
    /// Meters that were asked for, by their place in the manifest.
    pub meters: Vec<u16>,
}

impl Default for Bindings {
    fn default() -> Self {
        Self { f64: Vec::new(), typed: Vec::new(), want: want::TOPIC | want::DEVICE, meters: Vec::new() }
    }
}

/// The running invocation, as far as host calls look at it.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The time of processing.
    pub now_ms: i64,
    /// How `payload` is read.
    pub codec: Codec,
    /// A copy of the payload, if the module imports a call that reads it.
    pub payload: Vec<u8>,
    /// The fields bound with `bind`.
    pub values: Vec<Value>,
    /// State of the generator behind `random`.
    pub random: u64,
    /// Fields of `values`, a bit each, that were read as what they are not, and those that were read as what they are.
    pub misread: u64,
    pub read: u64,
    /// The bound that a call last ran into.
    pub bound: Option<Bound>,
}

/// What the manifest says about host calls.
#[derive(Debug)]
struct Rules {
    emits: Vec<TopicFilter>,
    meters: Vec<(String, MeterKind)>,
    config: Vec<(String, String)>,
}

/// The host's side of an instance: the data of its store; moved on when the instance is made anew.
#[derive(Debug)]
pub(super) struct Host {
    /// Which calls are answered.
    pub phase: Phase,
    /// The guest's memory, once there is an instance.
    pub memory: Option<Memory>,
    /// Fuel of the invocation that has not been given to the interpreter yet.
    pub reserve: u64,
    /// What `on_start` asked for.
    pub bindings: Bindings,
    /// The running invocation.
    pub view: View,
    /// Its effects.
    pub staged: Staged,
    /// Durable state.
    pub state: State,
    /// Memory.
    pub limiter: Limiter,
    rules: Rules,
}

impl Host {
    pub(super) fn new(manifest: &Manifest, limiter: Limiter) -> Self {
        Self {
            phase: Phase::Start,
            memory: None,
            reserve: 0,
            bindings: Bindings::default(),
            view: View::default(),
            staged: Staged::new(&manifest.limits),
            state: State::new(manifest.limits.state),
            limiter,
            rules: Rules {
                emits: manifest.emits.clone(),
                meters: manifest.meters.iter().map(|meter| (meter.name.clone(), meter.kind)).collect(),
                config: manifest.config.clone(),
            },
        }
    }

    /// The answer of a call that ran into a bound.
    fn reached(&mut self, bound: Bound) -> i32 {
        self.view.bound = Some(bound);
        code::QUOTA
    }

    fn starting(&self) -> bool {
        self.phase == Phase::Start
    }
}

/// Why a host call ended the invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It could not pay for the bytes.
    OutOfFuel,
    /// A range outside the memory.
    OutOfBounds { pointer: u32, len: u32 },
    /// `abort`.
    Abort(String),
    /// A setting that was read as a number is none.
    NoNumber { key: String, value: String },
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFuel => f.write_str("out of fuel in a host call"),
            Self::OutOfBounds { pointer, len } => {
                write!(f, "a host call was given {len} bytes at {pointer}, which is outside the memory")
            }
            Self::Abort(text) => f.write_str(text),
            Self::NoNumber { key, value } => write!(f, "config `{key}` is `{value}`, which is no number"),
        }
    }
}

impl HostError for Stop {}

type Guest<'a> = Caller<'a, Host>;

/// Takes `amount` from the running slice, then from what is left of the invocation.
fn charge(guest: &mut Guest<'_>, amount: usize) -> Result<(), Error> {
    let (amount, slice) = (amount as u64, guest.get_fuel()?);
    if amount <= slice {
        return guest.set_fuel(slice - amount);
    }
    guest.set_fuel(0)?;
    let reserve = &mut guest.data_mut().reserve;
    match reserve.checked_sub(amount - slice) {
        Some(left) => {
            *reserve = left;
            Ok(())
        }
        None => {
            *reserve = 0;
            Err(Error::host(Stop::OutOfFuel))
        }
    }
}

/// Fuel for bytes that are copied, compared or stored.
const fn copying(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Fuel for bytes that are read one by one.
const fn scanning(bytes: usize) -> usize {
    bytes.div_ceil(2)
}

/// A pointer or length as the guest gave it.
const fn unsigned(number: i32) -> usize {
    number as u32 as usize
}

/// The length of a range that lies within the memory, or a trap: what is charged for is there.
fn checked(guest: &Guest<'_>, pointer: i32, len: i32) -> Result<usize, Error> {
    let size = guest.data().memory.map_or(0, |memory| memory.data_size(guest));
    let fits = size.checked_sub(unsigned(pointer)).is_some_and(|tail| unsigned(len) <= tail);
    if fits { Ok(unsigned(len)) } else { Err(out_of_bounds(pointer, len)) }
}

/// The guest's memory and the host's data, side by side.
fn split<'a>(guest: &'a mut Guest<'_>) -> (&'a mut [u8], &'a mut Host) {
    match guest.data().memory {
        Some(memory) => memory.data_and_store_mut(guest),
        // Host calls run within an instance only; without a memory every range is out of bounds.
        None => (&mut [], guest.data_mut()),
    }
}

fn out_of_bounds(pointer: i32, len: i32) -> Error {
    Error::host(Stop::OutOfBounds { pointer: pointer as u32, len: len as u32 })
}

/// `len` bytes at `pointer`, or a trap.
fn read(memory: &[u8], pointer: i32, len: i32) -> Result<&[u8], Error> {
    let tail = memory.get(unsigned(pointer)..);
    tail.and_then(|tail| tail.get(..unsigned(len))).ok_or_else(|| out_of_bounds(pointer, len))
}

/// `len` bytes at `pointer`, to be written, or a trap.
fn write(memory: &mut [u8], pointer: i32, len: i32) -> Result<&mut [u8], Error> {
    let tail = memory.get_mut(unsigned(pointer)..);
    tail.and_then(|tail| tail.get_mut(..unsigned(len))).ok_or_else(|| out_of_bounds(pointer, len))
}

/// Copies as much of `from` as fits and answers how much was copied.
fn fill(to: &mut [u8], from: &[u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}

/// A length as the guest gets it.
fn length(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// UTF-8 text, or the code for "makes no sense".
fn text(bytes: &[u8]) -> Result<&str, i32> {
    core::str::from_utf8(bytes).map_err(|_| code::INVALID)
}
