//! Health and the watchdog: red when progress stops although the process lives, green again when it goes on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::disk::Mount;
use super::support::broker::{Broker, Conf, free_port};
use super::support::device::{Publish, publish, reading};
use super::support::fake::packet;
use super::support::gateway::Gateway;
use super::support::guests::Guest;
use super::support::process;
use super::{function, head, tool, wait};

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };
const FILES: &str = "[[sink]]\nname = \"disk\"\ntype = \"file\"\ndir = \"upstream\"\n";

/// A supervisor that listens as systemd does.
struct Supervisor(Arc<Mutex<Vec<String>>>);

impl Supervisor {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let heard = heard.clone();
            move || {
                let mut bytes = [0; 2048];
                while let Ok(read) = socket.recv(&mut bytes) {
                    heard.lock().unwrap().push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                }
            }
        });
        Self(heard)
    }

    fn count(&self, message: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|heard| heard.starts_with(message)).count()
    }
}

/// A running process; it ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn readings(range: std::ops::Range<usize>) -> Vec<Publish> {
    range.map(|seq| reading("site/d/temp", format!(r#"{{"temp":1,"seq":{seq}}}"#))).collect()
}

fn health(gateway: &Gateway) -> (i32, Value) {
    let answer = tool(gateway, "status --json");
    (answer.code, if answer.code == 69 { Value::Null } else { answer.json() })
}

fn has_reason(answer: &Value, kind: &str) -> bool {
    answer["health"]["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason["reason"] == kind))
}

/// Status code and body of `GET /health`.
fn http_health(address: SocketAddr) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// The log goes to a pipe that nobody reads: when it is full the loop hangs in a write, as on a terminal that is stopped.
#[test]
fn a_loop_that_hangs_is_told_by_everything_but_the_loop() {
    let broker = Broker::start(&Conf::wide());
    let report = function("keep").replace("[[function.trigger]]", "report = true\n[[function.trigger]]");
    let gateway = Gateway::new(&(head(&broker.url()) + "[health]\nstalled-after = \"2 s\"\n" + &report + FILES));
    KEEP.install(&gateway);
    let supervisor = Supervisor::listen(&gateway.path("notify"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["run", "gateway.toml", "--metrics", &address.to_string()]).current_dir(gateway.path(""));
    command.env("NOTIFY_SOCKET", gateway.path("notify")).env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let stderr = running.0.stderr.take().unwrap();
    wait("READY=1", || supervisor.count("READY=1") == 1);
    wait("a healthy gateway", || health(&gateway).0 == 0);
    wait("the watchdog's food", || supervisor.count("WATCHDOG=1") > 1);
    assert_eq!(http_health(address).0, 200);

    publish(broker.port(), readings(0..1500));
    wait("a failure", || {
        let (code, answer) = health(&gateway);
        code == 2 && has_reason(&answer, "loop-stalled") && answer["gateway"].is_null()
    });
    let (code, body) = http_health(address);
    assert!(code == 503 && body.contains("loop-stalled"), "{code} {body}");
    let text = tool(&gateway, "status");
    assert!(text.code == 2 && text.out.contains("failed: loop-stalled: the loop has not turned for"), "{}", text.out);
    assert!(supervisor.count("STATUS=failed: loop-stalled") > 0);
    let fed = supervisor.count("WATCHDOG=1");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(supervisor.count("WATCHDOG=1"), fed, "a gateway that hangs must not feed its watchdog");

    // Somebody reads again: it goes on where it was.
    let reader = std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).count());
    wait("a healthy gateway again", || health(&gateway).0 == 0);
    wait("the watchdog's food again", || supervisor.count("WATCHDOG=1") > fed);
    wait("all messages", || health(&gateway).1["gateway"]["books"]["delivered"] == 1500);
    process::signal("TERM", running.0.id());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert!(reader.join().unwrap() >= 1500);
    wait("STOPPING=1", || supervisor.count("STOPPING=1") == 1);
    let (code, _) = health(&gateway);
    assert_eq!(code, 69, "nobody answers any more");
}

/// A frozen file system: writes wait in the kernel, as on a card that does not answer.
#[test]
fn a_disk_that_hangs_is_a_failure_until_it_answers_and_nothing_is_lost() {
    let broker = Broker::start(&Conf::wide());
    let config = head(&broker.url()).replace("[broker]", "data-dir = \"disk/data\"\n[broker]")
        + "[health]\nstalled-after = \"2 s\"\n"
        + &function("keep")
        + FILES;
    let mut gateway = Gateway::new(&config);
    KEEP.install(&gateway);
    let Some(mount) = Mount::ext4(&gateway.path("disk")) else {
        eprintln!("skipped: a loop device may not be mounted here (needs root)");
        return;
    };
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    publish(broker.port(), readings(0..10));
    gateway.wait_for("the first readings", |numbers| numbers.settled("delivered") == 10.0);
    if mount.freeze().is_none() {
        eprintln!("skipped: a file system may not be frozen here");
        return;
    }
    publish(broker.port(), readings(10..20));
    wait("a failure", || {
        let (code, answer) = health(&gateway);
        code == 2 && has_reason(&answer, "commit-stalled")
    });
    let (code, body) = http_health(gateway.address());
    assert!(code == 503 && body.contains("commit-stalled"), "{code} {body}");
    // The loop itself lives: it still tells its numbers.
    assert!(gateway.numbers().unwrap().get("health{state=\"failed\"}") == 1.0);
    mount.thaw();
    wait("a healthy gateway again", || health(&gateway).0 == 0);
    gateway.wait_for("all readings", |numbers| numbers.settled("delivered") == 20.0);
    gateway.stop();
    drop(mount);
}

#[test]
fn a_broker_that_is_away_degrades_and_an_upstream_that_owes_nothing_does_not() {
    let mut broker = Broker::start(&Conf::wide());
    let away = format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n", free_port());
    let health_keys = "[health]\nbroker-away = \"1 s\"\nupstream-away = \"1 s\"\n";
    let mut gateway = Gateway::new(&(head(&broker.url()) + health_keys + &function("keep") + &away));
    KEEP.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(health(&gateway).0, 0, "nothing waits for the upstream that is away");
    publish(broker.port(), readings(0..1));
    wait("the upstream's absence", || has_reason(&health(&gateway).1, "upstream-away"));
    broker.stop();
    wait("both", || {
        let (code, answer) = health(&gateway);
        code == 1 && has_reason(&answer, "broker-away") && has_reason(&answer, "upstream-away")
    });
    let numbers = gateway.numbers().unwrap();
    assert_eq!(numbers.get("health{state=\"degraded\"}"), 1.0);
    assert_eq!(numbers.get("health_reason{reason=\"upstream-away\",subject=\"cloud\"}"), 1.0);
    assert_eq!(http_health(gateway.address()).0, 200, "a restart would not help");
    broker.resume();
    wait("the broker", || !has_reason(&health(&gateway).1, "broker-away"));
    gateway.stop();
}

/// A broker that takes connections and refuses every subscription, as one with access rules does: its port.
fn refusing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = |mut stream: TcpStream| {
        while let Some((kind, body)) = packet(&mut stream) {
            let answer = match kind >> 4 {
                1 => vec![0x20, 3, 0, 0, 0],
                8 => vec![0x90, 4, body[0], body[1], 0, 0x87],
                12 => vec![0xd0, 0],
                _ => Vec::new(),
            };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    port
}

#[test]
fn a_broker_that_refuses_the_subscription_degrades_and_a_connection_is_said_once() {
    let mut gateway = Gateway::new(&(head(&format!("mqtt://127.0.0.1:{}", refusing())) + &function("keep") + FILES));
    KEEP.install(&gateway);
    gateway.start();
    gateway.wait_for("the refusal", |numbers| numbers.get("subscriptions_refused") == 1.0);
    wait("a degraded gateway", || has_reason(&health(&gateway).1, "subscription-refused"));
    let text = tool(&gateway, "status");
    assert!(
        text.code == 1 && text.out.contains("the broker refuses the subscription `site/+/temp`: no message"),
        "{}",
        text.out
    );
    assert_eq!(gateway.numbers().unwrap().get("broker_up"), 1.0);
    let log = gateway.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("connected to")).collect();
    assert_eq!(said.len(), 1, "{log}");
    gateway.stop();
}

#[test]
fn a_data_folder_that_is_removed_under_a_running_gateway_ends_it_before_anything_is_acknowledged() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&(head(&broker.url()) + &function("keep") + FILES));
    KEEP.install(&gateway);
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    publish(broker.port(), readings(0..3));
    gateway.wait_for("the first readings", |numbers| numbers.settled("delivered") == 3.0);
    std::fs::remove_dir_all(gateway.path("weir-data")).unwrap();
    publish(broker.port(), readings(3..8));
    assert_eq!(gateway.wait_for_end().code(), Some(74), "{}", gateway.log());
    assert!(
        gateway.log().contains("the data folder was removed or moved away under the running gateway"),
        "{}",
        gateway.log()
    );
    // The broker has them still.
    gateway.start();
    gateway.wait_for("the readings that were not acknowledged", |numbers| numbers.settled("delivered") == 5.0);
    gateway.stop();
}
