//! A wire between a gateway and its broker that can be cut, and that sees in which order the broker sends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Forwards connections; it runs until the process ends.
pub struct Proxy {
    /// Where to connect to.
    pub port: u16,
    standing: Arc<Mutex<Vec<TcpStream>>>,
    disordered: Arc<Mutex<BTreeSet<String>>>,
    acks_left: Arc<AtomicU64>,
}

/// What a broker sends over one connection.
struct Watch {
    is_v5: bool,
    bytes: Vec<u8>,
    /// The newest reading of each topic.
    newest: BTreeMap<String, u64>,
    disordered: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    /// A wire to this port.
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let standing = Arc::<Mutex<Vec<TcpStream>>>::default();
        let disordered = Arc::<Mutex<BTreeSet<String>>>::default();
        let acks_left = Arc::new(AtomicU64::new(u64::MAX));
        std::thread::spawn({
            let (standing, disordered, acks_left) = (standing.clone(), disordered.clone(), acks_left.clone());
            move || {
                for client in listener.incoming().flatten() {
                    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                    let watch = Watch {
                        is_v5: false,
                        bytes: Vec::new(),
                        newest: BTreeMap::new(),
                        disordered: disordered.clone(),
                    };
                    let acks = Acks { left: acks_left.clone(), bytes: Vec::new() };
                    for (from, to, seen) in
                        [(&client, &broker, Seen::Acks(acks)), (&broker, &client, Seen::Order(watch))]
                    {
                        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                        to.set_nodelay(true).unwrap();
                        std::thread::spawn(move || forward(from, to, seen));
                    }
                    standing.lock().unwrap().extend([client, broker]);
                }
            }
        });
        Self { port, standing, disordered, acks_left }
    }

    /// Topics of which the broker has sent an older reading behind a newer one, over one connection. MQTT forbids it
    /// (4.6.0-6); mosquitto 2.0.11 does it at times after a reconnection, with MQTT 3.1.1 and its own window of 20.
    pub fn disordered(&self) -> BTreeSet<String> {
        self.disordered.lock().unwrap().clone()
    }

    /// From now on so many PUBACK and PUBREC reach the broker; behind the last of them nothing does, over any connection, until the next call.
    pub fn pass_acks(&self, count: u64) {
        self.acks_left.store(count, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for stream in self.standing.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Where a gateway without TLS finds it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

/// What is done to the bytes of a direction.
enum Seen {
    Acks(Acks),
    Order(Watch),
}

fn forward(mut from: TcpStream, mut to: TcpStream, mut seen: Seen) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        let passed = match &mut seen {
            Seen::Acks(acks) => acks.pass(&chunk[..read]),
            Seen::Order(watch) => {
                watch.see(&chunk[..read]);
                chunk[..read].to_vec()
            }
        };
        if to.write_all(&passed).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A gateway's direction: of its acknowledgements so many are passed on as [`Proxy::pass_acks`] says.
struct Acks {
    left: Arc<AtomicU64>,
    bytes: Vec<u8>,
}

impl Acks {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(bytes);
        let (mut passed, mut at) = (Vec::new(), 0);
        packets(&self.bytes, &mut |kind, body| {
            let len = self.bytes[at..].iter().skip(1).take_while(|byte| 128 <= **byte).count() + 2 + body.len();
            let is_ack = matches!(kind >> 4, 4 | 5);
            let left = self.left.load(Ordering::SeqCst);
            if 0 < left {
                passed.extend_from_slice(&self.bytes[at..at + len]);
                self.left.store(if is_ack && left < u64::MAX { left - 1 } else { left }, Ordering::SeqCst);
            }
            at += len;
        });
        self.bytes.drain(..at);
        passed
    }
}

impl Watch {
    fn see(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let taken = packets(&bytes, &mut |kind, body| match kind >> 4 {
            2 => self.is_v5 = body.len() > 2,
            3 => self.publish(kind, body),
            _ => {}
        });
        self.bytes = bytes[taken..].to_vec();
    }

    fn publish(&mut self, kind: u8, body: &[u8]) {
        let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut at = 2 + topic_len + if kind & 6 == 0 { 0 } else { 2 };
        if self.is_v5 {
            // mosquitto sends no properties that are longer than a byte can count.
            at += 1 + usize::from(body[at]);
        }
        let json: Option<serde_json::Value> = serde_json::from_slice(&body[at..]).ok();
        let Some(seq) = json.and_then(|json| json["seq"].as_u64()) else { return };
        let topic = String::from_utf8_lossy(&body[2..2 + topic_len]).into_owned();
        let newest = self.newest.entry(topic.clone()).or_default();
        if seq < *newest {
            self.disordered.lock().unwrap().insert(topic);
        }
        *newest = seq.max(*newest);
    }
}

/// Hands every whole packet in `bytes` to `visit`; how many bytes they are.
pub fn packets(bytes: &[u8], visit: &mut dyn FnMut(u8, &[u8])) -> usize {
    let mut at = 0;
    loop {
        let (mut length, mut head) = (0_usize, 1);
        loop {
            let Some(byte) = bytes.get(at + head) else { return at };
            length |= usize::from(byte & 127) << (7 * (head - 1));
            head += 1;
            if *byte < 128 {
                break;
            }
        }
        let Some(body) = bytes.get(at + head..at + head + length) else { return at };
        visit(bytes[at], body);
        at += head + length;
    }
}
