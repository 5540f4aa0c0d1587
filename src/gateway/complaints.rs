//! Which dead letters and doubts are worth a log line: the first of each function and kind at once, then one at growing intervals, with the
//! number that passed unsaid. All of them are in the lane of dead letters and in the counters; a flood of poison must not become
//! a flood of lines, which wear the same flash.

use crate::backoff::Complaint;
use crate::time::Now;

/// What has been said, by function and kind: kinds are few and known, so this is bounded.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<(Option<usize>, &'static str, Complaint<()>)>);

impl Complaints {
    /// `Some(n)`: say it now; `n` like it passed unsaid.
    fn note(&mut self, slot: Option<usize>, kind: &'static str, now: Now) -> Option<u32> {
        let known = self.0.iter().position(|(of, about, _)| (*of, *about) == (slot, kind));
        let index = known.unwrap_or_else(|| {
            self.0.push((slot, kind, Complaint::default()));
            self.0.len() - 1
        });
        self.0[index].2.note(now.mono_us / 1000, ())
    }
}

impl Complaints {
    /// `Some`: say it now, with this at its end.
    pub fn due(&mut self, slot: Option<usize>, kind: &'static str, now: Now) -> Option<String> {
        match self.note(slot, kind, now)? {
            0 => Some(String::new()),
            unsaid => Some(format!("; {unsaid} like it passed unsaid")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeQuality;

    #[test]
    fn a_flood_is_two_lines_and_another_function_or_kind_has_its_own() {
        let mut complaints = Complaints::default();
        let at = |second: u64| Now { mono_us: second * 1_000_000, wall_ms: 0, quality: TimeQuality::Unset };
        let mut said = Vec::new();
        for second in 0..=60 {
            said.extend(complaints.note(Some(1), "malformed", at(second)).map(|unsaid| (second, unsaid)));
        }
        assert_eq!(said, [(0, 0), (60, 59)]);
        for (slot, kind) in [(Some(2), "malformed"), (Some(1), "trap"), (None, "malformed")] {
            assert_eq!(complaints.note(slot, kind, at(60)), Some(0), "{slot:?} {kind}");
        }
    }
}
