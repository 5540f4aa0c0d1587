//! Broker and upstream: a real connection to each, and whether the broker keeps sessions.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::certificates::judge;
use super::{Finding, Findings, Level};
use crate::config::{Config, MqttConnection, SinkKind};
use crate::shell::certificate::validity;
use crate::shell::clock::Clock;
use crate::shell::mqtt::connect::{Memory, Role, Session, Stream, connect};
use crate::shell::mqtt::error::LinkError;
use crate::shell::mqtt::wire::Wire;
use crate::time::Stopwatch as _;
use crate::units::Millis;

/// A session of the probe outlives it by this at most, should cleaning up fail.
const PROBE_EXPIRY: Millis = Millis(60_000);

pub(super) fn look(config: &Config, findings: &mut Findings) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return findings.fail("broker", "no runtime for connections", "free memory or file descriptors");
    };
    runtime.block_on(async {
        let broker = probe(&config.broker);
        if reach("broker", &broker, findings).await {
            session(&broker, &config.broker, findings).await;
        }
        for sink in &config.sinks {
            let what = format!("sink {}", sink.name);
            match &sink.kind {
                SinkKind::Mqtt { connection, .. } => drop(reach(&what, &probe(connection), findings).await),
                SinkKind::File { dir, .. } => folder(&what, dir, findings),
            }
        }
    });
}

/// The connection under an identifier of our own: the gateway's would be thrown out.
fn probe(connection: &MqttConnection) -> MqttConnection {
    let client_id = format!("{}-doctor", connection.client_id);
    MqttConnection { client_id, session_expiry: PROBE_EXPIRY, ..connection.clone() }
}

async fn close(session: Session) {
    let wire = Wire::new(session, 4096, Duration::ZERO, Arc::default());
    wire.close(0).await;
}

/// Connects and says what came of it; whether it worked.
async fn reach(what: &str, probe: &MqttConnection, findings: &mut Findings) -> bool {
    let mut clock = Clock::default();
    let began_us = clock.mono_us();
    match connect(probe, Role::Publisher, &mut Memory::default()).await {
        Ok(session) => {
            let took_ms = (clock.mono_us() - began_us) / 1000;
            let tls = if probe.tls.is_some() { ", TLS" } else { ", in clear" };
            let MqttConnection { host, port, .. } = probe;
            findings.ok(what, format!("{host}:{port} answers after {took_ms} ms: {}{tls}", session.version));
            findings.0.extend(server_certificate(what, &session, clock.now().wall_ms / 1000));
            close(session).await;
            true
        }
        Err(error) => {
            findings.fail(what, error.describe(probe), fix(&error));
            false
        }
    }
}

const fn fix(error: &LinkError) -> &'static str {
    match error {
        LinkError::Resolve(_) | LinkError::Dial(_) | LinkError::TimedOut(_) => "start it, or correct the url",
        LinkError::Tls(_) => "correct the tls section, or the clock",
        LinkError::Secret(_) => "give the file or variable that holds it",
        LinkError::Refused { .. } => "correct login, version or client-id, or allow the probe's identifier",
        _ => "look into the broker's own log",
    }
}

fn server_certificate(what: &str, session: &Session, now: i64) -> Option<Finding> {
    let Stream::Tls(stream) = &session.stream else { return None };
    let dates = validity(stream.get_ref().1.peer_certificates()?.first()?)?;
    let (level, text, fix) = judge(dates, now);
    let fix = if level == Level::Ok { "" } else { fix };
    Some(Finding { level, what: format!("{what} server certificate"), text, fix: fix.to_owned() })
}

/// Whether the broker keeps a session for who comes back.
async fn session(probe: &MqttConnection, configured: &MqttConnection, findings: &mut Findings) {
    const WHAT: &str = "broker session";
    let mut memory = Memory::default();
    let kept = async {
        // Anything that an earlier probe has left goes first, and what this one leaves at the end.
        close(connect(probe, Role::Publisher, &mut memory).await?).await;
        close(connect(probe, Role::Source, &mut memory).await?).await;
        let again = connect(probe, Role::Source, &mut memory).await?;
        let kept = again.connack.session_present;
        close(again).await;
        close(connect(probe, Role::Publisher, &mut memory).await?).await;
        Ok::<_, LinkError>(kept)
    };
    match kept.await {
        Ok(true) if configured.session_expiry.0 == 0 => findings.warn(
            WHAT,
            "broker.session-expiry is 0: what is published while the gateway is away is lost",
            "leave session-expiry out, or set it to the longest outage that must cost nothing",
        ),
        Ok(true) => findings.ok(WHAT, "is kept over a reconnection; whether it outlives a restart of the broker cannot be tried from here"),
        Ok(false) => findings.warn(
            WHAT,
            "is forgotten at once: what is published while the gateway is away is lost",
            "let the broker keep sessions of this client-id (mosquitto: persistence true, no persistent_client_expiration of 0)",
        ),
        Err(error) => findings.warn(WHAT, format!("could not be tried: {}", error.describe(probe)), fix(&error)),
    }
}

/// A file sink's folder, or the one in which it will be made.
fn folder(what: &str, dir: &Path, findings: &mut Findings) {
    let Some(base) = dir.ancestors().map(existing_name).find(|path| path.is_dir()) else {
        return findings.fail(what, format!("{}: no folder on the way exists", dir.display()), "create it");
    };
    let file = base.join(format!(".weir-doctor-{}", std::process::id()));
    match fs::write(&file, b"probe").and_then(|()| fs::remove_file(&file)) {
        Ok(()) if base == dir => findings.ok(what, format!("{} can be written", dir.display())),
        Ok(()) => findings.ok(what, format!("{} can be made in {}", dir.display(), base.display())),
        Err(error) => {
            let text = format!("{} cannot be written: {error}", base.display());
            findings.fail(what, text, "give it to the gateway's user, or make room");
        }
    }
}

/// A relative path ends at the empty one, which is here.
pub(super) fn existing_name(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
