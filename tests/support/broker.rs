//! A real mosquitto on a free port, in as many variants as the tests need. It ends with the value.
//!
//! - Stopped and started again it has the same port, configuration and (with [`Conf::persistent`]) data.
//! - Queues are unlimited: mosquitto's own default throws away what is beyond 1000 messages for an absent client.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::process;

/// How a broker is configured.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    /// Sessions and queues survive an orderly stop.
    pub persistent: bool,
    /// `max_inflight_messages`; `None`: mosquitto's default of 20. 0 is no limit.
    pub in_flight: Option<u32>,
    /// User and password; else everybody may connect.
    pub login: Option<(&'static str, &'static str)>,
    /// Certificate and key of the listener, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// With TLS: only clients with a certificate of this authority, PEM.
    pub clients: Option<PathBuf>,
    /// A second port, without TLS.
    pub plain: Option<u16>,
}

impl Conf {
    /// Any number of messages on their way, sessions kept over a stop.
    pub fn wide() -> Self {
        Self { persistent: true, in_flight: Some(0), ..Self::default() }
    }
}

/// A mosquitto.
pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

/// The path of a program of the package mosquitto.
fn program(name: &str) -> PathBuf {
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = std::env::split_paths(&places).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed, these tests need it: apt install mosquitto"))
}

/// A port that nobody listens on, below those that the system gives to outgoing connections: another one of the test's own could
/// have it before it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = u16::try_from(FIRST + next % COUNT).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Broker {
    /// Configured and running.
    pub fn start(conf: &Conf) -> Self {
        let mut broker = Self::stopped(conf);
        broker.resume();
        broker
    }

    /// Configured, with a port of its own, not running yet.
    pub fn stopped(conf: &Conf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        fs::write(folder.path().join("mosquitto.conf"), conf.text(folder.path(), port)).unwrap();
        Self { folder, port, child: None }
    }

    /// Starts it (again) and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let log = self.folder.path().join("mosquitto.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let conf = self.folder.path().join("mosquitto.conf");
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(conf).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < patience, "mosquitto does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it in an orderly way: it saves what it is configured to save.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal("TERM", child.id());
            child.wait().unwrap();
        }
    }

    /// It does nothing for a while.
    pub fn stall(&self, time: Duration) {
        self.pause();
        std::thread::sleep(time);
        self.go_on();
    }

    /// It does nothing from now on: SIGSTOP.
    pub fn pause(&self) {
        self.child.iter().for_each(|child| process::signal("STOP", child.id()));
    }

    /// It goes on: SIGCONT.
    pub fn go_on(&self) {
        self.child.iter().for_each(|child| process::signal("CONT", child.id()));
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// What it saved when it was stopped.
    pub fn saved(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("mosquitto.db")).unwrap()
    }

    /// While it is stopped: puts an older save in the place of the last one.
    pub fn restore(&self, saved: &[u8]) {
        fs::write(self.folder.path().join("mosquitto.db"), saved).unwrap();
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a gateway without TLS finds it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("mosquitto.log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Conf {
    fn text(&self, folder: &Path, port: u16) -> String {
        let mut text = format!("listener {port} 127.0.0.1\n");
        if let Some((cert, key)) = &self.tls {
            write!(text, "certfile {}\nkeyfile {}\n", cert.display(), key.display()).unwrap();
        }
        if let Some(clients) = &self.clients {
            write!(text, "cafile {}\nrequire_certificate true\n", clients.display()).unwrap();
        }
        if let Some(port) = self.plain {
            writeln!(text, "listener {port} 127.0.0.1").unwrap();
        }
        text += "user root\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\nlog_type warning\n";
        if let Some(in_flight) = self.in_flight {
            writeln!(text, "max_inflight_messages {in_flight}").unwrap();
        }
        if self.persistent {
            write!(text, "persistence true\npersistence_location {}/\n", folder.display()).unwrap();
        }
        match self.login {
            None => text += "allow_anonymous true\n",
            Some((user, password)) => {
                let file = folder.join("passwords");
                let mut command = Command::new(program("mosquitto_passwd"));
                let made = command.arg("-b").arg("-c").arg(&file).args([user, password]).stderr(Stdio::null()).status();
                assert!(made.unwrap().success(), "mosquitto_passwd failed");
                write!(text, "allow_anonymous false\npassword_file {}\n", file.display()).unwrap();
            }
        }
        text
    }
}
