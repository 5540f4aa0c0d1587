//! Damage: a store that a real run has left is damaged file by file, in every way that a card can think of, and the real binary
//! is started on each. It must start, say what is gone, hand out nothing that was never written, and go on.
//!
//! - The store was killed with everything still waiting for upstream, so each record that is lost is missed.
//! - *silent*: something is missing upstream, and neither log nor numbers say so.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_simulator::fleet::{Fleet, Message};
use weir_simulator::publish::clock;

use super::Outcome;
use super::options::Options;
use super::powercut::broker::{Script, Stand, Stands};
use super::support::gateway::{Gateway, PATIENCE};
use super::support::guests::METER;
use super::support::ledger::Ledger;
use super::support::site::{self, LANES, Site, Verdict};

/// Of each fleet.
const DEVICES: u64 = 3;
/// Messages published when the damaged store runs.
const AFTER: usize = 60;
const JOBS: usize = 8;

/// What is done to a file, or to all that begin with the name.
#[derive(Clone, Debug)]
enum Damage {
    Remove,
    Empty,
    /// Cut to so many thousandths.
    Cut(usize),
    Zero,
    ZeroPage(usize),
    Garbage,
    /// A bit at so many thousandths.
    Flip(usize),
}

impl Damage {
    fn all(flips: usize) -> Vec<Self> {
        let mut all = vec![Self::Remove, Self::Empty, Self::Zero, Self::Garbage];
        all.extend([100, 500, 900, 999].map(Self::Cut));
        all.extend([0, 1, 2, 5].map(Self::ZeroPage));
        all.extend((0..flips).map(|index| Self::Flip(index * 1000 / flips)));
        all
    }

    fn apply(&self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let len = bytes.len();
        match self {
            Self::Remove => return fs::remove_file(file).unwrap(),
            Self::Empty => bytes.clear(),
            Self::Cut(thousandths) => bytes.truncate(len * thousandths / 1000),
            Self::Zero => bytes.fill(0),
            Self::ZeroPage(page) => bytes.iter_mut().skip(page * 4096).take(4096).for_each(|byte| *byte = 0),
            Self::Garbage => bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x5a),
            Self::Flip(thousandths) => {
                if let Some(byte) = bytes.get_mut(len * thousandths / 1000) {
                    *byte ^= 1 << (thousandths % 8);
                }
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

/// One damaged store.
struct Case {
    name: String,
    files: Vec<PathBuf>,
    damage: Damage,
}

/// What every case begins with.
struct Left {
    gateway: Gateway,
    broker_messages: Arc<Vec<Message>>,
    stands: Stands,
    /// What upstream gets from the undamaged store: the hash of each document.
    whole: Ledger,
}

#[derive(Default)]
struct Row {
    starts: usize,
    failed: usize,
    harmless: usize,
    told: usize,
    silent: usize,
    lies: usize,
    records: u64,
}

#[derive(Default)]
struct Tally {
    rows: BTreeMap<String, Row>,
    faults: Vec<String>,
}

/// `--flips 16 --share 1 --seed 1 --only FILE`
pub fn run(options: &Options) -> Outcome {
    let (flips, share): (usize, usize) = (options.get("flips", 16)?, options.get("share", 1)?);
    let (seed, only): (u64, String) = (options.get("seed", 1)?, options.get("only", String::new())?);
    options.end()?;
    let began = Instant::now();
    let left = Arc::new(leave_a_store(seed)?);
    println!("{} s: a store with {} records in its lanes", began.elapsed().as_secs(), records(&left.whole));
    let all = cases(&left.gateway.path("weir-data"), flips);
    let chosen = all.into_iter().enumerate().filter(|(index, one)| index % share == 0 && one.name.contains(&only));
    let cases: VecDeque<Case> = chosen.map(|(_, one)| one).collect();
    let (count, todo) = (cases.len(), Arc::new(Mutex::new(cases)));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let workers: Vec<_> = (0..JOBS)
        .map(|_| {
            let (left, todo, tally) = (left.clone(), todo.clone(), tally.clone());
            std::thread::spawn(move || {
                loop {
                    let case = todo.lock().unwrap().pop_front();
                    let Some(case) = case else { return };
                    examine(&left, &case, &tally);
                }
            })
        })
        .collect();
    while workers.iter().any(|worker| !worker.is_finished()) {
        std::thread::sleep(Duration::from_secs(5));
        println!("{} s: {} of {count} left", began.elapsed().as_secs(), todo.lock().unwrap().len());
    }
    workers.into_iter().for_each(|worker| worker.join().expect("a worker does not panic"));
    let tally = std::mem::take(&mut *tally.lock().unwrap());
    table(&tally, began.elapsed());
    Ok(tally.faults.is_empty())
}

fn table(tally: &Tally, took: Duration) {
    println!(
        "
| damaged | starts | failed starts | nothing missing | missing and told | missing and silent | told what is not true | records missing |
|---|---|---|---|---|---|---|---|"
    );
    for (name, row) in &tally.rows {
        let Row { starts, failed, harmless, told, silent, lies, records } = row;
        println!("| {name} | {starts} | {failed} | {harmless} | {told} | {silent} | {lies} | {records} |");
    }
    println!("\n{} s", took.as_secs());
    tally.faults.iter().take(40).for_each(|fault| println!("{fault}"));
}

/// A life with upstream away, killed at its end; and what it would send.
fn leave_a_store(seed: u64) -> Result<Left, String> {
    let scenario = site::scenario(seed, 6, DEVICES);
    let mut messages: Vec<Message> = Fleet::new(&scenario, scenario.seed, clock::wall_ms()).collect();
    let before = messages.len();
    // Of devices that were never heard before: what the store has lost says nothing about them.
    let later = site::scenario(seed + 1, 6, DEVICES);
    let later = Fleet::new(&later, later.seed, clock::wall_ms()).filter(|message| message.topic.starts_with("site/"));
    messages.extend(later.filter(|message| !message.flaws.malformed).take(AFTER).map(|mut message| {
        message.topic = message.topic.replace("boiler", "later").into();
        message
    }));
    let all = Arc::new(messages);
    let first: Arc<Vec<Message>> = Arc::new(all[..before].to_vec());
    let broker = Script::start(first.clone(), Stands::new(), true);
    let gateway = gateway(&broker, true);
    let mut gateway = gateway;
    gateway.start();
    let until = Instant::now() + PATIENCE;
    while !(broker.is_done() && gateway.numbers().is_some_and(|numbers| numbers.get("window_cells") == 0.0)) {
        if until < Instant::now() || !gateway.is_up() {
            return Err(format!("the first life did not come to its end:\n{}", gateway.log()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // The last commits must be behind the last snapshot.
    std::thread::sleep(Duration::from_millis(700));
    gateway.kill();
    let stands = vec![Stand::Done; before].into_iter().chain(vec![Stand::Waiting; AFTER]).collect();
    let mut left = Left { gateway, broker_messages: all, stands, whole: Ledger::default() };
    let undamaged = start_on(&left, &Case { name: "undamaged".to_owned(), files: Vec::new(), damage: Damage::Remove });
    let verdict = Verdict::of(&left.broker_messages, &undamaged.ledger);
    if !verdict.is_clean() || undamaged.is_told() {
        return Err(format!("the undamaged store: {verdict:?}\n{}", undamaged.log));
    }
    left.whole = undamaged.ledger;
    Ok(left)
}

fn gateway(broker: &Script, is_upstream_away: bool) -> Gateway {
    let site = Site::new(&broker.url());
    let mut config = site.config();
    if is_upstream_away {
        let nobody = format!("type = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"", super::support::broker::free_port());
        config = config.replace("type = \"file\"\ndir = \"upstream\"\nfiles-max = 200", &nobody);
        // Several segments of the journal behind the last snapshot.
        config = config.replace("journal-bytes-max = \"256 KiB\"", "journal-bytes-max = \"1 MiB\"");
        config = config.replace("snapshot-interval = \"2 s\"", "snapshot-interval = \"5 s\"");
    }
    let gateway = Gateway::new(&config);
    METER.install(&gateway);
    gateway
}

/// Every file in every way; some files together.
fn cases(data: &Path, flips: usize) -> Vec<Case> {
    let mut files = Vec::new();
    list(data, data, &mut files);
    files.sort();
    let mut cases = Vec::new();
    for file in &files {
        let name = file.display().to_string();
        let of = |damage| Case { name: name.clone(), files: vec![file.clone()], damage };
        cases.extend(Damage::all(flips).into_iter().map(of));
    }
    let folders: [(&str, &[&str]); 6] = [
        ("all but the identity", &["journal", "snapshot", "lanes", "state", "free"]),
        ("journal and snapshots", &["journal", "snapshot"]),
        ("journal, snapshots and sled", &["journal", "snapshot", "state"]),
        ("all of the journal", &["journal"]),
        ("all lanes", &["lanes"]),
        ("everything", &[""]),
    ];
    for (name, prefixes) in folders {
        let its = files.iter().filter(|file| prefixes.iter().any(|prefix| file.starts_with(prefix)));
        let its: Vec<PathBuf> = its.cloned().collect();
        for damage in [Damage::Remove, Damage::Empty, Damage::Zero, Damage::Garbage] {
            cases.push(Case { name: name.to_owned(), files: its.clone(), damage });
        }
    }
    cases
}

fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            list(root, &entry, files);
        } else if entry.is_file() {
            files.push(entry.strip_prefix(root).unwrap().to_owned());
        }
    }
}

/// What became of a case.
struct Found {
    ledger: Ledger,
    log: String,
    /// `None`: it did not start, or did not get through.
    end: Option<i32>,
    /// `store_found`, by kind.
    damage: BTreeMap<String, f64>,
    /// Records of all lanes counted as damaged.
    damaged_records: f64,
    error: String,
}

impl Found {
    /// Whether log or numbers say that something is gone.
    fn is_told(&self) -> bool {
        let kinds = ["bad-frames", "cut-commits", "quarantined-bytes", "lost-snapshot", "data-gone"];
        self.damaged_records > 0.0 || kinds.iter().any(|kind| self.damage.get(*kind).is_some_and(|count| *count > 0.0))
    }

    fn unfinished(&self) -> bool {
        self.damage.get("unfinished").is_some_and(|count| *count > 0.0)
    }
}

fn start_on(left: &Left, case: &Case) -> Found {
    let broker = Script::start(left.broker_messages.clone(), left.stands.clone(), false);
    let mut gateway = gateway(&broker, false);
    copy(&left.gateway.path("weir-data"), &gateway.path("weir-data"));
    case.files.iter().for_each(|file| case.damage.apply(&gateway.path("weir-data").join(file)));
    gateway.start();
    let mut found = Found {
        ledger: Ledger::default(),
        log: String::new(),
        end: None,
        damage: BTreeMap::new(),
        damaged_records: 0.0,
        error: String::new(),
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let numbers = gateway.numbers();
        if let Some(numbers) = &numbers
            && broker.is_done()
            && numbers.get("window_cells") == 0.0
            && LANES.iter().all(|lane| numbers.waiting(lane) == 0.0)
        {
            let of = |line: &str| {
                let (kind, value) = line.strip_prefix("weir_store_found{kind=\"")?.split_once("\"} ")?;
                Some((kind.to_owned(), value.parse().ok()?))
            };
            found.damage = numbers.text.lines().filter_map(of).collect();
            let of_lane =
                |lane: &&str| numbers.get(&format!("lane_records_total{{lane=\"{lane}\",outcome=\"damaged\"}}"));
            found.damaged_records = LANES.iter().map(|lane| of_lane(&lane)).sum();
            if numbers.get("books_residue") != 0.0 {
                found.error = format!("the books do not balance\n{}", numbers.text);
            }
            found.end = gateway.stop().code();
            break;
        }
        if !gateway.is_up() || until < Instant::now() {
            found.error = "it did not start, or does not get through".to_owned();
            gateway.kill();
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    if gateway.path("upstream").is_dir() {
        found.ledger.take_files(&gateway.path("upstream"));
    }
    found.log = gateway.log();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else if source.is_file() {
            // The control socket that the killed process left is none.
            fs::copy(&source, &target).unwrap();
        }
    }
}

fn records(ledger: &Ledger) -> u64 {
    LANES.iter().map(|lane| ledger.count_of(lane)).sum()
}

/// Readings, outputs and dead letters that are not upstream; and those that are there too often or never were.
fn compare(left: &Left, ledger: &Ledger) -> (u64, Vec<String>) {
    let mut lies = ledger.faults.clone();
    let mut missing = 0;
    for meter in site::METERS {
        for (key, whole) in left.whole.meter(meter) {
            let found = ledger.meter(meter).find(|(found, _)| *found == key).map_or(0, |(_, stats)| stats.count);
            missing += whole.count.saturating_sub(found);
            if whole.count < found {
                lies.push(format!("{meter} of {key}: {found} readings, {} is the truth", whole.count));
            }
            if key.starts_with("later") && found != whole.count {
                lies.push(format!("{meter} of {key}: {found} readings, all {} came after the damage", whole.count));
            }
        }
    }
    for lane in LANES {
        missing += left.whole.contents(lane).difference(&ledger.contents(lane)).count() as u64;
    }
    (missing, lies)
}

fn examine(left: &Left, case: &Case, tally: &Mutex<Tally>) {
    let found = start_on(left, case);
    let (missing, lies) = compare(left, &found.ledger);
    let is_told = found.is_told();
    let row_name = if case.files.len() == 1 { row(&case.name) } else { format!("{} ({:?})", case.name, case.damage) };
    let context = format!("{}, {:?}", case.name, case.damage);
    let mut tally = tally.lock().unwrap();
    let row = tally.rows.entry(row_name).or_default();
    row.starts += 1;
    row.records += missing;
    let is_failed = found.end.is_none();
    let is_silent = !is_failed && missing > 0 && !is_told;
    row.failed += usize::from(is_failed);
    row.lies += usize::from(!lies.is_empty());
    row.silent += usize::from(is_silent);
    row.told += usize::from(missing > 0 && is_told);
    row.harmless += usize::from(!is_failed && missing == 0);
    let mut faults = Vec::new();
    if is_failed || !found.error.is_empty() {
        faults.push(format!("{context}: {}\n{}", found.error, found.log));
    }
    if is_silent {
        let unfinished = if found.unfinished() { " (it speaks of unfinished writes)" } else { "" };
        faults.push(format!("{context}: {missing} are missing, and nothing is said{unfinished}\n{}", found.log));
    }
    if let Some(lie) = lies.first() {
        faults.push(format!("{context}: {} lies, the first: {lie}\n{}", lies.len(), found.log));
    }
    let wanted = if is_lost_at_start(&found) { 65 } else { 0 };
    if found.end.is_some_and(|end| end != wanted) {
        faults.push(format!("{context}: exit code {:?}, {wanted} expected\n{}", found.end, found.log));
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    tally.faults.extend(faults);
}

/// What the exit code must tell.
fn is_lost_at_start(found: &Found) -> bool {
    let count = |kind: &str| found.damage.get(kind).copied().unwrap_or(0.0);
    // What is healed costs nothing; commits that are lost at the end cannot be.
    let damaged = count("bad-frames") + count("quarantined-bytes") > 0.0 && count("healed") == 0.0;
    damaged || count("cut-commits") + count("lost-snapshot") + count("data-gone") > 0.0
}

/// The row of a file: its folder, or itself.
fn row(name: &str) -> String {
    match name.split('/').collect::<Vec<_>>()[..] {
        [file] => file.to_owned(),
        [folder, file] if folder == "state" || folder == "snapshot" => {
            if file.ends_with(".snap") {
                "snapshot/NUMBER.snap".to_owned()
            } else {
                format!("{folder}/{file}")
            }
        }
        [folder, ..] => folder.to_owned(),
        [] => String::new(),
    }
}
