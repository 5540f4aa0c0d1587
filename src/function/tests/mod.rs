//! Functions from outside: guests as WAT, one call each, answers as tables. `Rig` is the only user of the API.

mod calls;
mod life;
mod loading;

use super::*;
use crate::field::Codec;
use crate::manifest::{Limits, MeterKind, MeterSpec, MeterTime};

/// Steps by a fixed time at each reading.
pub struct Clock {
    now_us: u64,
    step_us: u64,
}

impl Stopwatch for Clock {
    fn mono_us(&mut self) -> u64 {
        self.now_us += self.step_us;
        self.now_us
    }
}

/// Declares every host call as `$name`.
pub fn imports() -> String {
    let types = |types: &[wasmparser::ValType]| types.iter().map(|ty| format!(" {ty}")).collect::<String>();
    Call::ALL
        .iter()
        .map(|call| {
            let (name, (params, results)) = (call.name(), call.signature());
            format!(
                "(import \"weir1\" \"{name}\" (func ${name} (param{}) (result{})))\n",
                types(params),
                types(results)
            )
        })
        .collect()
}

/// A module with every import, a page of memory, a buffer of 1 KiB at 1024, and `body`.
pub fn module(body: &str) -> Vec<u8> {
    module_with(&imports(), "(memory (export \"memory\") 1)", body)
}

pub fn module_with(imports: &str, memory: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "(module {imports} {memory}
           (global (export \"weir_abi\") i32 (i32.const 1))
           (func $weir_buf (export \"weir_buf\") (result i64) (i64.const 0x0000040000000400))
           {body})"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub fn meter(name: &str, kind: MeterKind) -> MeterSpec {
    MeterSpec {
        name: name.to_owned(),
        kind,
        window: Millis(1000),
        lateness: Millis(0),
        time: MeterTime::Event,
        keys_max: 10,
        unit: String::new(),
    }
}

pub fn manifest() -> Manifest {
    Manifest {
        name: "f".to_owned(),
        version: "1".to_owned(),
        description: String::new(),
        module: "f.wasm".to_owned(),
        emits: vec!["out/#".parse().unwrap(), "alarm".parse().unwrap()],
        keep_prefix: String::new(),
        errors: Vec::new(),
        meters: vec![
            meter("count", MeterKind::Counter),
            meter("level", MeterKind::Gauge),
            meter("spread", MeterKind::Distribution),
        ],
        limits: Limits { memory: Bytes::kib(128), state: Bytes::kib(1), ..Limits::default() },
        instances: InstancePolicy::Pristine,
        config: vec![("limit".to_owned(), "21.5".to_owned()), ("place".to_owned(), "attic".to_owned())],
    }
}

/// A function with what surrounds it.
pub struct Rig {
    pub function: Function,
    pub pool: Pool,
    pub clock: Clock,
    paths: Paths,
    fields: Fields,
    pub invocation: Invocation<'static>,
}

pub fn load(manifest: &Manifest, wasm: &[u8], pool: &Pool) -> Result<Function, LoadError> {
    Function::load(manifest, wasm, MODULE_BYTES_MAX, pool, &mut Clock { now_us: 0, step_us: 1 })
}

pub fn rig(body: &str) -> Rig {
    rig_with(&manifest(), &module(body))
}

pub fn rig_with(manifest: &Manifest, wasm: &[u8]) -> Rig {
    let pool = Pool::new(Bytes::mib(1));
    let mut function = load(manifest, wasm, &pool).unwrap_or_else(|error| panic!("{error}"));
    let mut paths = Paths::new();
    function.bind_paths(&mut paths).unwrap();
    let invocation = Invocation {
        sequence: 7,
        time_ms: 1_000,
        now_ms: 2_000,
        topic: "in/boiler",
        device: "boiler",
        codec: Codec::Json,
        ..Invocation::default()
    };
    Rig { function, pool, clock: Clock { now_us: 0, step_us: 1 }, paths, fields: Fields::new(), invocation }
}

impl Rig {
    pub fn call(&mut self, payload: &'static str) -> Result<Verdict, CallError> {
        let invocation = Invocation { payload: payload.as_bytes(), ..self.invocation };
        if !payload.is_empty() {
            self.paths.scan(invocation.codec, invocation.payload, &mut self.fields).unwrap();
        }
        self.function.call(&invocation, &self.fields, &mut self.clock)
    }

    pub fn emits(&self) -> Vec<(&str, &[u8])> {
        self.function.staged().emits().map(|emit| (emit.topic, emit.payload)).collect()
    }

    pub fn state(&self) -> Vec<(&[u8], &[u8])> {
        self.function.state_entries().collect()
    }
}
