//! The watch: a thread of its own that judges the loop from outside, and answers when the loop does not.
//!
//! - Health, the metrics page, the control socket and systemd's watchdog live here, on a small runtime of their own: in the
//!   loop's runtime they would hang with it.
//! - It never logs: a log that nobody reads may be what the loop hangs on.
//! - The watchdog is fed only while progress is seen.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::control::{self, Order, Served};
use super::metrics::{self, Scrape};
use super::notify::Notify;
use super::pulse::Pulse;
use crate::health::{Health, Policy, Reason, State, state};
use crate::time::Stopwatch as _;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the watch thinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The word.
    pub state: State,
    /// Why, the worst first.
    pub reasons: Vec<Reason>,
    /// Since when, in microseconds of the process.
    pub since_us: u64,
    /// Now.
    pub now_us: u64,
}

/// The last verdict, for those who ask.
#[derive(Clone, Debug, Default)]
pub struct SharedVerdict(Arc<Mutex<Verdict>>);

impl SharedVerdict {
    /// A copy.
    #[must_use]
    pub fn get(&self) -> Verdict {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, verdict: Verdict) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }
}

impl Verdict {
    /// For programs.
    #[must_use]
    pub fn document(&self) -> Value {
        let reasons: Vec<Value> = self
            .reasons
            .iter()
            .map(|reason| {
                json!({
                    "reason": reason.kind, "subject": reason.subject, "state": reason.state.name(), "text": reason.text,
                })
            })
            .collect();
        let seconds = self.now_us.saturating_sub(self.since_us) / 1_000_000;
        json!({ "state": self.state.name(), "for_seconds": seconds, "reasons": reasons })
    }

    /// What is said anew only when it changes: the word and what for, not for how long.
    fn said(&self) -> (State, Vec<(&'static str, &str)>) {
        (self.state, self.reasons.iter().map(|reason| (reason.kind, reason.subject.as_str())).collect())
    }

    /// One line for `systemctl status`.
    #[must_use]
    pub fn line(&self) -> String {
        let said = |reason: &Reason| match reason.subject.as_str() {
            "" => format!("{}: {}", reason.kind, reason.text),
            subject => format!("{} ({subject}): {}", reason.kind, reason.text),
        };
        let reasons: Vec<String> = self.reasons.iter().map(said).collect();
        match reasons.is_empty() {
            true => self.state.name().to_owned(),
            false => format!("{}: {}", self.state.name(), reasons.join("; ")),
        }
    }
}

/// What the watch is made of.
pub struct Parts {
    /// The process's clock.
    pub clock: Clock,
    /// The loop's pulse.
    pub pulse: Arc<Pulse>,
    /// From when on something is wrong.
    pub policy: Policy,
    /// The supervisor.
    pub notify: Arc<Notify>,
    /// Where metrics and health are served over HTTP.
    pub http: Option<TcpListener>,
    /// The control socket.
    pub control: Option<UnixListener>,
    /// The way to the loop, for the page.
    pub scrapes: mpsc::Sender<Scrape>,
    /// The way to the loop, for orders.
    pub orders: mpsc::Sender<Order>,
}

/// The running watch. It ends with the value.
#[derive(Debug)]
pub struct Watch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts it.
pub fn spawn(parts: Parts) -> io::Result<Watch> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let work = move || runtime.block_on(watch(parts, stopped));
    let thread = std::thread::Builder::new().name("weir-watch".to_owned()).spawn(work)?;
    Ok(Watch { stop: Some(stop), thread: Some(thread) })
}

async fn watch(parts: Parts, mut stopped: oneshot::Receiver<()>) {
    let Parts { mut clock, pulse, policy, notify, http, control, scrapes, orders } = parts;
    let verdict = SharedVerdict::default();
    if let Some(listener) = http.and_then(|listener| tokio::net::TcpListener::from_std(listener).ok()) {
        tokio::spawn(metrics::serve(listener, scrapes, verdict.clone()));
    }
    if let Some(listener) = control.and_then(|listener| tokio::net::UnixListener::from_std(listener).ok()) {
        tokio::spawn(control::serve(listener, Served { verdict: verdict.clone(), orders }));
    }
    let mut health = Health::new(policy);
    let every = notify.interval().map_or(LOOK_EVERY, |interval| interval.min(LOOK_EVERY));
    let (mut last, mut ready) = (Verdict::default(), false);
    loop {
        // Until the loop has told something there is nothing to judge but its pulse.
        if let Some(signs) = pulse.signs() {
            let now_us = clock.mono_us();
            let reasons = health.judge(now_us, &pulse.beat(), &signs);
            let now = state(&reasons);
            let since_us = if now == last.state { last.since_us } else { now_us };
            let next = Verdict { state: now, reasons, since_us, now_us };
            if !ready {
                ready = true;
                notify.ready();
                notify.status(&next.line());
            } else if next.said() != last.said() {
                notify.status(&next.line());
            }
            verdict.set(next.clone());
            last = next;
        }
        if last.state != State::Failed {
            notify.alive();
        }
        if tokio::time::timeout(every, &mut stopped).await.is_ok() {
            return;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
