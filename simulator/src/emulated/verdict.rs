//! What a run in the box came to, and whether the board bears it.

use core::fmt;

use weir::board::Board;
use weir::envelope;
use weir::record::RecordKind;
use weir::units::Bytes;

use super::machine::{Boot, Sample, samples};
use super::page::Page;
use crate::compare::Comparison;

/// Latencies that are kept; of more, the first.
const LATENCIES_MAX: usize = 500_000;
const DAY_SECONDS: f64 = 86_400.0;

/// From a device's reading (`ts` in its payload, milliseconds) to the arrival of the message upstream, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<i64>);

impl Latencies {
    /// Takes a document that came upstream at `now_ms`.
    pub fn take(&mut self, document: &[u8], now_ms: i64) {
        let read = || {
            let record = envelope::parse(document).ok().filter(|record| record.kind == RecordKind::Message)?;
            let payload: serde_json::Value = serde_json::from_slice(&record.payload().ok()?).ok()?;
            payload.get("ts")?.as_i64()
        };
        // Readings with a wrong clock, and those that the scenario sends late, tell nothing.
        if let Some(ms) = read().map(|at| now_ms - at).filter(|ms| (0..600_000).contains(ms))
            && self.0.len() < LATENCIES_MAX
        {
            self.0.push(ms);
        }
    }

    fn sorted(&self) -> Vec<i64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
    }
}

/// What the verdict looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Resident memory against the board's grant.
    pub memory: bool,
    /// Totals, books and losses.
    pub loss: bool,
    /// The 99th percentile from device to upstream, in milliseconds at most.
    pub latency_ms: Option<i64>,
    /// Bytes on the disk at this load, all day, against what the board grants a day.
    pub flash: bool,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is emulated.
    pub machine: String,
    /// Every boot.
    pub boots: Vec<Boot>,
    /// Samples before the load.
    pub idle: Vec<Sample>,
    /// Samples during the load.
    pub load: Vec<Sample>,
    /// Bytes written to the disk from the begin of the load on, and in how many seconds.
    pub disk: (u64, f64),
    /// How long devices sent.
    pub load_seconds: f64,
    /// Messages that the broker acknowledged to them.
    pub published: u64,
    /// Whether a fleet names a meter.
    pub is_metered: bool,
    /// Truth against upstream.
    pub comparison: Comparison,
    /// From device to upstream.
    pub latencies: Latencies,
    /// The metrics page at the end.
    pub page: Page,
}

impl Outcome {
    /// Takes what a boot has said since the load began, or since it was switched on.
    pub(super) fn add_boot(&mut self, console: &str) {
        let new = samples(console);
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return };
        // A later boot begins with nothing written.
        let (disk, at) = if self.boots.len() == 1 { (first.disk, first.at) } else { (0, 0.0) };
        self.disk.0 += last.disk - disk;
        self.disk.1 += last.at - at;
        self.load.extend(new);
    }

    /// What does not hold, one line each.
    #[must_use]
    pub fn faults(&self, board: &Board, limits: &Limits) -> Vec<String> {
        let mut faults = Vec::new();
        let mut hold = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        if limits.memory {
            let highest = Bytes(self.rss_max() * 1024);
            hold(highest.0 > 0, "memory: the guest never told of it".to_owned());
            let granted = board.memory;
            hold(highest <= granted, format!("memory: {highest} were resident; board {} grants {granted}", board.name));
        }
        if limits.loss {
            let Comparison { truth, .. } = &self.comparison;
            hold(self.published > 0, "loss: the devices sent nothing".to_owned());
            let counted = truth.messages > 0 || !self.is_metered;
            hold(counted, "loss: fleets name a meter, but nothing they sent was to be metered".to_owned());
            hold(self.comparison.is_right(), "loss: upstream differs from the truth, see the table".to_owned());
            let (residue, lost, pending) = (self.page.sum("weir_books_residue"), self.page.lost(), self.page.pending());
            hold(residue == 0.0, format!("loss: the books do not balance: residue {residue}"));
            hold(lost == 0.0, format!("loss: {lost} messages or records were dropped"));
            hold(pending == 0.0, format!("loss: {pending} messages or records have not come upstream in time"));
            hold(
                self.page.received() > 0.0,
                "loss: the gateway received nothing: do topics and triggers match?".into(),
            );
        }
        if let Some(most) = limits.latency_ms {
            let sorted = self.latencies.sorted();
            if let Some(high) = percentile(&sorted, 99) {
                hold(high <= most, format!("latency: p99 {high} ms; {most} ms at most are asked for"));
            }
        }
        if limits.flash {
            let (day, granted) = (self.disk_day(), board.flash_writes_per_day);
            hold(day <= granted, format!("flash: {day} a day at this load; board {} grants {granted}", board.name));
        }
        faults
    }

    /// Highest resident set, KiB.
    fn rss_max(&self) -> u64 {
        // The kernel's own maximum is kept in steps of some pages.
        let highest = |sample: &Sample| sample.rss_max.max(sample.rss);
        self.idle.iter().chain(&self.load).map(highest).max().unwrap_or(0)
    }

    fn disk_day(&self) -> Bytes {
        per_day(self.disk.0, self.disk.1)
    }
}

fn per_day(bytes: u64, seconds: f64) -> Bytes {
    Bytes((bytes as f64 / seconds.max(1.0) * DAY_SECONDS) as u64)
}

/// Of sorted values; `None`: there are none.
fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

fn memory(f: &mut fmt::Formatter<'_>, when: &str, samples: &[Sample]) -> fmt::Result {
    let of = |field: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(field).collect();
        values.sort_unstable();
        (percentile(&values, 50).unwrap_or(0), percentile(&values, 99).unwrap_or(0))
    };
    let (rss, pss, anonymous) = (of(|s| s.rss), of(|s| s.pss), of(|s| s.anonymous));
    writeln!(
        f,
        "memory, {when}: RSS {} KiB median, {} p99; PSS {} median, {} p99; of it anonymous {}, {}; {} samples",
        rss.0,
        rss.1,
        pss.0,
        pss.1,
        anonymous.0,
        anonymous.1,
        samples.len()
    )
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine: {}", self.machine)?;
        for (index, boot) in self.boots.iter().enumerate() {
            writeln!(f, "boot {}: {boot}", index + 1)?;
        }
        if let (Some(first), Some(last)) = (self.idle.first(), self.idle.last()) {
            memory(f, "idle", &self.idle)?;
            let seconds = last.at - first.at;
            let (disk, net) = (last.disk - first.disk, last.net - first.net);
            writeln!(
                f,
                "idle for {seconds:.0} s: {disk} bytes to the disk ({} a day), {net} bytes over the network ({} a day)",
                per_day(disk, seconds),
                per_day(net, seconds)
            )?;
        }
        memory(f, "load", &self.load)?;
        let planned = self.page.sum("weir_process_planned_bytes");
        writeln!(
            f,
            "highest resident set {} KiB; the plan says {:.0} KiB, {:.0} more",
            self.rss_max(),
            planned / 1024.0,
            planned / 1024.0 - self.rss_max() as f64
        )?;
        let received = self.page.received();
        let busy: f64 = self.cpu_share() * 100.0;
        writeln!(
            f,
            "load: {} messages in {:.1} s, {:.0} a second; {received} received since the store was made; the gateway kept the \
             emulated processor busy for {busy:.0} % of the time",
            self.published,
            self.load_seconds,
            self.published as f64 / self.load_seconds.max(1.0)
        )?;
        writeln!(
            f,
            "disk: {} bytes written, {:.0} a message ({} a day at this load); the gateway itself counts {} since its last start",
            self.disk.0,
            self.disk.0 as f64 / received.max(1.0),
            self.disk_day(),
            Bytes(self.written() as u64)
        )?;
        let sorted = self.latencies.sorted();
        match (percentile(&sorted, 50), percentile(&sorted, 99)) {
            (Some(median), Some(high)) => {
                writeln!(f, "latency, device to upstream: {median} ms median, {high} p99, {} messages", sorted.len())?;
            }
            _ => writeln!(f, "latency: no message with a time `ts` of its own came upstream")?,
        }
        let (residue, doubles) = (self.page.sum("weir_books_residue"), self.page.sum("weir_messages_duplicate_total"));
        writeln!(f, "books: residue {residue}; {doubles} redeliveries recognised")?;
        if self.is_metered {
            write!(f, "\n{}", self.comparison)
        } else {
            write!(f, "no fleet names a meter, so that totals cannot be held against the truth: only the books are")
        }
    }
}

impl Outcome {
    /// The gateway's part of the processor's time during the load.
    fn cpu_share(&self) -> f64 {
        let pairs = || self.load.windows(2).filter(|pair| pair[1].at > pair[0].at && pair[1].cpu >= pair[0].cpu);
        let cpu: u64 = pairs().map(|pair| pair[1].cpu - pair[0].cpu).sum();
        let time: f64 = pairs().map(|pair| pair[1].at - pair[0].at).sum();
        cpu as f64 / 100.0 / time.max(1.0)
    }

    /// Bytes that the gateway says it wrote.
    fn written(&self) -> f64 {
        self.page.bytes_written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::Totals;

    const LIMITS: Limits = Limits { memory: true, loss: true, latency_ms: Some(100), flash: true };

    fn right() -> Outcome {
        let boots = vec![Boot::default()];
        let mut outcome = Outcome { boots, published: 5, is_metered: true, ..Outcome::default() };
        outcome.comparison.truth = Totals { messages: 5, devices: 1, sum: 1.0 };
        outcome.page = Page::of("weir_messages_received_total 5\nweir_books_residue 0\n");
        outcome.add_boot(
            "GUEST sample 1.0 5000 4000 900 5100 10 1000 77\nGUEST sample 11.0 5000 4000 900 5200 90 3000 99\n",
        );
        outcome
    }

    fn faults(outcome: &Outcome) -> String {
        outcome.faults(&Board::built_in("qemu-virt-64m").expect("a board"), &LIMITS).join("\n")
    }

    #[test]
    fn what_is_right_passes_and_is_told_with_its_figures() {
        let outcome = right();
        assert_eq!(faults(&outcome), "");
        let text = outcome.to_string();
        for part in ["2000 bytes written, 400 a message", "PSS 4000", "resident set 5200 KiB", "busy for 8 %"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn each_limit_is_held() {
        let check = |change: fn(&mut Outcome), fault: &str| {
            let mut outcome = right();
            change(&mut outcome);
            assert!(faults(&outcome).contains(fault), "{fault}: {}", faults(&outcome));
        };
        check(|outcome| outcome.load[1].rss_max = 21 << 10, "memory: 21 MiB were resident");
        check(|outcome| outcome.load.clear(), "memory: the guest never");
        check(|outcome| outcome.comparison.truth.messages = 0, "nothing they sent was to be metered");
        check(|outcome| outcome.published = 0, "the devices sent nothing");
        check(|outcome| outcome.page = Page::of("weir_books_residue 2\n"), "residue 2");
        check(|outcome| outcome.page = Page::of("weir_books_residue 0\n"), "received nothing");
        check(
            |outcome| outcome.page = Page::of("weir_messages_dropped_total{reason=\"x\"} 1\n"),
            "1 messages or records were",
        );
        check(
            |outcome| outcome.page = Page::of("weir_lane_records_pending{lane=\"x\"} 3\n"),
            "3 messages or records have not",
        );
        check(|outcome| outcome.latencies.0 = vec![5, 200], "latency: p99 200 ms");
        check(|outcome| outcome.disk.0 = 1 << 30, "flash: ");
    }

    #[test]
    fn a_later_boot_counts_from_its_beginning() {
        let mut outcome = right();
        outcome.boots.push(Boot::default());
        outcome.add_boot("GUEST sample 4.0 5000 4000 900 5100 10 1000 77\n");
        assert_eq!(outcome.disk, (3000, 14.0));
    }

    #[test]
    fn latency_is_read_from_messages_with_a_time() {
        let mut latencies = Latencies::default();
        let head = r#"{"v":1,"gateway":"g","lane":"m","seq":1,"kind":"message","at":1,"quality":"synced","topic":"t","payload":"#;
        for payload in ["{\"ts\":1000}", "{\"ts\":9000}", "5"] {
            latencies.take(format!("{head}{payload}}}").as_bytes(), 1500);
        }
        assert_eq!(latencies.0, [500]);
    }
}
