//! The gateway's way to the devices' broker: a relay that gives a redelivered message back its identity.
//!
//! rumqttd 0.20 keeps the session of a client that vanished and delivers again what had no acknowledgement, but under new
//! packet identifiers and without DUP. MQTT wants the original identifier and DUP=1 (MQTT 5.0 §4.4, §3.3.1.1), and that is
//! what the gateway recognises a redelivery by, as mosquitto and every other conforming broker send it.
//!
//! - Nothing but identifiers and the DUP flag is changed; payloads, order and acknowledgements are the broker's and the
//!   gateway's own. For QoS 0 and 1.
//! - An acknowledgement that has passed the relay reaches the broker, whatever happens to the gateway then.
//! - The relay can lose the gateway's acknowledgements, until the connection ends: a crash between commit and acknowledgement.

mod flight;
mod frames;

use core::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use flight::Flight;
use frames::{Frames, Kind};

/// The broker has this long to end a connection whose gateway is gone.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the relay has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Messages delivered to the gateway, again or not.
    pub delivered: AtomicU64,
    /// Of these: delivered again.
    pub redelivered: AtomicU64,
    /// Acknowledgements passed on.
    pub acknowledged: AtomicU64,
    /// Acknowledgements lost: of messages that are committed, and of which the broker does not know it.
    pub lost: AtomicU64,
    /// Answers to subscriptions passed on.
    pub subscribed: AtomicU64,
}

/// What happens to the gateway's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode {
    loses: bool,
    /// Counted up to end the connection of the moment.
    cuts: u64,
}

/// The relay.
pub struct Session {
    /// Where the gateway connects to.
    pub address: SocketAddr,
    /// Counters.
    pub seen: Arc<Seen>,
    mode: watch::Sender<Mode>,
}

impl Session {
    /// Opens a relay to `broker`; it works until the runtime ends.
    ///
    /// # Errors
    /// The system has no free port.
    pub async fn open(broker: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, watching) = watch::channel(Mode::default());
        let seen = Arc::new(Seen::default());
        let relay = Relay { broker, mode: watching, seen: Arc::clone(&seen) };
        tokio::spawn(relay.serve(listener));
        Ok(Self { address, seen, mode })
    }

    /// From now on what the gateway says gets lost, until [`Session::cut`].
    pub fn lose(&self) {
        self.mode.send_modify(|mode| mode.loses = true);
    }

    /// Ends the connection; in the next one nothing gets lost.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| *mode = Mode { loses: false, cuts: mode.cuts + 1 });
    }
}

struct Relay {
    broker: SocketAddr,
    mode: watch::Receiver<Mode>,
    seen: Arc<Seen>,
}

impl Relay {
    /// One connection after the other: a gateway has one.
    async fn serve(self, listener: TcpListener) {
        let mut flight = Flight::default();
        while let Ok((gateway, _)) = listener.accept().await {
            let Ok(broker) = TcpStream::connect(self.broker).await else { continue };
            if gateway.set_nodelay(true).is_ok() && broker.set_nodelay(true).is_ok() {
                flight = self.connection(gateway, broker, flight).await;
            }
        }
    }

    async fn connection(&self, gateway: TcpStream, broker: TcpStream, mut flight: Flight) -> Flight {
        flight.reconnected();
        let flight = Mutex::new(flight);
        let (from_gateway, to_gateway) = gateway.into_split();
        let (mut from_broker, mut to_broker) = broker.into_split();
        // What the gateway said is passed on to its end, so it is its direction that ends the connection.
        let ended = Notify::new();
        let down = async {
            self.down(&mut from_broker, to_gateway, &flight).await;
            ended.notify_one();
            pending::<()>().await;
        };
        tokio::select! {
            () = down => {}
            () = self.up(from_gateway, &mut to_broker, &flight, &ended) => {}
        }
        // The broker must read every acknowledgement that was passed on before it notices the end.
        drop(to_broker.shutdown().await);
        let mut rest = [0; 4096];
        let drain = async { while from_broker.read(&mut rest).await.is_ok_and(|read| 0 < read) {} };
        drop(timeout(GOODBYE, drain).await);
        flight.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the broker to the gateway.
    async fn down(&self, from: &mut OwnedReadHalf, mut to: OwnedWriteHalf, flight: &Mutex<Flight>) {
        let mut frames = Frames::default();
        while frames.fill(from).await {
            frames.each(|kind, frame| {
                let mut flight = lock(flight);
                match kind {
                    Kind::Publish => {
                        let again = flight.delivers(frame);
                        self.seen.delivered.fetch_add(1, Relaxed);
                        self.seen.redelivered.fetch_add(u64::from(again), Relaxed);
                    }
                    Kind::ConnAck => flight.connected(frame),
                    Kind::SubAck => drop(self.seen.subscribed.fetch_add(1, Relaxed)),
                    Kind::PubAck | Kind::Other => {}
                }
                true
            });
            if to.write_all(frames.out()).await.is_err() {
                return;
            }
        }
    }

    /// From the gateway to the broker.
    async fn up(&self, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf, flight: &Mutex<Flight>, ended: &Notify) {
        let mut mode = self.mode.clone();
        let cuts = mode.borrow_and_update().cuts;
        let mut frames = Frames::default();
        loop {
            let now = *mode.borrow_and_update();
            if now.cuts != cuts {
                return;
            }
            let filled = tokio::select! {
                biased;
                changed = mode.changed() => if changed.is_ok() { continue } else { return },
                () = ended.notified() => return,
                filled = frames.fill(&mut from) => filled,
            };
            if !filled {
                return;
            }
            frames.each(|kind, frame| match kind {
                _ if now.loses => {
                    self.seen.lost.fetch_add(u64::from(kind == Kind::PubAck), Relaxed);
                    false
                }
                Kind::PubAck => {
                    let known = lock(flight).acknowledges(frame);
                    self.seen.acknowledged.fetch_add(u64::from(known), Relaxed);
                    known
                }
                _ => true,
            });
            if to.write_all(frames.out()).await.is_err() {
                return;
            }
        }
    }
}

fn lock(flight: &Mutex<Flight>) -> MutexGuard<'_, Flight> {
    flight.lock().unwrap_or_else(PoisonError::into_inner)
}
