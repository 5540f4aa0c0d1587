//! Health: whether the gateway does its work, as one word and the reasons for it.
//!
//! - *Ready*: all is well. *Degraded*: it works, and somebody should look. *Failed*: it lives and makes no progress; a restart helps.
//! - Nothing that a restart cannot mend is a failure: a full disk, a full lane or a broker that is away wait for somebody else.
//! - Judged from outside of the loop, from its [`Beat`]: a loop that hangs cannot tell.

use crate::printable::Printable;
use crate::units::{Bytes, Millis};

/// From which bounds on the site wants to know: `[health]` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// No turn of the loop, no end of a commit, no message handled for so long: failed.
    pub stalled_after: Millis,
    /// The broker is away for so long.
    pub broker_away: Millis,
    /// An upstream that is owed records is away for so long.
    pub upstream_away: Millis,
    /// A lane is so full, in percent.
    pub lane_percent: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stalled_after: Millis(30_000),
            broker_away: Millis(60_000),
            upstream_away: Millis(900_000),
            lane_percent: 80,
        }
    }
}

/// The word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    #[default]
    Ready,
    /// It works, and somebody should look.
    Degraded,
    /// It makes no progress.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Degraded, Self::Failed];

    /// The name used in metrics and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// Why it is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What it makes of the whole.
    pub state: State,
    /// One word: `broker-away`, `loop-stalled`, ….
    pub kind: &'static str,
    /// The lane, sink or function; empty for the gateway.
    pub subject: String,
    /// For people: what, since when, and what helps.
    pub text: String,
}

/// What moves when the loop does, in monotonic microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The loop's last turn.
    pub turned_us: u64,
    /// The commit that is on its way began then.
    pub commit_since_us: Option<u64>,
    /// Messages handled so far.
    pub handled: u64,
    /// Messages wait, and nothing known holds them back.
    pub waiting: bool,
}

/// What the loop last told of the gateway's surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The link to the broker is up.
    pub broker_up: bool,
    /// Filters that it refuses to subscribe.
    pub refused: Vec<String>,
    /// The last commit found no room.
    pub disk_full: bool,
    /// Sinks.
    pub sinks: Vec<SinkSign>,
    /// Lanes.
    pub lanes: Vec<LaneSign>,
    /// Functions.
    pub functions: Vec<FunctionSign>,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSign {
    /// Its name.
    pub name: String,
    /// It reaches its upstream.
    pub up: bool,
    /// Records that wait for it.
    pub owed: u64,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSign {
    /// Its name.
    pub name: String,
    /// Bytes on flash.
    pub bytes: u64,
    /// The bound.
    pub bytes_max: u64,
    /// When full, messages wait with the broker.
    pub rejects: bool,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSign {
    /// Its name.
    pub name: String,
    /// Calls so far.
    pub invocations: u64,
    /// Failed ones.
    pub errors: u64,
}

/// A function fails when at least so many calls, and half of all, did within [`ERRORS_SPAN_US`].
const ERRORS_MIN: u64 = 5;
const ERRORS_SPAN_US: u64 = 60_000_000;

/// The judge: remembers since when something is as it is.
#[derive(Debug, Default)]
pub struct Health {
    policy: Policy,
    broker_down_us: Option<u64>,
    /// Sinks that are away and owed something, since when.
    away: Vec<(String, u64)>,
    /// Messages wait and this number stands still since then.
    unhandled: Option<(u64, u64)>,
    functions: Vec<Watched>,
}

/// A function's counters at the beginning of a span, and what the last span showed.
#[derive(Debug)]
struct Watched {
    name: String,
    since_us: u64,
    invocations: u64,
    errors: u64,
    failing: bool,
}

impl Health {
    /// With these bounds.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Judges the present moment: the reasons, the worst first. None: ready.
    pub fn judge(&mut self, now_us: u64, beat: &Beat, signs: &Signs) -> Vec<Reason> {
        let mut reasons = Vec::new();
        self.progress(now_us, beat, &mut reasons);
        if signs.disk_full {
            reasons.push(degraded(
                "disk-full",
                "",
                "the disk is full: no message is taken until there is room".to_owned(),
            ));
        }
        self.broker(now_us, signs, &mut reasons);
        self.sinks(now_us, signs, &mut reasons);
        self.lanes(signs, &mut reasons);
        self.functions(now_us, signs, &mut reasons);
        reasons.sort_by_key(|reason| core::cmp::Reverse(reason.state));
        reasons
    }

    fn progress(&mut self, now_us: u64, beat: &Beat, reasons: &mut Vec<Reason>) {
        let bound_us = self.policy.stalled_after.0.saturating_mul(1000);
        let too_long = |since_us: u64| now_us.checked_sub(since_us).filter(|passed| bound_us <= *passed);
        if let Some(passed) = too_long(beat.turned_us) {
            let text =
                format!("the loop has not turned for {}: it hangs; a restart reads the truth from flash", span(passed));
            reasons.push(failed("loop-stalled", text));
        }
        if let Some(passed) = beat.commit_since_us.and_then(too_long) {
            let text = format!("a commit is on its way for {}: the disk does not answer", span(passed));
            reasons.push(failed("commit-stalled", text));
        }
        self.unhandled = match self.unhandled {
            _ if !beat.waiting => None,
            Some((handled, since)) if handled == beat.handled => Some((handled, since)),
            _ => Some((beat.handled, now_us)),
        };
        if let Some(passed) = self.unhandled.and_then(|(_, since)| too_long(since)) {
            reasons
                .push(failed("messages-stalled", format!("messages wait and none was handled for {}", span(passed))));
        }
    }

    fn broker(&mut self, now_us: u64, signs: &Signs, reasons: &mut Vec<Reason>) {
        self.broker_down_us = if signs.broker_up { None } else { self.broker_down_us.or(Some(now_us)) };
        if let Some(passed) = self.broker_down_us.map(|since| now_us.saturating_sub(since))
            && self.policy.broker_away.0.saturating_mul(1000) <= passed
        {
            let text = format!("the broker is away for {}; `weir doctor` tries it", span(passed));
            reasons.push(degraded("broker-away", "", text));
        }
        if let (true, Some(first)) = (signs.broker_up, signs.refused.first()) {
            let more = match signs.refused.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let text = format!(
                "the broker refuses the subscription `{}`{more}: no message of it comes; check its access rules (it is asked again \
                 every 5 min)",
                Printable(first)
            );
            reasons.push(degraded("subscription-refused", "", text));
        }
    }

    fn sinks(&mut self, now_us: u64, signs: &Signs, reasons: &mut Vec<Reason>) {
        let away: Vec<&SinkSign> = signs.sinks.iter().filter(|sink| !sink.up && sink.owed > 0).collect();
        self.away.retain(|(name, _)| away.iter().any(|sink| sink.name == *name));
        for sink in away {
            if !self.away.iter().any(|(name, _)| *name == sink.name) {
                self.away.push((sink.name.clone(), now_us));
            }
            let since = self.away.iter().find(|(name, _)| *name == sink.name).map_or(now_us, |(_, since)| *since);
            let passed = now_us.saturating_sub(since);
            if self.policy.upstream_away.0.saturating_mul(1000) <= passed {
                let text = format!("upstream is away for {}; {} records wait for it", span(passed), sink.owed);
                reasons.push(degraded("upstream-away", &sink.name, text));
            }
        }
    }

    fn lanes(&self, signs: &Signs, reasons: &mut Vec<Reason>) {
        for lane in &signs.lanes {
            let percent = lane.bytes.saturating_mul(100).checked_div(lane.bytes_max).unwrap_or(0);
            if u64::from(self.policy.lane_percent) <= percent {
                let then =
                    if lane.rejects { "messages then wait with the broker" } else { "its oldest records then leave" };
                let text = format!("{percent} % of {} are taken; {then}", Bytes(lane.bytes_max));
                reasons.push(degraded("lane-full", &lane.name, text));
            }
        }
    }

    fn functions(&mut self, now_us: u64, signs: &Signs, reasons: &mut Vec<Reason>) {
        self.functions.retain(|watched| signs.functions.iter().any(|function| function.name == watched.name));
        for function in &signs.functions {
            let FunctionSign { name, invocations, errors } = function;
            let known = self.functions.iter().position(|watched| watched.name == *name);
            let index = known.unwrap_or_else(|| {
                let (invocations, errors) = (*invocations, *errors);
                self.functions.push(Watched {
                    name: name.clone(),
                    since_us: now_us,
                    invocations,
                    errors,
                    failing: false,
                });
                self.functions.len() - 1
            });
            let watched = &mut self.functions[index];
            let calls = invocations.saturating_sub(watched.invocations);
            let failed = errors.saturating_sub(watched.errors);
            let fails = ERRORS_MIN <= failed && calls <= failed * 2;
            if ERRORS_SPAN_US <= now_us.saturating_sub(watched.since_us) {
                *watched = Watched {
                    name: name.clone(),
                    since_us: now_us,
                    invocations: *invocations,
                    errors: *errors,
                    failing: fails,
                };
            }
            if fails || watched.failing {
                let text = "at least half of its calls fail; `weir dlq list` shows with what".to_owned();
                reasons.push(degraded("function-failing", name, text));
            }
        }
    }
}

/// The state that the reasons come to.
#[must_use]
pub fn state(reasons: &[Reason]) -> State {
    reasons.iter().map(|reason| reason.state).max().unwrap_or_default()
}

fn degraded(kind: &'static str, subject: &str, text: String) -> Reason {
    Reason { state: State::Degraded, kind, subject: subject.to_owned(), text }
}

fn failed(kind: &'static str, text: String) -> Reason {
    Reason { state: State::Failed, kind, subject: String::new(), text }
}

fn span(us: u64) -> String {
    format!("{} s", us / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn well() -> Signs {
        let sink = SinkSign { name: "cloud".to_owned(), up: true, owed: 9 };
        let lane = LaneSign { name: "alerts".to_owned(), bytes: 10, bytes_max: 100, rejects: false };
        let function = FunctionSign { name: "f".to_owned(), invocations: 0, errors: 0 };
        Signs {
            broker_up: true,
            refused: Vec::new(),
            disk_full: false,
            sinks: vec![sink],
            lanes: vec![lane],
            functions: vec![function],
        }
    }

    fn beat(second: u64) -> Beat {
        Beat { turned_us: second * SECOND, ..Beat::default() }
    }

    /// The kinds at each of these seconds, the loop turning all the time.
    fn kinds(signs: impl Fn(u64) -> Signs, seconds: &[u64]) -> Vec<Vec<&'static str>> {
        let mut health = Health::default();
        let mut shown = Vec::new();
        for second in 0..=*seconds.last().unwrap() {
            let reasons = health.judge(second * SECOND, &beat(second), &signs(second));
            if seconds.contains(&second) {
                shown.push(reasons.iter().map(|reason| reason.kind).collect());
            }
        }
        shown
    }

    #[test]
    fn what_is_away_or_full_for_long_enough_degrades_and_recovers() {
        let none: Vec<&str> = Vec::new();
        let broker = |second| Signs { broker_up: !(10..100).contains(&second), ..well() };
        assert_eq!(
            kinds(broker, &[69, 70, 99, 100]),
            [none.clone(), vec!["broker-away"], vec!["broker-away"], none.clone()]
        );
        let refused = |second| Signs { refused: vec!["a/#".to_owned(); second], broker_up: second < 3, ..well() };
        let (mut health, kinds_and_text) = (Health::default(), |reasons: Vec<Reason>| {
            reasons.into_iter().map(|reason| (reason.kind, reason.text)).collect::<Vec<_>>()
        });
        assert!(health.judge(0, &beat(0), &refused(0)).is_empty());
        for (count, says) in [(1, "`a/#`: no message"), (2, "`a/#` and 1 more: no message")] {
            let said = kinds_and_text(health.judge(SECOND, &beat(1), &refused(count)));
            assert!(said.len() == 1 && said[0].0 == "subscription-refused" && said[0].1.contains(says), "{said:?}");
        }
        assert!(health.judge(SECOND, &beat(1), &refused(3)).is_empty(), "without a broker nothing is refused");
        let upstream = |owed| {
            move |second| {
                let sink = SinkSign { name: "cloud".to_owned(), up: second > 1000, owed };
                Signs { sinks: vec![sink], ..well() }
            }
        };
        assert_eq!(kinds(upstream(3), &[899, 900, 1001]), [none.clone(), vec!["upstream-away"], none.clone()]);
        assert!(kinds(upstream(0), &[950])[0].is_empty(), "nobody waits for it");
        let full = |second| {
            let lane = LaneSign { name: "alerts".to_owned(), bytes: 79 + second, bytes_max: 100, rejects: true };
            Signs { lanes: vec![lane], disk_full: second == 2, ..well() }
        };
        assert_eq!(kinds(full, &[0, 1, 2]), [none.clone(), vec!["lane-full"], vec!["disk-full", "lane-full"]]);
        let failing = |second: u64| {
            let errors = if second < 30 { second } else { 30 };
            let function = FunctionSign { name: "f".to_owned(), invocations: second, errors };
            Signs { functions: vec![function], ..well() }
        };
        assert_eq!(
            kinds(failing, &[4, 5, 119, 121]),
            [none.clone(), vec!["function-failing"], vec!["function-failing"], none]
        );
    }

    #[test]
    fn no_progress_is_a_failure_whatever_stands_still() {
        let judged = |beat: Beat, times: &[u64]| {
            let mut health = Health::default();
            let reasons = times.iter().map(|second| health.judge(second * SECOND, &beat, &well())).last().unwrap();
            (state(&reasons), reasons.iter().map(|reason| reason.kind).collect::<Vec<_>>())
        };
        assert_eq!(judged(beat(1), &[30]), (State::Ready, vec![]));
        assert_eq!(judged(beat(1), &[31]), (State::Failed, vec!["loop-stalled"]));
        let committing = Beat { commit_since_us: Some(5 * SECOND), ..beat(34) };
        assert_eq!(judged(committing, &[34]), (State::Ready, vec![]));
        assert_eq!(judged(committing, &[36]), (State::Failed, vec!["commit-stalled"]));
        let waiting = Beat { waiting: true, handled: 7, ..beat(30) };
        assert_eq!(judged(waiting, &[1, 30]), (State::Ready, vec![]));
        assert_eq!(judged(waiting, &[1, 32]), (State::Failed, vec!["messages-stalled"]));
        assert_eq!(judged(waiting, &[40]), (State::Ready, vec![]), "waits since it was first seen");
    }
}
