//! Sinks: in order, all of it, again where there was no answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use weir::books::DropReason;
use weir::config::MqttVersion;
use weir::outbox::Outcome;
use weir::record::{Record, RecordKind};
use weir::shell::sink::{
    Encode, FileSink, LaneEnds, MqttSink, Records, Sink, SinkEvent, SinkLane, spawn_file, spawn_mqtt,
};
use weir::store::Batch;
use weir::time::TimeQuality;
use weir::units::Bytes;

use crate::harness::*;

/// Lanes in memory, each a list of encoded records.
#[derive(Default)]
struct Lanes(Mutex<BTreeMap<usize, Vec<Vec<u8>>>>);

impl Records for Lanes {
    async fn read(
        &self,
        lane: usize,
        from_seq: u64,
        bytes_max: usize,
        mut into: Vec<u8>,
    ) -> Result<(Batch, Vec<u8>), String> {
        tokio::task::yield_now().await;
        into.clear();
        let mut batch = Batch { first_seq: from_seq, records: 0, lost: None };
        for record in self.0.lock().unwrap().entry(lane).or_default().iter().skip(from_seq as usize) {
            if batch.records > 0 && into.len() + record.len() > bytes_max {
                break;
            }
            into.extend_from_slice(record);
            batch.records += 1;
        }
        Ok((batch, into))
    }
}

/// A sink under test, its lanes, and what it has said.
struct Tested {
    sink: Sink,
    lanes: Arc<Lanes>,
    ends: Arc<LaneEnds>,
    events: mpsc::Receiver<SinkEvent>,
    settled: BTreeMap<usize, Vec<(u64, Outcome)>>,
}

fn encode() -> Encode {
    Arc::new(|record, lane, sequence, out| {
        out.extend_from_slice(format!("{lane}:{sequence}:").as_bytes());
        out.extend_from_slice(record.payload);
    })
}

fn two_lanes() -> Vec<SinkLane> {
    [(0, "alerts", 0), (1, "data", 9)]
        .map(|(lane, name, priority)| SinkLane { lane, name: name.to_owned(), priority, head_seq: 0 })
        .to_vec()
}

impl Tested {
    fn mqtt(port: u16, version: MqttVersion, rate_max: Option<u32>) -> Self {
        let mut connection = connection(port, "upstream", version);
        connection.in_flight = 8;
        Self::start(move |ends, events, lanes| {
            let sink = MqttSink {
                name: "cloud".to_owned(),
                connection,
                topic_prefix: "weir".to_owned(),
                gateway: "gw".to_owned(),
                rate_max,
                encode: encode(),
                lanes: two_lanes(),
                ends,
                events,
                seed: 7,
            };
            spawn_mqtt(sink, lanes)
        })
    }

    fn file(dir: &std::path::Path, lanes: Vec<SinkLane>) -> Self {
        let dir = dir.to_owned();
        Self::start(move |ends, events, records| {
            let sink = FileSink {
                name: "up".to_owned(),
                dir,
                file_bytes_max: Bytes(40),
                files_max: 9,
                encode: encode(),
                lanes,
                ends,
                events,
            };
            spawn_file(sink, records)
        })
    }

    fn start(spawn: impl FnOnce(Arc<LaneEnds>, mpsc::Sender<SinkEvent>, Arc<Lanes>) -> Sink) -> Self {
        let (lanes, ends) = (Arc::new(Lanes::default()), LaneEnds::new(2));
        let (sender, events) = mpsc::channel(16);
        let sink = spawn(ends.clone(), sender, lanes.clone());
        Self { sink, lanes, ends, events, settled: BTreeMap::new() }
    }

    fn commit(&self, lane: usize, topic: &str, payloads: impl IntoIterator<Item = String>) {
        let tail = {
            let mut lanes = self.lanes.0.lock().unwrap();
            let list = lanes.entry(lane).or_default();
            for payload in payloads {
                let mut bytes = Vec::new();
                let record = Record {
                    kind: RecordKind::Message,
                    closes_message: true,
                    at_ms: 0,
                    quality: TimeQuality::Synced,
                    hops: 0,
                    source: "f",
                    topic,
                    payload: payload.as_bytes(),
                };
                record.encode(&mut bytes);
                list.push(bytes);
            }
            list.len() as u64
        };
        self.ends.set(lane, 0, tail);
        self.sink.wake();
    }

    /// Waits until so many records of the lane are settled.
    async fn settled(&mut self, lane: usize, count: usize) {
        within(&format!("{count} records of lane {lane}: {:?} {:?}", self.sink.status(), self.sink.link()), async {
            while self.settled.entry(lane).or_default().len() < count {
                match self.events.recv().await.unwrap() {
                    SinkEvent::Settled { lane, records } => {
                        let list = self.settled.entry(lane).or_default();
                        for record in records {
                            assert_eq!(record.sequence, list.len() as u64, "in order and without a gap");
                            assert!(record.closes_message);
                            list.push((record.sequence, record.outcome));
                        }
                    }
                    SinkEvent::Upstream { .. } => {}
                    SinkEvent::Gone { .. } | SinkEvent::Fetched { .. } => panic!("nothing is gone"),
                }
            }
        })
        .await;
    }

    fn undeliverable(&self, lane: usize) -> Vec<u64> {
        let list = self.settled.get(&lane).into_iter().flatten();
        list.filter(|(_, outcome)| *outcome == Outcome::Dropped(DropReason::Undeliverable))
            .map(|(sequence, _)| *sequence)
            .collect()
    }
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

/// An upstream receiver with a session: collects (topic, text) until it has `count` different ones.
async fn receive(port: u16, id: &str, count: usize, into: &mut Vec<(String, String)>) {
    use rumqttc::v5::mqttbytes::{QoS, v5::Packet};
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_clean_start(false).set_session_expiry_interval(Some(3600));
    let (client, mut events) = AsyncClient::new(options, 10);
    client.try_subscribe("weir/#", QoS::AtLeastOnce).unwrap();
    let mut subscribed = count > 0;
    let receiving = async {
        while into.len() < count || !subscribed {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let one = (text(&publish.topic), text(&publish.payload));
                    if !into.contains(&one) {
                        into.push(one);
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => subscribed = true,
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
        client.try_disconnect().unwrap();
        while events.poll().await.is_ok() {}
    };
    within(&format!("{count} records upstream"), receiving).await;
}

#[tokio::test]
async fn records_arrive_in_order_and_again_after_a_restart_of_the_broker() {
    for version in [MqttVersion::V5, MqttVersion::V311] {
        let mut broker = Broker::start("max_queued_messages 0\n").await;
        let mut got = Vec::new();
        receive(broker.port, "cloud", 0, &mut got).await;
        let mut sink = Tested::mqtt(broker.port, version, None);
        sink.commit(1, "a/b", numbers(0..500));
        sink.settled(1, 100).await;
        broker.signal(15);
        sink.commit(0, "", numbers(0..3));
        sleep(Duration::from_millis(300)).await;
        broker.run().await;
        sink.settled(0, 3).await;
        sink.settled(1, 500).await;
        receive(broker.port, "cloud", 503, &mut got).await;
        let of = |topic: &str| got.iter().filter(|one| one.0 == topic).map(|one| one.1.clone()).collect::<Vec<_>>();
        assert_eq!(of("weir/gw/data/a/b"), (0..500).map(|n| format!("data:{n}:{n}")).collect::<Vec<_>>());
        assert_eq!(of("weir/gw/alerts"), (0..3).map(|n| format!("alerts:{n}:{n}")).collect::<Vec<_>>());
        assert_eq!((sink.sink.status().delivered, sink.sink.link().reconnects()), (503, 1));
        sink.sink.close().await;
    }
}

#[tokio::test]
async fn a_lane_of_priority_goes_first_and_a_drain_is_paced() {
    let broker = Broker::start("").await;
    let mut sink = Tested::mqtt(broker.port, MqttVersion::V5, Some(50));
    sink.commit(1, "a", numbers(0..60));
    sink.settled(1, 5).await;
    let start = Instant::now();
    sink.commit(0, "a", numbers(0..2));
    sink.settled(0, 2).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(sink.settled[&1].len() < 40);
    sink.settled(1, 60).await;
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    assert!(sink.sink.status().without_subscriber > 0, "nobody listens upstream");
}

#[tokio::test]
async fn what_the_broker_will_never_take_is_undeliverable_and_the_rest_goes_on() {
    let broker = Broker::start("max_packet_size 2000\n").await;
    let mut sink = Tested::mqtt(broker.port, MqttVersion::V5, None);
    sink.commit(1, "a", ["x".to_owned(), "y".repeat(3_000), "z".to_owned()]);
    sink.commit(1, "not/a/#/name", ["x".to_owned()]);
    sink.commit(1, "a", ["x".to_owned()]);
    sink.settled(1, 5).await;
    assert_eq!(sink.undeliverable(1), [1, 3]);
    assert_eq!((sink.sink.status().delivered, sink.sink.status().undeliverable), (3, 2));
}

#[tokio::test]
async fn what_the_broker_refuses_for_now_waits_and_its_lane_alone() {
    let mut broker = Broker::prepare("acl_file $DIR/acl\n");
    write(&broker.path("acl"), "topic readwrite weir/gw/alerts/#\n");
    broker.run().await;
    let mut sink = Tested::mqtt(broker.port, MqttVersion::V5, None);
    sink.commit(1, "a", numbers(0..20));
    sink.commit(0, "a", numbers(0..20));
    sink.settled(0, 20).await;
    assert!(sink.settled.get(&1).is_none_or(Vec::is_empty), "not authorised is not delivered");
    within("refused", async {
        while sink.sink.status().refused == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let before = cpu();
    sleep(Duration::from_millis(1_000)).await;
    assert!(cpu() - before < Duration::from_millis(200), "a lane that waits takes no time: {:?}", cpu() - before);
    write(&broker.path("acl"), "topic readwrite weir/#\n");
    broker.signal(1);
    sink.settled(1, 20).await;
    assert_eq!((sink.undeliverable(1).len(), sink.sink.link().epoch), (0, 1));
}

#[tokio::test]
async fn files_are_continued_where_the_gateway_left_off() {
    let dir = tempfile::tempdir().unwrap();
    let lines = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect::<Vec<_>>()
    };
    let mut sink = Tested::file(dir.path(), two_lanes());
    sink.commit(1, "a", ["one\n  two".to_owned(), "three".to_owned()]);
    sink.settled(1, 2).await;
    sink.commit(0, "a", ["now".to_owned()]);
    sink.settled(0, 1).await;
    sink.sink.close().await;
    assert_eq!(lines(), ["data:0:one   two\ndata:1:three\n", "alerts:0:now\n"]);

    std::fs::write(dir.path().join("up-000002.jsonl"), "alerts:0:now\nalerts:1:to").unwrap();
    let heads = two_lanes().into_iter().map(|lane| SinkLane { head_seq: 1, ..lane }).collect();
    let sink = Tested::file(dir.path(), heads);
    sink.commit(0, "a", ["now".to_owned(), "torn".to_owned()]);
    within("line", async {
        while lines()[1] != "alerts:0:now\nalerts:1:torn\n" {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    sink.sink.close().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_keeps_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("file-in-the-way");
    std::fs::write(&place, "").unwrap();
    let mut sink = Tested::file(&place, two_lanes());
    sink.commit(1, "a", numbers(0..3));
    within("error", async {
        while sink.sink.link().last_error.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(sink.sink.link().last_error.contains("file-in-the-way"), "{}", sink.sink.link().last_error);
    std::fs::remove_file(&place).unwrap();
    sink.settled(1, 3).await;
}
