//! `weir-sim publish`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lexopt::prelude::*;
use tokio::sync::watch;
use weir::config::Qos;
use weir_simulator::publish::{Broker, Options, Progress, Published, Version, publish};

use super::{Fault, parse_span, read_scenario};

const HELP: &str = "\
weir-sim publish --broker URL --scenario FILE: publish a fleet to a broker

  --broker URL        mqtt://[USER[:PASSWORD]@]HOST[:PORT]; the password may stand in WEIR_SIM_PASSWORD instead
  --scenario FILE     what to send (see weir-sim scenario --print)
  --seed N            another seed than the scenario's
  --for TIME          take readings for so long (20s, 5min)
  --count N           stop after so many messages
  --rate N            messages a second, all devices together (\"max\": as fast as the broker takes them)
  --qos N             0, 1 or 2 for all devices
  --connections N     TCP connections that share the devices (default 4)
  --in-flight N       unacknowledged messages of a connection (default 500, less if the broker says so)
  --mqtt 5|3.1.1      MQTT version (default 5)
  --patience TIME     how long the broker may be away (default 30s)
  --truth FILE        write the true totals of what was acknowledged, as JSON
  --quiet             no line a second

Without --for, --count and a duration in the scenario it runs until ctrl-c, which waits for the outstanding acknowledgements.
";

struct Command {
    scenario: PathBuf,
    seed: Option<u64>,
    duration_ms: Option<u64>,
    rate: Option<f64>,
    qos: Option<Qos>,
    truth: Option<PathBuf>,
    is_quiet: bool,
    options: Options,
}

pub fn run(parser: lexopt::Parser) -> Result<ExitCode, Fault> {
    let Some(command) = parse(parser)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let mut scenario = read_scenario(&command.scenario)?;
    scenario.duration_ms = command.duration_ms.or(scenario.duration_ms);
    if let Some(rate) = command.rate {
        scenario.set_rate(rate);
    }
    if let Some(qos) = command.qos {
        scenario.set_qos(qos);
    }
    let seed = command.seed.unwrap_or(scenario.seed);
    let progress = Arc::new(Progress::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let published = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(watch_over(Arc::clone(&progress), stop, command.is_quiet));
        let published = publish(&scenario, seed, &command.options, Arc::clone(&progress), stopped).await;
        watching.abort();
        published
    });
    progress.take_notes().iter().for_each(|note| eprintln!("{note}"));
    if let Some(path) = &command.truth {
        let text = serde_json::to_string_pretty(&published.truth)?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    report(&published, &progress);
    Ok(if published.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Command>, Fault> {
    let (mut broker, mut scenario, mut version) = (None::<Broker>, None, Version::V5);
    let (mut seed, mut duration_ms, mut rate, mut qos, mut truth, mut is_quiet) = (None, None, None, None, None, false);
    let (mut count, mut connections, mut in_flight, mut patience_ms, mut is_paced) = (None, 4, 500, 30_000, true);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("broker") => broker = Some(parser.value()?.string()?.parse()?),
            Long("scenario") => scenario = Some(PathBuf::from(parser.value()?)),
            Long("seed") => seed = Some(parser.value()?.parse()?),
            Long("for") => duration_ms = Some(parse_span(&parser.value()?.string()?)?),
            Long("count") => count = Some(parser.value()?.parse()?),
            Long("rate") => match parser.value()?.string()?.as_str() {
                "max" => is_paced = false,
                text => rate = Some(parse_rate(text)?),
            },
            Long("qos") => qos = Some(parse_qos(&parser.value()?.string()?)?),
            Long("connections") => connections = parser.value()?.parse()?,
            Long("in-flight") => in_flight = parser.value()?.parse()?,
            Long("mqtt") => version = parse_version(&parser.value()?.string()?)?,
            Long("patience") => patience_ms = parse_span(&parser.value()?.string()?)?,
            Long("truth") => truth = Some(PathBuf::from(parser.value()?)),
            Long("quiet") | Short('q') => is_quiet = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let mut broker = broker.ok_or("publish wants --broker mqtt://HOST[:PORT]")?;
    let scenario = scenario.ok_or("publish wants --scenario FILE; weir-sim scenario --print shows one")?;
    broker.version = version;
    if let (Some(login), Ok(password)) = (&mut broker.login, std::env::var("WEIR_SIM_PASSWORD")) {
        login.1 = password;
    }
    let options = Options { connections, in_flight, count, is_paced, patience_ms, ..Options::new(broker) };
    Ok(Some(Command { scenario, seed, duration_ms, rate, qos, truth, is_quiet, options }))
}

fn parse_rate(text: &str) -> Result<f64, Fault> {
    let rate: f64 =
        text.parse().map_err(|_| format!("--rate {text}: wants a number of messages a second, or \"max\""))?;
    if (0.001..=1e6).contains(&rate) { Ok(rate) } else { Err(format!("--rate {text}: wants 0.001 to 1000000").into()) }
}

fn parse_qos(text: &str) -> Result<Qos, Fault> {
    match text {
        "0" => Ok(Qos::AtMostOnce),
        "1" => Ok(Qos::AtLeastOnce),
        "2" => Ok(Qos::ExactlyOnce),
        _ => Err(format!("--qos {text}: wants 0, 1 or 2").into()),
    }
}

fn parse_version(text: &str) -> Result<Version, Fault> {
    match text {
        "5" => Ok(Version::V5),
        "3.1.1" => Ok(Version::V311),
        _ => Err(format!("--mqtt {text}: wants 5 or 3.1.1").into()),
    }
}

/// Says once a second how it goes, and stops at ctrl-c.
async fn watch_over(progress: Arc<Progress>, stop: watch::Sender<bool>, is_quiet: bool) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut before = 0;
    loop {
        tokio::select! {
            _ = second.tick() => {
                progress.take_notes().iter().for_each(|note| eprintln!("{note}"));
                let (sent, acknowledged) = (progress.sent.load(Relaxed), progress.acknowledged.load(Relaxed));
                if !is_quiet {
                    eprintln!("{sent:>10} sent, {acknowledged:>10} acknowledged, {:>7}/s", acknowledged - before);
                }
                before = acknowledged;
            }
            _ = tokio::signal::ctrl_c() => {
                eprintln!("stopping: waiting for the outstanding acknowledgements");
                let _ = stop.send(true);
            }
        }
    }
}

fn report(published: &Published, progress: &Progress) {
    let truth = &published.truth;
    let seconds = published.elapsed_us as f64 / 1e6;
    println!("{} messages in {seconds:.1} s, seed {}", truth.published(), truth.seed);
    for (meter, totals) in truth.meters() {
        println!("  {meter:<28} {:>10} readings of {:>6} devices, sum {}", totals.messages, totals.devices, totals.sum);
    }
    let sum = |pick: fn(&weir_simulator::truth::DeviceTruth) -> u64| truth.devices.iter().map(pick).sum::<u64>();
    for (what, count) in [
        ("malformed", truth.malformed()),
        ("of the wrong type", sum(|device| device.wrong_type)),
        ("sent twice by the device", sum(|device| device.duplicates)),
        ("late", sum(|device| device.late)),
        ("out of order", sum(|device| device.out_of_order)),
        ("sent again after a lost connection (may be double)", sum(|device| device.resent.messages)),
        ("never acknowledged", truth.unconfirmed()),
        ("refused by the broker", progress.refused.load(Relaxed)),
        ("thrown away by the broker: nobody subscribes", progress.no_subscribers.load(Relaxed)),
    ] {
        if count > 0 {
            println!("  {count} {what}");
        }
    }
    let behind_ms = progress.behind_us_max.load(Relaxed) / 1000;
    if behind_ms > 100 {
        println!("  up to {behind_ms} ms behind the pace");
    }
    if let Some(error) = &published.error {
        eprintln!("weir-sim: {error}");
    }
}
