//! The floor: what anybody would write around rumqttc for the same filter, natively. `daemon floor …` is this program.
//!
//! - It subscribes, reads one field with serde_json, and publishes what is hot under `kept/`; rumqttc acknowledges at once.
//! - With `--store DIR` it keeps one of weir's promises: what it keeps is on disk (group commit each 100 ms, or each 1,000
//!   messages) before it acknowledges. It has no duplicate marks, books, windows, retries after a restart or sandbox.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, NetworkOptions, Packet, Publish, QoS};

use crate::Options;
use crate::process::{Process, folder};

#[derive(serde::Deserialize)]
struct Reading {
    temp: f64,
}

/// Starts the program.
pub fn start(port: u16, qos: u8, nodelay: bool, store: bool) -> Process {
    let dir = folder("floor");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["floor", "--port", &port.to_string(), "--qos", &qos.to_string(), "--nodelay", &nodelay.to_string()]);
    if store {
        command.arg("--store").arg(&dir);
    }
    let process = Process::start(&mut command, &dir.join("log"));
    std::thread::sleep(Duration::from_millis(500));
    process
}

/// The program itself.
pub fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work(options));
}

async fn work(options: &Options) {
    let qos = if options.get("qos", 0u8) == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let dir: String = options.get("store", String::new());
    let mut mqtt = MqttOptions::new("floor", "127.0.0.1", options.get("port", 1883));
    mqtt.set_inflight(1000).set_manual_acks(!dir.is_empty());
    let (client, mut events) = AsyncClient::new(mqtt, 100_000);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(options.get("nodelay", false));
    events.set_network_options(network);
    client.subscribe("site/#", qos).await.unwrap();
    let store = (!dir.is_empty()).then(|| store(Path::new(&dir), client.clone(), qos));
    loop {
        let Event::Incoming(Packet::Publish(message)) = events.poll().await.unwrap() else { continue };
        let Ok(reading) = serde_json::from_slice::<Reading>(&message.payload) else { continue };
        let hot = 80.0 <= reading.temp;
        match &store {
            Some(store) => store.send((message, hot)).unwrap(),
            None if hot => pass_on(&client, qos, &message),
            None => {}
        }
    }
}

fn pass_on(client: &AsyncClient, qos: QoS, message: &Publish) {
    let topic = format!("kept/{}", message.topic);
    client.try_publish(topic, qos, false, message.payload.to_vec()).unwrap();
}

/// A thread that commits what is hot to a file, and acknowledges and passes on after that.
fn store(dir: &Path, client: AsyncClient, qos: QoS) -> mpsc::Sender<(Publish, bool)> {
    let (sender, messages) = mpsc::channel::<(Publish, bool)>();
    let path: PathBuf = dir.join("kept");
    std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        let (mut batch, mut bytes) = (Vec::new(), Vec::new());
        while let Ok(first) = messages.recv() {
            let begin = Instant::now();
            batch.push(first);
            while batch.len() < 1000 {
                let left = Duration::from_millis(100).saturating_sub(begin.elapsed());
                let Ok(next) = messages.recv_timeout(left) else { break };
                batch.push(next);
            }
            bytes.clear();
            for (message, _) in batch.iter().filter(|(_, hot)| *hot) {
                bytes.extend_from_slice(message.topic.as_bytes());
                bytes.extend_from_slice(&message.payload);
            }
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            for (message, hot) in batch.drain(..) {
                client.try_ack(&message).unwrap();
                if hot {
                    pass_on(&client, qos, &message);
                }
            }
        }
    });
    sender
}
