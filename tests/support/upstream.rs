//! The other end: a subscriber with a persistent session at the upstream broker that adds up what comes.
//!
//! - It acknowledges, so that a broker that is stopped in an orderly way keeps what it has not had yet.
//! - It reconnects for ever; a broker that forgot its session is a fault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};

use super::gateway::PATIENCE;
use super::ledger::Ledger;

/// A subscriber to everything that gateways send.
pub struct Upstream {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Subscribed to `weir/#` at the broker on this port.
    pub fn subscribe(port: u16) -> Self {
        let mut options = MqttOptions::new("upstream", "127.0.0.1", port);
        options.set_clean_session(false).set_max_packet_size(1 << 24, 1 << 24).set_keep_alive(Duration::from_secs(20));
        let (client, connection) = Client::new(options, 100);
        client.subscribe("weir/#", QoS::AtLeastOnce).unwrap();
        let (ledger, stop, ready) = (Arc::<Mutex<Ledger>>::default(), Arc::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (ledger, stop, ready) = (ledger.clone(), Arc::clone(&stop), ready.clone());
            // The client must live as long as the connection.
            move || collect(&client, connection, &ledger, &stop, &ready)
        });
        let until = Instant::now() + PATIENCE;
        while !ready.load(Ordering::Relaxed) {
            assert!(Instant::now() < until, "the upstream broker does not take a subscription");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { ledger, stop, thread: Some(thread) }
    }

    /// Waits until the lanes have so many records, and ends: what arrived.
    pub fn collect(mut self, lanes: &[(&str, u64)]) -> Ledger {
        let until = Instant::now() + PATIENCE;
        loop {
            let ledger = self.ledger.lock().unwrap();
            let short = lanes.iter().find(|(lane, wanted)| ledger.count_of(lane) < *wanted);
            let Some((lane, wanted)) = short else { break };
            let arrived = ledger.count_of(lane);
            drop(ledger);
            assert!(Instant::now() < until, "upstream has {arrived} of {wanted} records of lane {lane}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.end();
        core::mem::take(&mut *self.ledger.lock().unwrap())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the collector panicked");
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end();
    }
}

fn collect(_: &Client, mut connection: Connection, ledger: &Mutex<Ledger>, stop: &AtomicBool, ready: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match connection.recv_timeout(Duration::from_millis(100)) {
            Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => ledger.lock().unwrap().take(&publish.payload),
            Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => ready.store(true, Ordering::Relaxed),
            Ok(Ok(Event::Incoming(Packet::ConnAck(answer)))) => {
                if ready.load(Ordering::Relaxed) && !answer.session_present {
                    ledger.lock().unwrap().faults.push("the upstream broker forgot its session".to_owned());
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => std::thread::sleep(Duration::from_millis(50)),
            Err(rumqttc::RecvTimeoutError::Timeout) => {}
            Err(rumqttc::RecvTimeoutError::Disconnected) => return,
        }
    }
}
