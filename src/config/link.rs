//! MQTT connections: URL, credentials, TLS. No password is printed, nor kept.

use std::path::PathBuf;

use crate::board;
use crate::strict::Section;
use crate::units::{Bytes, Millis};

use super::site::Place;
use super::{MqttConnection, MqttVersion, Secret, Tls};

/// Reads the keys that every connection has; `client_id` and `in_flight` are the defaults. The session of a connection
/// that only publishes has nothing to keep.
pub(super) fn read(section: &mut Section<'_>, place: Place<'_>, client_id: String, in_flight: u16) -> MqttConnection {
    let address = match section.text("url") {
        Some(text) => parse_url(text).unwrap_or_else(|why| {
            section.refuse("url", &why);
            Address::default()
        }),
        None => {
            if !section.has("url") {
                section.refuse("url", "is missing; write url = \"mqtt://HOST:1883\", or \"mqtts://HOST:8883\" for TLS");
            }
            Address::default()
        }
    };
    let password = password(section, place);
    if password.is_some() && !address.tls && !is_loopback(&address.host) {
        section.warn("url", "mqtt:// carries the password in clear over the network; mqtts:// encrypts it");
    }
    let versions = [("auto", MqttVersion::Auto), ("5", MqttVersion::V5), ("3.1.1", MqttVersion::V311)];
    let client_id = section.text("client-id").map_or(client_id, str::to_owned);
    if client_id.is_empty() || client_id.len() > 256 {
        section.refuse("client-id", "wants 1 to 256 bytes: the session hangs on it");
    }
    MqttConnection {
        tls: tls(section, place, &address),
        host: address.host,
        port: address.port,
        client_id,
        version: section.choice("version", &versions).unwrap_or_default(),
        keep_alive: section.millis("keep-alive", Millis(30_000), Millis(1_000)..=Millis(65_535_000)),
        session_expiry: Millis(0),
        in_flight: section.number("in-flight", in_flight, board::IN_FLIGHT),
        packet_max: section.bytes("packet-max", Bytes::kib(512), Bytes::kib(1)..=Bytes::mib(64)),
        username: section.text("username").map(str::to_owned),
        password,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    tls: bool,
}

/// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`; an IPv6 address stands in brackets. Errors do not repeat the text, which
/// may hold a password.
fn parse_url(text: &str) -> Result<Address, String> {
    const FORM: &str = "wants \"mqtt://HOST:1883\", or \"mqtts://HOST:8883\" for TLS";
    let (tls, rest) = match text.split_once("://") {
        Some(("mqtt" | "tcp", rest)) => (false, rest),
        Some(("mqtts" | "ssl", rest)) => (true, rest),
        Some((scheme, _)) => {
            let scheme: String = scheme.chars().take(20).collect();
            return Err(format!("has the scheme `{}`; {FORM}", scheme.escape_debug()));
        }
        None => return Err(format!("has no scheme; {FORM}")),
    };
    if rest.contains('@') {
        return Err(String::from(
            "holds a user or a password; write username = \"NAME\" and password-file = \"FILE\" beside it",
        ));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(format!("has a path; {FORM}"));
    }
    let (host, port) = split_port(rest).ok_or_else(|| format!("has no port number after the last `:`; {FORM}"))?;
    if host.is_empty() || host.contains(char::is_whitespace) || port == Some(0) {
        return Err(format!("has no host or port; {FORM}"));
    }
    Ok(Address { host: host.to_owned(), port: port.unwrap_or(if tls { 8883 } else { 1883 }), tls })
}

/// `None`: what stands behind the colon is no port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, behind) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    match behind.strip_prefix(':') {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => behind.is_empty().then_some((host, None)),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

fn password(section: &mut Section<'_>, place: Place<'_>) -> Option<Secret> {
    if section.has("password") {
        section.refuse(
            "password",
            "is not taken here, where it would be copied and logged with the file; put it into a file of its own and write \
             password-file = \"FILE\", or password-env = \"VARIABLE\"",
        );
    }
    let file = section.text("password-file").map(|text| place.path(text));
    let variable = section.text("password-env").map(str::to_owned);
    match (file, variable) {
        (Some(_), Some(_)) => {
            section.refuse("password-env", "is given beside password-file; keep one of them");
            None
        }
        (Some(path), None) => {
            require_file(section, place, "password-file", &path);
            warn_if_open(section, place, "password-file", &path);
            Some(Secret::File(path))
        }
        (None, Some(variable)) => {
            if !place.site.has_env(&variable) {
                section.warn("password-env", &format!("the environment has no `{variable}` here; `weir run` needs it"));
            }
            Some(Secret::Env(variable))
        }
        (None, None) => None,
    }
}

fn tls(section: &mut Section<'_>, place: Place<'_>, address: &Address) -> Option<Tls> {
    let mut own = section.section("tls");
    let tls = Tls {
        ca_file: file(&mut own, place, "ca-file"),
        cert_file: file(&mut own, place, "cert-file"),
        key_file: file(&mut own, place, "key-file"),
        server_name: own.text("server-name").map(str::to_owned),
    };
    if let Some(path) = &tls.key_file {
        warn_if_open(&own, place, "key-file", path);
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => own.refuse("key-file", "is missing: cert-file needs the key that belongs to it"),
        (None, Some(_)) => own.refuse("cert-file", "is missing: key-file needs the certificate that belongs to it"),
        _ => {}
    }
    if address.tls && tls.ca_file.is_none() && !own.has("ca-file") {
        own.refuse(
            "ca-file",
            "is missing: mqtts:// needs the certificates to trust; \"/etc/ssl/certs/ca-certificates.crt\" are those of Debian",
        );
    }
    if !address.tls && !address.host.is_empty() && own.is_present() {
        own.refuse("", "is for mqtts://; the url says mqtt://");
    }
    own.close();
    address.tls.then_some(tls)
}

fn file(section: &mut Section<'_>, place: Place<'_>, key: &'static str) -> Option<PathBuf> {
    let path = place.path(section.text(key)?);
    require_file(section, place, key, &path);
    Some(path)
}

fn require_file(section: &Section<'_>, place: Place<'_>, key: &str, path: &std::path::Path) {
    if let Err(why) = place.site.size(path) {
        section.refuse(key, &format!("{}: {why}", path.display()));
    }
}

fn warn_if_open(section: &Section<'_>, place: Place<'_>, key: &str, path: &std::path::Path) {
    if let Some(mode) = place.site.mode(path).filter(|mode| mode & 0o077 != 0) {
        let path = path.display();
        section
            .warn(key, &format!("{path} has mode {:03o}, so that others may read it; chmod 600 {path}", mode & 0o777));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_their_faults_say_the_form() {
        let address = |host: &str, port, tls| Ok(Address { host: host.to_owned(), port, tls });
        assert_eq!(parse_url("mqtt://broker"), address("broker", 1883, false));
        assert_eq!(parse_url("mqtts://broker.example.org/"), address("broker.example.org", 8883, true));
        assert_eq!(parse_url("mqtt://10.0.0.1:1884"), address("10.0.0.1", 1884, false));
        assert_eq!(parse_url("mqtts://[::1]:8884"), address("::1", 8884, true));
        for (text, why) in [
            ("broker:1883", "no scheme"),
            ("http://broker", "scheme `http`"),
            ("mqtt://broker:port", "no port number"),
            ("mqtt://broker:99999", "no port number"),
            ("mqtt://:1883", "no host"),
            ("mqtt://broker/a/b", "a path"),
            ("mqtt://me:hunter2@broker", "username = "),
            ("mqtt://[::1", "no port"),
        ] {
            let error = parse_url(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
