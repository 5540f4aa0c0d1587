//! Bytes written to the block device per message: 100 devices, 1,000 messages a second, `energy-meter`, commit interval 1 s.
//!
//! - As root the gateway's data lies on an ext4 of its own on a loop device, and the sectors that the kernel has written there
//!   are read after a `syncfs`: the file system's own journal is among them. Else `write_bytes` of `/proc/PID/io` has to do.
//! - Measured is the steady state: the journal has gone round without a new segment, so that all are recycled, and the first
//!   windows have closed, so that the lane has its segment. The journal is kept at 2 MiB for that, a fourth of the default; so
//!   snapshots and changes of segments are four times as frequent. Windows are of 1 min and not, as by default, of 15.
//! - What the gateway counts itself is printed beside it, by kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Options;
use crate::load::{self, Sent, pace, saturate};
use crate::mosquitto::Mosquitto;
use crate::process::folder;
use crate::weir::{Site, Weir};

const RATE: f64 = 1000.0;
const STORE: &str = "journal-bytes-max = \"2 MiB\"";
/// Messages in one go before the measurement; each 1,000 are at least a page of the journal.
const WARM_UP: usize = 100_000;
const ROUNDS_MAX: usize = 60;
const KINDS: [&str; 6] = ["journal-bytes", "lane-bytes", "keyed-bytes", "snapshot-bytes", "fill-bytes", "syncs"];

pub fn run(options: &Options) {
    let seconds: f64 = options.get("seconds", 240.0);
    println!("bytes a message over {seconds} s at {RATE} messages a second");
    println!("{:<26} {:>10} {:>10} {:>9} weir_flash_total, a message", "", "device", "write_bytes", "commits");
    for (name, sled, interval, functions) in [
        ("energy-meter", true, "1 s", &[("energy-meter", "energy")]),
        ("energy-meter, no sled", false, "1 s", &[("energy-meter", "energy")]),
        ("energy-meter, 100 ms", true, "100 ms", &[("energy-meter", "energy")]),
        ("threshold, a tenth kept", true, "1 s", &[("threshold", "temperature")]),
    ] {
        if !options.skips(name) {
            measure(name, sled, interval, functions, seconds);
        }
    }
}

fn measure(name: &str, sled: bool, interval: &str, functions: &[(&str, &str)], seconds: f64) {
    let broker = Mosquitto::start();
    let disk = LoopDisk::new();
    let data = disk.as_ref().map(|disk| disk.mount.join("data"));
    let data = data.as_deref();
    let site = Site { broker: broker.port, qos: 1, commit_interval: interval, sled, functions, data, store: STORE };
    let weir = Weir::start(&site);
    let model: fn(usize) -> (String, Vec<u8>) =
        if functions[0].1 == "energy" { load::energy } else { load::temperature };
    let mut taken = 0;
    // The lane takes its segment, which the journal then misses.
    while flash(&weir, "lane-bytes") == 0.0 {
        let first = taken;
        taken += 10_000;
        pace(broker.port, 1, RATE, &|seq| model(seq + first), &Sent::new(10_000));
    }
    // Until a snapshot has freed segments and the next round made no new one. A store has at most six here.
    // (Bytes of segments made, snapshots) when a segment was made last.
    let mut made = (-1.0, 0.0);
    for round in 0.. {
        let now = (flash(&weir, "fill-bytes"), flash(&weir, "snapshots"));
        if now.0 != made.0 {
            made = now;
        } else if made.1 < now.1 {
            break;
        }
        assert!(round < ROUNDS_MAX, "the store makes new segments still");
        saturate(broker.port, 1, WARM_UP, &|seq| model(seq + taken));
        taken += WARM_UP;
        weir.wait(taken, Duration::from_secs(2));
    }
    let written = || disk.as_ref().map_or(0, LoopDisk::written);
    let before = (written(), weir.process.write_bytes(), KINDS.map(|kind| flash(&weir, kind)), flash(&weir, "commits"));
    let count = (seconds * RATE) as usize;
    pace(broker.port, 1, RATE, &|seq| model(seq + taken), &Sent::new(count));
    weir.wait(taken + count, Duration::from_secs(2));
    let each = |bytes: f64| bytes / count as f64;
    let kinds = KINDS.iter().zip(before.2).map(|(kind, old)| format!("{kind} {:.2}", each(flash(&weir, kind) - old)));
    println!(
        "{name:<26} {:>10} {:>10.1} {:>9} {}",
        disk.as_ref().map_or("-".to_owned(), |disk| format!("{:.1}", each((disk.written() - before.0) as f64))),
        each((weir.process.write_bytes() - before.1) as f64),
        flash(&weir, "commits") - before.3,
        kinds.collect::<Vec<_>>().join(", ")
    );
    assert_eq!(weir.check(), 0, "nothing is dropped");
    weir.process.stop();
}

fn flash(weir: &Weir, kind: &str) -> f64 {
    weir.metric(&format!("weir_flash_total{{kind=\"{kind}\"}}"))
}

/// An ext4 on a loop device; it goes with its value.
struct LoopDisk {
    device: String,
    mount: PathBuf,
}

impl LoopDisk {
    fn new() -> Option<Self> {
        let dir = folder("disk");
        let (image, mount) = (dir.join("image"), dir.join("mount"));
        fs::create_dir(&mount).unwrap();
        fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        said("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let device = said("losetup", &["--find", "--show", text(&image)])?.trim().to_owned();
        let disk = Self { device, mount };
        said("mount", &["-o", "noatime", &disk.device, text(&disk.mount)])?;
        Some(disk)
    }

    /// Bytes written to the device since it exists, everything that waits included.
    fn written(&self) -> u64 {
        said("sync", &["-f", text(&self.mount)]).unwrap();
        let name = self.device.trim_start_matches("/dev/");
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        // Sectors of 512 bytes written: the seventh field (Documentation/block/stat).
        stat.split_ascii_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = said("umount", &["--lazy", text(&self.mount)]);
        let _ = said("losetup", &["--detach", &self.device]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a system's tool prints; `None` if it is not there or may not.
fn said(tool: &str, arguments: &[&str]) -> Option<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(tool).env("PATH", path).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
