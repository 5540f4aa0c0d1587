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
        payload: b"21.5",
        size: 300_000,
        payload_len: 299_000,
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
fn timestamps_of_1970_2001_and_2099_are_kept_and_counted() {
    let site = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"in/+\"\ntime-field = \"ts\"\n";
    let mut middle = Middle::new(&[METER_FUNCTION], site);
    for ts in ["0", "4070908800", "-5", "1e300", "1000000000"] {
        middle.take(publish("in/a", format!(r#"{{"pulses":1,"ts":{ts}}}"#).as_bytes()));
    }
    let status = middle.gateway.status();
    assert_eq!((status.skewed, status.late, status.books.aggregated), (4, 1, 5));
    let records = middle.records_until(NOW + 120_000);
    let sum: f64 =
        records.iter().map(|record| weir::window::Aggregate::decode(&record.payload).unwrap().stats.sum.to_f64()).sum();
    assert_eq!(sum, 5.0, "late and skewed values are in some window");
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

/// Draws 8 random bytes, emits them on `out`, and fails for a payload that begins with `{"fail`.
const DICE: &str = r#"
  (import "weir1" "random" (func $random (param i32 i32) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "out")
  (func $draw (result i32)
    (drop (call $random (i32.const 32) (i32.const 8)))
    (drop (call $emit (i32.const 0) (i32.const 3) (i32.const 32) (i32.const 8)))
    (i32.const 2))
  (func (export "on_interval") (param $ev i32) (result i32) (call $draw))
  (func (export "on_event") (param $ev i32) (result i32)
    (if (i32.gt_u (i32.load offset=36 (local.get $ev)) (i32.const 8)) (then (return (i32.const -9))))
    (call $draw))"#;

fn dice(triggers: &str) -> Middle {
    Middle::new(
        &[("dice", DICE, "emits = [\"out\"]")],
        &format!("[[function]]\npath = \"dice\"\n{triggers}[[lane]]\nname = \"all\"\ntopics = [\"#\"]\n"),
    )
}

#[test]
fn every_interval_and_every_message_draws_its_own_bytes_and_the_same_event_the_same_ones() {
    let mut middle = dice("[[function.trigger]]\ninterval = \"1 s\"\n[[function.trigger]]\nmqtt = \"in/+\"\n");
    let drawn = |middle: &mut Middle, at: i64| -> Vec<Vec<u8>> {
        middle.records_until(at).into_iter().map(|left| left.payload).collect()
    };
    let mut all: Vec<Vec<u8>> = Vec::new();
    for second in 1..=3 {
        all.extend(drawn(&mut middle, NOW + second * 1000));
    }
    assert_eq!(all.len(), 3, "an interval each second");
    for (topic, payload) in [("in/a", &b"1"[..]), ("in/b", b"1"), ("in/a", b"2"), ("in/a", b"1")] {
        middle.take(publish(topic, payload));
    }
    all.extend(drawn(&mut middle, NOW + 3000));
    let same = (all[3].clone(), all.pop().unwrap());
    assert_eq!(same.0, same.1, "the same topic, payload and time");
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!((distinct.len(), all.len()), (6, 6), "{all:?}");
}

#[test]
fn a_dead_letter_holds_the_whole_event_and_its_seed_draws_the_same_bytes_again() {
    use weir::dead_letter::DeadLetter;
    use weir::function::{EventKind, Invocation, Seed};
    let mut middle = dice(
        "[[function.trigger]]\nmqtt = \"in/+\"\ntime-field = \"ts\"\ntime-unit = \"ms\"\ndevice = \"topic:1\"\n\
         [[function.trigger]]\nmqtt = \"in/#\"\ncodec = \"cbor\"\n",
    );
    let payload = format!(r#"{{"ts":{},"fail":"{}"}}"#, NOW - 5000, "x".repeat(60_000)).into_bytes();
    middle.take(publish("in/first", b"1"));
    let failing = message("in/boiler", &payload, Qos::AtLeastOnce, 5, false);
    middle.take(Event::Message(weir::event::Message { retained: true, ..failing }));
    let effects = middle.seal();
    let lane = effects.lanes.iter().find(|batch| batch.lane == 1).expect("the lane of dead letters");
    let mut records = lane.records.as_slice();
    let record = Record::take(&mut records).expect("a letter of the first trigger");
    let letter = DeadLetter::decode(record.payload).unwrap();
    assert!(!letter.truncated && *letter.payload == payload && letter.payload_len == payload.len() as u64);
    assert_eq!((&*letter.function, &*letter.device, &*letter.kind), ("dice", "boiler", "refused"));
    assert_eq!((letter.event_ms, letter.at_ms, letter.time_from_payload), (NOW - 5000, NOW, true));
    assert_eq!((letter.quality, letter.event, letter.sequence), (middle.now.quality, EventKind::Message, 2));
    assert_eq!((letter.retained, letter.chained, letter.qos, letter.hops), (true, false, Qos::AtLeastOnce, 0));
    assert_ne!(letter.digest, 0, "the module that failed is named");
    let event = Invocation { time_ms: NOW - 5000, topic: "in/boiler", payload: &payload, ..Invocation::default() };
    assert_eq!(letter.seed, event.random_seed());
    assert_eq!(letter.seed, Invocation { seed: Seed::Given(letter.seed), ..Invocation::default() }.random_seed());
}

#[test]
fn a_letter_that_finds_no_room_as_a_whole_says_that_it_is_cut() {
    use weir::dead_letter::DeadLetter;
    let mut middle = dice("[[function.trigger]]\nmqtt = \"in/+\"\n");
    let payload = vec![b'x'; 60_000];
    for _ in 0..40 {
        middle.take(publish("in/a", &payload));
    }
    let poison = Poison {
        topic: b"in/\xff",
        payload: b"21.5",
        size: 300_000,
        payload_len: 299_000,
        reason: "the topic is not UTF-8",
        qos: Qos::AtMostOnce,
        packet_id: 0,
        dup: false,
        epoch: 1,
    };
    middle.take(Event::Poison(Poison { payload_len: 4, ..poison }));
    middle.take(Event::Poison(poison));
    let effects = middle.seal();
    let mut records = effects.lanes.iter().find(|batch| batch.lane == 1).unwrap().records.as_slice();
    let mut letters = Vec::new();
    while let Some(record) = Record::take(&mut records) {
        let letter = DeadLetter::decode(record.payload).unwrap();
        letters.push((letter.truncated, letter.payload.len(), letter.payload_len));
    }
    assert_eq!(letters.len(), 42, "none is lost");
    assert_eq!((letters[0], letters[39]), ((false, 60_000, 60_000), (true, 4096, 60_000)));
    assert_eq!((letters[40], letters[41]), ((false, 4, 4), (true, 4, 299_000)));
}
