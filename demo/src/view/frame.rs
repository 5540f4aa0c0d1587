//! One picture of the moment, as lines.

use super::text::Look::{Bad, Bold, Dim, Good, In, Meter, Out, Plain, Warn};
use super::text::{Line, Look, bar, bytes, curve, grouped, share};
use crate::page::{Function, Lane};
use crate::state::{Phase, State};

/// Wider pictures gain nothing.
const WIDTH_MAX: usize = 110;
/// Columns of the table of functions.
const LEFT: usize = 42;

/// Lines of a terminal that leave room for blank ones.
const ROOMY: usize = 28;

/// The picture for a terminal of this size; lower ones get fewer lines of what happened.
#[must_use]
pub fn lines(state: &State, width: usize, height: usize) -> Vec<Line> {
    let width = width.min(WIDTH_MAX);
    let mut lines = vec![title(state, width), progress(state, width)];
    if ROOMY <= height {
        lines.extend([Line::default(), way(state), Line::default()]);
    } else {
        lines.extend([way(state), Line::default()]);
    }
    lines.extend(curves(state, width));
    lines.push(Line::default());
    lines.extend(tables(state, width));
    lines.push(Line::default());
    lines.extend(books(state, width));
    lines.push(cost(state));
    lines.push(Line::default());
    let room = height.saturating_sub(lines.len()).max(1);
    let newest = state.happened.len().saturating_sub(room);
    lines.extend(state.happened[newest..].iter().map(|happened| {
        let look = if happened.bad { Warn } else { Plain };
        let seconds = happened.at_ms as f64 / 1000.0;
        Line::default().put(Dim, format!(" {seconds:5.1} s  ")).put(look, happened.text.clone())
    }));
    lines
}

fn title(state: &State, width: usize) -> Line {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let time = match state.phase {
        Phase::Starting => "starting".to_owned(),
        Phase::Running => format!("{:.1} s of {:.0} s", seconds(state.at_ms.min(state.for_ms)), seconds(state.for_ms)),
        Phase::Settling => "windows close, lanes drain".to_owned(),
        Phase::Done => "done".to_owned(),
    };
    let what = format!("{} devices, {} functions", state.devices, state.page.functions.len());
    let head = Line::default().put(Bold, " weir ").put(Dim, format!("functions at the edge · {what}"));
    head.pad(width.saturating_sub(time.chars().count() + 1)).put(Bold, time)
}

fn progress(state: &State, width: usize) -> Line {
    let (filled, empty) = bar(share(state.at_ms as f64, state.for_ms as f64), width.saturating_sub(2));
    Line::default().put(Plain, " ").put(Good, filled).put(Dim, empty)
}

/// devices → broker → weir → upstream.
fn way(state: &State) -> Line {
    let place = |name: &'static str, up: bool| (if up { Bold } else { Bad }, name);
    let arrow = |up: bool, flows: bool| match (up, flows) {
        (false, _) => (Bad, " ━━ ✕ ━━ "),
        (true, true) => (Good, " ━━━━━━▶ "),
        (true, false) => (Dim, " ──────▷ "),
    };
    let devices = arrow(true, 0.0 < state.rates.published);
    let broker = arrow(state.gateway_up && state.page.broker_up, 0.0 < state.rates.published);
    let upstream = arrow(state.link_up, state.gateway_up && 0.0 < state.rates.arrived);
    let gateway = place(if state.gateway_up { "weir" } else { "weir (killed)" }, state.gateway_up);
    let pieces = [(Bold, "   devices"), devices, (Bold, "broker"), broker, gateway, upstream, (Bold, "upstream")];
    pieces.into_iter().fold(Line::default(), |line, (look, text)| line.put(look, text))
}

fn curves(state: &State, width: usize) -> [Line; 2] {
    let room = width.saturating_sub(56).clamp(8, 50);
    let row = |look: Look, name: &str, rate: f64, pick: fn(&(f64, f64)) -> f64| {
        let points = state.rates.history.iter().map(pick);
        let top = points.clone().fold(rate, f64::max);
        Line::default()
            .put(Plain, format!(" {name:<9}"))
            .put(look, format!("{rate:>6.0}/s  {}  ", curve(points, top, room)))
    };
    let into = row(In, "in", state.rates.published, |point| point.0);
    let out = row(Out, "upstream", state.rates.arrived, |point| point.1);
    let arrived = &state.arrived;
    let again = if arrived.repeated == 0 { String::new() } else { format!(", {} again", grouped(arrived.repeated)) };
    [
        into.count(Plain, state.published, "messages"),
        out.put(Plain, grouped(arrived.records)).put(Dim, format!(" records{again}")),
    ]
}

fn tables(state: &State, width: usize) -> Vec<Line> {
    let functions: Vec<Line> = state.page.functions.iter().map(function_row).collect();
    let room = width.saturating_sub(LEFT + 31).clamp(6, 26);
    let lanes: Vec<Line> = state.page.lanes.iter().map(|lane| lane_row(lane, room)).collect();
    let head = Line::default()
        .put(Dim, format!(" {:<13}{:>8}{:>11}{:>7}", "function", "calls", "fuel/call", "µs"))
        .pad(LEFT)
        .put(Dim, format!("{:<12}{:room$}{:>9}{:>9}", "outbox", "", "records", "on flash"));
    let mut rows = vec![head];
    for index in 0..functions.len().max(lanes.len()) {
        let pick = |lines: &[Line]| lines.get(index).cloned().unwrap_or_default();
        rows.push(pick(&functions).pad(LEFT).join(pick(&lanes)));
    }
    rows
}

fn function_row(function: &Function) -> Line {
    let each = |total: u64| total.checked_div(function.invocations).unwrap_or(0);
    let name: String = function.name.chars().take(12).collect();
    Line::default()
        .put(Plain, format!(" {name:<13}"))
        .put(Plain, format!("{:>8}", grouped(function.invocations)))
        .put(Meter, format!("{:>11}", grouped(each(function.fuel))))
        .put(Dim, format!("{:>7}", each(function.time_us)))
}

fn lane_row(lane: &Lane, room: usize) -> Line {
    let used = share(lane.bytes as f64, lane.bytes_max as f64);
    let (filled, empty) = bar(used, room);
    let look = if used < 0.7 { Out } else { Warn };
    let waiting = if lane.records == 0 { Dim } else { Bold };
    Line::default()
        .put(Plain, format!("{:<12}", lane.name))
        .put(look, filled)
        .put(Dim, empty)
        .put(waiting, format!("{:>9}", grouped(lane.records)))
        .put(Dim, format!("{:>9}", bytes(lane.bytes)))
}

fn books(state: &State, width: usize) -> [Line; 3] {
    let books = &state.page.books;
    let room = width.saturating_sub(46).clamp(10, 60);
    let parts = [
        (Good, books.delivered),
        (Dim, books.filtered),
        (Meter, books.aggregated),
        (Warn, books.pending),
        (Bad, books.dead_lettered + books.expired + books.dropped()),
    ];
    let mut line = Line::default().put(Bold, " books    ").put(Bold, format!("{:>9}", grouped(books.received)));
    line = line.put(Dim, " received  ");
    let (mut sum, mut drawn) = (0, 0);
    for (look, part) in parts {
        sum += part;
        let end = (share(sum as f64, books.received as f64) * room as f64).round() as usize;
        line = line.put(look, "█".repeat(end.saturating_sub(drawn)));
        drawn = drawn.max(end);
    }
    let residue = if books.residue == 0 { Good } else { Bad };
    line = line.put(Dim, "░".repeat(room - drawn)).put(residue, format!("  residue {}", books.residue));
    let blank = || Line::default().put(Plain, "          ");
    [
        line,
        blank()
            .count(Good, books.delivered, "delivered")
            .count(Plain, books.filtered, "filtered")
            .count(Meter, books.aggregated, "aggregated")
            .count(Warn, books.pending, "pending"),
        blank()
            .count(Plain, books.dead_lettered, "dead-lettered")
            .count(Plain, books.expired, "expired")
            .count(Plain, books.dropped(), "dropped")
            .count(Plain, books.duplicates, "duplicates known"),
    ]
}

fn cost(state: &State) -> Line {
    let page = &state.page;
    let flash = state.flash();
    let each = flash.bytes.checked_div(page.books.received).unwrap_or(0);
    Line::default()
        .put(Bold, " memory    ")
        .put(Plain, bytes(page.rss))
        .put(Dim, format!(" of {} planned  ", bytes(page.rss_planned)))
        .count(Plain, flash.commits, "commits")
        .put(Plain, format!("{each} B"))
        .put(Dim, " of flash a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Page;
    use crate::page::tests::TEXT;

    fn drawn(state: &State, width: usize, height: usize) -> Vec<String> {
        let write = |line: &Line| {
            let mut out = String::new();
            line.write(width, false, &mut out);
            out
        };
        lines(state, width, height).iter().map(write).collect()
    }

    #[test]
    fn a_picture_shows_the_books_and_fits_a_small_terminal() {
        let mut state = State { for_ms: 20_000, devices: 115, gateway_up: true, link_up: true, ..State::default() };
        for at_ms in 0..10 {
            state.at_ms = at_ms * 100;
            state.tell(true, format!("event {at_ms}"));
        }
        state.look(Page::parse(TEXT));
        for (width, height) in [(80, 24), (120, 50), (20, 5)] {
            let picture = drawn(&state, width, height);
            assert!(picture.iter().all(|line| line.chars().count() <= width), "{picture:#?}");
            let text = picture.join("\n");
            assert!(text.contains("event 9"), "{text}");
            if width == 80 {
                assert!(picture.len() <= height, "{} lines", picture.len());
                for part in ["100 received", "10 delivered", "residue 0", "calm", "meters", "540"] {
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
        }
    }

    #[test]
    fn a_picture_can_be_drawn_before_anything_is_known() {
        assert!(drawn(&State::default(), 80, 24).len() > 10);
    }
}
