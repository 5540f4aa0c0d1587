//! A run of the real binary under strace: what it did to its files, and what it told the broker meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_simulator::fleet::Message;

use super::broker::{Script, Stand, Stands, apply};
use super::replay::State;
use super::trace::{CALLS, Event, Reader};
use crate::support::gateway::Gateway;
use crate::support::proxy::packets;

/// What is in the way of the program when it is recorded.
pub fn tracer(file: &Path) -> Vec<String> {
    let calls = format!("trace={CALLS}");
    let mut words: Vec<String> =
        ["strace", "-D", "-f", "--seccomp-bpf", "-q", "-xx", "-s", "8000000", "-e", &calls].map(str::to_owned).to_vec();
    words.extend(["-o".to_owned(), file.display().to_string()]);
    words
}

/// A run.
pub struct Recording {
    /// In words.
    pub name: String,
    /// The store's section of the configuration.
    pub store: &'static str,
    pub messages: Arc<Vec<Message>>,
    /// What was on the disk, and in the broker, when it began.
    pub base: State,
    pub stands: Stands,
    pub events: Vec<Event>,
    /// Whether the run itself began with a power cut.
    pub is_recovery: bool,
}

/// Where the broker's session stands if the power goes after so many events, and `acks` of the last acknowledgements are lost on
/// their way.
pub fn stands_at(recording: &Recording, cut: usize, acks_lost: usize) -> Stands {
    let mut stands = recording.stands.clone();
    if stands.is_empty() {
        stands = vec![Stand::Waiting; recording.messages.len()];
    }
    let events = &recording.events[..cut];
    // What was sent since the broker last said something may not have arrived.
    let said = events.iter().rposition(|event| matches!(event, Event::Had(_))).unwrap_or(0);
    let (mut out, mut had) = (Vec::new(), Vec::new());
    let mut recent = 0;
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Sent(bytes) => {
                out.extend_from_slice(bytes);
                let taken = packets(&out, &mut |kind, body| {
                    recent += usize::from(said < index);
                    apply(&mut stands, kind, body);
                });
                out.drain(..taken);
            }
            Event::Had(bytes) => {
                had.extend_from_slice(bytes);
                let taken = packets(&had, &mut |kind, body| received(&mut stands, kind, body));
                had.drain(..taken);
            }
            _ => {}
        }
    }
    if acks_lost == 0 || recent == 0 {
        return stands;
    }
    let kept = recent.saturating_sub(acks_lost);
    let before = stands_at(recording, said + 1, 0);
    later(before, &events[said + 1..], kept)
}

/// The session after the first `kept` packets of `events`.
fn later(mut stands: Stands, events: &[Event], kept: usize) -> Stands {
    let (mut out, mut count) = (Vec::new(), 0);
    for event in events {
        if let Event::Sent(bytes) = event {
            out.extend_from_slice(bytes);
            let taken = packets(&out, &mut |kind, body| {
                if count < kept {
                    apply(&mut stands, kind, body);
                }
                count += 1;
            });
            out.drain(..taken);
        }
    }
    stands
}

/// A message that has come to the gateway was sent.
fn received(stands: &mut Stands, kind: u8, body: &[u8]) {
    if kind >> 4 != 3 {
        return;
    }
    let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let index = usize::from(u16::from_be_bytes([body[at], body[at + 1]])) - 1;
    if stands[index] == Stand::Waiting {
        stands[index] = Stand::Sent;
    }
}

/// Reads the record of `gateway`'s last run.
pub fn read(file: &Path, gateway: &Gateway, broker: &Script, base: &State) -> Result<Vec<Event>, String> {
    let text = ended(file)?;
    let folder: PathBuf = fs::canonicalize(gateway.path("")).map_err(|error| error.to_string())?;
    let folder = folder.display().to_string();
    Reader::new(folder.trim_end_matches('/'), broker.port, base.present()).read(&text)
}

/// The record, once strace has ended it: the program itself ends a moment before.
fn ended(file: &Path) -> Result<String, String> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut len = 0;
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let last = text.lines().last().unwrap_or_default();
        if last.contains("+++ exited") || last.contains("+++ killed") {
            if text.len() == len {
                return Ok(text);
            }
            len = text.len();
        }
        if until < Instant::now() {
            return Err(format!("strace did not end its record: {last}"));
        }
    }
}
