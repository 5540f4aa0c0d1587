//! Functions that break, run on or want too much, beside one that does its work; and files that are no functions.

use std::fs;

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::guests::{Guest, METER};
use super::{settled, unconnected, wait_for_subscription};

const TRAP: Guest = Guest {
    name: "trap",
    body: r#"(func $deep unreachable)
             (func (export "on_event") (param i32) (result i32) (call $deep) (i32.const 0))"#,
    manifest: "",
};

const SPIN: Guest = Guest {
    name: "spin",
    body: r#"(func (export "on_event") (param i32) (result i32) (loop $again (br $again)) (i32.const 0))"#,
    manifest: "[limits]\nfuel = 100_000\n",
};

const GREED: Guest = Guest {
    name: "greed",
    body: r#"(module (memory (export "memory") 1) (global (export "weir_abi") i32 (i32.const 1))
               (func (export "weir_buf") (result i64) (i64.const 0x400_0000_2000))
               (func (export "on_event") (param i32) (result i32) (memory.grow (i32.const 1000))))"#,
    manifest: "",
};

const CODE: Guest = Guest {
    name: "code",
    body: r#"(func (export "on_event") (param i32) (result i32) (i32.const -42))"#,
    manifest: "",
};

#[test]
fn hostile_functions_fail_by_name_beside_a_good_one() {
    let broker = Broker::start(&Conf::wide());
    let hostile = [TRAP, SPIN, GREED, CODE];
    let mut site = String::new();
    for guest in hostile.iter().chain([&METER]) {
        site += &format!("[[function]]\npath = \"{}\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n", guest.name);
    }
    let mut gateway = unconnected(&broker.url(), &site);
    hostile.iter().chain([&METER]).for_each(|guest| guest.install(&gateway));
    gateway.start();
    wait_for_subscription(&mut gateway);
    let count = 50;
    publish(broker.port(), (1..=count).map(|_| reading("site/d/temp", r#"{"temp":1,"seq":1}"#)).collect());
    let (ledger, numbers) = settled(&mut gateway, count);
    assert_eq!(ledger.readings("meter.total"), count as u64, "the good one has done its work");
    assert_eq!(numbers.settled("dead-lettered"), count as f64, "a message that failed anywhere is a dead letter");
    let letters = ledger.dead_letters();
    assert_eq!(letters.len(), hostile.len() * count);
    for (function, error, says) in [
        ("trap", "trap", "unreachable"),
        ("spin", "out-of-fuel", "100000"),
        ("greed", "out-of-memory", "62.6 MiB"),
        ("code", "refused", "42"),
    ] {
        let its =
            ledger.records.iter().filter(|record| record.fields.get("function").is_some_and(|name| name == function));
        let mut seen = 0;
        for letter in its {
            let (kind, text) = (letter.fields["error"].as_str().unwrap(), letter.fields["message"].as_str().unwrap());
            assert!(kind == error && text.contains(says), "{function}: {kind}: {text}");
            seen += 1;
        }
        assert_eq!(seen, count, "{function}");
        let errors: f64 = numbers.get(&format!("function_errors_total{{function=\"{function}\",kind=\"{error}\"}}"));
        assert_eq!(errors, count as f64, "{function}");
    }
}

#[test]
fn a_file_that_is_no_function_is_refused_at_the_start_by_name_and_reason() {
    let text = |imports: &str, memory: &str| {
        let wat = format!(
            r#"(module {imports} (memory (export "memory") {memory}) (global (export "weir_abi") i32 (i32.const 1))
               (func (export "weir_buf") (result i64) (i64.const 0x400_0000_2000))
               (func (export "on_event") (param i32) (result i32) (i32.const 0)))"#
        );
        wat::parse_str(wat).unwrap()
    };
    for (wasm, says) in [
        (b"this is not wasm".to_vec(), "it is no WebAssembly at all"),
        (text(r#"(import "weir1" "format_disk" (func))"#, "1"), "format_disk"),
        (text(r#"(import "wasi_snapshot_preview1" "fd_write" (func))"#, "1"), "fd_write"),
        (text("", "900"), "memory"),
    ] {
        let site = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n";
        let mut gateway = unconnected("mqtt://127.0.0.1:1", site);
        METER.install(&gateway);
        fs::write(gateway.path("meter/meter.wasm"), wasm).unwrap();
        gateway.start();
        let status = gateway.wait_for_end();
        let log = gateway.log();
        assert!(status.code() == Some(78) && log.contains("meter") && log.contains(says), "{status}: {log}");
    }
}
