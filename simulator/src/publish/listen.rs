//! Listening to what an mqtt sink publishes upstream, by rumqttc's client.
//!
//! - At least once, with a persistent session: a connection that breaks loses nothing, and records come twice rather than never.

use core::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::PublishError;
use super::broker::Broker;

/// Largest packet that is taken.
const PACKET_MAX: u32 = 16 * 1024 * 1024;
/// How long the broker may be away.
const PATIENCE: Duration = Duration::from_secs(30);

/// Subscribes to `topics` at QoS 1 and hands (topic, payload) of all that comes to `take`, until `stop` becomes true.
pub async fn listen(
    broker: &Broker,
    topics: &str,
    mut take: impl FnMut(&str, &[u8]),
    mut stop: watch::Receiver<bool>,
) -> Result<(), PublishError> {
    let id = format!("weir-sim-listen-{}", std::process::id());
    let mut options = MqttOptions::new(id, broker.host.clone(), broker.port);
    options.set_clean_start(false).set_session_expiry_interval(Some(3600)).set_keep_alive(Duration::from_secs(10));
    options.set_max_packet_size(Some(PACKET_MAX));
    let mut network = options.network_options();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some((user, password)) = &broker.login {
        options.set_credentials(user, password);
    }
    let (client, mut events) = AsyncClient::new(options, 16);
    let mut heard_at = Instant::now();
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                heard_at = Instant::now();
                if !ack.session_present {
                    // The queue has room: nothing else is ever asked of this client.
                    let _ = client.try_subscribe(topics, QoS::AtLeastOnce);
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                heard_at = Instant::now();
                take(&String::from_utf8_lossy(&publish.topic), &publish.payload);
            }
            Ok(Event::Incoming(_)) => heard_at = Instant::now(),
            Ok(Event::Outgoing(_)) => {}
            Err(ConnectionError::ConnectionRefused(code)) => {
                return Err(PublishError::Refused { reason: format!("{code:?}") });
            }
            Err(error) => {
                if PATIENCE < heard_at.elapsed() {
                    return Err(PublishError::Unreachable { broker: broker.to_string(), reason: error.to_string() });
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
