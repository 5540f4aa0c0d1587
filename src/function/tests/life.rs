//! The life of an instance: pristine, warm, thrown away, made anew; and what failed calls leave behind.

use super::*;

/// A module without imports or tables; each handler body is given.
fn plain(handler: &str) -> Vec<u8> {
    module_with("", "(memory (export \"memory\") 1 4)", &event(handler))
}

fn event(body: &str) -> String {
    format!("(func $on_event (export \"on_event\") (param $ev i32) (result i32) {body})")
}

/// Answers how often it has run since it was made (at most 2), by memory, by a global, and through a table.
const BY_MEMORY: &str = "(i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
    (i32.sub (i32.load (i32.const 8)) (i32.const 1))";
const BY_GLOBAL: &str =
    "(global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.sub (global.get $n) (i32.const 1))";

#[test]
fn an_invocation_begins_from_the_image() {
    let global = format!("(global $n (mut i32) (i32.const 0)) {}", event(BY_GLOBAL));
    let table = format!(
        "(table 2 funcref) (elem declare func $on_event) {}",
        event(
            "(if (result i32) (ref.is_null (table.get (i32.const 0))) (then
                 (table.set (i32.const 0) (ref.func $on_event)) (i32.const 0)) (else (i32.const 1)))"
        )
    );
    let dropped = format!(
        "(data $d \"x\") {}",
        event("(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d) (i32.const 0)")
    );
    let grown = event(
        "(if (result i32) (i32.eq (memory.size) (i32.const 1)) (then
        (drop (memory.grow (i32.const 1))) (i32.const 0)) (else (i32.const 1)))",
    );
    for (body, reset, instances) in [
        (event(BY_MEMORY), "a copy", 0),
        (global, "a copy", 0),
        (table, "writes a table", 2),
        (dropped, "drops a segment", 2),
        (grown, "a copy", 2),
    ] {
        let wasm = module_with("", "(memory (export \"memory\") 1 4)", &body);
        let mut rig = rig_with(&manifest(), &wasm);
        assert!(rig.function.reset().contains(reset), "{}", rig.function.reset());
        for _ in 0..3 {
            assert_eq!(rig.call("1"), Ok(Verdict::Drop), "{body}");
        }
        assert_eq!(rig.function.usage().instances, instances, "{body}");
        // An instance that has grown is kept until the next call; nothing else adds up.
        assert!(rig.pool.granted() <= Bytes::kib(128));
    }
}

#[test]
fn the_image_holds_what_on_start_left() {
    let start = "(func (export \"on_start\") (result i32)
        (i32.store (i32.const 60000) (i32.const 1)) (global.set $n (i32.const 1)) (i32.const 0))
        (global $n (mut i32) (i32.const 0))";
    let both = "(i32.store (i32.const 60000) (i32.add (i32.load (i32.const 60000)) (global.get $n)))
        (global.set $n (i32.const 9)) (i32.load (i32.const 60000))";
    let wasm = module_with("", "(memory (export \"memory\") 1)", &format!("{start} {}", event(both)));
    let mut rig = rig_with(&manifest(), &wasm);
    for _ in 0..3 {
        assert_eq!(rig.call("1"), Ok(Verdict::Done));
    }
}

#[test]
fn a_warm_instance_remembers_until_it_fails() {
    let mut manifest = manifest();
    manifest.instances = InstancePolicy::Warm;
    let mut rig = rig_with(&manifest, &plain(BY_MEMORY));
    let answers: Vec<_> = (0..5).map(|_| rig.call("1")).collect();
    let done = Err(CallError::BadVerdict { verdict: 3 });
    assert_eq!(answers, [Ok(Verdict::Drop), Ok(Verdict::Keep), Ok(Verdict::Done), done, Ok(Verdict::Drop)]);
}

#[test]
fn a_failed_call_leaves_nothing_but_its_error_and_its_cost() {
    let body = "(drop (call $emit (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 4)))
        (drop (call $meter_add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))
        (drop (call $state_put (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 4)))";
    for (end, kind) in [
        ("(unreachable)", ErrorKind::Trap),
        ("(i32.const -7)", ErrorKind::Refused),
        ("(i32.const 3)", ErrorKind::BadVerdict),
        ("(loop $l (br $l)) (i32.const 0)", ErrorKind::OutOfFuel),
        ("(memory.grow (i32.const 5))", ErrorKind::OutOfMemory),
        ("(call $abort (i32.const 32) (i32.const 5)) (i32.const 0)", ErrorKind::Abort),
        ("(i32.div_u (i32.const 1) (i32.const 0))", ErrorKind::Trap),
        ("(i32.load (i32.const -1))", ErrorKind::Trap),
        ("(call $on_event (i32.const 0))", ErrorKind::Trap),
    ] {
        let mut rig = rig(&format!("(data (i32.const 32) \"out/a\") {}", event(&format!("{body} {end}"))));
        for round in 1..=3 {
            let error = rig.call("1").unwrap_err();
            assert_eq!(error.kind(), kind, "{end}: {error}");
            let staged = rig.function.staged();
            assert_eq!((staged.emits().len(), staged.meters().len(), staged.emit_bytes()), (0, 0, 0), "{end}");
            rig.function.commit_state();
            assert_eq!(rig.state(), [], "{end}");
            let usage = rig.function.usage();
            assert_eq!((usage.errors_of(kind), usage.errors_total(), usage.bytes_out), (round, round, 0));
            assert!(usage.fuel > 0 && usage.invocations == round);
        }
    }
}

#[test]
fn state_and_usage_survive_a_trap() {
    // Traps when the state is there.
    let body = "(if (i32.eq (i32.const -1) (call $state_get (i32.const 32) (i32.const 1) (i32.const 64) (i32.const 8)))
        (then (return (call $state_put (i32.const 32) (i32.const 1) (i32.const 32) (i32.const 5))))) (unreachable)";
    let mut rig = rig(&format!("(data (i32.const 32) \"out/a\") {}", event(body)));
    assert_eq!(rig.call("1"), Ok(Verdict::Drop));
    rig.function.commit_state();
    assert_eq!(rig.call("1").unwrap_err().kind(), ErrorKind::Trap);
    assert_eq!(rig.state(), [(&b"o"[..], &b"out/a"[..])]);
    assert_eq!(rig.pool.granted(), Bytes(0), "the memory of a broken instance is free at once");
    assert_eq!(rig.call("1").unwrap_err().kind(), ErrorKind::Trap);
    assert_eq!((rig.function.usage().instances, rig.function.usage().peak_memory), (1, 65_536));
}

#[test]
fn a_report_names_the_guests_functions_innermost_first() {
    let body = format!(
        "(data (i32.const 32) \"no such\\nunit\")
         (func $parse (param i32) (call $abort (i32.const 32) (i32.const 12)))
         (func $helper (result i32) (i32.const 1))
         (func $convert (param i32) (drop (call $helper)) (call $parse (local.get 0)))
         (table 1 funcref) (elem (i32.const 0) $convert) (type $t (func (param i32)))
         {}",
        event("(drop (call $helper)) (call_indirect (type $t) (local.get 0) (i32.const 0)) (i32.const 0)")
    );
    let mut rig = rig(&body);
    let error = rig.call("1").unwrap_err();
    let scene = error.scene().unwrap();
    assert_eq!(scene.frames, ["parse", "convert", "on_event"]);
    assert_eq!((scene.handler, scene.memory), ("on_event", Bytes::kib(64)));
    assert!(error.to_string().starts_with("aborted: no such\\nunit in parse ← convert ← on_event (fuel "), "{error}");
    assert_eq!(rig.call("1").unwrap_err().scene().unwrap().frames.len(), 3, "the trace starts anew");
}

#[test]
fn deep_recursion_shows_its_innermost_five() {
    let body = format!(
        "(func $down (param i32) (result i32) (call $down (local.get 0))) {}",
        event("(call $down (i32.const 1))")
    );
    let error = rig(&body).call("1").unwrap_err();
    assert_eq!(error.scene().unwrap().frames, ["down"; 5]);
}

#[test]
fn a_call_ends_at_its_deadline_between_slices() {
    let mut manifest = manifest();
    (manifest.limits.time, manifest.limits.fuel) = (Millis(5), Fuel(1_000_000_000));
    let mut rig = rig_with(&manifest, &plain("(loop $l (br $l)) (i32.const 0)"));
    rig.clock.step_us = 1000;
    match rig.call("1") {
        Err(CallError::TimedOut { allowed: Millis(5), scene }) => {
            assert!(scene.fuel.0 <= 6 * limits::FUEL_SLICE, "{scene}");
        }
        other => panic!("{other:?}"),
    }
    assert!((5_000..=8_000).contains(&rig.function.usage().time_us));
}

#[test]
fn long_calls_spend_their_whole_fuel_and_give_the_same_answer_in_slices() {
    let count = "(local $n i32) (loop $l (br_if $l (i32.lt_u
        (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000)))) (i32.const 1)";
    let mut rig = rig_with(&manifest(), &plain(count));
    let before = rig.function.usage().fuel;
    assert_eq!(rig.call("1"), Ok(Verdict::Keep));
    let used = rig.function.usage().fuel - before;
    assert!(used > 3 * limits::FUEL_SLICE, "{used}");
    let mut tight = manifest();
    tight.limits.fuel = Fuel(used);
    assert_eq!(rig_with(&tight, &plain(count)).call("1"), Ok(Verdict::Keep));
    tight.limits.fuel = Fuel(used - 1);
    assert_eq!(rig_with(&tight, &plain(count)).call("1").unwrap_err().kind(), ErrorKind::OutOfFuel);
}

#[test]
fn growth_is_refused_by_the_limit_and_by_the_pool() {
    let mut rig = rig_with(
        &manifest(),
        &plain("(drop (memory.grow (i32.const 1))) (drop (memory.grow (i32.const 1))) (i32.const 0)"),
    );
    let error = rig.call("1").unwrap_err();
    assert!(error.to_string().contains("wants 192 KiB, `limits.memory` grants 128 KiB"), "{error}");
    assert_eq!(error.scene().unwrap().memory, Bytes::kib(128));

    let pool = Pool::new(Bytes::kib(100));
    let mut function = load(&manifest(), &plain("(drop (memory.grow (i32.const 1))) (i32.const 0)"), &pool).unwrap();
    let mut clock = Clock { now_us: 0, step_us: 1 };
    let error = function.call(&Invocation::default(), &Fields::new(), &mut clock).unwrap_err();
    assert!(error.to_string().contains("pool has 36 KiB left"), "{error}");
    // Somebody else takes the room: no instance now, one again when there is room.
    let other = load(&manifest(), &plain("(i32.const 0)"), &pool).unwrap();
    let error = function.call(&Invocation::default(), &Fields::new(), &mut clock).unwrap_err();
    assert_eq!((error.kind(), function.broken()), (ErrorKind::Broken, None));
    drop(other);
    let error = function.call(&Invocation::default(), &Fields::new(), &mut clock).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn an_interval_has_no_message_and_no_keep() {
    let interval = "(func (export \"on_interval\") (param $ev i32) (result i32)
        (i32.add (i32.load (i32.add (local.get $ev) (i32.const 28)))
          (i32.load16_u (i32.add (local.get $ev) (i32.const 48)))))";
    let mut rig = rig_with(&manifest(), &module_with("", "(memory (export \"memory\") 1)", interval));
    rig.invocation.kind = EventKind::Interval;
    (rig.invocation.topic, rig.invocation.device) = ("", "");
    assert_eq!(rig.call(""), Ok(Verdict::Done), "kind 2, topic length 0");
    rig.invocation.kind = EventKind::Message;
    assert_eq!(rig.call("").unwrap_err().kind(), ErrorKind::Broken);
    let keep = "(func (export \"on_interval\") (param $ev i32) (result i32) (i32.const 1))";
    let mut rig = rig_with(&manifest(), &module_with("", "(memory (export \"memory\") 1)", keep));
    rig.invocation.kind = EventKind::Interval;
    assert_eq!(rig.call("").unwrap_err(), CallError::BadVerdict { verdict: 1 });
}
