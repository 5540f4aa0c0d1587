//! An upstream that talks out of turn.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::broker::{Broker, Conf};
use super::support::device::{publish, reading};
use super::support::fake::packet;
use super::support::gateway::{Gateway, PATIENCE};
use super::support::guests::Guest;
use super::wait_for_subscription;

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };

/// Packets that nobody asked for: publishes of each QoS, one of them larger than any of ours, a PUBREL, a PUBCOMP and a SUBACK of
/// nothing, and acknowledgements of what was never sent.
fn unasked() -> Vec<u8> {
    let mut out = Vec::new();
    for qos in 0..3u8 {
        let id: &[u8] = if qos == 0 { &[] } else { &[0, 9] };
        let body = [&[0, 5][..], b"cmd/x", id, &[0], b"{\"reboot\":true}"].concat();
        out.extend([0x30 | qos << 1, body.len() as u8]);
        out.extend(body);
    }
    let large = [&[0, 5][..], b"cmd/x", &[0, 10, 0], &[b'x'; 100_000]].concat();
    out.extend([
        0x32,
        large.len() as u8 & 0x7f | 0x80,
        (large.len() >> 7) as u8 & 0x7f | 0x80,
        (large.len() >> 14) as u8,
    ]);
    out.extend(large);
    out.extend([0x62, 2, 0, 77, 0x70, 2, 0, 78, 0x90, 4, 0, 79, 0, 1, 0x40, 2, 0xff, 0xfe, 0xd0, 0]);
    out
}

/// Acknowledges every record, and says what nobody asked for before and after each. How many records came.
fn talkative() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while let Some((kind, body)) = packet(&mut stream) {
                let answer = match kind >> 4 {
                    1 => [&[0x20, 3, 0, 0, 0][..], &unasked()].concat(),
                    3 => {
                        let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                        count.fetch_add(1, Ordering::SeqCst);
                        [&unasked()[..], &[0x40, 2, body[id], body[id + 1]], &unasked()].concat()
                    }
                    12 => vec![0xd0, 0],
                    _ => Vec::new(),
                };
                if stream.write_all(&answer).is_err() {
                    break;
                }
            }
        }
    });
    (port, came)
}

#[test]
fn what_an_upstream_sends_unasked_is_passed_over() {
    let broker = Broker::start(&Conf::wide());
    let (port, came) = talkative();
    let mut gateway = Gateway::new(&format!(
        "[gateway]\nid = \"gw\"\n[broker]\nurl = \"{}\"\n[[function]]\npath = \"keep\"\n[[function.trigger]]\nmqtt = \"#\"\n\
         [[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n",
        broker.url()
    ));
    KEEP.install(&gateway);
    gateway.start();
    wait_for_subscription(&mut gateway);
    let count = 30;
    publish(broker.port(), (1..=count).map(|seq| reading("site/d/temp", format!("{{\"seq\":{seq}}}"))).collect());
    let until = Instant::now() + PATIENCE;
    while came.load(Ordering::SeqCst) < count {
        assert!(Instant::now() < until, "{} of {count} records came\n{}", came.load(Ordering::SeqCst), gateway.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let numbers = gateway.wait_for("the books", |numbers| numbers.settled("delivered") == count as f64);
    // What it said is no message: nothing of it was received or answered with an effect.
    assert_eq!(numbers.get("messages_received_total"), count as f64);
    assert!(numbers.get("process_resident_bytes") <= numbers.get("process_planned_bytes"), "{}", numbers.text);
    assert!(gateway.stop().success(), "{}", gateway.log());
}
