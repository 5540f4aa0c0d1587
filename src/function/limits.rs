//! What a guest may cost: the interpreter's configuration, the global memory pool, the limiter of one instance.
//!
//! - The dispatch of the interpreter is `portable` + `indirect` (`Cargo.toml`): with its default dispatch a guest can
//!   overflow the native stack and end the process. `tests/hostile.rs` holds this on every profile.
//! - Bytes granted to guests never exceed the pool; they come back when the instance is dropped.
//! - A growth that is refused traps: an allocator that is told "no" would only abort in a place that explains nothing.

use std::cell::Cell;
use std::rc::Rc;

use wasmi::{CompilationMode, Config, EnforcedLimits, Engine, OperatorCost, ResourceLimiter};
use wasmi_core::LimiterError;
use wasmparser::WasmFeatures;

use crate::units::Bytes;

/// Fuel given at once; the deadline is looked at between slices, every 0.9 ms at the worst on the reference machine.
pub const FUEL_SLICE: u64 = 100_000;
/// Largest module unless the caller says otherwise.
pub const MODULE_BYTES_MAX: Bytes = Bytes::kib(256);
/// Most elements of the one table.
pub const TABLE_ELEMENTS_MAX: u32 = 1024;
/// Deepest call chain within a guest.
const RECURSION_MAX: usize = 256;
/// Value stack of a call, first and largest size in bytes.
const STACK_BYTES: (usize, usize) = (4 << 10, 32 << 10);

/// The WebAssembly features that are taken: the MVP, what every toolchain of today emits, and small pages.
#[must_use]
pub fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::GC_TYPES
        | WasmFeatures::FLOATS
        | WasmFeatures::CUSTOM_PAGE_SIZES
}

/// A new engine. One per module: an engine never frees the code of a module that was dropped.
#[must_use]
pub fn engine() -> Engine {
    let cost =
        OperatorCost { memory_grow: 255, table_grow: 255, call: 16, call_indirect: 24, ..OperatorCost::default() };
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .operator_cost(cost)
        .compilation_mode(CompilationMode::Eager)
        .ignore_custom_sections(true)
        .allow_start_fn(false)
        .enforced_limits(EnforcedLimits::strict())
        .wasm_extended_const(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(true)
        .set_max_recursion_depth(RECURSION_MAX)
        .set_max_cached_stacks(1)
        // The default minimum (1000) lies below both, and the default maximum (1 000 000) above: this order never panics.
        .set_min_stack_height(STACK_BYTES.0)
        .set_max_stack_height(STACK_BYTES.1);
    Engine::new(&config)
}

/// Linear memory of all guests together. Clones share it.
///
/// A byte of it costs up to two of the process: linear memory lies in a vector, which doubles when it grows, and where a
/// copy resets an instance, the image lies beside it.
#[derive(Clone, Debug)]
pub struct Pool(Rc<PoolState>);

#[derive(Debug)]
struct PoolState {
    bytes_max: u64,
    granted: Cell<u64>,
}

impl Pool {
    /// A pool of `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: Bytes) -> Self {
        Self(Rc::new(PoolState { bytes_max: bytes_max.0, granted: Cell::new(0) }))
    }

    /// Bytes that guests hold.
    #[must_use]
    pub fn granted(&self) -> Bytes {
        Bytes(self.0.granted.get())
    }

    /// Bytes that are left.
    #[must_use]
    pub fn room(&self) -> Bytes {
        Bytes(self.0.bytes_max - self.0.granted.get())
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = bytes <= self.room().0;
        if fits {
            self.0.granted.set(self.0.granted.get() + bytes);
        }
        fits
    }

    fn give_back(&self, bytes: u64) {
        self.0.granted.set(self.0.granted.get() - bytes);
    }
}

/// Why a growth was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthRefused {
    /// The function's own limit.
    Limit {
        /// What it would have had.
        wants: Bytes,
        /// `limits.memory` of the manifest.
        memory_max: Bytes,
    },
    /// The gateway's pool for all functions.
    Pool {
        /// What it wanted more.
        wants: Bytes,
        /// What the pool has left.
        room: Bytes,
    },
    /// The table's limit.
    Table {
        /// Elements that it would have had.
        wants: u64,
    },
}

/// The limiter of one function: its memory limit, its share of the pool, its peak.
#[derive(Debug)]
pub struct Limiter {
    pool: Pool,
    memory_max: u64,
    granted: u64,
    peak: u64,
    refused: Option<GrowthRefused>,
}

impl Limiter {
    pub(super) fn new(pool: Pool, memory_max: Bytes) -> Self {
        Self { pool, memory_max: memory_max.0, granted: 0, peak: 0, refused: None }
    }

    /// The instance is gone: its bytes go back to the pool.
    pub(super) fn release(&mut self) {
        self.pool.give_back(self.granted);
        self.granted = 0;
        self.refused = None;
    }

    /// Largest linear memory so far.
    pub(super) fn peak(&self) -> Bytes {
        Bytes(self.peak)
    }

    /// The refusal that trapped the guest, once.
    pub(super) fn take_refusal(&mut self) -> Option<GrowthRefused> {
        self.refused.take()
    }

    fn grow(&mut self, desired: u64) -> Result<(), GrowthRefused> {
        if self.memory_max < desired {
            return Err(GrowthRefused::Limit { wants: Bytes(desired), memory_max: Bytes(self.memory_max) });
        }
        let wants = desired.saturating_sub(self.granted);
        if !self.pool.take(wants) {
            return Err(GrowthRefused::Pool { wants: Bytes(wants), room: self.pool.room() });
        }
        self.granted += wants;
        self.peak = self.peak.max(desired);
        Ok(())
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.release();
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        match self.grow(desired as u64) {
            Ok(()) => Ok(true),
            Err(refused) => {
                self.refused = Some(refused);
                Err(LimiterError::ResourceLimiterDeniedAllocation)
            }
        }
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        if desired <= TABLE_ELEMENTS_MAX as usize {
            return Ok(true);
        }
        self.refused = Some(GrowthRefused::Table { wants: desired as u64 });
        Err(LimiterError::ResourceLimiterDeniedAllocation)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_never_overdrawn_and_gets_everything_back() {
        let pool = Pool::new(Bytes(100));
        let mut a = Limiter::new(pool.clone(), Bytes(80));
        let mut b = Limiter::new(pool.clone(), Bytes(80));
        assert!(a.memory_growing(0, 60, None).is_ok() && b.memory_growing(0, 40, None).is_ok());
        assert!(b.memory_growing(40, 41, None).is_err());
        assert!(matches!(b.take_refusal(), Some(GrowthRefused::Pool { room: Bytes(0), .. })));
        a.release();
        assert!(a.memory_growing(0, 81, None).is_err());
        assert!(matches!(a.take_refusal(), Some(GrowthRefused::Limit { .. })));
        drop(b);
        assert_eq!((pool.granted(), pool.room()), (Bytes(0), Bytes(100)));
    }

    #[test]
    fn the_engine_builds_in_this_order_of_settings() {
        let _ = engine();
    }
}
