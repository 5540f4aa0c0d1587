//! What the source link delivers, acknowledges, and gets again.

use std::sync::atomic::Ordering;

use tokio::time::{Duration, sleep};
use weir::config::{MqttVersion, Qos, RetainedPolicy, Subscription};
use weir::shell::mqtt::{Acked, Incoming, Version, Why};
use weir::units::{Bytes, Millis};

use crate::harness::*;

const VERSIONS: [MqttVersion; 2] = [MqttVersion::V5, MqttVersion::V311];

#[tokio::test]
async fn messages_of_every_qos_arrive_once_and_are_confirmed() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        let mut gateway = Tested::new(connection(broker.port, &format!("gateway-{version:?}"), version), &["t/#"]);
        assert!(!gateway.ready().await, "a new client has no session");
        publish(broker.port, &[("t/0", 0, b"zero"), ("t/1", 1, b"one"), ("t/2", 2, b"two")]).await;
        let messages = gateway.messages(3).await;
        let mut seen: Vec<_> = messages.iter().map(|(seen, _)| seen.clone()).collect();
        seen.sort();
        let want = [("t/0", "zero", 0), ("t/1", "one", 1), ("t/2", "two", 2)];
        assert_eq!(seen, want.map(|(topic, text, qos)| (topic.to_owned(), text.to_owned(), qos, false)));
        gateway.ack(messages.into_iter().map(|(_, ack)| ack));
        gateway.confirmed(2).await;
        gateway.link.close().await;

        let mut again = Tested::new(connection(broker.port, &format!("gateway-{version:?}"), version), &["t/#"]);
        assert!(again.ready().await, "the session is kept");
        again.stays_quiet(200).await;
    }
}

#[tokio::test]
async fn an_unacknowledged_message_comes_again_with_dup_and_its_id_when_the_connection_is_lost() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        for qos in [1, 2] {
            let proxy = Proxy::start(broker.port).await;
            let mut gateway =
                Tested::new(connection(proxy.port, &format!("gateway-{version:?}-{qos}"), version), &["t/#"]);
            gateway.ready().await;
            publish(broker.port, &[("t/a", qos, b"x")]).await;
            let (first, ack) = gateway.message().await;
            let old_epoch = gateway.epoch;
            proxy.cut();
            assert!(gateway.ready().await);
            assert!(gateway.epoch > old_epoch);
            let (second, ack_again) = gateway.message().await;
            assert_eq!((second.0, second.1, second.2, second.3), (first.0, first.1, first.2, true));
            assert_eq!(ack, ack_again);
            // An ack of the old connection has no effect on the new one; the right one has.
            gateway.link.acks.send(old_epoch, [ack]);
            gateway.ack([ack_again]);
            gateway.confirmed(1).await;
            proxy.cut();
            assert!(gateway.ready().await);
            gateway.stays_quiet(200).await;
        }
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_restart_of_the_gateway_and_of_the_broker() {
    let mut broker = Broker::start("").await;
    for version in VERSIONS {
        let to = connection(broker.port, &format!("gateway-{version:?}"), version);
        let mut gateway = Tested::new(to.clone(), &["t/#"]);
        gateway.ready().await;
        let names = ["t/0", "t/1", "t/2", "t/3", "t/4"];
        publish(broker.port, &names.map(|topic| (topic, 1, &b"x"[..]))).await;
        let acks: Vec<_> = gateway.messages(5).await.into_iter().map(|(_, ack)| ack).collect();
        gateway.ack(acks[..2].to_vec());
        gateway.confirmed(2).await;
        gateway.link.close().await;
        broker.signal(15);
        broker.run().await;

        let mut gateway = Tested::new(to, &["t/#"]);
        assert!(gateway.ready().await, "the broker saved the session");
        let again = gateway.messages(3).await;
        let topics: Vec<_> = again.iter().map(|(seen, _)| (seen.0.as_str(), seen.3)).collect();
        assert_eq!(topics, [("t/2", true), ("t/3", true), ("t/4", true)]);
        gateway.ack(again.into_iter().map(|(_, ack)| ack));
        gateway.confirmed(3).await;
    }
}

#[tokio::test]
async fn a_pubrel_of_a_message_from_before_the_restart_is_answered() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        let id = format!("gateway-{version:?}");
        let proxy = Proxy::start(broker.port).await;
        let mut gateway = Tested::new(connection(proxy.port, &id, version), &["t/#"]);
        gateway.ready().await;
        publish(broker.port, &[("t/a", 2, b"x")]).await;
        let (_, ack) = gateway.message().await;
        // The PUBREC goes out, the PUBREL is lost on its way.
        proxy.deaf.store(true, Ordering::SeqCst);
        gateway.ack([ack]);
        within("PUBREC", async {
            while !broker.log().contains(&format!("Received PUBREC from {id}")) {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        drop(gateway.link);
        proxy.cut();

        let mut gateway = Tested::new(connection(broker.port, &id, version), &["t/#"]);
        assert!(gateway.ready().await);
        within("PUBCOMP", async {
            while !broker.log().contains(&format!("Received PUBCOMP from {id}")) {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let released = gateway.next("released", |event| match event {
            Incoming::Released { packet_id } => Some(*packet_id),
            _ => None,
        });
        assert_eq!(released.await, ack.packet_id);
        gateway.stays_quiet(200).await;
        assert_eq!(gateway.link.status().epoch, 1, "the link stood: {:?}", gateway.link.status());
    }
}

#[tokio::test]
async fn unacknowledged_messages_hold_the_broker_back_and_the_link_stays_up() {
    // The broker would send everything at once.
    let broker = Broker::start("max_inflight_messages 0\nmax_queued_messages 0\n").await;
    for version in VERSIONS {
        let mut to = connection(broker.port, &format!("gateway-{version:?}"), version);
        (to.in_flight, to.keep_alive) = (10, Millis(1_000));
        let mut gateway = Tested::new(to, &["t/#"]);
        gateway.ready().await;
        let all: Vec<String> = (0..100).map(|number| format!("t/{number:02}")).collect();
        publish(broker.port, &all.iter().map(|topic| (topic.as_str(), 1, &b"x"[..])).collect::<Vec<_>>()).await;
        let mut messages = gateway.messages(10).await;
        gateway.stays_quiet(3_500).await;
        assert!(gateway.link.status().connected, "{:?}", gateway.link.status());
        for _ in 0..9 {
            let acks: Vec<_> = messages[messages.len() - 10..].iter().map(|(_, ack)| *ack).collect();
            gateway.ack(acks);
            messages.extend(gateway.messages(10).await);
        }
        let topics: Vec<_> = messages.into_iter().map(|(seen, _)| seen.0).collect();
        assert_eq!(topics, all);
        assert_eq!(gateway.link.status().epoch, 1);
    }
}

#[tokio::test]
async fn qos_0_beyond_the_inbox_is_dropped_and_counted() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        let mut gateway = Tested::new(connection(broker.port, &format!("gateway-{version:?}"), version), &["t/#"]);
        gateway.ready().await;
        for _ in 0..5 {
            publish(broker.port, &[("t/a", 0, &b"x"[..]); 500]).await;
        }
        publish(broker.port, &[("t/last", 1, b"x")]).await;
        // The consumer sleeps; the link goes on reading.
        let (mut received, mut dropped, mut last) = (0, 0, 0);
        within("2,501 messages", async {
            sleep(Duration::from_millis(500)).await;
            let mut batch = Vec::new();
            while received + dropped < 2_500 || last == 0 {
                gateway.link.inbox.take(64, &mut batch).await;
                for event in batch.drain(..) {
                    match event {
                        Incoming::Publish { qos: Qos::AtMostOnce, .. } => received += 1,
                        Incoming::Publish { .. } => last += 1,
                        Incoming::Dropped { count } => dropped += count,
                        _ => {}
                    }
                }
            }
        })
        .await;
        assert_eq!((received + dropped, last), (2_500, 1));
        assert!(dropped > 0 && received >= 1024, "{received} received, {dropped} dropped");
    }
}

#[tokio::test]
async fn a_packet_larger_than_the_limit_is_told_acknowledged_and_passed_over() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        let mut to = connection(broker.port, &format!("gateway-{version:?}"), version);
        to.packet_max = Bytes::kib(1);
        let mut gateway = Tested::new(to, &["t/#"]);
        gateway.ready().await;
        let large = vec![b'x'; 300_000];
        publish(broker.port, &[("t/large", 1, &large), ("t/two", 2, &large), ("t/small", 1, b"x")]).await;
        for (topic, qos) in [("t/large", Qos::AtLeastOnce), ("t/two", Qos::ExactlyOnce)] {
            let unfit = gateway
                .next("too large", |event| match event {
                    Incoming::Unfit { unfit, .. } => Some(unfit.clone()),
                    _ => None,
                })
                .await;
            assert_eq!((text(&unfit.topic).as_str(), unfit.qos, unfit.why), (topic, qos, Why::TooLarge));
            assert!(unfit.size > 300_000);
            gateway.ack([Acked { packet_id: unfit.packet_id, qos }]);
        }
        let (small, ack) = gateway.message().await;
        assert_eq!(small.0, "t/small");
        gateway.ack([ack]);
        gateway.confirmed(3).await;
        assert_eq!(gateway.link.status().epoch, 1, "the link stood");
    }
}

/// The next retained message: (topic, resubscribed).
async fn retained(gateway: &mut Tested) -> (String, bool) {
    let (topic, resubscribed, ack) = gateway
        .next("retained", |event| match event {
            Incoming::Publish { topic, retain: true, resubscribed, packet_id, qos, .. } => {
                Some((text(topic), *resubscribed, Acked { packet_id: *packet_id, qos: *qos }))
            }
            _ => None,
        })
        .await;
    gateway.ack([ack]);
    (topic, resubscribed)
}

#[tokio::test]
async fn retained_messages_of_a_kept_session_are_left_out_or_marked_and_come_for_what_is_fresh() {
    let broker = Broker::start("").await;
    publish_retained(broker.port, &[("t/kept", 1, b"x")], true).await;
    // (version, policy, fresh at the second connection): whether they come again, marked
    for (name, version, policy, fresh, again) in [
        ("a", MqttVersion::V311, RetainedPolicy::SkipOnResubscribe, false, true),
        ("b", MqttVersion::V5, RetainedPolicy::SkipOnResubscribe, false, false),
        ("c", MqttVersion::V5, RetainedPolicy::Always, false, true),
        ("d", MqttVersion::V5, RetainedPolicy::SkipOnResubscribe, true, true),
    ] {
        let wish = Subscription { filter: "t/#".parse().unwrap(), qos: Qos::AtLeastOnce, retained: policy };
        let mut source = source(connection(broker.port, name, version), [wish]);
        let mut gateway = Tested::with(source.clone());
        gateway.ready().await;
        assert_eq!(retained(&mut gateway).await, ("t/kept".to_owned(), false), "{name}: the session is new");
        gateway.confirmed(1).await;
        gateway.link.close().await;

        if fresh {
            source.fresh = vec!["t/#".to_owned()];
        }
        let proxy = Proxy::start(broker.port).await;
        source.connection.port = proxy.port;
        let mut gateway = Tested::with(source);
        assert!(gateway.ready().await, "{name}: the session is kept");
        if again {
            assert_eq!(retained(&mut gateway).await, ("t/kept".to_owned(), true), "{name}");
            gateway.confirmed(1).await;
        } else {
            gateway.stays_quiet(300).await;
        }
        // Once granted it is fresh no more.
        proxy.cut();
        gateway.ready().await;
        if again && !fresh {
            assert_eq!(retained(&mut gateway).await, ("t/kept".to_owned(), true), "{name}");
        } else {
            gateway.stays_quiet(300).await;
        }
        gateway.link.close().await;
    }
}

#[tokio::test]
async fn a_kept_session_loses_the_filters_of_an_earlier_configuration_before_it_gets_new_ones() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        // Each share of its own: what is left of it takes messages while nobody is there.
        let shares = [format!("$share/a{version:?}/t/+/v"), format!("$share/b{version:?}/t/+/v")];
        for (before, after, want) in [
            ("t/+/v", "t/#", &["x", "y"][..]),
            ("t/#", "t/+/v", &["x", "y"]),
            ("t/+/v", &*shares[0], &["x", "y"]),
            (&*shares[1], "t/+/v", &["x", "y"]),
            ("t/+/v", "u", &["end"]),
        ] {
            let id = format!("{version:?}-{before}-{after}").replace(['/', '#', '+', '$'], "_");
            let to = connection(broker.port, &id, version);
            let mut old = Tested::new(to.clone(), &[before]);
            old.ready().await;
            old.link.close().await;
            // What the old filter has queued comes, once, and is no reason to forget the change.
            publish(broker.port, &[("t/1/v", 1, b"queued")]).await;

            let mut source = source(to, [subscription(after, Qos::AtLeastOnce)]);
            // More than one packet takes, and some that the session never had.
            source.unsubscribed = (0..20).map(|number| format!("never/{number}")).collect();
            source.unsubscribed.insert(10, before.to_owned());
            let mut new = Tested::with(source);
            assert!(new.ready().await);
            if !before.starts_with("$share") {
                let (seen, ack) = new.message().await;
                assert_eq!(seen.1, "queued", "{id}");
                new.ack([ack]);
            }
            publish(broker.port, &[("t/1/v", 1, b"x"), ("u", 1, b"end"), ("t/1/v", 1, b"y")]).await;
            let mut seen = Vec::new();
            within("messages", async {
                while seen.len() < want.len() {
                    let (message, ack) = new.message().await;
                    new.ack([ack]);
                    if message.1 != "queued" {
                        seen.push(message.1);
                    }
                }
            })
            .await;
            new.stays_quiet(150).await;
            assert_eq!(seen, want, "{id}");
            assert_eq!(new.link.status().epoch, 1, "the link stood");
            new.link.close().await;
        }
    }
}

#[tokio::test]
async fn a_link_that_is_not_opened_does_not_connect() {
    let broker = Broker::start("").await;
    let link = weir::shell::mqtt::spawn(source(
        connection(broker.port, "gateway", MqttVersion::Auto),
        [subscription("t", Qos::AtLeastOnce)],
    ));
    let mut gateway = Tested { link, seen: Vec::new(), epoch: 0 };
    sleep(Duration::from_millis(300)).await;
    assert!(!broker.log().contains("gateway"), "{}", broker.log());
    gateway.link.open();
    gateway.ready().await;
    gateway.link.close().await;
}

#[tokio::test]
async fn shared_subscriptions_split_the_stream_and_covered_filters_do_not_double_it() {
    let broker = Broker::start("").await;
    let filters = ["$share/g/t/+", "u/+/x", "u/#", "u/1/x"];
    let mut a = Tested::new(connection(broker.port, "a", MqttVersion::V5), &filters);
    let mut b = Tested::new(connection(broker.port, "b", MqttVersion::V311), &filters[..1]);
    a.ready().await;
    b.ready().await;
    publish(broker.port, &[("t/1", 1, &b"x"[..]); 20]).await;
    publish(broker.port, &[("u/1/x", 1, &b"x"[..])]).await;
    let (mut at_a, mut at_b, mut single) = (0, 0, 0);
    within("all", async {
        while at_a + at_b < 20 || single == 0 {
            tokio::select! {
                (seen, ack) = a.message() => { a.ack([ack]); if seen.0 == "u/1/x" { single += 1 } else { at_a += 1 } }
                (_, ack) = b.message() => { b.ack([ack]); at_b += 1 }
            }
        }
    })
    .await;
    a.stays_quiet(200).await;
    assert!(at_a > 0 && at_b > 0 && at_a + at_b == 20 && single == 1, "{at_a} {at_b} {single}");
}

#[tokio::test]
async fn a_broker_of_3_1_1_is_spoken_to_in_its_own_version() {
    let broker = Broker::start("").await;
    let proxy = Proxy::start(broker.port).await;
    proxy.old.store(true, Ordering::SeqCst);
    let mut gateway = Tested::new(connection(proxy.port, "gateway", MqttVersion::Auto), &["t/#"]);
    gateway.ready().await;
    assert_eq!(gateway.link.status().version, Some(Version::V311));
    publish(broker.port, &[("t/a", 1, b"x")]).await;
    gateway.message().await;

    let mut strict = Tested::new(connection(proxy.port, "strict", MqttVersion::V5), &["t/#"]);
    strict.error("does not speak MQTT").await;
}

#[tokio::test]
async fn a_quiet_link_takes_no_time_whatever_pings_cross() {
    let broker = Broker::start("").await;
    for version in VERSIONS {
        let mut to = connection(broker.port, &format!("gateway-{version:?}"), version);
        to.keep_alive = Millis(1_000);
        let mut gateway = Tested::new(to, &["t/#"]);
        gateway.ready().await;
        let before = cpu();
        // Acks at several distances from the pings of the keep-alive.
        for pause in [0, 700, 400] {
            sleep(Duration::from_millis(pause)).await;
            publish(broker.port, &[("t/a", 1, b"x")]).await;
            let (_, ack) = gateway.message().await;
            gateway.ack([ack]);
        }
        gateway.confirmed(3).await;
        gateway.stays_quiet(3_000).await;
        let spent = cpu() - before;
        assert!(spent < Duration::from_millis(300), "{spent:?}");
        assert_eq!(gateway.link.status().epoch, 1);
    }
}
