//! Certificates in files: how long they are still good.

use std::path::Path;

use super::{Findings, Level};
use crate::config::{Config, SinkKind, Tls};
use crate::shell::certificate::{Validity, validity};
use crate::shell::clock::Clock;
use crate::shell::tls;

/// Fewer days are a warning.
const DAYS_WARN: i64 = 30;
const DAY: i64 = 86_400;
/// A file with more is the list of a distribution: one that is good is enough.
const OWN_MAX: usize = 8;

pub(super) fn look(config: &Config, findings: &mut Findings) {
    let now = Clock::default().now().wall_ms / 1000;
    if let Some(tls) = &config.broker.tls {
        of_connection("broker", tls, now, findings);
    }
    for sink in &config.sinks {
        if let SinkKind::Mqtt { connection, .. } = &sink.kind
            && let Some(tls) = &connection.tls
        {
            of_connection(&format!("sink {}", sink.name), tls, now, findings);
        }
    }
}

fn of_connection(what: &str, tls: &Tls, now: i64, findings: &mut Findings) {
    for (key, path) in [("ca-file", &tls.ca_file), ("cert-file", &tls.cert_file)] {
        let Some(path) = path else { continue };
        of_file(&format!("{what} {key}"), key, path, now, findings);
    }
}

fn of_file(what: &str, key: &str, path: &Path, now: i64, findings: &mut Findings) {
    let found = match tls::certificates(path) {
        Ok(found) => found,
        Err(error) => return findings.fail(what, error.to_string(), "name a PEM file with certificates"),
    };
    let dated: Vec<Validity> = found.iter().filter_map(|der| validity(der)).collect();
    if dated.is_empty() {
        let text = format!("{}: the dates of its certificates cannot be read", path.display());
        return findings.warn(what, text, "");
    }
    if key == "ca-file" && dated.len() > OWN_MAX {
        let good = dated.iter().filter(|dates| dates.from <= now && now <= dates.until).count();
        let text = format!("{}: {good} of {} certificates are valid now", path.display(), dated.len());
        let level = if good == 0 { Level::Failure } else { Level::Ok };
        let fix = if good == 0 { "set the clock, or update ca-certificates" } else { "" };
        return findings.add(level, what, text, fix);
    }
    // A chain is as good as the one that ends first; of authorities one that is good may do.
    let first = dated.iter().min_by_key(|dates| dates.until).copied().unwrap_or(dated[0]);
    let (level, text, fix) = judge(first, now);
    findings.add(level, what, format!("{}: {text}", path.display()), fix);
}

/// How long a certificate is still good.
pub(super) fn judge(dates: Validity, now: i64) -> (Level, String, &'static str) {
    let date = |seconds: i64| tls::date_of_seconds(u64::try_from(seconds).unwrap_or(0));
    let days = (dates.until - now).div_euclid(DAY);
    if now < dates.from {
        let text = format!("valid from {} only; our clock says {}", date(dates.from), date(now));
        (Level::Failure, text, "set the clock, or get a certificate that is valid now")
    } else if dates.until < now {
        (
            Level::Failure,
            format!("expired on {}; our clock says {}", date(dates.until), date(now)),
            "renew it, or set the clock",
        )
    } else if days < DAYS_WARN {
        (Level::Warning, format!("expires in {days} days, on {}", date(dates.until)), "renew it")
    } else {
        (Level::Ok, format!("valid for {days} days, until {}", date(dates.until)), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_are_judged() {
        let dates = Validity { from: 10 * DAY, until: 100 * DAY };
        for (day, level, text) in [
            (9, Level::Failure, "valid from 1970-01-11 only; our clock says 1970-01-10"),
            (10, Level::Ok, "valid for 90 days, until 1970-04-11"),
            (71, Level::Warning, "expires in 29 days, on 1970-04-11"),
            (101, Level::Failure, "expired on 1970-04-11; our clock says 1970-04-12"),
        ] {
            let judged = judge(dates, day * DAY);
            assert_eq!((judged.0, judged.1.as_str()), (level, text));
        }
    }
}
