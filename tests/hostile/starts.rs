//! Whatever runs while a module is loaded: `weir_buf` and `on_start` that loop, grow, flood, lie, or change their minds.

use std::time::{Duration, Instant};

use weir::field::Fields;
use weir::function::{CallError, Function, Invocation, LoadError, MODULE_BYTES_MAX, Pool, START_FUEL_MAX};
use weir::time::Stopwatch;
use weir::units::{Bytes, Fuel, Millis};

use super::{CALL_STACK, Clock, manifest, on_stack};

const BUFFER: &str = r#"(func (export "weir_buf") (result i64) (i64.const 0x0000040000000400))"#;
const HANDLER: &str = r#"(func (export "on_event") (param i32) (result i32) (i32.const 0))"#;

fn module(imports: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {imports} (memory (export "memory") 1) (global (export "weir_abi") i32 (i32.const 1)) {body} {HANDLER})"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Stands still, as the clock of `weir check` does.
struct Standing;

impl Stopwatch for Standing {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

fn refusal(wasm: Vec<u8>) -> LoadError {
    on_stack(CALL_STACK, move || {
        let pool = Pool::new(Bytes::mib(1));
        let mut refused = None;
        let heap = allocation_counter::measure(|| {
            refused = Function::load(&manifest(), &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()).err();
        });
        assert_eq!(pool.granted(), Bytes(0), "memory that nobody has");
        assert!(heap.bytes_max < 1 << 20, "{} bytes", heap.bytes_max);
        refused.expect("it is refused")
    })
}

#[test]
fn a_start_section_is_refused_whatever_it_would_do() {
    for body in ["(nop)", "(loop $l (br $l))", "(unreachable)"] {
        let wasm = module("", &format!("{BUFFER} (func $start {body}) (start $start)"));
        assert_eq!(refusal(wasm), LoadError::StartSection, "{body}");
    }
}

#[test]
fn a_start_that_runs_on_traps_or_wants_too_much_is_a_refusal() {
    for (what, imports, body) in [
        ("out of fuel", "", "(loop $l (br $l))"),
        ("call stack exhausted", "", "(drop (call $self))"),
        ("unreachable", "", "unreachable"),
        ("out of memory", "", "(drop (memory.grow (i32.const 900)))"),
        ("out of memory", "", "(loop $l (drop (memory.grow (i32.const 1))) (br $l))"),
        (
            "aborted: no",
            r#"(import "weir1" "abort" (func $abort (param i32 i32)))"#,
            "(call $abort (i32.const 8) (i32.const 2))",
        ),
    ] {
        let start = format!(
            r#"(data (i32.const 8) "no") {BUFFER} (func $self (export "on_start") (result i32) {body} (i32.const 0))"#
        );
        let text = refusal(module(imports, &start)).to_string();
        assert!(text.contains("`on_start` failed") && text.contains(what), "{text}");
    }
}

#[test]
fn a_start_binds_and_floods_no_further_than_its_lists() {
    let imports = r#"(import "weir1" "bind_f64" (func $bind_f64 (param i32 i32) (result i32)))
        (import "weir1" "bind" (func $bind (param i32 i32) (result i32)))
        (import "weir1" "log" (func $log (param i32 i32 i32)))
        (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
        (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))"#;
    // 26 * 10 different names, bound both ways, each with a log line, an emit and a put.
    let body = format!(
        r#"(data (i32.const 8) "out/a") {BUFFER} (func (export "on_start") (result i32) (local $n i32)
             (loop $l
               (i32.store8 (i32.const 16) (i32.add (i32.const 97) (i32.rem_u (local.get $n) (i32.const 26))))
               (i32.store8 (i32.const 17) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 26))))
               (drop (call $bind_f64 (i32.const 16) (i32.const 2))) (drop (call $bind (i32.const 16) (i32.const 2)))
               (call $log (i32.const 1) (i32.const 0) (i32.const 60000))
               (drop (call $emit (i32.const 8) (i32.const 5) (i32.const 0) (i32.const 1000)))
               (drop (call $put (i32.const 16) (i32.const 2) (i32.const 0) (i32.const 1000)))
               (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 260))))
             (i32.const 0))"#
    );
    let wasm = module(imports, &body);
    on_stack(CALL_STACK, move || {
        let heap = allocation_counter::measure(|| {
            let pool = Pool::new(Bytes::mib(1));
            let mut manifest = manifest();
            manifest.limits.fuel = Fuel(20_000_000);
            let function = Function::load(&manifest, &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()).unwrap();
            assert_eq!((function.bindings().f64.len(), function.bindings().typed.len()), (64, 64));
            let staged = function.staged();
            let logged: usize = staged.logs().map(|line| line.text.len()).sum();
            assert!(logged <= manifest.limits.log_bytes.as_usize());
            // A start has no effects.
            assert_eq!((staged.emits().len(), function.state_used()), (0, Bytes(0)));
        });
        assert!(heap.bytes_max < 1 << 20, "{} bytes", heap.bytes_max);
    });
}

#[test]
fn whatever_a_manifest_grants_itself_loading_ends_where_the_clock_stands_still() {
    let endless = r#"(loop $l (br $l)) (unreachable)"#;
    for body in [
        format!(r#"(func (export "weir_buf") (result i64) {endless})"#),
        format!(r#"{BUFFER} (func (export "on_start") (result i32) {endless})"#),
    ] {
        let wasm = module("", &body);
        on_stack(CALL_STACK, move || {
            let mut manifest = manifest();
            (manifest.limits.fuel, manifest.limits.time) = (Fuel(1_000_000_000_000), Millis(60_000));
            let began = Instant::now();
            let refused = Function::load(&manifest, &wasm, MODULE_BYTES_MAX, &Pool::new(Bytes::mib(1)), &mut Standing);
            let Err(LoadError::StartFailed(error)) = refused else { panic!("{refused:?}") };
            assert!(matches!(*error, CallError::OutOfFuel { allowed: START_FUEL_MAX, .. }), "{error}");
            assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        });
    }
}

#[test]
fn a_buffer_that_lies_is_refused() {
    for (packed, why) in [
        ("0x0000000000000400", "the null pointer"),
        ("0x0000040100000400", "not 8-aligned"),
        ("0x00000400000000ff", "smaller than 256 bytes"),
        ("0x0000fff800000400", "outside the memory"),
        ("0xfffffff800000400", "outside the memory"),
        ("0x00000400ffffffff", "outside the memory"),
        ("-1", "not 8-aligned"),
    ] {
        let text = refusal(module("", &format!(r#"(func (export "weir_buf") (result i64) (i64.const {packed}))"#)))
            .to_string();
        assert!(text.contains(why), "{packed}: {text}");
    }
}

#[test]
fn a_buffer_that_would_overlap_the_stack_of_the_host_is_only_the_guests_own_memory() {
    // The buffer is the whole of the memory: what is written there is the guest's to lose.
    let wasm = module("", r#"(func (export "weir_buf") (result i64) (i64.const 0x000000080000fff8))"#);
    on_stack(CALL_STACK, move || {
        let pool = Pool::new(Bytes::mib(1));
        let mut function = Function::load(&manifest(), &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()).unwrap();
        let payload = vec![b'x'; 200_000];
        let topic = "t".repeat(65_535);
        let invocation = Invocation { topic: &topic, device: &topic, payload: &payload, ..Invocation::default() };
        function.call(&invocation, &Fields::new(), &mut Clock::start()).unwrap();
    });
}

#[test]
fn a_start_that_changes_its_mind_breaks_the_function_and_nothing_else() {
    // `random` is the same at each start, but memory that survives would not be: growing makes a new instance for each call.
    let imports = r#"(import "weir1" "bind" (func $bind (param i32 i32) (result i32)))"#;
    let text = format!(
        r#"(module {imports} (memory (export "memory") 1) (global (export "weir_abi") i32 (i32.const 1)) {BUFFER}
             (data (i32.const 8) "a.b")
             (func (export "on_start") (result i32) (drop (call $bind (i32.const 8) (i32.const 1))) (i32.const 0))
             (func (export "on_event") (param i32) (result i32) (drop (memory.grow (i32.const 1))) (i32.const 0)))"#
    );
    let wasm = wat::parse_str(&text).unwrap();
    on_stack(CALL_STACK, move || {
        let pool = Pool::new(Bytes::mib(1));
        let mut function = Function::load(&manifest(), &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()).unwrap();
        for _ in 0..100 {
            function.call(&Invocation::default(), &Fields::new(), &mut Clock::start()).unwrap();
            assert!(pool.granted() <= manifest().limits.memory);
        }
        assert_eq!(function.usage().instances, 99);
    });
}
