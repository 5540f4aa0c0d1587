//! The publisher against a real mosquitto: what a counting subscriber receives is what the truth says.
#![cfg(feature = "shell")]
#![allow(clippy::unwrap_used, clippy::result_large_err)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::watch;
use weir::config::Qos;
use weir_simulator::fleet::Fleet;
use weir_simulator::publish::{Options, Progress, Published, Version, listen, publish};
use weir_simulator::scenario::Scenario;
use weir_simulator::truth::Tally;
use weir_simulator::upstream::Upstream;

/// A mosquitto of our own on a free port; it ends with the value.
struct Mosquitto {
    child: Child,
    port: u16,
    config: tempfile::NamedTempFile,
}

fn program() -> PathBuf {
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = std::env::split_paths(&places).map(|dir| dir.join("mosquitto")).find(|path| path.is_file());
    found.expect("mosquitto is not installed: apt install mosquitto")
}

impl Mosquitto {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\nuser root\n"
        );
        std::fs::write(config.path(), text).unwrap();
        Self { child: Self::spawn(&config), port, config }
    }

    fn spawn(config: &tempfile::NamedTempFile) -> Child {
        Command::new(program())
            .arg("-c")
            .arg(config.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.config);
    }

    fn options(&self, version: Version) -> Options {
        let mut broker: weir_simulator::publish::Broker = format!("mqtt://127.0.0.1:{}", self.port).parse().unwrap();
        broker.version = version;
        Options { patience_ms: 5000, ..Options::new(broker) }
    }

    /// A subscriber, subscribed.
    async fn subscriber(&self) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new("counter", "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 100);
        client.subscribe("#", QoS::ExactlyOnce).await.unwrap();
        for _ in 0..200 {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => return (client, events),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
        panic!("mosquitto does not answer");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a plain subscriber sees: per device, the readings with a number in `temp`, and all messages.
#[derive(Default)]
struct Counted {
    all: u64,
    devices: BTreeMap<String, Tally>,
}

async fn count(mut events: EventLoop, all: u64) -> Counted {
    let mut counted = Counted::default();
    while counted.all < all {
        let event = tokio::time::timeout(Duration::from_secs(10), events.poll()).await;
        let event = event.unwrap_or_else(|_| panic!("{} of {all} messages are missing", all - counted.all)).unwrap();
        let Event::Incoming(Packet::Publish(publish)) = event else { continue };
        counted.all += 1;
        let json: Option<serde_json::Value> = serde_json::from_slice(&publish.payload).ok();
        if let Some(temp) = json.and_then(|json| json["temp"].as_f64()) {
            let device = publish.topic.split('/').nth(1).unwrap().to_owned();
            counted.devices.entry(device).or_default().add(1, temp);
        }
    }
    counted
}

fn scenario(qos: Qos, duration_ms: u64, rate: f64) -> Scenario {
    let text =
        include_str!("../scenarios/faults.toml").split("[[fleet]]").take(2).collect::<Vec<_>>().join("[[fleet]]");
    let mut scenario = Scenario::parse("faults.toml", &text).unwrap();
    scenario.duration_ms = Some(duration_ms);
    scenario.set_qos(qos);
    scenario.set_rate(rate);
    scenario
}

async fn run(scenario: &Scenario, options: &Options) -> (Published, Arc<Progress>) {
    let progress = Arc::new(Progress::default());
    let (_stop, stopped) = watch::channel(false);
    (publish(scenario, 7, options, Arc::clone(&progress), stopped).await, progress)
}

#[tokio::test]
async fn a_subscriber_counts_what_the_truth_says_at_every_qos_and_version() {
    let broker = Mosquitto::start();
    for version in [Version::V5, Version::V311] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let (_client, events) = broker.subscriber().await;
            let scenario = scenario(qos, 1000, 1000.0);
            let whole = Fleet::new(&scenario, 7, 0).count() as u64;
            let counting = tokio::spawn(count(events, whole));
            let (published, progress) = run(&scenario, &broker.options(version)).await;
            assert_eq!((published.error, progress.take_notes()), (None, Vec::new()), "{version:?} {qos:?}");
            let truth = published.truth;
            assert!(truth.published() > 900, "{}", truth.published());
            assert_eq!(progress.acknowledged.load(std::sync::atomic::Ordering::Relaxed), truth.published());
            let counted = counting.await.unwrap();
            for device in &truth.devices {
                assert_eq!(
                    counted.devices.get(&device.device),
                    Some(&device.metered),
                    "{version:?} {qos:?} {device:?}"
                );
                assert_eq!((device.resent, device.unconfirmed), Default::default());
            }
        }
    }
}

#[tokio::test]
async fn a_count_is_kept_to_the_message_and_unpaced_is_fast() {
    let broker = Mosquitto::start();
    let mut options = broker.options(Version::V5);
    options.count = Some(20_001);
    options.is_paced = false;
    let mut scenario = scenario(Qos::AtLeastOnce, 1, 1000.0);
    scenario.duration_ms = None;
    drop(broker.subscriber().await);
    let (published, _) = run(&scenario, &options).await;
    assert_eq!((published.truth.published(), published.error), (20_001, None));
    assert!(published.elapsed_us < 20_000_000, "{} us", published.elapsed_us);
}

#[tokio::test]
async fn pace_is_kept() {
    let broker = Mosquitto::start();
    drop(broker.subscriber().await);
    let (published, _) = run(&scenario(Qos::AtLeastOnce, 1000, 2000.0), &broker.options(Version::V5)).await;
    assert!((1_000_000..1_500_000).contains(&published.elapsed_us), "{} us", published.elapsed_us);
    assert!((1900..2500).contains(&published.truth.published()), "{}", published.truth.published());
}

#[tokio::test]
async fn a_broker_that_restarts_loses_nothing_and_what_may_be_double_is_marked() {
    let mut broker = Mosquitto::start();
    drop(broker.subscriber().await);
    let options = broker.options(Version::V5);
    let publishing = tokio::spawn(async move { run(&scenario(Qos::AtLeastOnce, 2000, 2000.0), &options).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    broker.restart();
    let (published, progress) = publishing.await.unwrap();
    assert_eq!((published.error, published.truth.unconfirmed()), (None, 0));
    let whole = Fleet::new(&scenario(Qos::AtLeastOnce, 2000, 2000.0), 7, 0).count();
    assert_eq!(published.truth.published(), whole as u64);
    assert!(progress.reconnects.load(std::sync::atomic::Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn stopping_waits_for_the_acknowledgements() {
    let broker = Mosquitto::start();
    drop(broker.subscriber().await);
    let (stop, stopped) = watch::channel(false);
    let options = broker.options(Version::V5);
    let publishing = tokio::spawn(async move {
        publish(&scenario(Qos::AtLeastOnce, 60_000, 500.0), 7, &options, Arc::default(), stopped).await
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(true).unwrap();
    let published = tokio::time::timeout(Duration::from_secs(5), publishing).await.unwrap().unwrap();
    assert_eq!((published.error, published.truth.unconfirmed()), (None, 0));
    assert!(published.truth.published() > 100, "{}", published.truth.published());
}

#[tokio::test]
async fn an_absent_broker_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
    let options = Options { patience_ms: 300, ..Options::new(format!("mqtt://127.0.0.1:{port}").parse().unwrap()) };
    let (published, _) = run(&scenario(Qos::AtLeastOnce, 100, 100.0), &options).await;
    let error = published.error.unwrap().to_string();
    assert!(error.contains("is the broker running?") && error.contains(&port.to_string()), "{error}");
    assert_eq!(published.truth.published(), 0);
}

#[tokio::test]
async fn listening_adds_up_what_a_sink_publishes_also_when_the_broker_restarts() {
    let mut broker = Mosquitto::start();
    let address = broker.options(Version::V5).broker;
    let upstream = Arc::new(Mutex::new(Upstream::default()));
    let (stop, stopped) = watch::channel(false);
    let into = Arc::clone(&upstream);
    let listening = tokio::spawn(async move {
        let take = |_: &str, payload: &[u8]| {
            into.lock().unwrap().take(payload);
        };
        listen(&address, "weir/#", take, stopped).await
    });
    let (client, mut events) = broker.subscriber().await;
    let polling = tokio::spawn(async move {
        loop {
            if events.poll().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let document = |seq: u64| {
        format!(
            r#"{{"v":1,"gateway":"g","lane":"m","seq":{seq},"kind":"aggregate","at":1,"quality":"synced","topic":"t","meter":"f.m","unit":"C","type":"counter","key":"a","start":0,"end":9,"revision":0,"late":false,"window_quality":"synced","count":2,"sum":1.5}}"#
        )
    };
    let has = |messages: u64| {
        let upstream = Arc::clone(&upstream);
        async move {
            for _ in 0..400 {
                if upstream.lock().unwrap().tally("f.m", "a").messages == messages {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            panic!("{:?} instead of {messages}", upstream.lock().unwrap().tally("f.m", "a"));
        }
    };
    // The subscription may come after the first publish: what counts is that nothing is lost from then on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for seq in [1, 2, 2, 3] {
        client.publish("weir/g/m/t", QoS::AtLeastOnce, false, document(seq)).await.unwrap();
    }
    has(6).await;
    broker.restart();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.publish("weir/g/m/t", QoS::AtLeastOnce, false, document(4)).await.unwrap();
    has(8).await;
    assert_eq!(upstream.lock().unwrap().gaps(), []);
    stop.send(true).unwrap();
    assert_eq!(listening.await.unwrap(), Ok(()));
    polling.abort();
}
