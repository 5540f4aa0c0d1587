//! MQTT 3.1.1 by hand, as much as a generator and a subscriber need; blocking, and cheap enough not to be what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    at: usize,
}

/// What came in.
pub enum Packet<'a> {
    Publish { payload: &'a [u8] },
    PubAck,
    Other,
}

impl Connection {
    /// Connects with a clean session. Reads behind the broker's answer give up after `patience`.
    pub fn open(port: u16, client_id: &str, patience: Duration) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut connection = Self { stream, input: Vec::with_capacity(1 << 16), at: 0 };
        // Protocol level 4, clean session, no keep-alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
        put_text(&mut body, client_id);
        connection.send(&packet(0x10, &body));
        assert!(connection.read().is_some(), "the broker answers");
        connection.stream.set_read_timeout(Some(patience)).unwrap();
        connection
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 1];
        put_text(&mut body, filter);
        body.push(qos);
        self.send(&packet(0x82, &body));
        assert!(self.read().is_some(), "the broker answers");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; `None` if nothing came in time. A QoS 1 publish is acknowledged.
    pub fn read(&mut self) -> Option<Packet<'_>> {
        let (from, to) = loop {
            if let Some(found) = whole(&self.input[self.at..]) {
                break (self.at + found.0, self.at + found.1);
            }
            self.fill()?;
        };
        let head = self.input[self.at];
        self.at = to;
        let body = &self.input[from..to];
        Some(match head >> 4 {
            3 => {
                let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let mut payload_at = topic_end;
                if head & 6 != 0 {
                    payload_at += 2;
                    self.stream.write_all(&[0x40, 2, body[topic_end], body[topic_end + 1]]).ok()?;
                }
                Packet::Publish { payload: &body[payload_at..] }
            }
            4 => Packet::PubAck,
            _ => Packet::Other,
        })
    }

    fn fill(&mut self) -> Option<()> {
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        } else if self.at > 1 << 15 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        let end = self.input.len();
        self.input.resize(end + (1 << 15), 0);
        let read = self.stream.read(&mut self.input[end..]).unwrap_or(0);
        self.input.truncate(end + read);
        (read > 0).then_some(())
    }
}

/// Appends a PUBLISH; `id` 0 is QoS 0, any other QoS 1.
pub fn put_publish(out: &mut Vec<u8>, topic: &str, id: u16, payload: &[u8]) {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    put_text(&mut body, topic);
    if id != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    out.extend_from_slice(&packet(if id == 0 { 0x30 } else { 0x32 }, &body));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    let mut len = body.len();
    loop {
        let more = if len > 127 { 0x80 } else { 0 };
        out.push((len % 128) as u8 | more);
        len /= 128;
        if len == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// Where the body of the first packet starts and ends, if it is all there.
fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for (at, byte) in bytes.iter().enumerate().skip(1).take(4) {
        len |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let from = at + 1;
            return (from + len <= bytes.len()).then_some((from, from + len));
        }
    }
    None
}
