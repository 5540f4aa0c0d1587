//! A board in a box: a real Linux kernel in QEMU, the shipped static binary, a site, a disk with ext4, a broker on this
//! machine and simulated devices. What arrives upstream is held against the truth, and what it took against the board.
//!
//! - The power may be cut in the middle, any number of times; the next boot finds the same disk.
//! - Memory is what the guest's kernel says of the gateway (`smaps_rollup`), once a second.
//! - Emulated processors are slow, some fifty times slower than real ones: of speed nothing is said.

mod bundle;
mod host;
mod initramfs;
mod machine;
mod page;
mod system;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use weir::board::Board;

use crate::compare::Comparison;
use crate::publish::{Options, Progress, listen, publish};
use crate::scenario::Scenario;
use crate::truth::Truth;
use crate::upstream::Upstream;

pub use bundle::Bundle;
use host::{Host, Ports};
use machine::{Boot, Hardware, Machine};
pub use machine::{Machines, Sample};
use page::Page;
use system::System;
use verdict::Latencies;
pub use verdict::{Limits, Outcome};

/// A busy machine emulates slowly.
const PATIENCE: Duration = Duration::from_secs(240);
/// Size of the disk beyond the board's flash: the file system's own.
const DISK_SPARE_MIB: u64 = 64;

/// What is wrong, in words.
pub type Fault = String;

/// What is to be done.
pub struct Job {
    /// The board.
    pub board: Board,
    /// The static binary.
    pub weir: PathBuf,
    /// The site.
    pub bundle: Bundle,
    /// The devices.
    pub scenario: Scenario,
    /// How long nothing is sent, before the load.
    pub idle: Duration,
    /// How long devices send.
    pub load: Duration,
    /// How often the power is cut meanwhile.
    pub cuts: u32,
    /// How long it may take until all is upstream, after the last message.
    pub settle: Duration,
    /// Folder of this run: disk, consoles, broker.
    pub work: PathBuf,
    /// Folder of the guest's kernel and tools, fetched once.
    pub system: PathBuf,
}

/// Does it. `say` is told what happens.
pub async fn run(job: &Job, say: &dyn Fn(String)) -> Result<Outcome, Fault> {
    let system = System::get(&job.system)?;
    std::fs::create_dir_all(&job.work).map_err(|error| format!("{}: {error}", job.work.display()))?;
    let host = Host::start(&job.work).await?;
    let initramfs = job.work.join("initramfs");
    let site = job.bundle.site(&job.board, &host)?;
    let archive = initramfs::initramfs(&system, &job.weir, &site)?;
    std::fs::write(&initramfs, archive).map_err(|error| format!("{}: {error}", initramfs.display()))?;
    let disk = host::disk(&job.work, (job.board.flash.0 >> 20) + DISK_SPARE_MIB)?;
    let hardware = Hardware {
        kernel: system.kernel.clone(),
        initramfs,
        disk,
        memory_mib: Machines::memory_mib(&job.board),
        metrics: host.ports.metrics,
    };
    let heard = Arc::new(Mutex::new(Heard::default()));
    let (stop, stopped) = watch::channel(false);
    let listening = tokio::spawn({
        let (broker, heard) = (host.broker()?, Arc::clone(&heard));
        async move { listen(&broker, "weir/#", move |_, payload| hear(&heard, payload), stopped).await }
    });
    let outcome = drive(job, &hardware, &host, &heard, say).await;
    let _ = stop.send(true);
    let listened = listening.await.map_err(|error| error.to_string())?;
    let outcome = outcome?;
    listened.map_err(|error| error.to_string())?;
    Ok(outcome)
}

/// What came upstream.
#[derive(Default)]
struct Heard {
    upstream: Upstream,
    latencies: Latencies,
}

fn hear(heard: &Mutex<Heard>, payload: &[u8]) {
    if let Ok(mut heard) = heard.lock()
        && heard.upstream.take(payload)
    {
        heard.latencies.take(payload, crate::publish::clock::wall_ms());
    }
}

async fn drive(
    job: &Job,
    hardware: &Hardware,
    host: &Host,
    heard: &Mutex<Heard>,
    say: &dyn Fn(String),
) -> Result<Outcome, Fault> {
    let mut outcome = Outcome { machine_mib: hardware.memory_mib, ..Outcome::default() };
    let mut machine = switch_on(job, hardware, &mut outcome, say).await?;
    if !job.idle.is_zero() {
        let before = machine.console().len();
        sleep(job.idle).await;
        outcome.idle = machine::samples(&machine.console()[before..]);
    }
    let before = machine.console().len();
    let mut scenario = job.scenario.clone();
    scenario.duration_ms = Some(u64::try_from(job.load.as_millis()).unwrap_or(u64::MAX));
    let broker = host.broker()?;
    say(format!("load: {:.0} messages a second for {} s", scenario.rate(), job.load.as_secs()));
    let began = Instant::now();
    let publishing = tokio::spawn(async move {
        let (seed, options) = (scenario.seed, Options::new(broker));
        let (_never, stop) = watch::channel(false);
        publish(&scenario, seed, &options, Arc::new(Progress::default()), stop).await
    });
    // Samples of the last boot begin with the load.
    let mut from = before;
    for cut in 1..=job.cuts {
        sleep(job.load / (job.cuts + 1)).await;
        outcome.add_boot(&machine.cut()[from..]);
        say(format!("power cut {cut}"));
        machine = switch_on(job, hardware, &mut outcome, say).await?;
        from = 0;
    }
    let published = publishing.await.map_err(|error| error.to_string())?;
    if let Some(error) = published.error {
        return Err(format!("the devices could not publish everything: {error}"));
    }
    outcome.load_seconds = began.elapsed().as_secs_f64();
    settle(job, &mut machine, host, heard, &published.truth, &mut outcome).await?;
    outcome.add_boot(&machine.cut()[from..]);
    Ok(outcome)
}

async fn switch_on(
    job: &Job,
    hardware: &Hardware,
    outcome: &mut Outcome,
    say: &dyn Fn(String),
) -> Result<Machine, Fault> {
    let count = outcome.boots.len() + 1;
    let mut machine = Machine::boot(hardware, &job.work.join(format!("console-{count}")))?;
    let boot = Boot::read(&mut machine, PATIENCE).await?;
    say(format!("boot {count}: {boot}"));
    outcome.boots.push(boot);
    Ok(machine)
}

/// Waits until everything is upstream, or for `job.settle`; then compares.
async fn settle(
    job: &Job,
    machine: &mut Machine,
    host: &Host,
    heard: &Mutex<Heard>,
    truth: &Truth,
    outcome: &mut Outcome,
) -> Result<(), Fault> {
    let Ports { metrics, .. } = host.ports;
    let until = Instant::now() + job.settle;
    let is_metered = truth.devices.iter().any(|device| device.meter.is_some());
    let mut received_before = f64::NAN;
    loop {
        machine.still_runs()?;
        sleep(Duration::from_secs(1)).await;
        let (comparison, latencies) = {
            let heard = heard.lock().map_err(|_| "the listener has failed")?;
            (Comparison::new(truth, &heard.upstream), heard.latencies.clone())
        };
        let Some(page) = Page::get(metrics).await else {
            if until < Instant::now() {
                return Err("the metrics page does not answer".to_owned());
            }
            continue;
        };
        let is_there = if is_metered { comparison.is_right() } else { page.received() == received_before };
        received_before = page.received();
        if (is_there && page.pending() == 0.0) || until < Instant::now() {
            outcome.published = truth.devices.iter().map(|device| device.published).sum();
            outcome.is_metered = is_metered;
            outcome.comparison = comparison;
            outcome.latencies = latencies;
            outcome.page = page;
            return Ok(());
        }
    }
}

/// The binary that `cargo xtask dist` has left for the board, below the project's root.
#[must_use]
pub fn built(root: &Path, board: &Board) -> PathBuf {
    root.join("target/dist").join(&board.target).join("release/weir")
}
