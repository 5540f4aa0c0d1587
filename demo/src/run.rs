//! The run: everything is started, the script is played, the end is waited for, the summary is drawn up.
//!
//! - Whatever is dropped here ends what it started: the gateway's process, the picture on the terminal, the folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use weir_simulator::compare::Comparison;
use weir_simulator::publish::{Broker as Address, Options as Publishing, Progress, Published, publish};
use weir_simulator::scenario::Scenario;

use crate::broker::{Broker, free_address};
use crate::collector::Collector;
use crate::folder::Folder;
use crate::gateway::Gateway;
use crate::link::Link;
use crate::options::Options;
use crate::page::Page;
use crate::script::{KILL_PATIENCE_MS, Step, steps};
use crate::session::Session;
use crate::state::{Arrived, Counted, Phase, State};
use crate::summary::Ended;
use crate::view::View;
use crate::view::text::grouped;

const FLEET: &str = include_str!("../fleet.toml");
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at the gateway's metrics.
const LOOK_MS: u64 = 250;
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Nothing moves for so long: it will not any more.
const SETTLE_PATIENCE: Duration = Duration::from_secs(15);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is as promised.
    Passed,
    /// Something differs; it was said what.
    Differs,
    /// Ctrl-C or a signal.
    Interrupted,
}

/// Runs the demo and prints its summary.
///
/// # Errors
/// It could not be set up, or one of its parts broke; in words.
pub async fn run(options: &Options) -> Result<Outcome, String> {
    tokio::select! {
        biased;
        () = interrupted() => Ok(Outcome::Interrupted),
        outcome = play(options) => outcome,
    }
}

/// SIGINT, SIGTERM or SIGHUP.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => core::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

async fn play(options: &Options) -> Result<Outcome, String> {
    let scenario = scenario(options)?;
    let folder = Folder::make(options.keep)?;
    let stage = Stage::set(options, &folder).await?;
    let mut play = Play::new(options, &scenario, stage);
    let published = match play.all(&scenario, options).await {
        Ok(published) => published,
        Err(fault) => {
            let words = play.stage.gateway.last_words();
            drop(play);
            let kept = folder.leave();
            let words = if words.is_empty() { words } else { format!("\nthe gateway's last words:\n{words}") };
            return Err(format!("{fault}{words}\nconfiguration, data and log: {}", kept.display()));
        }
    };
    finish(play, &published, folder, options).await
}

fn scenario(options: &Options) -> Result<Scenario, String> {
    let mut scenario = Scenario::parse("fleet.toml", FLEET).map_err(|error| error.to_string())?;
    scenario.duration_ms = Some(options.for_ms);
    if let Some(rate) = options.rate {
        scenario.set_rate(rate);
    }
    Ok(scenario)
}

/// Brokers, links and the gateway.
struct Stage {
    devices: Broker,
    upstream: Broker,
    session: Session,
    link: Link,
    collector: Collector,
    gateway: Gateway,
}

impl Stage {
    async fn set(options: &Options, folder: &Folder) -> Result<Self, String> {
        let no_port = |error: std::io::Error| format!("no free port on 127.0.0.1: {error}");
        let weir = weir(options)?;
        let devices = Broker::start("devices").await.map_err(|error| error.to_string())?;
        let upstream = Broker::start("upstream").await.map_err(|error| error.to_string())?;
        let session = Session::open(devices.address).await.map_err(no_port)?;
        let link = Link::open(upstream.address).await.map_err(no_port)?;
        let collector = Collector::start(upstream.address).await?;
        let config = folder.configure(session.address, link.address, &functions(options))?;
        let metrics = free_address().await.map_err(no_port)?;
        let gateway = Gateway::new(weir, config, metrics, folder.log());
        Ok(Self { devices, upstream, session, link, collector, gateway })
    }
}

/// The gateway's binary: cargo puts it beside this one.
fn weir(options: &Options) -> Result<PathBuf, String> {
    let beside = || std::env::current_exe().ok().map(|exe| exe.with_file_name("weir"));
    let file = options.weir.clone().or_else(beside).unwrap_or_else(|| "weir".into());
    if file.is_file() {
        return Ok(file);
    }
    Err(format!("{} is not there; `cargo build --bin weir` makes it, `cargo xtask demo` as well", file.display()))
}

fn functions(options: &Options) -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/functions");
    options.functions.clone().unwrap_or_else(built)
}

struct Play {
    stage: Stage,
    state: State,
    view: View,
    progress: Arc<Progress>,
    steps: std::iter::Peekable<std::vec::IntoIter<(u64, Step)>>,
    /// The start of the fleet.
    start: Instant,
    looking: Option<JoinHandle<Option<Page>>>,
    looked_at_ms: u64,
    /// While the gateway comes back: messages delivered again, and those of them that it knew.
    returning: Option<(u64, u64)>,
}

impl Play {
    fn new(options: &Options, scenario: &Scenario, stage: Stage) -> Self {
        let devices = scenario.fleets.iter().map(|fleet| fleet.devices).sum();
        Self {
            stage,
            state: State { for_ms: options.for_ms, devices, link_up: true, ..State::default() },
            view: View::new(options.plain),
            progress: Arc::default(),
            steps: steps(options).into_iter().peekable(),
            start: Instant::now(),
            looking: None,
            looked_at_ms: 0,
            returning: None,
        }
    }

    /// From the start of the gateway to the last record upstream.
    async fn all(&mut self, scenario: &Scenario, options: &Options) -> Result<Published, String> {
        self.start_gateway()?;
        self.ready().await?;
        self.start = Instant::now();
        self.state.phase = Phase::Running;
        self.state.tell(false, format!("{} devices begin to publish", self.state.devices));
        let (_stop, stopped) = watch::channel(false);
        let fleet = {
            let address: Address = format!("mqtt://{}", self.stage.devices.address)
                .parse()
                .map_err(|error| format!("the devices' broker: {error}"))?;
            let (scenario, progress) = (scenario.clone(), Arc::clone(&self.progress));
            let seed = options.seed.unwrap_or(scenario.seed);
            tokio::spawn(async move { publish(&scenario, seed, &Publishing::new(address), progress, stopped).await })
        };
        let mut tick = interval(TICK);
        while !(fleet.is_finished() && self.steps.peek().is_none()) {
            tick.tick().await;
            self.tick().await?;
        }
        let published = fleet.await.map_err(|error| format!("the fleet broke: {error}"))?;
        self.state.phase = Phase::Settling;
        self.state.tell(false, "the devices are done; windows close, lanes drain");
        self.settle(&published).await?;
        Ok(published)
    }

    fn start_gateway(&mut self) -> Result<(), String> {
        self.stage.gateway.start()?;
        self.state.gateway_up = true;
        Ok(())
    }

    /// Waits until the gateway has subscribed and reaches its upstream.
    async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
        let mut tick = interval(TICK / 4);
        while Instant::now() < deadline {
            tick.tick().await;
            self.alive()?;
            let subscribed = 0 < self.stage.session.seen.subscribed.load(Relaxed);
            if let Some(page) = Page::fetch(self.stage.gateway.metrics).await {
                let ready = subscribed && page.broker_up && page.sink_up;
                self.state.look(page);
                if ready {
                    return Ok(());
                }
            }
            self.view.show(&self.state);
        }
        Err(format!("the gateway is not ready after {} s", START_PATIENCE.as_secs()))
    }

    fn alive(&mut self) -> Result<(), String> {
        if let Some(status) = self.stage.gateway.ended() {
            return Err(format!("the gateway has ended by itself: {status}"));
        }
        if !self.stage.devices.is_alive() || !self.stage.upstream.is_alive() {
            return Err("an embedded broker has ended by itself".to_owned());
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), String> {
        self.alive()?;
        self.state.at_ms = millis(self.start.elapsed());
        let now = self.state.at_ms;
        let committed = 0 < self.stage.session.seen.lost.load(Relaxed);
        let is_due = |(at, step): &(u64, Step)| match step {
            Step::Kill if !committed => at + KILL_PATIENCE_MS <= now,
            _ => *at <= now,
        };
        while let Some((_, step)) = self.steps.next_if(is_due) {
            self.step(step)?;
        }
        self.look().await;
        self.count();
        self.progress.take_notes().into_iter().for_each(|note| self.state.tell(true, format!("devices: {note}")));
        self.view.show(&self.state);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        let Self { stage, state, .. } = self;
        match step {
            Step::CutLink => {
                stage.link.set_up(false);
                state.link_up = false;
                state.tell(true, "the link to the upstream is cut: records wait on flash");
            }
            Step::MendLink => {
                stage.link.set_up(true);
                state.link_up = true;
                let waiting = grouped(state.page.waiting());
                state.tell(false, format!("the link is back: {waiting} records may go"));
            }
            Step::LoseAcks => {
                stage.session.lose();
                state.tell(true, "acknowledgements get lost on their way to the broker");
            }
            Step::Kill => {
                stage.gateway.kill();
                stage.session.cut();
                state.kills += 1;
                state.process_ended();
                self.looking.take().inspect(JoinHandle::abort);
                let lost = grouped(stage.session.seen.lost.load(Relaxed));
                state.tell(true, format!("kill -9: {lost} messages are committed, and the broker does not know"));
            }
            Step::Restart => {
                self.start_gateway()?;
                self.returning = Some((0, 0));
                self.state.tell(false, "the gateway is started again and reads its journal");
            }
        }
        Ok(())
    }

    /// Takes the answer to the last look at the gateway, and asks again.
    async fn look(&mut self) {
        if self.looking.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(looking) = self.looking.take()
            && let Ok(Some(page)) = looking.await
        {
            self.state.look(page);
            self.returned();
        }
        let due = self.looked_at_ms + LOOK_MS <= self.state.at_ms;
        if due && self.state.gateway_up && self.looking.is_none() {
            self.looked_at_ms = self.state.at_ms;
            self.looking = Some(tokio::spawn(Page::fetch(self.stage.gateway.metrics)));
        }
    }

    /// Tells of the redelivery once it is over: when two looks see the same of it.
    fn returned(&mut self) {
        let seen = (self.stage.session.seen.redelivered.load(Relaxed), self.state.page.books.duplicates);
        if self.returning.is_some_and(|before| before == seen && 0 < seen.0) {
            self.returning = None;
            let (again, known) = (grouped(seen.0), grouped(seen.1));
            self.state
                .tell(false, format!("the broker has delivered {again} messages again; {known} were known already"));
        } else if self.returning.is_some() {
            self.returning = Some(seen);
        }
    }

    fn count(&mut self) {
        let Self { stage, state, .. } = self;
        state.published = self.progress.acknowledged.load(Relaxed);
        state.redelivered = stage.session.seen.redelivered.load(Relaxed);
        let upstream = stage.collector.upstream();
        let [aggregates, messages, dead_letters, losses, usage] =
            ["aggregate", "message", "dead-letter", "loss", "usage"].map(|kind| upstream.records(kind));
        let records = aggregates + messages + dead_letters + losses + usage;
        state.arrived = Arrived { records, aggregates, messages, dead_letters, repeated: upstream.repeated };
        drop(upstream);
        state.rates.sample(state.at_ms, Counted { published: state.published, arrived: records });
        state.rate_max = state.rate_max.max(state.rates.published);
        if !state.link_up {
            state.outage_ms += millis(TICK);
        }
    }

    /// Waits until everything is upstream, or nothing moves any more.
    async fn settle(&mut self, published: &Published) -> Result<(), String> {
        let mut tick = interval(TICK);
        let (mut moved, mut before) = (Instant::now(), (0, 0, 0, 0));
        loop {
            tick.tick().await;
            self.tick().await?;
            let books = &self.state.page.books;
            let now = (books.received, books.pending, self.state.page.waiting(), self.state.arrived.records);
            if now != before {
                (before, moved) = (now, Instant::now());
            }
            if self.is_settled(published) {
                // What was compared may be younger than the page: it must hold for one that is younger still.
                self.last_look().await?;
                if self.is_settled(published) {
                    return Ok(());
                }
            }
            if SETTLE_PATIENCE < moved.elapsed() {
                self.state.tell(true, format!("nothing moves any more since {} s", SETTLE_PATIENCE.as_secs()));
                return self.last_look().await;
            }
        }
    }

    /// Whether every message is in the books, no window is open, nothing waits, and upstream has everything.
    fn is_settled(&self, published: &Published) -> bool {
        let page = &self.state.page;
        let done = page.books.received == published.truth.published() && page.books.pending == 0;
        done && page.cells == 0 && page.waiting() == 0 && self.compare(published).is_exact()
    }

    async fn last_look(&mut self) -> Result<(), String> {
        self.looking.take().inspect(JoinHandle::abort);
        let page = Page::fetch(self.stage.gateway.metrics).await;
        self.state.look(page.ok_or("the gateway does not answer")?);
        self.count();
        self.view.show(&self.state);
        Ok(())
    }

    fn compare(&self, published: &Published) -> Comparison {
        Comparison::new(&published.truth, &self.stage.collector.upstream())
    }
}

async fn finish(play: Play, published: &Published, folder: Folder, options: &Options) -> Result<Outcome, String> {
    let comparison = play.compare(published);
    let Play { mut stage, mut state, view, .. } = play;
    let gateway_ended = stage.gateway.stop(STOP_PATIENCE).await;
    state.phase = Phase::Done;
    let mut view = view;
    view.show(&state);
    let retell = view.close();
    let truth = &published.truth;
    let fleet_fault = match &published.error {
        Some(error) => Some(error.to_string()),
        None if 0 < truth.unconfirmed() => Some(format!("{} messages had no acknowledgement", truth.unconfirmed())),
        None => None,
    };
    let (published, malformed) = (truth.published(), truth.malformed());
    let ended = Ended { state: &state, comparison: &comparison, published, malformed, fleet_fault, gateway_ended };
    let json = ended.json();
    print(&ended, retell);
    if let Some(file) = &options.json {
        let text = format!("{json:#}\n");
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if ended.checks().iter().all(|check| check.passed) {
        if options.keep {
            println!("\n  configuration, data and log: {}", folder.path().display());
        }
        return Ok(Outcome::Passed);
    }
    if !comparison.is_exact() {
        println!("\n{comparison}");
    }
    println!("\n  configuration, data and log: {}", folder.leave().display());
    Ok(Outcome::Differs)
}

/// The summary; before it what happened, if that went with the live picture.
fn print(ended: &Ended<'_>, retell: bool) {
    use std::io::{IsTerminal as _, Write as _};
    let stdout = std::io::stdout();
    let colours = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut out = String::new();
    if retell {
        for happened in &ended.state.happened {
            out.push_str(&format!("  {:5.1} s  {}\n", happened.at_ms as f64 / 1000.0, happened.text));
        }
    }
    for line in ended.lines() {
        line.write(usize::MAX, colours, &mut out);
        out.push('\n');
    }
    drop(stdout.lock().write_all(out.as_bytes()));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
