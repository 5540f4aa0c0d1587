//! `weir-sim compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use lexopt::prelude::*;
use tokio::sync::watch;
use weir_simulator::compare::Comparison;
use weir_simulator::publish::{Broker, listen};
use weir_simulator::truth::Truth;
use weir_simulator::upstream::Upstream;

use super::{Fault, parse_span};

const HELP: &str = "\
weir-sim compare --truth FILE --upstream WHERE: compare what was sent with what arrived upstream

  --truth FILE        what weir-sim publish --truth has written
  --upstream WHERE    the folder (or a file) of a file sink; or mqtt://[USER[:PASSWORD]@]HOST[:PORT] of the broker that an
                      mqtt sink publishes to: then start this before the gateway, it listens until all is there
  --topics FILTER     what to subscribe to (default weir/#)
  --wait TIME         how long to listen (default 60s)
  --json FILE         the totals of both sides, as JSON

Exit code 0: every QoS 1 and 2 reading arrived exactly once, or what is more the devices themselves sent twice. 1: not so.
";

pub fn run(mut parser: lexopt::Parser) -> Result<ExitCode, Fault> {
    let (mut truth, mut upstream, mut topics, mut wait_ms, mut json) = (None, None, "weir/#".to_owned(), 60_000, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("truth") => truth = Some(PathBuf::from(parser.value()?)),
            Long("upstream") => upstream = Some(parser.value()?),
            Long("topics") => topics = parser.value()?.string()?,
            Long("wait") => wait_ms = parse_span(&parser.value()?.string()?)?,
            Long("json") => json = Some(PathBuf::from(parser.value()?)),
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let truth = truth.ok_or("compare wants --truth FILE; weir-sim publish --truth FILE writes one")?;
    let upstream = upstream.ok_or("compare wants --upstream DIR or mqtt://HOST")?;
    let listened = match upstream.to_str().filter(|text| text.starts_with("mqtt")) {
        Some(url) => listen_until_all_is_there(&url.parse()?, &topics, wait_ms, &truth)?,
        None => read(Path::new(&upstream))?,
    };
    let truth = read_truth(&truth)?;
    let comparison = Comparison::new(&truth, &listened);
    println!("{comparison}");
    if listened.foreign > 0 {
        println!("{} documents are no records of weir", listened.foreign);
    }
    if let Some(path) = json {
        let totals = serde_json::json!({ "truth": comparison.truth, "upstream": comparison.upstream });
        std::fs::write(&path, format!("{totals:#}\n")).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if comparison.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_truth(path: &Path) -> Result<Truth, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: not a truth file: {error}", path.display()).into())
}

/// Reads a file of a file sink, or all files of its folder.
fn read(path: &Path) -> Result<Upstream, Fault> {
    let in_path = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(in_path)? {
            let file = entry.map_err(in_path)?.path();
            if file.is_file() {
                files.push(file);
            }
        }
    } else {
        files.push(path.to_owned());
    }
    let mut upstream = Upstream::default();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        upstream.take_lines(&bytes);
    }
    Ok(upstream)
}

fn listen_until_all_is_there(broker: &Broker, topics: &str, wait_ms: u64, truth: &Path) -> Result<Upstream, Fault> {
    let upstream = Arc::new(Mutex::new(Upstream::default()));
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let into = Arc::clone(&upstream);
        let take = move |_: &str, payload: &[u8]| {
            if let Ok(mut upstream) = into.lock() {
                upstream.take(payload);
            }
        };
        let listening = listen(broker, topics, take, stopped);
        let waiting = async {
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(wait_ms);
            while tokio::time::Instant::now() < deadline {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                // The truth may still be in the making.
                let Ok(truth) = read_truth(truth) else { continue };
                let is_there = upstream.lock().is_ok_and(|upstream| Comparison::new(&truth, &upstream).is_exact());
                if is_there {
                    break;
                }
            }
            let _ = stop.send(true);
        };
        let (outcome, ()) = tokio::join!(listening, waiting);
        outcome
    });
    outcome?;
    let upstream = upstream.lock().map_err(|_| "the listener has failed")?;
    Ok(upstream.clone())
}
