//! Upstream: a subscriber that counts what arrives and when.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::Sent;
use crate::packets::{Connection, Packet};

/// A running subscriber; it ends with this value.
pub struct Upstream {
    count: Arc<AtomicUsize>,
    latencies_us: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    /// Subscribes to everything that gateways and floors send on; with `sent` it notes how long each message took.
    pub fn listen(port: u16, sent: Option<Arc<Sent>>) -> Self {
        let mut connection = Connection::open(port, "upstream", Duration::from_millis(200));
        connection.subscribe("weir/#", 0);
        connection.subscribe("kept/#", 0);
        let upstream = Self { count: Arc::default(), latencies_us: Arc::default(), stop: Arc::default() };
        let (count, latencies, stop) = (upstream.count.clone(), upstream.latencies_us.clone(), upstream.stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(Packet::Publish { payload, .. }) = connection.read() {
                    count.fetch_add(1, Ordering::Relaxed);
                    if let Some(sent) = &sent
                        && let Some(at) = number(payload).and_then(|seq| sent.at_us.get(seq))
                    {
                        latencies.lock().unwrap().push(sent.now_us() - at.load(Ordering::Relaxed));
                    }
                }
            }
        });
        upstream
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `wanted` have arrived, or none for `patience`; returns how many there are.
    pub fn wait(&self, wanted: usize, patience: Duration) -> usize {
        let mut last = (self.count(), Instant::now());
        while last.0 < wanted && last.1.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
            let count = self.count();
            if count != last.0 {
                last = (count, Instant::now());
            }
        }
        self.count()
    }

    /// How long messages took, ascending.
    pub fn latencies_us(&self) -> Vec<u64> {
        let mut latencies = self.latencies_us.lock().unwrap().clone();
        latencies.sort_unstable();
        latencies
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The message's number: what follows `"seq":` in the payload itself, not in the envelope around it. An alert has none.
fn number(publish: &[u8]) -> Option<usize> {
    let payload = behind(publish, b"\"payload\":").unwrap_or(publish);
    let digits = behind(payload, b"\"seq\":")?.iter().take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    core::str::from_utf8(&digits).ok()?.parse().ok()
}

fn behind<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(key.len()).position(|window| window == key)?;
    text.get(at + key.len()..)
}
