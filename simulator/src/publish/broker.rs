//! Where to publish: `mqtt://[USER[:PASSWORD]@]HOST[:PORT]`.

use core::fmt;
use core::str::FromStr;

/// A broker's address and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// The MQTT version.
    pub version: Version,
}

/// Which MQTT version to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 5.0.
    #[default]
    V5,
    /// 3.1.1.
    V311,
}

/// Why an address was refused, and what would be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

/// Without the password.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({self}, {:?})", self.version)
    }
}

/// Without the login.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

impl FromStr for Broker {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = |why: &str| {
            // What stands before the host may be a password.
            let shown = text.rsplit('@').next().unwrap_or_default();
            Err(AddressError(format!("`{shown}` {why}; write mqtt://[USER[:PASSWORD]@]HOST[:PORT]")))
        };
        let Some(rest) = text.strip_prefix("mqtt://") else {
            return refuse("does not begin with mqtt:// (the simulator speaks plain MQTT only)");
        };
        let (login, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, rest)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((user.to_owned(), password.to_owned())), rest)
            }
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, "1883"),
        };
        let (Ok(port), false) = (port.parse(), host.is_empty()) else { return refuse("has no host or a bad port") };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, login, version: Version::V5 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_written_and_logins_never_shown() {
        for (text, host, port, user) in [
            ("mqtt://localhost", "localhost", 1883, None),
            ("mqtt://10.0.0.1:18830/weir/#", "10.0.0.1", 18830, None),
            ("mqtt://[::1]:99", "::1", 99, None),
            ("mqtt://ann:se:c@ret@host:1", "host", 1, Some("ann")),
        ] {
            let broker: Broker = text.parse().unwrap();
            assert_eq!((broker.host.as_str(), broker.port), (host, port), "{text}");
            assert_eq!(broker.login.as_ref().map(|(user, _)| user.as_str()), user);
            assert!(!format!("{broker} {broker:?}").contains("ret"));
        }
        for text in ["mqtts://ann:secret@host", "localhost:1883", "mqtt://", "mqtt://host:port"] {
            let error = text.parse::<Broker>().unwrap_err().to_string();
            assert!(error.contains("write mqtt://") && !error.contains("secret"), "{error}");
        }
    }
}
