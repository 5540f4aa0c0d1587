//! Host calls: what each answers, that ranges are checked, that bytes are charged.

use super::*;

/// Texts that the guests below point at: (address, length) in WAT.
const DATA: &str = r#"
  (data (i32.const 16) "temp")            ;; 16 4
  (data (i32.const 24) "list")            ;; 24 4
  (data (i32.const 32) "out/a")           ;; 32 5
  (data (i32.const 40) "name")            ;; 40 4
  (data (i32.const 48) "count")           ;; 48 5
  (data (i32.const 56) "limit")           ;; 56 5
  (data (i32.const 64) "place")           ;; 64 5
  (data (i32.const 72) "other")           ;; 72 5
  (data (i32.const 80) "a/+")             ;; 80 3
  (data (i32.const 88) "\ff\fe")          ;; 88 2
  (data (i32.const 96) "a[")              ;; 96 2
"#;

const START: &str = r#"
  (func (export "on_start") (result i32)
    (drop (call $bind_f64 (i32.const 16) (i32.const 4)))
    (drop (call $bind (i32.const 16) (i32.const 4)))
    (drop (call $bind (i32.const 40) (i32.const 4)))
    (drop (call $bind (i32.const 24) (i32.const 4)))
    (call $meter (i32.const 48) (i32.const 5)))
"#;

const PAYLOAD: &str = r#"{"temp":21,"name":"B\u0061d","list":[1,2.5,"x"],"open":true,"shut":false,"none":null}"#;

/// A guest whose handler evaluates `expression` and keeps when it holds.
fn holds(expression: &str) -> Rig {
    rig(&format!("{DATA} {START} (func (export \"on_event\") (param $ev i32) (result i32) {expression})"))
}

#[track_caller]
fn check_all(rows: &[(&str, i32)]) {
    for (call, answer) in rows {
        let mut rig = holds(&format!("(i32.eq {call} (i32.const {answer}))"));
        assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Keep), "{call} answers {answer}");
    }
}

#[test]
fn fields_answer_by_kind() {
    check_all(&[
        ("(call $field_kind (i32.const 0))", 3),
        ("(call $field_kind (i32.const 1))", 5),
        ("(call $field_kind (i32.const 2))", 6),
        ("(call $field_kind (i32.const 3))", -2),
        ("(i32.trunc_f64_s (call $field_f64 (i32.const 0)))", 21),
        ("(f64.eq (call $field_f64 (i32.const 1)) (call $field_f64 (i32.const 1)))", 0),
        ("(f64.eq (call $field_f64 (i32.const 9)) (call $field_f64 (i32.const 9)))", 0),
        ("(i32.add (call $field_i64 (i32.const 0) (i32.const 512)) (i32.load (i32.const 512)))", 21),
        ("(call $field_i64 (i32.const 1) (i32.const 512))", -3),
        ("(call $field_i64 (i32.const 9) (i32.const 512))", -2),
        ("(call $field_str (i32.const 1) (i32.const 512) (i32.const 2))", 3),
        ("(i32.add (call $field_str (i32.const 1) (i32.const 512) (i32.const 2)) (i32.load (i32.const 512)))", 0x6142 + 3),
        ("(call $field_str (i32.const 2) (i32.const 512) (i32.const 64))", 11),
        ("(call $field_str (i32.const 0) (i32.const 512) (i32.const 64))", -3),
        ("(call $field_str (i32.const 9) (i32.const 512) (i32.const 64))", -2),
        ("(call $field_f64s (i32.const 2) (i32.const 512) (i32.const 2))", 3),
        ("(call $field_f64s (i32.const 0) (i32.const 512) (i32.const 2))", -3),
        ("(call $field_f64s (i32.const 9) (i32.const 512) (i32.const 2))", -2),
        (
            "(block (result i32) (drop (call $field_f64s (i32.const 2) (i32.const 512) (i32.const 4)))
               (i32.trunc_f64_s (f64.add (f64.load (i32.const 512)) (f64.mul (f64.const 10) (f64.load (i32.const 520))))))",
            26,
        ),
    ]);
    // Of a truth value there is a number, and its kind tells it apart; it has no f64 and no text.
    for (path, number, kind) in [("open", 1, 2), ("shut", 0, 2), ("none", -3, 1), ("nope", -1, 0)] {
        let start = format!(
            "(data (i32.const 256) \"{path}\")
             (func (export \"on_start\") (result i32) (call $bind (i32.const 256) (i32.const 4)))"
        );
        let handler = |expression: &str| {
            rig(&format!("{start} (func (export \"on_event\") (param i32) (result i32) {expression})"))
        };
        let read = "(local.set 0 (call $field_i64 (i32.const 0) (i32.const 512)))";
        let mut rig = handler(&format!(
            "{read} (i32.eq (i32.const {number}) (i32.add (local.get 0) (i32.load (i32.const 512))))"
        ));
        assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Keep), "{path}");
        let mut rig = handler(&format!("(i32.eq (i32.const {kind}) (call $field_kind (i32.const 0)))"));
        assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Keep), "{path}");
        let mut rig = handler("(f64.ne (call $field_f64 (i32.const 0)) (call $field_f64 (i32.const 0)))");
        assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Keep), "{path}");
    }
    let mut rig = holds("(i32.add (i32.const 3) (call $field_str (i32.const 0) (i32.const 512) (i32.const 9)))");
    assert_eq!(rig.call("{}"), Ok(Verdict::Done), "an absent field is -1");
}

#[test]
fn look_ups_read_the_payload_again() {
    check_all(&[
        ("(i32.trunc_f64_s (call $lookup_f64 (i32.const 16) (i32.const 4)))", 21),
        ("(call $lookup_str (i32.const 40) (i32.const 4) (i32.const 512) (i32.const 64))", 3),
        ("(call $lookup_str (i32.const 72) (i32.const 5) (i32.const 512) (i32.const 64))", -1),
        ("(call $lookup_str (i32.const 16) (i32.const 4) (i32.const 512) (i32.const 64))", -3),
        ("(call $lookup_str (i32.const 96) (i32.const 2) (i32.const 512) (i32.const 64))", -2),
        ("(call $payload (i32.const 2) (i32.const 512) (i32.const 4))", 4),
        (
            "(i32.add (call $payload (i32.const 2) (i32.const 512) (i32.const 4)) (i32.load (i32.const 512)))",
            0x706d_6574 + 4,
        ),
        ("(call $payload (i32.const 1000) (i32.const 512) (i32.const 4))", 0),
    ]);
}

#[test]
fn binding_and_effects_have_their_phase() {
    check_all(&[
        ("(call $bind_f64 (i32.const 16) (i32.const 4))", -5),
        ("(call $bind (i32.const 16) (i32.const 4))", -5),
        ("(call $want (i32.const 1))", -5),
        ("(call $meter (i32.const 48) (i32.const 5))", -5),
    ]);
    for call in [
        "(call $emit (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 4))",
        "(call $meter_add (i32.const 0) (i32.const 16) (i32.const 4) (f64.const 1))",
        "(call $state_put (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4))",
        "(call $state_get (i32.const 16) (i32.const 4) (i32.const 512) (i32.const 4))",
        "(call $state_delete (i32.const 16) (i32.const 4))",
    ] {
        let start = format!("(func (export \"on_start\") (result i32) (i32.sub (i32.const -5) {call}))");
        let handler = "(func (export \"on_event\") (param i32) (result i32) (i32.const 0))";
        let rig = rig(&format!("{DATA} {start} {handler}"));
        assert_eq!((rig.emits().len(), rig.state().len()), (0, 0));
    }
}

#[test]
fn start_calls_check_their_arguments() {
    for (call, answer) in [
        ("(call $bind (i32.const 96) (i32.const 2))", -2),
        ("(call $bind (i32.const 88) (i32.const 2))", -2),
        ("(call $want (i32.const 8))", -2),
        ("(call $meter (i32.const 72) (i32.const 5))", -1),
        ("(i32.add (call $bind (i32.const 16) (i32.const 4)) (call $bind (i32.const 16) (i32.const 4)))", 0),
        ("(i32.wrap_i64 (call $now_ms))", 0),
        ("(call $field_kind (i32.const 0))", -2),
    ] {
        let start = format!(
            "(func (export \"on_start\") (result i32) (i32.ne (i32.const {answer}) {call}) (i32.sub (i32.const 0)) )"
        );
        let start = start.replace("(i32.sub (i32.const 0))", "(i32.const -1) (i32.mul)");
        let handler = "(func (export \"on_event\") (param i32) (result i32) (i32.const 0))";
        assert!(
            load(&manifest(), &module(&format!("{DATA} {start} {handler}")), &Pool::new(Bytes::mib(1))).is_ok(),
            "{call}"
        );
    }
}

#[test]
fn emit_takes_allowed_topics_until_a_limit() {
    check_all(&[
        ("(call $emit (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 4))", 0),
        ("(call $emit (i32.const 72) (i32.const 5) (i32.const 16) (i32.const 4))", -5),
        ("(call $emit (i32.const 80) (i32.const 3) (i32.const 16) (i32.const 4))", -2),
        ("(call $emit (i32.const 88) (i32.const 2) (i32.const 16) (i32.const 4))", -2),
        ("(call $emit (i32.const 80) (i32.const 0) (i32.const 16) (i32.const 4))", -2),
        ("(call $emit (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 20000))", -4),
    ]);
    // Full lists do not trap, however often they are tried: 16 of 1000 are kept.
    let mut rig = holds(
        "(local $n i32)
         (loop $again
           (drop (call $emit (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 4)))
           (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
         (i32.const 2)",
    );
    assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Done));
    assert_eq!(rig.emits(), vec![("out/a", &b"temp"[..]); 16]);
    assert_eq!(rig.function.usage().bytes_out, 16 * 9);
}

#[test]
fn meters_check_kind_key_and_value() {
    let key = "(i32.const 72) (i32.const 5)";
    check_all(&[
        (&format!("(call $meter_add (i32.const 0) {key} (f64.const 1.5))"), 0),
        (&format!("(call $meter_set (i32.const 1) {key} (f64.const 1.5))"), 0),
        (&format!("(call $meter_observe (i32.const 2) {key} (f64.const 1.5))"), 0),
        (&format!("(call $meter_observe (i32.const 0) {key} (f64.const 1.5))"), -3),
        (&format!("(call $meter_add (i32.const 3) {key} (f64.const 1.5))"), -2),
        (&format!("(call $meter_add (i32.const -1) {key} (f64.const 1.5))"), -2),
        (&format!("(call $meter_add (i32.const 0) {key} (f64.const nan))"), -2),
        (&format!("(call $meter_add (i32.const 0) {key} (f64.const inf))"), -2),
        ("(call $meter_add (i32.const 0) (i32.const 88) (i32.const 2) (f64.const 1))", -2),
        ("(call $meter_add (i32.const 0) (i32.const 16) (i32.const 200) (f64.const 1))", -2),
    ]);
    let mut rig = holds(
        "(drop (call $meter_add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 2)))
         (call $meter_set (i32.const 1) (i32.const 72) (i32.const 5) (f64.const 3))",
    );
    assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Drop));
    let ops: Vec<_> = rig.function.staged().meters().collect();
    assert_eq!(
        ops,
        [
            MeterOp { meter: 0, kind: MeterKind::Counter, key: None, value: 2.0 },
            MeterOp { meter: 1, kind: MeterKind::Gauge, key: Some("other"), value: 3.0 },
        ]
    );
    assert_eq!(rig.function.bindings().meters, [0]);
}

#[test]
fn state_is_seen_in_the_call_and_durable_after_its_commit() {
    let put = "(call $state_put (i32.const 16) (i32.const 4) (i32.const 72) (i32.const 5))";
    let get = "(call $state_get (i32.const 16) (i32.const 4) (i32.const 512) (i32.const 64))";
    let delete = "(call $state_delete (i32.const 16) (i32.const 4))";
    check_all(&[
        (put, 0),
        (get, -1),
        (delete, -1),
        (&format!("(i32.add {put} {get})"), 5),
        (&format!("(i32.add (i32.add {put} {delete}) {get})"), -1),
        ("(call $state_put (i32.const 16) (i32.const 65) (i32.const 72) (i32.const 5))", -4),
        ("(call $state_put (i32.const 16) (i32.const 4) (i32.const 72) (i32.const 4097))", -4),
        ("(call $state_put (i32.const 16) (i32.const 4) (i32.const 72) (i32.const 1000))", -4),
    ]);
    let mut rig = holds(put);
    assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Drop));
    assert!(rig.state().is_empty());
    rig.function.commit_state();
    assert_eq!(rig.state(), [(&b"temp"[..], &b"other"[..])]);
    let mut dirty = Vec::new();
    rig.function.drain_dirty_state(&mut |key, value| dirty.push((key.to_vec(), value.map(<[u8]>::to_vec))));
    assert_eq!(dirty, [(b"temp".to_vec(), Some(b"other".to_vec()))]);
}

#[test]
fn settings_come_from_the_manifest() {
    check_all(&[
        ("(call $config_get (i32.const 64) (i32.const 5) (i32.const 512) (i32.const 64))", 5),
        ("(call $config_get (i32.const 72) (i32.const 5) (i32.const 512) (i32.const 64))", -1),
        ("(i32.trunc_f64_s (f64.mul (f64.const 2) (call $config_f64 (i32.const 56) (i32.const 5) (f64.const 1))))", 43),
        ("(i32.trunc_f64_s (call $config_f64 (i32.const 72) (i32.const 5) (f64.const 7)))", 7),
        ("(i32.wrap_i64 (call $now_ms))", 2000),
    ]);
    let mut rig = holds("(i32.trunc_f64_s (call $config_f64 (i32.const 64) (i32.const 5) (f64.const 7)))");
    let error = rig.call(PAYLOAD).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trap);
    assert!(error.to_string().contains("config `place` is `attic`, which is no number"), "{error}");
}

#[test]
fn numbers_become_text() {
    check_all(&[
        ("(call $format_f64 (f64.const -12.5) (i32.const -1) (i32.const 512) (i32.const 9))", 5),
        ("(call $format_f64 (f64.const -12.5) (i32.const -1) (i32.const 512) (i32.const 2))", 5),
        ("(call $format_f64 (f64.const -12.5) (i32.const 9) (i32.const 512) (i32.const 32))", 13),
        ("(call $format_f64 (f64.const nan) (i32.const 3) (i32.const 512) (i32.const 32))", 4),
        ("(call $format_f64 (f64.const 1) (i32.const 10) (i32.const 512) (i32.const 32))", -2),
        ("(call $format_f64 (f64.const 1) (i32.const -2) (i32.const 512) (i32.const 32))", -2),
    ]);
    let mut rig = holds(
        "(call $emit (i32.const 32) (i32.const 5) (i32.const 512)
           (call $format_f64 (f64.const 21.366) (i32.const 2) (i32.const 512) (i32.const 32)))",
    );
    assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Drop));
    assert_eq!(rig.emits(), [("out/a", &b"21.37"[..])]);
}

#[test]
fn random_bytes_are_the_same_for_the_same_event_and_call_and_for_the_seed_that_a_dead_letter_keeps() {
    let draw = "(drop (call $random (i32.const 512) (i32.const 20)))
                (call $emit (i32.const 32) (i32.const 5) (i32.const 512) (i32.const 20))";
    let mut rig = holds(draw);
    let base = rig.invocation;
    let mut drawn = |payload: &'static str, invocation: Invocation<'static>| {
        rig.invocation = invocation;
        rig.call(payload).unwrap();
        rig.emits()[0].1.to_vec()
    };
    let first = drawn(PAYLOAD, base);
    assert!(first.iter().any(|byte| *byte != 0));
    // Which place the message takes in the books, and when it is handled, is no part of the event.
    assert_eq!(first, drawn(PAYLOAD, Invocation { sequence: 99, now_ms: 99, ..base }));
    for other in [
        Invocation { time_ms: base.time_ms + 1, ..base },
        Invocation { topic: "in/other", ..base },
        Invocation { seed: Seed::OfCall(1), ..base },
    ] {
        assert_ne!(first, drawn(PAYLOAD, other), "{other:?}");
    }
    assert_ne!(first, drawn(r#"{"temp":1}"#, base));
    let letter = Invocation { payload: PAYLOAD.as_bytes(), ..base }.random_seed();
    assert_eq!(first, drawn("{}", Invocation { seed: Seed::Given(letter), ..base }));
    check_all(&[("(call $random (i32.const 512) (i32.const 257))", -2)]);
}

#[test]
fn the_log_is_kept_also_when_the_call_fails() {
    let mut rig = holds("(call $log (i32.const 9) (i32.const 16) (i32.const 4)) (unreachable)");
    assert!(matches!(rig.call(PAYLOAD), Err(CallError::Trapped { .. })));
    let lines: Vec<_> = rig.function.staged().logs().map(|line| (line.level, line.text.to_vec())).collect();
    assert_eq!(lines, [(4, b"temp".to_vec())]);
}

#[test]
fn a_range_outside_the_memory_traps_in_every_call() {
    let (bad, four, long) = ("(i32.const -4)", "(i32.const 4)", "(i32.const 0x7fffffff)");
    for call in [
        format!("(call $bind_f64 {bad} {four})"),
        format!("(call $bind {four} {long})"),
        format!("(call $meter {bad} {four})"),
        format!("(call $field_i64 (i32.const 0) {bad})"),
        "(call $field_i64 (i32.const 0) (i32.const 65529))".to_owned(),
        format!("(call $field_str (i32.const 1) {bad} {four})"),
        format!("(call $field_f64s (i32.const 2) {four} {long})"),
        "(call $field_f64s (i32.const 2) (i32.const 65530) (i32.const 1))".to_owned(),
        format!("(i32.trunc_f64_s (call $lookup_f64 {bad} {four}))"),
        format!("(call $lookup_str {bad} {four} {four} {four})"),
        format!("(call $lookup_str (i32.const 40) {four} {four} {long})"),
        format!("(call $payload (i32.const 0) {four} (i32.const -1))"),
        format!("(call $emit {bad} {four} {four} {four})"),
        format!("(call $emit (i32.const 32) {four} {bad} {four})"),
        format!("(call $meter_add (i32.const 0) {bad} {four} (f64.const 1))"),
        format!("(call $meter_set (i32.const 1) {four} {long} (f64.const 1))"),
        format!("(call $meter_observe (i32.const 2) {bad} {bad} (f64.const 1))"),
        format!("(call $state_get {bad} {four} {four} {four})"),
        format!("(call $state_get {four} {four} {bad} {four})"),
        format!("(call $state_put {bad} {four} {four} {four})"),
        format!("(call $state_put {four} {four} {four} {long})"),
        format!("(call $state_delete {bad} {four})"),
        format!("(call $config_get {bad} {four} {four} {four})"),
        format!("(call $config_get {four} {four} {bad} {four})"),
        format!("(i32.trunc_f64_s (call $config_f64 {bad} {four} (f64.const 1)))"),
        format!("(block (result i32) (call $log (i32.const 1) {bad} {four}) (i32.const 1))"),
        format!("(call $format_f64 (f64.const 1) (i32.const 1) {bad} {four})"),
        format!("(call $random {bad} {four})"),
        format!("(block (result i32) (call $abort {bad} {four}) (i32.const 1))"),
    ] {
        match holds(&call).call(PAYLOAD) {
            Err(CallError::Trapped { what, .. }) => assert!(what.contains("outside the memory"), "{call}: {what}"),
            other => panic!("{call}: {other:?}"),
        }
    }
}

/// Fuel of one call of `expression`.
fn fuel(expression: &str) -> u64 {
    let mut rig = holds(&format!("(drop {expression}) (i32.const 0)"));
    assert_eq!(rig.call(PAYLOAD), Ok(Verdict::Drop), "{expression}");
    let before = rig.function.usage().fuel;
    rig.call(PAYLOAD).unwrap();
    rig.function.usage().fuel - before
}

#[test]
fn calls_are_charged_for_the_bytes_they_work_on() {
    for (call, few, many, more) in [
        // Three comparisons of the topic, and the payload.
        ("(call $emit (i32.const 32) (i32.const 5) (i32.const 0) (i32.const LEN))", 0, 4000, 500),
        ("(call $state_put (i32.const 16) (i32.const 4) (i32.const 0) (i32.const LEN))", 4, 804, 100),
        ("(call $random (i32.const 512) (i32.const LEN))", 0, 256, 32),
        ("(block (result i32) (call $log (i32.const 1) (i32.const 0) (i32.const LEN)) (i32.const 1))", 0, 800, 100),
        ("(call $meter_add (i32.const 0) (i32.const 16) (i32.const LEN) (f64.const 1))", 8, 40, 4),
        ("(call $payload (i32.const 0) (i32.const 512) (i32.const LEN))", 0, 40, 5),
        ("(call $field_str (i32.const 2) (i32.const 512) (i32.const LEN))", 0, 8, 1),
        ("(call $config_get (i32.const 64) (i32.const 5) (i32.const 512) (i32.const LEN))", 0, 8, 1),
    ] {
        let of = |len: i32| fuel(&call.replace("LEN", &len.to_string()));
        assert_eq!(of(many) - of(few), more, "{call}");
    }
    let found = fuel("(call $lookup_f64 (i32.const 16) (i32.const 4))");
    let bound = fuel("(call $field_f64 (i32.const 0))");
    assert!(PAYLOAD.len() as u64 / 2 <= found - bound, "{found} {bound}");
}

#[test]
fn a_host_call_that_cannot_pay_is_out_of_fuel() {
    let mut manifest = manifest();
    manifest.limits.fuel = Fuel(3000);
    let body = "(func (export \"on_event\") (param i32) (result i32)
        (loop $again (drop (call $random (i32.const 0) (i32.const 256))) (br $again)) (i32.const 0))";
    let mut rig = rig_with(&manifest, &module(body));
    match rig.call(PAYLOAD) {
        Err(CallError::OutOfFuel { allowed: Fuel(3000), scene }) => assert!(scene.fuel.0 <= 3000),
        other => panic!("{other:?}"),
    }
    let spent = rig.function.usage().fuel;
    assert!((2900..=3010).contains(&spent), "{spent}");
}

#[test]
fn the_header_is_laid_out_as_the_abi_says() {
    // Emits the first 160 bytes of its buffer.
    let start = "(func (export \"on_start\") (result i32)
        (drop (call $bind_f64 (i32.const 16) (i32.const 4))) (drop (call $bind_f64 (i32.const 72) (i32.const 5)))
        (call $want (i32.const 7)))";
    let handler = "(func (export \"on_event\") (param $ev i32) (result i32)
        (call $emit (i32.const 32) (i32.const 5) (local.get $ev) (i32.const 160)))";
    let mut rig = rig(&format!("{DATA} {start} {handler}"));
    rig.invocation.retained = true;
    rig.invocation.time_from_payload = true;
    rig.invocation.qos = crate::config::Qos::AtLeastOnce;
    rig.invocation.quality = crate::time::TimeQuality::Synced;
    assert_eq!(rig.call("{\"temp\":1.5}"), Ok(Verdict::Drop));
    let emitted = rig.emits();
    let bytes = emitted[0].1;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((u32_at(0), u32_at(4), u64_at(8), u64_at(16)), (1 | 64 << 16, 1 | 4, 1000, 7));
    let behind_fields = 1024 + 64 + 16;
    assert_eq!((u32_at(24), u32_at(28)), (behind_fields, 9), "topic");
    assert_eq!((u32_at(40), u32_at(44)), (behind_fields + 9, 6), "device");
    assert_eq!((u32_at(32), u32_at(36)), (behind_fields + 15, 12), "payload");
    assert_eq!((u32_at(48), u32_at(52), u64_at(56)), (1 | 1 << 16 | 2 << 24, 1024 + 64, 1));
    assert_eq!(f64::from_bits(u64_at(64)), 1.5);
    assert!(f64::from_bits(u64_at(72)).is_nan());
    assert_eq!(&bytes[80..107], b"in/boilerboiler{\"temp\":1.5}");
}

#[test]
fn what_does_not_fit_the_buffer_keeps_its_length_and_loses_its_pointer() {
    let start = "(func (export \"on_start\") (result i32) (call $want (i32.const 5)))";
    let handler = "(func (export \"on_event\") (param $ev i32) (result i32)
        (call $emit (i32.const 32) (i32.const 5) (local.get $ev) (i32.const 64)))";
    let mut rig = rig(&format!("{DATA} {start} {handler}"));
    rig.call(Box::leak(format!("\"{}\"", "x".repeat(2000)).into_boxed_str())).unwrap();
    let emitted = rig.emits();
    let u32_at = |at: usize| u32::from_le_bytes(emitted[0].1[at..at + 4].try_into().unwrap());
    assert_eq!((u32_at(4), u32_at(32), u32_at(36)), (8, 0, 2002), "payload");
    assert_eq!((u32_at(24), u32_at(28)), (0, 9), "topic was not wanted");
    assert_eq!((u32_at(40), u32_at(44)), (1024 + 64, 6), "device");
}
