//! Which messages wake a function, and how often: once, whatever triggers match and whatever the broker's session holds.

mod support;

use support::middle::{Guest, Middle, NOW, message, publish};
use weir::config::Qos;
use weir::dead_letter::DeadLetter;
use weir::event::{Event, Message};
use weir::record::Record;
use weir::window::Aggregate;

/// Stores something, so that a message that it takes is aggregated.
const STORE: &str = r#"
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (func (export "on_event") (param i32) (result i32)
    (drop (call $put (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8)))
    (i32.const 2))"#;

const ONE: Guest<'static> = ("one", STORE, "[limits]\nstate = \"1 KiB\"");
const TWO: Guest<'static> = ("two", STORE, "[limits]\nstate = \"1 KiB\"");

/// The function with a trigger for each of these, filter or filter and further keys.
fn function(name: &str, triggers: &[&str]) -> String {
    let triggers = triggers.iter().map(|trigger| {
        let (filter, keys) = trigger.split_once('\n').unwrap_or((trigger, ""));
        format!("[[function.trigger]]\nmqtt = \"{filter}\"\n{keys}\n")
    });
    format!("[[function]]\npath = \"{name}\"\n{}", triggers.collect::<String>())
}

fn invocations(middle: &Middle) -> Vec<u64> {
    middle.gateway.status().functions.iter().map(|function| function.usage.invocations).collect()
}

#[test]
fn a_function_is_called_once_by_the_first_of_its_triggers_that_takes_the_message() {
    let hot = "press/#\nfilter = { payload = { temp = [{ numeric = [\">\", 20] }] } }";
    let open = "press/#\nfilter = { payload = { door = [\"open\"] } }";
    for (triggers, payload, called, filtered) in [
        (vec!["press/+/v", "press/#"], r#"{"temp":25}"#, 1, 0),
        (vec!["press/#", "press/+/v", "press/p1/v"], r#"{"temp":25}"#, 1, 0),
        (vec![hot, open], r#"{"temp":25,"door":"open"}"#, 1, 0),
        (vec![hot, open], r#"{"temp":5,"door":"open"}"#, 1, 0),
        (vec![hot, open], r#"{"temp":5,"door":"shut"}"#, 0, 1),
        (vec![hot, "press/+/v"], r#"{"temp":5}"#, 1, 0),
        // Broken is broken: the next trigger does not try it again.
        (
            vec!["press/#\ncodec = \"json\"\nfilter = { payload = { temp = [1] } }", "press/+/v\ncodec = \"raw\""],
            "{",
            0,
            0,
        ),
    ] {
        let mut middle = Middle::new(&[ONE], &function("one", &triggers));
        middle.take(publish("press/p1/v", payload.as_bytes()));
        let status = middle.gateway.status();
        assert_eq!(
            (invocations(&middle)[0], status.functions[0].filtered),
            (called, filtered),
            "{triggers:?} {payload}"
        );
        assert_eq!(middle.gateway.residue(), 0);
    }
    // Each of two functions is called.
    let mut middle = Middle::new(&[ONE, TWO], &(function("one", &["a/+", "a/#"]) + &function("two", &["a/b", "a/#"])));
    middle.take(publish("a/b", b"{}"));
    assert_eq!(invocations(&middle), [1, 1]);
}

#[test]
fn every_filter_is_recorded_before_it_is_subscribed_and_ended_when_it_is_wanted_no_more() {
    let ended = |middle: &Middle| middle.gateway.subscribed().unsubscribed();
    let mut middle = Middle::new(&[ONE], &function("one", &["press/+/v"]));
    assert!(middle.gateway.is_dirty() && ended(&middle).is_empty());
    assert!(!middle.seal().entries.is_empty());
    // A process that ends at any time after the commit has perhaps subscribed; whether it has been granted does not matter.
    let mut middle = middle.restarted();
    assert!(!middle.gateway.is_dirty(), "the record stands");
    for (filters, want) in [
        (vec!["press/#"], vec!["press/+/v"]),
        (vec!["$share/g/press/+/v"], vec!["press/#", "press/+/v"]),
        (vec!["a", "b"], vec!["$share/g/press/+/v", "press/#", "press/+/v"]),
        // What comes back is wanted, and a covered filter must not be subscribed beside the wide one.
        (vec!["press/+/v", "press/#"], vec!["$share/g/press/+/v", "a", "b", "press/+/v"]),
    ] {
        middle = middle.reconfigured(&function("one", &filters));
        assert_eq!(ended(&middle), want, "{filters:?}");
        // Before the commit a crash leaves the old record, and nothing of the new one was subscribed.
        assert!(middle.gateway.is_dirty());
        middle = middle.restarted();
        assert_eq!(ended(&middle), want, "{filters:?}");
        middle.seal();
        middle = middle.restarted();
        assert!(!middle.gateway.is_dirty());
        assert_eq!(ended(&middle), want, "{filters:?}");
    }
    // A snapshot holds every record.
    let exported = middle.export();
    let count = weir::entry::entries(exported.bytes()).filter(|entry| entry.as_ref().unwrap().key[0] == b'f').count();
    assert_eq!(count, 5);
    // Another client identifier may find a session of old, or the broker may be the same under another name.
    let middle = middle.reconfigured(&format!("client-id = \"other\"\n{}", function("one", &["a"])));
    assert_eq!(ended(&middle), ["$share/g/press/+/v", "b", "press/#", "press/+/v"]);
}

#[test]
fn the_record_is_bounded_and_the_oldest_filters_leave_first() {
    let mut middle = Middle::new(&[ONE], &function("one", &["first"]));
    for round in 0..200 {
        middle.seal();
        middle = middle.reconfigured(&function("one", &[&format!("{round}/{}", "x".repeat(200))]));
    }
    let ended = middle.gateway.subscribed().unsubscribed();
    let bytes: usize = ended.iter().map(String::len).sum();
    assert!(bytes <= weir::subscribed::EARLIER_BYTES_MAX && 20 < ended.len(), "{bytes} in {}", ended.len());
    assert!(ended.iter().any(|filter| filter.starts_with("198/")) && !ended.contains(&"first".to_owned()));
    // What one change leaves is not forgotten by it, however much it is.
    middle.seal();
    let many: Vec<String> = (0..32).map(|number| format!("{number}/{}", "y".repeat(400))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut middle = middle.reconfigured(&function("one", &many));
    middle.seal();
    let middle = middle.reconfigured(&function("one", &["last"]));
    let ended = middle.gateway.subscribed().unsubscribed();
    assert!(many.iter().all(|filter| ended.contains(&(*filter).to_owned())), "{ended:?}");
}

#[test]
fn a_session_of_which_nothing_is_recorded_is_told() {
    for (session_present, told) in [(true, true), (false, false)] {
        let mut middle = Middle::new(&[ONE], &function("one", &["a"]));
        middle.seal();
        middle.take(Event::Connected { epoch: 1, session_present });
        let log = format!("{:?}", middle.effects.log);
        assert_eq!(log.contains("kept a session that this store knows nothing of"), told, "{log}");
        middle.seal();
        middle.take(Event::Connected { epoch: 2, session_present: true });
        assert!(middle.effects.log.is_empty(), "it is said once");
    }
}

#[test]
fn a_session_that_is_recorded_under_another_name_of_its_broker_is_no_strange_one() {
    for (from, to, lost, level) in [
        ("mqtt://localhost", "mqtt://127.0.0.1", false, log::Level::Info),
        ("id = \"test\"", "id = \"other\"", true, log::Level::Warn),
    ] {
        let mut middle = Middle::new(&[ONE], &function("one", &["a"]));
        middle.seal();
        let mut middle = middle.changed(from, to);
        middle.seal();
        middle.take(Event::Connected { epoch: 1, session_present: true });
        let lines = &middle.effects.log;
        assert!(lines.len() == 1 && lines[0].level == level, "{to}: {lines:?}");
        assert_eq!(lines[0].text.contains("knows nothing of"), lost, "{to}: {lines:?}");
        assert_eq!(lines[0].text.contains("recorded under another name of it (localhost)"), !lost, "{to}: {lines:?}");
    }
}

/// A retained message of a kept session.
fn retained(packet_id: u16, dup: bool) -> Event<'static> {
    let plain = message("a/b", b"{}", Qos::AtLeastOnce, packet_id, dup);
    Event::Message(Message { retained: true, resubscribed: true, ..plain })
}

#[test]
fn a_new_trigger_takes_the_retained_messages_of_a_kept_session_and_an_old_one_does_not() {
    let granted = [String::from("a/+")];
    let mut middle = Middle::new(&[ONE, TWO], &(function("one", &["a/+"]) + &function("two", &["c"])));
    middle.take(Event::Connected { epoch: 1, session_present: false });
    middle.take(Event::Granted { filters: &granted });
    middle.seal();

    // The second function gets a trigger that the old subscription covers.
    let site = function("one", &["a/+"]) + &function("two", &["a/b"]);
    let mut middle = middle.reconfigured(&site);
    assert_eq!(middle.gateway.subscribed().fresh(), granted, "its retained messages are asked for again");
    middle.seal();
    // A crash before the grant leaves it new.
    let mut middle = middle.restarted();
    middle.take(Event::Connected { epoch: 1, session_present: true });
    // The broker may send them before its SUBACK, or behind it.
    middle.take(retained(1, false));
    middle.take(Event::Granted { filters: &granted });
    assert_eq!(invocations(&middle), [0, 1]);
    middle.take(retained(2, false));
    assert_eq!(invocations(&middle), [0, 2]);
    middle.seal();

    // What was on its way when the connection broke may come with DUP in the next one, in another process too; what is sent
    // again because of the resubscription is old.
    let mut middle = middle.restarted();
    assert!(middle.gateway.subscribed().fresh().is_empty());
    middle.take(Event::Connected { epoch: 1, session_present: true });
    middle.take(retained(3, true));
    assert_eq!(invocations(&middle), [0, 3]);
    middle.take(retained(4, false));
    middle.take(Event::Connected { epoch: 2, session_present: true });
    middle.take(retained(5, true));
    assert_eq!(invocations(&middle), [0, 3]);
    assert_eq!(middle.gateway.residue(), 0);
}

#[test]
fn a_message_with_the_identifier_and_the_bytes_of_one_that_the_broker_has_finished_is_another_one() {
    // Its acknowledgement is read; at QoS 2, a PUBREL came as well; and the answer to that is read.
    for (qos, read, released, completed) in [
        (Qos::AtLeastOnce, true, false, false),
        (Qos::AtLeastOnce, false, false, false),
        (Qos::ExactlyOnce, true, true, true),
        (Qos::ExactlyOnce, true, true, false),
        (Qos::ExactlyOnce, true, false, false),
    ] {
        let mut middle = Middle::new(&[ONE], &function("one", &["a"]));
        middle.take(Event::Connected { epoch: 1, session_present: true });
        middle.take(Event::Message(message("a", b"{}", qos, 7, false)));
        let commit = middle.seal().commit;
        middle.gateway.acked(commit, 1, 1);
        if released {
            middle.take(Event::Released { packet_id: 7 });
        }
        if read {
            middle.take(Event::Confirmed { epoch: 1, acks_through: 1, completed_through: u64::from(completed) });
        }
        let finished = read && (completed || qos == Qos::AtLeastOnce);
        // Its first transmission is lost with the connection.
        middle.take(Event::Connected { epoch: 2, session_present: true });
        middle.take(Event::Message(message("a", b"{}", qos, 7, true)));
        let books = middle.gateway.books();
        let want = if finished { (2, 0) } else { (1, 1) };
        assert_eq!((books.received, books.duplicates), want, "{qos:?} {read} {released} {completed}");
    }
}

/// Counts for the device, in state and in a meter; reads `samples` as an array and `on` as a whole number.
const COUNT: &str = r#"
  (import "weir1" "bind" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "field_f64s" (func $numbers (param i32 i32 i32) (result i32)))
  (import "weir1" "field_i64" (func $whole (param i32 i32) (result i32)))
  (import "weir1" "field_str" (func $text (param i32 i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (data (i32.const 0) "count") (data (i32.const 8) "samples") (data (i32.const 16) "on")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 8) (i32.const 7)))
    (drop (call $bind (i32.const 16) (i32.const 2)))
    (call $meter (i32.const 0) (i32.const 5)))
  (func (export "on_event") (param i32) (result i32)
    (drop (call $numbers (i32.const 0) (i32.const 64) (i32.const 4)))
    (if (i32.ne (call $whole (i32.const 1) (i32.const 64)) (i32.const 0))
      (then (drop (call $text (i32.const 1) (i32.const 64) (i32.const 8)))))
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))
    (i32.const 2))"#;
const COUNTER: Guest<'static> =
    ("count", COUNT, "[[meter]]\nname = \"count\"\nkind = \"counter\"\nwindow = \"1 min\"\nlateness = \"10 s\"");

#[test]
fn what_has_no_device_in_the_field_of_its_trigger_is_a_dead_letter_and_shares_no_key() {
    let mut middle = Middle::new(&[COUNTER], &function("count", &["in/+\ndevice = \"field:id\""]));
    let (longest, too_long) = ("x".repeat(128), "x".repeat(129));
    let named = [r#""a""#, r#""a""#, "7", "7.0", &format!("\"{longest}\"")];
    for id in named {
        middle.take(publish("in/x", format!(r#"{{"id":{id}}}"#).as_bytes()));
    }
    let nameless = [
        ("{}", "field id holds nothing; device = \"field:id\" takes 1 to 128 bytes of text or a whole number there"),
        (r#"{"id":null}"#, "field id holds null;"),
        (r#"{"id":true}"#, "field id holds true;"),
        (r#"{"id":{"a":1}}"#, "field id holds an object;"),
        (r#"{"id":["a"]}"#, "field id holds an array;"),
        (r#"{"id":1.5}"#, "field id holds 1.5;"),
        (r#"{"id":""}"#, "field id holds the text \"\";"),
        (&format!(r#"{{"id":"{too_long}"}}"#), "field id holds the text \"xxxx"),
    ];
    for (payload, what) in nameless {
        middle.take(publish("in/x", payload.as_bytes()));
        let effects = middle.seal();
        let record = Record::take(&mut effects.lanes[0].records.as_slice()).unwrap();
        let letter = DeadLetter::decode(record.payload).unwrap();
        assert_eq!((&*letter.kind, &*letter.function, &*letter.topic), ("no-device", "count", "in/x"), "{payload}");
        assert!(letter.message.starts_with(what), "{payload}: {}", letter.message);
    }
    let books = middle.gateway.books();
    assert_eq!((books.aggregated, books.dead_lettered, middle.gateway.residue()), (5, 8, 0));
    let records = middle.records_until(NOW + 120_000);
    let aggregates = records.iter().map(|record| Aggregate::decode(&record.payload).unwrap());
    let mut keys: Vec<String> = aggregates.map(|of| String::from_utf8_lossy(of.key).into_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["7", "a", longest.as_str()]);
    // A filter has its say before: such messages are then turned away, not kept.
    let filter = "in/+\ndevice = \"field:id\"\nfilter = { payload = { id = [{ exists = true }] } }";
    let mut middle = Middle::new(&[COUNTER], &function("count", &[filter]));
    middle.take(publish("in/x", b"{}"));
    assert_eq!((middle.gateway.books().filtered, middle.gateway.books().dead_lettered), (1, 0));
}

#[test]
fn fields_of_another_type_than_the_function_reads_are_counted_and_said() {
    let mut middle = Middle::new(&[COUNTER], &function("count", &["in/+"]));
    for (payload, misfits, said) in [
        (r#"{"samples":[1],"on":1}"#, 0, ""),
        ("{}", 0, ""),
        (r#"{"samples":null}"#, 1, "field samples on in/x: null is of another type than the function reads there"),
        (r#"{"samples":"1,2","on":{}}"#, 2, ""),
        // Read as a whole number, then as text: it is what the second finds.
        (r#"{"on":"yes"}"#, 2, ""),
        (r#"{"on":null}"#, 3, ""),
        (r#"{"samples":[1],"on":true}"#, 3, ""),
    ] {
        middle.take(publish("in/x", payload.as_bytes()));
        assert_eq!(middle.gateway.status().functions[0].misfits, misfits, "{payload}");
        let log: Vec<&str> = middle.effects.log.iter().map(|line| line.text.as_str()).collect();
        assert!(log.iter().any(|line| line.contains(said)) || said.is_empty(), "{payload}: {log:?}");
    }
}
