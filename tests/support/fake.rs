//! A broker that does what no broker does: it sends packets as the test wrote them, byte for byte, and sends again, with DUP, what
//! was not acknowledged. It keeps every session.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::gateway::PATIENCE;

/// A QoS 1 publish as it goes over the wire, without what is added for MQTT 5.
#[derive(Clone, Debug)]
pub struct Raw {
    pub packet_id: u16,
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    unacknowledged: BTreeMap<u16, Raw>,
    sent: Vec<u16>,
    connections: usize,
    streams: Vec<TcpStream>,
}

/// The broker; it runs until the test's process ends.
pub struct Fake {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Listens; whoever subscribes gets `publishes`.
    pub fn start(publishes: &[Raw]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let unacknowledged = publishes.iter().map(|one| (one.packet_id, one.clone())).collect();
        let state = Arc::new(Mutex::new(State { unacknowledged, ..State::default() }));
        std::thread::spawn({
            let state = state.clone();
            move || listener.incoming().flatten().for_each(|stream| serve(stream, &state))
        });
        Self { port, state }
    }

    /// Waits until everything is acknowledged.
    pub fn wait_until_acknowledged(&self) {
        let until = Instant::now() + PATIENCE;
        while let left @ 1.. = self.state.lock().unwrap().unacknowledged.len() {
            assert!(Instant::now() < until, "{left} publishes are not acknowledged");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends another message of this identifier into a connection that breaks at that moment: it is to come with DUP.
    pub fn lose(&self, publish: &Raw) {
        let mut state = self.state.lock().unwrap();
        assert!(state.sent.contains(&publish.packet_id), "the identifier is used again");
        state.unacknowledged.insert(publish.packet_id, publish.clone());
        state.streams.drain(..).for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    }

    /// Connections with a subscription so far, and publishes sent.
    pub fn totals(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.connections, state.sent.len())
    }
}

/// One connection until its end.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut is_v5 = false;
    state.lock().unwrap().streams.push(stream.try_clone().unwrap());
    while let Some((kind, body)) = packet(&mut stream) {
        let id = || [body[0], body[1]];
        let answer = match kind >> 4 {
            1 => {
                is_v5 = body[6] == 5;
                vec![0x20, 2 + u8::from(is_v5), 1, 0, 0][..4 + usize::from(is_v5)].to_vec()
            }
            8 => subscribed(id(), is_v5, state),
            12 => vec![0xd0, 0],
            4 => {
                state.lock().unwrap().unacknowledged.remove(&u16::from_be_bytes(id()));
                Vec::new()
            }
            14 => return,
            _ => Vec::new(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// SUBACK for one filter, and everything that is owed.
fn subscribed(id: [u8; 2], is_v5: bool, state: &Mutex<State>) -> Vec<u8> {
    let properties: &[u8] = if is_v5 { &[0] } else { &[] };
    let body = [&id[..], properties, &[1]].concat();
    let mut answer = vec![0x90, u8::try_from(body.len()).unwrap()];
    answer.extend(body);
    let mut state = state.lock().unwrap();
    state.connections += 1;
    let owed: Vec<Raw> = state.unacknowledged.values().cloned().collect();
    for Raw { packet_id, topic, payload } in owed {
        let dup = if state.sent.contains(&packet_id) { 8 } else { 0 };
        state.sent.push(packet_id);
        let topic_len = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let body = [&topic_len[..], &topic, &packet_id.to_be_bytes(), properties, &payload].concat();
        answer.push(0x32 | dup);
        let mut length = body.len();
        while {
            let more = length >= 128;
            answer.push((length % 128) as u8 | if more { 128 } else { 0 });
            length /= 128;
            more
        } {}
        answer.extend(body);
    }
    answer
}

/// The next packet: its first byte and its body.
pub fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let kind = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((kind, body))
}
