//! Why a link is down, in words that say whose fault it is and what to do.
//!
//! - No text holds a secret: credentials are told by the user name and the place that the password comes from.
//! - [`LinkError::cause`] tells causes apart, so that a lasting one is not logged at every attempt.

use core::fmt;
use std::io;

use super::packet::{Malformed, Version};
use crate::config::{MqttConnection, Secret};
use crate::shell::tls::TlsError;

/// Why there is no connection, or no more.
#[derive(Debug)]
pub enum LinkError {
    /// The host's name has no address.
    Resolve(io::Error),
    /// No TCP connection: refused, unreachable.
    Dial(io::Error),
    /// No TCP connection or no CONNACK in time.
    TimedOut(&'static str),
    /// TLS could not be set up, or not agreed on.
    Tls(TlsError),
    /// The password could not be read.
    Secret(io::Error),
    /// CONNACK said no.
    Refused {
        /// Of the CONNACK.
        code: u8,
        /// Whose codes they are.
        version: Version,
        /// The broker's own words.
        text: String,
    },
    /// Closed before the CONNACK.
    ClosedAtOnce,
    /// Closed within seconds after the CONNACK, several times in a row.
    Kicked,
    /// Another client took the session over (DISCONNECT 0x8E).
    TakenOver,
    /// The broker said DISCONNECT.
    Disconnected {
        /// MQTT 5.0 §3.14.2.1.
        reason: u8,
        /// The broker's own words.
        text: String,
    },
    /// The broker closed the connection without a word.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// No PINGRESP: the link is dead.
    Silent,
    /// The broker answers pings but leaves something else unanswered for long.
    Stalled(&'static str),
    /// The broker sends what is not MQTT.
    Malformed(Malformed),
    /// The broker takes QoS 0 only, which cannot be delivered reliably.
    QosTooLow,
}

impl From<Malformed> for LinkError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl LinkError {
    /// An error of the stream; one of TLS is recognised, whenever it comes (TLS 1.3 refuses a client after the handshake).
    #[must_use]
    pub fn from_io(error: io::Error) -> Self {
        match TlsError::from_io(&error) {
            Some(tls) => Self::Tls(tls),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error),
        }
    }

    /// A number that tells causes apart.
    #[must_use]
    pub fn cause(&self) -> u32 {
        let (kind, detail) = match self {
            Self::Resolve(_) => (1, 0),
            Self::Dial(error) => (2, error.raw_os_error().unwrap_or(0)),
            Self::TimedOut(_) => (3, 0),
            Self::Tls(error) => (4, error.cause()),
            Self::Secret(_) => (5, 0),
            Self::Refused { code, .. } => (6, i32::from(*code)),
            Self::ClosedAtOnce => (7, 0),
            Self::Kicked => (8, 0),
            Self::TakenOver => (9, 0),
            Self::Disconnected { reason, .. } => (10, i32::from(*reason)),
            Self::Closed => (11, 0),
            Self::Io(_) => (12, 0),
            Self::Silent => (13, 0),
            Self::Stalled(_) => (14, 0),
            Self::Malformed(_) => (15, 0),
            Self::QosTooLow => (16, 0),
        };
        kind << 16 | (detail as u32 & 0xffff)
    }

    /// Whether another client with our identifier is the likely cause.
    #[must_use]
    pub const fn is_take_over(&self) -> bool {
        matches!(self, Self::TakenOver | Self::Kicked)
    }

    /// The whole sentence for the user: what happened, to which connection, and the fix.
    #[must_use]
    pub fn describe(&self, connection: &MqttConnection) -> String {
        let MqttConnection { host, port, client_id, .. } = connection;
        let at = format!("{host}:{port}");
        match self {
            Self::Resolve(error) => format!("`{host}` has no address ({error}); check the host's name and the DNS"),
            Self::Dial(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("{at} refuses connections; is the broker running and listening on that port?")
            }
            Self::Dial(error) => format!("{at} cannot be reached ({error})"),
            Self::TimedOut(what) => format!("{at}: {what} in time; check address, port and firewall"),
            Self::Tls(error) => format!("{at}: {error}"),
            Self::Secret(error) => format!("{at}: the password cannot be read: {error}"),
            Self::Refused { code, version, text } => {
                format!("{at} refused the connection: {}{}", refusal(*code, *version, connection), Words(text))
            }
            Self::ClosedAtOnce => format!(
                "{at} closed the connection before answering; {}is it an MQTT broker, and is client-id `{client_id}` allowed?",
                if connection.tls.is_none() { "does it expect TLS (mqtts://), " } else { "" }
            ),
            Self::Kicked => format!(
                "{at} accepts the connection and closes it within seconds, again and again: another client probably uses \
                 client-id `{client_id}` (give every gateway its own), or the broker does not authorise it"
            ),
            Self::TakenOver => format!(
                "{at}: another client took over client-id `{client_id}`; give every gateway a client-id of its own"
            ),
            Self::Disconnected { reason, text } => {
                format!("{at} disconnected us: {} (0x{reason:02x}){}", reason_name(*reason), Words(text))
            }
            Self::Closed => format!("{at} closed the connection"),
            Self::Io(error) => format!("the connection to {at} broke: {error}"),
            Self::Silent => format!("{at} is silent: no answer to a ping within half the keep-alive"),
            Self::Stalled(what) => format!("{at} answers pings, but {what}"),
            Self::Malformed(Malformed(what)) => format!("{at} sent {what}; is it an MQTT broker?"),
            Self::QosTooLow => format!("{at} takes QoS 0 only; records cannot be delivered reliably there"),
        }
    }
}

/// The broker's own words in brackets, if there are any.
struct Words<'a>(&'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (\"{}\")", self.0.escape_debug()) }
    }
}

fn refusal(code: u8, version: Version, connection: &MqttConnection) -> String {
    match (version, code) {
        (Version::V311, 4 | 5) | (Version::V5, 0x86 | 0x87) => {
            let what = if matches!(code, 4 | 0x86) { "bad user name or password" } else { "not authorised" };
            format!("{what}; we said {}", credentials(connection))
        }
        (Version::V311, 1) | (Version::V5, 0x84) => format!("it does not speak {version}; set `version`"),
        (Version::V311, 2) | (Version::V5, 0x85) => {
            format!("it does not allow client-id `{}`", connection.client_id)
        }
        (Version::V311, 3) | (Version::V5, 0x88) => "it is not available now".to_owned(),
        (Version::V311, _) => format!("unknown code {code}"),
        (Version::V5, _) => format!("{} (0x{code:02x})", reason_name(code)),
    }
}

fn credentials(connection: &MqttConnection) -> String {
    let user = match &connection.username {
        Some(name) => format!("user name `{name}`"),
        None => "no user name".to_owned(),
    };
    match &connection.password {
        Some(Secret::File(path)) => format!("{user} and the password in {}", path.display()),
        Some(Secret::Env(name)) => format!("{user} and the password in ${name}"),
        None => format!("{user} and no password"),
    }
}

/// MQTT 5.0 §2.4, of what a client meets.
#[must_use]
pub const fn reason_name(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x10 => "no matching subscribers",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x87 => "not authorised",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8d => "keep-alive timeout",
        0x8e => "session taken over",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9b => "QoS not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9e => "shared subscriptions not supported",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        0xa2 => "wildcard subscriptions not supported",
        _ => "reason",
    }
}
