//! `weir run` in a process of its own: started, killed, ended.
//!
//! - It dies with the demo, however that dies: the kernel sends it SIGKILL when its parent is gone.
//! - It has a process group of its own, so that ctrl-c ends the demo first.

use core::num::NonZeroI32;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::time::sleep;

/// The demo's own command that becomes the gateway.
pub const LEASH: &str = "--leash";
/// Lines of the log that are kept for a report.
const TAIL: usize = 12;
const STEP: Duration = Duration::from_millis(20);

/// The gateway's process.
pub struct Gateway {
    weir: PathBuf,
    config: PathBuf,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    log: PathBuf,
    tail: Arc<Mutex<VecDeque<String>>>,
    child: Option<Child>,
}

impl Gateway {
    /// Not started yet.
    #[must_use]
    pub fn new(weir: PathBuf, config: PathBuf, metrics: SocketAddr, log: PathBuf) -> Self {
        Self { weir, config, metrics, log, tail: Arc::default(), child: None }
    }

    /// Starts it.
    ///
    /// # Errors
    /// In words.
    pub fn start(&mut self) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("{}: cannot be started: {error}", self.weir.display());
        let mut command = Command::new(std::env::current_exe().map_err(fault)?);
        command.arg(LEASH).arg(std::process::id().to_string()).arg(&self.weir).arg("run").arg(&self.config);
        command.arg("--metrics").arg(self.metrics.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("{}: {error}", self.log.display()))?;
        let mut child = command.spawn().map_err(fault)?;
        if let Some(stderr) = child.stderr.take() {
            let tail = Arc::clone(&self.tail);
            std::thread::spawn(move || copy_log(stderr, log, &tail));
        }
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: no warning, no last words.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Whether it was started and has ended by itself since.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Asks it to end; kills it if it does not. Whether it ended as asked.
    pub async fn stop(&mut self, patience: Duration) -> bool {
        let Some(child) = &mut self.child else { return false };
        let asked = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::TERM));
        if asked.is_some_and(|asked| asked.is_ok()) {
            for _ in 0..patience.as_millis() / STEP.as_millis() {
                if let Ok(Some(status)) = child.try_wait() {
                    self.child = None;
                    return status.success();
                }
                sleep(STEP).await;
            }
        }
        self.kill();
        false
    }

    /// The last lines that it logged.
    #[must_use]
    pub fn last_words(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_log(from: ChildStderr, mut to: File, tail: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        drop(writeln!(to, "{line}"));
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

/// Becomes the program in `args` (behind the parent's process id), on a leash: when the parent ends, the kernel kills it.
/// Returns only if that failed, with the reason.
#[must_use]
pub fn become_leashed(mut args: impl Iterator<Item = OsString>) -> String {
    let parent = args.next().and_then(|parent| parent.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent, args.next()) else {
        return format!("{LEASH} wants a process id and a program");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("no leash: {error}");
    }
    // The parent may have ended before the leash was on.
    if getppid().map(Pid::as_raw_nonzero).map(NonZeroI32::get) != Some(parent) {
        return "the demo has ended".to_owned();
    }
    let error = Command::new(&program).args(args).exec();
    format!("{}: {error}", Path::new(&program).display())
}
