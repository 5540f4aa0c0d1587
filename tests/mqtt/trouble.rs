//! Brokers that are away, refuse, kick, fall silent or talk nonsense: each gets its sentence, and the link goes on trying.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use weir::config::{MqttVersion, Qos};
use weir::shell::mqtt::{Acked, Incoming, Why};
use weir::units::Millis;

use crate::harness::*;

const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];
const SUBACK: &[u8] = &[0x90, 4, 0, 1, 0, 2];

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_found_when_it_comes() {
    let mut broker = Broker::prepare("");
    let mut gateway = Tested::new(connection(broker.port, "gateway", MqttVersion::Auto), &["t/#"]);
    let said = gateway.error("refuses connections").await;
    assert!(said.contains(&broker.port.to_string()), "{said}");
    broker.run().await;
    gateway.ready().await;
    assert!(gateway.link.status().connected);
}

#[tokio::test]
async fn a_name_without_address_is_said() {
    let mut to = connection(1, "gateway", MqttVersion::Auto);
    to.host = "no-such-host.invalid".to_owned();
    let mut gateway = Tested::new(to, &["t/#"]);
    gateway.error("`no-such-host.invalid` has no address").await;
}

#[tokio::test]
async fn a_broker_that_closes_at_once_is_said_and_tried_in_both_versions() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let port = scripted(move |client| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { drop(client) }
    })
    .await;
    let mut gateway = Tested::new(connection(port, "gateway", MqttVersion::Auto), &["t/#"]);
    let said = gateway.error("closed the connection before answering").await;
    assert!(said.contains("`gateway`") && said.contains("mqtts"), "{said}");
    assert!(attempts.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn two_clients_with_one_identifier_are_told_with_the_fix() {
    // mosquitto 2.0.11 closes the older connection without a DISCONNECT.
    let broker = Broker::start("").await;
    let mut gateway = Tested::new(connection(broker.port, "twin", MqttVersion::V5), &["t/#"]);
    gateway.ready().await;
    let mut other = Tested::new(connection(broker.port, "twin", MqttVersion::V311), &["t/#"]);
    let said = tokio::select! {
        said = gateway.error("client-id `twin`") => said,
        said = other.error("client-id `twin`") => said,
    };
    assert!(said.contains("give every gateway its own"), "{said}");
}

#[tokio::test]
async fn a_session_that_was_taken_over_is_told_with_the_fix() {
    let port = scripted(|mut client| async move {
        let _ = client.write_all(CONNACK).await;
        let _ = client.write_all(&[0xe0, 1, 0x8e]).await;
        let _ = client.read(&mut [0; 64]).await;
    })
    .await;
    let mut gateway = Tested::new(connection(port, "twin", MqttVersion::V5), &["t/#"]);
    let said = gateway.error("took over client-id `twin`").await;
    assert!(said.contains("give every gateway a client-id of its own"), "{said}");
}

#[tokio::test]
async fn being_kicked_again_and_again_in_3_1_1_points_at_the_identifier() {
    let port = scripted(|mut client| async move {
        let _ = client.write_all(&[0x20, 2, 0, 0]).await;
    })
    .await;
    let mut gateway = Tested::new(connection(port, "twin", MqttVersion::V311), &["t/#"]);
    let said = gateway.error("again and again").await;
    assert!(said.contains("client-id `twin`"), "{said}");
}

#[tokio::test]
async fn a_silent_broker_is_left_after_half_a_keep_alive() {
    let port = scripted(|mut client| async move {
        let _ = client.write_all(CONNACK).await;
        let mut sink = vec![0; 1024];
        while client.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let mut to = connection(port, "gateway", MqttVersion::V5);
    to.keep_alive = Millis(1_000);
    let mut gateway = Tested::new(to, &["t/#"]);
    gateway.connected().await;
    let start = tokio::time::Instant::now();
    gateway.error("is silent").await;
    assert!((1_300..4_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn nonsense_ends_the_connection_with_a_reason_and_a_pause() {
    let (said, mut goodbyes) = mpsc::unbounded_channel();
    let port = scripted(move |mut client| {
        let said = said.clone();
        async move {
            let _ = client.write_all(CONNACK).await;
            let _ = client.write_all(&[0x36, 6, 0, 1, b'a', 0, 9, 0]).await;
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest).await;
            let _ = said.send(rest);
        }
    })
    .await;
    let mut gateway = Tested::new(connection(port, "gateway", MqttVersion::V5), &["t/#"]);
    gateway.error("a publish with QoS 3").await;
    let goodbye = within("DISCONNECT", goodbyes.recv()).await.unwrap();
    assert_eq!(goodbye[goodbye.len() - 3..], [0xe0, 1, 0x81]);
    let reason = gateway
        .next("disconnected", |event| match event {
            Incoming::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("is it an MQTT broker?"), "{reason}");
}

#[tokio::test]
async fn a_topic_that_is_not_utf_8_is_told_and_acknowledged_and_the_link_stands() {
    let (said, mut acks) = mpsc::unbounded_channel();
    let port = scripted(move |mut client| {
        let said = said.clone();
        async move {
            client.write_all(CONNACK).await.unwrap();
            let mut buffer = vec![0; 1024];
            let _ = client.read(&mut buffer).await;
            client.write_all(SUBACK).await.unwrap();
            client.write_all(&[0x32, 8, 0, 2, 0xff, 0xfe, 0, 9, 0, b'x']).await.unwrap();
            while let Ok(count) = client.read(&mut buffer).await {
                if count == 0 {
                    return;
                }
                let _ = said.send(buffer[..count].to_vec());
            }
        }
    })
    .await;
    let mut gateway = Tested::new(connection(port, "gateway", MqttVersion::V5), &["t/#"]);
    gateway.ready().await;
    let unfit = gateway
        .next("unfit", |event| match event {
            Incoming::Unfit { unfit, .. } => Some(unfit.clone()),
            _ => None,
        })
        .await;
    assert_eq!((unfit.why, unfit.packet_id, &unfit.topic[..]), (Why::NotUtf8, 9, &[0xff, 0xfe][..]));
    gateway.ack([Acked { packet_id: 9, qos: Qos::AtLeastOnce }]);
    let said = within("PUBACK", acks.recv()).await.unwrap();
    assert_eq!(said, [0x40, 2, 0, 9, 0xc0, 0], "the acknowledgement, and the ping that has it confirmed");
    assert!(gateway.link.status().connected);
}

#[tokio::test]
async fn a_lower_grant_and_a_refusal_are_reported() {
    let port = scripted(|mut client| async move {
        let _ = client.write_all(CONNACK).await;
        let mut buffer = vec![0; 1024];
        let _ = client.read(&mut buffer).await;
        let _ = client.write_all(&[0x90, 5, 0, 1, 0, 0, 0x87]).await;
        while client.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let mut gateway = Tested::new(connection(port, "gateway", MqttVersion::V5), &["a", "b"]);
    let grants = gateway
        .next("granted", |event| match event {
            Incoming::Granted { grants, .. } => Some(grants.clone()),
            _ => None,
        })
        .await;
    let said: Vec<_> = grants.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("`a` was granted QoS 0 instead of 2"), "{said:?}");
    assert!(said[1].contains("refuses the subscription `b`: not authorised"), "{said:?}");
    assert_eq!(gateway.link.status().refused, ["b"]);
}
