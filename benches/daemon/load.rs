//! The fleet: publishes that were encoded beforehand, over several connections, as fast as the broker takes them or paced.
//!
//! - 100 devices; a tenth of them is always above the limit of `threshold`, so a tenth of the messages is kept.
//! - A payload has some 100 bytes of JSON and bears the message's number in `seq`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::packets::{Connection, Packet, put_publish};

pub const DEVICES: usize = 100;
const CONNECTIONS: usize = 4;
/// Unacknowledged publishes of one connection at QoS 1.
const WINDOW: usize = 200;
const PART: usize = 50;

/// A message of the fleet: topic and payload.
pub type Model<'a> = &'a dyn Fn(usize) -> (String, Vec<u8>);

/// Devices of [`temperature`] that rise above the limit: an alert each.
pub const ALERTS: usize = DEVICES / 10;

/// Temperatures: one device in ten is hot.
pub fn temperature(seq: usize) -> (String, Vec<u8>) {
    let device = seq % DEVICES;
    let temp = if device.is_multiple_of(10) { 91.53 } else { 21.53 };
    let payload = format!(
        r#"{{"device":"boiler-17","ts":1718000000123,"temp":{temp},"hum":44.8,"bat":3.61,"seq":{seq},"fw":"1.4.2"}}"#
    );
    (format!("site/device-{device:03}/temperature"), payload.into_bytes())
}

/// Pulse counters.
pub fn energy(seq: usize) -> (String, Vec<u8>) {
    let device = seq % DEVICES;
    let pulses = 100_000_000 + device * 1_000 + seq / DEVICES * 3;
    let payload = format!(
        r#"{{"device":"meter-017","ts":1718000000123,"pulses":{pulses},"volt":230.4,"bat":3.61,"seq":{seq},"fw":"1.4.2"}}"#
    );
    (format!("site/device-{device:03}/energy"), payload.into_bytes())
}

/// What the six example functions eat, in turns; 100 devices.
pub fn mixed(seq: usize) -> (String, Vec<u8>) {
    let device = seq % DEVICES;
    let wave = (seq as f64 * 0.37).sin();
    let (kind, payload) = match seq / DEVICES % 6 {
        0 => return temperature(seq),
        1 => return energy(seq),
        2 => ("level", format!(r#"{{"device":"tank-{device}","value":{:.2},"seq":{seq}}}"#, 50.0 + 3.0 * wave).into()),
        3 => {
            ("pressure", format!(r#"{{"device":"pump-{device}","value":{:.3},"seq":{seq}}}"#, 4.0 + 0.1 * wave).into())
        }
        4 => {
            let samples: Vec<String> = (0..32).map(|at| format!("{:.3}", (at as f64 + wave).sin())).collect();
            ("vibration", format!(r#"{{"samples":[{}],"seq":{seq}}}"#, samples.join(",")).into_bytes())
        }
        // Cayenne LPP: a temperature and a humidity.
        _ => ("lpp", vec![0x01, 0x67, 0x01, (seq % 256) as u8, 0x02, 0x68, 0x55]),
    };
    (format!("site/device-{device:03}/{kind}"), payload)
}

/// Publishes `count` messages as fast as the broker takes them.
pub fn saturate(port: u16, qos: u8, count: usize, model: Model<'_>) {
    let encoded: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS).map(|part| encode(part, qos, count, model)).collect();
    let threads = encoded.into_iter().enumerate().map(|(part, parts)| {
        let mut connection = Connection::open(port, &format!("load-{part}"), Duration::from_secs(20));
        thread::spawn(move || {
            let mut unacked = 0;
            for bytes in parts {
                connection.send(&bytes);
                unacked += if qos == 0 { 0 } else { PART };
                while unacked + PART > WINDOW {
                    unacked -= acked(&mut connection);
                }
            }
            // The last part may be shorter; what is still missing shows upstream.
            connection.send(&[0xe0, 0]);
            while connection.read().is_some() {}
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
}

/// One connection's share, in parts of [`PART`] publishes.
fn encode(connection: usize, qos: u8, count: usize, model: Model<'_>) -> Vec<Vec<u8>> {
    let numbers: Vec<usize> = (connection..count).step_by(CONNECTIONS).collect();
    let part = |part: (usize, &[usize])| {
        let mut bytes = Vec::new();
        for (at, seq) in part.1.iter().enumerate() {
            let (topic, payload) = model(*seq);
            let id = if qos == 0 { 0 } else { 1 + (part.0 * PART + at) % 60_000 };
            put_publish(&mut bytes, &topic, id as u16, &payload);
        }
        bytes
    };
    numbers.chunks(PART).enumerate().map(part).collect()
}

fn acked(connection: &mut Connection) -> usize {
    match connection.read() {
        Some(Packet::PubAck) => 1,
        Some(_) => 0,
        None => panic!("the broker has not acknowledged for 20 s"),
    }
}

/// When each message was published: microseconds since `start`, by number.
pub struct Sent {
    pub start: Instant,
    pub at_us: Vec<AtomicU64>,
}

impl Sent {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), at_us: (0..count).map(|_| AtomicU64::new(0)).collect() })
    }

    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// Publishes `sent`'s messages evenly, `rate` a second, over one connection.
pub fn pace(port: u16, qos: u8, rate: f64, model: Model<'_>, sent: &Sent) {
    let mut connection = Connection::open(port, "load", Duration::from_millis(1));
    let begin = Instant::now();
    let mut bytes = Vec::new();
    for seq in 0..sent.at_us.len() {
        let due = begin + Duration::from_secs_f64(seq as f64 / rate);
        let (topic, payload) = model(seq);
        bytes.clear();
        put_publish(&mut bytes, &topic, if qos == 0 { 0 } else { 1 + (seq % 60_000) as u16 }, &payload);
        if let Some(pause) = due.checked_duration_since(Instant::now()) {
            thread::sleep(pause);
        }
        sent.at_us[seq].store(sent.now_us(), Ordering::Relaxed);
        connection.send(&bytes);
        // Acknowledgements are thrown away now and then, so that the broker can write them.
        if qos != 0 && seq % 500 == 499 {
            while connection.read().is_some() {}
        }
    }
    while connection.read().is_some() {}
}
