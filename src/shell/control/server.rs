//! The answering end, on the watch's runtime.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, Order, REQUEST_BYTES_MAX, Request, refusal};
use crate::shell::watch::SharedVerdict;

/// Connections at once.
const CONNECTIONS_MAX: usize = 4;
/// For the request to come, and for the answer to be taken.
const PEER_PATIENCE: Duration = Duration::from_secs(5);
/// For the loop's part of the status: a loop that hangs is told without it.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// For what ends with a commit.
const ORDER_PATIENCE: Duration = Duration::from_secs(60);

/// What the server answers from.
#[derive(Clone, Debug)]
pub struct Served {
    /// The watch's last judgement.
    pub verdict: SharedVerdict,
    /// The way to the loop.
    pub orders: mpsc::Sender<Order>,
}

/// Serves until the runtime ends.
pub async fn serve(listener: UnixListener, served: Served) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let served = served.clone();
        tokio::spawn(async move {
            talk(stream, &served).await;
            drop(permit);
        });
    }
}

async fn talk(stream: UnixStream, served: &Served) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut bounded = (&mut stream).take(REQUEST_BYTES_MAX);
    let Ok(Ok(_)) = timeout(PEER_PATIENCE, bounded.read_line(&mut line)).await else { return };
    let answer = if line.ends_with('\n') {
        match Request::parse(&line) {
            Ok(request) => answer(request, served).await,
            Err(error) => refusal(&error),
        }
    } else {
        refusal(&format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes"))
    };
    let mut text = format!("{answer}\n");
    if ANSWER_BYTES_MAX < text.len() as u64 {
        text = format!("{}\n", refusal("the answer is too long; ask for less"));
    }
    let _ = timeout(PEER_PATIENCE, stream.get_mut().write_all(text.as_bytes())).await;
}

async fn answer(request: Request, served: &Served) -> Value {
    match request {
        Request::Status => {
            let gateway = order(Request::Status, served, STATUS_PATIENCE).await;
            json!({
                "ok": true, "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
                "health": served.verdict.get().document(), "gateway": gateway.ok(),
            })
        }
        request => order(request, served, ORDER_PATIENCE).await.unwrap_or_else(|error| refusal(&error)),
    }
}

/// Asks the loop.
async fn order(request: Request, served: &Served, patience: Duration) -> Result<Value, String> {
    let (reply, answer) = oneshot::channel();
    let ask = async {
        served.orders.send(Order { request, reply }).await.map_err(|_| "the gateway is stopping".to_owned())?;
        answer.await.map_err(|_| "the gateway is stopping, or too much is asked of it at once".to_owned())
    };
    let silent = |_| format!("the gateway's loop did not answer within {} s", patience.as_secs());
    timeout(patience, ask).await.map_err(silent)?
}
