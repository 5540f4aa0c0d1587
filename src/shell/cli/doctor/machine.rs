//! The machine: clock, disk, store, and the running gateway against its plan.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use serde_json::json;

use super::super::status;
use super::super::store::check::{Verdict, losses, notes, verdict};
use super::Findings;
use super::links::existing_name;
use crate::budget::Plan;
use crate::shell::clock::Clock;
use crate::shell::control::{AskError, ask};
use crate::shell::store::inspect::{InspectError, folder_bytes, inspect};
use crate::time::{Stopwatch as _, TimeQuality};
use crate::units::Bytes;

/// Writes of the probe.
const WRITES: usize = 16;
const WRITE_BYTES: usize = 4096;
/// A single write that takes longer is a sign of a worn or overloaded medium.
const SLOW_US: u64 = 1_000_000;
/// Fewer free inodes are a warning: a lane makes a file for each segment.
const INODES_MIN: u64 = 1000;

pub(super) fn look(plan: &Plan, findings: &mut Findings) {
    clock(plan, findings);
    disk(plan, findings);
    store(plan, findings);
    gateway(plan, findings);
}

fn clock(plan: &Plan, findings: &mut Findings) {
    let now = Clock::default().now();
    let date = crate::shell::tls::date_of_seconds(u64::try_from(now.wall_ms / 1000).unwrap_or(0));
    let battery = if plan.loaded.board.rtc { "" } else { "; the board has no clock battery" };
    const FIX: &str = "let a service set it: systemctl enable --now systemd-timesyncd, or chrony";
    match now.quality {
        TimeQuality::Synced => findings.ok("clock", format!("synchronised or plausible: {date}{battery}")),
        TimeQuality::Restored => findings.warn(
            "clock",
            format!("says {date}, and the time service has not set it yet: windows are marked as restored{battery}"),
            FIX,
        ),
        TimeQuality::Unset => findings.fail(
            "clock",
            format!("says {date}, which cannot be: certificates are refused and windows marked as unset{battery}"),
            FIX,
        ),
    }
}

fn disk(plan: &Plan, findings: &mut Findings) {
    let dir = &plan.loaded.config.store.dir;
    let Some(base) = dir.ancestors().map(existing_name).find(|path| path.is_dir()) else {
        return findings.fail("disk", format!("{}: no folder on the way exists", dir.display()), "create it");
    };
    match statvfs(base) {
        Err(error) => findings.fail("disk", format!("{}: {error}", base.display()), "look at the mount"),
        Ok(stats) => {
            if stats.f_flag.contains(StatVfsMountFlags::RDONLY) {
                let text = format!("{} lies on a medium that is mounted read-only", base.display());
                let fix = "look into dmesg: a file system that found errors goes read-only; check it, then remount";
                return findings.fail("disk", text, fix);
            }
            let free = Bytes(stats.f_bavail.saturating_mul(stats.f_frsize));
            let used = if base == dir { Bytes(folder_bytes(dir)) } else { Bytes(0) };
            let wants = plan.budget.flash.total();
            let text = format!("{free} are free, the store has {used}; the plan takes {wants} at most");
            if wants.0 <= free.0.saturating_add(used.0) {
                findings.ok("disk room", text);
            } else {
                findings.warn("disk room", text, "free some, or lower the lanes' bytes-max");
            }
            if stats.f_files > 0 && stats.f_favail < INODES_MIN {
                let text = format!("{} files may still be made", stats.f_favail);
                findings.warn("disk files", text, "delete files that nobody needs");
            }
        }
    }
    speed(plan, base, findings);
}

/// Writes and syncs a page a few times, as a commit does.
fn speed(plan: &Plan, base: &Path, findings: &mut Findings) {
    let path = base.join(format!(".weir-doctor-{}", std::process::id()));
    let mut clock = Clock::default();
    let mut times = Vec::with_capacity(WRITES);
    let mut probe = || {
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        for index in 0..WRITES {
            let began_us = clock.mono_us();
            file.write_all_at(&[index as u8; WRITE_BYTES], (index * WRITE_BYTES) as u64)?;
            file.sync_data()?;
            times.push(clock.mono_us() - began_us);
        }
        Ok::<_, std::io::Error>(())
    };
    let outcome = probe();
    let _ = fs::remove_file(&path);
    if let Err(error) = outcome {
        let fix = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some room: no message is taken until there is",
            ErrorKind::PermissionDenied => "give the data folder to this user, or run the doctor as the gateway's",
            _ => "look into dmesg; replace the medium if it has errors",
        };
        return findings.fail("disk writes", format!("{}: {error}", base.display()), fix);
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let ms = |us: u64| format!("{}.{} ms", us / 1000, us % 1000 / 100);
    let text = format!("a page is written and synced in {} (half of {WRITES}), at most {}", ms(median), ms(longest));
    let interval_us = plan.loaded.config.commit.interval.0 * 1000;
    if SLOW_US <= longest || (interval_us > 0 && interval_us < median) {
        let fix = "a worn card is slow before it fails: look into dmesg; raise commit.interval, or replace it";
        findings.warn("disk writes", text, fix);
    } else {
        findings.ok("disk writes", text);
    }
}

fn store(plan: &Plan, findings: &mut Findings) {
    let config = &plan.loaded.config;
    let found = match inspect(&config.store.dir, Some(config)) {
        Ok(found) => found,
        Err(InspectError::Missing(dir) | InspectError::NoStore(dir)) => {
            return findings.ok("store", format!("{}: none yet; the first start makes it", dir.display()));
        }
        Err(error) => return findings.fail("store", error.to_string(), "run the doctor as the gateway's user"),
    };
    let records: u64 = found.outbox.lanes().iter().map(crate::outbox::Lane::records_pending).sum();
    match verdict(&found) {
        Verdict::Sound => findings.ok("store", format!("sound; {records} records wait")),
        Verdict::Look => findings.warn("store", notes(&found).join("; "), "`weir store check` tells more"),
        Verdict::Damaged => {
            let fix = "stop the gateway, `weir store repair` (it keeps copies), start it again; and look at the medium";
            findings.fail("store", losses(&found).join("; "), fix);
        }
    }
}

/// A running gateway's health, and what it takes of what was planned.
fn gateway(plan: &Plan, findings: &mut Findings) {
    let answer = match ask(&plan.loaded.config.store.dir, &json!({ "do": "status" }), status::PATIENCE) {
        Ok(answer) => answer,
        Err(AskError::NotRunning(_)) => {
            return findings.ok("gateway", "does not run; memory is not measured");
        }
        Err(error) => return findings.warn("gateway", error.to_string(), "run the doctor as the gateway's user"),
    };
    let health = &answer["health"];
    for reason in health["reasons"].as_array().cloned().unwrap_or_default() {
        let part = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
        let text = format!("{} {}: {}", part("reason"), part("subject"), part("text"));
        if part("state") == "failed" {
            findings.fail("gateway", text, "restart it: what it acknowledged is on flash");
        } else {
            findings.warn("gateway", text, "");
        }
    }
    if health["state"] == "ready" {
        findings.ok("gateway", "runs and is ready");
    }
    let memory = &answer["gateway"]["memory"];
    let (Some(resident), Some(planned)) = (memory["resident"].as_u64(), memory["planned"].as_u64()) else { return };
    let room = plan.budget.memory.room;
    let text = format!("{} are resident; the plan allows {}, the board grants {room}", Bytes(resident), Bytes(planned));
    if planned < resident {
        findings.warn("memory", text, "report it: the plan is meant to bound it; meanwhile leave it room");
    } else {
        findings.ok("memory", text);
    }
}
