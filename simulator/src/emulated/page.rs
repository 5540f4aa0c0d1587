//! The guest's metrics page, as numbers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: board\r\nconnection: close\r\n\r\n";

/// The page.
#[derive(Clone, Debug, Default)]
pub struct Page(String);

impl Page {
    /// Asks the port of this machine that leads to it.
    pub async fn get(port: u16) -> Option<Self> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            stream.write_all(REQUEST).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            // When its loop is busy the gateway leaves its numbers out.
            text.contains("\nweir_books_residue ").then_some(Self(text))
        };
        timeout(PATIENCE, ask).await.ok().flatten()
    }

    /// The sum of a family's samples.
    pub fn sum(&self, name: &str) -> f64 {
        let ours = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        self.0.lines().filter(ours).filter_map(value).sum()
    }

    /// Messages received since the store was made.
    pub fn received(&self) -> f64 {
        self.sum("weir_messages_received_total")
    }

    /// Messages and records that are not upstream yet.
    pub fn pending(&self) -> f64 {
        self.sum("weir_messages_pending") + self.sum("weir_lane_records_pending")
    }

    /// Bytes that the gateway has written since its start, of all kinds.
    pub fn bytes_written(&self) -> f64 {
        let ours = |line: &&str| line.starts_with("weir_flash_total{kind=\"") && line.contains("bytes");
        self.0.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Messages and records that are gone, for whatever reason.
    pub fn lost(&self) -> f64 {
        ["weir_messages_dropped_total", "weir_dead_letters_lost_total", "weir_aggregates_lost_total"]
            .iter()
            .map(|name| self.sum(name))
            .sum()
    }
}

#[cfg(test)]
impl Page {
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_added_up_and_a_longer_name_is_another() {
        let text = "HTTP/1.1 200\r\n\r\n# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3.5\nab 7\na_total 1\n";
        let page = Page(text.to_owned());
        assert_eq!((page.sum("a"), page.sum("ab"), page.sum("c")), (5.5, 7.0, 0.0));
    }
}
