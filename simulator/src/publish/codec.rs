//! The few packets that a publisher needs, in MQTT 5 or 3.1.1, by rumqttc's codec.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as v5_bytes;
use rumqttc::v5::mqttbytes::v5;
use weir::config::Qos;

use super::broker::{Broker, Version};
use crate::fleet::Message;

/// Largest packet that is read.
const PACKET_MAX: usize = 64 * 1024;

/// In 3.1.1 a broker does not say how many it takes; mosquitto closes the connection above 20 at QoS 2.
const RECEIVE_MAX_V311: u16 = 20;

/// What the broker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Connected {
        session_present: bool,
        receive_max: u16,
    },
    Refused(String),
    /// PUBACK, PUBREC or PUBCOMP.
    Ack {
        step: Step,
        id: u16,
        outcome: Outcome,
    },
    Closing(String),
    Other,
}

/// Which answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// PUBACK: done, QoS 1.
    Ack,
    /// PUBREC: the broker has it, QoS 2.
    Received,
    /// PUBCOMP: done, QoS 2.
    Complete,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// Taken, and thrown away: nobody subscribes to the topic.
    NoSubscribers,
    Refused(String),
}

/// Appends a CONNECT.
pub(super) fn connect(broker: &Broker, client_id: &str, clean: bool, keep_alive_s: u16, out: &mut BytesMut) {
    let login = broker.login.as_ref();
    let written = match broker.version {
        Version::V5 => {
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = Some(3600);
            let connect = v5::Connect {
                keep_alive: keep_alive_s,
                client_id: client_id.to_owned(),
                clean_start: clean,
                properties: Some(properties),
            };
            let login = login.map(|(user, password)| v5::Login::new(user, password));
            v5::Packet::Connect(connect, None, login).write(out, None).map_err(drop)
        }
        Version::V311 => {
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = keep_alive_s;
            connect.clean_session = clean;
            if let Some((user, password)) = login {
                connect.set_login(user, password);
            }
            v4::Packet::Connect(connect).write(out, usize::MAX).map_err(drop)
        }
    };
    written.expect("a CONNECT has no limit to pass");
}

/// Appends a PUBLISH; `id` is 0 at QoS 0.
pub(super) fn publish(version: Version, message: &Message, id: u16, dup: bool, out: &mut BytesMut) {
    let payload = Bytes::copy_from_slice(&message.payload);
    let written = match version {
        Version::V5 => {
            let qos = match message.qos {
                Qos::AtMostOnce => v5_bytes::QoS::AtMostOnce,
                Qos::AtLeastOnce => v5_bytes::QoS::AtLeastOnce,
                Qos::ExactlyOnce => v5_bytes::QoS::ExactlyOnce,
            };
            let topic = Bytes::copy_from_slice(message.topic.as_bytes());
            let (retain, pkid, properties) = (message.retain, id, None);
            v5::Publish { dup, qos, retain, topic, pkid, payload, properties }.write(out).map_err(drop)
        }
        Version::V311 => {
            let qos = match message.qos {
                Qos::AtMostOnce => rumqttc::QoS::AtMostOnce,
                Qos::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
                Qos::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
            };
            let topic = message.topic.as_ref().to_owned();
            v4::Publish { dup, qos, retain: message.retain, topic, pkid: id, payload }.write(out).map_err(drop)
        }
    };
    written.expect("the id is 0 only at QoS 0");
}

/// Appends a PUBREL.
pub(super) fn pubrel(version: Version, id: u16, out: &mut BytesMut) {
    let written = match version {
        Version::V5 => v5::PubRel::new(id, None).write(out).map_err(drop),
        Version::V311 => v4::PubRel::new(id).write(out).map_err(drop),
    };
    written.expect("a PUBREL has no limit to pass");
}

/// Appends a PINGREQ.
pub(super) fn ping(out: &mut BytesMut) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// Appends a DISCONNECT that ends the session too, where the version can say so.
pub(super) fn disconnect(version: Version, out: &mut BytesMut) {
    match version {
        // Reason 0 (normal), 5 bytes of properties: session expiry interval (0x11) = 0; MQTT 5.0 §3.14.
        Version::V5 => out.extend_from_slice(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]),
        Version::V311 => out.extend_from_slice(&[0xe0, 0]),
    }
}

/// Takes the next packet off `bytes`; `None` if it is not all there yet.
pub(super) fn read(version: Version, bytes: &mut BytesMut) -> Result<Option<Answer>, String> {
    match version {
        Version::V5 => match v5::Packet::read(bytes, Some(PACKET_MAX as u32)) {
            Ok(packet) => Ok(Some(answer_v5(packet))),
            Err(v5_bytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        },
        Version::V311 => match v4::Packet::read(bytes, PACKET_MAX) {
            Ok(packet) => Ok(Some(answer_v311(packet))),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn answer_v5(packet: v5::Packet) -> Answer {
    use v5::{PubAckReason, PubCompReason, PubRecReason};
    match packet {
        v5::Packet::ConnAck(ack) if ack.code == v5::ConnectReturnCode::Success => {
            let receive_max = ack.properties.and_then(|properties| properties.receive_max).unwrap_or(u16::MAX);
            Answer::Connected { session_present: ack.session_present, receive_max }
        }
        v5::Packet::ConnAck(ack) => Answer::Refused(format!("{:?}", ack.code)),
        v5::Packet::PubAck(ack) => {
            let outcome = match ack.reason {
                PubAckReason::Success => Outcome::Taken,
                PubAckReason::NoMatchingSubscribers => Outcome::NoSubscribers,
                reason => Outcome::Refused(format!("{reason:?}")),
            };
            Answer::Ack { step: Step::Ack, id: ack.pkid, outcome }
        }
        v5::Packet::PubRec(ack) => {
            let outcome = match ack.reason {
                PubRecReason::Success => Outcome::Taken,
                PubRecReason::NoMatchingSubscribers => Outcome::NoSubscribers,
                reason => Outcome::Refused(format!("{reason:?}")),
            };
            Answer::Ack { step: Step::Received, id: ack.pkid, outcome }
        }
        v5::Packet::PubComp(ack) => {
            let outcome = match ack.reason {
                PubCompReason::Success => Outcome::Taken,
                reason => Outcome::Refused(format!("{reason:?}")),
            };
            Answer::Ack { step: Step::Complete, id: ack.pkid, outcome }
        }
        v5::Packet::Disconnect(disconnect) => Answer::Closing(format!("{:?}", disconnect.reason_code)),
        _ => Answer::Other,
    }
}

fn answer_v311(packet: v4::Packet) -> Answer {
    let ack = |step, id| Answer::Ack { step, id, outcome: Outcome::Taken };
    match packet {
        v4::Packet::ConnAck(ack) if ack.code == v4::ConnectReturnCode::Success => {
            Answer::Connected { session_present: ack.session_present, receive_max: RECEIVE_MAX_V311 }
        }
        v4::Packet::ConnAck(ack) => Answer::Refused(format!("{:?}", ack.code)),
        v4::Packet::PubAck(packet) => ack(Step::Ack, packet.pkid),
        v4::Packet::PubRec(packet) => ack(Step::Received, packet.pkid),
        v4::Packet::PubComp(packet) => ack(Step::Complete, packet.pkid),
        _ => Answer::Other,
    }
}
