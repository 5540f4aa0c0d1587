//! One connection that publishes one shard of a fleet.
//!
//! - What is due is sent as soon as the window has room; all packets of one turn leave in one write.
//! - A lost connection is built up again, and what was on its way is sent again; nothing is dropped at QoS 1 and 2.
//! - The truth counts a message when the broker has acknowledged it (QoS 0: when it was written).

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use weir::config::Qos;

use super::codec::{self, Answer, Outcome, Step};
use super::flight::{Flight, Resend, Settled};
use super::{Options, Progress, PublishError};
use crate::fleet::Fleet;
use crate::truth::Truth;

const KEEP_ALIVE_S: u16 = 30;
/// Encoded bytes that wait for the socket; more readings are taken when there is room again.
const OUT_MAX: usize = 64 * 1024;

/// One connection and what it has to do.
pub(super) struct Link {
    pub(super) options: Options,
    pub(super) client_id: String,
    pub(super) fleet: Fleet,
    /// Messages still to be sent.
    pub(super) left: u64,
    pub(super) truth: Truth,
    pub(super) start: Instant,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) flight: Flight,
    pub(super) is_stopped: bool,
}

/// How a connection ended.
enum End {
    /// Everything is sent and acknowledged.
    Done,
    Lost(String),
}

struct Connection {
    stream: TcpStream,
    inbox: BytesMut,
    receive_max: u16,
    session_present: bool,
}

impl Link {
    /// Publishes until all is sent and acknowledged. An error comes with the truth so far.
    pub(super) async fn run(mut self) -> (Truth, Result<(), PublishError>) {
        let mut is_first = true;
        let outcome = loop {
            let connection = match self.reach(is_first).await {
                Ok(connection) => connection,
                Err(error) => break Err(error),
            };
            match self.work(connection, is_first).await {
                End::Done => break Ok(()),
                End::Lost(reason) => {
                    self.progress.reconnects.fetch_add(1, Relaxed);
                    self.progress.note(format!("connection lost ({reason}); connecting again"));
                }
            }
            is_first = false;
        };
        for message in self.flight.rest() {
            self.truth.count_unconfirmed(&message);
        }
        (self.truth, outcome)
    }

    /// Connects, with patience.
    async fn reach(&mut self, is_first: bool) -> Result<Connection, PublishError> {
        let deadline = Instant::now() + Duration::from_millis(self.options.patience_ms);
        let mut pause = Duration::from_millis(50);
        loop {
            let reason = match timeout_at(deadline, self.connect(is_first)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(ConnectError::Refused(reason))) => return Err(PublishError::Refused { reason }),
                Ok(Err(ConnectError::Failed(reason))) => reason,
                Err(_) => "no answer".to_owned(),
            };
            if deadline <= Instant::now() + pause {
                return Err(PublishError::Unreachable { broker: self.options.broker.to_string(), reason });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn connect(&self, clean: bool) -> Result<Connection, ConnectError> {
        let broker = &self.options.broker;
        let failed = |error: std::io::Error| ConnectError::Failed(error.to_string());
        let mut stream = TcpStream::connect((broker.host.as_str(), broker.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut out = BytesMut::new();
        codec::connect(broker, &self.client_id, clean, KEEP_ALIVE_S, &mut out);
        stream.write_all(&out).await.map_err(failed)?;
        let mut inbox = BytesMut::with_capacity(4096);
        loop {
            match codec::read(broker.version, &mut inbox).map_err(ConnectError::Failed)? {
                Some(Answer::Connected { session_present, receive_max }) => {
                    return Ok(Connection { stream, inbox, receive_max, session_present });
                }
                Some(Answer::Refused(reason)) => return Err(ConnectError::Refused(reason)),
                Some(other) => return Err(ConnectError::Failed(format!("answers CONNECT with {other:?}"))),
                None if stream.read_buf(&mut inbox).await.map_err(failed)? == 0 => {
                    return Err(ConnectError::Failed("closed the connection at once".to_owned()));
                }
                None => {}
            }
        }
    }

    /// Publishes over one connection until it is lost or there is nothing left.
    async fn work(&mut self, connection: Connection, is_first: bool) -> End {
        let Connection { mut stream, mut inbox, receive_max, session_present } = connection;
        let version = self.options.broker.version;
        let mut out = BytesMut::with_capacity(OUT_MAX);
        if !is_first {
            self.flight.resend(session_present, |resend| match resend {
                Resend::Publish(message, id) => codec::publish(version, message, id, session_present, &mut out),
                Resend::Release(id) => codec::pubrel(version, id, &mut out),
            });
        }
        let (mut reader, mut writer) = stream.split();
        let ping_every = Duration::from_secs(u64::from(KEEP_ALIVE_S) / 2);
        let (mut ping_at, mut heard_at) = (Instant::now() + ping_every, Instant::now());
        loop {
            loop {
                match codec::read(version, &mut inbox) {
                    Ok(None) => break,
                    Ok(Some(answer)) => {
                        if let Some(reason) = self.settle(answer, &mut out) {
                            return End::Lost(reason);
                        }
                    }
                    Err(error) => return End::Lost(error),
                }
            }
            let next = self.fill(receive_max, &mut out);
            if next.is_none() && out.is_empty() && self.flight.len() == 0 {
                codec::disconnect(version, &mut out);
                // All is acknowledged: an error here loses nothing.
                let _ = timeout(Duration::from_secs(1), writer.write_all(&out)).await;
                return End::Done;
            }
            let wake_at = next.unwrap_or(ping_at).min(ping_at);
            let is_waiting = out.is_empty() && self.flight.has_room(receive_max);
            tokio::select! {
                got = reader.read_buf(&mut inbox) => match got {
                    Ok(0) => return End::Lost("closed by the broker".to_owned()),
                    Ok(_) => heard_at = Instant::now(),
                    Err(error) => return End::Lost(error.to_string()),
                },
                wrote = writer.write_buf(&mut out), if !out.is_empty() => {
                    if let Err(error) = wrote {
                        return End::Lost(error.to_string());
                    }
                }
                () = sleep_until(if is_waiting { wake_at } else { ping_at }) => {}
                is_asked = async { self.stop.wait_for(|stop| *stop).await.is_ok() }, if !self.is_stopped => {
                    self.is_stopped = true;
                    // A caller that has gone cannot ask any more.
                    if is_asked {
                        self.fleet.end_at(self.elapsed_us());
                    }
                }
            }
            if ping_at <= Instant::now() {
                if heard_at + ping_every * 2 < Instant::now() {
                    return End::Lost("the broker answers no more".to_owned());
                }
                codec::ping(&mut out);
                ping_at = Instant::now() + ping_every;
            }
        }
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Encodes what is due and has room. Says when the next message is due; `None`: there is none.
    fn fill(&mut self, receive_max: u16, out: &mut BytesMut) -> Option<Instant> {
        let now_us = if self.options.is_paced { self.elapsed_us() } else { u64::MAX };
        loop {
            if self.left == 0 {
                return None;
            }
            let due_us = self.fleet.next_due_us()?;
            if now_us < due_us || OUT_MAX < out.len() || !self.flight.has_room(receive_max) {
                return Some(self.start + Duration::from_micros(due_us));
            }
            let message = self.fleet.next()?;
            self.left -= 1;
            self.progress.sent.fetch_add(1, Relaxed);
            if self.options.is_paced {
                self.progress.behind_us_max.fetch_max(now_us - due_us, Relaxed);
            }
            if message.qos == Qos::AtMostOnce {
                codec::publish(self.options.broker.version, &message, 0, false, out);
                self.truth.count(&message, false);
                self.progress.acknowledged.fetch_add(1, Relaxed);
            } else {
                let (id, message) = self.flight.add(message);
                codec::publish(self.options.broker.version, message, id, false, out);
            }
        }
    }

    /// Takes an answer of the broker. `Some`: the connection is over.
    fn settle(&mut self, answer: Answer, out: &mut BytesMut) -> Option<String> {
        let (step, id, outcome) = match answer {
            Answer::Ack { step, id, outcome } => (step, id, outcome),
            Answer::Closing(reason) => return Some(reason),
            _ => return None,
        };
        if outcome == Outcome::NoSubscribers {
            self.progress.no_subscribers.fetch_add(1, Relaxed);
        }
        match self.flight.answer(step, id, &outcome) {
            Settled::Taken { message, again } => {
                self.truth.count(&message, again);
                self.progress.acknowledged.fetch_add(1, Relaxed);
            }
            Settled::Release => codec::pubrel(self.options.broker.version, id, out),
            Settled::Refused(message) => {
                self.progress.refused.fetch_add(1, Relaxed);
                self.progress.note(format!("{}: refused by the broker: {outcome:?}", message.topic));
            }
            // The other side may hold a publish of an earlier session: let it go.
            Settled::Unknown if step == Step::Received => codec::pubrel(self.options.broker.version, id, out),
            Settled::Unknown => {}
        }
        None
    }
}

enum ConnectError {
    Refused(String),
    Failed(String),
}
