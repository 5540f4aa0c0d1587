//! What to subscribe to, so that every message comes once.
//!
//! - A broker may deliver a message once for each subscription that matches it (MQTT 5.0 §3.3.4). So a filter that another
//!   one covers is not subscribed at all: the wider one takes the higher QoS. What overlaps without being covered is told.
//! - Shared subscriptions stand for themselves: theirs is another share of the stream.

use core::fmt;

use super::error::reason_name;
use super::packet::{Asked, Version};
use crate::config::{Qos, RetainedPolicy};
use crate::topic::TopicFilter;

/// A filter that some trigger wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topics.
    pub filter: TopicFilter,
    /// Highest QoS wanted.
    pub qos: Qos,
    /// Retained messages.
    pub retained: RetainedPolicy,
}

/// What became of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The filter's text.
    pub filter: String,
    /// QoS asked for.
    pub asked: Qos,
    /// QoS granted, or the code of the refusal.
    pub granted: Result<Qos, u8>,
}

impl Grant {
    /// From a SUBACK's code.
    #[must_use]
    pub fn new(asked: &Asked, code: u8) -> Self {
        let granted = match code {
            0 => Ok(Qos::AtMostOnce),
            1 => Ok(Qos::AtLeastOnce),
            2 => Ok(Qos::ExactlyOnce),
            refused => Err(refused),
        };
        Self { filter: asked.filter.clone(), asked: asked.qos, granted }
    }

    /// Whether less was granted than asked.
    #[must_use]
    pub fn falls_short(&self) -> bool {
        self.granted.is_ok_and(|granted| granted < self.asked)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.granted {
            Err(code) => write!(
                f,
                "the broker refuses the subscription `{}`: {} (0x{code:02x}); check its access rules",
                self.filter,
                reason_name(code)
            ),
            Ok(Qos::AtMostOnce) if self.falls_short() => write!(
                f,
                "`{}` was granted QoS 0 instead of {}: its messages can be lost and counted twice",
                self.filter, self.asked as u8
            ),
            Ok(granted) => {
                write!(f, "`{}` was granted QoS {} of {}", self.filter, granted as u8, self.asked as u8)
            }
        }
    }
}

/// The lines of the SUBSCRIBE, and what is worth a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is asked of the broker.
    pub asked: Vec<Asked>,
    /// The triggers' retained policies differ: the broker's retain handling alone cannot serve them all.
    pub mixed_retained: bool,
    /// Pairs of filters of which a broker may deliver the same message twice.
    pub overlaps: Vec<(String, String)>,
}

impl Plan {
    /// Merges what the triggers want.
    #[must_use]
    pub fn new(wanted: &[Subscription]) -> Self {
        let mut kept: Vec<Subscription> = Vec::with_capacity(wanted.len());
        for new in wanted {
            let mut merged = new.clone();
            if let Some(wider) = kept.iter_mut().find(|old| covers(old, new)) {
                absorb(wider, new);
                continue;
            }
            kept.retain(|old| {
                let covered = covers(&merged, old);
                if covered {
                    absorb(&mut merged, old);
                }
                !covered
            });
            kept.push(merged);
        }
        let overlaps = kept.iter().enumerate().flat_map(|(index, a)| {
            kept[index + 1..].iter().filter(|b| a.filter.overlaps(&b.filter)).map(move |b| (a, b))
        });
        Self {
            overlaps: overlaps.map(|(a, b)| (a.filter.to_string(), b.filter.to_string())).collect(),
            mixed_retained: wanted.windows(2).any(|pair| pair[0].retained != pair[1].retained),
            asked: kept
                .iter()
                .map(|one| Asked { filter: one.filter.to_string(), qos: one.qos, retained: one.retained })
                .collect(),
        }
    }

    /// Whether a retained message may be one that we had before the reconnection.
    #[must_use]
    pub fn is_resubscription(&self, version: Version, session_present: bool) -> bool {
        // In 5.0 the broker itself leaves out what is not new, unless some trigger wants it always.
        session_present && (version == Version::V311 || self.mixed_retained)
    }
}

fn covers(wide: &Subscription, narrow: &Subscription) -> bool {
    wide.filter.share_group() == narrow.filter.share_group() && wide.filter.covers(&narrow.filter)
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

    fn plan(wanted: &[(&str, u8, RetainedPolicy)]) -> Plan {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(filter, qos, retained)| Subscription {
                filter: filter.parse().unwrap(),
                qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(*qos)],
                retained: *retained,
            })
            .collect();
        Plan::new(&wanted)
    }

    fn asked(plan: &Plan) -> Vec<(&str, u8, RetainedPolicy)> {
        plan.asked.iter().map(|line| (line.filter.as_str(), line.qos as u8, line.retained)).collect()
    }

    #[test]
    fn a_covered_filter_is_not_subscribed_and_the_wider_one_takes_the_higher_demands() {
        let merged =
            plan(&[("a/b", 2, Skip), ("a/+", 1, Never), ("c", 0, Skip), ("a/#", 0, Never), ("a/b", 1, Always)]);
        assert_eq!(asked(&merged), [("c", 0, Skip), ("a/#", 2, Always)]);
        assert!(merged.mixed_retained && merged.overlaps.is_empty());
    }

    #[test]
    fn shared_subscriptions_stand_for_themselves() {
        let merged =
            plan(&[("$share/g/a/#", 1, Skip), ("a/b", 1, Skip), ("$share/g/a/b", 2, Skip), ("$share/h/a/b", 1, Skip)]);
        assert_eq!(asked(&merged), [("$share/g/a/#", 2, Skip), ("a/b", 1, Skip), ("$share/h/a/b", 1, Skip)]);
        assert_eq!(merged.overlaps.len(), 3);
    }

    #[test]
    fn what_overlaps_without_being_covered_is_told() {
        let merged = plan(&[("a/+/c", 1, Skip), ("+/b/c", 1, Skip)]);
        assert_eq!(merged.overlaps, [("a/+/c".to_owned(), "+/b/c".to_owned())]);
    }

    #[test]
    fn retained_messages_of_a_resubscription_are_marked_where_the_broker_cannot_leave_them_out() {
        for (policies, version, session, want) in [
            ([Skip, Skip], Version::V311, true, true),
            ([Skip, Skip], Version::V311, false, false),
            ([Skip, Skip], Version::V5, true, false),
            ([Skip, Always], Version::V5, true, true),
        ] {
            let merged = plan(&[("a", 1, policies[0]), ("b", 1, policies[1])]);
            assert_eq!(merged.is_resubscription(version, session), want, "{policies:?} {version}");
        }
    }
}
