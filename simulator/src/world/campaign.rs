//! Many worlds, on all cores: until the seeds are through, the time is up, or something fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::shrink::{panicked, shrink};
use super::{Failure, Story, run, schedule};

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// First seed.
    pub first: u64,
    /// How many at most.
    pub seeds: u64,
    /// How long at most.
    pub time: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// After so many failures no further world is begun.
    pub failures_max: usize,
    /// Failing schedules are shrunk.
    pub shrinks: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Worlds that came to their end.
    pub worlds: u64,
    /// Added up over all of them.
    pub sums: Story,
    /// Those that failed, shrunk, by seed.
    pub failures: Vec<Failure>,
    /// Seconds of real time.
    pub seconds: f64,
}

impl Tally {
    fn add(&mut self, story: &Story) {
        let sums = &mut self.sums;
        self.worlds += 1;
        sums.published += story.published;
        sums.messages += story.messages;
        sums.duplicates += story.duplicates;
        sums.deaths += story.deaths;
        sums.connections += story.connections;
        sums.repeated += story.repeated;
        sums.records += story.records;
        sums.lost += story.lost;
        sums.rolled_up += story.rolled_up;
        sums.ahead += story.ahead;
        sums.late += story.late;
        sums.full += story.full;
        sums.damages += story.damages;
        sums.elapsed_us += story.elapsed_us;
        sums.happenings += story.happenings;
        // The order in which threads end must not show.
        sums.trace.0 ^= story.trace.0;
    }

    /// Worlds a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        (self.worlds + self.failures.len() as u64) as f64 / self.seconds.max(1e-9)
    }
}

impl Campaign {
    /// Runs it. `told` gets every story, on whichever thread it ended.
    #[must_use]
    pub fn run(&self, told: &(dyn Fn(&Story, &Tally) + Sync)) -> Tally {
        let began = now();
        let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let tally = Mutex::new(Tally::default());
        let work = || {
            while !is_over.load(Ordering::Relaxed) && self.time.is_none_or(|time| began.elapsed() < time) {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if self.seeds <= place {
                    break;
                }
                let outcome = live(self.first.saturating_add(place), self.shrinks);
                let Ok(mut tally) = tally.lock() else { break };
                match outcome {
                    Ok(story) => {
                        tally.add(&story);
                        tally.seconds = began.elapsed().as_secs_f64();
                        told(&story, &tally);
                    }
                    Err(failure) => {
                        tally.failures.push(failure);
                        is_over.fetch_or(self.failures_max <= tally.failures.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let mut tally = tally.into_inner().unwrap_or_default();
        tally.failures.sort_by_key(|failure| failure.seed);
        tally.seconds = began.elapsed().as_secs_f64();
        tally
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a campaign takes shows in no world")]
fn now() -> Instant {
    Instant::now()
}

fn live(seed: u64, shrinks: bool) -> Result<Story, Failure> {
    let failure = match catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(Ok(story)) => return Ok(story),
        Ok(Err(failure)) => *failure,
        Err(panic) => {
            // Where drawing the world panics there is no schedule.
            let schedule = catch_unwind(|| schedule(seed)).unwrap_or_default();
            panicked(seed, &schedule, &*panic)
        }
    };
    Err(if shrinks { shrink(failure) } else { failure })
}
