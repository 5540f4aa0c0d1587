//! What is asked of the broker, so that every message comes once whatever the broker.
//!
//! - A broker may deliver a message once for each subscription that matches it (MQTT 5.0 §3.3.4, 3.1.1 §3.3.5). So no two
//!   subscriptions overlap: a filter that another one covers is not subscribed, the wider one takes the higher demands, and what
//!   overlaps without being covered is refused (`flow.rs`), with a filter that would cover both.
//! - Shared subscriptions stand for themselves: theirs is another share of the stream, which nothing else covers.

use crate::topic::TopicFilter;

use super::{Config, Qos, RetainedPolicy, Trigger};

/// Bytes of all filters of a gateway together: they are recorded on flash in one commit.
pub const FILTERS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one filter: it is part of a key of the store.
pub const FILTER_BYTES_MAX: usize = 1024;

/// A filter that some trigger wants, or that is subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topics.
    pub filter: TopicFilter,
    /// Highest QoS wanted.
    pub qos: Qos,
    /// Retained messages.
    pub retained: RetainedPolicy,
}

impl Config {
    /// What is wanted from the broker and by which function: the mqtt triggers in their order, then `broker.subscribe`, which
    /// no function wants.
    #[must_use]
    pub fn wishes(&self) -> Vec<(&str, Subscription)> {
        let triggers = self.functions.iter().flat_map(|function| {
            let name = function.manifest.name.as_str();
            function.triggers.iter().filter_map(move |trigger| match trigger {
                Trigger::Mqtt(own) => {
                    Some((name, Subscription { filter: own.topics.clone(), qos: own.qos, retained: own.retained }))
                }
                Trigger::Chain(_) | Trigger::Interval(_) => None,
            })
        });
        let wide = self.subscribe.iter().map(|filter| {
            let (filter, qos, retained) = (filter.clone(), Qos::AtMostOnce, RetainedPolicy::Never);
            ("", Subscription { filter, qos, retained })
        });
        triggers.chain(wide).collect()
    }

    /// What is subscribed.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Subscription> {
        merge(self.wishes().into_iter().map(|(_, wish)| wish))
    }
}

/// Leaves out what another covers; the wider one takes the higher demands.
#[must_use]
pub fn merge(wishes: impl IntoIterator<Item = Subscription>) -> Vec<Subscription> {
    let mut kept: Vec<Subscription> = Vec::new();
    for mut new in wishes {
        if let Some(wider) = kept.iter_mut().find(|old| covers(&old.filter, &new.filter)) {
            absorb(wider, &new);
            continue;
        }
        kept.retain(|old| {
            let covered = covers(&new.filter, &old.filter);
            if covered {
                absorb(&mut new, old);
            }
            !covered
        });
        kept.push(new);
    }
    kept
}

/// Whether whoever has `wide` gets every message of `narrow`, in the same share.
#[must_use]
pub fn covers(wide: &TopicFilter, narrow: &TopicFilter) -> bool {
    wide.share_group() == narrow.share_group() && wide.covers(narrow)
}

/// Pairs of which a broker may deliver a message twice.
pub(super) fn overlaps(merged: &[Subscription]) -> Vec<(&TopicFilter, &TopicFilter)> {
    let pairs = merged.iter().enumerate().flat_map(|(index, a)| merged[index + 1..].iter().map(move |b| (a, b)));
    pairs.filter(|(a, b)| a.filter.overlaps(&b.filter)).map(|(a, b)| (&a.filter, &b.filter)).collect()
}

/// The narrowest filter that covers both and leaves, beside the rest of `merged`, nothing that overlaps it in its share.
pub(super) fn cover(a: &TopicFilter, b: &TopicFilter, merged: &[Subscription]) -> Option<TopicFilter> {
    let mut cover = a.joined(b)?;
    // Each round takes a filter in that was not covered.
    while let Some(next) = merged.iter().map(|one| &one.filter).find(|one| {
        one.share_group() == cover.share_group() && one.overlaps(&cover) && !one.covers(&cover) && !cover.covers(one)
    }) {
        cover = cover.joined(next)?;
    }
    Some(cover)
}

fn absorb(wide: &mut Subscription, narrow: &Subscription) {
    let eagerness = |policy| match policy {
        RetainedPolicy::Always => 2,
        RetainedPolicy::SkipOnResubscribe => 1,
        RetainedPolicy::Never => 0,
    };
    wide.qos = wide.qos.max(narrow.qos);
    if eagerness(wide.retained) < eagerness(narrow.retained) {
        wide.retained = narrow.retained;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RetainedPolicy::{Always, Never, SkipOnResubscribe as Skip};

    fn merged(wanted: &[(&str, u8, RetainedPolicy)]) -> Vec<Subscription> {
        merge(wanted.iter().map(|(filter, qos, retained)| Subscription {
            filter: filter.parse().unwrap(),
            qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(*qos)],
            retained: *retained,
        }))
    }

    fn texts(merged: &[Subscription]) -> Vec<(String, u8, RetainedPolicy)> {
        merged.iter().map(|line| (line.filter.to_string(), line.qos as u8, line.retained)).collect()
    }

    fn want(lines: &[(&str, u8, RetainedPolicy)]) -> Vec<(String, u8, RetainedPolicy)> {
        lines.iter().map(|(filter, qos, retained)| ((*filter).to_owned(), *qos, *retained)).collect()
    }

    #[test]
    fn a_covered_filter_is_not_subscribed_and_the_wider_one_takes_the_higher_demands() {
        let all = merged(&[("a/b", 2, Skip), ("a/+", 1, Never), ("c", 0, Skip), ("a/#", 0, Never), ("a/b", 1, Always)]);
        assert_eq!(texts(&all), want(&[("c", 0, Skip), ("a/#", 2, Always)]));
        assert!(overlaps(&all).is_empty());
    }

    #[test]
    fn shared_subscriptions_stand_for_themselves() {
        let all = merged(&[
            ("$share/g/a/#", 1, Skip),
            ("a/b", 1, Skip),
            ("$share/g/a/b", 2, Skip),
            ("$share/h/a/b", 1, Skip),
        ]);
        assert_eq!(texts(&all), want(&[("$share/g/a/#", 2, Skip), ("a/b", 1, Skip), ("$share/h/a/b", 1, Skip)]));
        assert_eq!(overlaps(&all).len(), 3);
        assert_eq!(cover(&all[0].filter, &all[1].filter, &all), None, "no filter covers two shares");
    }

    #[test]
    fn what_overlaps_without_being_covered_is_told_and_its_cover_ends_it() {
        for (filters, covering) in [
            (vec!["a/+/c", "+/b/c"], "+/+/c"),
            (vec!["site/+/temp", "site/lab/#", "other"], "site/+/#"),
            // The cover of two meets a third, and takes it in.
            (vec!["a/+", "+/b", "c/x/#", "+/x/d"], "+/+/#"),
            (vec!["$share/g/a/+", "$share/g/+/b"], "$share/g/+/+"),
        ] {
            let all = merged(&filters.iter().map(|filter| (*filter, 1, Skip)).collect::<Vec<_>>());
            let (a, b) = overlaps(&all)[0];
            let covering_all = cover(a, b, &all).unwrap();
            assert_eq!(covering_all.to_string(), covering);
            let wide = Subscription { filter: covering_all, qos: Qos::AtMostOnce, retained: Never };
            let after = merge(all.iter().cloned().chain([wide]));
            assert!(overlaps(&after).len() < overlaps(&all).len(), "{after:?}");
            assert!(after.iter().all(|one| one.qos == Qos::AtLeastOnce && one.retained == Skip));
        }
    }
}
