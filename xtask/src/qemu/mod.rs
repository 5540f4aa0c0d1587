//! `cargo xtask qemu`: the main job on an emulated board: a real arm64 kernel, the shipped static binary, a virtio disk with
//! ext4, a broker on the host, simulated devices; the totals that arrive are held against the truth.
//!
//! - `--power-cuts N` kills the machine in the middle of the load, N times, and boots it again on the same disk.
//! - Memory is what the guest's kernel says of the gateway (`smaps_rollup`), once a second.

#![expect(clippy::disallowed_methods, reason = "waits on processes of this machine in real time")]

mod initramfs;
mod kernel;
mod machine;
mod site;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kernel::System;
use machine::{Hardware, Machine};

use crate::dist::{self, board::Board};
use crate::{functions, need};

const USAGE: &str = "\
cargo xtask qemu [--board qemu-virt-64m]   boot the board, run the main job, report
  --seconds N        of load (30)
  --rate N           messages a second (200)
  --power-cuts N     cut the power N times in the middle (0)
  --binary FILE      the static arm64 binary, in place of building it";

/// An emulated machine on a busy host may take its time.
const PATIENCE: Duration = Duration::from_secs(180);
const DISK_MIB: u64 = 256;

struct Options {
    board: String,
    seconds: u32,
    rate: u32,
    cuts: u32,
    binary: Option<PathBuf>,
}

/// A process of the host that ends with its value.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = options(arguments)?;
    let board = Board::get(root, &options.board)?;
    let memory_mib = match options.board.rsplit('-').next().and_then(|size| size.strip_suffix('m')?.parse().ok()) {
        Some(mib) if options.board.starts_with("qemu-virt-") => mib,
        _ => return Err(format!("{} is none of QEMU's boards: qemu-virt-64m, qemu-virt-128m", options.board)),
    };
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
    let system = System::get(&folder.join("apt"))?;
    let broker_port = free_port()?;
    let initramfs = folder.join("initramfs.gz");
    need::write(&initramfs, &initramfs::initramfs(&system, &weir, &files(root, &options.board, broker_port)?)?)?;
    let disk = disk(&folder)?;
    let _broker = broker(&folder, broker_port)?;
    let metrics = free_port()?;
    let hardware = Hardware { kernel: &system.kernel, initramfs: &initramfs, disk: &disk, memory_mib, metrics };
    job(&options, &folder, &simulator, broker_port, &hardware)
}

fn job(options: &Options, folder: &Path, simulator: &Path, port: u16, hardware: &Hardware<'_>) -> Result<(), String> {
    let url = format!("mqtt://127.0.0.1:{port}");
    let (truth, scenario) = (folder.join("truth.json"), folder.join("fleet.toml"));
    let _ = fs::remove_file(&truth);
    need::write(&scenario, site::fleet(options.rate).as_bytes())?;
    // What compares is there before the first record.
    let wait = format!("{}s", options.seconds + 120 + 60 * options.cuts);
    let mut compare = Command::new(simulator);
    compare.args(["compare", "--upstream", &url, "--wait", &wait, "--truth"]).arg(&truth);
    let mut compare = Helper(compare.spawn().map_err(|error| format!("weir-sim: {error}"))?);
    let boot = |count: u32| -> Result<Machine, String> {
        let mut machine = Machine::boot(hardware, &folder.join(format!("console-{count}")))?;
        let up = machine.wait_for("GUEST up", PATIENCE)?;
        let ready = machine.wait_for("GUEST ready", PATIENCE)?;
        println!("boot {count}: init after {up}; the gateway ready after {ready} s");
        Ok(machine)
    };
    let mut machine = boot(1)?;
    let mut publish = Command::new(simulator);
    publish.args(["publish", "--quiet", "--broker", &url, "--for", &format!("{}s", options.seconds)]);
    publish.arg("--scenario").arg(&scenario).arg("--truth").arg(&truth);
    let mut publish = Helper(publish.stdout(Stdio::null()).spawn().map_err(|error| format!("weir-sim: {error}"))?);
    let part = Duration::from_secs(u64::from(options.seconds)) / (options.cuts + 1);
    let mut consoles = Vec::new();
    for cut in 1..=options.cuts {
        sleep(part);
        consoles.push(machine.cut());
        println!("power cut {cut}");
        machine = boot(cut + 1)?;
    }
    let published = publish.0.wait().map_err(|error| error.to_string())?;
    let compared = compare.0.wait().map_err(|error| error.to_string())?;
    let page = page(hardware.metrics).unwrap_or_default();
    consoles.push(machine.cut());
    report(&consoles, &page);
    if !published.success() {
        return Err("the devices could not publish everything".to_owned());
    }
    if !compared.success() {
        return Err(
            "what arrived upstream is not what the devices sent; see above, and target/qemu/console-*".to_owned()
        );
    }
    println!("the totals are right");
    Ok(())
}

/// Memory and disk as the guest told them; the books as the metrics page has them.
fn report(consoles: &[String], page: &str) {
    let samples: Vec<Vec<u64>> = consoles.iter().flat_map(|console| console.lines()).filter_map(sample).collect();
    for (column, name) in [(0, "RSS"), (1, "PSS")] {
        let mut values: Vec<u64> = samples.iter().map(|sample| sample[column]).collect();
        values.sort_unstable();
        if let (Some(median), Some(high)) = (values.get(values.len() / 2), values.get(values.len() * 99 / 100)) {
            println!("{name}: median {median} KiB, p99 {high} KiB, {} samples", values.len());
        }
    }
    let metric = |name: &str| -> f64 {
        let lines = page.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let received = metric("weir_messages_received_total");
    let disk: u64 = consoles.iter().filter_map(|console| Some(console.lines().rev().find_map(sample)?[2])).sum();
    println!(
        "{received} messages received since the store was made, residue of the books {}; {disk} bytes written to the disk, {:.1} a message",
        metric("weir_books_residue"),
        disk as f64 / received.max(1.0)
    );
}

/// RSS and PSS in KiB, bytes written to the disk.
fn sample(line: &str) -> Option<Vec<u64>> {
    let words: Vec<&str> = line.trim().strip_prefix("GUEST memory ")?.split(' ').collect();
    let numbers: Vec<u64> = words.iter().skip(1).step_by(2).filter_map(|word| word.parse().ok()).collect();
    (numbers.len() == 3).then_some(numbers)
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { board: "qemu-virt-64m".to_owned(), seconds: 30, rate: 200, cuts: 0, binary: None };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        let number = || value.parse().map_err(|_| format!("{argument}: `{value}` is no number"));
        match argument.as_str() {
            "--board" => options.board.clone_from(value),
            "--seconds" => options.seconds = number()?,
            "--rate" => options.rate = number()?,
            "--power-cuts" => options.cuts = number()?,
            "--binary" => options.binary = Some(value.into()),
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

/// What lies in the guest's `/site`.
fn files(root: &Path, board: &str, broker: u16) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = vec![("gateway.toml".to_owned(), site::gateway(board, broker).into_bytes())];
    for name in site::FUNCTIONS {
        for file in ["function.toml".to_owned(), format!("{name}.wasm")] {
            let path = root.join("target/functions").join(name).join(&file);
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push((format!("functions/{name}/{file}"), bytes));
        }
    }
    Ok(files)
}

/// An empty ext4 of the board's size.
fn disk(folder: &Path) -> Result<PathBuf, String> {
    let file = folder.join("disk");
    let fault = |error: std::io::Error| format!("{}: {error}", file.display());
    let _ = fs::remove_file(&file);
    fs::File::create(&file).and_then(|made| made.set_len(DISK_MIB << 20)).map_err(fault)?;
    let mkfs =
        need::find("mkfs.ext4").or_else(|| need::find("mke2fs")).ok_or("no mkfs.ext4: apt-get install e2fsprogs")?;
    need::run(Command::new(mkfs).args(["-q", "-F", "-t", "ext4"]).arg(&file))?;
    Ok(file)
}

fn broker(folder: &Path, port: u16) -> Result<Helper, String> {
    let conf = folder.join("mosquitto.conf");
    need::write(&conf, site::broker(port).as_bytes())?;
    let child =
        Command::new(need::mosquitto()?).arg("-c").arg(conf).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let helper = Helper(child.map_err(|error| format!("mosquitto: {error}"))?);
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if until < Instant::now() {
            return Err("mosquitto does not listen".to_owned());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(helper)
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// The metrics page.
fn page(port: u16) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: board\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
