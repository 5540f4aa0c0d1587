//! An embedded MQTT 5 broker: rumqttd, configured in code, on a free port of this machine.
//!
//! - It keeps everything in memory and lives as long as the process: an outage of the upstream is made by the link to it.

use core::fmt;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A running broker.
pub struct Broker {
    /// Where it listens.
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

/// The broker did not start.
#[derive(Debug)]
pub struct BrokerError {
    name: &'static str,
    reason: String,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} broker does not start on 127.0.0.1: {}", self.name, self.reason)
    }
}

impl std::error::Error for BrokerError {}

/// Between the choice of a free port and its use another process may take it.
const ATTEMPTS: u32 = 3;
const START_STEP: Duration = Duration::from_millis(10);
const START_STEPS_MAX: u32 = 500;

impl Broker {
    /// Starts one. `name` is for messages and threads.
    ///
    /// # Errors
    /// It does not answer on any of several ports.
    pub async fn start(name: &'static str) -> Result<Self, BrokerError> {
        let mut reason = String::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(name).await {
                Ok(broker) => return Ok(broker),
                Err(why) => reason = why,
            }
        }
        Err(BrokerError { name, reason })
    }

    async fn attempt(name: &'static str) -> Result<Self, String> {
        let address = free_address().await.map_err(|error| format!("no free port: {error}"))?;
        let mut broker = rumqttd::Broker::new(config(name, address));
        let run = move || drop(broker.start());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| error.to_string())?;
        for _ in 0..START_STEPS_MAX {
            if thread.is_finished() {
                return Err(format!("port {} was taken meanwhile", address.port()));
            }
            if TcpStream::connect(address).await.is_ok() {
                return Ok(Self { address, thread });
            }
            sleep(START_STEP).await;
        }
        Err(format!("port {} is not answered", address.port()))
    }

    /// Whether it still runs; if not, the demo can only end.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// An address of this machine on which nobody listens.
///
/// # Errors
/// The system has no free port.
pub async fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}

fn config(name: &str, listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5000,
        max_payload_size: 1 << 20,
        // Packets that are taken from a socket at once.
        max_inflight_count: 500,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server = ServerSettings { name: name.to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 200,
        // What a slow subscriber may be behind, per filter: 64 segments of 1 MiB; older messages are gone.
        max_segment_size: 1 << 20,
        max_segment_count: 64,
        ..RouterConfig::default()
    };
    Config { router, v5: Some(HashMap::from([(name.to_owned(), server)])), ..Config::default() }
}
