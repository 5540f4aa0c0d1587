//! The real binary with a wrong clock: libfaketime tells it one, and another one while it runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir::envelope;
use weir::record::RecordKind;
use weir::time::TimeQuality;

use super::support::broker::{Broker, Conf};
use super::support::certs::{Authority, Validity};
use super::support::device::{Publish, publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::METER;

/// Seconds since 1970, by the clock of this machine.
fn real_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|folder| folder.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: libfaketime is not installed (apt install libfaketime)");
    }
    found
}

/// A gateway that lives so many seconds from the real time.
fn with_clock(mut gateway: Gateway, library: &std::path::Path, offset_s: i64) -> Gateway {
    gateway.set_env("LD_PRELOAD", &library.display().to_string());
    gateway.set_env("FAKETIME_TIMESTAMP_FILE", &gateway.path("offset").display().to_string());
    for (name, value) in [("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")] {
        gateway.set_env(name, value);
    }
    set(&gateway, offset_s);
    gateway
}

fn set(gateway: &Gateway, offset_s: i64) {
    let (file, temporary) = (gateway.path("offset"), gateway.path("offset.new"));
    fs::write(&temporary, format!("{offset_s:+}\n")).unwrap();
    fs::rename(temporary, file).unwrap();
}

/// To a minute after 1970 began.
fn to_1970() -> i64 {
    60 - real_s()
}

const FILES: &str = "[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\n[[sink]]\nname = \"disk\"\ntype = \"file\"\ndir = \"upstream\"\n";

/// One emitted window: function, start in milliseconds, quality, count.
struct Window {
    function: String,
    start_ms: i64,
    quality: TimeQuality,
    count: u64,
}

fn windows(gateway: &Gateway) -> Vec<Window> {
    let mut files: Vec<_> = fs::read_dir(gateway.path("upstream")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let records = text.lines().map(|line| envelope::parse(line.as_bytes()).unwrap());
    let aggregates =
        records.filter(|record| record.kind == RecordKind::Aggregate).map(|record| record.aggregate().unwrap());
    aggregates
        .filter(|aggregate| aggregate.meter.ends_with(".total"))
        .map(|aggregate| Window {
            function: aggregate.meter.trim_end_matches(".total").to_owned(),
            start_ms: aggregate.start_ms,
            quality: aggregate.quality,
            count: aggregate.stats.count,
        })
        .collect()
}

/// Readings on `site` (timed by their arrival) and `dev` (timed by the device).
fn readings(count: u64) -> Vec<Publish> {
    let device_ms = real_s() * 1000;
    let both = |seq: u64| {
        let payload = format!(r#"{{"temp":1,"seq":{seq},"ts":{device_ms}}}"#);
        [reading("site/d/temp", payload.clone()), reading("dev/d/temp", payload)]
    };
    (1..=count).flat_map(both).collect()
}

#[test]
fn a_boot_in_1970_and_steps_of_an_hour_lose_nothing_and_windows_are_right_or_marked() {
    let Some(library) = library() else { return };
    let broker = Broker::start(&Conf::wide());
    let function = |name: &str, topic: &str, more: &str| {
        format!("[[function]]\npath = \"{name}\"\n[[function.trigger]]\nmqtt = \"{topic}/+/temp\"\n{more}")
    };
    let config = format!("[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\n", broker.url())
        + &function("meter", "site", "")
        + &function("device", "dev", "time-field = \"ts\"\ntime-unit = \"ms\"\n")
        + FILES;
    let mut gateway = with_clock(Gateway::new(&config), &library, to_1970());
    METER.install(&gateway);
    super::support::guests::Guest { name: "device", ..METER }.install(&gateway);
    let began_ms = real_s() * 1000;
    let mut sent = 0;
    let mut send = |gateway: &mut Gateway| {
        publish(broker.port(), readings(50));
        sent += 100;
        gateway.wait_for("the readings", |numbers| numbers.get("messages_received_total") == f64::from(sent));
    };
    let start = |gateway: &mut Gateway| {
        gateway.start();
        gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    };
    start(&mut gateway);
    send(&mut gateway);
    // A crash in 1970, and another boot into it.
    std::thread::sleep(Duration::from_secs(1));
    gateway.kill();
    start(&mut gateway);
    send(&mut gateway);
    set(&gateway, 0);
    gateway.wait_for_log("is set now");
    send(&mut gateway);
    set(&gateway, 3600);
    gateway.wait_for_log("was set and stepped");
    send(&mut gateway);
    set(&gateway, 0);
    gateway.wait_for_log("s ahead");
    send(&mut gateway);
    gateway.wait_for("no open windows and an empty lane", |numbers| {
        numbers.get("window_cells") == 0.0 && numbers.waiting("telemetry") == 0.0
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    let ended_ms = real_s() * 1000 + 1000;

    let windows = windows(&gateway);
    for function in ["meter", "device"] {
        let its = windows.iter().filter(|window| window.function == function);
        assert_eq!(its.map(|window| window.count).sum::<u64>(), 250, "{function}\n{}", gateway.log());
    }
    for Window { function, start_ms, quality, .. } in &windows {
        let is_of_now = (began_ms - 1000..ended_ms).contains(start_ms);
        let is_of_the_step = (began_ms + 3_599_000..ended_ms + 3_600_000).contains(start_ms);
        match function.as_str() {
            "device" => assert!(is_of_now, "{start_ms}: a device's time is its own"),
            _ => assert!(is_of_now || is_of_the_step, "{start_ms} {quality:?}: put right when the clock was"),
        }
    }
    let in_1970 = windows.iter().filter(|window| window.quality == TimeQuality::Restored && window.function == "meter");
    assert!(100 <= in_1970.map(|window| window.count).sum::<u64>(), "what came in 1970 is marked\n{}", gateway.log());
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_tried_again_as_soon_as_the_clock_is_set() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let yesterday = Validity::Since(real_s() as u64 - 86_400);
    let (cert, key) = authority.sign(folder.path(), "broker", yesterday);
    let broker = Broker::start(&Conf { tls: Some((cert, key)), ..Conf::wide() });
    let config = format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"mqtts://localhost:{}\"\n[broker.tls]\nca-file = \"{}\"\n\
         [[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n{FILES}",
        broker.port(),
        authority.file.display()
    );
    let mut gateway = with_clock(Gateway::new(&config), &library, to_1970());
    METER.install(&gateway);
    gateway.start();
    gateway.wait_for_log("set the clock");
    // Long enough that the pauses between attempts have grown.
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(gateway.numbers().unwrap().get("broker_up"), 0.0);
    set(&gateway, 0);
    let began = Instant::now();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    println!("connected {:.1} s after the clock was set", began.elapsed().as_secs_f64());
    assert!(began.elapsed() < Duration::from_secs(8), "{}", gateway.log());

    // What is known from flash counts where the clock is not set: a box that was right once connects in 1970.
    gateway.wait_for_log("was not set and is now");
    gateway.wait_for("a commit of the time", |numbers| 0.0 < numbers.get("commits_total"));
    gateway.kill();
    set(&gateway, to_1970());
    gateway.start();
    gateway.wait_for("a connection in 1970", |numbers| numbers.get("broker_up") == 1.0);
    assert!(gateway.stop().success());
}
