//! Fuel is not time: whatever a guest does that is dear in time and cheap in fuel, the deadline ends it.

use std::time::{Duration, Instant};

use weir::field::{Codec, Fields, Paths};
use weir::function::{ErrorKind, Function, Invocation, MODULE_BYTES_MAX, Pool};
use weir::units::{Bytes, Fuel, Millis};

use super::{CALL_STACK, Clock, manifest, on_stack};

const IMPORTS: &str = r#"
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_delete" (func $delete (param i32 i32) (result i32)))
  (import "weir1" "lookup_str" (func $lookup (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "payload" (func $payload (param i32 i32 i32) (result i32)))
  (import "weir1" "format_f64" (func $format (param f64 i32 i32 i32) (result i32)))
  (import "weir1" "random" (func $random (param i32 i32) (result i32)))
  (import "weir1" "log" (func $log (param i32 i32 i32)))"#;

/// What the deadline may be passed by: a slice of fuel at its dearest, in a development build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_deadline_ends_what_is_dear_in_time_and_cheap_in_fuel() {
    let locals = "(local i64 i64 i64 i64 i64 i64 i64 i64)".repeat(125);
    let items = format!(
        r#"(table 2 1024 funcref) (func $leaf (param i32) (result i32) {locals} (local.get 0)) (elem (i32.const 0) $leaf)
           (type $t (func (param i32) (result i32)))"#
    );
    for body in [
        // A thousand locals are zeroed at each call.
        "(drop (call $leaf (i32.const 1)))",
        "(drop (call_indirect (type $t) (i32.const 1) (i32.const 0)))",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))",
        "(memory.copy (i32.const 0) (i32.const 1) (i32.const 65535))",
        "(table.fill (i32.const 1) (ref.null func) (i32.const 1))",
        "(drop (memory.grow (i32.const 65536)))",
        "(drop (f64.sqrt (f64.div (f64.const 1) (f64.const 3))))",
        "(drop (call $emit (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 60000)))",
        "(drop (call $emit (i32.const 0) (i32.const 60000) (i32.const 0) (i32.const 0)))",
        "(drop (call $put (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4096)))",
        "(drop (call $get (i32.const 16) (i32.const 60000) (i32.const 0) (i32.const 4096)))",
        "(drop (call $put (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 1))) (drop (call $delete (i32.const 16) (i32.const 5)))",
        "(drop (call $lookup (i32.const 32) (i32.const 4) (i32.const 0) (i32.const 60000)))",
        "(drop (call $lookup (i32.const 32) (i32.const 4) (i32.const 0) (i32.const 0)))",
        "(drop (call $payload (i32.const 0) (i32.const 0) (i32.const 65536)))",
        "(drop (call $format (f64.const 5e-324) (i32.const -1) (i32.const 0) (i32.const 32)))",
        "(drop (call $random (i32.const 0) (i32.const 256)))",
        "(call $log (i32.const 1) (i32.const 0) (i32.const 60000))",
    ] {
        let text = format!(
            r#"(module {IMPORTS} (memory (export "memory") 1) (global (export "weir_abi") i32 (i32.const 1))
                 (func (export "weir_buf") (result i64) (i64.const 0x0000040000000400)) {items}
                 (func (export "on_event") (param i32) (result i32)
                   (loop $again (i64.store (i32.const 16) (i64.const 0x612f74756f)) (i32.store (i32.const 32) (i32.const 0x74786574))
                     {body} (br $again)) (i32.const 0)))"#
        );
        let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        on_stack(CALL_STACK, move || {
            let mut manifest = manifest();
            (manifest.limits.fuel, manifest.limits.time) = (Fuel(u64::MAX), Millis(20));
            let pool = Pool::new(Bytes::mib(1));
            let mut function = Function::load(&manifest, &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()).unwrap();
            // Escapes: the text must be unescaped byte by byte.
            let payload = format!("{{\"text\":\"{}\"}}", "\\u0061".repeat(10_000));
            let (paths, mut fields) = (Paths::new(), Fields::new());
            paths.scan(Codec::Json, payload.as_bytes(), &mut fields).unwrap();
            let invocation = Invocation { topic: "in/a", payload: payload.as_bytes(), ..Invocation::default() };
            let began = Instant::now();
            let error = function.call(&invocation, &fields, &mut Clock::start()).unwrap_err();
            let took = began.elapsed();
            // What grows or writes over its own code of numbers may trap first; nothing else ends it.
            assert!(matches!(error.kind(), ErrorKind::TimedOut), "{body}: {error}");
            assert!(took < PATIENCE, "{body}: {took:?}");
            println!("{took:8.1?} {body}");
        });
    }
}
