//! The broker: a real mosquitto without limits of its own, on a port of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::process::{Process, folder};

pub struct Mosquitto {
    pub port: u16,
    _process: Process,
}

impl Mosquitto {
    /// Starts one and waits until it listens.
    pub fn start() -> Self {
        let port = free_port();
        let dir = folder(&format!("mosquitto-{port}"));
        let file = dir.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\n\
             set_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\n"
        );
        fs::write(&file, text).unwrap();
        // Debian puts it where only root's PATH looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("mosquitto");
        let process = Process::start(command.env("PATH", path).arg("-c").arg(&file), &dir.join("log"));
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { port, _process: process }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
