//! Pacing of a drain: a token bucket that holds a tenth of a second.

use core::time::Duration;

use tokio::time::Instant;

/// Lets records through at no more than a rate.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    burst: Duration,
    /// The next record is due; lies in the past by at most `burst`.
    due: Instant,
}

impl Pace {
    /// At most `rate_max` records a second; `None`: as many as come.
    #[must_use]
    pub fn new(rate_max: Option<u32>, now: Instant) -> Self {
        let interval = rate_max.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1));
        Self { interval, burst: Duration::from_millis(100), due: now }
    }

    /// When the next record may go, if not now.
    #[must_use]
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        (now < self.due).then_some(self.due)
    }

    /// A record goes.
    pub fn pass(&mut self, now: Instant) {
        self.due = self.due.max(now.checked_sub(self.burst).unwrap_or(now)) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that pass within `millis`, asked every millisecond.
    fn passed(rate: Option<u32>, quiet: u64, millis: u64) -> u32 {
        let start = Instant::now();
        let mut pace = Pace::new(rate, start);
        let mut count = 0;
        for ms in quiet..quiet + millis {
            let now = start + Duration::from_millis(ms);
            while count < 10_000 && pace.wait_until(now).is_none() {
                pace.pass(now);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn the_rate_holds_after_a_small_burst() {
        assert_eq!(passed(Some(100), 0, 1000), 100);
        assert_eq!(passed(Some(100), 60_000, 1000), 110, "a minute of silence earns a tenth of a second");
        assert_eq!(passed(None, 0, 1), 10_000);
    }
}
