//! A broker with a script: it sends a list of messages in order within a window, keeps its session for ever, and can be set to
//! any state that a session can be in. MQTT 5; packet identifiers are the messages' numbers, so a record of what went over the
//! wire tells which message it was.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_simulator::fleet::Message;

use crate::support::proxy::packets;

/// Unacknowledged messages at most; mosquitto's own limit.
pub const WINDOW: usize = 20;

/// Where a message stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stand {
    #[default]
    Waiting,
    /// Sent, not acknowledged: sent again with DUP.
    Sent,
    /// QoS 2: PUBREC has come; PUBREL is sent, and sent again.
    Received,
    Done,
}

/// The session: one state a message.
pub type Stands = Vec<Stand>;

struct Session {
    messages: Arc<Vec<Message>>,
    stands: Stands,
    /// Messages are sent no earlier than this after the first subscription.
    is_paced: bool,
    began: Option<Instant>,
    has_session: bool,
    /// First message that is not done, first that was never sent.
    done_below: usize,
    next: usize,
}

/// The broker; it ends with the value.
pub struct Script {
    pub port: u16,
    session: Arc<Mutex<Session>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    /// Listens. `stands`: where an earlier life has left the session; empty: there was none.
    pub fn start(messages: Arc<Vec<Message>>, stands: Stands, is_paced: bool) -> Self {
        assert!(messages.len() < 65_000, "packet identifiers are the messages' numbers");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let has_session = !stands.is_empty();
        let stands = if has_session { stands } else { vec![Stand::Waiting; messages.len()] };
        let next = stands.iter().position(|stand| *stand == Stand::Waiting).unwrap_or(stands.len());
        let session = Session { messages, stands, is_paced, began: None, has_session, done_below: 0, next };
        let (session, stop) = (Arc::new(Mutex::new(session)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (session, stop) = (session.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => drop(serve(stream, &session, &stop)),
                        Err(_) => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            }
        });
        Self { port, session, stop, thread: Some(thread) }
    }

    /// Whether every message is acknowledged.
    pub fn is_done(&self) -> bool {
        let mut session = self.session.lock().unwrap();
        session.advance();
        session.done_below == session.stands.len()
    }

    /// The URL for a gateway.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Session {
    fn advance(&mut self) {
        while self.stands.get(self.done_below) == Some(&Stand::Done) {
            self.done_below += 1;
        }
    }

    /// What is owed after a connection was lost.
    fn resend(&self, out: &mut Vec<u8>) {
        for (index, stand) in self.stands.iter().enumerate() {
            match stand {
                Stand::Sent => publish(&self.messages[index], index, true, out),
                Stand::Received => out.extend([0x62, 2, id(index)[0], id(index)[1]]),
                Stand::Waiting | Stand::Done => {}
            }
        }
    }

    /// Sends what is due and has room in the window.
    fn fill(&mut self, out: &mut Vec<u8>) {
        self.advance();
        let Some(began) = self.began else { return };
        let open = |stands: &Stands, from: usize, to: usize| {
            stands[from..to].iter().filter(|stand| matches!(stand, Stand::Sent | Stand::Received)).count()
        };
        let mut under_way = open(&self.stands, self.done_below.min(self.next), self.next);
        while self.next < self.stands.len() && under_way < WINDOW {
            let due = Duration::from_micros(self.messages[self.next].due_us);
            if self.is_paced && began.elapsed() < due {
                return;
            }
            self.stands[self.next] = Stand::Sent;
            publish(&self.messages[self.next], self.next, false, out);
            self.next += 1;
            under_way += 1;
        }
    }

    /// Takes one packet in; its answer goes to `out`.
    fn take(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) {
        match kind >> 4 {
            1 => {
                out.extend([0x20, 3, u8::from(self.has_session), 0, 0]);
                if self.has_session {
                    self.began = Some(self.began.unwrap_or_else(Instant::now));
                    self.resend(out);
                }
            }
            8 => {
                let codes = granted(body);
                out.extend([0x90, 3 + codes.len() as u8, body[0], body[1], 0]);
                out.extend(codes);
                self.has_session = true;
                self.began = Some(self.began.unwrap_or_else(Instant::now));
            }
            12 => out.extend([0xd0, 0]),
            4 | 7 => self.set(body, Stand::Done),
            5 => {
                self.set(body, Stand::Received);
                out.extend([0x62, 2, body[0], body[1]]);
            }
            _ => {}
        }
    }

    fn set(&mut self, body: &[u8], stand: Stand) {
        set(&mut self.stands, body, stand);
    }
}

/// What an acknowledgement says of its message.
fn set(stands: &mut Stands, body: &[u8], stand: Stand) {
    let index = usize::from(u16::from_be_bytes([body[0], body[1]])) - 1;
    stands[index] = stand;
}

/// What the packet of a client changes in its session.
pub fn apply(stands: &mut Stands, kind: u8, body: &[u8]) {
    match kind >> 4 {
        4 | 7 => set(stands, body, Stand::Done),
        5 => set(stands, body, Stand::Received),
        _ => {}
    }
}

fn id(index: usize) -> [u8; 2] {
    u16::try_from(index + 1).expect("fewer than 65,000 messages").to_be_bytes()
}

fn publish(message: &Message, index: usize, dup: bool, out: &mut Vec<u8>) {
    let topic = message.topic.as_bytes();
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic);
    body.extend(id(index));
    body.push(0);
    body.extend(&message.payload);
    out.push(0x30 | u8::from(dup) << 3 | (message.qos as u8) << 1);
    let mut length = body.len();
    loop {
        let more = length >= 128;
        out.push((length % 128) as u8 | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    out.extend(body);
}

/// The codes for the filters of a SUBSCRIBE: what was asked for.
fn granted(body: &[u8]) -> Vec<u8> {
    let mut at = 3 + usize::from(body[2]);
    let mut codes = Vec::new();
    while at + 2 < body.len() {
        at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        codes.push(body[at] & 3);
        at += 1;
    }
    codes
}

/// One connection until its end.
fn serve(mut stream: TcpStream, session: &Mutex<Session>, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    let (mut input, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => input.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let mut out = Vec::new();
        let mut session = session.lock().unwrap();
        let taken = packets(&input, &mut |kind, body| session.take(kind, body, &mut out));
        input.drain(..taken);
        session.fill(&mut out);
        drop(session);
        stream.write_all(&out)?;
    }
    Ok(())
}
