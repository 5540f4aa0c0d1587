//! The link to the upstream: a TCP forwarder that can be cut.
//!
//! - Cut, it ends every connection at once, with what is on its way, and lets no new one through.
//! - Both ends live on: what the upstream has acknowledged it has.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A forwarder from a port of its own to `target`.
pub struct Link {
    /// Where it listens.
    pub address: SocketAddr,
    is_up: watch::Sender<bool>,
}

impl Link {
    /// Opens it; it forwards until the runtime ends.
    ///
    /// # Errors
    /// The system has no free port.
    pub async fn open(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (is_up, watching) = watch::channel(true);
        tokio::spawn(serve(listener, target, watching));
        Ok(Self { address, is_up })
    }

    /// Cuts it, or mends it.
    pub fn set_up(&self, is_up: bool) {
        self.is_up.send_replace(is_up);
    }

    /// Whether it forwards.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, mut is_up: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((near, _)) = accepted && *is_up.borrow() {
                    connections.spawn(forward(near, target));
                }
            }
            changed = is_up.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*is_up.borrow() {
                    connections.shutdown().await;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(mut near: TcpStream, target: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    if near.set_nodelay(true).is_ok() && far.set_nodelay(true).is_ok() {
        drop(copy_bidirectional(&mut near, &mut far).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        address
    }

    async fn answers(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
    }

    #[tokio::test]
    async fn a_cut_link_ends_connections_and_lets_none_through_until_it_is_mended() {
        let link = Link::open(echo().await).await.unwrap();
        let mut before = TcpStream::connect(link.address).await.unwrap();
        assert!(answers(&mut before).await);
        link.set_up(false);
        assert_eq!(before.read(&mut [0]).await.unwrap_or(0), 0);
        let mut meanwhile = TcpStream::connect(link.address).await.unwrap();
        assert!(!answers(&mut meanwhile).await);
        link.set_up(true);
        let mut after = TcpStream::connect(link.address).await.unwrap();
        assert!(answers(&mut after).await);
    }
}
