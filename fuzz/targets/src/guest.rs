//! Modules as bytes, written by hand: a guest of any handlers, and what is held of every guest that runs.

use weir::field::{Codec, Fields, Paths};
use weir::function::host::Call;
use weir::function::{CallError, Function, Invocation, MODULE_BYTES_MAX, Pool, Verdict};
use weir::manifest::{InstancePolicy, Limits, Manifest, MeterKind, MeterSpec, MeterTime};
use weir::time::Stopwatch;
use weir::units::{Bytes, Fuel, Millis};

/// Ids of the sections (WebAssembly core specification §5.5.2).
pub(crate) mod section {
    pub const TYPE: u8 = 1;
    pub const IMPORT: u8 = 2;
    pub const FUNCTION: u8 = 3;
    pub const MEMORY: u8 = 5;
    pub const GLOBAL: u8 = 6;
    pub const EXPORT: u8 = 7;
    pub const CODE: u8 = 10;
    pub const DATA: u8 = 11;
}

/// Where the event buffer lies, and how long it is.
const BUFFER: (i64, i64) = (1024, 1024);

/// Appends an unsigned LEB128 number.
pub(crate) fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed LEB128 number.
pub(crate) fn signed(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

/// Bytes with their length in front.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 3);
    unsigned(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// A body without locals of its own.
pub(crate) fn body(code: &[u8]) -> Vec<u8> {
    sized(&[&[0], code, &[0x0b]].concat())
}

/// The code of `weir_buf`.
pub(crate) fn buffer_code() -> Vec<u8> {
    let mut code = vec![0x42];
    signed(&mut code, BUFFER.0 << 32 | BUFFER.1);
    code
}

fn value_types(types: &[impl ToString]) -> Vec<u8> {
    let mut out = vec![types.len() as u8];
    out.extend(types.iter().map(|ty| match ty.to_string().as_str() {
        "i32" => 0x7f,
        "i64" => 0x7e,
        "f32" => 0x7d,
        _ => 0x7c,
    }));
    out
}

/// A module that imports every host call (call N has function index N), with a page of memory, some text in it, and the handlers.
pub(crate) fn module(start: &[u8], event: &[u8], data: &[u8]) -> Vec<u8> {
    let count = Call::ALL.len() as u64;
    let mut types = Vec::new();
    unsigned(&mut types, count + 3);
    let mut imports = Vec::new();
    unsigned(&mut imports, count);
    for (index, call) in Call::ALL.iter().enumerate() {
        let (params, results) = call.signature();
        types.push(0x60);
        types.extend(value_types(params));
        types.extend(value_types(results));
        imports.extend(sized(b"weir1"));
        imports.extend(sized(call.name().as_bytes()));
        imports.push(0);
        unsigned(&mut imports, index as u64);
    }
    types.extend([0x60, 0, 1, 0x7e, 0x60, 0, 1, 0x7f, 0x60, 1, 0x7f, 1, 0x7f]);
    let mut functions = vec![3];
    (count..count + 3).for_each(|ty| unsigned(&mut functions, ty));
    let mut exports = vec![5];
    for (name, kind, index) in [
        ("memory", 2, 0),
        ("weir_abi", 3, 0),
        ("weir_buf", 0, count),
        ("on_start", 0, count + 1),
        ("on_event", 0, count + 2),
    ] {
        exports.extend(sized(name.as_bytes()));
        exports.push(kind);
        unsigned(&mut exports, index);
    }
    // Locals of the handlers: the last result, and a counter.
    let handler = |code: &[u8]| sized(&[&[1, 2, 0x7f], code, &[0x0b]].concat());
    let code = [vec![3], body(&buffer_code()), handler(start), handler(event)].concat();
    let data = [&[1, 0, 0x41, 16, 0x0b][..], &sized(data)].concat();
    let mut out = b"\0asm\x01\0\0\0".to_vec();
    for (id, bytes) in [
        (section::TYPE, types),
        (section::IMPORT, imports),
        (section::FUNCTION, functions),
        (section::MEMORY, vec![1, 0, 1]),
        (section::GLOBAL, vec![1, 0x7f, 0, 0x41, 1, 0x0b]),
        (section::EXPORT, exports),
        (section::CODE, code),
        (section::DATA, data),
    ] {
        out.push(id);
        out.extend(sized(&bytes));
    }
    out
}

/// Stands still: fuel alone ends a call, so that the outcome is a function of the input.
struct Standing;

impl Stopwatch for Standing {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

fn meter(name: &str, kind: MeterKind) -> MeterSpec {
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

fn manifest() -> Manifest {
    Manifest {
        name: "f".to_owned(),
        version: "1".to_owned(),
        description: String::new(),
        module: "f.wasm".to_owned(),
        emits: vec!["out/#".parse().expect("a filter")],
        keep_prefix: String::new(),
        errors: Vec::new(),
        meters: vec![
            meter("count", MeterKind::Counter),
            meter("level", MeterKind::Gauge),
            meter("spread", MeterKind::Distribution),
        ],
        limits: Limits {
            memory: Bytes::kib(192),
            fuel: Fuel(60_000),
            emits: 4,
            emit_bytes: Bytes::kib(1),
            state: Bytes::kib(2),
            log_bytes: Bytes(256),
            meter_ops: 8,
            ..Limits::default()
        },
        instances: InstancePolicy::Pristine,
        config: vec![("limit".to_owned(), "21.5".to_owned()), ("place".to_owned(), "attic".to_owned())],
    }
}

/// Loads a module and, if it loads, calls it; holds of it what holds of every guest.
pub(crate) fn exercise(wasm: &[u8], codec: Codec, payload: &[u8]) {
    let (manifest, pool) = (manifest(), Pool::new(Bytes::mib(1)));
    match Function::load(&manifest, wasm, MODULE_BYTES_MAX, &pool, &mut Standing) {
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.len() < 8192 && !shown.contains(['\n', '\u{1b}']), "{shown:?}");
        }
        Ok(mut function) => {
            assert!(pool.granted() <= manifest.limits.memory);
            call(&mut function, &manifest, codec, payload);
            assert!(pool.granted() <= manifest.limits.memory);
        }
    }
    assert_eq!(pool.granted(), Bytes(0), "memory that nobody has");
}

/// Whether the module loads.
#[cfg(test)]
pub(crate) fn loads(wasm: &[u8]) -> bool {
    let loaded = Function::load(&manifest(), wasm, MODULE_BYTES_MAX, &Pool::new(Bytes::mib(1)), &mut Standing);
    loaded.map_err(|error| println!("{error}")).is_ok()
}

/// What an invocation did, as far as anybody can see.
#[derive(Debug, PartialEq)]
struct Outcome {
    verdict: Result<Verdict, CallError>,
    emits: Vec<(String, Vec<u8>)>,
    meters: String,
    logs: Vec<(u8, Vec<u8>)>,
    fuel: u64,
    /// Instances made for it: their start is charged too.
    instances: u64,
}

fn call(function: &mut Function, manifest: &Manifest, codec: Codec, payload: &[u8]) {
    let (mut paths, mut fields) = (Paths::new(), Fields::new());
    if function.bind_paths(&mut paths).is_err() {
        return;
    }
    // As in the gateway: a malformed payload never reaches a function that reads fields.
    if paths.scan(codec, payload, &mut fields).is_err() && function.reads_fields() {
        return;
    }
    let invocation = Invocation {
        topic: "in/boiler",
        device: "boiler",
        payload,
        codec,
        sequence: 7,
        now_ms: 2_000,
        ..Invocation::default()
    };
    let mut outcome = || {
        let before = *function.usage();
        let verdict = function.call(&invocation, &fields, &mut Standing);
        let staged = function.staged();
        let outcome = Outcome {
            verdict,
            emits: staged.emits().map(|emit| (emit.topic.to_owned(), emit.payload.to_owned())).collect(),
            meters: staged.meters().map(|op| format!("{op:?}")).collect(),
            logs: staged.logs().map(|line| (line.level, line.text.to_owned())).collect(),
            fuel: function.usage().fuel - before.fuel,
            instances: function.usage().instances - before.instances,
        };
        check(function, manifest, &outcome);
        outcome
    };
    // Nothing was committed in between, so each is as the first; where a new instance was made, its start is charged as well.
    let (first, second, third) = (outcome(), outcome(), outcome());
    if second.instances == third.instances {
        assert_eq!(second.fuel, third.fuel, "the same event, another price");
    }
    let (fuel, instances) = (first.fuel, first.instances);
    assert_eq!(Outcome { fuel, instances, ..second }, first, "the same event, another outcome");
    assert_eq!(Outcome { fuel, instances, ..third }, first, "the same event, another outcome");
    if first.verdict.is_ok() {
        function.commit_state();
    }
    assert!(function.state_used() <= manifest.limits.state);
}

fn check(function: &Function, manifest: &Manifest, outcome: &Outcome) {
    let (limits, staged) = (&manifest.limits, function.staged());
    assert!(outcome.emits.len() <= usize::from(limits.emits) && staged.emit_bytes() <= limits.emit_bytes.as_usize());
    assert!(staged.meters().len() <= usize::from(limits.meter_ops));
    assert!(outcome.logs.iter().map(|(_, text)| text.len()).sum::<usize>() <= limits.log_bytes.as_usize());
    for (topic, _) in &outcome.emits {
        assert!(manifest.emits.iter().any(|filter| filter.matches(topic)), "{topic} is not in the manifest");
    }
    for op in staged.meters() {
        assert!(usize::from(op.meter) < manifest.meters.len() && op.value.is_finite(), "{op:?}");
    }
    if let Err(error) = &outcome.verdict {
        assert!(outcome.emits.is_empty() && staged.meters().len() == 0, "a failure has effects: {error}");
        let shown = error.to_string();
        assert!(shown.len() < 8192 && !shown.contains(['\n', '\u{1b}']), "{shown:?}");
    }
    assert!(function.usage().peak_memory <= limits.memory.0);
    // A call, and the starts of new instances.
    assert!(outcome.fuel <= (1 + 2 * outcome.instances) * limits.fuel.0, "{}", outcome.fuel);
}
