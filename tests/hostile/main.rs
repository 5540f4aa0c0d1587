//! Hostile modules: each is refused, or ends within its limits, in bounded time and memory, and never ends the process.
//!
//! Run it on the profile that ships (`cargo test --release --test hostile`) as well as on the one for development: which
//! operators eat native stack depends on how the interpreter was compiled, so the proof holds for one profile at a time.
//! Guests that only the interpreter stops run on threads with 256 KiB of stack; loads on 512 KiB (2 MiB are promised).
#![allow(clippy::disallowed_methods, reason = "a test of how long things take reads the clock")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod calls;
mod chains;
mod loads;
#[path = "../support/middle.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod middle;
mod pointers;
mod starts;
mod times;

use std::time::{Duration, Instant};

use weir::function::{Function, LoadError, MODULE_BYTES_MAX, Pool};
use weir::manifest::{InstancePolicy, Limits, Manifest, MeterKind, MeterSpec, MeterTime};
use weir::time::Stopwatch;
use weir::units::{Bytes, Fuel, Millis};

const CALL_STACK: usize = 256 << 10;
const LOAD_STACK: usize = 512 << 10;
/// Far above what any case takes on an idle machine, in development builds too.
const PATIENCE: Duration = Duration::from_secs(20);

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Stopwatch for Clock {
    fn mono_us(&mut self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

fn manifest() -> Manifest {
    Manifest {
        name: "hostile".to_owned(),
        version: "1".to_owned(),
        description: String::new(),
        module: String::new(),
        emits: vec!["out/#".parse().unwrap()],
        keep_prefix: String::new(),
        errors: Vec::new(),
        meters: vec![MeterSpec {
            name: "count".to_owned(),
            kind: MeterKind::Counter,
            window: Millis(1000),
            lateness: Millis(0),
            time: MeterTime::Event,
            keys_max: 10,
            unit: String::new(),
        }],
        limits: Limits { memory: Bytes::kib(256), fuel: Fuel(20_000_000), time: Millis(5000), ..Limits::default() },
        instances: InstancePolicy::Pristine,
        config: Vec::new(),
    }
}

/// Runs `work` on a thread with a small stack; a panic there fails the test, an overflow would end the process.
fn on_stack<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    let began = Instant::now();
    let thread = std::thread::Builder::new().stack_size(bytes).spawn(work).unwrap();
    let result = thread.join().expect("the case itself does not panic");
    assert!(began.elapsed() < PATIENCE, "took {:?}", began.elapsed());
    result
}

fn load(wasm: &[u8]) -> Result<Function, LoadError> {
    Function::load(&manifest(), wasm, MODULE_BYTES_MAX, &Pool::new(Bytes::mib(1)), &mut Clock::start())
}
