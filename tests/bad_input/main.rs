//! Bad input of every kind against a running gateway: each says what and where, the gateway stays up, the books balance, and
//! what is poison is acknowledged, so that it does not come again.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod connections;
mod functions;
mod local;
mod logs;
mod payloads;
#[path = "../support/mod.rs"]
mod support;
mod topics;
mod upstream;

use std::time::Duration;

use support::gateway::{Gateway, Numbers};
use support::ledger::Ledger;

/// Everything goes to lines in the folder `upstream`.
const SINK: &str = r##"
[[lane]]
name = "telemetry"
topics = ["#"]
[[lane]]
name = "dead-letter"
sink = "disk"
[[sink]]
name = "disk"
type = "file"
dir = "upstream"
"##;

/// A gateway with these functions (and whatever else of the configuration begins the text), not started.
fn unconnected(url: &str, site: &str) -> Gateway {
    Gateway::new(&format!("[gateway]\nid = \"gw\"\n[broker]\nurl = \"{url}\"\n{site}{SINK}"))
}

fn wait_for_subscription(gateway: &mut Gateway) {
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
}

/// Waits until so many messages have come and all that follows from them is upstream; then ends the gateway and starts it again:
/// nothing may come a second time. What arrived upstream, and the numbers before the end.
fn settled(gateway: &mut Gateway, received: usize) -> (Ledger, Numbers) {
    let done = |numbers: &Numbers| {
        numbers.get("messages_received_total") == received as f64
            && numbers.get("window_cells") == 0.0
            && ["telemetry", "dead-letter"].iter().all(|lane| numbers.waiting(lane) == 0.0)
    };
    let before = gateway.wait_for("every message", done);
    assert!(gateway.stop().success(), "{}", gateway.log());
    gateway.start();
    wait_for_subscription(gateway);
    let numbers = gateway.numbers().unwrap();
    assert!(done(&numbers), "it came again\n{}", numbers.text);
    assert_eq!(numbers.get("messages_duplicate_total"), 0.0, "it came again\n{}", numbers.text);
    let mut ledger = Ledger::default();
    ledger.take_files(&gateway.path("upstream"));
    ledger.assert_whole();
    (ledger, before)
}
