//! Every bound of the plan pushed to its end at once, and the memory of the real process held against the plan's sum.
//!
//! - Functions with their memory filled, state at its quota, outputs and meter operations at a call's cap; all windows open
//!   with all keys and full sketches; more messages on their way than the link may have; payloads of 256 KiB; a lane that is
//!   full because upstream is away, then drains; TLS on both sides; the metrics page asked all the time.
//! - The kernel is asked each few milliseconds. What belongs to the process alone must stay below the plan with any binary; its
//!   whole resident set with the shipped one: `WEIR_BINARY=FILE cargo nextest run --test bounds --no-capture` prints the row
//!   of docs/boards.md.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::broker::{Broker, Conf, free_port};
use support::certs::{Authority, Validity};
use support::device::{self, Publish, reading};
use support::gateway::Gateway;
use support::guests::Guest;

const KEYS: usize = 64;
/// Windows that are open at once with the lateness below.
const WINDOWS: [i64; 3] = [-60, 0, 60];
const FUNCTIONS: [&str; 3] = ["caps-a", "caps-b", "caps-c"];

/// Fills its memory, its state and every list of a call. 64 values, each half again the one before, from `v` on.
const CAPS: &str = r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_observe" (func $observe (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "v") (data (i32.const 16) "spread") (data (i32.const 32) "full/out")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 0) (i32.const 1)))
    (drop (call $meter (i32.const 16) (i32.const 6)))
    (i32.const 0))
  (func (export "on_event") (param $ev i32) (result i32) (local $at i32) (local $v f64)
    (local.set $v (f64.load (i32.load offset=52 (local.get $ev))))
    (local.set $at (i32.const 0x2000))
    (loop $fill
      (i64.store (local.get $at) (i64.const 0x6161616161616161))
      (local.set $at (i32.add (local.get $at) (i32.const 512)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 0x10000))))
    (local.set $at (i32.const 0))
    (loop $observe
      (drop (call $observe (i32.const 0) (i32.const 0) (i32.const 0) (local.get $v)))
      (local.set $v (f64.mul (local.get $v) (f64.const 1.5)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $observe (i32.lt_u (local.get $at) (i32.const 64))))
    (local.set $at (i32.const 0))
    (loop $put
      (i32.store8 (i32.const 64) (i32.add (i32.and (i32.add (local.get $at) (i32.wrap_i64 (i64.load offset=16 (local.get $ev)))) (i32.const 63)) (i32.const 48)))
      (drop (call $put (i32.const 64) (i32.const 1) (i32.const 0x4000) (i32.const 1000)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $put (i32.lt_u (local.get $at) (i32.const 12))))
    (local.set $at (i32.const 0))
    (loop $emit
      (drop (call $emit (i32.const 32) (i32.const 8) (i32.const 0x4000) (i32.const 4000)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $emit (i32.lt_u (local.get $at) (i32.const 4))))
    (i32.const 2))"#;

const MANIFEST: &str = r#"
emits = ["full/#"]
[limits]
fuel = 1000000
memory = "64 KiB"
state = "32 KiB"
emit-bytes = "16 KiB"
[[meter]]
name = "spread"
kind = "distribution"
window = "1 min"
lateness = "1 min"
keys-max = 64
"#;

fn config(broker: &Broker, upstream: &Broker) -> String {
    let functions: String = FUNCTIONS
        .iter()
        .map(|name| {
            format!(
                "[[function]]\npath = \"caps\"\nname = \"{name}\"\n[[function.trigger]]\nmqtt = \"site/+/reading\"\ntime-field = \"t\"\n"
            )
        })
        .collect();
    format!(
        "[gateway]\nid = \"bounds\"\nboard = \"generic\"\npayload-max = \"256 KiB\"\n\
         [broker]\nurl = \"mqtts://localhost:{}\"\nin-flight = 256\ninbox-max = \"1 MiB\"\n[broker.tls]\nca-file = \"ca.crt\"\n\
         [commit]\ninterval = \"500 ms\"\n[store]\nsled = false\n{functions}\
         [[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\nbytes-max = \"2 MiB\"\n\
         [[sink]]\nname = \"upstream\"\ntype = \"mqtt\"\nurl = \"mqtts://localhost:{}\"\n[sink.tls]\nca-file = \"ca.crt\"\n",
        broker.port(),
        upstream.port(),
    )
}

/// The highest memory that the kernel tells of a process, looked at until the value ends.
struct Watch {
    stop: Arc<AtomicBool>,
    anonymous: Arc<AtomicU64>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let watch = Self { stop: Arc::default(), anonymous: Arc::default() };
        let (stop, anonymous) = (watch.stop.clone(), watch.anonymous.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                anonymous.fetch_max(kib(pid, "RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Each device in each window, with values of four ranges; every sixteenth payload is of 250 KiB.
fn load(round: usize, now: i64) -> Vec<Publish> {
    let padding = "x".repeat(250 * 1024);
    let mut publishes = Vec::new();
    for device in 0..KEYS {
        for (window, offset) in WINDOWS.iter().enumerate() {
            let value = 1e-12 * 1.5f64.powi(64 * round as i32);
            let large = (device + window).is_multiple_of(16);
            let text =
                format!("{{\"t\":{},\"v\":{value:e},\"pad\":\"{}\"}}", now + offset, if large { &padding } else { "" });
            publishes.push(reading(&format!("site/device-{device}/reading"), text));
        }
    }
    // What no function can read is a dead letter, of the largest size.
    publishes.extend((0..8).map(|_| reading("site/broken/reading", &padding)));
    publishes
}

#[test]
fn with_every_bound_at_its_end_the_process_stays_below_the_plan() {
    let certs = tempfile::tempdir().unwrap();
    let authority = Authority::new(certs.path(), "ca");
    let tls = |name: &str| Conf { tls: Some(authority.sign(certs.path(), name, Validity::Now)), ..Conf::wide() };
    let devices = free_port();
    let broker = Broker::start(&Conf { plain: Some(devices), ..tls("broker") });
    let mut upstream = Broker::stopped(&tls("upstream"));
    let mut gateway = Gateway::new(&config(&broker, &upstream));
    fs::copy(certs.path().join("ca.crt"), gateway.path("ca.crt")).unwrap();
    Guest { name: "caps", body: CAPS, manifest: MANIFEST }.install(&gateway);
    gateway.start_and_wait();
    gateway.wait_for("the broker", |numbers| numbers.get("broker_up") == 1.0);
    let pid = gateway.id();
    let watch = Watch::start(pid);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut sent = 0;
    for round in 0..4 {
        if round == 2 {
            // Until here everything that is emitted stays, and the lane is full; from here on it drains.
            let numbers = gateway.wait_for("the outbox to be full", |numbers| {
                numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"lane-full\"}") > 0.0
            });
            assert!(numbers.get("lane_bytes{lane=\"telemetry\"}") > 1_000_000.0, "{}", numbers.text);
            upstream.resume();
        }
        let publishes = load(round, now);
        sent += publishes.len();
        device::publish(devices, publishes);
        gateway.wait_for("all to be taken", |numbers| numbers.get("messages_received_total") >= sent as f64);
    }
    let numbers = gateway.wait_for("upstream to have it", |numbers| {
        numbers.get("sink_up{sink=\"upstream\"}") == 1.0 && numbers.waiting("telemetry") == 0.0
    });
    // The bounds were reached: each window has each key, each dead letter was made, nothing failed otherwise.
    let cells = (FUNCTIONS.len() * KEYS * WINDOWS.len()) as f64;
    assert!(numbers.get("window_cells") >= cells, "{}", numbers.text);
    let planned = numbers.get("process_planned_bytes");
    let (anonymous, highest) = (watch.anonymous.load(Ordering::Relaxed), kib(pid, "VmHWM"));
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "every bound at its end: planned {:.1} MiB, highest resident {:.1}, of it anonymous {:.1}, unused {:.1}",
        planned / 1_048_576.0,
        mib(highest),
        mib(anonymous),
        planned / 1_048_576.0 - mib(highest),
    );
    assert_eq!(numbers.get("process_headroom_bytes"), planned - numbers.get("process_resident_bytes"));
    assert!((anonymous * 1024) as f64 <= planned, "{anonymous} KiB of {planned}");
    if std::env::var_os("WEIR_BINARY").is_some() {
        assert!((highest * 1024) as f64 <= planned, "{highest} KiB of {planned}");
    }
    assert!(gateway.stop().success());
}
