//! Devices that publish, through the simulator; and what a meter must make of it, counted from the messages themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;
use weir_simulator::fleet::{Fleet, Message};
use weir_simulator::publish::{Options, Progress, Published, Version, clock, publish};
use weir_simulator::scenario::Scenario;

/// A scenario under way.
pub struct Publishing {
    thread: JoinHandle<Published>,
    progress: Arc<Progress>,
    /// Every message that it sends, in the order of their due times.
    pub messages: Vec<Message>,
}

/// What one device's readings come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Readings {
    /// How many.
    pub count: u64,
    /// Their sum; exact, since the simulator's values are multiples of a quarter.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Publishing {
    /// Starts to publish the scenario to the broker on this port, in real time.
    pub fn start(scenario: Scenario, port: u16, version: Version) -> Self {
        let epoch_ms = clock::wall_ms();
        let messages = Fleet::new(&scenario, scenario.seed, epoch_ms).collect();
        let mut broker: weir_simulator::publish::Broker = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
        broker.version = version;
        let options = Options { epoch_ms: Some(epoch_ms), ..Options::new(broker) };
        let progress = Arc::<Progress>::default();
        let thread = std::thread::spawn({
            let progress = progress.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let (_go_on, stop) = watch::channel(false);
                runtime.block_on(publish(&scenario, scenario.seed, &options, progress, stop))
            }
        });
        Self { thread, progress, messages }
    }

    /// Whether everything is sent and acknowledged.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end; the broker must have acknowledged every message, each sent once.
    pub fn finish(self) -> Vec<Message> {
        let (messages, resent) = self.finish_again();
        assert_eq!(resent, 0, "messages that devices had to send again may be twice at the broker");
        messages
    }

    /// The same, and how many of them devices had to send again, because the broker did not answer: each may be twice there.
    pub fn finish_again(self) -> (Vec<Message>, u64) {
        let published = self.thread.join().unwrap();
        assert!(published.error.is_none(), "{:?}", published.error);
        assert_eq!(published.truth.published(), self.messages.len() as u64, "{:?}", self.progress.take_notes());
        assert_eq!(published.truth.unconfirmed(), 0);
        (self.messages, published.truth.devices.iter().map(|device| device.resent.messages).sum())
    }
}

/// Metered readings by device.
pub fn readings(messages: &[Message]) -> BTreeMap<String, Readings> {
    let mut devices: BTreeMap<String, Readings> = BTreeMap::new();
    for message in messages {
        let Some(value) = message.metered else { continue };
        let entry = devices.entry(device(message).to_owned());
        let of = entry.or_insert(Readings { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY });
        of.count += 1;
        of.sum += value;
        of.min = of.min.min(value);
        of.max = of.max.max(value);
    }
    devices
}

/// The device of a message: the second level of the tests' topics.
pub fn device(message: &Message) -> &str {
    message.topic.split('/').nth(1).expect("the tests' topics have a level for the device")
}
