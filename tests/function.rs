//! Functions as the gateway uses them: what a call costs in heap allocations, and that one module runs on both codecs.
#![allow(clippy::disallowed_methods, reason = "the test that prints timings reads the clock")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Instant;

use weir::field::{Codec, Fields, Paths};
use weir::function::{Function, Invocation, MODULE_BYTES_MAX, Pool, Verdict};
use weir::manifest::{InstancePolicy, Limits, Manifest, MeterKind, MeterSpec, MeterTime};
use weir::time::Stopwatch;
use weir::units::{Bytes, Millis};

/// Time does not pass.
struct Still;

impl Stopwatch for Still {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

/// Meters the temperature, remembers it, and emits an alarm above 20 degrees.
const ALARM: &str = r#"(module
  (import "weir1" "bind_f64" (func $bind_f64 (param i32 i32) (result i32)))
  (import "weir1" "bind" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "field_str" (func $field_str (param i32 i32 i32) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "meter_set" (func $meter_set (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "state_put" (func $state_put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2560 (pagesize 1))
  (global (export "weir_abi") i32 (i32.const 1))
  (global $stack (mut i32) (i32.const 1024))
  (data (i32.const 16) "temp") (data (i32.const 24) "alarm") (data (i32.const 32) "name")
  (func (export "weir_buf") (result i64) (i64.const 0x0000040000000400))
  (func (export "on_start") (result i32)
    (drop (call $bind_f64 (i32.const 16) (i32.const 4))) (call $bind (i32.const 32) (i32.const 4)))
  (func (export "on_event") (param $ev i32) (result i32) (local $temp f64)
    (local.set $temp (f64.load (i32.load offset=52 (local.get $ev))))
    (drop (call $meter_set (i32.const 0) (i32.const 0) (i32.const 0) (local.get $temp)))
    (if (i32.eqz (f64.gt (local.get $temp) (f64.const 20))) (then (return (i32.const 0))))
    (call $log (i32.const 3) (i32.const 24) (i32.const 5))
    (drop (call $state_put (i32.const 16) (i32.const 4) (i32.load offset=52 (local.get $ev)) (i32.const 8)))
    (drop (call $emit (i32.const 24) (i32.const 5) (i32.const 128)
      (call $field_str (i32.const 0) (i32.const 128) (i32.const 64))))
    (i32.const 1)))"#;

/// Binds a field and drops everything.
const TRIVIAL: &str = r#"(module
  (import "weir1" "bind_f64" (func $bind_f64 (param i32 i32) (result i32)))
  (memory (export "memory") 2560 (pagesize 1))
  (global (export "weir_abi") i32 (i32.const 1))
  (global $stack (mut i32) (i32.const 1024))
  (data (i32.const 16) "temp")
  (func (export "weir_buf") (result i64) (i64.const 0x0000040000000400))
  (func (export "on_start") (result i32) (call $bind_f64 (i32.const 16) (i32.const 4)))
  (func (export "on_event") (param $ev i32) (result i32)
    (f64.gt (f64.load (i32.load offset=52 (local.get $ev))) (f64.const 100))))"#;

fn manifest(instances: InstancePolicy) -> Manifest {
    Manifest {
        name: "alarm".to_owned(),
        version: "1".to_owned(),
        description: String::new(),
        module: String::new(),
        emits: vec!["alarm".parse().unwrap()],
        keep_prefix: String::new(),
        errors: Vec::new(),
        meters: vec![MeterSpec {
            name: "temperature".to_owned(),
            kind: MeterKind::Gauge,
            window: Millis(1000),
            lateness: Millis(0),
            time: MeterTime::Event,
            keys_max: 10,
            unit: String::new(),
        }],
        limits: Limits::default(),
        instances,
        config: Vec::new(),
    }
}

struct Rig {
    function: Function,
    paths: Paths,
    fields: Fields,
}

fn rig(instances: InstancePolicy) -> Rig {
    rig_of(ALARM, instances)
}

fn rig_of(text: &str, instances: InstancePolicy) -> Rig {
    let wasm = wat::parse_str(text).unwrap();
    let pool = Pool::new(Bytes::kib(64));
    let mut function = Function::load(&manifest(instances), &wasm, MODULE_BYTES_MAX, &pool, &mut Still).unwrap();
    let mut paths = Paths::new();
    function.bind_paths(&mut paths).unwrap();
    Rig { function, paths, fields: Fields::new() }
}

impl Rig {
    fn call(&mut self, codec: Codec, payload: &[u8]) -> Verdict {
        self.paths.scan(codec, payload, &mut self.fields).unwrap();
        let invocation = Invocation { topic: "in/a", device: "a", payload, codec, ..Invocation::default() };
        let verdict = self.function.call(&invocation, &self.fields, &mut Still).unwrap();
        self.function.commit_state();
        self.function.drain_dirty_state(&mut |_, _| {});
        verdict
    }
}

const HOT: &[u8] = br#"{"temp":21.5,"name":"boiler"}"#;
const COLD: &[u8] = br#"{"temp":19.5,"name":"boiler"}"#;

#[test]
fn a_call_allocates_nothing_in_the_steady_state() {
    for instances in [InstancePolicy::Pristine, InstancePolicy::Warm] {
        let mut rig = rig(instances);
        rig.call(Codec::Json, HOT);
        let measured = allocation_counter::measure(|| {
            for _ in 0..1000 {
                assert_eq!(rig.call(Codec::Json, HOT), Verdict::Keep);
                assert_eq!(rig.call(Codec::Json, COLD), Verdict::Drop);
            }
        });
        assert_eq!(measured.count_total, 0, "{instances:?}: {measured:?}");
        assert_eq!(rig.function.usage().instances, 0);
    }
}

#[test]
fn one_function_works_on_every_codec() {
    let mut rig = rig(InstancePolicy::Pristine);
    let cbor = b"\xa2\x64temp\xf9\x4d\x60\x64name\x66boiler";
    assert_eq!(rig.call(Codec::Json, HOT), Verdict::Keep);
    let from_json: Vec<u8> = rig.function.staged().emits().next().unwrap().payload.to_vec();
    assert_eq!(rig.call(Codec::Cbor, cbor), Verdict::Keep);
    assert_eq!(rig.function.staged().emits().next().unwrap().payload, from_json);
    assert_eq!(from_json, b"boiler");
}

/// `cargo test --release --test function -- --ignored --nocapture`: nanoseconds a call, the fastest of 50 rounds.
#[test]
#[ignore = "prints timings"]
fn how_long_a_call_takes() {
    for (name, text, instances, payload) in [
        ("pristine, one comparison", TRIVIAL, InstancePolicy::Pristine, COLD),
        ("warm, one comparison", TRIVIAL, InstancePolicy::Warm, COLD),
        ("pristine, meter, drop", ALARM, InstancePolicy::Pristine, COLD),
        ("pristine, meter, log, state, emit, keep", ALARM, InstancePolicy::Pristine, HOT),
    ] {
        let mut rig = rig_of(text, instances);
        rig.paths.scan(Codec::Json, payload, &mut rig.fields).unwrap();
        let invocation = Invocation { topic: "in/a", device: "a", payload, ..Invocation::default() };
        let fastest = (0..50).map(|_| {
            let began = Instant::now();
            for _ in 0..2000 {
                rig.function.call(&invocation, &rig.fields, &mut Still).unwrap();
            }
            began.elapsed().as_nanos() / 2000
        });
        println!("{name}: {} ns", fastest.min().unwrap());
    }
}
