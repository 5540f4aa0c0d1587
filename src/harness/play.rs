//! A case played: the function loaded anew, its steps one by one, and what is not as the case says.

use serde::Serialize;

use super::case::{Case, Expected, Step};
use super::document::{Blob, Event, to_hex};
use super::outcome::{Difference, NOTHING, Outcome, compare, lists};
use super::{Harness, configure};
use crate::manifest::Manifest;
use crate::time::Stopwatch;

/// What came of a case. It holds if nothing differs.
#[derive(Debug, Default, Serialize)]
pub struct Played {
    /// The function loads, or does not, other than the case says.
    pub refused: Option<Difference>,
    /// Its steps, as far as it came: the first that differs is the last.
    pub steps: Vec<PlayedStep>,
    /// Fuel of all steps.
    pub fuel: u64,
    /// Most fuel of one step.
    pub fuel_max: u64,
    /// Largest linear memory, bytes.
    pub memory: u64,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct PlayedStep {
    /// Its number, from 1.
    pub step: usize,
    /// The event.
    pub event: Event,
    /// What came of it.
    pub outcome: Outcome,
    /// What is not as the case says.
    pub differences: Vec<Difference>,
}

impl Played {
    /// Whether everything is as the case says.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.refused.is_none() && self.steps.iter().all(|step| step.differences.is_empty())
    }
}

/// Plays `case` with the module; the manifest's settings give way to the case's.
pub fn play(case: &Case, manifest: &Manifest, wasm: &[u8], watch: &mut dyn Stopwatch) -> Played {
    let mut played = Played::default();
    let mut manifest = manifest.clone();
    let configured = case.settings().and_then(|settings| configure(&mut manifest, settings));
    let loaded = configured.and_then(|()| Harness::load(manifest, wasm, 0, watch).map_err(|error| error.to_string()));
    let mut harness = match (loaded, &case.refused) {
        (Ok(harness), None) => harness,
        (Err(why), Some(reason)) if why.contains(reason) => return played,
        (loaded, reason) => {
            let expected =
                reason.as_ref().map_or_else(|| "it loads".to_owned(), |reason| format!("refused: …{reason}…"));
            let got = loaded.err().map_or_else(|| "it loads".to_owned(), |why| format!("refused: {why}"));
            played.refused = Some(Difference { what: "load".to_owned(), expected, got });
            return played;
        }
    };
    played.memory = harness.function().memory_peak().0;
    for (index, step) in case.step.iter().enumerate() {
        let event = step.event(case.codec);
        for _ in 0..step.repeat {
            let outcome = harness.call(&event, watch);
            let differences = differences(step, &event, &outcome, &harness);
            played.fuel += outcome.fuel;
            played.fuel_max = played.fuel_max.max(outcome.fuel);
            played.memory = played.memory.max(outcome.memory);
            let differs = !differences.is_empty();
            played.steps.push(PlayedStep { step: index + 1, event: event.clone(), outcome, differences });
            if differs {
                return played;
            }
        }
    }
    played
}

fn differences(step: &Step, event: &Event, outcome: &Outcome, harness: &Harness) -> Vec<Difference> {
    let mut found = Vec::new();
    verdict(step, outcome, &mut found);
    let emits: Vec<_> =
        step.emits.iter().map(|emit| (emit.topic.clone(), Blob(emit.payload.clone().into_bytes()))).collect();
    let got: Vec<_> = outcome.emits.iter().map(|emit| (emit.topic.clone(), emit.payload.clone())).collect();
    lists("emits", &emits, &got, |(topic, payload)| format!("{topic} {}", payload.shown()), &mut found);
    meters(step, event, outcome, &mut found);
    if let Some(expected) = &step.logs {
        let got: Vec<String> =
            outcome.logs.iter().map(|line| String::from_utf8_lossy(&line.text.0).into_owned()).collect();
        lists("logs", expected, &got, Clone::clone, &mut found);
    }
    if let Some(expected) = &step.state {
        // What the call changed is committed by now.
        let state = harness.function().state_entries();
        let got: Vec<_> =
            state.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), to_hex(value))).collect();
        let expected: Vec<_> = expected.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        lists("state", &expected, &got, |(key, value)| format!("{key} = {value}"), &mut found);
    }
    found
}

fn verdict(step: &Step, outcome: &Outcome, found: &mut Vec<Difference>) {
    let got = match &outcome.error {
        Some(error) => format!("{}: {}", outcome.verdict, error.text),
        None => outcome.verdict.clone(),
    };
    if step.verdict.name() != outcome.verdict {
        found.push(Difference { what: "verdict".to_owned(), expected: step.verdict.name().to_owned(), got });
        return;
    }
    let Some(error) = outcome.error.as_ref().filter(|_| step.verdict == Expected::Error) else { return };
    if let Some(code) = step.code {
        let shown = |code: Option<i32>| code.map_or_else(|| error.text.clone(), |code| format!("code {code}"));
        compare("error", &shown(Some(code)), &shown(error.code), found);
    }
    if let Some(says) = step.says.as_ref().filter(|says| !error.text.contains(says.as_str())) {
        found.push(Difference { what: "error".to_owned(), expected: format!("…{says}…"), got: error.text.clone() });
    }
}

fn meters(step: &Step, event: &Event, outcome: &Outcome, found: &mut Vec<Difference>) {
    for index in 0..step.meters.len().max(outcome.meters.len()) {
        let (expected, got) = (step.meters.get(index), outcome.meters.get(index));
        let key = |key: &Option<String>| key.clone().unwrap_or_else(|| event.device().to_owned());
        let alike = match (expected, got) {
            (Some(expected), Some(got)) => {
                let off = (got.value - expected.value).abs();
                (&expected.name, &expected.op, &key(&expected.key)) == (&got.name, &got.op, &got.key)
                    && off <= 1e-9 * expected.value.abs().max(1.0)
            }
            _ => false,
        };
        if !alike {
            let wanted = expected
                .map(|meter| format!("{} {} {} for {}", meter.name, meter.op, meter.value, key(&meter.key)))
                .unwrap_or_else(|| NOTHING.to_owned());
            let got = got.map_or_else(|| NOTHING.to_owned(), super::outcome::Metered::shown);
            found.push(Difference { what: format!("meters[{index}]"), expected: wanted, got });
        }
    }
}
