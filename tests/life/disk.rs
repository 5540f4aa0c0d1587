//! A disk that is full: the gateway waits, says so, starts all the same, and goes on when there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::broker::{Broker, Conf};
use weir::envelope::ParsedRecord;

use super::support::device::{Publish, publish, reading};
use super::support::gateway::{Gateway, Numbers};
use super::support::guests::Guest;
use super::support::ledger::Ledger;
use super::support::upstream::Upstream;
use super::{drain, function, head, start};

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };

/// A small file system of its own.
struct Mount(PathBuf);

/// Of which kind.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Tmpfs,
    /// In a file beside the mount point, through a loop device.
    Ext4,
}

impl Mount {
    /// `None`: it may not be mounted here.
    fn new(kind: Kind, folder: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let size = format!("size={megabytes}m");
        let mounted = match kind {
            Kind::Tmpfs => run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder)),
            Kind::Ext4 => {
                let image = folder.with_extension("ext4");
                fs::File::create(&image).unwrap().set_len(u64::from(megabytes) << 20).unwrap();
                run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
                    && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(folder))
            }
        };
        if !mounted {
            eprintln!("skipped: a {kind:?} cannot be mounted here; this test needs root and, for ext4, loop devices");
        }
        mounted.then(|| Self(folder.to_owned()))
    }

    /// Takes all the room but about this.
    fn fill(&self, left: u64) {
        let free = || {
            let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&self.0).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
            numbers[0] * numbers[1]
        };
        let filled = fs::write(self.0.join("filler"), vec![0; usize::try_from(free().saturating_sub(left)).unwrap()]);
        // A file system may need some of the last bytes for itself.
        let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
        assert!(filled.as_ref().map_or_else(is_full, |()| true), "{filled:?}");
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

/// Messages of about a kilobyte.
fn messages(from: usize, through: usize) -> Vec<Publish> {
    let payload = |number: usize| format!("{{\"seq\":{number},\"pad\":\"{}\"}}", "x".repeat(1000));
    (from..=through).map(|number| reading("site/d/temp", payload(number))).collect()
}

/// The numbers of the messages that are upstream.
fn arrived(ledger: &Ledger) -> Vec<u64> {
    let number = |record: &ParsedRecord| record.fields.get("payload")?["seq"].as_u64();
    let mut seen: Vec<u64> = ledger.messages("keep/").filter_map(number).collect();
    seen.sort_unstable();
    seen
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
    let Some(mount) = Mount::new(Kind::Tmpfs, &gateway.path("disk"), 24) else { return };
    start(&mut gateway);
    publish(broker.port(), vec![reading("site/d/temp", "first")]);
    gateway.wait_for("the first message", |numbers| numbers.get("messages_received_total") == 1.0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    mount.fill(1 << 20);
    let count = 4000;
    publish(broker.port(), messages(1, count - 1));
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
    assert_eq!(arrived(&ledger), (1..count as u64).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_full_disk_is_waited_out_and_survived() {
    full_disk(false);
}

#[test]
fn a_full_disk_is_waited_out_and_survived_with_sled() {
    full_disk(true);
}

/// The disk fills under a running gateway and room comes back, twice, without a restart: whatever the lane's policy, what was
/// acknowledged is upstream or counted as dropped for room, and the books balance all the time.
fn full_and_free(kind: Kind, lane: &str) {
    let broker = Broker::start(&Conf::wide());
    let mut cloud = Broker::start(&Conf::wide());
    let upstream = Upstream::subscribe(cloud.port());
    cloud.stop();
    let config = head(&broker.url()).replace("[broker]", "data-dir = \"disk/data\"\n[broker]")
        + "[store]\nsled = false\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"256 KiB\"\nsnapshot-interval = \"1 s\"\n"
        + &function("keep")
        + &format!("[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\n{lane}")
        + &format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n", cloud.url());
    let mut gateway = Gateway::new(&config);
    KEEP.install(&gateway);
    let Some(mount) = Mount::new(kind, &gateway.path("disk"), 16) else { return };
    start(&mut gateway);
    let mut sent = 0;
    for _ in 0..2 {
        // Everything of before is committed, so that the disk fills in the middle of what comes now.
        std::thread::sleep(std::time::Duration::from_millis(500));
        mount.fill(600_000);
        let is_full = |numbers: &Numbers| numbers.find("health_reason{reason=\"disk-full\",subject=\"\"}") == Some(1.0);
        publish(broker.port(), messages(sent + 1, sent + 2000));
        sent += 2000;
        let until = std::time::Instant::now() + super::support::gateway::PATIENCE;
        // Either it stands still on the full disk, or the lane makes room within what it has.
        loop {
            let numbers = gateway.wait_for("an answer", |_| true);
            let received = numbers.get("messages_received_total");
            if is_full(&numbers) || received == sent as f64 {
                break;
            }
            assert!(std::time::Instant::now() < until, "{received} of {sent}\n{}", gateway.log());
        }
        mount.free();
        gateway.wait_for("the rest", |numbers| numbers.get("messages_received_total") == sent as f64);
    }
    cloud.resume();
    let numbers = gateway.wait_for("all of it", |numbers| {
        numbers.get("messages_received_total") == sent as f64 && numbers.has_told_all("telemetry")
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    assert_eq!(gateway.log().matches("is ready").count(), 1, "it never restarted");
    let delivered = numbers.get("lane_records_total{lane=\"telemetry\",outcome=\"delivered\"}");
    let dropped = numbers.get("messages_dropped_total{reason=\"lane-full\"}");
    let ledger = upstream.collect(&[("telemetry", delivered as u64)]);
    assert!(ledger.faults.is_empty(), "{:?}", ledger.faults);
    let seen = arrived(&ledger);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    assert_eq!(seen.len() as f64 + dropped, sent as f64, "what is not upstream is counted");
    assert!(lane.contains("drop-oldest") || dropped == 0.0, "{dropped} were dropped");
    let said: u64 = ledger
        .records
        .iter()
        .filter(|record| record.kind == weir::record::RecordKind::Loss)
        .map(|record| record.fields["messages"].as_u64().unwrap())
        .sum();
    assert_eq!(said as f64, dropped, "and said");
}

/// A gateway on a small file system, between two brokers: keeps every message.
struct Small {
    broker: Broker,
    cloud: Broker,
    upstream: Upstream,
    gateway: Gateway,
    mount: Mount,
}

impl Small {
    /// `None`: nothing can be mounted here.
    fn start(kind: Kind, lane: &str, segment: &str) -> Option<Self> {
        let (broker, cloud) = (Broker::start(&Conf::wide()), Broker::start(&Conf::wide()));
        let upstream = Upstream::subscribe(cloud.port());
        let config = head(&broker.url()).replace("[broker]", "data-dir = \"disk/data\"\n[broker]")
            + &format!("[store]\nsegment-bytes = \"{segment}\"\nsnapshot-interval = \"1 s\"\n")
            + &function("keep")
            + &format!("[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\n{lane}\n")
            + &format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"{}\"\n", cloud.url());
        let mut gateway = Gateway::new(&config);
        KEEP.install(&gateway);
        let mount = Mount::new(kind, &gateway.path("disk"), 24)?;
        start(&mut gateway);
        // The reserve, and the room of the next snapshot, are made when there is nothing else to do.
        publish(broker.port(), messages(1, 1));
        std::thread::sleep(std::time::Duration::from_millis(1500));
        publish(broker.port(), messages(2, 2));
        let snapshots = gateway.path("disk/data/snapshot");
        gateway.wait_for("a snapshot", |_| fs::read_dir(&snapshots).is_ok_and(|files| 2 <= files.count()));
        let free = gateway.path("disk/data/free");
        gateway.wait_for("the reserve", |_| fs::read_dir(&free).is_ok_and(|files| 2 <= files.count()));
        Some(Self { broker, cloud, upstream, gateway, mount })
    }

    fn received(&mut self) -> f64 {
        self.gateway.wait_for("an answer", |_| true).get("messages_received_total")
    }

    /// Everything that was sent arrives although nobody frees the disk.
    fn all_arrives(mut self, sent: usize) {
        self.gateway.wait_for("all of it upstream", |numbers| {
            numbers.get("messages_received_total") == sent as f64 && numbers.waiting("telemetry") == 0.0
        });
        assert!(self.gateway.stop().success(), "{}", self.gateway.log());
        let ledger = self.upstream.collect(&[("telemetry", sent as u64)]);
        ledger.assert_whole();
        assert_eq!(arrived(&ledger), (1..=sent as u64).collect::<Vec<_>>(), "each once");
        let said = self.gateway.log().matches("the disk is full").count();
        assert!(said <= 4 * self.gateway.log().matches("is ready").count(), "it is said {said} times");
        drop(self.mount);
    }
}

/// The disk is full while upstream is away, and stays full; upstream comes back. `crash`: kill -9 on the full disk before.
fn full_until_delivered(kind: Kind, lane: &str, segment: &str, crash: bool) {
    let Some(mut small) = Small::start(kind, lane, segment) else { return };
    small.cloud.stop();
    small.mount.fill(3 << 20);
    let sent = 6000;
    publish(small.broker.port(), messages(3, sent));
    small.gateway.wait_for_log("the disk is full");
    assert!(small.received() < sent as f64, "it took more than there is room for");
    if crash {
        small.gateway.kill();
        small.gateway.start();
        small.gateway.wait_for("an answer", |_| true);
    }
    small.cloud.resume();
    small.all_arrives(sent);
}

#[test]
fn a_disk_that_stays_full_empties_itself_when_upstream_is_back() {
    for lane in ["drop-oldest", "reject", "roll-up"] {
        let lane = format!("full = \"{lane}\"\nbytes-max = \"64 MiB\"");
        full_until_delivered(Kind::Tmpfs, &lane, "64 KiB", false);
    }
    full_until_delivered(Kind::Ext4, "full = \"drop-oldest\"\nbytes-max = \"64 MiB\"", "512 KiB", false);
}

#[test]
fn a_disk_that_stays_full_empties_itself_after_a_crash() {
    full_until_delivered(Kind::Tmpfs, "full = \"drop-oldest\"\nbytes-max = \"64 MiB\"", "512 KiB", true);
    full_until_delivered(Kind::Tmpfs, "full = \"reject\"\nbytes-max = \"64 MiB\"", "64 KiB", true);
    full_until_delivered(Kind::Ext4, "full = \"reject\"\nbytes-max = \"64 MiB\"", "64 KiB", true);
}

#[test]
fn somebody_else_takes_the_last_byte_and_messages_go_through_all_the_same() {
    for (kind, segment) in [(Kind::Tmpfs, "64 KiB"), (Kind::Tmpfs, "512 KiB"), (Kind::Ext4, "64 KiB")] {
        let lane = "full = \"drop-oldest\"\nbytes-max = \"64 MiB\"";
        let Some(small) = Small::start(kind, lane, segment) else { return };
        small.mount.fill(0);
        let sent = 4000;
        publish(small.broker.port(), messages(3, sent));
        small.all_arrives(sent);
    }
}

#[test]
fn an_end_on_a_full_disk_is_an_orderly_one() {
    let lane = "full = \"reject\"\nbytes-max = \"64 MiB\"";
    let Some(mut small) = Small::start(Kind::Tmpfs, lane, "64 KiB") else { return };
    small.cloud.stop();
    small.mount.fill(1 << 20);
    let sent = 4000;
    publish(small.broker.port(), messages(3, sent));
    small.gateway.wait_for_log("the disk is full");
    assert_eq!(small.gateway.stop().code(), Some(0), "{}", small.gateway.log());
    small.gateway.start();
    small.gateway.wait_for("an answer", |_| true);
    small.cloud.resume();
    small.all_arrives(sent);
}

#[test]
fn a_full_ext4_is_waited_out_without_a_restart_by_a_lane_that_rejects() {
    full_and_free(Kind::Ext4, "full = \"reject\"\nbytes-max = \"12 MiB\"\n");
}

#[test]
fn a_full_ext4_is_waited_out_without_a_restart_by_a_lane_that_drops_its_oldest() {
    full_and_free(Kind::Ext4, "full = \"drop-oldest\"\nbytes-max = \"12 MiB\"\n");
}

#[test]
fn lanes_on_a_full_tmpfs_reject_or_drop_and_nothing_is_lost_uncounted() {
    full_and_free(Kind::Tmpfs, "full = \"reject\"\nbytes-max = \"12 MiB\"\n");
    full_and_free(Kind::Tmpfs, "full = \"drop-oldest\"\nbytes-max = \"256 KiB\"\n");
}

#[test]
fn a_full_ext4_is_waited_out_without_a_restart_by_a_lane_that_rolls_up() {
    full_and_free(Kind::Ext4, "full = \"roll-up\"\nbytes-max = \"12 MiB\"\n");
}
