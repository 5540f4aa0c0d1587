//! `weir new` and `weir build` in every language: what is started from builds at once, passes its cases, and tells where it broke.
//!
//! A language whose compiler is not there is left out, loudly; with `WEIR_LANGUAGES=all` that is a failure. `cargo xtask languages`
//! fetches the compilers for C, Zig and AssemblyScript.

use std::fs;
use std::path::Path;

use super::run;

/// Makes and builds the function `own` in a language; false if its compiler is missing.
fn build(place: &Path, language: &str) -> bool {
    run(place, &format!("new own --lang {language}"), "").ends(0).says(&["weir build own", "weir test own"]);
    let answer = run(place, "build own", "");
    if answer.code == 69 {
        let why = format!("NOT TESTED: functions in {language}: {}", answer.err.trim());
        assert!(std::env::var_os("WEIR_LANGUAGES").is_none_or(|wanted| wanted != "all"), "{why}");
        eprintln!("\n{why}\n");
        return false;
    }
    answer.ends(0).says(&["own/own.wasm: ", "pristine, by a copy"]);
    true
}

/// `traps` is another source: a handler that breaks, deep in functions of its own; `names` stand in the report.
fn starts_whole(language: &str, traps: &str, names: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    if !build(place.path(), language) {
        return;
    }
    run(place.path(), "test own", "").ends(0).says(&["3 passed, 0 failed"]);
    // All cases of the example, also those that a new function does not start with.
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/threshold/cases");
    run(place.path(), &format!("test own --cases {}", cases.display()), "").ends(0).says(&["5 passed, 0 failed"]);
    // A function that is changed is built anew; what does not compile says where.
    let source = match language {
        "rust" => "own/src/lib.rs".to_owned(),
        "assemblyscript" => "own/own.ts".to_owned(),
        other => format!("own/own.{other}"),
    };
    let file = place.path().join(&source);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("normal", "usual!")).unwrap();
    run(place.path(), "build own", "").ends(0);
    run(place.path(), "test own", "").ends(1).says(&["\"state\":\"usual!\""]);
    fs::write(&file, text + "\nno such language\n").unwrap();
    run(place.path(), "build own", "").ends(1).says(&["failed"]);
    fs::write(&file, traps).unwrap();
    // In the folder, without an argument.
    run(&place.path().join("own"), "build", "").ends(0);
    let answer = run(place.path(), "invoke own --event -", r#"{"topic":"a","text":"in"}"#).ends(1);
    answer.says(names).says(&["event   a: in", "(fuel ", ", memory "]);
}

const RUST: &str = "#![no_std]
use weir_sdk::prelude::*;
weir_sdk::function! { on_event = handle; }
fn handle(_: &Function, event: &Event) -> Verdict { deeper(event.device()); Verdict::Drop }
#[inline(never)]
fn deeper(device: &[u8]) { if device.len() < 100 { panic!(\"too short\") } }
";

#[test]
fn a_function_in_rust_starts_whole_and_names_where_it_broke() {
    starts_whole("rust", RUST, &["own::deeper", "too short", "panic at src/lib.rs:6"]);
}

const C: &str = "#include \"weir.h\"
WEIR_FUNCTION(512)
__attribute__((noinline)) static void deeper(uint32_t len) { if (len < 100) __builtin_trap(); }
int32_t on_event(const struct weir_event *event) { deeper(event->device_len); return WEIR_DROP; }
";

#[test]
fn a_function_in_c_starts_whole_and_names_where_it_broke() {
    starts_whole("c", C, &["deeper ← on_event"]);
}

const ZIG: &str = "const weir = @import(\"weir\");
comptime {
    weir.function(512, @This());
}
noinline fn deeper(len: usize) void {
    if (len < 100) @trap();
}
pub fn on_event(event: *const weir.Event) !weir.Verdict {
    deeper((try event.device()).len);
    return .drop;
}
";

#[test]
fn a_function_in_zig_starts_whole_and_names_where_it_broke() {
    starts_whole("zig", ZIG, &["own.deeper"]);
}

// asc folds what is called once into its caller.
const ASSEMBLYSCRIPT: &str = "import { DROP, Event } from \"weir\";
export { weir_abi, weir_buf } from \"weir\";
function deeper(len: i32): i32 { if (len < 100) unreachable(); return len; }
export function on_event(event: Event): i32 { return deeper(event.device_len) + deeper(event.topic_len) > 0 ? DROP : DROP; }
";

#[test]
fn a_function_in_assemblyscript_starts_whole_and_names_where_it_broke() {
    starts_whole("assemblyscript", ASSEMBLYSCRIPT, &["own/on_event"]);
}

/// What the examples do not use of an SDK is used here. (Rust's has `functions/selftest`.)
#[test]
fn every_sdk_makes_every_call_of_the_host() {
    let everything = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/write/everything");
    for (language, ending) in [("c", "c"), ("zig", "zig"), ("assemblyscript", "ts")] {
        let place = tempfile::tempdir().unwrap();
        if !build(place.path(), language) {
            continue;
        }
        let own = place.path().join("own");
        for file in ["function.toml", &format!("everything.{ending}")] {
            fs::copy(everything.join(file), own.join(file)).unwrap();
        }
        fs::remove_file(own.join(format!("own.{ending}"))).unwrap();
        run(place.path(), "build own", "").ends(0);
        let line = format!("test own --cases {}", everything.join("cases").display());
        run(place.path(), &line, "").ends(0).says(&["1 passed, 0 failed"]);
    }
}
