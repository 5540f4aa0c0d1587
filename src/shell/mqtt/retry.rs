//! What follows a failed attempt or a lost connection: the status, one log line for each cause, a pause.

use core::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::LinkError;
use super::status::SharedStatus;
use crate::backoff::{Backoff, Complaint};
use crate::config::MqttConnection;
use crate::shell::clock::sleep_or_step;
use crate::units::Millis;

/// A connection that ends sooner after its CONNACK was kicked.
const KICK: Duration = Duration::from_secs(5);
/// So many in a row are no accident.
const KICKS: u32 = 3;
/// A connection that stood this long was sound: what ends it is news.
const STABLE: Duration = Duration::from_secs(60);

/// Remembers the failures of one connection.
#[derive(Debug)]
pub struct Retry {
    who: String,
    backoff: Backoff,
    complaint: Complaint<u32>,
    started: Instant,
    kicks: u32,
    /// The last failure may be the fault of our clock.
    is_of_clock: bool,
}

impl Retry {
    /// `who` begins each log line; `seed` is for the jitter.
    #[must_use]
    pub fn new(who: &str, seed: u64) -> Self {
        Self {
            who: who.to_owned(),
            backoff: Backoff::new(Millis(500), Millis(60_000), seed),
            complaint: Complaint::default(),
            started: Instant::now(),
            kicks: 0,
            is_of_clock: false,
        }
    }

    /// Takes note of an error; `held` is how long the connection stood, if it did. Returns the pause, and the sentence
    /// that tells what happened.
    pub fn failed(
        &mut self,
        error: LinkError,
        held: Option<Duration>,
        connection: &MqttConnection,
        status: &SharedStatus,
    ) -> (Duration, String) {
        let ended = matches!(error, LinkError::Closed | LinkError::Io(_));
        self.kicks = if ended && held.is_some_and(|held| held < KICK) { self.kicks + 1 } else { 0 };
        let error = if self.kicks >= KICKS { LinkError::Kicked } else { error };
        let held = held.unwrap_or_default();
        if STABLE <= held {
            self.complaint.clear();
        }
        if error.is_take_over() {
            self.backoff.lengthen();
        }
        self.is_of_clock = matches!(&error, LinkError::Tls(error) if error.is_of_clock());
        let pause = self.backoff.after(millis(held));
        let reason = error.describe(connection);
        let who = &self.who;
        match self.complaint.note(millis(self.started.elapsed()).0, error.cause()) {
            Some(_) if error.is_take_over() => log::error!("{who}: {reason}"),
            Some(0) => log::warn!("{who}: {reason}; trying again"),
            Some(unsaid) => log::warn!("{who}: {reason}; still so after {unsaid} more attempts"),
            None => log::debug!("{who}: {reason}; next attempt in {pause}"),
        }
        status.update(|status| {
            status.connected = false;
            status.failures += 1;
            status.last_error.clone_from(&reason);
        });
        (Duration::from_millis(pause.0), reason)
    }

    /// Waits for the pause to be over, or for the clock to be put right if that may help.
    pub async fn wait(&self, pause: Duration) {
        if self.is_of_clock { sleep_or_step(pause).await } else { sleep(pause).await }
    }
}

fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
