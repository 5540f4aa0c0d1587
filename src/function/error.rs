//! What can go wrong with a function: at load, and in a call. Each says whose fault it is and what to do.

use core::fmt;

use super::limits::GrowthRefused;
use super::usage::ErrorKind;
use crate::printable::Printable;
use crate::units::{Bytes, Fuel, Millis};

/// Who can put it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The author of the module.
    Module,
    /// The author of the manifest, or the site's overrides.
    Manifest,
    /// The gateway's configuration: it grants too little.
    Gateway,
}

/// A module was not loaded. Nothing of it remains.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadError {
    /// Larger than the gateway takes.
    TooLarge {
        /// Its size.
        size: Bytes,
        /// The limit.
        size_max: Bytes,
    },
    /// Not a WebAssembly module, or one that is not valid, or that uses a feature that is not taken.
    Invalid {
        /// Where in the file.
        at: usize,
        /// What the parser or validator said.
        what: String,
    },
    /// A ceiling that keeps loading cheap and certain.
    Ceiling {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: u64,
        /// The ceiling.
        count_max: u64,
    },
    /// A start section: code would run before there is anything to bind.
    StartSection,
    /// An import that is no host call.
    UnknownImport {
        /// `MODULE.NAME` as written.
        import: String,
    },
    /// A host call or export of another type than the ABI says.
    WrongType {
        /// Which.
        name: String,
        /// Its type in the ABI.
        expected: String,
    },
    /// A required export is missing.
    MissingExport {
        /// Which.
        name: &'static str,
    },
    /// The module was built for another version of the ABI.
    AbiVersion {
        /// The value of `weir_abi`.
        found: i32,
    },
    /// `weir_abi` is neither a constant global nor a function that returns a constant and does nothing else.
    AbiNotConstant,
    /// A setting that the function reads as a number is none.
    NoNumber {
        /// Its key in `[config]`.
        key: String,
        /// What stands there.
        value: String,
    },
    /// The initial memory is larger than the manifest grants.
    MemoryLimit {
        /// Initial memory of the module.
        wants: Bytes,
        /// `limits.memory`.
        memory_max: Bytes,
    },
    /// The pool of all functions has too little left.
    Pool {
        /// What it wants.
        wants: Bytes,
        /// What is left.
        room: Bytes,
    },
    /// `weir_buf` returned something that cannot be used.
    Buffer {
        /// Pointer and capacity.
        pointer: u32,
        /// Capacity in bytes.
        capacity: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `on_start` returned an error of its own.
    StartRefused {
        /// The code.
        code: i32,
    },
    /// `on_start` or `weir_buf` trapped or passed a limit.
    StartFailed(Box<CallError>),
    /// `on_start` bound other things than at the first load: it is not deterministic.
    BindingsChanged,
    /// The interpreter refused what the scan had let pass, or failed itself.
    Interpreter {
        /// What it said.
        what: String,
    },
}

impl LoadError {
    /// Who can put it right.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::MemoryLimit { .. } | Self::NoNumber { .. } => Fault::Manifest,
            Self::Pool { .. } | Self::TooLarge { .. } => Fault::Gateway,
            _ => Fault::Module,
        }
    }

    /// Whether the same module may load at another moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Pool { .. } => true,
            Self::StartFailed(error) => match **error {
                CallError::OutOfMemory { refused, .. } => matches!(refused, GrowthRefused::Pool { .. }),
                CallError::TimedOut { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { size, size_max } => write!(
                f,
                "the module has {size}, the gateway takes {size_max}; build it for size (opt-level \"z\", lto, strip)"
            ),
            Self::Invalid { at, what } => {
                write!(f, "not a module that is taken (byte {at}: {}); is it built for wasm32?", Printable(what))
            }
            Self::Ceiling { what, count, count_max } => {
                write!(f, "{what}: {count}, at most {count_max} are taken; split the module or simplify it")
            }
            Self::StartSection => f.write_str("the module has a start section; export `on_start` instead"),
            Self::UnknownImport { import } => write!(
                f,
                "imports `{}`, which is no host call of ABI version 1; functions import from `weir1` only",
                Printable(import)
            ),
            Self::WrongType { name, expected } => {
                write!(f, "`{}` has another type than the ABI's {expected}; rebuild it with the SDK", Printable(name))
            }
            Self::MissingExport { name } => write!(f, "exports no `{name}`; rebuild it with the SDK"),
            Self::AbiVersion { found } => {
                write!(f, "is built for ABI version {found}, the gateway speaks 1; rebuild it with a matching SDK")
            }
            Self::AbiNotConstant => f.write_str(
                "exports a `weir_abi` that is neither a constant i32 nor a function `() -> i32` whose body is one i32.const; \
                 build it with optimisation, or with the SDK",
            ),
            Self::NoNumber { key, value } => {
                write!(f, "config `{}` is `{}`, which is no number", Printable(key), Printable(value))
            }
            Self::MemoryLimit { wants, memory_max } => write!(
                f,
                "wants {wants} of memory from the start, `limits.memory` grants {memory_max}; raise it, \
                 or link with a smaller stack and pages of 1 byte"
            ),
            Self::Pool { wants, room } => {
                write!(f, "wants {wants} of memory, the functions' pool has {room} left; raise it or load fewer")
            }
            Self::Buffer { pointer, capacity, why } => {
                write!(f, "`weir_buf` gave {capacity} bytes at {pointer}, which {why}")
            }
            Self::StartRefused { code } => write!(f, "`on_start` refused with code {code}; see the function's log"),
            Self::StartFailed(error) => write!(f, "`on_start` failed: {error}"),
            Self::BindingsChanged => {
                f.write_str("`on_start` bound other fields or meters than before; it must do the same each time")
            }
            Self::Interpreter { what } => write!(f, "the interpreter refused the module: {}", Printable(what)),
        }
    }
}

impl std::error::Error for LoadError {}

/// Where a guest was when it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// The handler that was running.
    pub handler: &'static str,
    /// The guest's functions, innermost first, at most five; names where the module has them.
    pub frames: Vec<String>,
    /// Fuel spent until then.
    pub fuel: Fuel,
    /// Linear memory at that moment.
    pub memory: Bytes,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frames.is_empty() {
            write!(f, "in {}", self.handler)?;
        }
        for (index, name) in self.frames.iter().enumerate() {
            write!(f, "{} {}", if index == 0 { "in" } else { " ←" }, Printable(name))?;
        }
        write!(f, " (fuel {}, memory {})", self.fuel, self.memory)
    }
}

/// An invocation failed. Nothing that it staged takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The guest broke a rule of WebAssembly or of the ABI; its instance was thrown away.
    Trapped {
        /// Which rule.
        what: String,
        /// Where.
        scene: Box<Scene>,
    },
    /// The guest called `abort`, as panic handlers do.
    Aborted {
        /// The text, cut at 256 bytes.
        text: String,
        /// Where.
        scene: Box<Scene>,
    },
    /// The guest spent its allowance; the next message gets a fresh one.
    OutOfFuel {
        /// `limits.fuel`.
        allowed: Fuel,
        /// Where.
        scene: Box<Scene>,
    },
    /// The guest wanted more memory than it may have.
    OutOfMemory {
        /// Whose limit.
        refused: GrowthRefused,
        /// Where.
        scene: Box<Scene>,
    },
    /// The call took longer than it may.
    TimedOut {
        /// `limits.time`.
        allowed: Millis,
        /// Where.
        scene: Box<Scene>,
    },
    /// The handler returned an error of its own numbering.
    Refused {
        /// The code, below zero.
        code: i32,
        /// The code in words.
        why: String,
    },
    /// The handler returned a number that is no verdict for this kind of event.
    BadVerdict {
        /// The number.
        verdict: i32,
    },
    /// There is no instance: it could not be made anew, or has no such handler. Says why; loading again may help.
    Broken {
        /// The reason.
        reason: String,
    },
}

impl CallError {
    /// The kind, for usage and dead letters.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Trapped { .. } => ErrorKind::Trap,
            Self::Aborted { .. } => ErrorKind::Abort,
            Self::OutOfFuel { .. } => ErrorKind::OutOfFuel,
            Self::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::BadVerdict { .. } => ErrorKind::BadVerdict,
            Self::Broken { .. } => ErrorKind::Broken,
        }
    }

    /// Where the guest was stopped; `None` if it returned or never ran.
    #[must_use]
    pub const fn scene(&self) -> Option<&Scene> {
        match self {
            Self::Trapped { scene, .. }
            | Self::Aborted { scene, .. }
            | Self::OutOfFuel { scene, .. }
            | Self::OutOfMemory { scene, .. }
            | Self::TimedOut { scene, .. } => Some(scene),
            Self::Refused { .. } | Self::BadVerdict { .. } | Self::Broken { .. } => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trapped { what, scene } => write!(f, "trapped: {} {scene}", Printable(what)),
            Self::Aborted { text, scene } => write!(f, "aborted: {} {scene}", Printable(text)),
            Self::OutOfFuel { allowed, scene } => write!(f, "out of fuel: {allowed} allowed, {scene}"),
            Self::OutOfMemory { refused, scene } => write!(f, "out of memory: {refused}, {scene}"),
            Self::TimedOut { allowed, scene } => write!(f, "timed out: {allowed} allowed, {scene}"),
            Self::Refused { code, why } => write!(f, "the handler refused with code {code}: {}", Printable(why)),
            Self::BadVerdict { verdict } => {
                write!(f, "the handler returned {verdict}, which is no verdict (1 keep, 0 drop, 2 done)")
            }
            Self::Broken { reason } => write!(f, "no instance: {}", Printable(reason)),
        }
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for GrowthRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { wants, memory_max } => {
                write!(f, "wants {wants}, `limits.memory` grants {memory_max}")
            }
            Self::Pool { wants, room } => write!(f, "wants {wants} more, the functions' pool has {room} left"),
            Self::Table { wants } => write!(f, "wants a table of {wants} elements"),
        }
    }
}
