//! `weir store`: looks without touching, tells what is wrong and what it costs, and repairs what a start repairs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::Mount;
use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::{Guest, METER};
use super::{function, head, tool, wait, weir};

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };

/// Every file below, with its bytes.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(content(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            files.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// A gateway without upstream that has kept `count` readings and metered them, in small segments; still running.
fn kept(broker: &Broker, count: usize, sled: bool, snapshots: &str) -> Gateway {
    let small = format!(
        "[store]\nsled = {sled}\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"4 MiB\"\nsnapshot-interval = \"{snapshots}\"\n"
    );
    let config = head(&broker.url()) + &small + &function("keep") + &function("meter");
    let mut gateway = Gateway::new(&config);
    KEEP.install(&gateway);
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    let pad = "x".repeat(1000);
    for (index, chunk) in (0..count).collect::<Vec<_>>().chunks(50).enumerate() {
        let message = |seq: &usize| reading("site/d/temp", format!(r#"{{"temp":1,"seq":{seq},"pad":"{pad}"}}"#));
        publish(broker.port(), chunk.iter().map(message).collect());
        let received = ((index + 1) * 50).min(count) as f64;
        gateway.wait_for("the readings", |numbers| {
            numbers.get("messages_received_total") == received && numbers.waiting("telemetry") >= received
        });
    }
    // The numbers run ahead of the flash by a commit.
    wait("the last commit", || {
        let found = tool(&gateway, "store check --json").json();
        found["lanes"][0]["records"].as_u64().is_some_and(|records| count as u64 <= records)
    });
    gateway
}

#[test]
fn a_check_touches_nothing_beside_a_gateway_or_without() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = kept(&broker, 200, true, "1 s");
    let answer = tool(&gateway, "store check --json");
    let found = answer.json();
    assert_eq!((answer.code, &found["running"], &found["verdict"]), (0, &true.into(), &"sound".into()), "{found:#}");
    assert!(tool(&gateway, "store check").out.contains("a gateway runs on it"));
    // Records wait in the lane, gap-free, in several segments; the same from its folder alone.
    let lane = found["lanes"].as_array().unwrap().iter().find(|lane| lane["name"] == "telemetry").unwrap();
    assert!(lane["records"].as_u64().unwrap() >= 200 && lane["missing_records"] == 0, "{lane:#}");
    assert!(lane["segments"].as_array().unwrap().len() > 2, "{lane:#}");
    assert_eq!(tool(&gateway, "store check --dir weir-data").code, 0);
    gateway.kill();
    let before = content(&gateway.path("weir-data"));
    let answer = tool(&gateway, "store check --json");
    let found = answer.json();
    assert_eq!((answer.code, &found["running"]), (0, &false.into()), "{found:#}");
    for line in ["store dump", "store dump --dir weir-data --limit 3", "dlq list", "dlq show 1"] {
        tool(&gateway, line);
    }
    assert!(content(&gateway.path("weir-data")) == before, "a look has changed something");
    // The gateway finds what the check has found.
    gateway.start_and_wait();
    let numbers = gateway.wait_for("the lane", |numbers| numbers.waiting("telemetry") >= 200.0);
    assert_eq!(numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"damaged\"}"), 0.0);
}

#[test]
fn a_check_works_on_a_read_only_medium() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = kept(&broker, 60, false, "1 s");
    gateway.stop();
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::memory(&folder.path().join("medium")) else {
        eprintln!("skipped: file systems may not be mounted here");
        return;
    };
    let copy = folder.path().join("medium/data");
    let copied = Command::new("cp").arg("-r").arg(gateway.path("weir-data")).arg(&copy).status().unwrap();
    assert!(copied.success());
    mount.make_read_only();
    let answer = weir(folder.path(), "store check --dir medium/data --json");
    let found = answer.json();
    assert_eq!((answer.code, &found["verdict"]), (0, &"sound".into()), "{found:#}{}", answer.err);
    assert!(weir(folder.path(), "store dump --dir medium/data --kind message").out.lines().count() >= 60);
    let answer = weir(folder.path(), "store repair --dir medium/data");
    assert!(answer.code == 74 && answer.err.contains("Read-only"), "{} {}", answer.code, answer.err);
}

#[test]
fn damage_is_charged_to_its_file_repaired_with_a_copy_and_entered_in_the_books() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = kept(&broker, 300, false, "1 s");
    let answer = tool(&gateway, "store repair");
    assert!(answer.code == 75 && answer.err.contains("a gateway runs on it"), "{} {}", answer.code, answer.err);
    gateway.stop();
    let sound = tool(&gateway, "store check --json").json();
    let lane = |found: &serde_json::Value| {
        found["lanes"].as_array().unwrap().iter().find(|lane| lane["name"] == "telemetry").unwrap().clone()
    };
    let segments = lane(&sound)["segments"].as_array().unwrap().clone();
    let (victim, all) = (segments[1]["path"].as_str().unwrap(), segments[1]["records"].as_u64().unwrap());
    let path = gateway.path("weir-data").join(victim);
    let broken: Vec<u8> = fs::read(&path).unwrap().iter().map(|byte| byte ^ 0x55).collect();
    fs::write(&path, &broken).unwrap();

    let answer = tool(&gateway, "store check --json");
    let found = answer.json();
    assert_eq!((answer.code, &found["verdict"]), (2, &"damaged".into()), "{found:#}");
    // Small frames that the journal still has a copy of are not lost.
    let records = lane(&found)["missing_records"].as_u64().unwrap();
    assert!(0 < records && records <= all, "{found:#}");
    assert_eq!(found["damage"][0]["path"], victim, "{found:#}");
    let text = tool(&gateway, "store check").out;
    assert!(text.contains(&format!("{records} records lost")) && text.contains(victim), "{text}");

    let answer = tool(&gateway, "store repair --json");
    let repaired = answer.json();
    assert_eq!((answer.code, &repaired["damage"][0]["missing"]), (2, &records.into()), "{repaired:#}");
    let copies = PathBuf::from(repaired["copies"].as_str().unwrap());
    assert!(fs::read(gateway.path("").join(copies).join(victim)).unwrap() == broken, "the copy is not what was there");
    // A second repair has nothing left to keep; the loss stands until the gateway has entered it.
    let again = tool(&gateway, "store repair --json").json();
    assert!(again["copies"].is_null(), "{again:#}");
    let text = tool(&gateway, "store check").out;
    assert!(
        text.ends_with("nothing is left to repair; the loss enters the books when the lane drains past it\n"),
        "{text}"
    );

    // The books enter the loss when the lane drains past it.
    let config = fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    gateway.configure(&(config + "[[sink]]\nname = \"disk\"\ntype = \"file\"\ndir = \"upstream\"\n"));
    gateway.start_and_wait();
    let numbers = gateway.wait_for("an empty lane", |numbers| numbers.waiting("telemetry") == 0.0);
    assert_eq!(numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"damaged\"}"), records as f64);
    gateway.stop();
    assert_eq!(tool(&gateway, "store check").code, 1, "what was set aside is still there to look at");
}

#[test]
fn lost_commits_and_a_torn_tail_are_told_apart() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = kept(&broker, 100, false, "1 h");
    // Enough frames in the newest segment.
    let frames = || {
        let found = tool(&gateway, "store check --json").json();
        found["journal"]["segments"].as_array().unwrap().last().unwrap()["frames"].as_u64().unwrap()
    };
    let mut more = 0;
    while frames() < 5 {
        publish(broker.port(), vec![reading("site/d/temp", format!(r#"{{"temp":1,"seq":{more}}}"#))]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        more += 1;
        assert!(more < 100);
    }
    gateway.kill();
    let found = tool(&gateway, "store check --json").json();
    let journal = found["journal"]["segments"].as_array().unwrap().clone();
    let newest = journal.last().unwrap();
    let path = gateway.path("weir-data").join(newest["path"].as_str().unwrap());
    let number: u32 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let whole = fs::read(&path).unwrap();
    let head = [&b"wJ01"[..], &number.to_le_bytes()].concat();
    let pages: Vec<usize> = (0..whole.len()).step_by(4096).filter(|at| whole[*at..].starts_with(&head)).collect();
    assert!(pages.len() > 3, "{found:#}");
    let damage = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at + 70] ^= 1;
        fs::write(&path, bytes).unwrap();
        tool(&gateway, "store check --json")
    };
    // The last frame: as if the power had gone while it was written.
    let answer = damage(*pages.last().unwrap());
    assert_eq!((answer.code, answer.json()["report"]["torn_tails"].as_u64()), (0, Some(1)), "{}", answer.out);
    // One with others behind it: that was acknowledged.
    let answer = damage(pages[pages.len() - 3]);
    assert_eq!((answer.code, answer.json()["report"]["lost_commits"].as_u64()), (2, Some(1)), "{}", answer.out);
}

#[test]
fn a_dump_is_filtered_and_harmless_to_a_terminal() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = kept(&broker, 20, false, "1 s");
    publish(broker.port(), vec![reading("site/\u{202e}evil/temp", "{\"temp\": nonsense \u{1b}[31m")]);
    gateway.wait_for("the dead letter", |numbers| numbers.settled("dead-lettered") == 1.0);
    gateway.wait_for("a commit", |numbers| numbers.waiting("dead-letter") >= 1.0);
    gateway.stop();
    let all = tool(&gateway, "store dump").out;
    assert!(all.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "not plain ASCII");
    let lines = |line: &str| -> Vec<serde_json::Value> {
        let out = tool(&gateway, line).out;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let letters = lines("store dump --kind dead-letter");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["message_topic"], "site/\u{202e}evil/temp");
    assert_eq!(lines("store dump --kind message --limit 7").len(), 7);
    let from = lines("store dump --lane telemetry --from 15 --limit 1");
    assert_eq!((from[0]["seq"].as_u64(), &from[0]["lane"]), (Some(15), &"telemetry".into()));
    assert!(lines("store dump --kind entry").iter().any(|entry| entry["read"]["received"] == 21));
    // Open windows and aggregates that wait hold all values between them.
    let metered = lines("store dump --kind meter").into_iter().chain(lines("store dump --kind aggregate"));
    let total: f64 = metered.filter(|one| one["meter"] == "meter.total").map(|one| one["sum"].as_f64().unwrap()).sum();
    assert_eq!(total, 20.0);
    let answer = tool(&gateway, "store dump --lane telemetri");
    assert!(answer.code == 64 && answer.err.contains("did you mean `telemetry`?"), "{}", answer.err);
    let list = tool(&gateway, "dlq list").out;
    assert!(list.contains("site/\\u{202e}evil/temp"), "{list}");
}

#[test]
fn a_folder_without_a_store_is_told_from_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["store check --dir none", "store repair --dir none", "store check --dir .", "store repair --dir ."] {
        let answer = weir(folder.path(), line);
        assert_eq!(answer.code, 66, "{line}: {}", answer.err);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was left there");
    // An identity and nothing else: the data is gone.
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/identity"), "0000002a\n").unwrap();
    let answer = weir(folder.path(), "store check --dir data");
    assert!(answer.code == 1 && answer.out.contains("the store is empty"), "{} {}", answer.code, answer.out);
}
