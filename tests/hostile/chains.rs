//! Functions that call each other, and themselves: a message sets off a bounded number of calls, and the books balance.

use std::time::{Duration, Instant};

use weir::effect::LOG_LINES_MAX;

use super::middle::{Guest, Middle, publish};

const EMIT: &str = r#"(import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))"#;

/// A handler that emits to the topic (of five letters) as often as it may, with a payload of so many bytes.
fn flood(topic: &str, payload: usize) -> String {
    format!(
        r#"{EMIT}
        (data (i32.const 16) "{topic}")
        (func (export "on_event") (param i32) (result i32)
          (loop $again
            (br_if $again (i32.eqz (call $emit (i32.const 16) (i32.const 5) (i32.const 4096) (i32.const {payload})))))
          (i32.const 2))"#
    )
}

fn manifest(topic: &str, emits: usize) -> String {
    format!("emits = [\"{topic}\"]\n[limits]\nemits = {emits}\nemit-bytes = \"1 MiB\"\n")
}

/// What one message may set off at most: itself, and the outputs that fit the chain.
const CHAIN_CALLS_MAX: u64 = 1 + 256;

fn calls(middle: &Middle) -> u64 {
    middle.gateway.status().functions.iter().map(|function| function.usage.invocations).sum()
}

fn balances(middle: &mut Middle, received: u64) {
    let _ = middle.seal();
    let status = middle.gateway.status();
    assert_eq!((middle.gateway.books().received, status.residue), (received, 0));
}

/// Runs one message into the site, in bounded time and heap; how many calls it cost.
fn cost(guests: &[Guest<'_>], site: &str) -> u64 {
    let mut middle = Middle::new(guests, site);
    let began = Instant::now();
    let heap = allocation_counter::measure(|| middle.take(publish("in/a", b"{}")));
    assert!(heap.bytes_max < 16 << 20, "{} bytes", heap.bytes_max);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    balances(&mut middle, 1);
    calls(&middle)
}

/// `count` functions in a row: the first is woken by messages and each other one by what the one before it emits.
fn row(count: usize, payload: usize, emits: usize) -> u64 {
    let names: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
    let parts: Vec<(String, String)> = (1..=count)
        .map(|next| {
            let topic = format!("to{next:02}/");
            let topic = &topic[..5];
            (flood(topic, payload), manifest(topic, emits))
        })
        .collect();
    let guests: Vec<Guest<'_>> =
        names.iter().zip(&parts).map(|(name, (body, own))| (name.as_str(), body.as_str(), own.as_str())).collect();
    let mut site = String::new();
    for (n, name) in names.iter().enumerate() {
        let trigger = if n == 0 { "mqtt = \"in/#\"".to_owned() } else { format!("chain = \"to{n:02}/#\"") };
        site += &format!("[[function]]\npath = \"{name}\"\n[[function.trigger]]\n{trigger}\n");
    }
    cost(&guests, &site)
}

#[test]
fn functions_that_wake_each_other_in_a_circle_are_refused_before_they_run() {
    let circle = |site: &str, guests: &[Guest<'_>]| {
        let refused = std::panic::catch_unwind(|| Middle::new(guests, site)).map(drop).unwrap_err();
        let text = refused.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.contains("chain loop"), "{text}");
    };
    let (own, ping, pong) = (flood("own/a", 1), flood("bbb/a", 1), flood("aaa/a", 1));
    let (of_own, of_ping, of_pong) = (manifest("own/+", 1), manifest("bbb/#", 1), manifest("+/a", 1));
    circle(
        "[[function]]\npath = \"own\"\n[[function.trigger]]\nmqtt = \"in/#\"\n[[function.trigger]]\nchain = \"#\"\n",
        &[("own", &own, &of_own)],
    );
    circle(
        r#"
[[function]]
path = "ping"
[[function.trigger]]
mqtt = "in/#"
[[function.trigger]]
chain = "aaa/+"
[[function]]
path = "pong"
[[function.trigger]]
chain = "bbb/a"
"#,
        &[("ping", &ping, &of_ping), ("pong", &pong, &of_pong)],
    );
    // What is kept goes on as well, under a prefix of the function's choice.
    let keeps = r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#;
    circle(
        "[[function]]\npath = \"keeps\"\n[[function.trigger]]\nchain = \"k/#\"\n",
        &[("keeps", keeps, "keep-prefix = \"k/\"\n")],
    );
}

#[test]
fn a_row_of_functions_ends_at_the_limit_of_hops() {
    // The message, and four hops, the default.
    assert_eq!(row(5, 1, 1), 5);
    assert_eq!(row(9, 1, 1), 5);
}

#[test]
fn functions_that_multiply_what_they_get_are_bounded_by_the_chain() {
    // Four times a thousand outputs each would be a million million calls.
    let calls = row(5, 8, 1024);
    assert!(100 < calls && calls <= CHAIN_CALLS_MAX, "{calls}");
}

#[test]
fn large_outputs_down_a_chain_are_bounded_in_bytes() {
    let calls = row(5, 60_000, 1024);
    assert!(calls <= 1 + 4 * 18, "{calls}");
}

#[test]
fn many_functions_on_one_topic_are_each_called_once_for_each_output() {
    let (head, tail) = (flood("to01/", 1), "(func (export \"on_event\") (param i32) (result i32) (i32.const 0))");
    let names: Vec<String> = (0..16).map(|n| format!("tail{n}")).collect();
    let own = manifest("to01/", 1024);
    let mut guests: Vec<Guest<'_>> = vec![("head", &head, &own)];
    guests.extend(names.iter().map(|name| (name.as_str(), tail, "")));
    let mut site = "[[function]]\npath = \"head\"\n[[function.trigger]]\nmqtt = \"in/#\"\n".to_owned();
    for name in &names {
        site += &format!("[[function]]\npath = \"{name}\"\n[[function.trigger]]\nchain = \"to01/#\"\n");
    }
    assert_eq!(cost(&guests, &site), 1 + 256 * 16);
}

#[test]
fn a_flood_of_log_lines_waits_in_bounded_room_and_the_rest_is_counted() {
    let body = r#"(import "weir1" "log" (func $log (param i32 i32 i32)))
        (func (export "on_event") (param i32) (result i32) (local $n i32)
          (loop $again (call $log (i32.const 1) (i32.const 4096) (i32.const 2000))
            (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
          (i32.const 0))"#;
    let site = "[[function]]\npath = \"loud\"\nreport = true\n[[function.trigger]]\nmqtt = \"in/#\"\n";
    let mut middle = Middle::new(&[("loud", body, "[limits]\nlog = \"64 KiB\"\n")], site);
    let heap = allocation_counter::measure(|| (0..1000).for_each(|_| middle.take(publish("in/a", b"{}"))));
    assert!(heap.bytes_max < 4 << 20, "{} bytes", heap.bytes_max);
    let effects = middle.seal();
    assert!(effects.log.len() == LOG_LINES_MAX && 10_000 < effects.log_lost, "{}", effects.log_lost);
}
