//! `weir test` and `weir invoke`: what passes, what fails and how that reads, what a trap shows.

use std::fs;

use super::{function, run};

/// Keeps what is above `high`; a `temp` of 99 breaks two functions deep, one of 98 never ends.
const BODY: &str = r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "config_f64" (func $number (param i32 i32 f64) (result f64)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "log" (func $log (param i32 i32 i32)))
  (data (i32.const 0) "temp") (data (i32.const 8) "high")
  (global $high (mut f64) (f64.const 0))
  (func (export "on_start") (result i32)
    (global.set $high (call $number (i32.const 8) (i32.const 4) (f64.const 20)))
    (call $bind (i32.const 0) (i32.const 4)))
  (func $deepest (param $temp f64)
    (if (f64.eq (local.get $temp) (f64.const 99)) (then (unreachable)))
    (if (f64.eq (local.get $temp) (f64.const 98)) (then (loop $for_ever (br $for_ever)))))
  (func $judge (param $temp f64) (result i32)
    (call $deepest (local.get $temp))
    (f64.gt (local.get $temp) (global.get $high)))
  (func $on_event (export "on_event") (param $ev i32) (result i32) (local $temp f64)
    (local.set $temp (f64.load (i32.load offset=52 (local.get $ev))))
    (call $log (i32.const 3) (i32.const 8) (i32.const 4))
    (drop (call $put (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 4)))
    (call $judge (local.get $temp)))
"#;
const MANIFEST: &str = "[limits]\nfuel = 5_000\n[config]\nhigh = 20.0\n";

fn case(folder: &std::path::Path, name: &str, text: &str) {
    fs::write(folder.join("cases").join(name), text).unwrap();
}

#[test]
fn cases_that_hold_pass_with_fuel_and_memory_shown() {
    let place = tempfile::tempdir().unwrap();
    let folder = function(place.path(), "hot", BODY, MANIFEST);
    case(
        &folder,
        "a.toml",
        "name = \"above\"\n[[step]]\npayload = '{\"temp\":21}'\nverdict = \"keep\"\nlogs = [\"high\"]\nstate = { temp = \"68696768\" }\n",
    );
    case(
        &folder,
        "b.toml",
        "name = \"its own limit\"\nconfig = { high = 30.0 }\n[[step]]\nrepeat = 3\npayload = '{\"temp\":21}'\nverdict = \"drop\"\n",
    );
    case(&folder, "c.toml", "name = \"no number\"\nconfig = { high = \"warm\" }\nrefused = \"is no number\"\n");
    run(place.path(), "test hot", "").ends(0).says(&["ok    fuel", "above", "limits: fuel 5000", "3 passed, 0 failed"]);
    let document = run(place.path(), "test hot --json --case above", "").ends(0).json();
    assert_eq!((document["ok"].as_bool(), document["cases"].as_array().unwrap().len()), (Some(true), 1));
    let case = &document["cases"][0];
    assert!(10 < case["fuel"].as_u64().unwrap() && case["fuel"].as_u64().unwrap() < 5000, "{case}");
    assert!(0 < case["memory"].as_u64().unwrap(), "{case}");
    // From within, and with cases that lie elsewhere.
    run(&folder, "test", "").ends(0);
    run(place.path(), "test hot --cases hot/cases", "").ends(0);
}

#[test]
fn a_case_that_does_not_hold_shows_the_event_and_what_differs() {
    let place = tempfile::tempdir().unwrap();
    let folder = function(place.path(), "hot", BODY, MANIFEST);
    case(
        &folder,
        "a.toml",
        "name = \"wrong\"\n[[step]]\npayload = '{\"temp\":21}'\nverdict = \"drop\"\nemits = [{ topic = \"a/b\", payload = \"x\" }]\nmeters = [{ name = \"m\", op = \"add\", value = 1 }]\n",
    );
    case(&folder, "b.toml", "name = \"right\"\n[[step]]\npayload = '{\"temp\":1}'\nverdict = \"drop\"\n");
    case(&folder, "c.toml", "name = \"refused\"\nrefused = \"no such thing\"\n");
    case(&folder, "d.toml", "name = \"no case\"\n[[step]]\nverdict = \"maybe\"\n");
    let answer = run(place.path(), "test hot", "").ends(1);
    let answer = answer.says(&[
        "hot/cases/a.toml, step 1: device-1: {\"temp\":21}",
        "expected  drop\n            got       keep",
        "emits[0]\n            expected  a/b x\n            got       nothing",
        "meters[0]\n            expected  m add 1 for device-1",
        "expected  refused: …no such thing…\n            got       it loads",
        "unknown variant `maybe`",
        "1 passed, 3 failed",
    ]);
    assert!(answer.out.contains("FAIL"), "{}", answer.out);
    let document = run(place.path(), "test hot --json", "").ends(1).json();
    assert_eq!(document["ok"], false);
    assert_eq!(document["cases"][0]["steps"][0]["differences"][0]["expected"], "drop");
}

#[test]
fn a_trap_shows_the_guests_functions_the_input_fuel_and_memory() {
    let place = tempfile::tempdir().unwrap();
    let folder = function(place.path(), "hot", BODY, MANIFEST);
    case(&folder, "a.toml", "name = \"breaks\"\n[[step]]\npayload = '{\"temp\":99}'\nverdict = \"keep\"\n");
    let event = r#"{"topic":"site/a","payload":{"temp":99}}"#;
    for (line, code) in [("test hot", 1), ("invoke hot --event -", 1)] {
        let answer = run(place.path(), line, event).ends(code);
        answer.says(&["trapped", "in deepest ← judge ← on_event (fuel ", ", memory ", "{\"temp\":99}"]);
    }
    // An error that is expected holds; what it staged is nothing.
    case(
        &folder,
        "a.toml",
        "name = \"breaks\"\n[[step]]\npayload = '{\"temp\":99}'\nverdict = \"error\"\nsays = \"deepest\"\nstate = {}\n",
    );
    run(place.path(), "test hot", "").ends(0);
    // The limits are those of the manifest.
    let endless = r#"{"topic":"site/a","payload":{"temp":98}}"#;
    run(place.path(), "invoke hot --event -", endless).ends(1).says(&["out of fuel: 5000 allowed, in deepest ← judge"]);
}

#[test]
fn events_of_every_form_are_invoked_and_their_state_goes_on() {
    let place = tempfile::tempdir().unwrap();
    function(place.path(), "hot", BODY, MANIFEST);
    let events = r#"{"topic":"a/b","device":"b","payload":{"temp":21},"time":1700000000000}
        {"text":"{\"temp\": 19.5}"} {"base64":"eyJ0ZW1wIjozMH0="}"#;
    let answer = run(place.path(), "invoke hot --event - --json", events).ends(0);
    let lines: Vec<serde_json::Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<&str> = lines.iter().map(|line| line["outcome"]["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["keep", "drop", "keep"]);
    assert_eq!(lines[0]["outcome"]["keeps"], "hot/a/b");
    assert_eq!(lines[0]["outcome"]["state"][0], serde_json::json!({ "key": "temp", "value": "high" }));
    assert_eq!(lines[0]["event"]["time"], 1_700_000_000_000_i64);
    // A file, a setting, and what people see.
    fs::write(place.path().join("e.json"), r#"{"payload":{"temp":21}}"#).unwrap();
    run(place.path(), "invoke hot -e e.json", "").ends(0).says(&[
        "keep  fuel",
        "log     info high",
        "state   temp = high",
    ]);
    run(place.path(), "invoke hot -e e.json --set high=30", "").ends(0).says(&["drop  fuel"]);
    run(place.path(), "invoke hot -e e.json --set hihg=30", "").ends(78).says(&["`hihg` is not a setting"]);
}

#[test]
fn what_cannot_be_tried_is_refused_with_its_reason() {
    let place = tempfile::tempdir().unwrap();
    let folder = function(place.path(), "hot", BODY, MANIFEST);
    for (line, input, code, says) in [
        ("test hot", "", 66, "has no case"),
        ("test hot --cases nowhere", "", 66, "nowhere: no such file"),
        ("test nowhere", "", 78, "nowhere/function.toml: no such file"),
        ("test a b", "", 64, "takes one DIR"),
        ("invoke hot", "", 64, "wants --event FILE"),
        ("invoke hot -e -", "", 65, "has no event"),
        ("invoke hot -e -", "{\"tpic\":1}", 65, "event 1: unknown field `tpic`"),
        ("invoke hot -e -", "{} {", 65, "event 2: "),
        ("invoke hot -e nowhere", "", 65, "no such file"),
        ("build hot", "", 78, "has none of Cargo.toml, hot.c, hot.zig, hot.ts"),
        ("new hot --lang c", "", 73, "is there already"),
        ("new Hot --lang c", "", 64, "`Hot` is not a name"),
        ("new 7up --lang c", "", 64, "does not begin with a letter"),
        ("new cold --lang cobol", "", 64, "`cobol` is none of rust, c, zig, assemblyscript"),
        ("new cold", "", 64, "wants --lang"),
        ("replay nowhere --function cold", "", 78, "gateway.toml cannot be read"),
        ("replay nowhere --function ./hot", "", 66, "nowhere: no such file"),
        ("replay hot/function.toml --function ./hot", "", 65, "is no line of a recording"),
    ] {
        run(place.path(), line, input).ends(code).says(&[says]);
    }
    fs::remove_file(folder.join("hot.wasm")).unwrap();
    run(place.path(), "test hot", "").ends(78).says(&["no such file; `weir build hot` makes it"]);
}
