//! A wire between a gateway and its broker that can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Forwards connections; it runs until the process ends.
pub struct Proxy {
    /// Where to connect to.
    pub port: u16,
    standing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// A wire to this port.
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let standing = Arc::<Mutex<Vec<TcpStream>>>::default();
        std::thread::spawn({
            let standing = standing.clone();
            move || {
                for client in listener.incoming().flatten() {
                    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                    for (from, to) in [(&client, &broker), (&broker, &client)] {
                        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                        to.set_nodelay(true).unwrap();
                        std::thread::spawn(move || forward(from, to));
                    }
                    standing.lock().unwrap().extend([client, broker]);
                }
            }
        });
        Self { port, standing }
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for stream in self.standing.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Where a gateway without TLS finds it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
