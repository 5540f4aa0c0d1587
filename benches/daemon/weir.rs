//! The gateway under measurement: configuration, start, its metrics page.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::mosquitto::free_port;
use crate::process::{Process, folder};

/// What is to be configured.
pub struct Site<'a> {
    /// Port of the broker, of devices and of upstream.
    pub broker: u16,
    pub qos: u8,
    pub commit_interval: &'a str,
    pub sled: bool,
    /// Function and the last level of the topics that wake it.
    pub functions: &'a [(&'a str, &'a str)],
    /// Where its data goes; none: a new folder.
    pub data: Option<&'a Path>,
    /// Further lines of `[store]`.
    pub store: &'a str,
}

pub struct Weir {
    pub process: Process,
    metrics: u16,
}

/// The program: `WEIR_BINARY`, or the one that was built with this bench, in the release profile.
pub fn binary() -> PathBuf {
    std::env::var_os("WEIR_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_weir").into(), PathBuf::from)
}

impl Weir {
    /// Starts a gateway on an empty store and waits until it has subscribed and reaches upstream.
    pub fn start(site: &Site<'_>) -> Self {
        let weir = Self::spawn(site);
        let begin = Instant::now();
        while !(weir.metric("weir_broker_up") == 1.0 && weir.metric("weir_sink_up") == 1.0) {
            assert!(begin.elapsed() < Duration::from_secs(20), "weir does not start; see its log");
            thread::sleep(Duration::from_millis(20));
        }
        // The subscriptions are granted a moment after the connection.
        thread::sleep(Duration::from_millis(300));
        weir
    }

    /// Starts a gateway and does not wait.
    pub fn spawn(site: &Site<'_>) -> Self {
        let dir = folder("weir");
        let file = dir.join("gateway.toml");
        fs::write(&file, site.text(&dir)).unwrap();
        let metrics = free_port();
        let mut command = Command::new(binary());
        command.arg("run").arg(&file).arg("--metrics").arg(format!("127.0.0.1:{metrics}"));
        Self { process: Process::start(&mut command, &dir.join("log")), metrics }
    }

    /// The sum of all samples whose line starts so; 0 if there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let page = page(self.metrics).unwrap_or_default();
        let values = page.lines().filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    /// Waits until it has taken `wanted` messages and nothing waits in a lane, or nothing has happened for `patience`.
    /// Returns how many it has taken.
    pub fn wait(&self, wanted: usize, patience: Duration) -> usize {
        let mut last = (0.0, Instant::now());
        loop {
            let received = self.metric("weir_messages_received_total");
            let pending = self.metric("weir_lane_records_pending");
            if (wanted as f64 <= received && pending == 0.0) || patience < last.1.elapsed() {
                return received as usize;
            }
            if received + pending != last.0 {
                last = (received + pending, Instant::now());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The books balance and nothing was dropped; returns what was dropped.
    pub fn check(&self) -> u64 {
        assert_eq!(self.metric("weir_books_residue"), 0.0, "the books balance");
        self.metric("weir_messages_dropped_total") as u64
    }
}

fn page(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

impl Site<'_> {
    fn text(&self, dir: &Path) -> String {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/functions");
        assert!(built.join("threshold").is_dir(), "{} is empty: run `cargo xtask functions`", built.display());
        let data: PathBuf = self.data.map_or_else(|| dir.join("data"), Path::to_path_buf);
        let mut text = format!(
            "[gateway]\nid = \"bench\"\ndata-dir = \"{}\"\n[broker]\nurl = \"mqtt://127.0.0.1:{}\"\n\
             [commit]\ninterval = \"{}\"\n[store]\nsled = {}\n{}\n",
            data.display(),
            self.broker,
            self.commit_interval,
            self.sled,
            self.store,
        );
        for (function, topics) in self.functions {
            let codec = if *function == "lpp-decode" { "raw" } else { "json" };
            text += &format!(
                "[[function]]\npath = \"{}\"\n[[function.trigger]]\nmqtt = \"site/+/{topics}\"\nqos = {}\ncodec = \"{codec}\"\n",
                built.join(function).display(),
                self.qos,
            );
            if *function == "energy-meter" {
                // Not its 15 minutes: what windows cost when they close shall be seen.
                text += "[function.meter.energy]\nwindow = \"1 min\"\nlateness = \"1 s\"\n";
            }
        }
        text +=
            &format!("[[sink]]\nname = \"upstream\"\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n", self.broker);
        text
    }
}
