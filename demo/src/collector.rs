//! What arrives upstream: a subscriber of the upstream broker that notes every record.
//!
//! - Its own connection goes to the broker, not over the link that is cut: what the broker has acknowledged, it hands on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::time::{sleep, timeout};
use weir_simulator::upstream::Upstream;

const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);

/// The records so far.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Upstream>>);

impl Collector {
    /// Subscribes; collects until the runtime ends.
    ///
    /// # Errors
    /// The broker does not answer; in words.
    pub async fn start(broker: SocketAddr) -> Result<Self, String> {
        let mut options = MqttOptions::new("collector", broker.ip().to_string(), broker.port());
        options.set_clean_start(false).set_keep_alive(Duration::from_secs(60)).set_max_packet_size(Some(1 << 20));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let (client, mut events) = AsyncClient::new(options, 10);
        client.subscribe("weir/#", QoS::AtLeastOnce).await.map_err(|error| error.to_string())?;
        let granted = timeout(PATIENCE, subscribed(&mut events)).await;
        granted.map_err(|_| "the upstream broker does not answer the collector".to_owned())?;
        let collector = Self::default();
        tokio::spawn(collect(client, events, collector.clone()));
        Ok(collector)
    }

    /// The records so far.
    pub fn upstream(&self) -> MutexGuard<'_, Upstream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn subscribed(events: &mut EventLoop) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::SubAck(_))) => return,
            Ok(_) => {}
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn collect(_client: AsyncClient, mut events: EventLoop, collector: Collector) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => drop(collector.upstream().take(&publish.payload)),
            Ok(_) => {}
            // The session is kept: what was not acknowledged comes again, and counts once.
            Err(_) => sleep(RETRY).await,
        }
    }
}
