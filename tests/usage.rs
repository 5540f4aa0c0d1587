//! What functions used: counted, told in records of periods, and in REPORT lines.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use support::middle::{Middle, NOW, publish};
use weir::function::UsageRecord;

/// Keeps what is longer than 2 bytes, traps at exactly 2, is done with the rest and emits one byte on `out`.
const SORTER: (&str, &str, &str) = (
    "sorter",
    r#"
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "out")
  (func (export "on_event") (param $ev i32) (result i32)
    (if (i32.gt_u (i32.load offset=36 (local.get $ev)) (i32.const 2)) (then (return (i32.const 1))))
    (if (i32.eq (i32.load offset=36 (local.get $ev)) (i32.const 2)) (then unreachable))
    (drop (call $emit (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 1)))
    (i32.const 2))"#,
    "emits = [\"out\"]\nkeep-prefix = \"kept/\"",
);
const SITE: &str = "[[function]]\npath = \"sorter\"\n[[function.trigger]]\nmqtt = \"in/+\"\n";

fn hourly() -> Middle {
    Middle::with_gateway(&[SORTER], "usage-interval = \"1 h\"", SITE)
}

const HOUR: i64 = 3_600_000;

/// The usage records that are made until then: (begin, end, calls, errors, bytes in, bytes out).
fn told(middle: &mut Middle, until: i64) -> Vec<(i64, i64, u64, u64, u64, u64)> {
    let left = middle.records_until(until);
    let records = left.into_iter().filter(|left| left.topic == "usage/sorter");
    let read = records.map(|left| {
        let UsageRecord { start_ms, end_ms, usage } = UsageRecord::decode(&left.payload).unwrap();
        (start_ms - NOW, end_ms - NOW, usage.invocations, usage.errors_total(), usage.bytes_in, usage.bytes_out)
    });
    read.collect()
}

#[test]
fn a_kept_message_counts_as_bytes_put_out_with_its_topic_and_a_failed_one_does_not() {
    let mut middle = Middle::new(&[SORTER], SITE);
    let mut out = Vec::new();
    for payload in [&b"0123456789"[..], b"1", b"22", b""] {
        middle.take(publish("in/a", payload));
        let usage = middle.gateway.status().functions[0].usage;
        out.push((usage.bytes_in, usage.bytes_out));
    }
    // kept/in/a and ten bytes; out and one; nothing of the trap; out and one.
    assert_eq!(out, [(10, 19), (11, 23), (13, 23), (13, 27)]);
}

#[test]
fn usage_is_told_each_period_and_once_also_over_crashes() {
    let mut middle = hourly();
    assert_eq!(told(&mut middle, NOW + HOUR / 2), []);
    for payload in [&b"123"[..], b"22"] {
        middle.take(publish("in/a", payload));
    }
    assert_eq!(told(&mut middle, NOW + HOUR), [(0, HOUR, 2, 1, 5, 12)]);
    // What was committed in the period is told after a crash; the period goes on where it was.
    middle.take(publish("in/a", b"123"));
    middle.seal();
    let mut middle = middle.restarted();
    middle.take(publish("in/a", b"1234"));
    middle.seal();
    assert_eq!(told(&mut middle, NOW + 3 * HOUR), [(HOUR, 3 * HOUR, 2, 0, 7, 25)]);
    // A record that was told and committed is not told again.
    let mut middle = middle.restarted();
    assert_eq!(told(&mut middle, NOW + 6 * HOUR), [], "nothing was called");
    middle.take(publish("in/a", b"123"));
    assert_eq!(told(&mut middle, NOW + 7 * HOUR).len(), 1);
}

#[test]
fn a_gateway_that_is_not_asked_for_usage_tells_none_and_one_that_is_begins_when_it_was() {
    let mut middle = Middle::new(&[SORTER], SITE);
    middle.take(publish("in/a", b"123"));
    assert_eq!(told(&mut middle, NOW + 5 * HOUR), []);
    let mut middle = middle.changed("[gateway]", "[gateway]\nusage-interval = \"1 h\"");
    middle.take(publish("in/a", b"123"));
    let told = told(&mut middle, NOW + 6 * HOUR);
    assert_eq!((told.len(), told[0].2), (1, 1), "the call before is of no period");
}

#[test]
fn a_report_line_is_written_for_every_call_that_is_asked_for_one_whatever_its_outcome() {
    let mut middle =
        Middle::new(&[SORTER], &SITE.replacen("[[function.trigger]]", "report = true\n[[function.trigger]]", 1));
    for payload in [&b"123"[..], b"22", b"1"] {
        middle.take(publish("in/a", payload));
    }
    let lines: Vec<String> = middle
        .effects
        .log
        .iter()
        .filter(|line| line.text.starts_with("REPORT ") && line.source == "sorter" && line.level == log::Level::Info)
        .map(|line| line.text.clone())
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, (sequence, outcome)) in lines.iter().zip([(1, "keep"), (2, "trap"), (3, "done")]) {
        let begin = format!("REPORT sequence: {sequence} version: 1 duration: 0.000 ms fuel: ");
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.ends_with(&format!(" peak memory: 64 KiB outcome: {outcome}")), "{line}");
        let fuel = line[begin.len()..].split(' ').next().unwrap().parse::<u64>().unwrap();
        assert!(0 < fuel && fuel < 200, "{line}");
    }
    let mut silent = Middle::new(&[SORTER], SITE);
    silent.take(publish("in/a", b"123"));
    assert!(silent.effects.log.iter().all(|line| !line.text.starts_with("REPORT")));
}
