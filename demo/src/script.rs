//! What happens when: the outage and the kill, as parts of the whole time.

use crate::options::Options;

/// Something that happens to the gateway or its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The link to the upstream is cut.
    CutLink,
    /// The gateway's acknowledgements get lost: soon it has committed what the broker does not know of.
    LoseAcks,
    /// kill -9, as soon as that is so.
    Kill,
    /// The gateway is started again.
    Restart,
    /// The link is back.
    MendLink,
}

/// Acknowledgements get lost for this long before the kill: longer than the gateway's commit interval.
const LOSE_MS: u64 = 400;
/// The gateway stays away for this long at most.
const AWAY_MS_MAX: u64 = 1500;

/// The kill waits for a lost acknowledgement for so long.
pub const KILL_PATIENCE_MS: u64 = 3000;

/// The steps, in their order, with their times after the start of the fleet.
#[must_use]
pub fn steps(options: &Options) -> Vec<(u64, Step)> {
    let percent = |part: u64| options.for_ms * part / 100;
    let mut steps = Vec::new();
    if options.outage {
        steps.extend([(percent(35), Step::CutLink), (percent(65), Step::MendLink)]);
    }
    if options.kill {
        let restart = percent(50) + percent(8).min(AWAY_MS_MAX);
        steps.extend([(percent(50) - LOSE_MS, Step::LoseAcks), (percent(50), Step::Kill), (restart, Step::Restart)]);
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_killed_and_back_within_the_outage() {
        use Step::{CutLink, Kill, LoseAcks, MendLink, Restart};
        for for_ms in [5000, 8000, 20_000, 600_000] {
            let steps = steps(&Options { for_ms, ..Options::default() });
            let order: Vec<Step> = steps.iter().map(|(_, step)| *step).collect();
            assert_eq!(order, [CutLink, LoseAcks, Kill, Restart, MendLink], "{for_ms}");
            assert!(steps.iter().all(|(at, _)| *at < for_ms));
        }
    }

    #[test]
    fn both_can_be_left_out() {
        let quiet = Options { kill: false, outage: false, ..Options::default() };
        assert!(steps(&quiet).is_empty());
        assert_eq!(steps(&Options { kill: true, ..quiet.clone() }).len(), 3);
        assert_eq!(steps(&Options { outage: true, ..quiet }).len(), 2);
    }
}
