//! Topic names and filters against a plain model of MQTT 5.0 §4.7.
//!
//! Input: lines; the first is a topic name, every other one a filter.

use std::collections::BTreeSet;

use weir::topic::{TopicFilter, check_name};
use weir::trigger::TopicIndex;

pub(crate) const WORDS: &[&[u8]] =
    &[b"/", b"+", b"#", b"/+/", b"/#", b"$share/g/", b"$SYS", b"\n", b"//", b"a", b"\0", b"\xc3\xbc"];

/// The standard's words, level by level.
fn model(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => model(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) => level == name && model(filter, topic),
        _ => false,
    }
}

fn model_matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    let hidden = topic[0].starts_with('$') && matches!(filter[0], "+" | "#");
    !hidden && model(&filter, &topic)
}

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').take(12);
    let topic = lines.next().unwrap_or_default();
    let name = check_name(topic);
    if let Err(error) = &name {
        assert!(error.to_string().len() < 2000);
    }
    let filters: Vec<TopicFilter> = lines.filter_map(|line| line.parse().ok()).collect();
    let mut index = TopicIndex::default();
    for (id, filter) in filters.iter().enumerate() {
        assert_eq!(filter.to_string().parse::<TopicFilter>().as_ref(), Ok(filter), "{filter} does not come back");
        index.insert(filter, id as u16);
    }
    if name.is_ok() {
        let mut found = Vec::new();
        index.find(topic, &mut |id| found.push(usize::from(id)));
        let as_set: BTreeSet<usize> = found.iter().copied().collect();
        assert_eq!(as_set.len(), found.len(), "an id twice");
        for (id, filter) in filters.iter().enumerate() {
            let wanted = model_matches(filter.as_str(), topic);
            assert_eq!(filter.matches(topic), wanted, "{filter} {topic}");
            assert_eq!(as_set.contains(&id), wanted, "the index: {filter} {topic}");
        }
    }
    for a in &filters {
        assert!(a.covers(a) && a.overlaps(a), "{a}");
        for b in &filters {
            assert_eq!(a.overlaps(b), b.overlaps(a), "{a} {b}");
            assert!(!a.covers(b) || a.overlaps(b), "{a} covers {b} without a common topic");
            if name.is_ok() {
                let both = (a.matches(topic), b.matches(topic));
                assert!(!both.0 || !both.1 || a.overlaps(b), "{a} {b} {topic}");
                assert!(!a.covers(b) || !both.1 || both.0, "{a} covers {b}, but not {topic}");
            }
        }
    }
}
