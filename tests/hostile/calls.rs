//! Guests that misbehave while they run.

use std::time::{Duration, Instant};

use weir::field::{Codec, Fields, Paths};
use weir::function::{CallError, ErrorKind, Function, Invocation, MODULE_BYTES_MAX, Pool, Verdict};
use weir::manifest::Manifest;
use weir::units::{Bytes, Fuel, Millis};

use super::{CALL_STACK, Clock, manifest, on_stack};

const IMPORTS: &str = r#"
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $meter_add (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "state_put" (func $state_put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_get" (func $state_get (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "lookup_f64" (func $lookup_f64 (param i32 i32) (result f64)))
  (import "weir1" "log" (func $log (param i32 i32 i32)))
  (import "weir1" "now_ms" (func $now_ms (result i64)))
  (import "weir1" "random" (func $random (param i32 i32) (result i32)))
  (import "weir1" "abort" (func $abort (param i32 i32)))"#;

/// A module whose handler runs `body`; `items` stand beside it.
fn guest(items: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "(module {IMPORTS} (memory (export \"memory\") 1)
           (global (export \"weir_abi\") i32 (i32.const 1))
           (data (i32.const 16) \"out/a\")
           (func (export \"weir_buf\") (result i64) (i64.const 0x0000040000000400))
           {items}
           (func $main (export \"on_event\") (param $ev i32) (result i32) (local $n i32) (local $sum i32) {body}))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// `body` 200 000 times.
fn loop_of(body: &str) -> String {
    format!(
        "(loop $again {body}
           (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200000))))
         (i32.const 0)"
    )
}

/// Loads and calls twice, with a payload of 200 bytes, on a small stack.
fn run(wasm: Vec<u8>) -> Result<Verdict, CallError> {
    run_with(manifest(), wasm)
}

fn run_with(manifest: Manifest, wasm: Vec<u8>) -> Result<Verdict, CallError> {
    on_stack(CALL_STACK, move || {
        let mut outcome = Ok(Verdict::Drop);
        let heap = allocation_counter::measure(|| outcome = twice(&manifest, &wasm));
        // Loading, the guest's memory while it grows (old and new) and its image: counted, whatever the guest does.
        let heap_max = 4 * manifest.limits.memory.0 + (1 << 20);
        assert!(heap.bytes_max < heap_max, "{} bytes of heap", heap.bytes_max);
        outcome
    })
}

fn twice(manifest: &Manifest, wasm: &[u8]) -> Result<Verdict, CallError> {
    let pool = Pool::new(Bytes::mib(1));
    let mut function = Function::load(manifest, wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start())
        .unwrap_or_else(|error| panic!("{error}"));
    let (paths, mut fields) = (Paths::new(), Fields::new());
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(190));
    paths.scan(Codec::Json, payload.as_bytes(), &mut fields).unwrap();
    let invocation = Invocation { topic: "in/a", payload: payload.as_bytes(), ..Invocation::default() };
    let first = function.call(&invocation, &fields, &mut Clock::start());
    let second = function.call(&invocation, &fields, &mut Clock::start());
    assert_eq!(first.as_ref().map_err(CallError::kind), second.as_ref().map_err(CallError::kind));
    assert!(function.usage().peak_memory <= manifest.limits.memory.0);
    assert!(pool.granted() <= manifest.limits.memory);
    // Fuel is counted, and no call spends more than it was given (its slice may be passed by one operator's price).
    assert!(
        function.usage().fuel
            <= manifest.limits.fuel.0.saturating_mul(2).saturating_add(2 * function.usage().instances * 1000)
    );
    drop(function);
    assert_eq!(pool.granted(), Bytes(0));
    second
}

/// Enough fuel for 200 000 turns of anything.
fn generous() -> Manifest {
    let mut manifest = manifest();
    manifest.limits.fuel = Fuel(200_000_000);
    manifest
}

#[track_caller]
fn fails(kind: ErrorKind, items: &str, body: &str) {
    match run(guest(items, body)) {
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
        Ok(verdict) => panic!("{verdict:?} instead of {kind:?}"),
    }
}

/// The loops that overflow the native stack on the interpreter's default dispatch, and everything else that an operator
/// can do in a handler.
#[test]
fn no_operator_eats_native_stack() {
    let table = "(table 1 8 funcref) (elem (i32.const 0) $leaf) (type $t (func (param i32) (result i32)))
        (func $leaf (param i32) (result i32) (local.get 0)) (elem $e func $leaf) (data $d \"abcd\")
        (global $g (mut i32) (i32.const 0)) (global $h (mut f64) (f64.const 0))";
    for body in [
        // Growth past the module's own maximum or past 2^16 pages answers -1 before any limiter is asked.
        "(drop (memory.grow (i32.const 65536)))",
        "(drop (memory.grow (i32.const 0)))",
        "(drop (table.grow (ref.null func) (i32.const 9)))",
        "(drop (table.grow (ref.null func) (i32.const 0)))",
        "(drop (call_indirect (type $t) (local.get $n) (i32.const 0)))",
        "(drop (call $leaf (local.get $n)))",
        "(drop (memory.size)) (drop (table.size))",
        "(table.set (i32.const 0) (ref.func $leaf)) (drop (table.get (i32.const 0)))",
        "(table.fill (i32.const 0) (ref.func $leaf) (i32.const 1)) (table.copy (i32.const 0) (i32.const 0) (i32.const 1))",
        "(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 8)) (memory.copy (i32.const 0) (i32.const 8) (i32.const 8))",
        "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))",
        "(data.drop $d) (elem.drop $e)",
        "(global.set $g (i32.add (global.get $g) (i32.const 1))) (global.set $h (f64.sqrt (global.get $h)))",
        "(i32.store (i32.const 0) (i32.load (i32.const 4))) (i64.store8 (i32.const 0) (i64.load32_u (i32.const 4)))",
        "(f64.store (i32.const 0) (f64.div (f64.load (i32.const 8)) (f64.const 3))) (f32.store (i32.const 0) (f32.const 1))",
        "(local.set $sum (select (local.get $n) (local.get $sum) (i32.rem_u (local.get $n) (i32.const 3))))",
        "(local.set $sum (i32.trunc_sat_f64_s (f64.convert_i32_s (local.get $n))))",
        "(block $b (br_table $b $b (local.get $n)))",
        "(if (local.get $n) (then (nop)) (else (nop)))",
        "(block $b (br_if $b (i32.eqz (local.get $sum))) (nop))",
        "(drop (i32.extend8_s (i32.rotl (local.get $n) (i32.clz (local.get $n)))))",
        "(drop (call $now_ms))",
        "(drop (call $random (i32.const 512) (i32.const 8)))",
        "(drop (call $emit (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 8)))",
        "(call $log (i32.const 1) (i32.const 16) (i32.const 5))",
    ] {
        assert_eq!(run_with(generous(), guest(table, &loop_of(body))), Ok(Verdict::Drop), "{body}");
    }
}

/// Failing growth in a loop, with a maximum of the module's own, so that the limiter is never asked.
#[test]
fn failing_growth_in_a_loop_ends_by_its_fuel() {
    for grow in ["(memory.grow (i32.const 60000))", "(table.grow (ref.null func) (i32.const 1000))"] {
        let text = format!(
            "(module (memory (export \"memory\") 1 1) (table 1 1 funcref)
               (global (export \"weir_abi\") i32 (i32.const 1))
               (func (export \"weir_buf\") (result i64) (i64.const 0x0000040000000400))
               (func (export \"on_event\") (param i32) (result i32) (local $n i32)
                 (loop $again (drop {grow})
                   (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200000))))
                 (i32.const 0)))"
        );
        let wasm = wat::parse_str(&text).unwrap();
        assert_eq!(run_with(generous(), wasm.clone()), Ok(Verdict::Drop), "{grow}");
        assert_eq!(run(wasm).unwrap_err().kind(), ErrorKind::OutOfFuel, "{grow}");
    }
}

#[test]
fn loops_and_recursion_end() {
    fails(ErrorKind::OutOfFuel, "", "(loop $l (br $l)) (i32.const 0)");
    fails(ErrorKind::OutOfFuel, "", "(loop $l (drop (call $now_ms)) (br $l)) (i32.const 0)");
    fails(ErrorKind::Trap, "", "(call $main (local.get $ev))");
    let locals = "(local i64 i64 i64 i64)".repeat(200);
    fails(
        ErrorKind::Trap,
        &format!("(func $deep (param i32) (result i32) {locals} (call $deep (local.get 0)))"),
        "(call $deep (i32.const 1))",
    );
    // Mutual recursion through a table.
    fails(
        ErrorKind::Trap,
        "(table 1 funcref) (elem (i32.const 0) $hop) (type $t (func (param i32) (result i32)))
         (func $hop (param i32) (result i32) (call_indirect (type $t) (local.get 0) (i32.const 0)))",
        "(call $hop (i32.const 1))",
    );
}

#[test]
fn a_call_that_runs_on_ends_at_its_deadline() {
    let mut manifest = manifest();
    (manifest.limits.time, manifest.limits.fuel) = (Millis(50), Fuel(u64::MAX));
    let began = Instant::now();
    let error = run_with(manifest, guest("", "(loop $l (br $l)) (i32.const 0)")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn growth_bombs_end_at_the_limit() {
    fails(ErrorKind::OutOfMemory, "", "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) (i32.const 0)");
    fails(ErrorKind::OutOfMemory, "", "(memory.grow (i32.const 4000))");
    fails(ErrorKind::OutOfMemory, "(table 1 funcref)", "(table.grow (ref.null func) (i32.const 100000))");
    fails(
        ErrorKind::OutOfMemory,
        "(table 1 funcref)",
        "(loop $l (drop (table.grow (ref.null func) (i32.const 100))) (br $l)) (i32.const 0)",
    );
}

#[test]
fn lying_pointers_trap() {
    for call in [
        "(call $emit (i32.const -1) (i32.const -1) (i32.const -1) (i32.const -1))",
        "(call $emit (i32.const 16) (i32.const 5) (i32.const 65535) (i32.const 2))",
        "(call $emit (i32.const 0x7fffffff) (i32.const 0x7fffffff) (i32.const 1) (i32.const 1))",
        "(call $state_get (i32.const 16) (i32.const 5) (i32.const 1) (i32.const -1))",
        "(call $state_put (i32.const 65536) (i32.const 1) (i32.const 0) (i32.const 0))",
        "(call $random (i32.const 65530) (i32.const 10))",
    ] {
        fails(ErrorKind::Trap, "", call);
    }
    fails(ErrorKind::Trap, "", "(call $abort (i32.const -8) (i32.const 16)) (i32.const 0)");
    fails(ErrorKind::Abort, "", "(call $abort (i32.const 0) (i32.const 65536)) (i32.const 0)");
}

#[test]
fn floods_of_output_stay_within_their_lists() {
    for body in [
        "(drop (call $emit (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 100)))",
        "(drop (call $emit (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)))",
        "(drop (call $meter_add (i32.const 0) (i32.const 16) (i32.const 5) (f64.const 1)))",
        "(call $log (i32.const 1) (i32.const 0) (i32.const 100))",
        "(call $log (i32.const 1) (i32.const 0) (i32.const 0))",
        "(i32.store (i32.const 64) (local.get $n))
         (drop (call $state_put (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 100)))",
        "(drop (call $state_put (i32.const 16) (i32.const 5) (i32.const 0) (i32.and (local.get $n) (i32.const 1023))))",
    ] {
        let wasm = guest("", &loop_of(body));
        let manifest = generous();
        on_stack(CALL_STACK, move || {
            let measured = allocation_counter::measure(|| {
                let pool = Pool::new(Bytes::mib(1));
                let mut function =
                    Function::load(&manifest, &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()).unwrap();
                function.call(&Invocation::default(), &Fields::new(), &mut Clock::start()).unwrap();
                function.commit_state();
                let staged = function.staged();
                assert!(staged.emits().len() <= 16 && staged.meters().len() <= 64 && staged.logs().len() <= 32);
                assert!(staged.emit_bytes() <= 16 << 10 && function.state_used() <= manifest.limits.state);
            });
            assert!(measured.bytes_max < 1 << 20, "{body}: {} bytes", measured.bytes_max);
        });
    }
}

#[test]
fn a_look_up_loop_pays_for_what_it_reads() {
    let wasm = guest("", &loop_of("(drop (call $lookup_f64 (i32.const 16) (i32.const 5)))"));
    assert_eq!(run(wasm).unwrap_err().kind(), ErrorKind::OutOfFuel);
}
