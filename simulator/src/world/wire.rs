//! The connection between gateway and broker: a pipe in each direction, in order, with a delay; what is in it when it breaks is lost.

use super::queue::{Happening, Incoming, Outgoing, Queue};
use crate::rng::Rng;

/// The pipes of the newest connection. Packets are put into `planned` and go to the queue with [`Wire::flush`].
#[derive(Debug)]
pub struct Wire {
    rng: Rng,
    latency_us: u64,
    /// Number of the newest connection.
    number: u64,
    /// Nothing passes any more.
    is_severed: bool,
    /// When the last thing put into a pipe arrives.
    down_us: u64,
    up_us: u64,
    planned: Vec<(bool, Happening)>,
}

impl Wire {
    /// Pipes of some `latency_us`.
    #[must_use]
    pub const fn new(rng: Rng, latency_us: u64) -> Self {
        Self { rng, latency_us, number: 0, is_severed: true, down_us: 0, up_us: 0, planned: Vec::new() }
    }

    /// A new connection; its number.
    pub const fn open(&mut self) -> u64 {
        self.number += 1;
        self.is_severed = false;
        self.number
    }

    /// Nothing passes any more in either direction.
    pub const fn sever(&mut self) {
        self.is_severed = true;
    }

    /// Whether what was sent over `conn` arrives.
    #[must_use]
    pub const fn carries(&self, conn: u64) -> bool {
        self.number == conn && !self.is_severed
    }

    /// From the broker to the gateway.
    pub fn down(&mut self, conn: u64, packet: Incoming) {
        self.planned.push((true, Happening::Down { conn, packet }));
    }

    /// From the gateway to the broker.
    pub fn up(&mut self, conn: u64, packet: Outgoing) {
        self.planned.push((false, Happening::Up { conn, packet }));
    }

    /// Gives everything that was sent to the queue.
    pub fn flush(&mut self, queue: &mut Queue) {
        for (is_down, happening) in core::mem::take(&mut self.planned) {
            let delay_us = self.latency_us / 2 + self.rng.below(self.latency_us + 1);
            let last_us = if is_down { &mut self.down_us } else { &mut self.up_us };
            *last_us = (*last_us).max(queue.now_us() + delay_us);
            queue.at(*last_us, happening);
        }
    }
}
