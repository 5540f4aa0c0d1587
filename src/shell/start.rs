//! From an accepted plan to a running gateway: modules, store, gateway, link, sinks, loop.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::clock::{self, Clock};
use super::control;
use super::metrics;
use super::mqtt::{self, Source};
use super::notify::Notify;
use super::orders::Orders;
use super::pulse::Pulse;
use super::run::{Loop, Parts, RunError};
use super::sink::{self, Encode, FileSink, LaneEnds, MqttSink, Sink, SinkEvent, SinkLane};
use super::store::{OpenError, StoreHandle};
use super::watch;
use crate::budget::{Plan, costs};
use crate::config::{Config, SinkConfig, SinkFormat, SinkKind};
use crate::effect::Effects;
use crate::envelope::{self, Origin};
use crate::function::Function;
use crate::gateway::{Gateway, StartError};
use crate::outbox::Outbox;
use crate::record::Record;

/// Why a gateway with an accepted plan did not start, or ended.
#[derive(Debug)]
pub enum Failure {
    /// The data folder cannot be used.
    Store(OpenError),
    /// A module or the configuration changed since it was checked.
    Start(StartError),
    /// The runtime or the metrics address.
    Io(std::io::Error, String),
    /// The store failed while running.
    Run(RunError),
    /// It ended as it was asked to; but at its start, acknowledged data was lost.
    DataLost,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Start(error) => write!(f, "{error}"),
            Self::Io(error, what) => write!(f, "{what}: {error}"),
            Self::Run(error) => write!(f, "{error}"),
            Self::DataLost => f.write_str("ended as asked; but at this start the store had lost data, see above"),
        }
    }
}

impl std::error::Error for Failure {}

/// Events of sinks that wait for the loop.
const SINK_EVENTS_MAX: usize = 64;
/// Metrics requests that wait for the loop.
const SCRAPES_MAX: usize = 4;
/// Orders of the control socket that wait for the loop.
const ORDERS_MAX: usize = 4;

/// Runs the gateway until it is asked to end. `functions` are loaded, in the order of the configuration.
pub fn run(plan: &Plan, functions: Vec<Function>, metrics: Option<SocketAddr>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Io(error, "cannot start the runtime".to_owned()))?;
    runtime.block_on(start(plan, functions, metrics))
}

async fn start(plan: &Plan, functions: Vec<Function>, metrics: Option<SocketAddr>) -> Result<(), Failure> {
    let config = &plan.loaded.config;
    let mut clock = Clock::default();
    let names: Vec<String> = config.lanes.iter().map(|lane| lane.name.clone()).collect();
    let before_us = clock.now().mono_us;
    let (store, recovered, answers) =
        StoreHandle::open(&config.store, &names, costs::DIRTY_BYTES_MAX.as_usize()).map_err(Failure::Store)?;
    let open_us = clock.now().mono_us - before_us;
    let (found, lost) = (metrics::found(&recovered.report), recovered.report.is_loss());
    let mut effects = Effects::default();
    let stopwatch = Box::new(clock.clone());
    let gateway =
        Gateway::new(config, functions, recovered, clock.now(), stopwatch, &mut effects).map_err(Failure::Start)?;
    clock::know(gateway.time(clock.now()).wall_ms);
    let (scrape, scrapes) = mpsc::channel(SCRAPES_MAX);
    let (order, orders) = mpsc::channel(ORDERS_MAX);
    let (pulse, supervisor) = (Arc::new(Pulse::default()), Arc::new(Notify::from_env()));
    let watch = watch::spawn(watch::Parts {
        clock: clock.clone(),
        pulse: pulse.clone(),
        policy: config.health,
        notify: supervisor.clone(),
        http: listen(metrics)?,
        control: listen_for_orders(&config.store.dir),
        scrapes: scrape,
        orders: order,
    });
    let _watch = watch.map_err(|error| Failure::Io(error, "no thread for the watch".to_owned()))?;
    let ends = LaneEnds::new(gateway.outbox().lanes().len());
    let (events, settled) = mpsc::channel(SINK_EVENTS_MAX);
    let sinks = sinks(config, gateway.outbox(), &store, &ends, &events);
    let link = mqtt::spawn(Source {
        connection: config.broker.clone(),
        subscriptions: config.subscriptions(),
        unsubscribed: gateway.subscribed().unsubscribed(),
        fresh: gateway.subscribed().fresh(),
        inbox_max: config.inbox_max,
        seed: seed(),
    });
    log::info!("gateway {} is ready: {} functions, {} lanes", config.id, config.functions.len(), names.len());
    let parts = Parts {
        gateway,
        effects,
        clock,
        link,
        store,
        answers,
        sinks,
        settled,
        events,
        ends,
        scrapes,
        orders: Orders::new(orders),
        pulse,
        supervisor,
        policy: config.commit,
        receive_max: config.broker.in_flight,
        rss_planned: plan.budget.memory.total().0,
        found,
        open_us,
    };
    let ended = Loop::new(parts).run().await.map_err(Failure::Run);
    // Whoever asks from here on is told that nobody runs.
    let _ = std::fs::remove_file(config.store.dir.join(control::SOCKET));
    ended?;
    if lost { Err(Failure::DataLost) } else { Ok(()) }
}

/// Binds the address of metrics and health, if there is one.
fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let failure = |error| Failure::Io(error, format!("--metrics {address}: cannot listen there"));
    let listener: TcpListener = bind().map_err(failure)?;
    let bound = listener.local_addr().map_or_else(|_| address.to_string(), |bound| bound.to_string());
    log::info!("metrics: http://{bound}/metrics, health: http://{bound}/health");
    Ok(Some(listener))
}

/// A file system without sockets costs the tools, not the gateway.
fn listen_for_orders(dir: &Path) -> Option<UnixListener> {
    let listener = control::bind(dir);
    let missed = |error: &std::io::Error| log::warn!("no control socket in {}: {error}", dir.display());
    listener.inspect_err(missed).ok()
}

fn sinks(
    config: &Config,
    outbox: &Outbox,
    store: &StoreHandle,
    ends: &Arc<LaneEnds>,
    events: &mpsc::Sender<SinkEvent>,
) -> Vec<(String, Sink)> {
    let records = Arc::new(store.clone());
    let lanes_of = |sink: &SinkConfig| -> Vec<SinkLane> {
        let lanes = outbox.lanes().iter().enumerate();
        let its = lanes.filter(|(_, lane)| lane.config().sink.as_ref() == Some(&sink.name));
        its.map(|(index, lane)| SinkLane {
            lane: index,
            name: lane.config().name.clone(),
            priority: lane.config().priority,
            head_seq: lane.head_seq(),
        })
        .collect()
    };
    let spawn = |sink: &SinkConfig| match &sink.kind {
        SinkKind::Mqtt { connection, topic_prefix, rate_max } => sink::spawn_mqtt(
            MqttSink {
                name: sink.name.clone(),
                connection: connection.clone(),
                topic_prefix: topic_prefix.clone(),
                gateway: config.id.clone(),
                rate_max: *rate_max,
                encode: encoder(sink.format, config.id.clone()),
                lanes: lanes_of(sink),
                ends: ends.clone(),
                events: events.clone(),
                seed: seed(),
            },
            records.clone(),
        ),
        SinkKind::File { dir, file_bytes_max, files_max } => sink::spawn_file(
            FileSink {
                name: sink.name.clone(),
                dir: dir.clone(),
                file_bytes_max: *file_bytes_max,
                files_max: *files_max,
                encode: encoder(SinkFormat::Json, config.id.clone()),
                lanes: lanes_of(sink),
                ends: ends.clone(),
                events: events.clone(),
            },
            records.clone(),
        ),
    };
    config.sinks.iter().map(|sink| (sink.name.clone(), spawn(sink))).collect()
}

fn encoder(format: SinkFormat, gateway: String) -> Encode {
    Arc::new(move |record: &Record<'_>, lane: &str, sequence: u64, out: &mut Vec<u8>| {
        envelope::write(format, Origin { gateway: &gateway, lane, seq: sequence }, record, out);
    })
}

/// A number that differs between gateways and runs, for jitter.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
