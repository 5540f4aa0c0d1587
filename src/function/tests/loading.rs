//! What is refused at load, and that the refusal names it.

use super::*;

const HANDLER: &str = "(func (export \"on_event\") (param i32) (result i32) (i32.const 0))";

fn refusal(wasm: &[u8]) -> LoadError {
    let pool = Pool::new(Bytes::mib(1));
    let error = load(&manifest(), wasm, &pool).expect_err("it should be refused");
    assert_eq!(pool.granted(), Bytes(0), "a refused load leaves nothing in the pool");
    error
}

#[track_caller]
fn refused(wasm: &[u8], says: &str) {
    let text = refusal(wasm).to_string();
    assert!(text.contains(says), "`{text}` should say `{says}`");
}

#[test]
fn what_is_no_module_is_refused_with_its_place() {
    for bytes in [&b""[..], b"\0asm", b"not wasm at all", b"\x7fELF\x02\x01\x01\0", b"\0asm\x0d\0\x01\0", &[0; 100]] {
        refused(bytes, "not a module");
    }
    let whole = module(HANDLER);
    // Behind the code there is only the name section, which may be missing: a head of three bytes, then "\x04name".
    let code_end = whole.windows(5).rposition(|bytes| bytes == b"\x04name").unwrap() - 3;
    for cut in 0..whole.len() {
        let loaded = load(&manifest(), &whole[..cut], &Pool::new(Bytes::mib(1)));
        assert!(loaded.is_err() || cut == code_end, "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let whole = module(HANDLER);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut broken = whole.clone();
            broken[at] ^= 1 << bit;
            let _ = load(&manifest(), &broken, &Pool::new(Bytes::mib(1)));
        }
    }
}

#[test]
fn exports_and_imports_must_be_those_of_the_abi() {
    let memory = "(memory (export \"memory\") 1)";
    let abi = "(global (export \"weir_abi\") i32 (i32.const 1))";
    let buffer = "(func (export \"weir_buf\") (result i64) (i64.const 0x0000040000000400))";
    let assemble = |parts: &[&str]| wat::parse_str(format!("(module {})", parts.join("\n"))).unwrap();
    for (parts, says) in [
        (&[abi, buffer, HANDLER][..], "exports no `memory`"),
        (&["(memory 1)", abi, buffer, HANDLER], "exports no `memory`"),
        (&[memory, buffer, HANDLER], "exports no `weir_abi`"),
        (&[memory, abi, HANDLER], "exports no `weir_buf`"),
        (&[memory, abi, buffer], "exports no `on_event`"),
        (&[memory, buffer, HANDLER, "(global (export \"weir_abi\") i32 (i32.const 2))"], "ABI version 2"),
        (&[memory, buffer, HANDLER, "(global (export \"weir_abi\") (mut i32) (i32.const 1))"], NO_CONSTANT),
        (&[memory, buffer, HANDLER, "(global (export \"weir_abi\") i64 (i64.const 1))"], NO_CONSTANT),
        (&[memory, buffer, HANDLER, "(memory (export \"weir_abi\") 1)"], "memories: 2"),
        (&[memory, buffer, HANDLER, "(table (export \"weir_abi\") 1 funcref)"], NO_CONSTANT),
        (&[memory, abi, buffer, "(func (export \"on_event\") (param i64) (result i32) (i32.const 0))"], "another type"),
        (&["(import \"env\" \"emit\" (func))", memory, abi, buffer, HANDLER], "`env.emit`"),
        (&["(import \"weir1\" \"fly\" (func))", memory, abi, buffer, HANDLER], "`weir1.fly`"),
        (&["(import \"weir1\" \"emit\" (func))", memory, abi, buffer, HANDLER], "another type"),
        (&["(import \"weir1\" \"memory\" (memory 1))", abi, buffer, HANDLER], "no host call"),
        (&[memory, abi, buffer, HANDLER, "(func $s) (start $s)"], "start section"),
    ] {
        refused(&assemble(parts), says);
    }
    for (packed, says) in [
        ("0x0000000000000400", "null pointer"),
        ("0x0000040100000400", "8-aligned"),
        ("0x00000400000000ff", "smaller than 256"),
        ("0x0000fff800000100", "outside the memory"),
        ("0x00000400ffffffff", "outside the memory"),
    ] {
        let buffer = format!("(func (export \"weir_buf\") (result i64) (i64.const {packed}))");
        refused(&assemble(&[memory, abi, &buffer, HANDLER]), says);
    }
}

/// The message for a `weir_abi` that proves nothing.
const NO_CONSTANT: &str = "neither a constant i32 nor a function";

#[test]
fn the_version_is_a_constant_global_or_a_function_that_can_do_nothing_else() {
    let parts = |abi: &str| {
        let rest = "(memory (export \"memory\") 1)
            (func (export \"weir_buf\") (result i64) (i64.const 0x0000040000000400))
            (func $other (result i32) (i32.const 1)) (global $one i32 (i32.const 1)) (type $t (func (result i32)))";
        wat::parse_str(format!("(module {abi} {rest} {HANDLER})")).unwrap()
    };
    let function = |body: &str| parts(&format!("(func (export \"weir_abi\") {body})"));
    for good in [
        parts("(global (export \"weir_abi\") i32 (i32.const 1))"),
        function("(result i32) (i32.const 1)"),
        function("(result i32) (return (i32.const 1))"),
    ] {
        assert!(load(&manifest(), &good, &Pool::new(Bytes::mib(1))).is_ok());
    }
    refused(&function("(result i32) (i32.const 2)"), "ABI version 2");
    refused(&function("(result i32) (i32.const -1)"), "ABI version -1");
    for body in [
        "(result i32) (i32.add (i32.const 0) (i32.const 1))",
        "(result i32) (block (result i32) (i32.const 1))",
        "(result i32) (local i32) (i32.const 1)",
        "(result i32) (call $other)",
        "(result i32) (global.get $one)",
        "(result i32) (nop) (i32.const 1)",
        "(result i32) (return (i32.const 1)) (unreachable)",
        "(result i32) (unreachable)",
        "(result i32) (loop (br 0)) (i32.const 1)",
        "(result i32 i32) (i32.const 1) (i32.const 1)",
        "(param i32) (result i32) (i32.const 1)",
        "(result i64) (i64.const 1)",
        "",
    ] {
        refused(&function(body), NO_CONSTANT);
    }
    let imported = "(import \"weir1\" \"now_ms\" (func $now (result i64))) (export \"weir_abi\" (func $now))";
    refused(&parts(imported), NO_CONSTANT);
}

#[test]
fn a_setting_that_is_no_number_refuses_the_load_and_is_named() {
    let start = |key: (u32, u32)| {
        let config = format!("(call $config_f64 (i32.const {}) (i32.const {}) (f64.const 1))", key.0, key.1);
        let start = format!("(func (export \"on_start\") (result i32) (drop {config}) (i32.const 0))");
        module(&format!("(data (i32.const 16) \"limitplaceother\") {start} {HANDLER}"))
    };
    for text in ["attic", "", "1,5", "0x10", "nan", "inf", "1e999"] {
        let mut manifest = manifest();
        manifest.config[1].1 = text.to_owned();
        let error = load(&manifest, &start((21, 5)), &Pool::new(Bytes::mib(1))).unwrap_err();
        assert_eq!(error.to_string(), format!("config `place` is `{text}`, which is no number"));
        assert_eq!((error.fault(), error.may_pass()), (Fault::Manifest, false));
    }
    for key in [(16, 5), (26, 5)] {
        assert!(load(&manifest(), &start(key), &Pool::new(Bytes::mib(1))).is_ok(), "a number, or nothing");
    }
}

#[test]
fn memory_must_fit_the_manifest_and_the_pool() {
    let wasm = |pages: u32| module_with("", &format!("(memory (export \"memory\") {pages})"), HANDLER);
    let error = refusal(&wasm(3));
    assert_eq!(error, LoadError::MemoryLimit { wants: Bytes::kib(192), memory_max: Bytes::kib(128) });
    assert_eq!(error.fault(), Fault::Manifest);
    assert_eq!(refusal(&wasm(65_536)).fault(), Fault::Manifest);

    let pool = Pool::new(Bytes::kib(100));
    let first = load(&manifest(), &wasm(1), &pool).unwrap();
    let error = load(&manifest(), &wasm(1), &pool).unwrap_err();
    assert_eq!(error, LoadError::Pool { wants: Bytes::kib(64), room: Bytes::kib(36) });
    assert_eq!((error.fault(), error.may_pass()), (Fault::Gateway, true));
    drop(first);
    assert!(load(&manifest(), &wasm(1), &pool).is_ok());
}

#[test]
fn a_module_above_the_byte_limit_is_not_even_scanned() {
    let wasm = module(HANDLER);
    let pool = Pool::new(Bytes::mib(1));
    let mut clock = Clock { now_us: 0, step_us: 1 };
    let error = Function::load(&manifest(), &wasm, Bytes(100), &pool, &mut clock).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { size_max: Bytes(100), .. }), "{error}");
}

#[test]
fn a_start_that_refuses_traps_or_loops_is_the_modules_fault() {
    let start = |body: &str| module(&format!("{HANDLER} (func (export \"on_start\") (result i32) {body})"));
    refused(&start("(i32.const -3)"), "code -3");
    refused(&start("(unreachable)"), "`on_start` failed: trapped");
    refused(&start("(loop $l (br $l)) (i32.const 0)"), "out of fuel");
    refused(&start("(drop (memory.grow (i32.const 9))) (i32.const 0)"), "out of memory");
    assert!(load(&manifest(), &start("(i32.const 5)"), &Pool::new(Bytes::mib(1))).is_ok());
}

#[test]
fn small_pages_cost_what_they_are() {
    let wasm = module_with("", "(memory (export \"memory\") 2560 (pagesize 1))", HANDLER);
    let pool = Pool::new(Bytes::mib(1));
    let function = load(&manifest(), &wasm, &pool).unwrap();
    assert_eq!(pool.granted(), Bytes(2560));
    assert_eq!(function.reset(), "pristine, by a copy of 0 B");
}

#[test]
fn every_call_of_the_table_links() {
    let function = load(&manifest(), &module(HANDLER), &Pool::new(Bytes::mib(1))).unwrap();
    assert!(function.reads_fields() && function.handles(EventKind::Message));
    assert!(!function.handles(EventKind::Interval));
}
