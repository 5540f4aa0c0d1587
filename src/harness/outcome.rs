//! What came of an event, as a document, and how two of them differ.

use serde::{Deserialize, Serialize};

use super::document::Blob;
use crate::field::{Codec, Malformed};
use crate::function::{CallError, EventKind, Function, Invocation, Verdict};
use crate::manifest::{Manifest, MeterKind};
use crate::printable::Escaped;

/// What a call wanted: nothing of it has taken place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// `keep`, `drop`, `done`, `error`, or `malformed`: the host kept the event from the function.
    pub verdict: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The topic on which a kept message goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeps: Option<String>,
    /// Messages, in order.
    pub emits: Vec<Emitted>,
    /// Meter operations, in order.
    pub meters: Vec<Metered>,
    /// Log lines, in order.
    pub logs: Vec<LogLine>,
    /// Changes of the durable state, in order of their first.
    pub state: Vec<Change>,
    /// Fuel spent.
    pub fuel: u64,
    /// Largest linear memory so far, bytes.
    pub memory: u64,
}

/// Why there is no verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In a word: that of dead letters.
    pub kind: String,
    /// The code that a handler returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// For people: the guest's functions, innermost first, fuel and memory at the fault.
    pub text: String,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emitted {
    /// Topic name.
    pub topic: String,
    /// Its bytes.
    pub payload: Blob,
}

/// A meter operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metered {
    /// The meter.
    pub name: String,
    /// `add`, `set` or `observe`.
    pub op: String,
    /// The key.
    pub key: String,
    /// Finite.
    pub value: f64,
}

/// A line of the function's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// 1 error … 4 debug.
    pub level: u8,
    /// As the guest wrote it.
    pub text: Blob,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key.
    pub key: Blob,
    /// The new value; `None`: deleted.
    pub value: Option<Blob>,
}

/// Something is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What: `verdict`, `emits[0]`, ….
    pub what: String,
    /// How it should be.
    pub expected: String,
    /// How it is.
    pub got: String,
}

impl core::fmt::Display for Difference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { what, expected, got } = self;
        write!(f, "{what}\n  expected  {expected}\n  got       {got}")
    }
}

/// The word for what a meter of this kind takes.
#[must_use]
pub const fn op_of(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::Counter => "add",
        MeterKind::Gauge => "set",
        MeterKind::Distribution => "observe",
    }
}

pub(super) fn log_of(function: &Function) -> Vec<LogLine> {
    let line = |line: crate::function::LogLine<'_>| LogLine { level: line.level, text: Blob(line.text.to_vec()) };
    function.staged().logs().map(line).collect()
}

impl Outcome {
    /// Of the call that `function` has just ended; its state is not committed yet.
    #[must_use]
    pub fn of(
        manifest: &Manifest,
        function: &Function,
        invocation: &Invocation<'_>,
        result: &Result<Verdict, CallError>,
        fuel: u64,
    ) -> Self {
        let (verdict, error) = match result {
            Ok(verdict) => (verdict.name(), None),
            Err(error) => ("error", Some(Failure::of(error))),
        };
        let keeps = matches!(result, Ok(Verdict::Keep)) && invocation.kind == EventKind::Message;
        let staged = function.staged();
        let emit = |emit: crate::function::Emit<'_>| Emitted {
            topic: emit.topic.to_owned(),
            payload: Blob(emit.payload.to_vec()),
        };
        let meter = |op: crate::function::MeterOp<'_>| Metered {
            name: manifest.meters.get(usize::from(op.meter)).map_or_else(String::new, |meter| meter.name.clone()),
            op: op_of(op.kind).to_owned(),
            key: op.key.unwrap_or(invocation.device).to_owned(),
            value: op.value,
        };
        let change = |(key, value): (&[u8], Option<&[u8]>)| Change {
            key: Blob(key.to_vec()),
            value: value.map(|value| Blob(value.to_vec())),
        };
        Self {
            verdict: verdict.to_owned(),
            error,
            keeps: keeps.then(|| format!("{}{}", manifest.keep_prefix, invocation.topic)),
            emits: staged.emits().map(emit).collect(),
            meters: staged.meters().map(meter).collect(),
            logs: log_of(function),
            state: function.staged_state().map(change).collect(),
            fuel,
            memory: function.memory_peak().0,
        }
    }

    pub(super) fn malformed(codec: Codec, malformed: Malformed) -> Self {
        let text = format!("malformed {codec:?} at byte {}: {}", malformed.at, malformed.what);
        let error = Failure { kind: "malformed".to_owned(), code: None, text };
        Self { verdict: "malformed".to_owned(), error: Some(error), ..Self::default() }
    }

    /// Whether the function, or the host for it, failed.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// Lines for people, each indented by `indent`.
    #[must_use]
    pub fn shown(&self, indent: &str) -> String {
        let mut text = String::new();
        if let Some(topic) = &self.keeps {
            text += &format!("{indent}keeps   on {}\n", Escaped(topic));
        }
        if let Some(error) = &self.error {
            text += &format!("{indent}error   {}: {}\n", error.kind, Escaped(&error.text));
        }
        for one in &self.emits {
            text += &format!("{indent}emits   {}\n", one.shown());
        }
        for one in &self.meters {
            text += &format!("{indent}meter   {}\n", one.shown());
        }
        for one in &self.state {
            text += &format!("{indent}state   {}\n", one.shown());
        }
        for one in &self.logs {
            text += &format!("{indent}log     {}\n", one.shown());
        }
        text
    }

    /// How `other` differs from this one in what it does: verdict, error, messages, meters, log, state. Byte for byte.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let verdict = |outcome: &Self| match &outcome.error {
            Some(error) => format!("{} ({}: {})", outcome.verdict, error.kind, Escaped(&error.text)),
            None => outcome.verdict.clone(),
        };
        compare("verdict", &verdict(self), &verdict(other), &mut found);
        let keeps = |outcome: &Self| outcome.keeps.clone().unwrap_or_else(|| NOTHING.to_owned());
        compare("keeps", &keeps(self), &keeps(other), &mut found);
        lists("emits", &self.emits, &other.emits, Emitted::shown, &mut found);
        lists("meters", &self.meters, &other.meters, Metered::shown, &mut found);
        lists("state", &self.state, &other.state, Change::shown, &mut found);
        lists("logs", &self.logs, &other.logs, LogLine::shown, &mut found);
        found
    }
}

/// Where one list is shorter than the other.
pub(super) const NOTHING: &str = "nothing";

pub(super) fn compare(what: &str, expected: &str, got: &str, found: &mut Vec<Difference>) {
    if expected != got {
        found.push(Difference { what: what.to_owned(), expected: expected.to_owned(), got: got.to_owned() });
    }
}

/// Place by place.
pub(super) fn lists<T: PartialEq>(
    what: &str,
    expected: &[T],
    got: &[T],
    show: impl Fn(&T) -> String,
    found: &mut Vec<Difference>,
) {
    for index in 0..expected.len().max(got.len()) {
        let (wanted, is) = (expected.get(index), got.get(index));
        if wanted != is {
            let shown = |one: Option<&T>| one.map_or_else(|| NOTHING.to_owned(), &show);
            found.push(Difference { what: format!("{what}[{index}]"), expected: shown(wanted), got: shown(is) });
        }
    }
}

impl Failure {
    fn of(error: &CallError) -> Self {
        let code = match error {
            CallError::Refused { code, .. } => Some(*code),
            _ => None,
        };
        Self { kind: error.kind().name().to_owned(), code, text: error.to_string() }
    }
}

impl Emitted {
    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} {}", Escaped(&self.topic), self.payload.shown())
    }
}

impl Metered {
    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} {} {} for {}", self.name, self.op, self.value, Escaped(&self.key))
    }
}

impl LogLine {
    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        let level = match self.level {
            1 => "error",
            2 => "warn",
            3 => "info",
            _ => "debug",
        };
        format!("{level} {}", Escaped(&String::from_utf8_lossy(&self.text.0)))
    }
}

impl Change {
    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.value {
            Some(value) => format!("{} = {}", self.key.shown(), value.shown()),
            None => format!("{} deleted", self.key.shown()),
        }
    }
}
