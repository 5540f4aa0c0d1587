//! The real binary as a child process: started, killed, started again on the same folder, asked for its numbers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::broker::free_port;
use super::process;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A gateway's folder, and its process when it runs. The process ends with the value.
pub struct Gateway {
    folder: tempfile::TempDir,
    metrics: u16,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

impl Gateway {
    /// A folder with this `gateway.toml`; not running yet.
    pub fn new(config: &str) -> Self {
        let gateway = Self { folder: tempfile::tempdir().unwrap(), metrics: free_port(), env: Vec::new(), child: None };
        gateway.configure(config);
        gateway
    }

    /// Writes another `gateway.toml`, for the next start.
    pub fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("gateway.toml"), config).unwrap();
    }

    /// Leaves the folder for whoever looks into it.
    pub fn keep(mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// Sets a variable of its environment, for the next start.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A file or folder of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the gateway runs already");
        self.child = Some(self.command(&[]).spawn().unwrap());
    }

    /// Starts it as the last arguments of another program, which becomes it.
    pub fn start_in(&mut self, wrapper: &[String]) {
        assert!(self.child.is_none(), "the gateway runs already");
        self.child = Some(self.command(wrapper).spawn().unwrap());
    }

    fn command(&self, wrapper: &[String]) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        // `WEIR_BINARY`: the shipped binary in place of the one of the tests' profile.
        let weir = std::env::var_os("WEIR_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into());
        let mut command = Command::new(wrapper.first().map_or(weir.as_os_str(), OsStr::new));
        command.args(wrapper.iter().skip(1)).args((!wrapper.is_empty()).then_some(&weir));
        command.args(["run", "gateway.toml", "--metrics", &format!("127.0.0.1:{}", self.metrics)]);
        // As on a terminal, also where the tests themselves run under systemd.
        command.current_dir(self.folder.path()).stderr(log).env_remove("JOURNAL_STREAM");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it answers.
    pub fn start_and_wait(&mut self) {
        self.start();
        self.wait_for("an answer of the metrics page", |_| true);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the gateway runs");
        process::signal("TERM", child.id());
        wait_for_exit(&mut child, || self.log())
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the gateway runs");
        wait_for_exit(&mut child, || self.log())
    }

    /// Starts a second process on the same folder and waits for its end: exit code, and what it said.
    pub fn start_another(&self) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.args(["run", "gateway.toml"]).current_dir(self.folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Whether the process is still there.
    pub fn is_up(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What it said, over all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// Waits for a line with this text.
    pub fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "the gateway never said `{text}`:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where its numbers are.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.metrics))
    }

    /// Its numbers now, if it answers.
    pub fn numbers(&self) -> Option<Numbers> {
        Numbers::read(self.address())
    }

    /// Waits until the numbers are as wanted; every look must find the books balanced.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Numbers) -> bool) -> Numbers {
        self.wait_longer_for(what, PATIENCE, wanted)
    }

    /// The same, of something that may take long where others work.
    pub fn wait_longer_for(&mut self, what: &str, patience: Duration, wanted: impl Fn(&Numbers) -> bool) -> Numbers {
        let until = Instant::now() + patience;
        loop {
            let numbers = self.numbers();
            if let Some(numbers) = &numbers {
                assert_eq!(numbers.get("books_residue"), 0.0, "the books do not balance\n{}", numbers.text);
                if wanted(numbers) {
                    return numbers.clone();
                }
            }
            assert!(self.is_up(), "the gateway has ended, while waiting for {what}:\n{}", self.log());
            let page = || numbers.map_or_else(|| "no answer".to_owned(), |numbers| numbers.text);
            assert!(Instant::now() < until, "waited in vain for {what}\n{}\n{}", page(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_for_exit(child: &mut Child, log: impl Fn() -> String) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if until < Instant::now() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the gateway does not end:\n{}", log());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One look at the metrics page.
#[derive(Clone, Debug)]
pub struct Numbers {
    values: BTreeMap<String, f64>,
    /// The page.
    pub text: String,
}

impl Numbers {
    /// Asks; `None` if there is no whole answer.
    pub fn read(address: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, text) = answer.split_once("\r\n\r\n")?;
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        let values: BTreeMap<String, f64> = samples
            .filter_map(|(name, value)| Some((name.strip_prefix("weir_")?.to_owned(), value.parse().ok()?)))
            .collect();
        values.contains_key("uptime_seconds").then(|| Self { values, text: text.to_owned() })
    }

    /// A sample, named without `weir_`, with its labels if it has any.
    pub fn get(&self, name: &str) -> f64 {
        *self.values.get(name).unwrap_or_else(|| panic!("no `{name}` on the page:\n{}", self.text))
    }

    /// The same; `None` if there is none such now.
    #[allow(dead_code, reason = "not every test that shares this asks")]
    pub fn find(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// Messages of a fate.
    pub fn settled(&self, fate: &str) -> f64 {
        self.get(&format!("messages_settled_total{{fate=\"{fate}\"}}"))
    }

    /// Records that wait in some lane that has a sink.
    pub fn waiting(&self, lane: &str) -> f64 {
        self.get(&format!("lane_records_pending{{lane=\"{lane}\"}}"))
    }

    /// Nothing of the lane waits, and upstream has been told of every loss.
    pub fn has_told_all(&self, lane: &str) -> bool {
        self.waiting(lane) == 0.0 && self.get(&format!("lane_losses_untold{{lane=\"{lane}\"}}")) == 0.0
    }
}

/// The folder of an example function, built by `cargo xtask functions`.
pub fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/functions").join(name);
    assert!(folder.is_dir(), "{} is missing: run `cargo xtask functions` first", folder.display());
    folder.display().to_string()
}
