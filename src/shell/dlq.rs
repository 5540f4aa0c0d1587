//! Dead letters on flash: which are wanted, how they are read, and what becomes of them; for the loop of a running gateway and
//! for the command line beside a stopped one alike.
//!
//! - A portion is at most [`LETTERS_MAX`] letters and [`PORTION_BYTES_MAX`]; who wants more asks again from [`Portion::next`] on.

use serde_json::{Value, json};

use super::sink::Records;
use crate::books::Fate;
use crate::effect::Effects;
use crate::gateway::{Expected, Gateway};
use crate::record::{Record, RecordKind};
use crate::time::Now;

/// Letters in a portion: they become one commit.
pub const LETTERS_MAX: usize = 64;
/// Bytes of letters in a portion.
pub const PORTION_BYTES_MAX: usize = 256 * 1024;
/// Read at once.
const READ_BYTES: usize = 16 * 1024;

/// What is wanted of the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Throw them away instead of replaying them.
    pub purge: bool,
    /// Which.
    pub letters: Letters,
    /// The function that they must be for, and its version.
    pub function: Option<(String, Option<String>)>,
}

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    /// These numbers.
    These(Vec<u64>),
    /// All from a number on, up to another one: what fails again behind it is a letter of its own.
    All {
        /// First.
        from: u64,
        /// Last.
        through: u64,
    },
}

impl Wanted {
    /// Reads the form that [`Wanted::document`] writes.
    pub fn parse(purge: bool, value: &Value) -> Result<Self, String> {
        let numbers =
            value["letters"].as_array().map(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
        let letters = match (numbers, value["from"].as_u64(), value["through"].as_u64()) {
            (Some(Some(numbers)), None, None) if numbers.len() <= LETTERS_MAX => Letters::These(numbers),
            (None, Some(from), Some(through)) => Letters::All { from, through },
            _ => {
                let text = format!("wants `letters`, a list of at most {LETTERS_MAX} numbers, or `from` and `through`");
                return Err(text);
            }
        };
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Ok(Self { purge, letters, function: text("function").map(|name| (name, text("version"))) })
    }

    /// As a request.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut request = json!({ "do": if self.purge { "dlq-purge" } else { "dlq-replay" } });
        match &self.letters {
            Letters::These(numbers) => request["letters"] = json!(numbers),
            Letters::All { from, through } => {
                request["from"] = json!(from);
                request["through"] = json!(through);
            }
        }
        if let Some((name, version)) = &self.function {
            request["function"] = json!(name);
            request["version"] = json!(version);
        }
        request
    }
}

/// Letters that were read.
#[derive(Debug, Default)]
pub struct Portion {
    /// Number and encoded record.
    pub letters: Vec<(u64, Vec<u8>)>,
    /// Numbers that hold no readable dead letter.
    pub absent: Vec<u64>,
    /// Where the next portion begins; `None`: this was the last.
    pub next: Option<u64>,
}

/// Reads the wanted letters of `lane`, whose first undelivered record is `head`. Only what is committed is ever read.
pub async fn gather<R: Records>(records: &R, lane: usize, head: u64, wanted: &Letters) -> Result<Portion, String> {
    let mut portion = Portion::default();
    match wanted {
        Letters::These(numbers) => {
            for number in numbers {
                let (batch, bytes) = records.read(lane, *number, 1, Vec::new()).await?;
                let mut rest = bytes.as_slice();
                let found = Record::take(&mut rest).filter(|record| record.kind == RecordKind::DeadLetter);
                match found.filter(|_| batch.records == 1 && batch.first_seq == *number) {
                    Some(_) => portion.letters.push((*number, bytes)),
                    None => portion.absent.push(*number),
                }
            }
        }
        Letters::All { from, through } => {
            let mut seq = head.max(*from);
            let mut bytes_so_far = 0;
            'reading: while seq <= *through {
                let (batch, bytes) = records.read(lane, seq, READ_BYTES, Vec::new()).await?;
                if batch.records == 0 {
                    break;
                }
                let mut rest = bytes.as_slice();
                seq = batch.first_seq;
                while let (before, Some(record)) = (rest, Record::take(&mut rest)) {
                    if *through < seq {
                        break 'reading;
                    }
                    if record.kind == RecordKind::DeadLetter {
                        if portion.letters.len() == LETTERS_MAX || PORTION_BYTES_MAX < bytes_so_far {
                            portion.next = Some(seq);
                            break 'reading;
                        }
                        let encoded = before[..before.len() - rest.len()].to_vec();
                        bytes_so_far += encoded.len();
                        portion.letters.push((seq, encoded));
                    }
                    seq += 1;
                }
                seq = seq.max(batch.first_seq + u64::from(batch.records));
            }
        }
    }
    Ok(portion)
}

/// Has the gateway take the letters; what became of each. True when it is committed.
pub fn take(gateway: &mut Gateway, now: Now, wanted: &Wanted, portion: &Portion, effects: &mut Effects) -> Value {
    let expected = wanted.function.as_ref();
    let expected = expected.map(|(function, version)| Expected { function, version: version.as_deref() });
    let mut outcomes: Vec<Value> =
        portion.absent.iter().map(|seq| json!({ "seq": seq, "refused": "is not there, or not any more" })).collect();
    for (seq, bytes) in &portion.letters {
        let Some(record) = Record::take(&mut bytes.as_slice()) else { continue };
        let done = match wanted.purge {
            true => gateway.purge(*seq, effects).map(|()| "purged"),
            false => gateway.replay(now, *seq, &record, expected, effects).map(fate_name),
        };
        match done {
            Ok(outcome) => outcomes.push(json!({ "seq": seq, "outcome": outcome })),
            // Of a range what has gone meanwhile is no news.
            Err(crate::gateway::NoReplay::Absent) if matches!(wanted.letters, Letters::All { .. }) => {}
            Err(error) => outcomes.push(json!({ "seq": seq, "refused": error.to_string() })),
        }
    }
    json!({ "ok": true, "outcomes": outcomes, "next": portion.next })
}

/// The word for what became of a replayed message.
#[must_use]
pub const fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Filtered => "filtered",
        Fate::Aggregated => "aggregated",
        Fate::DeadLettered => "dead-lettered",
        Fate::Pending => "record",
        Fate::Dropped(reason) => reason.name(),
    }
}
