//! The file sink: lines of JSON in rotating files, synced before a record counts as delivered.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::{
    Encode, LaneEnd, LaneEnds, LineLog, Outcome, READ_MAX, Records, Settled, Sink, SinkEvent, SinkLane, SinkStatus,
    UNDELIVERABLE, tell_upstream,
};
use crate::backoff::{Backoff, Complaint};
use crate::record::Record;
use crate::shell::mqtt::SharedStatus;
use crate::store::Batch;
use crate::units::{Bytes, Millis};

/// What a file sink is to do.
pub struct FileSink {
    /// Name of the sink, and of its files.
    pub name: String,
    /// Folder.
    pub dir: PathBuf,
    /// A file is closed at this size.
    pub file_bytes_max: Bytes,
    /// Files kept.
    pub files_max: u32,
    /// Makes the JSON document.
    pub encode: Encode,
    /// Its lanes.
    pub lanes: Vec<SinkLane>,
    /// Heads and tails of all lanes.
    pub ends: Arc<LaneEnds>,
    /// Where deliveries are told.
    pub events: mpsc::Sender<SinkEvent>,
}

/// Starts the sink on the current runtime.
#[must_use]
pub fn spawn<R: Records>(mut sink: FileSink, records: Arc<R>) -> Sink {
    sink.lanes.sort_by_key(|lane| lane.priority);
    let (wake, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let status = Arc::new(Mutex::new(SinkStatus::default()));
    let link = Arc::new(SharedStatus::default());
    let next = sink.lanes.iter().map(|lane| lane.head_seq).collect();
    let runner = Runner {
        next,
        log: None,
        bytes: Vec::new(),
        lines: Vec::new(),
        backoff: Backoff::new(Millis(1000), Millis(60_000), 0),
        complaint: Complaint::default(),
        failed_ms: 0,
        status: status.clone(),
        link: link.clone(),
        records,
        sink,
    };
    let task = tokio::spawn(run(runner, wake.clone(), stop.clone()));
    Sink { wake, stop, status, link, task }
}

async fn run<R: Records>(mut runner: Runner<R>, wake: Arc<Notify>, stop: Arc<Notify>) {
    // A folder that cannot be written holds records back; it is not known before there are some.
    tell_upstream(&runner.sink.lanes, &runner.sink.events, true).await;
    loop {
        let deliver = async {
            match runner.deliver().await {
                Ok(true) => {}
                Ok(false) => wake.notified().await,
                Err(error) => sleep(runner.failed(&error)).await,
            }
        };
        // A write that is under way ends by itself; what it wrote is delivered again, with the same sequence.
        tokio::select! {
            biased;
            () = stop.notified() => return,
            () = deliver => {}
        }
    }
}

struct Runner<R> {
    sink: FileSink,
    records: Arc<R>,
    /// For each lane, the sequence to be written next.
    next: Vec<u64>,
    log: Option<LineLog>,
    bytes: Vec<u8>,
    lines: Vec<u8>,
    backoff: Backoff,
    complaint: Complaint<String>,
    failed_ms: u64,
    status: Arc<Mutex<SinkStatus>>,
    link: Arc<SharedStatus>,
}

impl<R: Records> Runner<R> {
    /// Writes one batch of the first lane that has something; whether there was one.
    async fn deliver(&mut self) -> Result<bool, String> {
        // Whether the folder can be written is known from the start, not from the first record on.
        if self.log.is_none() {
            self.lines.clear();
            self.append().await?;
            self.link.update(|link| link.connected = true);
        }
        for index in 0..self.sink.lanes.len() {
            let lane = self.sink.lanes[index].lane;
            let LaneEnd { head, tail, .. } = self.sink.ends.get(lane);
            self.next[index] = self.next[index].max(head);
            if self.next[index] < tail {
                let bytes = core::mem::take(&mut self.bytes);
                let max = READ_MAX.as_usize();
                let (batch, bytes) = self.records.read(lane, self.next[index], max, bytes).await?;
                let wrote = self.write(index, &batch, &bytes).await;
                self.bytes = bytes;
                if wrote? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn write(&mut self, index: usize, batch: &Batch, bytes: &[u8]) -> Result<bool, String> {
        let SinkLane { lane, name, .. } = &self.sink.lanes[index];
        let mut records = Vec::with_capacity(batch.records as usize);
        self.lines.clear();
        let mut rest = bytes;
        while let Some(record) = Record::take(&mut rest) {
            let sequence = batch.first_seq + records.len() as u64;
            let start = self.lines.len();
            (self.sink.encode)(&record, name, sequence, &mut self.lines);
            // Line breaks in JSON are white space; inside strings they are escaped.
            self.lines[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            self.lines.push(b'\n');
            records.push(Settled { sequence, closes_message: record.closes_message, outcome: Outcome::Delivered });
        }
        if records.is_empty() && batch.records > 0 {
            log::error!("sink {}: record {} of lane {name} cannot be read", self.sink.name, batch.first_seq);
            let outcome = UNDELIVERABLE;
            records.push(Settled { sequence: batch.first_seq, closes_message: false, outcome });
        }
        let (lane, next) = (*lane, batch.first_seq + records.len() as u64);
        if records.is_empty() && batch.lost.is_none() {
            return Ok(false);
        }
        self.append().await?;
        self.next[index] = next;
        self.tell(lane, batch, records).await;
        Ok(true)
    }

    /// Appends `lines` on a thread where waiting does no harm.
    async fn append(&mut self) -> Result<(), String> {
        let FileSink { name, dir, file_bytes_max, files_max, .. } = &self.sink;
        let (name, dir, bytes_max, files_max) = (name.clone(), dir.clone(), file_bytes_max.0, *files_max);
        let (log, lines) = (self.log.take(), core::mem::take(&mut self.lines));
        let write = move || {
            let opened = log.map_or_else(|| LineLog::open(&dir, &name, bytes_max, files_max), Ok);
            let outcome = opened.and_then(|mut log| log.append(&lines).map(|()| log));
            (outcome.map_err(|error| format!("{}: {error}", dir.display())), lines)
        };
        let (outcome, lines) = tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?;
        self.lines = lines;
        self.log = Some(outcome?);
        if self.complaint.clear() {
            log::info!("sink {}: writing again", self.sink.name);
        }
        Ok(())
    }

    async fn tell(&self, lane: usize, batch: &Batch, records: Vec<Settled>) {
        {
            self.link.update(|link| {
                link.connected = true;
                link.bytes_out += self.lines.len() as u64;
            });
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.bytes += self.lines.len() as u64;
            let lost = records.iter().filter(|record| record.outcome == UNDELIVERABLE).count() as u64;
            status.undeliverable += lost;
            status.delivered += records.len() as u64 - lost;
        }
        let gone = batch.lost.map(|lost| SinkEvent::Gone { lane, lost });
        let settled = (!records.is_empty()).then_some(SinkEvent::Settled { lane, records });
        for event in gone.into_iter().chain(settled) {
            // The loop has gone: the process ends.
            let _ = self.sink.events.send(event).await;
        }
    }

    fn failed(&mut self, error: &str) -> Duration {
        let pause = self.backoff.after(Millis(0));
        self.failed_ms += pause.0;
        if self.complaint.note(self.failed_ms, error.to_owned()).is_some() {
            log::error!("sink {}: {error}; records stay on flash until it can be written", self.sink.name);
        }
        self.link.update(|link| {
            link.connected = false;
            link.failures += 1;
            error.clone_into(&mut link.last_error);
        });
        Duration::from_millis(pause.0)
    }
}
