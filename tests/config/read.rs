//! What is read.

use std::path::Path;

use weir::config::{
    Codec, DEAD_LETTER, DeviceFrom, FullPolicy, MqttVersion, Qos, RetainedPolicy, Secret, SinkKind, TimeUnit, Trigger,
};
use weir::manifest::Manifest;
use weir::strict::Faults;
use weir::units::{Bytes, Millis};

use crate::texts::*;

#[test]
fn a_broker_a_function_and_a_sink_are_enough() {
    let config = accepted(SMALL).loaded.config;
    assert_eq!((config.id.as_str(), config.board.as_str()), ("hall-3", "generic"));
    assert_eq!((config.broker.host.as_str(), config.broker.port), ("localhost", 1883));
    assert_eq!((config.broker.client_id.as_str(), config.broker.version), ("weir-hall-3", MqttVersion::Auto));
    assert_eq!(config.commit.interval, Millis(100));
    let lanes: Vec<_> = config.lanes.iter().map(|lane| (lane.name.as_str(), lane.sink.as_deref())).collect();
    assert_eq!(lanes, [("telemetry", Some("cloud")), (DEAD_LETTER, None)]);
    assert!(config.lanes[0].topics[0].matches("any/topic") && config.lanes[1].topics.is_empty());
    assert_eq!(config.lanes[1].bytes_max, Bytes::mib(1));
    let Trigger::Mqtt(trigger) = &config.functions[0].triggers[0] else { panic!() };
    assert_eq!(
        (trigger.qos, trigger.codec, &trigger.device),
        (Qos::AtLeastOnce, Codec::Json, &DeviceFrom::TopicLevel(1))
    );
    assert_eq!(config.functions[0].module, Path::new("functions/mean/mean.wasm"));
}

#[test]
fn every_key_arrives() {
    let gateway = r#"
        [gateway]
        id = "g1"
        board = "pi-4b"
        data-dir = "/var/lib/weir"
        payload-max = "8 KiB"
        future-skew-max = "1 min"
        hops-max = 2
        [broker]
        url = "mqtts://broker:8884"
        client-id = "c1"
        version = "3.1.1"
        keep-alive = "10 s"
        session-expiry = "1 h"
        in-flight = 50
        inbox-max = "64 KiB"
        packet-max = "16 KiB"
        username = "u"
        password-file = "secret"
        [broker.tls]
        ca-file = "ca.pem"
        cert-file = "cert.pem"
        key-file = "key.pem"
        server-name = "other"
        [commit]
        interval = "1 s"
        messages-max = 10
        bytes-max = "8 KiB"
        [store]
        sled = false
        flush-interval = "1 min"
        snapshot-interval = "1 h"
        segment-bytes = "128 KiB"
        journal-bytes-max = "1 MiB"
        [[function]]
        name = "avg"
        path = "functions/mean/"
        report = true
        [[function.trigger]]
        mqtt = "$share/g/a/+/b"
        qos = 2
        retained = "never"
        codec = "cbor"
        time-field = "meta.at"
        time-unit = "ms"
        device = "field:id"
        filter = { payload = { temp = [{ numeric = [">", 20] }] } }
        [[function.trigger]]
        chain = "x/#"
        device = "topic:3"
        [[function.trigger]]
        interval = "10 s"
        [function.config]
        high = 80.5
        [function.limits]
        memory = "8 KiB"
        fuel = 5000
        [function.meter.t]
        window = "5 s"
        lateness = "0 s"
        keys-max = 7
        [[lane]]
        name = "fast"
        topics = ["alerts/#", "meter/+"]
        bytes-max = "1 MiB"
        ttl = "1 h"
        full = "reject"
        priority = 1
        sink = "cloud"
        [[lane]]
        name = "dead-letter"
        sink = "disk"
        [[sink]]
        name = "disk"
        type = "file"
        dir = "out"
        files-max = 2
        [[sink]]
        name = "cloud"
        type = "mqtt"
        url = "mqtt://cloud"
        topic-prefix = "up"
        rate-max = 100
        format = "cbor"
        in-flight = 5
    "#;
    let texts = site(gateway).with("secret", "x").with("ca.pem", "").with("cert.pem", "").with("key.pem", "");
    let (plan, faults) = examine(&texts);
    assert!(faults.is_empty(), "{faults:#?}");
    let config = plan.unwrap().loaded.config;

    assert_eq!((config.payload_max, config.future_skew_max, config.hops_max), (Bytes::kib(8), Millis(60_000), 2));
    let broker = &config.broker;
    assert_eq!((broker.version, broker.in_flight, config.inbox_max), (MqttVersion::V311, 50, Bytes::kib(64)));
    assert_eq!(broker.password, Some(Secret::File("secret".into())));
    let tls = broker.tls.as_ref().unwrap();
    assert_eq!((tls.key_file.as_deref(), tls.server_name.as_deref()), (Some(Path::new("key.pem")), Some("other")));
    assert_eq!(
        (config.commit.messages_max, config.store.sled, config.store.segment_bytes),
        (10, false, Bytes::kib(128))
    );
    assert_eq!(config.store.dir, Path::new("/var/lib/weir"));

    let function = &config.functions[0];
    assert_eq!((function.manifest.name.as_str(), function.report), ("avg", true));
    assert_eq!(function.manifest.keep_prefix, "avg/");
    assert_eq!((function.manifest.limits.memory, function.manifest.limits.fuel.0), (Bytes::kib(8), 5000));
    let meter = &function.manifest.meters[0];
    assert_eq!((meter.window, meter.lateness, meter.keys_max), (Millis(5000), Millis(0), 7));
    assert_eq!(function.manifest.config, [(String::from("high"), String::from("80.5"))]);
    let [Trigger::Mqtt(mqtt), Trigger::Chain(chain), Trigger::Interval(Millis(10_000))] = function.triggers.as_slice()
    else {
        panic!("{:?}", function.triggers)
    };
    assert_eq!(
        (mqtt.topics.share_group(), mqtt.qos, mqtt.retained),
        (Some("g"), Qos::ExactlyOnce, RetainedPolicy::Never)
    );
    assert_eq!(
        (mqtt.codec, mqtt.time_unit, mqtt.time_field.as_deref()),
        (Codec::Cbor, TimeUnit::Milliseconds, Some("meta.at"))
    );
    assert_eq!(mqtt.device, DeviceFrom::Field(String::from("id")));
    assert!(mqtt.filter.is_some() && chain.filter.is_none());
    assert_eq!(chain.device, DeviceFrom::TopicLevel(3));

    let lane = &config.lanes[0];
    assert_eq!((lane.full, lane.ttl, lane.priority), (FullPolicy::Reject, Some(Millis(3_600_000)), 1));
    assert_eq!(config.lanes[1].sink.as_deref(), Some("disk"));
    let SinkKind::Mqtt { connection, topic_prefix, rate_max } = &config.sinks[1].kind else { panic!() };
    assert_eq!((connection.client_id.as_str(), topic_prefix.as_str(), *rate_max), ("weir-g1-cloud", "up", Some(100)));
}

#[test]
fn the_manifests_of_the_examples_are_taken() {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
    let mut count = 0;
    for folder in std::fs::read_dir(functions).unwrap() {
        let file = folder.unwrap().path().join("function.toml");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let faults = Faults::default();
        let manifest = Manifest::parse(&file.display().to_string(), &text, &faults);
        assert!(manifest.is_some(), "{:#?}", faults.into_list());
        count += 1;
    }
    assert!(count >= 6, "{count}");
}
