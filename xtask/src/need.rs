//! What the machine must have: found, or installed by apt-get, or named with the fix.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

pub use crate::toolchain::find::{find, has_file, output};

/// The broker that the tests talk to.
pub fn mosquitto() -> Result<PathBuf, String> {
    if let Some(file) = find("mosquitto") {
        return Ok(file);
    }
    apt_install("the tests with a real broker need mosquitto", &["mosquitto"])?;
    find("mosquitto").ok_or_else(|| "mosquitto was installed but is not in PATH or /usr/sbin".to_owned())
}

/// What records the system calls of a run.
pub fn strace() -> Result<PathBuf, String> {
    if let Some(file) = find("strace") {
        return Ok(file);
    }
    apt_install("recording what the gateway writes needs strace", &["strace"])?;
    find("strace").ok_or_else(|| "strace was installed but is not in PATH".to_owned())
}

/// Installs Debian packages. `why` opens the message if that cannot be done.
pub fn apt_install(why: &str, packages: &[&str]) -> Result<(), String> {
    let list = packages.join(" ");
    let fix = format!("install it yourself: sudo apt-get install {list}");
    if find("apt-get").is_none() {
        return Err(format!("{why}: there is no apt-get on this machine; get what Debian calls {list}"));
    }
    if !is_root() {
        return Err(format!("{why}; {fix}"));
    }
    eprintln!("xtask: {why}: apt-get install {list}");
    if apt(&["install", "-y", "-q", "--no-install-recommends"], packages) {
        return Ok(());
    }
    // The lists of a fresh container are empty or old.
    if apt(&["update", "-q"], &[]) && apt(&["install", "-y", "-q", "--no-install-recommends"], packages) {
        return Ok(());
    }
    Err(format!("{why}: apt-get failed (its message stands above); {fix}"))
}

/// Whether apt knows a package of this name.
pub fn apt_knows(package: &str) -> bool {
    output(Command::new("apt-cache").args(["policy", package]))
        .is_some_and(|text| text.contains("Candidate: ") && !text.contains("Candidate: (none)"))
}

fn apt(arguments: &[&str], packages: &[&str]) -> bool {
    Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .args(packages)
        // A package that brings a daemon shall not start it.
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

/// Runs a command to its end, or kills it after `seconds`; whether it succeeded in time.
pub fn run_within(command: &mut Command, seconds: u32) -> bool {
    let Ok(mut child) = command.stdin(Stdio::null()).spawn() else { return false };
    for _ in 0..seconds * 10 {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => sleep(Duration::from_millis(100)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Runs a command and says which one failed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}: {name}")),
        Err(error) => Err(format!("{error}: {name}")),
    }
}

/// Writes `bytes` unless the file holds them already, so that nothing is built anew for nothing.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    if std::fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(file, bytes))
        .map_err(|error| format!("{}: {error}", file.display()))
}
