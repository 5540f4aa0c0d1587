//! `weir dlq`: what no function could handle, tried against another version, replayed, thrown away; and the books stay right.

use std::path::Path;

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::gateway::{Gateway, Numbers};
use super::support::guests::Guest;
use super::support::ledger::Ledger;
use super::{Answer, head, tool, wait};

/// Adds `temp` to the counter `total` and keeps the message; traps above 100 in version 1.
const BODY: &str = r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "temp") (data (i32.const 16) "total") (data (i32.const 32) "hot/replayed")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 0) (i32.const 4)))
    (drop (call $meter (i32.const 16) (i32.const 5)))
    (i32.const 0))
  (func (export "on_event") (param $ev i32) (result i32) (local $temp f64)
    (local.set $temp (f64.load (i32.load offset=52 (local.get $ev))))
    (if (f64.gt (local.get $temp) (f64.const LIMIT)) (then (unreachable)))
    ;; Flag 16: a dead letter that is handled once more.
    (if (i32.and (i32.load offset=4 (local.get $ev)) (i32.const 16))
      (then (drop (call $emit (i32.const 32) (i32.const 12) (i32.const 0) (i32.const 4)))))
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (local.get $temp)))
    (i32.const 1))
"#;

fn manifest(version: &str) -> String {
    format!(
        "version = \"{version}\"\nemits = [\"hot/#\"]\n[[meter]]\nname = \"total\"\nkind = \"counter\"\nwindow = \"1 s\"\nlateness = \"500 ms\"\n"
    )
}

/// Puts a version into the folder `adder` (or another one).
fn install(gateway: &Gateway, folder: &str, version: &str, limit: &str) {
    let body = BODY.replace("LIMIT", limit);
    let guest = Guest { name: "adder", body: Box::leak(body.into_boxed_str()), manifest: manifest(version).leak() };
    guest.install(gateway);
    if folder != "adder" {
        std::fs::rename(gateway.path("adder"), gateway.path(folder)).unwrap();
    }
}

const FUNCTION: &str = "[[function]]\npath = \"adder\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n";
const FILES: &str = "[[sink]]\nname = \"disk\"\ntype = \"file\"\ndir = \"upstream\"\n";

/// A gateway that has taken 1, 2 and 3 well, and 101, 102 and 103 as dead letters 1 to 3.
fn failed() -> (Broker, Gateway) {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&(head(&broker.url()) + FUNCTION + FILES));
    install(&gateway, "fixed", "2.0.0", "1000");
    install(&gateway, "adder", "1.0.0", "100");
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    let temps = [1, 2, 3, 101, 102, 103];
    publish(broker.port(), temps.iter().map(|temp| reading("site/d/temp", format!(r#"{{"temp":{temp}}}"#))).collect());
    gateway.wait_for("the letters", |numbers| {
        numbers.settled("dead-lettered") == 3.0 && numbers.waiting("dead-letter") == 3.0
    });
    wait("three committed letters", || {
        tool(&gateway, "dlq list --json").json()["letters"].as_array().unwrap().len() == 3
    });
    (broker, gateway)
}

/// Version 2.0.0 takes the place of 1.0.0.
fn deploy(gateway: &Gateway) {
    std::fs::remove_dir_all(gateway.path("adder")).unwrap();
    copy(&gateway.path("fixed"), &gateway.path("adder"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn outcomes(answer: &Answer) -> Vec<(u64, String)> {
    let outcomes = answer.json()["outcomes"].as_array().unwrap().clone();
    let said = |one: &serde_json::Value| one["outcome"].as_str().unwrap_or("refused").to_owned();
    outcomes.iter().map(|one| (one["seq"].as_u64().unwrap(), said(one))).collect()
}

fn numbers(gateway: &mut Gateway, what: &str, total: f64) -> Numbers {
    gateway.wait_for(what, |numbers| {
        numbers.settled("delivered") == total
            && numbers.get("window_cells") == 0.0
            && numbers.waiting("telemetry") == 0.0
    })
}

/// What came upstream: the counter's total and the kept messages.
fn upstream(gateway: &Gateway) -> (f64, usize) {
    let mut ledger = Ledger::default();
    ledger.take_files(&gateway.path("upstream"));
    ledger.assert_whole();
    let text: String = std::fs::read_dir(gateway.path("upstream"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let (mut total, mut kept) = (0.0, 0);
    let mut seen = std::collections::BTreeSet::new();
    for record in text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        if !seen.insert((record["lane"].to_string(), record["seq"].as_u64())) {
            continue;
        }
        match record["kind"].as_str() {
            Some("aggregate") => total += record["sum"].as_f64().unwrap(),
            Some("message") if record["topic"] == "adder/site/d/temp" => kept += 1,
            _ => {}
        }
    }
    (total, kept)
}

#[test]
fn a_letter_is_listed_shown_and_tried_against_another_version_without_a_change() {
    let (_broker, gateway) = failed();
    let list = tool(&gateway, "dlq list");
    assert!(list.code == 1 && list.out.lines().count() == 4 && list.out.contains("adder@1.0.0"), "{}", list.out);
    let shown = tool(&gateway, "dlq show 2");
    for want in ["adder version 1.0.0", "trap", "site/d/temp", "device       d", "{\"temp\":102}"] {
        assert!(shown.code == 0 && shown.out.contains(want), "{want}: {}", shown.out);
    }
    let absent = tool(&gateway, "dlq show 77");
    assert!(absent.code == 1 && absent.err.contains("there is no dead letter 77"), "{}", absent.err);
    // The version that failed fails again; the other one would meter and keep it.
    let again = tool(&gateway, "dlq replay 2 --try");
    assert!(again.code == 2 && again.out.contains("would make of it: dead-lettered"), "{}", again.out);
    let fixed = tool(&gateway, "dlq replay 2 --try --bundle fixed --function adder@2.0.0 --json");
    let tried = fixed.json()["tried"][0].clone();
    assert_eq!((fixed.code, &tried["outcome"], &tried["version"]), (0, &"record".into(), &"2.0.0".into()), "{tried:#}");
    assert_eq!(tried["meters"][0], serde_json::json!({ "meter": "total", "key": null, "value": 102.0 }));
    assert_eq!(tried["emits"][0]["topic"], "hot/replayed", "the function is told that it is a replay");
    assert_eq!(
        tried["records"].as_array().unwrap().iter().filter(|record| record["topic"] == "adder/site/d/temp").count(),
        1
    );
    let wrong = tool(&gateway, "dlq replay 2 --try --bundle fixed --function adder@3");
    assert!(wrong.code == 2 && wrong.out.contains("which is configured at version 2.0.0"), "{}", wrong.out);
    let numbers = gateway.numbers().unwrap();
    assert_eq!((numbers.get("messages_replayed_total"), numbers.waiting("dead-letter")), (0.0, 3.0));
}

#[test]
fn replays_through_a_running_gateway_count_once_over_kills() {
    let (_broker, mut gateway) = failed();
    // The configured version is the one that failed: each failure is a letter again.
    let answer = tool(&gateway, "dlq replay 3 --json");
    assert_eq!((answer.code, outcomes(&answer)), (2, vec![(3, "dead-lettered".to_owned())]));
    let refused = tool(&gateway, "dlq replay --all --function adder@2.0.0 --json");
    assert!(refused.code == 2 && refused.out.contains("configured at version 1.0.0"), "{}", refused.out);
    gateway.stop();
    deploy(&gateway);
    gateway.start_and_wait();
    // Out of turn, and killed as soon as it has answered.
    let answer = tool(&gateway, "dlq replay 2 --function adder@2.0.0 --json");
    assert_eq!((answer.code, outcomes(&answer)), (0, vec![(2, "record".to_owned())]), "{}", answer.err);
    gateway.kill();
    gateway.start_and_wait();
    let answer = tool(&gateway, "dlq replay 2 --json");
    assert_eq!((answer.code, outcomes(&answer)), (2, vec![(2, "refused".to_owned())]), "it has left already");
    let answer = tool(&gateway, "dlq replay --all --json");
    assert_eq!(answer.code, 0, "{}{}", answer.out, answer.err);
    assert_eq!(outcomes(&answer).len(), 2, "{}", answer.out);
    let numbers = numbers(&mut gateway, "everything delivered", 6.0);
    assert_eq!(numbers.get("messages_received_total"), 6.0);
    assert_eq!(numbers.get("messages_replayed_total"), 4.0, "one of them failed again");
    assert_eq!(numbers.settled("dead-lettered"), 4.0);
    let replayed = "lane_records_total{lane=\"dead-letter\",outcome=\"replayed\"}";
    assert_eq!(numbers.get(replayed), 4.0);
    assert!(tool(&gateway, "dlq list").code == 0);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_eq!(upstream(&gateway), (312.0, 6));
}

#[test]
fn a_stopped_gateways_letters_are_replayed_and_purged_on_its_store() {
    let (_broker, mut gateway) = failed();
    gateway.kill();
    deploy(&gateway);
    let answer = tool(&gateway, "dlq replay 2 --json");
    assert_eq!((answer.code, outcomes(&answer)), (0, vec![(2, "record".to_owned())]), "{}", answer.err);
    let answer = tool(&gateway, "dlq purge 1 --json");
    assert_eq!((answer.code, outcomes(&answer)), (0, vec![(1, "purged".to_owned())]), "{}", answer.err);
    let list = tool(&gateway, "dlq list --json").json();
    assert_eq!(
        list["letters"].as_array().unwrap().iter().map(|letter| letter["seq"].as_u64()).collect::<Vec<_>>(),
        [Some(3)]
    );
    assert_eq!(tool(&gateway, "store check").code, 0);
    gateway.start_and_wait();
    let answer = tool(&gateway, "dlq purge --all");
    assert!(answer.code == 0 && answer.out == "3: purged\n", "{}", answer.out);
    let numbers = numbers(&mut gateway, "what was replayed", 4.0);
    let left =
        |outcome: &str| numbers.get(&format!("lane_records_total{{lane=\"dead-letter\",outcome=\"{outcome}\"}}"));
    assert_eq!((left("replayed"), left("purged")), (1.0, 2.0));
    gateway.stop();
    assert_eq!(upstream(&gateway), (1.0 + 2.0 + 3.0 + 102.0, 4));
}

#[test]
fn what_leaves_the_lane_out_of_turn_is_said_upstream_where_the_lane_has_a_sink() {
    let broker = Broker::start(&Conf::wide());
    let away = super::support::broker::free_port();
    let lanes = "[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\nsink = \"disk\"\n[[lane]]\nname = \"dead-letter\"\nsink = \"cloud\"\n";
    let cloud = format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{away}\"\n");
    let mut gateway = Gateway::new(&(head(&broker.url()) + FUNCTION + lanes + FILES + &cloud));
    install(&gateway, "adder", "1.0.0", "0");
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    publish(broker.port(), (1..=3).map(|temp| reading("site/d/temp", format!(r#"{{"temp":{temp}}}"#))).collect());
    gateway.wait_for("the letters", |numbers| numbers.waiting("dead-letter") == 3.0);
    wait("a purge", || tool(&gateway, "dlq purge 2").code == 0);
    gateway.stop();
    // The upstream comes back: it gets letters 1 and 3 at least, and is told about 2.
    gateway.configure(&(head(&broker.url()) + FUNCTION + &lanes.replace("cloud", "disk") + FILES));
    gateway.start_and_wait();
    let told = || {
        let Ok(files) = std::fs::read_dir(gateway.path("upstream")) else { return false };
        let text: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).any(|record| {
            record["kind"] == "loss"
                && record["reason"] == "purged"
                && record["first_seq"] == 2
                && record["records"] == 1
        })
    };
    wait("the loss record", told);
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let broker = Broker::start(&Conf::wide());
    // A letter keeps a payload whole that takes at most a quarter of its lane.
    let small = "[store]\nsegment-bytes = \"64 KiB\"\n[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\n[[lane]]\nname = \"dead-letter\"\nbytes-max = \"128 KiB\"\n";
    let mut gateway = Gateway::new(&(head(&broker.url()) + small + FUNCTION + FILES));
    install(&gateway, "adder", "1.0.0", "0");
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    let long = format!(r#"{{"temp":5,"pad":"{}"}}"#, "x".repeat(40_000));
    let want = format!("only the first 4096 of {} bytes of its message were kept", long.len());
    publish(broker.port(), vec![reading("site/d/temp", long)]);
    gateway.wait_for("the letter", |numbers| numbers.waiting("dead-letter") == 1.0);
    wait("an answer", || {
        let answer = tool(&gateway, "dlq replay 1");
        answer.code == 2 && answer.out.contains(&want)
    });
    for (line, want) in [
        ("dlq replay", "wants the numbers of letters, or --all"),
        ("dlq replay 1 --all", "wants the numbers of letters, or --all"),
        ("dlq replay 1 --bundle x", "--bundle goes with --try"),
        ("dlq show", "wants the number of one letter"),
        ("dlq lits", "did you mean `list`?"),
    ] {
        let answer = tool(&gateway, line);
        assert!(answer.code == 64 && answer.err.contains(want), "{line}: {}", answer.err);
    }
}
