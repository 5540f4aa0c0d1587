//! `cargo xtask qemu`: the main job on an emulated board: the shipped binary with six functions, TLS on both sides, and a fleet
//! whose totals are known. It writes site and fleet, and lets `weir-sim board` run them, as a user would.

mod site;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dist::{self, board::Board};
use crate::{functions, need};

const USAGE: &str = "\
cargo xtask qemu [--board qemu-virt-64m]   boot the board, run the main job, report
  --seconds N        of load (30)
  --rate N           messages a second (100)
  --power-cuts N     cut the power N times in the middle (0)
  --idle N           seconds of watching before, with nothing sent (0)
  --functions N      further small functions beside the six (0)
  --sled             with the copy of the keyed state in sled
  --no-tls           both links without TLS
  --binary FILE      the static binary, in place of building it";

struct Options {
    board: String,
    seconds: u32,
    cuts: u32,
    idle: u32,
    binary: Option<PathBuf>,
    job: site::Job,
}

/// The command.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = options(arguments)?;
    let board = Board::get(root, &options.board)?;
    need::mosquitto()?;
    if need::find("qemu-system-aarch64").is_none() {
        need::apt_install("emulated boards need QEMU", &["qemu-system-arm"])?;
    }
    functions::build(root)?;
    let weir = match &options.binary {
        Some(file) => file.clone(),
        None => dist::build(root, board.target)?,
    };
    let simulator = simulator(root)?;
    let folder = root.join("target/qemu");
    let (bundle, scenario) = (folder.join("site"), folder.join("fleet.toml"));
    let _ = std::fs::remove_dir_all(&bundle);
    site::write(root, &bundle, &options.job)?;
    need::write(&scenario, options.job.fleet().as_bytes())?;
    let mut board = Command::new(simulator);
    board.current_dir(root).args(["board", "--board", &options.board, "--work"]).arg(&folder);
    board.arg("--bundle").arg(&bundle).arg("--scenario").arg(&scenario).arg("--binary").arg(&weir);
    board.args(["--for", &format!("{}s", options.seconds), "--idle", &format!("{}s", options.idle)]);
    // What this load writes all day says nothing: it is a test of memory and totals, and is reported.
    board.args(["--power-cuts", &options.cuts.to_string(), "--limits", "memory,loss", "--settle", "300s"]);
    need::run(&mut board).map_err(|_| "the emulated board failed, see above, and target/qemu/run/console-*".to_owned())
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let job = site::Job { rate: 100, further: 0, tls: true, sled: false };
    let mut options = Options { board: "qemu-virt-64m".to_owned(), seconds: 30, cuts: 0, idle: 0, binary: None, job };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
        let number = |value: &String| value.parse().map_err(|_| format!("{argument}: `{value}` is no number"));
        match argument.as_str() {
            "--board" => options.board.clone_from(value()?),
            "--seconds" => options.seconds = number(value()?)?,
            "--rate" => options.job.rate = number(value()?)?,
            "--power-cuts" => options.cuts = number(value()?)?,
            "--idle" => options.idle = number(value()?)?,
            "--functions" => options.job.further = number(value()?)?,
            "--sled" => options.job.sled = true,
            "--no-tls" => options.job.tls = false,
            "--binary" => options.binary = Some(value()?.into()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// The simulator for this machine.
fn simulator(root: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    need::run(cargo.current_dir(root).args(["build", "--quiet", "--package", "weir-simulator", "--bin", "weir-sim"]))?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.with_file_name("weir-sim"))
}
