//! systemd's notifications (sd_notify(3)): readiness, the watchdog, a line of status. Nothing where `NOTIFY_SOCKET` is not set.
//!
//! - A datagram is sent and forgotten: a supervisor that does not listen costs nothing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The supervisor's end.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The watchdog wants to hear from us this often; half of it is our interval.
    watchdog: Option<Duration>,
}

impl Notify {
    /// From the environment that systemd gives its services.
    #[must_use]
    pub fn from_env() -> Self {
        let read = |name: &str| std::env::var(name).ok();
        Self::new(read("NOTIFY_SOCKET").as_deref(), read("WATCHDOG_USEC").as_deref(), read("WATCHDOG_PID").as_deref())
    }

    fn new(socket: Option<&str>, watchdog_us: Option<&str>, watchdog_pid: Option<&str>) -> Self {
        let address = |name: &str| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let open = |name: &str| {
            let socket = UnixDatagram::unbound()?;
            // The watch must never wait for its supervisor.
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>((socket, address(name)?))
        };
        let socket = socket.and_then(|name| open(name).ok());
        let ours = watchdog_pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let us = watchdog_us.and_then(|us| us.parse().ok()).filter(|us| *us > 0 && ours && socket.is_some());
        Self { socket, watchdog: us.map(Duration::from_micros) }
    }

    /// How often [`Notify::alive`] must be said, at least; `None`: nobody waits for it.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// The gateway takes messages from here on.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Progress was seen.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// A line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// An orderly end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_address_are_reached_and_only_ones_own_watchdog_is_fed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("weir-test-{}", std::process::id());
        let own = std::process::id().to_string();
        let sockets = [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}"), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()),
        ];
        for (address, socket) in sockets {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for (pid, fed) in [(own.as_str(), true), ("1", false)] {
                let notify = Notify::new(Some(&address), Some("2000000"), Some(pid));
                assert_eq!(notify.interval(), fed.then_some(Duration::from_secs(1)));
                notify.alive();
                notify.status("all\nwell");
                let mut said = Vec::new();
                for _ in 0..1 + usize::from(fed) {
                    let mut bytes = [0; 64];
                    let read = socket.recv(&mut bytes).unwrap();
                    said.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                }
                let want: &[&str] = if fed { &["WATCHDOG=1", "STATUS=all well"] } else { &["STATUS=all well"] };
                assert_eq!(said, want, "{address}");
            }
        }
        Notify::new(None, Some("1"), None).ready();
    }
}
