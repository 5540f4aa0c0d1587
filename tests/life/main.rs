//! A gateway's life: how it ends and starts, on a full disk, beside a second one, and with a configuration that has changed
//! meanwhile. Whatever happens, what was acknowledged goes upstream.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod again;
mod changes;
mod disk;
mod ends;
mod filters;
mod many;
mod roll_up;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use support::device::{Publish, publish, reading};
use support::gateway::Gateway;
use support::ledger::Ledger;

/// `[gateway]` and `[broker]`.
fn head(url: &str) -> String {
    format!("[gateway]\nid = \"gw\"\n[broker]\nurl = \"{url}\"\n")
}

/// A function in the folder of this name, listening to `site/+/temp`.
fn function(name: &str) -> String {
    format!("[[function]]\npath = \"{name}\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n")
}

/// A lane for everything, to lines in the folder `upstream`.
const FILES: &str = r##"
[[lane]]
name = "telemetry"
topics = ["#"]
[[sink]]
name = "disk"
type = "file"
dir = "upstream"
"##;

/// Readings 1 to `count` of device `d`, each of 1.
fn readings(count: usize) -> Vec<Publish> {
    (1..=count).map(|seq| reading("site/d/temp", format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect()
}

fn start(gateway: &mut Gateway) {
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
}

/// Publishes readings and waits until the gateway has taken `received` in all, and committed them.
fn take(gateway: &mut Gateway, port: u16, publishes: Vec<Publish>, received: usize) {
    publish(port, publishes);
    gateway.wait_for("the readings", |numbers| numbers.get("messages_received_total") == received as f64);
    // Several commit intervals.
    std::thread::sleep(Duration::from_millis(600));
}

/// Waits until these lanes are empty.
fn drain(gateway: &mut Gateway, lanes: &[&str]) {
    gateway.wait_for("empty lanes", |numbers| lanes.iter().all(|lane| numbers.waiting(lane) == 0.0));
}

/// The lines in the folder `upstream`.
fn files(gateway: &Gateway) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.take_files(&gateway.path("upstream"));
    ledger.assert_whole();
    ledger
}
