//! Payloads that are broken, empty, huge, of another type or of another time.

use weir::record::RecordKind;

use super::support::broker::{Broker, Conf};
use super::support::device::{Publish, publish, reading};
use super::support::gateway::{Gateway, example};
use super::support::guests::{Guest, METER};
use super::{settled, unconnected, wait_for_subscription};

/// `meter` reading CBOR.
const CBOR: Guest = Guest { name: "meter-cbor", ..METER };

fn site() -> String {
    let threshold = example("threshold");
    format!(
        r#"
[[function]]
path = "meter"
[[function.trigger]]
mqtt = "site/+/temp"
time-field = "ts"
time-unit = "ms"
[[function]]
path = "meter-cbor"
[[function.trigger]]
mqtt = "cbor/+/temp"
codec = "cbor"
[[function]]
path = "{threshold}"
[[function.trigger]]
mqtt = "typed/+/temp"
"#
    )
}

fn start(broker: &Broker) -> Gateway {
    let mut gateway = unconnected(&broker.url(), &site());
    METER.install(&gateway);
    CBOR.install(&gateway);
    gateway.start();
    wait_for_subscription(&mut gateway);
    gateway
}

/// JSON of so many bytes.
fn padded(bytes: usize) -> String {
    let head = r#"{"temp":1,"seq":1,"pad":""#;
    format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2))
}

/// Of an MQTT 5 publish with an empty set of properties, QoS 1, on `site/d/temp`.
const HEAD: usize = 1 + 3 + 2 + "site/d/temp".len() + 2 + 1;

#[test]
fn broken_empty_and_huge_payloads_are_dead_letters_that_say_what_and_where() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = start(&broker);
    let cases: Vec<(Publish, &str, &str)> = [
        ("site/d/temp", r#"{"temp":"#.as_bytes().to_vec(), "malformed", "malformed Json at byte 8"),
        ("site/d/temp", b"nonsense".to_vec(), "malformed", "at byte 1"),
        ("site/d/temp", Vec::new(), "malformed", "at byte 0"),
        ("site/d/temp", br#"{"temp":1} trailing"#.to_vec(), "malformed", "at byte 11"),
        ("site/d/temp", b"\xff\xfe{}".to_vec(), "malformed", "at byte 0"),
        ("cbor/d/temp", vec![0xa1, 0x64, b't', b'e'], "malformed", "malformed Cbor at byte"),
        ("cbor/d/temp", Vec::new(), "malformed", "malformed Cbor at byte 0"),
        ("site/d/temp", padded(65_537).into(), "too-large", "65537 bytes; gateway.payload-max allows 65536"),
        ("site/d/temp", padded(256 * 1024).into(), "too-large", "262144 bytes; gateway.payload-max allows 65536"),
        ("site/d/temp", padded(512 * 1024 - HEAD).into(), "too-large", "gateway.payload-max allows"),
        ("site/d/temp", padded(512 * 1024 + 1 - HEAD).into(), "poison", "broker.packet-max"),
        ("site/d/temp", padded(3 * 1024 * 1024).into(), "poison", "broker.packet-max"),
    ]
    .into_iter()
    .map(|(topic, payload, error, says)| (reading(topic, payload), error, says))
    .collect();
    // The largest that is taken, and one behind all the bad ones.
    let good = [reading("site/d/temp", padded(65_536)), reading("site/d/temp", r#"{"temp":2.5,"seq":2}"#)];
    let [first, last] = good;
    let mut all = vec![first];
    all.extend(cases.iter().map(|(publish, ..)| publish.clone()));
    all.push(last);
    publish(broker.port(), all);
    let (ledger, numbers) = settled(&mut gateway, cases.len() + 2);
    let letters = ledger.dead_letters();
    assert_eq!(letters.len(), cases.len());
    for ((error, says), (publish, wanted, part)) in letters.iter().zip(&cases) {
        let start = String::from_utf8_lossy(&publish.payload[..publish.payload.len().min(30)]).into_owned();
        assert!(error == wanted && says.contains(part), "{start}: {error}: {says}");
    }
    for part in ["dead letter (malformed) on site/d/temp", "dead letter (too-large)", "dead letter (poison)"] {
        assert!(gateway.log().contains(part), "the log says nothing of it: {part}");
    }
    let topics = ledger.records.iter().filter(|record| record.kind == RecordKind::DeadLetter);
    for (letter, (publish, ..)) in topics.zip(&cases) {
        assert_eq!(letter.fields["message_topic"], publish.topic.as_str());
    }
    assert_eq!(numbers.settled("dead-lettered"), cases.len() as f64);
    let (_, stats) = ledger.meter("meter.total").next().unwrap();
    assert_eq!((stats.count, stats.sum.to_f64()), (2, 3.5), "the good ones are metered");
}

#[test]
fn fields_of_another_type_and_nan_change_no_meter() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = start(&broker);
    let nan: &[u8] = b"\xa2\x64temp\xf9\x7e\x00\x63seq\x01";
    let infinite: &[u8] = b"\xa2\x64temp\xf9\x7c\x00\x63seq\x01";
    let good: &[u8] = b"\xa2\x64temp\xf9\x3e\x00\x63seq\x01";
    publish(
        broker.port(),
        vec![
            reading("typed/d/temp", r#"{"temp":"hot"}"#),
            reading("typed/d/temp", r#"{"temp":null}"#),
            reading("typed/d/temp", r#"{"temp":[90]}"#),
            reading("typed/d/temp", "[]"),
            reading("cbor/d/temp", nan),
            reading("cbor/d/temp", infinite),
            reading("cbor/d/temp", good),
        ],
    );
    let (ledger, numbers) = settled(&mut gateway, 7);
    // Nothing was folded of NaN and infinity.
    let fates = ["filtered", "aggregated", "dead-lettered"].map(|fate| numbers.settled(fate));
    assert_eq!(fates, [6.0, 1.0, 0.0], "{}", numbers.text);
    // `[]` has no such field, which is no fault.
    let misfits = |function: &str| numbers.get(&format!("function_misfits_total{{function=\"{function}\"}}"));
    assert_eq!((misfits("threshold"), misfits("meter-cbor"), misfits("meter")), (3.0, 2.0, 0.0));
    for part in [
        r#"threshold: field temp on typed/d/temp: the text "hot" is no finite number"#,
        "meter-cbor: field temp on cbor/d/temp: NaN is no finite number",
    ] {
        assert!(gateway.log().contains(part), "the log does not say `{part}`:\n{}", gateway.log());
    }
    let (_, stats) = ledger.meter("meter-cbor.total").next().unwrap();
    assert_eq!((stats.count, stats.sum.to_f64()), (1, 1.5));
}

#[test]
fn readings_from_1970_and_2099_are_counted_once_and_their_times_told() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = start(&broker);
    let at = |ts: &str| reading("site/d/temp", format!(r#"{{"temp":1,"seq":1,"ts":{ts}}}"#));
    let times = ["0", "1000", "4070908800000", "1e300", "-5", "9007199254740993", "\"today\"", "null"];
    publish(broker.port(), times.map(at).to_vec());
    let (ledger, numbers) = settled(&mut gateway, times.len());
    let (_, stats) = ledger.meter("meter.total").next().unwrap();
    assert_eq!((stats.count, stats.sum.to_f64()), (times.len() as u64, times.len() as f64), "{}", gateway.log());
    assert_eq!(numbers.settled("aggregated"), times.len() as f64);
    // None of them can be believed, so none is late: all were metered at the time of their arrival.
    assert_eq!((numbers.get("event_time_skewed_total"), numbers.get("window_late_total")), (8.0, 0.0));
    let said = "meter: field ts on site/d/temp: 0 is no time in ms that can be believed; the time of arrival is taken";
    assert!(gateway.log().contains(said), "the log does not say `{said}`:\n{}", gateway.log());
}

#[test]
fn a_flood_of_poison_does_not_flood_the_log() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = start(&broker);
    let count = 5000;
    publish(broker.port(), (0..count).map(|number| reading("site/d/temp", format!("broken {number}"))).collect());
    let (ledger, _) = settled(&mut gateway, count);
    assert_eq!(ledger.dead_letters().len(), count);
    let lines = gateway.log().lines().count();
    assert!(lines < 200, "{lines} lines in the log");
}
