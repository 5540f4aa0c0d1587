//! Why a handler refused, in words that name the key: what a dead letter and the log say of a code.

mod support;

use std::path::Path;

use support::middle::{Guest, Middle, publish};
use weir::dead_letter::DeadLetter;
use weir::record::Record;

/// Asks the host for what its first byte says, again and again until it is refused, and returns the refusal; or returns the byte
/// behind `=` as an error of its own.
const ASK: &str = r#"
  (import "weir1" "want" (func $want (param i32) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (data (i32.const 0) "out/xsecret/x")
  (func (export "on_start") (result i32) (call $want (i32.const 1)))
  (func (export "on_event") (param $ev i32) (result i32) (local $what i32) (local $got i32) (local $n i32)
    (local.set $what (i32.load8_u (i32.load offset=32 (local.get $ev))))
    (if (i32.eq (local.get $what) (i32.const 61))
      (then (return (i32.sub (i32.const 0) (i32.load8_u offset=1 (i32.load offset=32 (local.get $ev)))))))
    (loop $again
      (i32.store (i32.const 64) (local.get $n))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      ;; s: state of many short entries; v: a value that is too long; c: longer ones than a call may stage; e: emits; d: elsewhere;
      ;; i: on no topic; m: meters; t: a counter used as what it is not
      (if (i32.eq (local.get $what) (i32.const 115))
        (then (local.set $got (call $put (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 200)))))
      (if (i32.eq (local.get $what) (i32.const 118))
        (then (local.set $got (call $put (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 4097)))))
      (if (i32.eq (local.get $what) (i32.const 99))
        (then (local.set $got (call $put (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 1)))))
      (if (i32.eq (local.get $what) (i32.const 101))
        (then (local.set $got (call $emit (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 1)))))
      (if (i32.eq (local.get $what) (i32.const 100))
        (then (local.set $got (call $emit (i32.const 5) (i32.const 8) (i32.const 0) (i32.const 1)))))
      (if (i32.eq (local.get $what) (i32.const 105))
        (then (local.set $got (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)))))
      (if (i32.eq (local.get $what) (i32.const 109))
        (then (local.set $got (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))))
      (if (i32.eq (local.get $what) (i32.const 116))
        (then (local.set $got (call $add (i32.const 1) (i32.const 0) (i32.const 0) (f64.const 1)))))
      (br_if $again (i32.eqz (local.get $got))))
    (local.get $got))"#;

const ASKER: Guest<'static> = (
    "ask",
    ASK,
    "emits = [\"out/#\"]\n[limits]\nstate = \"8 KiB\"\nemits = 3\nmeter-ops = 5\n[errors]\n6 = \"too many of them\"\n20 = \"no count\"\n\
     [[meter]]\nname = \"n\"\nkind = \"counter\"\n[[meter]]\nname = \"level\"\nkind = \"gauge\"\n",
);

/// What the only dead letter says.
fn message(middle: &mut Middle) -> String {
    let effects = middle.seal();
    let record = Record::take(&mut effects.lanes[0].records.as_slice()).expect("there is a record");
    DeadLetter::decode(record.payload).expect("it is a dead letter").message.into_owned()
}

#[test]
fn a_refusal_says_which_bound_was_reached_and_which_key_raises_it() {
    for (payload, want) in [
        ("s", "-4: durable state full: function.limits.state is 8 KiB"),
        ("v", "-4: an entry of the state is too long: a key has at most 64 bytes, a value 4096"),
        ("c", "-4: too much state for one call, which changes at most 64 keys and 16 KiB of them and their values"),
        ("e", "-4: too much is emitted: function.limits.emits is 3, function.limits.emit-bytes is 16 KiB a call"),
        ("m", "-4: too much is metered: function.limits.meter-ops is 5 a call"),
        ("d", "-5: denied: it emits to a topic that `emits` of its function.toml does not name"),
        ("i", "-2: an argument of a host call makes no sense"),
        ("t", "-3: a field or meter is of another type than the function uses it as"),
        ("=\u{1}", "-1: what it asked the host for is not there"),
        ("=\u{4}", "-4: a bound of function.limits is reached"),
        ("=\u{6}", "-6: too many of them"),
        ("=\u{7}", "-7: a code of the SDK without a meaning so far"),
        ("=\u{14}", "-20: no count"),
        ("=\u{15}", "-21: an error of the function's own; its function.toml can say which: [errors] 21 = \"…\""),
    ] {
        let mut middle = Middle::new(&[ASKER], "[[function]]\npath = \"ask\"\n[[function.trigger]]\nmqtt = \"in\"\n");
        middle.take(publish("in", payload.as_bytes()));
        let log: Vec<String> = middle.effects.log.iter().map(|line| line.text.clone()).collect();
        let message = message(&mut middle);
        let whole = format!("the handler refused with code {want}");
        assert!(message.starts_with(&whole), "{payload:?}: {}", message);
        assert!(log.iter().any(|line| line.contains(want)), "{payload:?}: {log:?}");
    }
}

/// The example as it is built by `cargo xtask functions`.
fn example(name: &str) -> (String, Vec<u8>, Vec<u8>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read(root.join("functions").join(name).join("function.toml")).unwrap();
    let module = root.join("target/functions").join(name).join(format!("{name}.wasm"));
    let module =
        std::fs::read(&module).unwrap_or_else(|error| panic!("{}: {error}; cargo xtask functions", module.display()));
    (name.to_owned(), manifest, module)
}

#[test]
fn state_that_fills_is_said_at_80_percent_and_16_kib_hold_148_devices_of_threshold() {
    let site = "[[function]]\npath = \"threshold\"\n[[function.trigger]]\nmqtt = \"t/+/v\"\n";
    let mut middle = Middle::of_modules([example("threshold")], site);
    let mut said = Vec::new();
    for device in 1..=149 {
        middle.take(publish(&format!("t/dev{device:05}/v"), br#"{"temp":90}"#));
        said.extend(middle.effects.log.drain(..).map(|line| (device, line.text)));
        let (failed, _) = (middle.gateway.books().dead_lettered, middle.gateway.residue());
        assert_eq!(failed, u64::from(device == 149), "device {device}");
    }
    let [(first, warning), (last, refusal)] = &said[..] else { panic!("{said:?}") };
    // 119 × 110 bytes are less than 80 % of 16 KiB, 120 are more.
    assert_eq!((*first, *last), (120, 149));
    assert!(warning.starts_with("durable state holds 12.9 KiB of 16 KiB (function.limits.state);"), "{warning}");
    assert!(refusal.contains("code -4: durable state full: function.limits.state is 16 KiB"), "{refusal}");
}
