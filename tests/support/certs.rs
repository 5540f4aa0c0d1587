//! Certificates for the tests' brokers.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// An authority; its certificate in `file`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: PathBuf,
}

/// How long a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    Expired,
    /// For ten days.
    Soon,
    /// From so many seconds after 1970 began.
    Since(u64),
}

impl Authority {
    /// A new one, in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.crt"));
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A certificate for localhost and its key, as files in `folder`.
    pub fn sign(&self, folder: &Path, name: &str, validity: Validity) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        match validity {
            Validity::Now => {}
            Validity::Expired => {
                (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
            }
            Validity::Soon => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                let ten_days = std::time::Duration::from_secs(10 * 86_400 + 3600);
                params.not_after = date_time_ymd(1970, 1, 1) + now + ten_days;
            }
            Validity::Since(seconds) => {
                params.not_before = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
            }
        }
        let key = KeyPair::generate().unwrap();
        let files = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&files.0, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}
