//! A change of the triggers' filters while the broker keeps the session: every message counts once.

use std::time::Duration;

use super::support::broker::{Broker, Conf};
use super::support::device::{Publish, publish};
use super::support::fake::{Fake, Raw};
use super::support::gateway::Gateway;
use super::support::guests::METER;
use super::support::ledger::Ledger;
use super::{FILES, files, readings, start};

const VERSIONS: [&str; 2] = ["5", "3.1.1"];

/// `gateway.toml` with the function `meter`, perhaps under other names, and filters for each.
fn site(broker: &Broker, version: &str, more: &str, functions: &[(&str, &[&str])]) -> String {
    let mut text = super::head(&broker.url()) + &format!("version = \"{version}\"\n{more}\n");
    for (name, filters) in functions {
        text += &format!("[[function]]\npath = \"meter\"\nname = \"{name}\"\n");
        filters.iter().for_each(|filter| text += &format!("[[function.trigger]]\nmqtt = \"{filter}\"\n"));
    }
    text + FILES
}

fn to(topic: &str, count: usize) -> Vec<Publish> {
    readings(count).into_iter().map(|reading| Publish { topic: topic.to_owned(), ..reading }).collect()
}

/// Waits until so many messages are received and every window is closed and delivered; ends the gateway.
fn finish(gateway: &mut Gateway, received: usize) -> Ledger {
    gateway.wait_for("the end of all windows", |numbers| {
        numbers.get("messages_received_total") == received as f64
            && numbers.get("window_cells") == 0.0
            && numbers.waiting("telemetry") == 0.0
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    files(gateway)
}

#[test]
fn totals_stay_right_when_filters_change_in_a_kept_session() {
    for version in VERSIONS {
        let broker = Broker::start(&Conf::wide());
        let mut gateway = Gateway::new(&site(&broker, version, "", &[("meter", &["press/+/v"])]));
        METER.install(&gateway);
        start(&mut gateway);
        publish(broker.port(), to("press/p1/v", 5));
        let (mut received, mut counted) = (5, 5);
        gateway.wait_for("the first readings", |numbers| numbers.get("messages_received_total") == 5.0);
        // Filters, what the old ones have queued meanwhile, and of that and of what comes then: received, counted
        for (round, (filters, queued, counts)) in [
            (&["$share/g/press/+/v"][..], 5, 10),
            (&["press/#"], 5, 10),
            (&["press/p1/v"], 5, 10),
            (&["press/#", "press/+/v"], 5, 10),
            (&["press/+/v"], 5, 10),
            (&["elsewhere/+"], 5, 0),
            (&["elsewhere/+"], 0, 0),
            (&["press/+/+", "press/p1/v"], 0, 5),
        ]
        .into_iter()
        .enumerate()
        {
            if round % 2 == 0 {
                gateway.kill()
            } else {
                assert!(gateway.stop().success(), "{}", gateway.log())
            }
            publish(broker.port(), to("press/p1/v", 5));
            gateway.configure(&site(&broker, version, "", &[("meter", filters)]));
            start(&mut gateway);
            publish(broker.port(), to("press/p1/v", 5));
            let live = if filters == ["elsewhere/+"] { 0 } else { 5 };
            (received, counted) = (received + queued + live, counted + counts);
            gateway.wait_for(&format!("{received} messages, MQTT {version}, {filters:?}"), |numbers| {
                let now = numbers.get("messages_received_total");
                assert!(now <= received as f64, "MQTT {version}, {filters:?}: {now} of {received} received");
                now == received as f64
            });
            // Long enough for a second copy, and for a commit.
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(finish(&mut gateway, received).readings("meter.total"), counted, "MQTT {version}");
    }
}

/// Publishes five readings, which must come once; `received` in all.
fn five_come_once(gateway: &mut Gateway, broker: &Broker, received: usize) {
    publish(broker.port(), to("press/p1/v", 5));
    gateway.wait_for("five readings", |numbers| numbers.get("messages_received_total") >= received as f64);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(gateway.numbers().unwrap().get("messages_received_total"), received as f64, "{}", gateway.log());
}

#[test]
fn filters_of_processes_that_were_killed_at_any_moment_deliver_nothing_twice() {
    for version in VERSIONS {
        let broker = Broker::start(&Conf::wide());
        let mut gateway = Gateway::new("");
        METER.install(&gateway);
        let filters =
            ["press/#", "+/p1/v", "press/+/v", "+/+/v", "press/p1/+", "+/p1/#", "+/+/+", "press/+/#", "+/#", "#"];
        for (round, filter) in filters.iter().cycle().take(20).enumerate() {
            gateway.configure(&site(&broker, version, "", &[("meter", &[filter])]));
            gateway.start();
            // From before the first commit to after the SUBACK, on whatever machine.
            std::thread::sleep(Duration::from_millis(10 * round as u64));
            gateway.kill();
        }
        gateway.configure(&site(&broker, version, "", &[("meter", &["press/p1/v"])]));
        start(&mut gateway);
        five_come_once(&mut gateway, &broker, 5);
        assert_eq!(finish(&mut gateway, 5).readings("meter.total"), 5, "MQTT {version}");
    }
}

#[test]
fn filters_that_come_back_with_an_old_save_of_the_broker_are_ended_again() {
    let mut broker = Broker::start(&Conf::wide());
    let mut gateway = Gateway::new(&site(&broker, "5", "", &[("meter", &["press/+/v"])]));
    METER.install(&gateway);
    start(&mut gateway);
    five_come_once(&mut gateway, &broker, 5);
    broker.stop();
    let saved = broker.saved();
    gateway.kill();
    gateway.configure(&site(&broker, "5", "", &[("meter", &["press/#"])]));
    broker.resume();
    start(&mut gateway);
    gateway.wait_for_log("`press/+/v` of an earlier configuration is subscribed no more");
    five_come_once(&mut gateway, &broker, 10);

    broker.stop();
    gateway.wait_for("the end of the connection", |numbers| numbers.get("broker_up") == 0.0);
    broker.restore(&saved);
    broker.resume();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    five_come_once(&mut gateway, &broker, 15);
    assert_eq!(finish(&mut gateway, 15).readings("meter.total"), 15);
}

#[test]
fn overlapping_triggers_under_a_subscription_that_covers_them_count_once_each() {
    for version in VERSIONS {
        let broker = Broker::start(&Conf::wide());
        let functions: [(&str, &[&str]); 2] = [("meter", &["press/+/v", "press/p1/v"]), ("other", &["+/p1/v"])];
        let mut gateway = Gateway::new(&site(&broker, version, "", &functions));
        METER.install(&gateway);
        let (code, said) = gateway.start_another();
        assert!(code != Some(0) && said.contains("add subscribe = [\"+/+/v\"] to [broker]"), "{code:?}: {said}");

        gateway.configure(&site(&broker, version, "subscribe = [\"+/+/v\"]", &functions));
        start(&mut gateway);
        let all = ["press/p1/v", "press/p2/v", "pump/p1/v", "pump/p2/v"];
        publish(broker.port(), all.iter().flat_map(|topic| to(topic, 5)).collect());
        let ledger = finish(&mut gateway, 20);
        assert_eq!((ledger.readings("meter.total"), ledger.readings("other.total")), (10, 10), "MQTT {version}");
    }
}

#[test]
fn a_trigger_that_is_added_to_a_kept_session_takes_retained_messages_once() {
    for version in VERSIONS {
        let broker = Broker::start(&Conf::wide());
        let mut gateway = Gateway::new(&site(&broker, version, "", &[("meter", &["press/+/v"])]));
        METER.install(&gateway);
        publish(broker.port(), to("press/p1/v", 1).into_iter().map(|one| Publish { retain: true, ..one }).collect());
        start(&mut gateway);
        gateway.wait_for("the retained reading", |numbers| numbers.get("messages_received_total") == 1.0);
        std::thread::sleep(Duration::from_millis(500));
        gateway.kill();

        // The old subscription covers the new trigger.
        gateway.configure(&site(&broker, version, "", &[("meter", &["press/+/v"]), ("late", &["press/p1/v"])]));
        let mut received = 2;
        for _ in 0..3 {
            start(&mut gateway);
            gateway.wait_for("a retained reading", |numbers| {
                numbers.get("messages_received_total") == f64::from(received)
            });
            std::thread::sleep(Duration::from_millis(500));
            gateway.kill();
            // 3.1.1 sends it at every subscription; 5 knows that it was had.
            received += i32::from(version == "3.1.1");
        }
        start(&mut gateway);
        let ledger = finish(&mut gateway, received as usize);
        assert_eq!((ledger.readings("meter.total"), ledger.readings("late.total")), (1, 1), "MQTT {version}");
    }
}

#[test]
fn a_message_like_the_one_before_with_its_identifier_counts_when_its_first_transmission_was_lost() {
    for version in VERSIONS {
        let payload = br#"{"temp":1,"seq":1}"#.to_vec();
        let twin = Raw { packet_id: 1, topic: b"press/p1/v".to_vec(), payload };
        let fake = Fake::start(std::slice::from_ref(&twin));
        let head = super::head(&format!("mqtt://127.0.0.1:{}", fake.port));
        let function = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"press/+/v\"\n";
        let mut gateway = Gateway::new(&format!("{head}version = \"{version}\"\n{function}{FILES}"));
        METER.install(&gateway);
        gateway.start();
        fake.wait_until_acknowledged();
        for received in 2..4 {
            gateway.wait_for("the broker's confirmation", |numbers| numbers.get("duplicate_marks") == 0.0);
            fake.lose(&twin);
            gateway
                .wait_for("another message", |numbers| numbers.get("messages_received_total") == f64::from(received));
            fake.wait_until_acknowledged();
        }
        assert_eq!(gateway.numbers().unwrap().get("messages_duplicate_total"), 0.0);
        assert_eq!(finish(&mut gateway, 3).readings("meter.total"), 3, "MQTT {version}");
    }
}
