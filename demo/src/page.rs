//! The gateway's metrics page, read: the numbers that the demo shows and judges by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_millis(1500);
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// Where every message went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Books {
    /// Messages received, recognised redeliveries left out.
    pub received: u64,
    /// Their last record is upstream.
    pub delivered: u64,
    /// Nobody wanted them.
    pub filtered: u64,
    /// They went into meters or state.
    pub aggregated: u64,
    /// No function could handle them.
    pub dead_lettered: u64,
    /// Their last record grew too old.
    pub expired: u64,
    /// Gone, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// They wait for upstream.
    pub pending: u64,
    /// What is not accounted for.
    pub residue: i64,
    /// Redeliveries that were recognised.
    pub duplicates: u64,
}

impl Books {
    /// Gone, whatever the reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// `received` less every other term, reckoned here.
    #[must_use]
    pub fn reckoned_residue(&self) -> i64 {
        let settled = self.delivered
            + self.filtered
            + self.aggregated
            + self.dead_lettered
            + self.expired
            + self.dropped()
            + self.pending;
        self.received.cast_signed() - settled.cast_signed()
    }
}

/// A lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Records that wait.
    pub records: u64,
    /// Their bytes on flash.
    pub bytes: u64,
    /// The bound.
    pub bytes_max: u64,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Calls.
    pub invocations: u64,
    /// Failed calls.
    pub errors: u64,
    /// Messages turned away before a call.
    pub filtered: u64,
    /// Fuel spent.
    pub fuel: u64,
    /// Microseconds spent.
    pub time_us: u64,
    /// Linear memory, bytes.
    pub memory: u64,
}

/// Counters that begin anew with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flash {
    /// Commits.
    pub commits: u64,
    /// Bytes written, of all kinds.
    pub bytes: u64,
}

/// One look at the gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The books.
    pub books: Books,
    /// Lanes, by priority.
    pub lanes: Vec<Lane>,
    /// Functions, in the order of the configuration.
    pub functions: Vec<Function>,
    /// Flash, since the start of the process.
    pub flash: Flash,
    /// Cells of open windows.
    pub cells: u64,
    /// Resident memory, bytes.
    pub rss: u64,
    /// What the plan grants, bytes.
    pub rss_planned: u64,
    /// Whether the gateway reaches the devices' broker.
    pub broker_up: bool,
    /// Whether it reaches the upstream.
    pub sink_up: bool,
}

impl Page {
    /// Fetches and reads the page at `address`; `None` if nobody answers.
    pub async fn fetch(address: SocketAddr) -> Option<Self> {
        let text = timeout(PATIENCE, get(address)).await.ok()?.ok()?;
        text.starts_with("HTTP/1.1 200").then(|| Self::parse(&text))
    }

    /// Reads the samples in `text`; what is no sample or not known is looked over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        text.lines().filter_map(Sample::parse).for_each(|sample| page.take(&sample));
        page
    }

    fn take(&mut self, sample: &Sample<'_>) {
        let Sample { name, labels: _, value } = *sample;
        let count = value as u64;
        let function = |page: &mut Self, put: fn(&mut Function, u64)| {
            let name = sample.label("function");
            let make = || Function { name: name.to_owned(), ..Function::default() };
            put(entry(&mut page.functions, |function| function.name == name, make), count);
        };
        let lane = |page: &mut Self, put: fn(&mut Lane, u64)| {
            let name = sample.label("lane");
            let make = || Lane { name: name.to_owned(), ..Lane::default() };
            put(entry(&mut page.lanes, |lane| lane.name == name, make), count);
        };
        match name {
            "weir_messages_received_total" => self.books.received = count,
            "weir_messages_duplicate_total" => self.books.duplicates = count,
            "weir_messages_settled_total" => match sample.label("fate") {
                "delivered" => self.books.delivered = count,
                "filtered" => self.books.filtered = count,
                "aggregated" => self.books.aggregated = count,
                "dead-lettered" => self.books.dead_lettered = count,
                "expired" => self.books.expired = count,
                _ => {}
            },
            "weir_messages_dropped_total" => {
                self.books.dropped.insert(sample.label("reason").to_owned(), count);
            }
            "weir_messages_pending" => self.books.pending = count,
            "weir_books_residue" => self.books.residue = value as i64,
            "weir_lane_records_pending" => lane(self, |lane, count| lane.records = count),
            "weir_lane_bytes" => lane(self, |lane, count| lane.bytes = count),
            "weir_lane_bytes_max" => lane(self, |lane, count| lane.bytes_max = count),
            "weir_function_invocations_total" => function(self, |function, count| function.invocations = count),
            "weir_function_errors_total" => function(self, |function, count| function.errors += count),
            "weir_function_filtered_total" => function(self, |function, count| function.filtered = count),
            "weir_function_fuel_total" => function(self, |function, count| function.fuel = count),
            "weir_function_time_microseconds_total" => function(self, |function, count| function.time_us = count),
            "weir_function_memory_peak_bytes" => function(self, |function, count| function.memory = count),
            "weir_flash_total" => match sample.label("kind") {
                "commits" => self.flash.commits = count,
                kind if kind.ends_with("-bytes") => self.flash.bytes += count,
                _ => {}
            },
            "weir_window_cells" => self.cells = count,
            "weir_process_resident_bytes" => self.rss = count,
            "weir_process_planned_bytes" => self.rss_planned = count,
            "weir_broker_up" => self.broker_up = count == 1,
            "weir_sink_up" => self.sink_up = count == 1,
            _ => {}
        }
    }

    /// Records that wait in all lanes.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.records).sum()
    }

    /// Calls, fuel and microseconds of all functions.
    #[must_use]
    pub fn calls(&self) -> (u64, u64, u64) {
        self.functions.iter().fold((0, 0, 0), |(calls, fuel, time), function| {
            (calls + function.invocations, fuel + function.fuel, time + function.time_us)
        })
    }
}

/// The one that is wanted, made at the end if it is not there.
fn entry<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
    let place = list.iter().position(is_it).unwrap_or_else(|| {
        list.push(make());
        list.len() - 1
    });
    &mut list[place]
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

/// One line of the page.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, value) = line.trim_end().rsplit_once(' ')?;
        let (name, labels) = head.split_once('{').unwrap_or((head, ""));
        let value = value.parse().ok()?;
        name.starts_with("weir_").then_some(Self { name, labels: labels.trim_end_matches('}'), value })
    }

    /// The value of a label; nothing if it has none. Label values of weir hold neither commas nor quotes.
    fn label(&self, name: &str) -> &'a str {
        let pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim_matches('"'))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub const TEXT: &str = "\
# HELP weir_messages_received_total Messages received
# TYPE weir_messages_received_total counter
weir_messages_received_total 100
weir_messages_duplicate_total 7
weir_messages_settled_total{fate=\"delivered\"} 10
weir_messages_settled_total{fate=\"filtered\"} 20
weir_messages_settled_total{fate=\"aggregated\"} 30
weir_messages_settled_total{fate=\"dead-lettered\"} 4
weir_messages_settled_total{fate=\"expired\"} 5
weir_messages_dropped_total{reason=\"lane-full\"} 6
weir_messages_dropped_total{reason=\"no-lane\"} 0
weir_messages_pending 25
weir_books_residue 0
weir_lane_records_pending{lane=\"meters\"} 12
weir_lane_bytes{lane=\"meters\"} 4096
weir_lane_bytes_max{lane=\"meters\"} 65536
weir_function_invocations_total{function=\"calm\"} 50
weir_function_fuel_total{function=\"calm\"} 27000
weir_function_time_microseconds_total{function=\"calm\"} 400
weir_function_errors_total{function=\"calm\",kind=\"trap\"} 1
weir_function_errors_total{function=\"calm\",kind=\"abort\"} 2
weir_flash_total{kind=\"commits\"} 9
weir_flash_total{kind=\"journal-bytes\"} 5000
weir_flash_total{kind=\"lane-bytes\"} 300
weir_process_resident_bytes 11534336
weir_process_planned_bytes 50331648
weir_broker_up 1
weir_sink_up{sink=\"cloud\"} 0
";

    #[test]
    fn the_page_is_read() {
        let page = Page::parse(TEXT);
        let books = &page.books;
        assert_eq!((books.received, books.duplicates, books.pending, books.dropped()), (100, 7, 25, 6));
        assert_eq!((books.residue, books.reckoned_residue()), (0, 0));
        assert_eq!(page.lanes, [Lane { name: "meters".to_owned(), records: 12, bytes: 4096, bytes_max: 65536 }]);
        assert_eq!((page.functions[0].errors, page.calls()), (3, (50, 27_000, 400)));
        assert_eq!((page.flash, page.broker_up, page.sink_up), (Flash { commits: 9, bytes: 5300 }, true, false));
    }

    #[test]
    fn what_is_no_sample_is_looked_over() {
        let text = "HTTP/1.1 200 OK\r\n\r\nweir_messages_received_total x\nother_total 5\nweir_books_residue -3\n";
        assert_eq!(Page::parse(text).books.residue, -3);
        assert_eq!(Page::parse(text).books.reckoned_residue(), 0);
    }
}
