//! Metrics: the gateway's numbers in Prometheus' text format (exposition format 0.0.4), over HTTP when asked for.
//!
//! - Off unless `--metrics ADDR` is given; then `GET /metrics` and `GET /health` answer, anything else is 404.
//! - A scrape is answered by the loop between two turns: numbers of one answer belong together. Health is the watch's word, and
//!   comes alone when the loop does not answer. `/health` answers 200, or 503 when the gateway makes no progress.
//! - Connections are bounded; a slow reader is closed.

use std::fmt::Write as _;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::watch::{SharedVerdict, Verdict};
use crate::books::DropReason;
use crate::function::ErrorKind;
use crate::gateway::Status;
use crate::health::State;
use crate::shell::sink::SinkStatus;
use crate::store::{Report, Stats};

/// A request for the text: the loop answers it.
pub type Scrape = oneshot::Sender<String>;

/// Connections at once.
const CONNECTIONS_MAX: usize = 4;
/// Longest head of a request, and what is buffered of it.
const HEAD_MAX: usize = 16 * 1024;
/// A request must have come within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The loop's part of the page must come within this.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the shell adds to the gateway's own numbers.
#[derive(Clone, Debug, Default)]
pub struct ShellNumbers {
    /// The link to the broker: (up, connections so far).
    pub broker: (bool, u64),
    /// Subscriptions that the broker refuses.
    pub refused: u64,
    /// Sinks: name, up, and what they did since the start.
    pub sinks: Vec<(String, bool, SinkStatus)>,
    /// What the start found on flash.
    pub found: Vec<(&'static str, u64)>,
    /// Commits, file syncs, and bytes written to journal, lanes, snapshots and keyed state.
    pub flash: Vec<(&'static str, u64)>,
    /// How long opening the store took, microseconds.
    pub open_us: u64,
    /// Resident memory, bytes.
    pub rss: u64,
    /// What the budget says the process may take, bytes.
    pub rss_planned: u64,
    /// Microseconds since the start.
    pub uptime_us: u64,
}

/// Serves `listener` until the process ends; each request is passed to `scrapes`.
pub async fn serve(listener: TcpListener, scrapes: mpsc::Sender<Scrape>, verdict: SharedVerdict) {
    let connections = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (scrapes, verdict) = (scrapes.clone(), verdict.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, scrapes.clone(), verdict.get()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(2 * HEADER_TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    scrapes: mpsc::Sender<Scrape>,
    verdict: Verdict,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let (reply, text) = oneshot::channel();
            let page = async {
                scrapes.send(reply).await.ok()?;
                text.await.ok()
            };
            let page = tokio::time::timeout(PAGE_TIMEOUT, page).await.ok().flatten();
            (StatusCode::OK, page.unwrap_or_default() + &health(&verdict))
        }
        (&Method::GET, "/health") => {
            let failed = verdict.state == State::Failed;
            let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            (status, format!("{}\n", verdict.document()))
        }
        _ => (StatusCode::NOT_FOUND, "only GET /metrics and GET /health are served here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let text_format = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, text_format);
    Ok(response)
}

/// The watch's part of the page.
fn health(verdict: &Verdict) -> String {
    let mut text = Text(String::new());
    text.family("health", "gauge", "1 for the state that the gateway is in");
    for state in State::ALL {
        let labels = format!("state=\"{}\"", state.name());
        text.sample("health", &labels, u8::from(state == verdict.state));
    }
    text.family("health_reason", "gauge", "1 for every reason why the gateway is not ready");
    for reason in &verdict.reasons {
        let labels = format!("reason=\"{}\",subject=\"{}\"", reason.kind, reason.subject);
        text.sample("health_reason", &labels, 1);
    }
    text.0
}

/// Names are fixed, label values come from the configuration's names, which need no escaping.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP weir_{name} {help}\n# TYPE weir_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl core::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "weir_{name} {value}"),
            _ => writeln!(self.0, "weir_{name}{{{labels}}} {value}"),
        };
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl core::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

/// The whole page.
#[must_use]
pub fn text(status: &Status<'_>, shell: &ShellNumbers) -> String {
    let mut text = Text(String::with_capacity(8 * 1024));
    books(&mut text, status);
    lanes(&mut text, status);
    functions(&mut text, status);
    process(&mut text, status, shell);
    text.0
}

fn books(text: &mut Text, status: &Status<'_>) {
    let books = status.books;
    text.single(
        "messages_received_total",
        "counter",
        "Messages received, recognised duplicates left out",
        books.received,
    );
    text.single(
        "messages_duplicate_total",
        "counter",
        "Redeliveries recognised and acknowledged again",
        books.duplicates,
    );
    text.single(
        "messages_replayed_total",
        "counter",
        "Dead letters handled once more: each is a further message among the settled",
        books.replayed,
    );
    text.family("messages_settled_total", "counter", "Messages by where they went");
    for (fate, count) in [
        ("delivered", books.delivered),
        ("filtered", books.filtered),
        ("aggregated", books.aggregated),
        ("dead-lettered", books.dead_lettered),
        ("expired", books.expired),
    ] {
        text.sample("messages_settled_total", &format!("fate=\"{fate}\""), count);
    }
    text.family("messages_dropped_total", "counter", "Messages that are gone, by reason");
    for reason in DropReason::ALL {
        text.sample("messages_dropped_total", &format!("reason=\"{}\"", reason.name()), books.dropped[reason as usize]);
    }
    text.single("messages_pending", "gauge", "Messages that wait in a lane", status.pending);
    text.single("books_residue", "gauge", "Messages not accounted for: 0, or there is a defect", status.residue);
}

fn lanes(text: &mut Text, status: &Status<'_>) {
    text.family("lane_records_pending", "gauge", "Records that wait in the lane");
    for lane in &status.lanes {
        text.sample("lane_records_pending", &format!("lane=\"{}\"", lane.name), lane.records);
    }
    text.family("lane_losses_untold", "gauge", "Records that left undelivered, of which upstream is still to be told");
    for lane in &status.lanes {
        text.sample("lane_losses_untold", &format!("lane=\"{}\"", lane.name), lane.losses_untold);
    }
    text.family("lane_bytes", "gauge", "Bytes of the lane on flash");
    for lane in &status.lanes {
        text.sample("lane_bytes", &format!("lane=\"{}\"", lane.name), lane.bytes);
    }
    text.family("lane_bytes_max", "gauge", "The lane's bound");
    for lane in &status.lanes {
        text.sample("lane_bytes_max", &format!("lane=\"{}\"", lane.name), lane.bytes_max);
    }
    text.family("lane_records_total", "counter", "Records by how they left the lane");
    for lane in &status.lanes {
        let labels = |outcome: &str| format!("lane=\"{}\",outcome=\"{outcome}\"", lane.name);
        text.sample("lane_records_total", &labels("delivered"), lane.totals.delivered);
        text.sample("lane_records_total", &labels("expired"), lane.totals.expired);
        text.sample("lane_records_total", &labels("rolled-up"), lane.totals.rolled_up);
        for reason in DropReason::ALL {
            text.sample("lane_records_total", &labels(reason.name()), lane.totals.dropped[reason as usize]);
        }
    }
}

fn functions(text: &mut Text, status: &Status<'_>) {
    let per_function = |text: &mut Text,
                        name: &str,
                        kind: &str,
                        help: &str,
                        value: &dyn Fn(&crate::gateway::FunctionStatus<'_>) -> u64| {
        text.family(name, kind, help);
        for function in &status.functions {
            text.sample(name, &format!("function=\"{}\"", function.name), value(function));
        }
    };
    per_function(text, "function_invocations_total", "counter", "Handler calls", &|f| f.usage.invocations);
    per_function(text, "function_fuel_total", "counter", "Fuel spent, also by calls that failed", &|f| f.usage.fuel);
    per_function(text, "function_time_microseconds_total", "counter", "Time spent in handlers", &|f| f.usage.time_us);
    per_function(text, "function_memory_peak_bytes", "gauge", "Largest linear memory", &|f| f.usage.peak_memory);
    per_function(text, "function_instances_total", "counter", "Instances made anew", &|f| f.usage.instances);
    per_function(text, "function_bytes_in_total", "counter", "Bytes of payloads handed in", &|f| f.usage.bytes_in);
    per_function(
        text,
        "function_bytes_out_total",
        "counter",
        "Bytes of topics and payloads put out, kept messages included",
        &|f| f.usage.bytes_out,
    );
    per_function(text, "function_filtered_total", "counter", "Messages turned away by the declarative filter", &|f| {
        f.filtered
    });
    per_function(
        text,
        "function_misfits_total",
        "counter",
        "Fields that were there and of another type than the function reads there",
        &|f| f.misfits,
    );
    per_function(text, "function_state_bytes", "gauge", "Durable state", &|f| f.state_bytes);
    text.family("function_errors_total", "counter", "Failed handler calls, by kind");
    for function in &status.functions {
        for kind in ErrorKind::ALL {
            let labels = format!("function=\"{}\",kind=\"{}\"", function.name, kind.name());
            text.sample("function_errors_total", &labels, function.usage.errors[kind as usize]);
        }
    }
}

fn process(text: &mut Text, status: &Status<'_>, shell: &ShellNumbers) {
    text.single("commits_total", "counter", "Commits since the store was made", status.commit);
    text.single("duplicate_marks", "gauge", "Marks of handled messages that the broker may send again", status.marks);
    text.single("window_cells", "gauge", "Cells of open windows", status.cells);
    text.single("window_late_total", "counter", "Values that came after their window had closed", status.late);
    text.single("window_overflow_total", "counter", "Values folded into an overflow key", status.overflow);
    text.single(
        "event_time_skewed_total",
        "counter",
        "Event times not believed; the arrival time was taken",
        status.skewed,
    );
    text.single(
        "chain_limited_total",
        "counter",
        "Outputs stopped because their chain was too long",
        status.hop_limited,
    );
    text.single("dead_letters_lost_total", "counter", "Dead letters that found no room", status.dead_letters_lost);
    text.single("aggregates_lost_total", "counter", "Aggregates that no lane takes", status.aggregates_lost);
    text.single("broker_up", "gauge", "Whether the link to the broker is up", u8::from(shell.broker.0));
    text.single("subscriptions_refused", "gauge", "Filters that the broker refuses to subscribe", shell.refused);
    text.single("broker_connections_total", "counter", "Connections made to the broker", shell.broker.1);
    text.family("sink_up", "gauge", "Whether the sink's upstream is reached");
    for (name, up, _) in &shell.sinks {
        text.sample("sink_up", &format!("sink=\"{name}\""), u8::from(*up));
    }
    sinks(text, shell);
    text.family(
        "store_found",
        "gauge",
        "What the start found on flash, by kind; damage, if not replayed or unfinished",
    );
    for (kind, count) in &shell.found {
        text.sample("store_found", &format!("kind=\"{kind}\""), count);
    }
    text.family("flash_total", "counter", "Commits, syncs and bytes written since the start, by kind");
    for (kind, count) in &shell.flash {
        text.sample("flash_total", &format!("kind=\"{kind}\""), count);
    }
    let open_seconds = shell.open_us as f64 / 1e6;
    text.single("store_open_seconds", "gauge", "How long opening the store took at the start", open_seconds);
    text.single("process_resident_bytes", "gauge", "Resident memory", shell.rss);
    text.single("process_planned_bytes", "gauge", "Memory that the plan of `weir check` grants", shell.rss_planned);
    let headroom = i128::from(shell.rss_planned) - i128::from(shell.rss);
    text.single("process_headroom_bytes", "gauge", "Planned less resident memory: below 0 the plan is wrong", headroom);
    text.single("uptime_seconds", "gauge", "Time since the start", shell.uptime_us / 1_000_000);
}

fn sinks(text: &mut Text, shell: &ShellNumbers) {
    type Number = fn(&SinkStatus) -> u64;
    let families: [(&str, &str, Number); 5] = [
        ("delivered", "Records delivered", |status| status.delivered),
        ("undeliverable", "Records that upstream will never take", |status| status.undeliverable),
        ("refused", "Publishes that the broker refused for now", |status| status.refused),
        ("without_subscriber", "Publishes that the broker took although nobody is subscribed", |status| {
            status.without_subscriber
        }),
        ("bytes", "Bytes of documents handed over, also again", |status| status.bytes),
    ];
    for (name, help, number) in families {
        let name = format!("sink_{name}_total");
        text.family(&name, "counter", help);
        for (sink, _, status) in &shell.sinks {
            text.sample(&name, &format!("sink=\"{sink}\""), number(status));
        }
    }
}

/// What the start found, under its names on the page.
#[must_use]
pub fn found(report: &Report) -> Vec<(&'static str, u64)> {
    vec![
        ("replayed", report.replayed),
        ("unfinished", report.torn_tails + report.uncommitted_frames),
        ("bad-frames", report.bad_frames),
        ("cut-commits", report.cut_commits),
        ("lost-records", report.lost_records),
        ("bad-snapshots", report.bad_snapshots),
        ("quarantined-bytes", report.quarantined_bytes),
        ("healed", u64::from(report.healed)),
        ("lost-snapshot", u64::from(report.empty_but_expected)),
        ("data-gone", u64::from(report.data_gone)),
    ]
}

/// The store's numbers under their names on the page.
#[must_use]
pub fn flash(stats: &Stats) -> Vec<(&'static str, u64)> {
    vec![
        ("commits", stats.commits),
        ("commits-full", stats.commits_full),
        ("syncs", stats.syncs),
        ("journal-bytes", stats.journal_bytes),
        ("lane-bytes", stats.lane_bytes),
        ("snapshot-bytes", stats.snapshot_bytes),
        ("snapshots", stats.snapshots),
        ("fill-bytes", stats.fill_bytes),
        ("keyed-bytes", stats.keyed_bytes),
        ("keyed-failures", stats.keyed_failures),
        ("bad-frames", stats.bad_frames),
    ]
}

/// Resident memory of this process in bytes, from the kernel; 0 where it does not tell.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
