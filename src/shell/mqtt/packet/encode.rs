//! Writing packets.

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::{Ack, Version};
use crate::config::{Qos, RetainedPolicy};

/// What CONNECT says.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// Forget the session.
    pub clean: bool,
    /// Seconds; 0: none.
    pub keep_alive: u16,
    /// Seconds that the session outlives the connection (5.0).
    pub session_expiry: u32,
    /// Unacknowledged publishes that we take (5.0).
    pub receive_max: u16,
    /// User name and password; both may be empty.
    pub login: Option<(&'a str, String)>,
}

impl Connect<'_> {
    /// Appends the packet.
    pub fn write(self, version: Version, out: &mut BytesMut) {
        let written = match version {
            Version::V311 => v4::Connect {
                protocol: rumqttc::mqttbytes::Protocol::V4,
                keep_alive: self.keep_alive,
                client_id: self.client_id.to_owned(),
                clean_session: self.clean,
                last_will: None,
                login: self.login.map(|(username, password)| v4::Login::new(username, password)),
            }
            .write(out)
            .is_ok(),
            // No Maximum Packet Size: a broker drops larger messages in silence, while we count and report them.
            Version::V5 => v5::Connect {
                keep_alive: self.keep_alive,
                client_id: self.client_id.to_owned(),
                clean_start: self.clean,
                properties: Some(v5::ConnectProperties {
                    session_expiry_interval: Some(self.session_expiry),
                    receive_maximum: Some(self.receive_max.max(1)),
                    ..v5::ConnectProperties::new()
                }),
            }
            .write(&None, &self.login.map(|(username, password)| v5::Login::new(username, password)), out)
            .is_ok(),
        };
        debug_assert!(written, "a CONNECT always fits");
    }
}

/// One line of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The filter's text, `$share/…` included.
    pub filter: String,
    /// Highest QoS wanted.
    pub qos: Qos,
    /// When the broker should send retained messages (5.0).
    pub retained: RetainedPolicy,
}

/// Appends a SUBSCRIBE.
pub fn subscribe(version: Version, packet_id: u16, asked: &[Asked], out: &mut BytesMut) {
    use rumqttc::mqttbytes::QoS as QoS4;
    use rumqttc::v5::mqttbytes::QoS as QoS5;
    let written = match version {
        Version::V311 => {
            let filters = asked.iter().map(|line| {
                let qos = match line.qos {
                    Qos::AtMostOnce => QoS4::AtMostOnce,
                    Qos::AtLeastOnce => QoS4::AtLeastOnce,
                    Qos::ExactlyOnce => QoS4::ExactlyOnce,
                };
                v4::SubscribeFilter::new(line.filter.clone(), qos)
            });
            v4::Subscribe { pkid: packet_id, ..v4::Subscribe::new_many(filters) }.write(out).is_ok()
        }
        Version::V5 => {
            let filters = asked.iter().map(|line| v5::Filter {
                path: line.filter.clone(),
                qos: match line.qos {
                    Qos::AtMostOnce => QoS5::AtMostOnce,
                    Qos::AtLeastOnce => QoS5::AtLeastOnce,
                    Qos::ExactlyOnce => QoS5::ExactlyOnce,
                },
                retain_forward_rule: match line.retained {
                    RetainedPolicy::Always => v5::RetainForwardRule::OnEverySubscribe,
                    RetainedPolicy::SkipOnResubscribe => v5::RetainForwardRule::OnNewSubscribe,
                    RetainedPolicy::Never => v5::RetainForwardRule::Never,
                },
                ..v5::Filter::default()
            });
            v5::Subscribe { pkid: packet_id, ..v5::Subscribe::new_many(filters, None) }.write(out).is_ok()
        }
    };
    debug_assert!(written, "a SUBSCRIBE of bounded filters always fits");
}

/// Appends an UNSUBSCRIBE.
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[String], out: &mut BytesMut) {
    let filters = filters.to_vec();
    let written = match version {
        Version::V311 => v4::Unsubscribe { pkid: packet_id, topics: filters }.write(out).is_ok(),
        Version::V5 => v5::Unsubscribe { pkid: packet_id, filters, properties: None }.write(out).is_ok(),
    };
    debug_assert!(written, "an UNSUBSCRIBE of bounded filters always fits");
}

/// Appends an acknowledgement; a reason other than 0 is said in 5.0 only.
pub fn ack(version: Version, ack: Ack, out: &mut BytesMut) {
    let says_reason = ack.reason != 0 && version == Version::V5;
    out.put_u8(ack.kind as u8);
    out.put_u8(if says_reason { 3 } else { 2 });
    out.put_u16(ack.packet_id);
    if says_reason {
        out.put_u8(ack.reason);
    }
}

/// Size of a QoS 1 publish on the wire.
#[must_use]
pub fn publish_len(version: Version, topic: usize, payload: usize) -> usize {
    let body = 2 + topic + 2 + usize::from(version == Version::V5) + payload;
    1 + varint_len(body) + body
}

/// Appends a QoS 1 publish. The topic has at most 65,535 bytes, the packet at most 256 MiB.
pub fn put_publish(version: Version, topic: &[u8], packet_id: u16, payload: &[u8], out: &mut BytesMut) {
    let mut body = 2 + topic.len() + 2 + usize::from(version == Version::V5) + payload.len();
    out.reserve(5 + body);
    out.put_u8(0x32);
    loop {
        let more = if body >= 0x80 { 0x80 } else { 0 };
        out.put_u8((body & 0x7f) as u8 | more);
        body >>= 7;
        if body == 0 {
            break;
        }
    }
    out.put_u16(topic.len() as u16);
    out.put_slice(topic);
    out.put_u16(packet_id);
    if version == Version::V5 {
        out.put_u8(0);
    }
    out.put_slice(payload);
}

const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Appends a PINGREQ.
pub fn ping(out: &mut BytesMut) {
    out.put_slice(&[0xc0, 0]);
}

/// Appends a DISCONNECT; the reason is said in 5.0 only.
pub fn put_disconnect(version: Version, reason: u8, out: &mut BytesMut) {
    match version {
        Version::V5 if reason != 0 => out.put_slice(&[0xe0, 1, reason]),
        _ => out.put_slice(&[0xe0, 0]),
    }
}
