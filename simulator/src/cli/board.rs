//! `weir-sim board`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use weir::board::Board;
use weir::strict::Faults;
use weir_simulator::emulated::{self, Bundle, Job, Kind, Limits};

use super::{Fault, parse_span, read_scenario};

const HELP: &str = "\
weir-sim board --board NAME --bundle DIR --scenario FILE: your functions and configuration on an emulated board

QEMU boots a real Linux kernel with an ext4 disk of the board's flash (pi-zero and pi-3b as those machines; every other board as
QEMU's own with a Cortex-A53 and the memory that the board grants, and the kernel's); devices of the scenario publish to a broker on
this machine; what arrives upstream is held against the truth. It ends with pass or fail on memory, loss, latency and flash budget.
Needs qemu-system-arm, mosquitto, e2fsprogs; kernel and busybox are fetched from Debian once.

  --board NAME         a board that weir knows, or the path of a board's TOML file
  --bundle DIR         the site: gateway.toml and the functions that it names, by paths relative to it
  --scenario FILE      what devices send (see weir-sim scenario --print); fleets that name a meter are compared exactly
  --binary FILE        the static binary (default: what `cargo xtask dist --board NAME` has left in target/dist)
  --for TIME           how long devices send (default: the scenario's duration, or 60s)
  --idle TIME          how long to watch before that, with nothing sent (default 0s)
  --power-cuts N       cut the power N times in the middle (default 0)
  --settle TIME        how long it may take until all is upstream (default 120s)
  --limits LIST        what decides: of memory,loss,latency,flash (default all; with power cuts memory,loss)
  --latency-max TIME   from device to upstream, 99th percentile (default 5s; emulated processors are slow)
  --work DIR           where disk, consoles and kernel lie (default target/board)

The broker's and sinks' addresses in gateway.toml lead to that broker, with TLS where they say mqtts://.

Examples:
  cargo xtask dist --board pi-zero-2w
  weir-sim board --board pi-zero-2w --bundle site/ --scenario fleet.toml --for 2min
  weir-sim board --board qemu-virt-64m --bundle site/ --scenario fleet.toml --power-cuts 3

Exit code 0: pass. 1: fail. 2: it could not be tried.
";

pub fn run(parser: lexopt::Parser) -> Result<ExitCode, Fault> {
    let Some((job, limits)) = parse(parser)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(emulated::run(&job, &|line| println!("{line}")))?;
    println!("\n{outcome}\n");
    let faults = outcome.faults(&job.board, &limits);
    for fault in &faults {
        println!("{fault}");
    }
    println!("{}: {}", job.board.name, if faults.is_empty() { "PASS" } else { "FAIL" });
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<(Job, Limits)>, Fault> {
    let (mut board, mut bundle, mut scenario, mut binary) = (None, None, None, None);
    let (mut load_ms, mut idle_ms, mut settle_ms, mut latency_ms) = (None, 0, 120_000, 5_000);
    let (mut cuts, mut limits, mut work) = (0, None, PathBuf::from("target/board"));
    while let Some(arg) = parser.next()? {
        match arg {
            Long("board") => board = Some(parser.value()?.string()?),
            Long("bundle") => bundle = Some(PathBuf::from(parser.value()?)),
            Long("scenario") => scenario = Some(PathBuf::from(parser.value()?)),
            Long("binary") => binary = Some(PathBuf::from(parser.value()?)),
            Long("for") => load_ms = Some(parse_span(&parser.value()?.string()?)?),
            Long("idle") => idle_ms = parse_span(&parser.value()?.string()?)?,
            Long("settle") => settle_ms = parse_span(&parser.value()?.string()?)?,
            Long("latency-max") => latency_ms = parse_span(&parser.value()?.string()?)?,
            Long("power-cuts") => cuts = parser.value()?.parse()?,
            Long("limits") => limits = Some(parser.value()?.string()?),
            Long("work") => work = parser.value()?.into(),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let name = board.ok_or("board wants --board NAME; `weir plan --all` lists them")?;
    let bundle = bundle.ok_or("board wants --bundle DIR, a folder with gateway.toml")?;
    let scenario = scenario.ok_or("board wants --scenario FILE; weir-sim scenario --print shows one")?;
    let (board, text) = read_board(&name)?;
    Kind::of(&board)?;
    let mut bundle = Bundle::read(&bundle)?;
    if let Some(text) = text {
        bundle = bundle.with_board(text);
    }
    let scenario = read_scenario(&scenario)?;
    let weir = binary.unwrap_or_else(|| emulated::built(Path::new("."), &board));
    if !weir.is_file() {
        let (weir, target) = (weir.display(), &board.target);
        return Err(
            format!("{weir}: no such file; `cargo xtask dist --target {target}` builds it, or --binary FILE").into()
        );
    }
    let default = if cuts == 0 { "memory,loss,latency,flash" } else { "memory,loss" };
    let limits = parse_limits(limits.as_deref().unwrap_or(default), latency_ms)?;
    let load_ms = load_ms.or(scenario.duration_ms).unwrap_or(60_000);
    let [idle, load, settle] = [idle_ms, load_ms, settle_ms].map(Duration::from_millis);
    let (system, work) = (work.join("system"), work.join("run"));
    Ok(Some((Job { board, weir, bundle, scenario, idle, load, cuts, settle, work, system }, limits)))
}

/// A board by name, or by the path of its file, with the text then.
fn read_board(name: &str) -> Result<(Board, Option<String>), Fault> {
    if let Some(board) = Board::built_in(name) {
        return Ok((board, None));
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: no board of weir's, and: {error}"))?;
    let faults = Faults::default();
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match Board::parse(&stem, name, &text, &faults) {
        Some(board) => Ok((board, Some(text))),
        None => {
            let list: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
            Err(list.join("\n").into())
        }
    }
}

fn parse_limits(text: &str, latency_ms: u64) -> Result<Limits, Fault> {
    let mut limits = Limits { memory: false, loss: false, latency_ms: None, flash: false };
    for word in text.split(',') {
        match word {
            "memory" => limits.memory = true,
            "loss" => limits.loss = true,
            "latency" => limits.latency_ms = Some(i64::try_from(latency_ms)?),
            "flash" => limits.flash = true,
            _ => return Err(format!("--limits {text}: `{word}` is none of memory, loss, latency, flash").into()),
        }
    }
    Ok(limits)
}
