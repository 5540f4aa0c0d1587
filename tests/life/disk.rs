//! A disk that is full: the gateway waits, says so, starts all the same, and goes on when there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::gateway::Gateway;
use super::support::guests::Guest;
use super::support::upstream::Upstream;
use super::{drain, function, head, start};

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };

/// A small file system of its own.
struct Mount(PathBuf);

impl Mount {
    /// `None`: it may not be mounted here.
    fn new(folder: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output().ok()?;
        mounted.status.success().then(|| Self(folder.to_owned()))
    }

    /// Takes all the room but about this.
    fn fill(&self, left: u64) {
        let free = || {
            let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&self.0).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
            numbers[0] * numbers[1]
        };
        fs::write(self.0.join("filler"), vec![0; usize::try_from(free().saturating_sub(left)).unwrap()]).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn full_disk(sled: bool) {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    cloud.stop();
    let config = head(&broker.url()).replace("[broker]", "data-dir = \"disk/data\"\n[broker]")
        + &format!(
            "[store]\nsled = {sled}\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"256 KiB\"\nsnapshot-interval = \"1 s\"\n"
        )
        + &function("keep")
        + &format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n", cloud.url());
    let mut gateway = Gateway::new(&config);
    KEEP.install(&gateway);
    let Some(mount) = Mount::new(&gateway.path("disk"), 24) else {
        eprintln!("skipped: this user may not mount a tmpfs");
        return;
    };
    start(&mut gateway);
    publish(broker.port(), vec![reading("site/d/temp", "first")]);
    gateway.wait_for("the first message", |numbers| numbers.get("messages_received_total") == 1.0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    mount.fill(1 << 20);
    let count = 4000;
    let payload = |number: usize| format!("{{\"seq\":{number},\"pad\":\"{}\"}}", "x".repeat(1000));
    publish(broker.port(), (1..count).map(|number| reading("site/d/temp", payload(number))).collect());
    gateway.wait_for_log("the disk is full");
    let numbers = gateway.wait_for("an answer", |_| true);
    let taken = numbers.get("messages_received_total");
    assert!(taken < f64::from(count as u32), "it took more than there is room for: {taken}");
    // A crash on a full disk, and a start on it.
    gateway.kill();
    gateway.start();
    gateway.wait_for("a start on the full disk", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(std::time::Duration::from_secs(2));
    gateway.wait_for("an answer", |_| true);
    mount.free();
    gateway.wait_for("the rest", |numbers| numbers.get("messages_received_total") == count as f64);
    cloud.resume();
    drain(&mut gateway, &["telemetry"]);
    assert!(gateway.stop().success(), "{}", gateway.log());
    let ledger = upstream.collect(&[("telemetry", count as u64)]);
    ledger.assert_whole();
    let mut seen: Vec<u64> =
        ledger.messages("keep/").filter_map(|record| record.fields.get("payload")?["seq"].as_u64()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..count as u64).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_full_disk_is_waited_out_and_survived() {
    full_disk(false);
}

#[test]
fn a_full_disk_is_waited_out_and_survived_with_sled() {
    full_disk(true);
}
