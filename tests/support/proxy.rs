//! A wire between a gateway and its broker that can be cut, and that sees in which order the broker sends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Forwards connections; it runs until the process ends.
pub struct Proxy {
    /// Where to connect to.
    pub port: u16,
    standing: Arc<Mutex<Vec<TcpStream>>>,
    disordered: Arc<Mutex<BTreeSet<String>>>,
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
        std::thread::spawn({
            let (standing, disordered) = (standing.clone(), disordered.clone());
            move || {
                for client in listener.incoming().flatten() {
                    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                    let watch = Watch {
                        is_v5: false,
                        bytes: Vec::new(),
                        newest: BTreeMap::new(),
                        disordered: disordered.clone(),
                    };
                    for (from, to, watch) in [(&client, &broker, None), (&broker, &client, Some(watch))] {
                        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                        to.set_nodelay(true).unwrap();
                        std::thread::spawn(move || forward(from, to, watch));
                    }
                    standing.lock().unwrap().extend([client, broker]);
                }
            }
        });
        Self { port, standing, disordered }
    }

    /// Topics of which the broker has sent an older reading behind a newer one, over one connection. MQTT forbids it
    /// (4.6.0-6); mosquitto 2.0.11 does it at times after a reconnection, with MQTT 3.1.1 and its own window of 20.
    pub fn disordered(&self) -> BTreeSet<String> {
        self.disordered.lock().unwrap().clone()
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

fn forward(mut from: TcpStream, mut to: TcpStream, mut watch: Option<Watch>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if let Some(watch) = &mut watch {
            watch.see(&chunk[..read]);
        }
        if to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
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
