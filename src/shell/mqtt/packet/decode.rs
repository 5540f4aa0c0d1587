//! Reading packets.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5;

use super::{Ack, AckKind, ConnAck, Malformed, Next, Packet, Publish, Unfit, Version, Why};
use crate::config::Qos;

/// Takes packets off the front of a buffer.
#[derive(Debug)]
pub struct Decoder {
    /// How PUBLISH and the rest are read; CONNACK tells its version by its length.
    pub version: Version,
    packet_max: usize,
    skip: usize,
}

struct Header {
    first: u8,
    len: usize,
    body: usize,
}

/// Bytes that a packet can be longer than `packet_max` without being [`Why::TooLarge`] unknown: its topic and packet id.
pub const HEAD_MAX: usize = 5 + 2 + 65_535 + 2;

impl Decoder {
    /// Packets of at most `packet_max` bytes, header included.
    #[must_use]
    pub const fn new(version: Version, packet_max: usize) -> Self {
        Self { version, packet_max, skip: 0 }
    }

    /// Takes the next packet.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Next, Malformed> {
        if self.skip > 0 {
            let passed = self.skip.min(input.len());
            input.advance(passed);
            self.skip -= passed;
        }
        let Some(header) = header(input)? else { return Ok(Next::Wants(1)) };
        let size = header.len + header.body;
        let is_publish = header.first >> 4 == 3;
        if size > self.packet_max && is_publish {
            return self.pass_over(input, &header);
        }
        // CONNACK, SUBACK and DISCONNECT have no business being large.
        if size > self.packet_max.max(HEAD_MAX) {
            return Err(Malformed("a control packet larger than the limit"));
        }
        if input.len() < size {
            return Ok(Next::Wants(size - input.len()));
        }
        let mut frame = input.split_to(size).freeze();
        if is_publish {
            frame.advance(header.len);
            return publish(&header, frame, self.version).map(Next::Packet);
        }
        control(&header, frame, self.version).map(Next::Packet)
    }

    fn pass_over(&mut self, input: &mut BytesMut, header: &Header) -> Result<Next, Malformed> {
        let qos = qos_of(header.first)?;
        let id_len = if qos == Qos::AtMostOnce { 0 } else { 2 };
        let mut wanted = header.len + 2;
        if header.body < 2 + id_len {
            return Err(Malformed("a publish too short for its topic"));
        }
        if wanted <= input.len() {
            let topic_len = usize::from(u16::from_be_bytes([input[header.len], input[header.len + 1]]));
            wanted += topic_len + id_len;
            if 2 + topic_len + id_len > header.body {
                return Err(Malformed("a topic that overruns its packet"));
            }
        }
        if input.len() < wanted {
            return Ok(Next::Wants(wanted - input.len()));
        }
        let size = header.len + header.body;
        let mut head = input.split_to(wanted).freeze();
        self.skip = size - wanted;
        head.advance(header.len + 2);
        let topic = head.split_to(head.len() - id_len);
        let packet_id = if id_len == 0 { 0 } else { packet_id(head.get_u16())? };
        let dup = header.first & 8 != 0;
        // The topic is copied: a slice would hold on to the buffer that is about to take in the rest.
        let topic = Bytes::copy_from_slice(&topic);
        Ok(Next::Packet(Packet::Unfit(Unfit {
            packet_id,
            qos,
            dup,
            topic,
            payload: Bytes::new(),
            payload_len: self.skip,
            size,
            why: Why::TooLarge,
        })))
    }
}

fn header(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    // §2.1.3: reserved flags tell at the first byte that something else than MQTT speaks.
    let reserved = match first >> 4 {
        3 => first & 0xf,
        6 => 2,
        _ => 0,
    };
    if first & 0xf != reserved {
        return Err(Malformed("a packet with reserved flags"));
    }
    Ok(varint(rest)?.map(|(body, len)| Header { first, len: 1 + len, body }))
}

/// A variable byte integer (§1.5.5): value and length, `None` if it is cut short.
fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("a length of more than four bytes")) }
}

fn qos_of(first: u8) -> Result<Qos, Malformed> {
    match first >> 1 & 3 {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        2 => Ok(Qos::ExactlyOnce),
        _ => Err(Malformed("a publish with QoS 3")),
    }
}

const fn packet_id(id: u16) -> Result<u16, Malformed> {
    if id == 0 { Err(Malformed("packet id 0")) } else { Ok(id) }
}

fn publish(header: &Header, mut body: Bytes, version: Version) -> Result<Packet, Malformed> {
    let qos = qos_of(header.first)?;
    let id_len = if qos == Qos::AtMostOnce { 0 } else { 2 };
    if body.len() < 2 + id_len {
        return Err(Malformed("a publish too short for its topic"));
    }
    let topic_len = usize::from(body.get_u16());
    if body.len() < topic_len + id_len {
        return Err(Malformed("a topic that overruns its packet"));
    }
    let topic = body.split_to(topic_len);
    let packet_id = if id_len == 0 { 0 } else { packet_id(body.get_u16())? };
    let (dup, retain) = (header.first & 8 != 0, header.first & 1 != 0);
    let mut why = fault_of_topic(&topic);
    if version == Version::V5 {
        // Nothing in the properties concerns us: aliases were not allowed in CONNECT, identifiers not asked for.
        match varint(&body) {
            Ok(Some((len, len_len))) if len_len + len <= body.len() => body.advance(len_len + len),
            _ => why = Some(Why::Properties),
        }
    }
    Ok(match why {
        None => Packet::Publish(Publish { topic, payload: body, packet_id, qos, dup, retain }),
        Some(why) => {
            let (payload_len, size) = (body.len(), header.len + header.body);
            Packet::Unfit(Unfit { packet_id, qos, dup, topic, payload: body, payload_len, size, why })
        }
    })
}

fn fault_of_topic(topic: &[u8]) -> Option<Why> {
    match topic {
        [] => Some(Why::NoTopic),
        _ if core::str::from_utf8(topic).is_err() => Some(Why::NotUtf8),
        _ if topic.contains(&0) => Some(Why::Nul),
        _ if topic.iter().any(|byte| matches!(byte, b'+' | b'#')) => Some(Why::Wildcard),
        _ => None,
    }
}

fn control(header: &Header, frame: Bytes, version: Version) -> Result<Packet, Malformed> {
    let body = frame.slice(header.len..);
    let ack = |kind| {
        if body.len() < 2 {
            return Err(Malformed("an acknowledgement without a packet id"));
        }
        let reason = body.get(2).copied().unwrap_or(0);
        Ok(Packet::Ack(Ack { kind, packet_id: packet_id(u16::from_be_bytes([body[0], body[1]]))?, reason }))
    };
    match header.first >> 4 {
        2 => connack(&body, frame.clone()).map(Packet::ConnAck),
        4 => ack(AckKind::PubAck),
        5 => ack(AckKind::PubRec),
        6 => ack(AckKind::PubRel),
        7 => ack(AckKind::PubComp),
        9 => {
            let (packet_id, codes) = codes(&body, version, "a SUBACK cut short")?;
            Ok(Packet::SubAck { packet_id, codes })
        }
        11 => {
            let (packet_id, codes) = codes(&body, version, "an UNSUBACK cut short")?;
            Ok(Packet::UnsubAck { packet_id, codes })
        }
        13 => Ok(Packet::PingResp),
        14 if version == Version::V5 => Ok(disconnect(&body, frame.clone())),
        _ => Err(Malformed("a packet type that a broker does not send")),
    }
}

fn connack(body: &[u8], frame: Bytes) -> Result<ConnAck, Malformed> {
    let &[flags, code, ref properties @ ..] = body else { return Err(Malformed("a CONNACK without a code")) };
    let mut answer = ConnAck {
        code,
        is_v311: properties.is_empty(),
        session_present: flags & 1 != 0,
        receive_max: u16::MAX,
        packet_max: None,
        max_qos: 2,
        keep_alive: None,
        text: String::new(),
    };
    // The codec refuses codes that it does not know; then the code alone must do.
    match v5::Packet::read(&mut BytesMut::from(frame), None) {
        Ok(v5::Packet::ConnAck(v5::ConnAck { properties: Some(properties), .. })) => {
            answer.receive_max = properties.receive_max.unwrap_or(u16::MAX).max(1);
            answer.packet_max = properties.max_packet_size;
            answer.max_qos = properties.max_qos.unwrap_or(2);
            answer.keep_alive = properties.server_keep_alive;
            answer.text = properties.reason_string.unwrap_or_default();
        }
        Err(_) if code == 0 && !answer.is_v311 => return Err(Malformed("a CONNACK with malformed properties")),
        _ => {}
    }
    Ok(answer)
}

/// Packet id and codes of a SUBACK or UNSUBACK.
fn codes(body: &[u8], version: Version, what: &'static str) -> Result<(u16, Vec<u8>), Malformed> {
    let malformed = Malformed(what);
    let &[high, low, ref rest @ ..] = body else { return Err(malformed) };
    let codes = match version {
        Version::V311 => rest,
        Version::V5 => {
            let (len, len_len) = varint(rest)?.ok_or(malformed)?;
            rest.get(len_len + len..).ok_or(malformed)?
        }
    };
    Ok((u16::from_be_bytes([high, low]), codes.to_vec()))
}

fn disconnect(body: &[u8], frame: Bytes) -> Packet {
    let reason = body.first().copied().unwrap_or(0);
    let text = match v5::Packet::read(&mut BytesMut::from(frame), None) {
        Ok(v5::Packet::Disconnect(packet)) => packet.properties.and_then(|properties| properties.reason_string),
        _ => None,
    };
    Packet::Disconnect { reason, text: text.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64;

    /// Feeds `bytes` in pieces of `piece`; returns the packets, or the fault.
    fn read(version: Version, bytes: &[u8], piece: usize) -> Result<Vec<Packet>, Malformed> {
        let mut decoder = Decoder::new(version, MAX);
        let (mut input, mut packets) = (BytesMut::new(), Vec::new());
        for chunk in bytes.chunks(piece) {
            input.extend_from_slice(chunk);
            loop {
                match decoder.take(&mut input)? {
                    Next::Packet(packet) => packets.push(packet),
                    Next::Wants(more) => {
                        assert!(more > 0);
                        break;
                    }
                }
            }
            assert!(input.len() <= MAX.max(HEAD_MAX));
        }
        assert!(input.is_empty(), "{} bytes left", input.len());
        Ok(packets)
    }

    fn publish(topic: &[u8], packet_id: u16, qos: Qos, payload: &[u8]) -> Packet {
        let (topic, payload) = (Bytes::copy_from_slice(topic), Bytes::copy_from_slice(payload));
        Packet::Publish(Publish { topic, payload, packet_id, qos, dup: false, retain: false })
    }

    fn unfit(topic: &[u8], packet_id: u16, size: usize, why: Why, payload: &[u8], payload_len: usize) -> Packet {
        let (topic, payload) = (Bytes::copy_from_slice(topic), Bytes::copy_from_slice(payload));
        let qos = Qos::AtLeastOnce;
        Packet::Unfit(Unfit { packet_id, qos, dup: false, topic, payload, payload_len, size, why })
    }

    fn large(version: Version) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        super::super::put_publish(version, b"a/b", 7, &[b'x'; 1000], &mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn packets_are_read_whatever_the_pieces_they_come_in() {
        use Version::{V5, V311};
        let pong = Packet::PingResp;
        let cases: Vec<(Version, Vec<u8>, Vec<Packet>)> = vec![
            (V311, b"\x30\x04\x00\x01ahi"[..6].to_vec(), vec![publish(b"a", 0, Qos::AtMostOnce, b"h")]),
            (V311, b"\x32\x06\x00\x01a\x00\x09h".to_vec(), vec![publish(b"a", 9, Qos::AtLeastOnce, b"h")]),
            (V5, b"\x34\x07\x00\x01a\x00\x09\x00h".to_vec(), vec![publish(b"a", 9, Qos::ExactlyOnce, b"h")]),
            // Properties are passed over: three subscription identifiers (the codec takes the third for payload).
            (
                V5,
                b"\x32\x0d\x00\x01a\x00\x09\x06\x0b\x01\x0b\x02\x0b\x03h".to_vec(),
                vec![publish(b"a", 9, Qos::AtLeastOnce, b"h")],
            ),
            (V5, b"\x32\x08\x00\x01\xff\x00\x09\x00hi".to_vec(), vec![unfit(b"\xff", 9, 10, Why::NotUtf8, b"hi", 2)]),
            (V5, b"\x32\x06\x00\x01+\x00\x09\x00".to_vec(), vec![unfit(b"+", 9, 8, Why::Wildcard, b"", 0)]),
            (V311, b"\x32\x04\x00\x00\x00\x09".to_vec(), vec![unfit(b"", 9, 6, Why::NoTopic, b"", 0)]),
            (V5, b"\x32\x06\x00\x01a\x00\x09\x05".to_vec(), vec![unfit(b"a", 9, 8, Why::Properties, b"\x05", 1)]),
            (
                V5,
                [large(V5), b"\xd0\x00".to_vec()].concat(),
                vec![unfit(b"a/b", 7, 1011, Why::TooLarge, b"", 1001), pong.clone()],
            ),
            (V311, [large(V311), large(V311), b"\xd0\x00".to_vec()].concat(), {
                let one = unfit(b"a/b", 7, 1010, Why::TooLarge, b"", 1000);
                vec![one.clone(), one, pong]
            }),
            (
                V5,
                b"\x90\x06\x00\x05\x00\x01\x87\x02".to_vec(),
                vec![Packet::SubAck { packet_id: 5, codes: vec![1, 0x87, 2] }],
            ),
            (
                V5,
                b"\xb0\x05\x00\x06\x00\x00\x11".to_vec(),
                vec![Packet::UnsubAck { packet_id: 6, codes: vec![0, 0x11] }],
            ),
            (V311, b"\xb0\x02\x00\x06".to_vec(), vec![Packet::UnsubAck { packet_id: 6, codes: vec![] }]),
            (
                V5,
                b"\x40\x03\x00\x05\x95".to_vec(),
                vec![Packet::Ack(Ack { kind: AckKind::PubAck, packet_id: 5, reason: 0x95 })],
            ),
            (
                V5,
                b"\xe0\x00\xe0\x01\x8e".to_vec(),
                vec![
                    Packet::Disconnect { reason: 0, text: String::new() },
                    Packet::Disconnect { reason: 0x8e, text: String::new() },
                ],
            ),
        ];
        for (version, bytes, want) in cases {
            for piece in [1, 2, 7, bytes.len()] {
                assert_eq!(read(version, &bytes, piece).as_deref(), Ok(want.as_slice()), "{bytes:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_cannot_be_acknowledged_ends_the_connection() {
        for bytes in [
            &b"\x36\x06\x00\x01a\x00\x09\x00"[..],
            b"\x32\x06\x00\x01a\x00\x00\x00",
            b"\x32\x03\x00\x01a",
            b"\x32\x05\x00\x09a\x00\x01",
            b"\x30\x01\x00",
            b"\x30\xff\xff\xff\xff\x01",
            b"\x40\x01\x00",
            b"\x90\x01\x00",
            b"\xb0\x02\x00\x06",
            b"\xf0\x00",
            b"\x10\x00",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ] {
            assert!(read(Version::V5, bytes, 1).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_connack_of_either_version_is_told_apart_by_its_length() {
        let v311 = read(Version::V5, b"\x20\x02\x00\x01", 1).unwrap();
        assert!(matches!(&v311[..], [Packet::ConnAck(ConnAck { is_v311: true, code: 1, .. })]));
        let v5 = read(Version::V5, b"\x20\x06\x01\x00\x03\x21\x00\x05", 1).unwrap();
        let [Packet::ConnAck(connack)] = &v5[..] else { panic!("{v5:?}") };
        assert!(connack.session_present && connack.receive_max == 5 && !connack.is_v311);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let mut random = 1u64;
        let mut draw = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u8
        };
        for round in 0..200_000u32 {
            let len = usize::from(draw() % 48);
            let mut bytes: Vec<u8> = (0..len).map(|_| draw()).collect();
            // Mostly a fitting length, or nothing but the header would be looked at.
            if len > 2 && round % 8 != 0 {
                bytes[1] = (len - 2) as u8;
            }
            for version in [Version::V311, Version::V5] {
                let mut decoder = Decoder::new(version, MAX);
                let mut input = BytesMut::from(&bytes[..]);
                while let Ok(Next::Packet(_)) = decoder.take(&mut input) {}
            }
        }
    }
}
