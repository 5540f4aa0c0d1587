//! The end: simulated truth against what arrived upstream, the books, and whether all is as promised.

use serde_json::{Map, Value, json};
use weir_simulator::compare::Comparison;
use weir_simulator::truth::Totals;

use crate::page::Books;
use crate::state::State;
use crate::view::text::Look::{Bad, Bold, Dim, Good, Plain};
use crate::view::text::{Line, Look, bytes, grouped, grouped_sum};

/// What the summary is made of.
pub struct Ended<'a> {
    /// The last moment.
    pub state: &'a State,
    /// Truth and upstream, meter by meter.
    pub comparison: &'a Comparison,
    /// Messages that the devices published and the broker acknowledged.
    pub published: u64,
    /// Of these: malformed ones.
    pub malformed: u64,
    /// Why the devices did not publish everything, if so.
    pub fleet_fault: Option<String>,
    /// Whether the gateway ended as it was asked to.
    pub gateway_ended: bool,
}

/// One promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// Whether it does.
    pub passed: bool,
    /// The figures.
    pub detail: String,
}

impl Ended<'_> {
    /// Everything that must hold.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let Self { state, comparison, published, .. } = self;
        let books = &state.page.books;
        let check = |name, passed, detail| Check { name, passed, detail };
        let (truth, upstream) = (comparison.truth, comparison.upstream);
        let missing: u64 = comparison.gaps.iter().map(|gap| gap.missing).sum();
        vec![
            check(
                "upstream equals the truth",
                comparison.is_exact() && truth == upstream && 0 < truth.messages,
                format!("{} metered readings of {} devices", grouped(upstream.messages), upstream.devices),
            ),
            check(
                "the books balance",
                state.unbalanced == 0 && books.residue == 0 && 0 < state.looks,
                format!(
                    "residue {}; balanced at {} of {} looks",
                    books.residue,
                    state.looks - state.unbalanced,
                    state.looks
                ),
            ),
            check(
                "every message is in the books once",
                books.received == *published,
                format!("{} published, {} received", grouped(*published), grouped(books.received)),
            ),
            check(
                "nothing is left behind",
                books.pending == 0 && state.page.waiting() == 0,
                format!("{} messages pending, {} records waiting", books.pending, state.page.waiting()),
            ),
            check(
                "no record is missing upstream",
                missing == 0,
                format!("{missing} unexplained gaps in the sequences"),
            ),
            check(
                "the devices got rid of everything",
                self.fleet_fault.is_none(),
                self.fleet_fault.clone().unwrap_or_else(|| "all acknowledged by their broker".to_owned()),
            ),
            check(
                "the gateway ended in order",
                self.gateway_ended,
                if self.gateway_ended { "exit code 0" } else { "it did not end as asked, or with an error" }.to_owned(),
            ),
        ]
    }

    /// The summary as JSON: `truth` and `upstream` have the same keys.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self { state, comparison, .. } = self;
        let checks = self.checks();
        let (calls, fuel, time_us) = state.page.calls();
        let each = |total: u64, of: u64| if of == 0 { 0.0 } else { total as f64 / of as f64 };
        let flash = state.flash();
        let meters: Map<String, Value> = comparison
            .meters
            .iter()
            .map(|(name, (truth, upstream))| (name.clone(), json!({ "truth": truth, "upstream": upstream })))
            .collect();
        let functions: Map<String, Value> = state
            .page
            .functions
            .iter()
            .map(|f| {
                let value = json!({
                    "invocations": f.invocations, "errors": f.errors, "filtered": f.filtered, "fuel": f.fuel,
                    "time_us": f.time_us, "memory": f.memory,
                });
                (f.name.clone(), value)
            })
            .collect();
        json!({
            "passed": checks.iter().all(|check| check.passed),
            "checks": checks.iter().map(|check| json!({
                "name": check.name, "passed": check.passed, "detail": check.detail,
            })).collect::<Vec<_>>(),
            "books": books(&state.page.books),
            "truth": comparison.truth,
            "upstream": comparison.upstream,
            "meters": meters,
            "seconds": state.for_ms as f64 / 1000.0,
            "published": self.published,
            "malformed": self.malformed,
            "rates": {
                "published_per_second": each(self.published * 1000, state.for_ms),
                "published_per_second_max": state.rate_max,
            },
            "records": {
                "upstream": state.arrived.records, "aggregates": state.arrived.aggregates,
                "messages": state.arrived.messages, "dead_letters": state.arrived.dead_letters,
                "delivered_again": state.arrived.repeated, "outbox_max": state.waiting_max,
            },
            "kills": state.kills,
            "outage_seconds": state.outage_ms as f64 / 1000.0,
            "redelivered_by_broker": state.redelivered,
            "duplicates_recognised": state.page.books.duplicates,
            "rss_bytes": { "max": state.rss_max, "planned": state.page.rss_planned },
            "fuel": { "total": fuel, "invocations": calls, "per_invocation": each(fuel, calls), "time_us": time_us },
            "flash": {
                "commits": flash.commits, "bytes": flash.bytes,
                "bytes_per_message": each(flash.bytes, state.page.books.received),
            },
            "functions": functions,
        })
    }

    /// The summary for people.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let checks = self.checks();
        let passed = checks.iter().all(|check| check.passed);
        let mut lines = vec![Line::default()];
        lines.extend(self.table());
        lines.push(Line::default());
        lines.extend(self.figures());
        lines.push(Line::default());
        lines.extend(checks.iter().map(|check| {
            let (look, mark) = mark(check.passed);
            let line = Line::default().put(look, format!("  {mark} ")).put(Plain, check.name).pad(42);
            line.put(if check.passed { Dim } else { Bad }, check.detail.clone())
        }));
        lines.push(Line::default());
        let verdict = if passed { "  PASS  nothing lost, nothing counted twice" } else { "  FAIL" };
        lines.push(Line::default().put(Bold, "").put(if passed { Good } else { Bad }, verdict));
        lines
    }

    fn table(&self) -> Vec<Line> {
        let head = format!("  {:<24}{:<12}{:>16}{:>16}", "meter", "", "simulated", "upstream");
        let mut lines = vec![Line::default().put(Dim, head)];
        for (name, (truth, upstream)) in &self.comparison.meters {
            lines.extend(rows(name, truth, upstream));
        }
        lines
    }

    fn figures(&self) -> Vec<Line> {
        let state = self.state;
        let books = &state.page.books;
        let (calls, fuel, _) = state.page.calls();
        let flash = state.flash();
        let figure = |name: &str| Line::default().put(Bold, format!("  {name:<11}"));
        let mut lines = vec![
            figure("books")
                .count(Plain, books.received, "received =")
                .count(Plain, books.delivered, "delivered +")
                .count(Plain, books.filtered, "filtered +")
                .count(Plain, books.aggregated, "aggregated +"),
            figure("")
                .count(Plain, books.dead_lettered, "dead-lettered +")
                .count(Plain, books.expired, "expired +")
                .count(Plain, books.dropped(), "dropped +")
                .count(Plain, books.pending, "pending"),
        ];
        let dropped = books.dropped.iter().filter(|(_, count)| 0 < **count);
        let dropped: Vec<String> = dropped.map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
        if !dropped.is_empty() {
            lines.push(figure("").put(Dim, format!("dropped: {}", dropped.join(", "))));
        }
        let again = format!("{} messages delivered again by the broker, ", grouped(state.redelivered));
        lines.push(
            figure("endured")
                .put(Plain, format!("{:.1} s", state.outage_ms as f64 / 1000.0))
                .put(Dim, " without upstream, ")
                .put(Plain, format!("{} × kill -9", state.kills))
                .put(Dim, ", up to ")
                .count(Plain, state.waiting_max, "records waiting"),
        );
        lines.push(
            figure("").put(Dim, again).put(Plain, grouped(books.duplicates)).put(Dim, " of them recognised as handled"),
        );
        lines.push(
            figure("cost")
                .put(Plain, bytes(state.rss_max))
                .put(Dim, format!(" memory (plan {}), ", bytes(state.page.rss_planned)))
                .put(Plain, grouped(fuel.checked_div(calls).unwrap_or(0)))
                .put(Dim, " fuel a call, ")
                .put(Plain, grouped(flash.bytes.checked_div(books.received).unwrap_or(0)))
                .put(Dim, " bytes of flash a message"),
        );
        lines
    }
}

fn mark(equal: bool) -> (Look, &'static str) {
    if equal { (Good, "✓") } else { (Bad, "✗") }
}

fn rows(name: &str, truth: &Totals, upstream: &Totals) -> [Line; 3] {
    let row = |name: &str, what: &str, truth: String, upstream: String, equal: bool| {
        let (look, mark) = mark(equal);
        Line::default()
            .put(Plain, format!("  {name:<24}"))
            .put(Dim, format!("{what:<12}"))
            .put(Plain, format!("{truth:>16}{upstream:>16}"))
            .put(look, format!("  {mark}"))
    };
    let counts = |what, truth: u64, upstream: u64| row("", what, grouped(truth), grouped(upstream), truth == upstream);
    [
        row(name, "readings", grouped(truth.messages), grouped(upstream.messages), truth.messages == upstream.messages),
        counts("devices", truth.devices, upstream.devices),
        row("", "sum", grouped_sum(truth.sum), grouped_sum(upstream.sum), truth.sum == upstream.sum),
    ]
}

/// Every term of `received = delivered + filtered + aggregated + dead-lettered + expired + dropped + pending`.
fn books(books: &Books) -> Value {
    json!({
        "received": books.received,
        "delivered": books.delivered,
        "filtered": books.filtered,
        "aggregated": books.aggregated,
        "dead-lettered": books.dead_lettered,
        "expired": books.expired,
        "dropped": books.dropped(),
        "dropped-by-reason": books.dropped,
        "pending": books.pending,
        "residue": books.residue,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Page;

    fn ended<'a>(state: &'a State, comparison: &'a Comparison) -> Ended<'a> {
        let (published, malformed) = (state.page.books.received, 1);
        Ended { state, comparison, published, malformed, fleet_fault: None, gateway_ended: true }
    }

    fn right() -> (State, Comparison) {
        let mut page = Page::default();
        (page.books.received, page.books.aggregated) = (3, 3);
        let mut state = State::default();
        state.look(page);
        let totals = Totals { messages: 3, devices: 1, sum: 1.25 };
        let mut comparison = Comparison { truth: totals, upstream: totals, ..Comparison::default() };
        comparison.meters.insert("f.m".to_owned(), (totals, totals));
        (state, comparison)
    }

    fn failed(ended: &Ended<'_>) -> Vec<&'static str> {
        ended.checks().into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    #[test]
    fn what_differs_is_named() {
        let (state, comparison) = right();
        assert!(failed(&ended(&state, &comparison)).is_empty());
        let less = Comparison { upstream: Totals { messages: 2, ..comparison.upstream }, ..comparison.clone() };
        assert_eq!(failed(&ended(&state, &less)), ["upstream equals the truth"]);
        let twice = Ended { published: 2, ..ended(&state, &comparison) };
        assert_eq!(failed(&twice), ["every message is in the books once"]);
        let mut waits = state.clone();
        waits.page.books.pending = 1;
        assert_eq!(failed(&ended(&waits, &comparison)), ["nothing is left behind"]);
        let mut unbalanced = state.clone();
        unbalanced.unbalanced = 1;
        assert_eq!(failed(&ended(&unbalanced, &comparison)), ["the books balance"]);
        let broken = Ended { gateway_ended: false, fleet_fault: Some("x".to_owned()), ..ended(&state, &comparison) };
        assert_eq!(failed(&broken), ["the devices got rid of everything", "the gateway ended in order"]);
    }

    #[test]
    fn the_json_has_every_term_and_the_same_keys_on_both_sides() {
        let (state, comparison) = right();
        let json = ended(&state, &comparison).json();
        for term in
            ["received", "delivered", "filtered", "aggregated", "dead-lettered", "expired", "dropped", "pending"]
        {
            assert!(json["books"][term].is_u64(), "{term}");
        }
        assert_eq!((json["books"]["residue"].as_i64(), json["passed"].as_bool()), (Some(0), Some(true)));
        assert_eq!(json["truth"], json["upstream"]);
        assert_eq!(json["truth"], serde_json::json!({ "messages": 3, "devices": 1, "sum": 1.25 }));
    }

    #[test]
    fn the_table_marks_what_is_equal_and_what_is_not() {
        let (state, mut comparison) = right();
        comparison.meters.insert("f.n".to_owned(), (comparison.truth, Totals::default()));
        let mut text = String::new();
        for line in ended(&state, &comparison).lines() {
            line.write(200, false, &mut text);
            text.push('\n');
        }
        assert!(text.contains("1.25            1.25  ✓") && text.contains("1.25            0.00  ✗"), "{text}");
    }
}
