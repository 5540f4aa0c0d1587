//! Power cuts: runs of the real binary are recorded call by call, and cut at any of them. What no sync covered is dropped, torn,
//! reordered or garbage, in journal, lanes, snapshots, sled and the files upstream; the real binary then starts on what is left,
//! the broker sends again what it must, and upstream must have everything once.
//!
//! - Every third of the cuts is in the first boot of an empty store, and some runs that recover from a cut are recorded and cut
//!   themselves.
//! - `--lies N`: the card lied about the syncs among the last N calls. Then what they covered may be lost (and the proof must say
//!   so: it is its own test), but it always starts.
//! - The broker may not have had the last acknowledgements: it then sends again what was committed.

pub mod broker;
mod record;
mod replay;
mod trace;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_simulator::fleet::{Fleet, Message};
use weir_simulator::publish::clock;
use weir_simulator::rng::Rng;

use super::Outcome;
use super::options::Options;
use super::support::gateway::{Gateway, Numbers, PATIENCE};
use super::support::guests::METER;
use super::support::ledger::Ledger;
use super::support::site::{self, LANES, Site, Verdict};

use broker::{Script, Stand, Stands};
use record::{Recording, stands_at};
use replay::{DATA, Replay, State, UPSTREAM};
use trace::Event;

/// Of each fleet; three fleets.
const DEVICES: u64 = 3;
/// Of a recorded run.
const SECONDS: u64 = 5;
/// Cuts of one recording, about.
const CUTS: usize = 100;
/// Of the cuts of a recording, one in so many starts is recorded and cut again.
const AGAIN: usize = 20;
/// Cuts of a recorded recovery.
const CUTS_AGAIN: usize = 6;
/// What a first boot does, about.
const FIRST_BOOT_EVENTS: u64 = 90;
/// Starts at once: most of their time they wait for windows to close.
const JOBS: usize = 8;

/// A cut that is to be started on.
struct Job {
    name: String,
    store: &'static str,
    messages: Arc<Vec<Message>>,
    state: State,
    stands: Stands,
    is_recorded: bool,
    is_first_boot: bool,
    is_recovery: bool,
}

#[derive(Default)]
struct Tally {
    recordings: usize,
    writes: usize,
    syncs: usize,
    cuts: usize,
    first_boot: usize,
    recovering: usize,
    acknowledged: u64,
    lost: u64,
    doubled: u64,
    failed_starts: u64,
    sled_aside: u64,
    faults: Vec<String>,
}

/// `--cuts 1000 --seed 1 --lies 0`
pub fn run(options: &Options) -> Outcome {
    let (cuts, seed): (usize, u64) = (options.get("cuts", 1000)?, options.get("seed", 1)?);
    let lies: usize = options.get("lies", 0)?;
    options.end()?;
    let began = Instant::now();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let recoveries = Arc::new(Mutex::new(Vec::new()));
    let (jobs, todo) = sync_channel::<Job>(2);
    let todo = Arc::new(Mutex::new(todo));
    let workers: Vec<_> = (0..JOBS)
        .map(|_| {
            let (todo, tally, recoveries) = (todo.clone(), tally.clone(), recoveries.clone());
            std::thread::spawn(move || work(&todo, &tally, &recoveries))
        })
        .collect();
    drop(todo);
    let mut dice = Rng::fork(seed, 5);
    let (mut left, mut number) = (cuts, 0);
    let top = cuts.div_ceil(CUTS).max(2);
    while 0 < left {
        let recovery = recoveries.lock().unwrap().pop();
        let recording = match recovery {
            Some(recording) => recording,
            None => {
                number += 1;
                first_run(&mut dice, number)?
            }
        };
        let share = if recording.is_recovery { CUTS_AGAIN } else { cuts.div_ceil(top) };
        let share = share.min(left);
        note(&tally, &recording);
        cut(&recording, share, lies, &mut dice, &jobs)?;
        left -= share;
        let so_far = tally.lock().unwrap();
        println!(
            "{} s: {} events of {}; {} of {cuts} cuts started on, {} lost, {} doubled, {} failed starts",
            began.elapsed().as_secs(),
            recording.events.len(),
            recording.name,
            so_far.cuts,
            so_far.lost,
            so_far.doubled,
            so_far.failed_starts
        );
    }
    drop(jobs);
    workers.into_iter().for_each(|worker| worker.join().expect("a worker does not panic"));
    let tally = std::mem::take(&mut *tally.lock().unwrap());
    table(&tally, began.elapsed());
    let holds = tally.faults.is_empty() && tally.lost + tally.doubled == 0;
    Ok(tally.cuts == cuts && tally.failed_starts == 0 && (holds || 0 < lies))
}

fn table(tally: &Tally, took: Duration) {
    println!(
        "
| cuts | in the first boot | while recovering from a cut | acknowledged messages at the cuts | lost | doubled | failed starts | sled set aside |
|---|---|---|---|---|---|---|---|
| {} | {} | {} | {} | {} | {} | {} | {} |

{} recorded runs with {} writes and {} syncs, {} s",
        tally.cuts,
        tally.first_boot,
        tally.recovering,
        tally.acknowledged,
        tally.lost,
        tally.doubled,
        tally.failed_starts,
        tally.sled_aside,
        tally.recordings,
        tally.writes,
        tally.syncs,
        took.as_secs()
    );
    tally.faults.iter().take(20).for_each(|fault| println!("{fault}"));
}

fn note(tally: &Mutex<Tally>, recording: &Recording) {
    let count = |wanted: fn(&Event) -> bool| recording.events.iter().filter(|event| wanted(event)).count();
    let mut tally = tally.lock().unwrap();
    tally.recordings += 1;
    tally.writes += count(|event| matches!(event, Event::Write { .. }));
    tally.syncs += count(|event| matches!(event, Event::Sync(_) | Event::SyncDir(_)));
}

/// Records a life from the empty store on.
fn first_run(dice: &mut Rng, number: usize) -> Result<Recording, String> {
    let store = ["", "sled = false\n"][usize::from(number % 4 == 0)];
    let scenario = site::scenario(dice.next() >> 32, SECONDS, DEVICES);
    let messages: Arc<Vec<Message>> = Arc::new(Fleet::new(&scenario, scenario.seed, clock::wall_ms()).collect());
    let broker = Script::start(messages.clone(), Stands::new(), true);
    let mut gateway = gateway(&broker, store);
    let file = gateway.path("trace");
    gateway.start_in(&record::tracer(&file));
    until_done(&mut gateway, &broker).map_err(|error| format!("an undisturbed run: {error}\n{}", gateway.log()))?;
    // Some end in an orderly way and are cut in it.
    if number % 2 == 0 {
        gateway.kill();
    } else {
        gateway.stop();
    }
    let base = State::default();
    let events = record::read(&file, &gateway, &broker, &base)?;
    let name = format!("run {number}{}", if store.is_empty() { "" } else { " without sled" });
    Ok(Recording { name, store, messages, base, stands: Stands::new(), events, is_recovery: false })
}

fn gateway(broker: &Script, store: &'static str) -> Gateway {
    let site = Site { store, ..Site::new(&broker.url()) };
    let gateway = Gateway::new(&site.config());
    METER.install(&gateway);
    gateway
}

/// Until every message is acknowledged and everything is upstream.
fn until_done(gateway: &mut Gateway, broker: &Script) -> Result<Numbers, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(numbers) = gateway.numbers()
            && broker.is_done()
            && numbers.get("window_cells") == 0.0
            && LANES.iter().all(|lane| numbers.waiting(lane) == 0.0)
        {
            return Ok(numbers);
        }
        if !gateway.is_up() {
            return Err("it ended".to_owned());
        }
        if until < Instant::now() {
            return Err("it does not get everything upstream".to_owned());
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Cuts a recording `count` times and hands the cuts out.
fn cut(recording: &Recording, count: usize, lies: usize, dice: &mut Rng, jobs: &SyncSender<Job>) -> Result<(), String> {
    let events = recording.events.len() as u64;
    let place = |index: usize, dice: &mut Rng| match index % 3 {
        0 => dice.below(FIRST_BOOT_EVENTS.min(events)) + 1,
        _ => dice.below(events) + 1,
    };
    let mut places: Vec<u64> = (0..count).map(|index| place(index, dice)).collect();
    places.sort_unstable();
    let (mut honest, mut done) = (Replay::new(&recording.base), 0);
    for (index, at) in places.into_iter().enumerate() {
        let at = at as usize;
        let honest_until = at.saturating_sub(lies);
        recording.events[done..honest_until].iter().try_for_each(|event| honest.apply(event))?;
        done = honest_until;
        let mut replay = honest.fork();
        recording.events[done..at].iter().try_for_each(|event| replay.apply_lying(event))?;
        let data = DATA[dice.below(DATA.len() as u64) as usize];
        let upstream = UPSTREAM[dice.below(UPSTREAM.len() as u64) as usize];
        let acks_lost = if dice.below(2) == 0 { 0 } else { dice.below(25) as usize };
        let job = Job {
            name: format!("{}, cut after event {at} of {events}, data {data:?}, files {upstream:?}", recording.name),
            store: recording.store,
            messages: recording.messages.clone(),
            state: replay.cut(data, upstream, dice),
            stands: stands_at(recording, at, acks_lost),
            is_recorded: lies == 0 && !recording.is_recovery && index % AGAIN == AGAIN / 2,
            is_first_boot: !recording.is_recovery && at as u64 <= FIRST_BOOT_EVENTS,
            is_recovery: recording.is_recovery,
        };
        jobs.send(job).map_err(|_| "the workers have ended".to_owned())?;
    }
    Ok(())
}

fn work(todo: &Mutex<Receiver<Job>>, tally: &Mutex<Tally>, recoveries: &Mutex<Vec<Recording>>) {
    loop {
        let job = todo.lock().unwrap().recv();
        let Ok(job) = job else { return };
        let acknowledged = job.stands.iter().filter(|stand| **stand == Stand::Done).count() as u64;
        let (name, is_first_boot, is_recovery) = (job.name.clone(), job.is_first_boot, job.is_recovery);
        let found = start_on(job, recoveries);
        let mut tally = tally.lock().unwrap();
        tally.cuts += 1;
        tally.first_boot += usize::from(is_first_boot);
        tally.recovering += usize::from(is_recovery);
        tally.acknowledged += acknowledged;
        tally.lost += found.verdict.lost;
        tally.doubled += found.verdict.doubled;
        tally.failed_starts += u64::from(found.failed_start);
        tally.sled_aside += u64::from(found.sled_aside);
        if let Some(first) = found.verdict.faults.first() {
            let kept = found.kept.map_or_else(String::new, |folder| format!(" ({})", folder.display()));
            let all = found.verdict.faults.len();
            println!("{name}: {all} faults, the first: {first}{kept}");
            tally.faults.push(format!("{name}: {first}"));
        }
    }
}

/// What starting on a cut showed.
#[derive(Default)]
struct Found {
    verdict: Verdict,
    failed_start: bool,
    sled_aside: bool,
    kept: Option<PathBuf>,
}

fn start_on(job: Job, recoveries: &Mutex<Vec<Recording>>) -> Found {
    let broker = Script::start(job.messages.clone(), job.stands.clone(), false);
    let mut gateway = gateway(&broker, job.store);
    job.state.write(&gateway.path(""));
    let file = gateway.path("trace");
    if job.is_recorded {
        gateway.start_in(&record::tracer(&file));
    } else {
        gateway.start();
    }
    let mut found = Found::default();
    let numbers = until_done(&mut gateway, &broker);
    let is_up = gateway.is_up();
    found.failed_start = !is_up;
    let faults = &mut found.verdict.faults;
    if let Err(error) = &numbers {
        faults.push(format!("{error}:\n{}", gateway.log()));
    }
    if is_up && !gateway.stop().success() {
        faults.push(format!("the orderly end failed:\n{}", gateway.log()));
    }
    let mut ledger = Ledger::default();
    if gateway.path("upstream").is_dir() {
        ledger.take_files(&gateway.path("upstream"));
    }
    let verdict = Verdict::of(&job.messages, &ledger);
    (found.verdict.lost, found.verdict.doubled) = (verdict.lost, verdict.doubled);
    found.verdict.faults.extend(verdict.faults);
    let log = gateway.log();
    found.sled_aside = log.contains("set aside");
    for line in log.lines().filter(|line| line.contains("damage") && !line.contains("sled in")) {
        found.verdict.faults.push(format!("damage after a mere power cut: {line}"));
    }
    if let Ok(numbers) = numbers
        && numbers.get("books_residue") + (numbers.get("messages_received_total") - job.messages.len() as f64) != 0.0
    {
        found.verdict.faults.push(format!("the books are off:\n{}", numbers.text));
    }
    if job.is_recorded && found.verdict.is_clean() {
        match record::read(&file, &gateway, &broker, &job.state) {
            Ok(events) => {
                let Job { name, store, messages, state, stands, .. } = job;
                let name = format!("the start on ({name})");
                let recording = Recording { name, store, messages, base: state, stands, events, is_recovery: true };
                recoveries.lock().unwrap().push(recording);
            }
            Err(error) => found.verdict.faults.push(error),
        }
    }
    found.kept = (!found.verdict.is_clean()).then(|| gateway.keep());
    found
}
