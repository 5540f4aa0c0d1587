//! A mosquitto of one's own, a proxy that can be cut, publishing clients, and a link under test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use weir::config::{self, MqttConnection, MqttVersion, Qos, RetainedPolicy, Subscription};
use weir::shell::mqtt::{Acked, Incoming, Link, Source, spawn};
use weir::units::{Bytes, Millis};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A mosquitto process; killed when dropped.
pub struct Broker {
    pub port: u16,
    pub dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Broker {
    pub async fn start(settings: &str) -> Self {
        let mut broker = Self::prepare(settings);
        broker.run().await;
        broker
    }

    /// Everything but the process.
    pub fn prepare(settings: &str) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let place = dir.path().display();
        let mut text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {place}/\n\
             log_dest file {place}/log\nlog_type all\nset_tcp_nodelay true\n"
        );
        if !settings.contains("allow_anonymous") {
            text += "allow_anonymous true\n";
        }
        text += &settings.replace("$DIR", &place.to_string());
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        Self { port, dir, child: None }
    }

    pub async fn run(&mut self) {
        let program = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|name| Command::new(name).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok())
            .expect("mosquitto is installed");
        let child = Command::new(program)
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        within("mosquitto listens", async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Ends it by a signal and waits. SIGTERM (15) saves sessions; SIGHUP (1) reloads and does not end it.
    pub fn signal(&mut self, signal: u8) {
        let Some(child) = &mut self.child else { return };
        Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
        if signal != 1 {
            child.wait().unwrap();
            self.child = None;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub fn connection(port: u16, client_id: &str, version: MqttVersion) -> MqttConnection {
    MqttConnection {
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        client_id: client_id.to_owned(),
        version,
        keep_alive: Millis(5_000),
        session_expiry: Millis(3_600_000),
        in_flight: 32,
        packet_max: Bytes::kib(64),
        username: None,
        password: None,
    }
}

pub fn subscription(filter: &str, qos: Qos) -> Subscription {
    Subscription { filter: filter.parse().unwrap(), qos, retained: RetainedPolicy::default() }
}

/// What a link is to do that starts without a past.
pub fn source(connection: MqttConnection, wishes: impl IntoIterator<Item = Subscription>) -> Source {
    let subscriptions = config::merge(wishes);
    Source { connection, subscriptions, unsubscribed: vec![], fresh: vec![], inbox_max: Bytes::mib(1), seed: 1 }
}

/// A link and what it has said.
pub struct Tested {
    pub link: Link,
    pub seen: Vec<Incoming>,
    pub epoch: u64,
}

/// What matters of a message: (topic, payload, QoS, dup).
pub type Seen = (String, String, u8, bool);

impl Tested {
    pub fn new(connection: MqttConnection, filters: &[&str]) -> Self {
        Self::with(source(connection, filters.iter().map(|filter| subscription(filter, Qos::ExactlyOnce))))
    }

    pub fn with(source: Source) -> Self {
        let link = spawn(source);
        link.open();
        Self { link, seen: Vec::new(), epoch: 0 }
    }

    /// The next event for which `pick` gives something; others are kept in `seen`.
    pub async fn next<T>(&mut self, what: &str, pick: impl Fn(&Incoming) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut batch = Vec::new();
        loop {
            if let Some(index) = self.seen.iter().position(|event| pick(event).is_some()) {
                let event = self.seen.remove(index);
                return pick(&event).unwrap();
            }
            let took = tokio::time::timeout_at(deadline, self.link.inbox.take(64, &mut batch)).await;
            assert!(took.is_ok(), "not in time: {what}; seen {:?}; {:?}", self.seen, self.link.status());
            for event in batch.drain(..) {
                if let Incoming::Connected { epoch, .. } = event {
                    self.epoch = epoch;
                }
                self.seen.push(event);
            }
        }
    }

    pub async fn connected(&mut self) -> bool {
        self.next("connected", |event| match event {
            Incoming::Connected { session_present, .. } => Some(*session_present),
            _ => None,
        })
        .await
    }

    pub async fn ready(&mut self) -> bool {
        let session = self.connected().await;
        self.next("granted", |event| matches!(event, Incoming::Granted { .. }).then_some(())).await;
        session
    }

    pub async fn message(&mut self) -> (Seen, Acked) {
        self.next("message", |event| match event {
            Incoming::Publish { topic, payload, packet_id, qos, dup, .. } => {
                Some(((text(topic), text(payload), *qos as u8, *dup), Acked { packet_id: *packet_id, qos: *qos }))
            }
            _ => None,
        })
        .await
    }

    pub async fn messages(&mut self, count: usize) -> Vec<(Seen, Acked)> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.message().await);
        }
        all
    }

    pub fn ack(&self, acks: impl IntoIterator<Item = Acked>) {
        self.link.acks.send(self.epoch, acks);
    }

    pub async fn confirmed(&mut self, through: u64) {
        self.next("confirmed", |event| {
            matches!(event, Incoming::Confirmed { acks_through, .. } if *acks_through == through).then_some(())
        })
        .await;
    }

    pub async fn error(&mut self, part: &str) -> String {
        let said = within(part, async {
            loop {
                let said = self.link.status().last_error;
                if said.contains(part) {
                    return said;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        said.await
    }

    /// No message is left, and none comes within a while.
    pub async fn stays_quiet(&mut self, millis: u64) {
        sleep(Duration::from_millis(millis)).await;
        let mut batch = Vec::new();
        self.link.inbox.try_take(usize::MAX, &mut batch);
        let messages: Vec<_> =
            self.seen.iter().chain(&batch).filter(|event| matches!(event, Incoming::Publish { .. })).collect();
        assert!(messages.is_empty(), "{messages:?}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Publishes with a client of another make and waits until the broker has taken all.
pub async fn publish(port: u16, messages: &[(&str, u8, &[u8])]) {
    publish_retained(port, messages, false).await;
}

pub async fn publish_retained(port: u16, messages: &[(&str, u8, &[u8])], retain: bool) {
    use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
    let mut options = MqttOptions::new(format!("device-{}", free_port()), "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, messages.len() + 1);
    for (topic, qos, payload) in messages {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(*qos)];
        client.try_publish(*topic, qos, retain, *payload).unwrap();
    }
    let mut left = messages.len();
    let publishing = async {
        while left > 0 {
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) | Event::Outgoing(Outgoing::Publish(0)) => {
                    left -= 1
                }
                _ => {}
            }
        }
        client.try_disconnect().unwrap();
        while events.poll().await.is_ok() {}
    };
    within("published", publishing).await;
}

/// Forwards connections to a broker until it is cut.
pub struct Proxy {
    pub port: u16,
    /// A cut is seen by every connection, also by one that is busy at that moment.
    cut: watch::Sender<()>,
    /// Bytes from the broker are thrown away.
    pub deaf: Arc<AtomicBool>,
    /// CONNECT with protocol level 5 is refused as a 3.1.1 broker does.
    pub old: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            cut: watch::channel(()).0,
            deaf: Arc::default(),
            old: Arc::default(),
        };
        let (cut, deaf, old) = (proxy.cut.clone(), proxy.deaf.clone(), proxy.old.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, to, cut.subscribe(), deaf.clone(), old.clone()));
            }
        });
        proxy
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }
}

async fn forward(
    mut client: TcpStream,
    to: u16,
    mut cut: watch::Receiver<()>,
    deaf: Arc<AtomicBool>,
    old: Arc<AtomicBool>,
) {
    client.set_nodelay(true).unwrap();
    let mut hello = vec![0; 512];
    let Ok(len) = client.read(&mut hello).await else { return };
    if old.load(Ordering::SeqCst) && hello.get(8) == Some(&5) {
        let _ = client.write_all(&[0x20, 2, 0, 1]).await;
        return;
    }
    let Ok(mut broker) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    broker.set_nodelay(true).unwrap();
    broker.write_all(&hello[..len]).await.unwrap();
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            _ = cut.changed() => return,
            read = client.read(&mut up) => match read {
                Ok(count) if count > 0 => if broker.write_all(&up[..count]).await.is_err() { return },
                _ => return,
            },
            read = broker.read(&mut down) => match read {
                Ok(count) if count > 0 => {
                    if !deaf.load(Ordering::SeqCst) && client.write_all(&down[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// A broker that is nothing but a script: for each connection, `script` gets the stream behind the client's CONNECT.
pub async fn scripted<F, T>(script: F) -> u16
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut hello = vec![0; 512];
            let _ = client.read(&mut hello).await;
            tokio::spawn(script(client));
        }
    });
    port
}

/// A file that only we can read.
pub fn write(path: &Path, text: &str) {
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// CPU time of this thread, on which the whole runtime of a test runs.
pub fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}
