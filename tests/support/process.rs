//! What the tests do to processes.

use std::process::Command;

/// Sends a signal by its name, without `SIG`.
pub fn signal(name: &str, pid: u32) {
    let line = format!("kill -{name} {pid}");
    let sent = Command::new("sh").args(["-c", &line]).status().unwrap();
    assert!(sent.success(), "{line}");
}
