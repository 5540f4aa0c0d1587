//! The MQTT packet decoder: any bytes of a broker, in pieces and at once.
//!
//! Input: one byte of settings (bit 0: MQTT 5; the rest: the size of pieces), then what the broker sends.

use bytes::BytesMut;
use weir::shell::mqtt::packet::{Decoder, HEAD_MAX, Malformed, Next, Packet, Unfit, Version, Why, put_publish};
use weir::topic::check_name;

pub(crate) const WORDS: &[&[u8]] = &[
    b"\x20\x06\x00\x00\x03\x21\x00\x05",
    b"\x20\x02\x01\x00",
    b"\x32\x06\x00\x01a\x00\x09h",
    b"\x34\x07\x00\x01a\x00\x09\x00h",
    b"\x30\x04\x00\x01ah",
    b"\x40\x02\x00\x05",
    b"\x40\x03\x00\x05\x95",
    b"\x62\x02\x00\x05",
    b"\x90\x03\x00\x05\x01",
    b"\x90\x06\x00\x05\x00\x01\x87\x02",
    b"\xd0\x00",
    b"\xe0\x02\x8e\x00",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x01",
    b"\x1f\x00\x02hi",
    b"\x26\x00\x01a\x00\x01b",
    b"\x3a\xe8\x07",
];

/// Small, so that larger packets are met.
const PACKET_MAX: usize = 200;

pub(crate) fn run(data: &[u8]) {
    let Some((settings, bytes)) = data.split_first() else { return };
    let version = if settings & 1 == 0 { Version::V311 } else { Version::V5 };
    let at_once = read(version, bytes, bytes.len().max(1));
    let in_pieces = read(version, bytes, usize::from(settings >> 1) % 17 + 1);
    assert_eq!(at_once, in_pieces, "it matters in which pieces they come");
    at_once.0.iter().for_each(|packet| check(version, packet));
}

/// The packets, and the fault that ended them.
fn read(version: Version, bytes: &[u8], piece: usize) -> (Vec<Packet>, Option<Malformed>) {
    let mut decoder = Decoder::new(version, PACKET_MAX);
    let (mut input, mut packets) = (BytesMut::new(), Vec::new());
    for chunk in bytes.chunks(piece) {
        input.extend_from_slice(chunk);
        loop {
            let before = input.len();
            match decoder.take(&mut input) {
                Ok(Next::Packet(packet)) => {
                    assert!(input.len() < before, "a packet of no bytes");
                    packets.push(packet);
                }
                Ok(Next::Wants(more)) => {
                    assert!(0 < more && more <= PACKET_MAX.max(HEAD_MAX), "{more}");
                    break;
                }
                Err(malformed) => return (packets, Some(malformed)),
            }
        }
        assert!(input.len() <= PACKET_MAX.max(HEAD_MAX), "{} bytes are held", input.len());
    }
    (packets, None)
}

fn check(version: Version, packet: &Packet) {
    match packet {
        Packet::Publish(publish) => {
            let topic = core::str::from_utf8(&publish.topic).expect("a topic that is handed on is text");
            assert!(check_name(topic).is_ok(), "{topic:?}");
            // Written again at QoS 1 and read back, it is the same message.
            let (mut out, id) = (BytesMut::new(), publish.packet_id.max(1));
            put_publish(version, topic.as_bytes(), id, &publish.payload, &mut out);
            let mut decoder = Decoder::new(version, usize::MAX);
            match decoder.take(&mut out) {
                Ok(Next::Packet(Packet::Publish(again))) => {
                    assert_eq!((&again.topic, &again.payload, again.packet_id), (&publish.topic, &publish.payload, id));
                }
                other => panic!("{other:?}"),
            }
        }
        Packet::Unfit(Unfit { size, why, .. }) => assert!(*why != Why::TooLarge || PACKET_MAX < *size),
        Packet::ConnAck(answer) => assert!(0 < answer.receive_max),
        Packet::Ack(ack) => assert!(ack.packet_id != 0),
        _ => {}
    }
}
