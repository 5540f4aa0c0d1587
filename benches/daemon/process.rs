//! A process under measurement, and what the kernel says of it. It ends with its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running program.
pub struct Process(Child);

impl Process {
    /// Starts it; what it says goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap_or_default()
    }

    /// CPU time of all its threads, in user and kernel mode; the kernel tells it in steps of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // The second field is a name in parentheses; user and system time are the 14th and 15th field (proc(5)).
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 10)
    }

    /// CPU time by thread: name and microseconds, the busiest first. Threads that have ended are not among them.
    pub fn cpu_by_thread(&self) -> Vec<(String, u64)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten().flatten();
        let mut threads: Vec<(String, u64)> = tasks
            .map(|task| {
                let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let ns: u64 = stat.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
                (name.trim().to_owned(), ns / 1000)
            })
            .collect();
        threads.sort_by_key(|(_, us)| core::cmp::Reverse(*us));
        threads
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM`, `RssAnon`, …
    pub fn kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// Bytes that it caused to be written to block devices.
    pub fn write_bytes(&self) -> u64 {
        let io = self.proc("io");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Asks for an orderly end and waits for it.
    pub fn stop(mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An empty folder for this bench's files, on the disk that holds the build's.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("daemon").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}
