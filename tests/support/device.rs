//! A device of the tests' own: publishes what it is told and waits for the broker's acknowledgements.

use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use super::gateway::PATIENCE;

/// What a device publishes.
#[derive(Clone, Debug)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
}

/// A QoS 1 publish.
pub fn reading(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
    Publish { topic: topic.to_owned(), payload: payload.as_ref().to_vec(), qos: QoS::AtLeastOnce, retain: false }
}

/// Publishes in order; returns when the broker has acknowledged all of it.
pub fn publish(port: u16, publishes: Vec<Publish>) {
    let acknowledged = |publish: &&Publish| publish.qos != QoS::AtMostOnce;
    let (count, mut answered) = (publishes.iter().filter(acknowledged).count(), 0);
    let mut options = MqttOptions::new(format!("device-{:?}", std::thread::current().id()), "127.0.0.1", port);
    options.set_max_packet_size(1 << 26, 1 << 26).set_keep_alive(Duration::from_secs(30));
    // mosquitto ends connections with more QoS 2 publishes on their way than its own limit of 20.
    options.set_inflight(20);
    let (client, mut connection) = Client::new(options, publishes.len() + 10);
    for Publish { topic, payload, qos, retain } in publishes {
        client.publish(topic, qos, retain, payload).unwrap();
    }
    // Its answer comes behind all the others, QoS 0 included.
    client.subscribe("end/of/publishing", QoS::AtMostOnce).unwrap();
    let (until, mut ended) = (Instant::now() + PATIENCE, false);
    while answered < count || !ended {
        assert!(Instant::now() < until, "the broker acknowledged {answered} of {count} publishes");
        match connection.recv_timeout(Duration::from_millis(100)) {
            Ok(Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)))) => answered += 1,
            Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => ended = true,
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => panic!("the device lost its broker: {error}"),
        }
    }
    let _ = client.disconnect();
    let _ = connection.recv_timeout(Duration::from_millis(200));
}
