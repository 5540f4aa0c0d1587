//! What is done to a gateway and its upstream while devices publish. `WEIR_TEST_SEED` tries other moments.

use std::time::{Duration, Instant};

use weir_simulator::rng::Rng;

use super::broker::Broker;
use super::gateway::Gateway;

/// Crashes at moments that a seed decides.
#[derive(Clone, Copy, Debug)]
pub struct Crashes {
    /// kill -9 of the gateway.
    pub kills: usize,
    /// Between the first and the last of them, about.
    pub seconds: u64,
    /// After so many kills the upstream broker stops, to come back after the next one.
    pub stops: &'static [usize],
    /// Before each kill the local broker is stopped (SIGSTOP) while the gateway goes on with what it has received, so that no
    /// acknowledgement is read; and the gateway stays away so long that much waits for it.
    pub stalls: bool,
    /// Of the moments.
    pub seed: u64,
}

impl Crashes {
    /// Lets it all happen; in the end gateway and upstream run again.
    pub fn happen(&self, gateway: &mut Gateway, local: &Broker, upstream: &mut Broker) {
        let seed = std::env::var("WEIR_TEST_SEED").map_or(self.seed, |seed| seed.parse().unwrap());
        eprintln!("WEIR_TEST_SEED={seed}");
        let mut dice = Rng::fork(seed, 7);
        let lifetime_ms = self.seconds * 2000 / (self.kills as u64).max(1);
        for kill in 1..=self.kills {
            live(gateway, Duration::from_millis(dice.below(lifetime_ms)));
            if self.stalls {
                local.pause();
                live(gateway, Duration::from_millis(dice.below(1000)));
            }
            gateway.kill();
            if self.stops.contains(&(kill - 1)) {
                upstream.resume();
            }
            if self.stops.contains(&kill) {
                assert!(kill < self.kills, "it would not come back");
                upstream.stop();
            }
            if self.stalls {
                local.go_on();
            }
            std::thread::sleep(Duration::from_millis(dice.below(if self.stalls { 3000 } else { 100 })));
            gateway.start();
        }
    }
}

/// Lets time pass, and looks at the books.
pub fn live(gateway: &Gateway, time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if let Some(numbers) = gateway.numbers() {
            assert_eq!(numbers.get("books_residue"), 0.0, "{}", numbers.text);
        }
        std::thread::sleep(left.min(Duration::from_millis(30)));
    }
}
