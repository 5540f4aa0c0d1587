//! Orders from the control socket, carried out by the loop.
//!
//! - What an order changes is answered when its commit is on flash, and not before.
//! - Letters are read beside the loop, which never waits for flash; one order about them at a time.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::control::{Order, refusal};
use super::dlq::{self, Portion, Wanted};
use super::store::StoreHandle;
use crate::effect::Effects;
use crate::gateway::Gateway;
use crate::time::Now;

type Reply = oneshot::Sender<Value>;

/// Letters that were read for an order.
#[derive(Debug)]
pub struct Gathered {
    wanted: Wanted,
    portion: Result<Portion, String>,
    reply: Reply,
}

/// Orders on their way.
#[derive(Debug)]
pub struct Orders {
    asked: mpsc::Receiver<Order>,
    gathered: mpsc::Receiver<Gathered>,
    gather: mpsc::Sender<Gathered>,
    /// An order about letters is under way.
    busy: bool,
    /// Answers that wait for the commit of the open batch, and for that of the one on its way.
    open: Vec<(Reply, Value)>,
    sent: Vec<(Reply, Value)>,
}

/// What came.
#[derive(Debug)]
pub enum Came {
    /// An order.
    Asked(Order),
    /// What an order asked to be read.
    Gathered(Gathered),
}

impl Orders {
    /// From this channel.
    #[must_use]
    pub fn new(asked: mpsc::Receiver<Order>) -> Self {
        let (gather, gathered) = mpsc::channel(1);
        Self { asked, gathered, gather, busy: false, open: Vec::new(), sent: Vec::new() }
    }

    /// The next thing to do. `takes`: letters may be handled now.
    pub async fn next(&mut self, takes: bool) -> Came {
        tokio::select! {
            Some(gathered) = self.gathered.recv(), if takes => Came::Gathered(gathered),
            Some(order) = self.asked.recv() => Came::Asked(order),
            else => core::future::pending().await,
        }
    }

    /// Begins an order about letters.
    pub fn begin(&mut self, wanted: Wanted, reply: Reply, gateway: &Gateway, store: &StoreHandle) {
        let Some(lane) = gateway.dead_letter_lane().filter(|_| !self.busy) else {
            drop(reply.send(refusal("another order about dead letters is under way; try again")));
            return;
        };
        self.busy = true;
        let head = gateway.outbox().lanes()[lane].head_seq();
        let (records, gather) = (Arc::new(store.clone()), self.gather.clone());
        tokio::spawn(async move {
            let portion = dlq::gather(&*records, lane, head, &wanted.letters).await;
            let _ = gather.send(Gathered { wanted, portion, reply }).await;
        });
    }

    /// Hands the letters to the gateway; the answer waits for the commit.
    pub fn take(&mut self, gathered: Gathered, gateway: &mut Gateway, now: Now, effects: &mut Effects) {
        self.busy = false;
        let Gathered { wanted, portion, reply } = gathered;
        match portion {
            Ok(portion) => {
                let answer = dlq::take(gateway, now, &wanted, &portion, effects);
                let verb = if wanted.purge { "purged" } else { "replayed" };
                let taken = |outcome: &&Value| outcome["outcome"].is_string();
                let count = answer["outcomes"].as_array().map_or(0, |list| list.iter().filter(taken).count());
                if count == 0 {
                    // Nothing changed, so no commit comes to wait for.
                    drop(reply.send(answer));
                    return;
                }
                log::info!("{count} dead letters are {verb}, as ordered over the control socket");
                self.open.push((reply, answer));
            }
            Err(error) => drop(reply.send(refusal(&error))),
        }
    }

    /// The open batch goes to the store.
    pub fn sealed(&mut self) {
        self.sent.append(&mut self.open);
    }

    /// Its commit is on flash.
    pub fn committed(&mut self) {
        for (reply, answer) in self.sent.drain(..) {
            drop(reply.send(answer));
        }
    }
}

/// Begins a recording.
#[must_use]
pub fn begin_recording(gateway: &mut Gateway, now: Now, functions: Vec<String>) -> Value {
    match gateway.begin_recording(now, functions) {
        Ok(id) => {
            log::info!("recording {id} begins, as ordered over the control socket");
            json!({ "ok": true, "id": id })
        }
        Err(why) => refusal(&why),
    }
}

/// Hands out what was recorded.
#[must_use]
pub fn take_recording(gateway: &mut Gateway, now: Now, id: u64, end: bool) -> Value {
    match gateway.take_recording(now, id, end) {
        Ok(portion) => {
            if portion.ended {
                log::info!("recording {id} has ended");
            }
            json!({ "ok": true, "lines": portion.lines, "ended": portion.ended })
        }
        Err(why) => refusal(&why),
    }
}

/// The gateway's part of the answer to `status`.
#[must_use]
pub fn status(gateway: &Gateway, shell: &super::metrics::ShellNumbers) -> Value {
    let status = gateway.status();
    let books = status.books;
    let dropped: u64 = books.dropped.iter().sum();
    let lanes: Vec<Value> = status
        .lanes
        .iter()
        .map(|lane| {
            json!({
                "name": lane.name, "records": lane.records, "messages": lane.messages, "bytes": lane.bytes,
                "bytes_max": lane.bytes_max,
            })
        })
        .collect();
    let functions: Vec<Value> = status
        .functions
        .iter()
        .map(|function| {
            json!({
                "name": function.name, "version": function.version, "invocations": function.usage.invocations,
                "errors": function.usage.errors_total(), "fuel": function.usage.fuel,
            })
        })
        .collect();
    let sinks: Vec<Value> = shell.sinks.iter().map(|(name, up, _)| json!({ "name": name, "up": up })).collect();
    json!({
        "uptime_seconds": shell.uptime_us / 1_000_000, "commit": status.commit, "residue": i64::try_from(status.residue).ok(),
        "books": {
            "received": books.received, "replayed": books.replayed, "delivered": books.delivered,
            "filtered": books.filtered, "aggregated": books.aggregated, "dead_lettered": books.dead_lettered,
            "expired": books.expired, "dropped": dropped, "pending": status.pending, "duplicates": books.duplicates,
        },
        "broker": { "up": shell.broker.0, "connections": shell.broker.1 },
        "lanes": lanes, "functions": functions, "sinks": sinks,
        "memory": { "resident": shell.rss, "planned": shell.rss_planned },
    })
}
