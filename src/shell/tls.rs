//! TLS for client connections: rustls on ring, trust from a PEM file, optionally a client certificate.
//!
//! - Files are read at every connection, so renewed certificates need no restart.
//! - An error names the file, or the certificate's fault; an expired one is told together with our clock's date, because
//!   on a box without a clock battery the clock is as likely wrong as the certificate. When the clock is put right, the
//!   connection is tried again at once.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::clock::CertificateTime;
use crate::config::Tls;

/// Why TLS does not come about.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// A file cannot be read or holds nothing usable.
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The settings do not go together.
    Settings(String),
    /// The server's certificate was refused by us.
    Server(Box<CertificateError>),
    /// The server refused us.
    Alert(rustls::AlertDescription),
    /// Something else of TLS.
    Other(rustls::Error),
}

impl TlsError {
    /// The TLS error within an I/O error, if it is one.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match inner {
            rustls::Error::InvalidCertificate(error) => Self::Server(Box::new(error.clone())),
            rustls::Error::AlertReceived(alert) => Self::Alert(*alert),
            other => Self::Other(other.clone()),
        })
    }

    /// Whether another time of our clock would do.
    #[must_use]
    pub fn is_of_clock(&self) -> bool {
        let Self::Server(error) = self else { return false };
        matches!(
            **error,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    }

    /// A number that tells causes apart.
    #[must_use]
    pub fn cause(&self) -> i32 {
        match self {
            Self::File { .. } => 1,
            Self::Settings(_) => 2,
            Self::Server(error) => match **error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => 3,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => 4,
                CertificateError::UnknownIssuer => 5,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => 6,
                _ => 7,
            },
            Self::Alert(alert) => 0x100 | i32::from(u8::from(*alert)),
            Self::Other(_) => 8,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Settings(why) => f.write_str(why),
            Self::Server(error) => server_fault(f, error),
            Self::Alert(alert) => write!(
                f,
                "the server ended TLS with {alert:?}; does it want a client certificate (cert-file, key-file), and does it \
                 trust ours?"
            ),
            Self::Other(rustls::Error::InvalidMessage(error)) => {
                write!(f, "the server does not speak TLS ({error:?}); is this its TLS port?")
            }
            Self::Other(error) => write!(f, "TLS failed: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

fn server_fault(f: &mut fmt::Formatter<'_>, error: &CertificateError) -> fmt::Result {
    match error {
        CertificateError::Expired => f.write_str("the server's certificate has expired, or our clock is wrong"),
        CertificateError::ExpiredContext { time, not_after } => write!(
            f,
            "the server's certificate expired on {}; our clock says {}: renew the certificate, or set the clock",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYet => {
            f.write_str("the server's certificate is not valid yet, or our clock is wrong")
        }
        CertificateError::NotValidYetContext { time, not_before } => write!(
            f,
            "the server's certificate is valid from {}; our clock says {}: set the clock",
            date(*not_before),
            date(*time)
        ),
        CertificateError::UnknownIssuer => {
            f.write_str("the server's certificate is not signed by any certificate in ca-file")
        }
        CertificateError::NotValidForName => {
            f.write_str("the server's certificate is for another name; set server-name, or connect by that name")
        }
        CertificateError::NotValidForNameContext { expected, presented } => write!(
            f,
            "the server's certificate is for {}, not for {}; set server-name, or connect by that name",
            presented.join(", "),
            expected.to_str()
        ),
        other => write!(f, "the server's certificate is refused: {other}"),
    }
}

/// A connector and the name that the server's certificate must bear.
pub fn connector(tls: &Tls, host: &str) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(CertificateTime))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Other)?
        .with_root_certificates(roots(tls)?);
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| file_fault(cert, format!("does not go with {}: {error}", key.display())))?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::Settings("cert-file and key-file go together; one is missing".to_owned())),
    };
    // One connection for days: tickets would only hold memory.
    config.resumption = rustls::client::Resumption::disabled();
    let name = tls.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| TlsError::Settings(format!("`{name}` is neither a DNS name nor an address; set server-name")))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn roots(tls: &Tls) -> Result<RootCertStore, TlsError> {
    let Some(path) = &tls.ca_file else {
        return Err(TlsError::Settings("TLS needs ca-file: the certificates that are trusted".to_owned()));
    };
    let mut roots = RootCertStore::empty();
    // A bundle of a whole distribution may hold some that rustls does not take; one that counts is enough.
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(file_fault(path, "holds no certificate authority that can be used"));
    }
    Ok(roots)
}

/// The certificates of a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| file_fault(path, error))?.collect();
    match found {
        Ok(found) if found.is_empty() => Err(file_fault(path, "holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(file_fault(path, error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_fault(path, error))
}

fn file_fault(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), why: why.to_string() }
}

/// `2026-11-23`, by the civil calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn date(time: UnixTime) -> String {
    date_of_seconds(time.as_secs())
}

/// The same of seconds since 1970.
pub(super) fn date_of_seconds(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        for (seconds, want) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_609_459_199, "2020-12-31"),
            (4_102_444_800, "2100-01-01"),
        ] {
            assert_eq!(date(UnixTime::since_unix_epoch(core::time::Duration::from_secs(seconds))), want);
        }
    }

    #[test]
    fn a_missing_file_or_half_a_pair_is_said_by_name() {
        let said =
            |tls: &Tls| connector(tls, "broker.example").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said(&Tls::default()).contains("ca-file"));
        let missing = Tls { ca_file: Some("no/such/ca.pem".into()), ..Tls::default() };
        assert!(said(&missing).starts_with("no/such/ca.pem: "), "{}", said(&missing));
    }
}
