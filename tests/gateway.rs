//! The pure middle as a whole: messages in, effects out, for guests written in WAT. No broker, no disk, no clock.

mod support;

use support::middle::{Middle, NOW, message, publish};
use weir::books::DropReason;
use weir::config::Qos;
use weir::event::{Event, Poison};
use weir::outbox::{Outcome, Settled};
use weir::record::{Record, RecordKind};

/// Keeps what has `temp` above 20, drops the rest, traps at exactly 13, refuses 14.
const KEEP_WARM: &str = r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (data (i32.const 0) "temp")
  (func (export "on_start") (result i32) (drop (call $bind (i32.const 0) (i32.const 4))) (i32.const 0))
  (func (export "on_event") (param $ev i32) (result i32) (local $t f64)
    (local.set $t (f64.load (i32.load offset=52 (local.get $ev))))
    (if (f64.eq (local.get $t) (f64.const 13)) (then unreachable))
    (if (f64.eq (local.get $t) (f64.const 14)) (then (return (i32.const -7))))
    (f64.gt (local.get $t) (f64.const 20)))"#;

/// Adds `pulses` to the counter `energy` under the device's key, and counts its calls in durable state.
const METER: &str = r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "pulses") (data (i32.const 8) "energy")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 0) (i32.const 6)))
    (call $meter (i32.const 8) (i32.const 6)))
  (func (export "on_event") (param $ev i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.load (i32.load offset=52 (local.get $ev)))))
    (i64.store (i32.const 32) (i64.const 0))
    (drop (call $get (i32.const 8) (i32.const 1) (i32.const 32) (i32.const 8)))
    (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.const 1)))
    (drop (call $put (i32.const 8) (i32.const 1) (i32.const 32) (i32.const 8)))
    (i32.const 2))"#;

const WARM_FUNCTION: (&str, &str, &str) = ("warm", KEEP_WARM, "keep-prefix = \"warm/\"");
const METER_FUNCTION: (&str, &str, &str) =
    ("meter", METER, "[[meter]]\nname = \"energy\"\nkind = \"counter\"\nwindow = \"1 min\"\nlateness = \"10 s\"");

fn warm() -> Middle {
    Middle::new(&[WARM_FUNCTION], "[[function]]\npath = \"warm\"\n[[function.trigger]]\nmqtt = \"in/+\"\n")
}

fn metering() -> Middle {
    Middle::new(&[METER_FUNCTION], "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"in/+\"\n")
}

#[test]
fn every_message_has_one_fate_and_the_books_balance() {
    let mut middle = warm();
    for (payload, kind) in [
        (r#"{"temp":25}"#, "delivered later"),
        (r#"{"temp":5}"#, "filtered"),
        (r#"{"temp":13}"#, "trap"),
        (r#"{"temp":14}"#, "refused"),
        (r#"{"temp":"#, "malformed"),
        ("", "malformed"),
        (r#"{"temp":"hot"}"#, "filtered"),
        ("\u{0}\u{ff}", "malformed"),
    ] {
        middle.take(publish("in/a", payload.as_bytes()));
        assert_eq!(middle.gateway.residue(), 0, "after {kind}");
    }
    middle.take(publish("elsewhere", b"{}"));
    let books = middle.gateway.books();
    assert_eq!((books.received, books.filtered, books.dead_lettered), (9, 3, 5));
    assert_eq!(middle.gateway.outbox().messages_pending(), 1);
}

#[test]
fn a_kept_message_goes_on_with_its_original_bytes_and_is_delivered_in_the_books_when_upstream_has_it() {
    let mut middle = warm();
    middle.take(publish("in/boiler", br#"{ "temp" : 25.50 }"#));
    let effects = middle.seal();
    let lane = &effects.lanes[0];
    let record = Record::take(&mut lane.records.as_slice()).unwrap();
    assert_eq!(
        (record.topic, record.payload, record.source),
        ("warm/in/boiler", &br#"{ "temp" : 25.50 }"#[..], "warm")
    );
    assert!(record.closes_message && record.kind == RecordKind::Message);
    assert_eq!((lane.first_seq, lane.count, lane.messages), (1, 1, 1));
    let settled = [Settled { sequence: 1, closes_message: true, outcome: Outcome::Delivered }];
    middle.take(Event::Settled { lane: lane.lane, records: &settled });
    assert_eq!((middle.gateway.books().delivered, middle.gateway.residue()), (1, 0));
}

#[test]
fn a_failed_call_leaves_a_dead_letter_that_names_function_reason_and_input() {
    let mut middle = warm();
    middle.take(Event::Message(message("in/a", br#"{"temp":13}"#, Qos::AtLeastOnce, 5, false)));
    let effects = middle.seal();
    let lane = &effects.lanes[0];
    let record = Record::take(&mut lane.records.as_slice()).unwrap();
    let letter = weir::dead_letter::DeadLetter::decode(record.payload).unwrap();
    assert_eq!((record.kind, record.closes_message), (RecordKind::DeadLetter, false));
    assert_eq!((&*letter.function, &*letter.kind, &*letter.topic), ("warm", "trap", "in/a"));
    assert_eq!((&*letter.payload, letter.payload_len), (&br#"{"temp":13}"#[..], 11));
    assert!(letter.message.contains("unreachable"), "{}", letter.message);
    assert_eq!(effects.acks.len(), 1, "poison is acknowledged");
}

#[test]
fn a_redelivery_is_acknowledged_again_and_counted_once_also_after_a_restart() {
    let mut middle = metering();
    let first = message("in/a", br#"{"pulses":3}"#, Qos::AtLeastOnce, 7, false);
    middle.take(Event::Message(first));
    let again = message("in/a", br#"{"pulses":3}"#, Qos::AtLeastOnce, 7, true);
    middle.take(Event::Message(again));
    let effects = middle.seal();
    assert_eq!(effects.acks.len(), 2);
    let mut middle = middle.restarted();
    middle.take(Event::Message(again));
    let books = middle.gateway.books();
    assert_eq!((books.received, books.duplicates, books.aggregated), (1, 2, 1));
    assert_eq!(middle.gateway.residue(), 0);
    let other = message("in/a", br#"{"pulses":4}"#, Qos::AtLeastOnce, 7, true);
    middle.take(Event::Message(other));
    assert_eq!(middle.gateway.books().received, 2, "the same identifier with other content is another message");
}

#[test]
fn meters_and_state_survive_a_restart_at_any_commit() {
    let mut middle = metering();
    for _ in 0..5 {
        middle.take(publish("in/a", br#"{"pulses":2}"#));
        middle.take(publish("in/b", br#"{"pulses":1}"#));
        middle.seal();
        middle = middle.restarted();
    }
    let records = middle.records_until(NOW + 120_000);
    let mut totals: Vec<(String, f64, u64)> = Vec::new();
    for record in &records {
        let aggregate = weir::window::Aggregate::decode(&record.payload).unwrap();
        totals.push((
            String::from_utf8_lossy(aggregate.key).into_owned(),
            aggregate.stats.sum.to_f64(),
            aggregate.stats.count,
        ));
    }
    totals.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(totals, [("a".to_owned(), 10.0, 5), ("b".to_owned(), 5.0, 5)]);
    assert_eq!(records[0].topic, "meter/meter.energy");
}

#[test]
fn an_uncommitted_batch_leaves_no_trace() {
    let mut middle = metering();
    middle.take(publish("in/a", br#"{"pulses":2}"#));
    middle.seal();
    middle.take(publish("in/a", br#"{"pulses":100}"#));
    let mut middle = middle.restarted();
    assert_eq!(middle.gateway.books().received, 1);
    let records = middle.records_until(NOW + 120_000);
    let aggregate = weir::window::Aggregate::decode(&records[0].payload).unwrap();
    assert_eq!((records.len(), aggregate.stats.sum.to_f64()), (1, 2.0));
}

#[test]
fn a_chain_runs_inside_one_commit_and_what_it_passes_on_is_not_sent_upstream_by_accident() {
    let site = r#"
[[function]]
path = "warm"
[[function.trigger]]
mqtt = "in/+"
[[function]]
path = "meter"
[[function.trigger]]
chain = "warm/#"
device = "topic:2"
"#;
    let mut middle = Middle::new(&[WARM_FUNCTION, METER_FUNCTION], site);
    middle.take(publish("in/a", br#"{"temp":25,"pulses":4}"#));
    middle.take(publish("in/a", br#"{"temp":5,"pulses":8}"#));
    let effects = middle.seal();
    assert!(effects.lanes.is_empty(), "nothing upstream yet");
    let books = middle.gateway.books();
    assert_eq!((books.received, books.aggregated, books.filtered), (2, 1, 1));
    let records = middle.records_until(NOW + 120_000);
    let aggregate = weir::window::Aggregate::decode(&records[0].payload).unwrap();
    assert_eq!((aggregate.key, aggregate.stats.sum.to_f64()), (&b"a"[..], 4.0));
}

#[test]
fn what_is_no_message_is_a_dead_letter_and_what_never_came_in_is_dropped_with_its_reason() {
    let mut middle = warm();
    let poison = Poison {
        topic: b"in/\xff",
        payload: b"",
        size: 300_000,
        reason: "the topic is not UTF-8",
        qos: Qos::AtLeastOnce,
        packet_id: 3,
        dup: false,
        epoch: 1,
    };
    middle.take(Event::Poison(poison));
    middle.take(Event::Lost { count: 4 });
    let books = middle.gateway.books();
    assert_eq!((books.received, books.dead_lettered, books.dropped[DropReason::InboxFull as usize]), (5, 1, 4));
    assert_eq!((middle.gateway.residue(), middle.seal().acks.len()), (0, 1));
}

#[test]
fn a_payload_at_the_limit_is_handled_and_one_beyond_it_is_a_dead_letter() {
    let mut middle = warm();
    let padded = |len: usize| format!(r#"{{"temp":25,"pad":"{}"}}"#, "x".repeat(len - 20)).into_bytes();
    for (len, dead) in [(64 * 1024, 0), (64 * 1024 + 1, 1), (256 * 1024, 2)] {
        let payload = padded(len);
        assert_eq!(payload.len(), len);
        middle.take(publish("in/a", &payload));
        assert_eq!(middle.gateway.books().dead_lettered, dead, "{len} bytes");
    }
    assert_eq!(middle.gateway.residue(), 0);
}

#[test]
fn the_declarative_filter_turns_messages_away_before_any_code_runs() {
    let site = "[[function]]\npath = \"warm\"\n[[function.trigger]]\nmqtt = \"in/+\"\nfilter = { payload = { kind = [\"t\"] } }\n";
    let mut middle = Middle::new(&[WARM_FUNCTION], site);
    middle.take(publish("in/a", br#"{"temp":25,"kind":"h"}"#));
    middle.take(publish("in/a", br#"{"temp":25,"kind":"t"}"#));
    let status = middle.gateway.status();
    assert_eq!((status.functions[0].usage.invocations, status.functions[0].filtered), (1, 1));
    assert_eq!((status.books.filtered, status.pending), (1, 1));
}

#[test]
fn timestamps_of_1970_and_2099_are_kept_and_counted() {
    let site = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"in/+\"\ntime-field = \"ts\"\n";
    let mut middle = Middle::new(&[METER_FUNCTION], site);
    for ts in ["0", "4070908800", "-5", "1e300"] {
        middle.take(publish("in/a", format!(r#"{{"pulses":1,"ts":{ts}}}"#).as_bytes()));
    }
    let status = middle.gateway.status();
    assert_eq!((status.skewed, status.late, status.books.aggregated), (3, 1, 4));
    let records = middle.records_until(NOW + 120_000);
    let sum: f64 =
        records.iter().map(|record| weir::window::Aggregate::decode(&record.payload).unwrap().stats.sum.to_f64()).sum();
    assert_eq!(sum, 4.0, "late and skewed values are in some window");
}

#[test]
fn retained_messages_follow_the_triggers_policy() {
    for (policy, fresh, again) in [("skip-on-resubscribe", 1, 1), ("always", 1, 2), ("never", 0, 0)] {
        let site =
            format!("[[function]]\npath = \"warm\"\n[[function.trigger]]\nmqtt = \"in/+\"\nretained = \"{policy}\"\n");
        let mut middle = Middle::new(&[WARM_FUNCTION], &site);
        let mut retained = message("in/a", br#"{"temp":25}"#, Qos::AtLeastOnce, 1, false);
        retained.retained = true;
        middle.take(Event::Connected { epoch: 1, session_present: false });
        middle.take(Event::Message(retained));
        assert_eq!(middle.gateway.status().functions[0].usage.invocations, fresh, "{policy}");
        middle.take(Event::Granted { filters: &["in/+".to_owned()] });
        middle.take(Event::Connected { epoch: 2, session_present: true });
        (retained.resubscribed, retained.packet_id) = (true, 2);
        middle.take(Event::Message(retained));
        assert_eq!(middle.gateway.status().functions[0].usage.invocations, again, "{policy}");
        assert_eq!(middle.gateway.residue(), 0);
    }
}
