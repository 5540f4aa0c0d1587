//! What of the emulated board's world lies on this machine: the broker of devices and of upstream, the disk's file, ports.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Fault;
use crate::publish::Broker;

/// This machine, as the guest sees it.
pub const ADDRESS: &str = "10.0.2.2";

/// Ports of this machine, on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// MQTT without TLS.
    pub plain: u16,
    /// MQTT with TLS.
    pub tls: u16,
    /// To the guest's metrics.
    pub metrics: u16,
}

/// The broker; it ends with its value.
pub struct Host {
    pub ports: Ports,
    /// The certificate that the guest is to trust, as PEM.
    pub authority: String,
    broker: Child,
}

impl Host {
    /// Starts the broker with files in `work`. It keeps its queues in memory and loses none.
    pub async fn start(work: &Path) -> Result<Self, Fault> {
        let mosquitto = find("mosquitto").ok_or("no mosquitto: apt-get install mosquitto")?;
        let work = fs::canonicalize(work).map_err(|error| format!("{}: {error}", work.display()))?;
        let ports = Ports { plain: free_port()?, tls: free_port()?, metrics: free_port()? };
        let authority = certificates(&work)?;
        let conf = work.join("mosquitto.conf");
        let user = if is_root() { "user root\n" } else { "" };
        let text = format!(
            "{user}allow_anonymous true\npersistence false\nset_tcp_nodelay true\nmax_inflight_messages 0\n\
             max_queued_messages 0\nmax_queued_bytes 0\nlog_dest file {dir}/mosquitto.log\n\
             listener {} 127.0.0.1\nlistener {} 127.0.0.1\ncertfile {dir}/broker.crt\nkeyfile {dir}/broker.key\n",
            ports.plain,
            ports.tls,
            dir = work.display()
        );
        write(&conf, text.as_bytes())?;
        let mut command = Command::new(mosquitto);
        command.arg("-c").arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = command.spawn().map_err(|error| format!("mosquitto: {error}"))?;
        let host = Self { ports, authority, broker };
        let until = Instant::now() + Duration::from_secs(20);
        for port in [ports.plain, ports.tls] {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                if until < Instant::now() {
                    return Err(format!("mosquitto does not listen; see {}/mosquitto.log", work.display()));
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(host)
    }

    /// Its address, for the devices and for what listens upstream.
    pub fn broker(&self) -> Result<Broker, Fault> {
        format!("mqtt://127.0.0.1:{}", self.ports.plain).parse().map_err(|error| format!("{error}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// An authority and a certificate for [`ADDRESS`]; answers the authority's.
fn certificates(work: &Path) -> Result<String, Fault> {
    let made = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "weir emulated board");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(std::net::IpAddr::from([10, 0, 2, 2])));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((issuer.pem(), certificate.pem(), key.serialize_pem()))
    };
    let (authority, certificate, key) = made().map_err(|error| format!("certificates: {error}"))?;
    write(&work.join("broker.crt"), certificate.as_bytes())?;
    write(&work.join("broker.key"), key.as_bytes())?;
    Ok(authority)
}

/// An empty ext4 in a file of `work`.
pub fn disk(work: &Path, mib: u64) -> Result<PathBuf, Fault> {
    let file = work.join("disk");
    let fault = |error: std::io::Error| format!("{}: {error}", file.display());
    let _ = fs::remove_file(&file);
    fs::File::create(&file).and_then(|made| made.set_len(mib << 20)).map_err(fault)?;
    let mkfs = find("mkfs.ext4").or_else(|| find("mke2fs")).ok_or("no mkfs.ext4: apt-get install e2fsprogs")?;
    run(Command::new(mkfs).args(["-q", "-F", "-t", "ext4"]).arg(&file))?;
    Ok(file)
}

/// The program `name` in `PATH` or in the folders where daemons lie.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a command and says which one failed.
pub fn run(command: &mut Command) -> Result<(), Fault> {
    let name = format!("{command:?}");
    match command.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}: {name}")),
        Err(error) => Err(format!("{error}: {name}")),
    }
}

/// Standard output of a command that succeeded.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Fault> {
    fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}
