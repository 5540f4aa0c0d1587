//! From a configured connection to a standing session: name, TCP, TLS, CONNECT, CONNACK.
//!
//! - TCP_NODELAY is set on every connection: without it an ack waits for the peer's delayed one (20 ms at low rates).
//! - With the version `auto`, 3.1.1 is tried when the broker refuses 5.0 or closes without a word; what worked is tried
//!   first the next time, and a broker that spoke 5.0 once is not asked for less because it closed.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::error::LinkError;
use super::packet::{ConnAck, Connect, Decoder, HEAD_MAX, Next, Packet, Version};
use crate::config::{MqttConnection, MqttVersion, Secret};
use crate::shell::tls;

/// For name, TCP and TLS together, and again for the CONNACK.
const PATIENCE: Duration = Duration::from_secs(10);

/// What differs between the source link and a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Keeps its session: the broker holds messages while we are away.
    Source,
    /// Starts clean: what is not delivered is remembered by the outbox.
    Publisher,
}

/// The byte stream under a session.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A session that stands.
#[derive(Debug)]
pub struct Session {
    /// The stream, CONNACK read.
    pub stream: Stream,
    /// What came behind the CONNACK.
    pub input: BytesMut,
    /// Spoken version.
    pub version: Version,
    /// The broker's answer and its limits.
    pub connack: ConnAck,
}

/// What is remembered from one attempt to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    worked: Option<Version>,
}

/// Connects; `memory` carries the version that worked.
pub async fn connect(connection: &MqttConnection, role: Role, memory: &mut Memory) -> Result<Session, LinkError> {
    let (first, second) = match (connection.version, memory.worked) {
        (MqttVersion::V5, _) => (Version::V5, None),
        (MqttVersion::V311, _) => (Version::V311, None),
        (MqttVersion::Auto, Some(Version::V311)) => (Version::V311, Some(Version::V5)),
        (MqttVersion::Auto, _) => (Version::V5, Some(Version::V311)),
    };
    let mut outcome = attempt(connection, role, first).await;
    if let (Err(error), Some(second)) = (&outcome, second) {
        let refused = is_version_refusal(error);
        let may_be_version = matches!(error, LinkError::ClosedAtOnce) && memory.worked.is_none();
        if refused || may_be_version {
            log::debug!("{}:{}: {first} did not work, trying {second}", connection.host, connection.port);
            outcome = attempt(connection, role, second).await;
            // A broker that closes on both says nothing about versions.
            if outcome.is_err() && refused {
                memory.worked = None;
            }
        }
    }
    if let Ok(session) = &outcome {
        memory.worked = Some(session.version);
    }
    outcome
}

const fn is_version_refusal(error: &LinkError) -> bool {
    matches!(error, LinkError::Refused { code: 1, version: Version::V311, .. } | LinkError::Refused { code: 0x84, .. })
}

async fn attempt(connection: &MqttConnection, role: Role, version: Version) -> Result<Session, LinkError> {
    let mut stream = timeout(PATIENCE, dial(connection)).await.map_err(|_| LinkError::TimedOut("no connection"))??;
    let mut output = BytesMut::new();
    hello(connection, role)?.write(version, &mut output);
    let talk = async {
        stream.write_all(&output).await.map_err(refused_by_closing)?;
        stream.flush().await.map_err(refused_by_closing)?;
        await_connack(&mut stream, version).await
    };
    let (connack, input) = timeout(PATIENCE, talk).await.map_err(|_| LinkError::TimedOut("no CONNACK"))??;
    match connack.code {
        0 if connack.is_v311 && version == Version::V5 => {
            Err(LinkError::Malformed(super::packet::Malformed("a CONNACK of MQTT 3.1.1 in answer to one of 5.0")))
        }
        0 if connack.max_qos == 0 && role == Role::Publisher => Err(LinkError::QosTooLow),
        0 => Ok(Session { stream, input, version, connack }),
        code => {
            let version = if connack.is_v311 { Version::V311 } else { version };
            Err(LinkError::Refused { code, version, text: connack.text })
        }
    }
}

/// Name, TCP, TLS.
async fn dial(connection: &MqttConnection) -> Result<Stream, LinkError> {
    let MqttConnection { host, port, .. } = connection;
    let addresses: Vec<_> =
        tokio::net::lookup_host((host.as_str(), *port)).await.map_err(LinkError::Resolve)?.collect();
    if addresses.is_empty() {
        return Err(LinkError::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(LinkError::Dial)?;
    tcp.set_nodelay(true).map_err(LinkError::Dial)?;
    let Some(settings) = &connection.tls else { return Ok(Stream::Plain(tcp)) };
    let (connector, name) = tls::connector(settings, host).map_err(LinkError::Tls)?;
    let tls = connector.connect(name, tcp).await.map_err(refused_by_closing)?;
    Ok(Stream::Tls(Box::new(tls)))
}

fn refused_by_closing(error: io::Error) -> LinkError {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match LinkError::from_io(error) {
        LinkError::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
            LinkError::ClosedAtOnce
        }
        LinkError::Closed => LinkError::ClosedAtOnce,
        other => other,
    }
}

fn hello(connection: &MqttConnection, role: Role) -> Result<Connect<'_>, LinkError> {
    let password = connection.password.as_ref().map(read_secret).transpose().map_err(LinkError::Secret)?;
    let is_publisher = role == Role::Publisher;
    Ok(Connect {
        client_id: &connection.client_id,
        clean: is_publisher,
        keep_alive: u16::try_from(connection.keep_alive.0.div_ceil(1000)).unwrap_or(u16::MAX),
        session_expiry: if is_publisher { 0 } else { session_expiry_s(connection.session_expiry.0) },
        receive_max: if is_publisher { u16::MAX } else { connection.in_flight },
        login: connection.username.as_deref().map(|name| (name, password.unwrap_or_default())),
    })
}

/// 0xFFFFFFFF means "never" (§3.1.2.11.2), which is what a longer time comes to.
fn session_expiry_s(millis: u64) -> u32 {
    u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX)
}

fn read_secret(secret: &Secret) -> io::Result<String> {
    let said = |error: io::Error, place: String| io::Error::new(error.kind(), format!("{place}: {error}"));
    match secret {
        Secret::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| said(error, path.display().to_string()))?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        }
        Secret::Env(name) => {
            std::env::var(name).map_err(|error| io::Error::new(io::ErrorKind::NotFound, format!("${name}: {error}")))
        }
    }
}

async fn await_connack(stream: &mut Stream, version: Version) -> Result<(ConnAck, BytesMut), LinkError> {
    let mut input = BytesMut::with_capacity(4096);
    let mut decoder = Decoder::new(version, HEAD_MAX);
    loop {
        match decoder.take(&mut input)? {
            Next::Packet(Packet::ConnAck(connack)) => return Ok((connack, input)),
            Next::Packet(Packet::Disconnect { reason, text }) => return Err(LinkError::Disconnected { reason, text }),
            Next::Packet(_) => {
                return Err(LinkError::Malformed(super::packet::Malformed("another packet before its CONNACK")));
            }
            Next::Wants(_) => {}
        }
        if stream.read_buf(&mut input).await.map_err(refused_by_closing)? == 0 {
            return Err(LinkError::ClosedAtOnce);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, Millis};

    pub(crate) fn to(port: u16) -> MqttConnection {
        MqttConnection {
            host: "127.0.0.1".to_owned(),
            port,
            tls: None,
            client_id: "gateway".to_owned(),
            version: MqttVersion::Auto,
            keep_alive: Millis(30_000),
            session_expiry: Millis(u64::MAX),
            in_flight: 32,
            packet_max: Bytes::kib(64),
            username: None,
            password: None,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nagle_is_off_on_every_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(&to(listener.local_addr().unwrap().port())).await.unwrap();
        let Stream::Plain(tcp) = stream else { panic!("TLS was not asked for") };
        assert!(tcp.nodelay().unwrap());
    }

    #[test]
    fn a_session_longer_than_the_protocol_can_say_never_expires() {
        assert_eq!((session_expiry_s(1), session_expiry_s(u64::MAX)), (1, u32::MAX));
    }

    #[test]
    fn a_secret_is_the_first_line_of_its_file_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hush\nnot this\n").unwrap();
        assert_eq!(read_secret(&Secret::File(path)).unwrap(), "hush");
        let missing = read_secret(&Secret::Env("WEIR_NO_SUCH_VARIABLE".to_owned())).unwrap_err();
        assert!(missing.to_string().contains("$WEIR_NO_SUCH_VARIABLE"));
    }
}
