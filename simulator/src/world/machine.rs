//! The gateway's machine: its disk, its clocks, and the process that runs on it or does not.
//!
//! - A process ends when the disk fails, when it is killed, or when the power goes; a new one finds what the disk kept.
//! - Opening the store never fails for damage, and needs no room.

use std::cell::Cell;
use std::rc::Rc;

use weir::effect::Effects;
use weir::entry::Entries;
use weir::function::Pool;
use weir::gateway::Gateway;
use weir::keeper::Keeper;
use weir::store::keyed::NoKeyed;
use weir::store::mem_disk::{MemDisk, Survival};
use weir::store::{CommitError, Recovered, Settings, Store};
use weir::store_id::StoreId;
use weir::time::{Now, Stopwatch};

use super::checks::{self, Broken};
use super::clock::Clocks;
use super::ledger::Ledger;
use super::process::Process;
use super::queue::{Happening, Queue};
use super::site::{STORE, Site};
use super::wire::Wire;
use crate::rng::Rng;

/// The machine, up or down.
pub struct Machine {
    /// What it runs.
    pub site: Site,
    /// Its disk.
    pub disk: MemDisk,
    /// Its clocks.
    pub clocks: Clocks,
    watch: Rc<Cell<u64>>,
    /// Number of the process, growing.
    pub boot: u64,
    /// The process, if one runs.
    pub process: Option<Process>,
    /// The power went: unsynced writes are at risk, as the number decides.
    powerless: Option<(Survival, u64)>,
    /// What a power cut at a step of the disk does.
    pub cut: (Survival, u64),
    /// It sleeps until then.
    pub asleep_until_us: u64,
    /// Bits of the medium were flipped.
    pub flips: u64,
    /// Processes that ended.
    pub deaths: u64,
    /// Attempts that found the disk full.
    pub full: u64,
    /// How long after its first acknowledgement a link asks for confirmation.
    pub confirm_after_us: u64,
    /// What was wrong with the disk at the starts.
    pub damages: u64,
}

/// The process is dead.
#[derive(Debug)]
pub enum End {
    /// The disk failed: the process ends itself, a new one reads what is there.
    Died(String),
    /// Something does not hold.
    Broken(Broken),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// What the machine acts upon.
pub struct Around<'a> {
    pub queue: &'a mut Queue,
    pub rng: &'a mut Rng,
    pub wire: &'a mut Wire,
    pub ledger: &'a mut Ledger,
}

/// The virtual clock, as functions see it.
struct Watch(Rc<Cell<u64>>);

impl Stopwatch for Watch {
    fn mono_us(&mut self) -> u64 {
        self.0.get()
    }
}

impl Machine {
    /// A machine with an empty disk, switched off.
    #[must_use]
    pub fn new(site: Site, clocks: Clocks, confirm_after_us: u64) -> Self {
        Self {
            site,
            disk: MemDisk::default(),
            clocks,
            watch: Rc::default(),
            boot: 0,
            process: None,
            powerless: None,
            cut: (Survival::Dropped, 0),
            asleep_until_us: 0,
            flips: 0,
            deaths: 0,
            full: 0,
            confirm_after_us,
            damages: 0,
        }
    }

    fn settings(&self) -> Settings {
        let store = &self.site.config.store;
        Settings {
            segment_bytes: u32::try_from(store.segment_bytes.0).unwrap_or(u32::MAX),
            journal_bytes_max: store.journal_bytes_max.0,
            dirty_bytes_max: 1 << 20,
            salt: 7,
            lanes: self.site.config.lanes.iter().map(|lane| lane.name.clone()).collect(),
        }
    }

    /// The clocks, as the process that started at `started_us` (monotonic) reads them.
    pub fn read_clocks(&self, started_us: u64, now_us: u64) -> Now {
        let now = self.clocks.read(started_us, now_us);
        self.watch.set(now.mono_us);
        now
    }

    /// Starts a process: opens the store, recovers, does at once what is due.
    pub fn start(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        if let Some((survival, seed)) = self.powerless.take() {
            self.disk.restart(survival, seed);
        }
        self.disk.process_ended();
        let now_us = around.queue.now_us();
        let now = self.read_clocks(now_us, now_us);
        let (store, mut recovered) = match Store::open(self.disk.clone(), NoKeyed, &self.settings()) {
            Ok(opened) => opened,
            Err(CommitError::Full) => return Err(Broken::new("opening needs room on the disk").into()),
            Err(CommitError::Failed(reason)) => return Err(self.failed("open", &reason)),
        };
        self.check_recovered(&recovered, around.ledger)?;
        recovered.store = StoreId(u32::from_str_radix(STORE, 16).expect("it is hexadecimal"));
        let names: Vec<String> = recovered.lanes.iter().map(|lane| lane.name.clone()).collect();
        let mut watch = Watch(Rc::clone(&self.watch));
        let pool = Pool::new(self.site.budget.guests);
        let functions = self.site.functions(&pool, &mut watch);
        let mut effects = Effects::default();
        let gateway = Gateway::new(&self.site.config, functions, recovered, now, Box::new(watch), &mut effects)
            .map_err(|error| Broken::new(format!("start: {error}")))?;
        around.ledger.check_books(gateway.books())?;
        checks::full_step(&gateway, &self.site, self.disk.used())?;
        let lanes = gateway.outbox().lanes().len();
        let keeper = Keeper::new(store, names);
        self.process = Some(Process::new(&self.site, gateway, keeper, effects, now_us, self.confirm_after_us, pool));
        for lane in 0..lanes {
            around.queue.after(0, Happening::Drain { boot: self.boot, lane });
        }
        self.release(&[])?;
        self.tick(around)?;
        self.open_link(around);
        self.work(around)
    }

    fn check_recovered(&mut self, recovered: &Recovered, ledger: &mut Ledger) -> Result<(), Broken> {
        let report = &recovered.report;
        let is_told = 0 < self.flips && (report.is_loss() || 0 < report.torn_tails + report.uncommitted_frames);
        self.damages += u64::from(report.is_loss());
        if report.is_loss() && self.flips == 0 {
            return Err(Broken::new(format!("an undamaged disk has losses: {report:?}")));
        }
        ledger.recovered(&recovered.entries, is_told, &self.site)
    }

    /// The process is gone. With `survival` the power went too.
    pub fn stop(&mut self, survival: Option<(Survival, u64)>, ledger: &mut Ledger) {
        self.process = None;
        self.powerless = survival.or(self.powerless);
        self.boot += 1;
        self.deaths += 1;
        ledger.process_gone();
    }

    /// A disk without power or one that gave an error explains a failure; another one must not fail.
    pub fn failed(&self, what: &str, reason: &str) -> End {
        if self.disk.is_down() || self.disk.has_failed() {
            End::Died(format!("{what}: {reason}"))
        } else {
            Broken::new(format!("{what}: {reason}")).into()
        }
    }

    /// Flips a bit of some file, on the medium.
    pub fn flip(&mut self, pick: u64) {
        let files = self.disk.files();
        let bytes: u64 = files.iter().map(|(_, len)| *len as u64).sum();
        if bytes == 0 {
            return;
        }
        let mut at = (pick >> 3) % bytes;
        for (name, len) in files {
            if at < len as u64 {
                self.disk.flip(&name, at as usize, (pick & 7) as u8);
                self.flips += 1;
                return;
            }
            at -= len as u64;
        }
    }

    /// Whether nothing waits in the process.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_idle)
    }

    /// The gateway, if the process runs.
    #[must_use]
    pub fn gateway(&self) -> Option<&Gateway> {
        self.process.as_ref().map(|process| &process.gateway)
    }

    /// All entries as a snapshot would have them.
    pub fn export(&mut self, now_us: u64) -> Entries {
        let mut entries = Entries::default();
        let Some(started_us) = self.process.as_ref().map(|process| process.started_us) else { return entries };
        let now = self.read_clocks(started_us, now_us);
        if let Some(process) = &mut self.process {
            process.gateway.export(now, &mut entries);
        }
        entries
    }
}
