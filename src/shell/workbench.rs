//! The workbench: a gateway without broker and sinks on the store of a stopped one, for orders that a running one takes over the
//! control socket. What it commits is what the running one would have committed.

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::clock::Clock;
use super::dlq::{self, Wanted};
use super::logging;
use super::store::{CommitAnswer, OpenError, StoreHandle};
use crate::budget::{Plan, costs};
use crate::effect::Effects;
use crate::function::Function;
use crate::gateway::{Gateway, StartError};
use crate::store::CommitError;

/// Why it does not work.
#[derive(Debug)]
pub enum Trouble {
    /// The data folder cannot be used.
    Store(OpenError),
    /// The configuration does not go together with the modules.
    Start(StartError),
    /// The disk is full or failed.
    Commit(CommitError),
    /// The system.
    Io(String),
}

impl Trouble {
    /// Another process has the store.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::Store(OpenError::Locked(_)))
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Start(error) => write!(f, "{error}"),
            Self::Commit(error) => write!(f, "{error}"),
            Self::Io(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for Trouble {}

/// The gateway on its store.
pub struct Workbench {
    runtime: Runtime,
    clock: Clock,
    store: StoreHandle,
    answers: mpsc::Receiver<CommitAnswer>,
    gateway: Gateway,
    effects: Effects,
}

impl Workbench {
    /// Opens the store and takes back what is on it, as a start does. `functions` are loaded, in the order of the configuration.
    pub fn open(plan: &Plan, functions: Vec<Function>) -> Result<Self, Trouble> {
        let config = &plan.loaded.config;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Trouble::Io(error.to_string()))?;
        let mut clock = Clock::default();
        let names: Vec<String> = config.lanes.iter().map(|lane| lane.name.clone()).collect();
        let (store, recovered, answers) =
            StoreHandle::open(&config.store, &names, costs::DIRTY_BYTES_MAX.as_usize()).map_err(Trouble::Store)?;
        let mut effects = Effects::default();
        let stopwatch = Box::new(clock.clone());
        let gateway = Gateway::new(config, functions, recovered, clock.now(), stopwatch, &mut effects);
        let gateway = gateway.map_err(Trouble::Start)?;
        Ok(Self { runtime, clock, store, answers, gateway, effects })
    }

    /// Carries an order about dead letters out; what comes back is on flash.
    pub fn take(&mut self, wanted: &Wanted) -> Result<serde_json::Value, Trouble> {
        let Some(lane) = self.gateway.dead_letter_lane() else { return Ok(serde_json::json!({ "ok": true })) };
        let head = self.gateway.outbox().lanes()[lane].head_seq();
        let gathered = dlq::gather(&self.store, lane, head, &wanted.letters);
        let portion = self.runtime.block_on(gathered).map_err(Trouble::Io)?;
        let now = self.clock.now();
        let answer = dlq::take(&mut self.gateway, now, wanted, &portion, &mut self.effects);
        self.commit()?;
        Ok(answer)
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        let now = self.clock.now();
        self.gateway.seal(now, &mut self.effects);
        self.effects.log.drain(..).for_each(|line| logging::print(&line));
        if self.effects.is_empty() {
            return Ok(());
        }
        self.store.commit(core::mem::take(&mut self.effects));
        let Some(answer) = self.answers.blocking_recv() else {
            return Err(Trouble::Io("the store's thread has ended".to_owned()));
        };
        answer.result.map_err(Trouble::Commit)?;
        for release in &answer.effects.releases {
            self.store.release(*release);
        }
        Ok(())
    }

    /// Ends in an orderly way: the keyed copy follows.
    pub fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}
