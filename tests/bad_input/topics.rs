//! Topics that no honest broker would hand on.

use super::support::fake::{Fake, Raw};
use super::support::guests::METER;
use super::{settled, unconnected, wait_for_subscription};

#[test]
fn topics_that_are_no_topics_are_dead_letters_and_acknowledged() {
    for version in ["5", "3.1.1"] {
        let bad: [&[u8]; 5] = [b"site/\xff\xfe/temp", b"", b"site/+/temp", b"site/#", b"site/\0/temp"];
        let mut publishes: Vec<Raw> = (1..)
            .zip(bad)
            .map(|(packet_id, topic)| Raw { packet_id, topic: topic.to_vec(), payload: br#"{"temp":9}"#.to_vec() })
            .collect();
        let good = br#"{"temp":1.5,"seq":1}"#.to_vec();
        publishes.push(Raw { packet_id: 77, topic: b"site/d/temp".to_vec(), payload: good });
        let fake = Fake::start(&publishes);
        let site = format!(
            "version = \"{version}\"\n[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n"
        );
        let mut gateway = unconnected(&format!("mqtt://127.0.0.1:{}", fake.port), &site);
        METER.install(&gateway);
        gateway.start();
        wait_for_subscription(&mut gateway);
        fake.wait_until_acknowledged();
        let (ledger, numbers) = settled(&mut gateway, publishes.len());
        let letters = ledger.dead_letters();
        assert_eq!(letters.len(), bad.len());
        let words = ["is not UTF-8", "is empty", "has a wildcard", "has a wildcard", "has a NUL"];
        for ((error, says), words) in letters.iter().zip(words) {
            assert!(error == "poison" && says.starts_with(&format!("the topic {words}")), "{error}: {says}");
        }
        for letter in ledger.records.iter().filter(|record| record.kind == weir::record::RecordKind::DeadLetter) {
            assert_eq!((&letter.fields["payload"]["temp"], &letter.fields["truncated"]), (&9.into(), &false.into()));
        }
        assert_eq!(numbers.settled("dead-lettered"), bad.len() as f64);
        assert_eq!(ledger.readings("meter.total"), 1);
        assert_eq!(fake.totals(), (2, publishes.len()), "each was sent once over both connections");
    }
}
