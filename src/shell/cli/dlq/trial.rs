//! `weir dlq replay --try`: the whole gateway, made from the store as it is and never written, handles the letters and shows what
//! would follow.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::place::{EXIT_FAILURE, EXIT_WARNING, escaped};
use super::super::store::lines::ascii;
use super::super::{EXIT_CONFIG, complain, examine, modules, say};
use super::ReplayOptions;
use super::list::{Letter, read};
use crate::budget::Plan;
use crate::config::SinkFormat;
use crate::dead_letter::DeadLetter;
use crate::effect::Effects;
use crate::entry::{Space, entries};
use crate::envelope::{self, Origin};
use crate::function::Function;
use crate::gateway::{Expected, Gateway};
use crate::record::{Record, RecordKind};
use crate::shell::clock::Clock;
use crate::time::Now;

/// More letters are replayed for good, not tried.
const TRIED_MAX: u64 = 100;

pub(super) fn trial(options: &ReplayOptions) -> ExitCode {
    let found = match options.place.find() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let Some(file) = options.place.file() else { return ExitCode::from(EXIT_CONFIG) };
    let examined = examine(file, None);
    let (Some(mut plan), false) = (examined.plan, examined.refused) else {
        complain(&examined.faults);
        eprintln!("{}: refused, so nothing can be tried with it", file.display());
        return ExitCode::from(EXIT_CONFIG);
    };
    let mut functions = examined.functions;
    if let Some(bundle) = &options.bundle
        && let Err(error) = put_in(bundle, &mut plan, &mut functions)
    {
        eprintln!("weir dlq replay: {}: {error}", bundle.display());
        return ExitCode::from(EXIT_CONFIG);
    }
    let which = &options.which;
    let letters = match read(&found, TRIED_MAX, &|seq| which.all || which.numbers.contains(&seq)) {
        Ok(letters) => letters,
        Err(code) => return code,
    };
    let mut clock = Clock::default();
    let mut effects = Effects::default();
    let stopwatch = Box::new(clock.clone());
    let started = Gateway::new(&plan.loaded.config, functions, letters.recovered, clock.now(), stopwatch, &mut effects);
    let mut gateway = match started {
        Ok(gateway) => gateway,
        Err(error) => {
            eprintln!("weir dlq replay: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    gateway.seal(clock.now(), &mut effects);
    let mut trial = Trial { plan: &plan, gateway: &mut gateway, effects };
    let expected = options.function.as_ref();
    let expected = expected.map(|(function, version)| Expected { function, version: version.as_deref() });
    let mut tried: Vec<Value> = letters.letters.iter().map(|letter| trial.run(clock.now(), letter, expected)).collect();
    let absent = which.numbers.iter().filter(|seq| !letters.letters.iter().any(|letter| letter.seq == **seq));
    tried.extend(absent.map(|seq| json!({ "seq": seq, "refused": "is not there, or not any more" })));
    if options.json {
        say(&format!("{}\n", ascii(&json!({ "ok": true, "tried": tried }).to_string())));
    } else {
        let text: String = tried.iter().map(text).collect();
        say(if text.is_empty() { "no dead letters\n" } else { &text });
    }
    let good = |one: &&Value| one["refused"].is_null() && one["outcome"] != "dead-lettered";
    match tried.iter().filter(good).count() {
        count if count == tried.len() => ExitCode::SUCCESS,
        0 => ExitCode::from(EXIT_FAILURE),
        _ => ExitCode::from(EXIT_WARNING),
    }
}

/// Puts the function of a folder in the place of the configured one of its name.
fn put_in(folder: &Path, plan: &mut Plan, functions: &mut [Function]) -> Result<(), String> {
    let (mut manifest, module) = modules::read_bundle(folder)?;
    let configured =
        plan.loaded.config.functions.iter_mut().zip(functions).find(|(one, _)| one.manifest.name == manifest.name);
    let Some((config, function)) = configured else {
        return Err(format!("its function `{}` is not configured, so no letter is for it", manifest.name));
    };
    // The site's own settings stay.
    for (key, value) in &config.manifest.config {
        match manifest.config.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.clone_from(value),
            None => manifest.config.push((key.clone(), value.clone())),
        }
    }
    manifest.config.sort_unstable();
    *function = modules::load_one(&manifest, &module)?;
    config.manifest = manifest;
    Ok(())
}

struct Trial<'a> {
    plan: &'a Plan,
    gateway: &'a mut Gateway,
    effects: Effects,
}

impl Trial<'_> {
    /// Replays one letter and tells what follows.
    fn run(&mut self, now: Now, letter: &Letter, expected: Option<Expected<'_>>) -> Value {
        let mut told = json!({ "seq": letter.seq });
        let Some(record) = letter.record() else { return told };
        let function = DeadLetter::decode(record.payload).map(|dead| dead.function.into_owned()).unwrap_or_default();
        let function = if function.is_empty() { expected.map_or("", |expected| expected.function) } else { &*function };
        told["function"] = json!(function);
        self.effects.clear();
        match self.gateway.replay(now, letter.seq, &record, expected, &mut self.effects) {
            Err(error) => {
                told["refused"] = json!(error.to_string());
                return told;
            }
            Ok(fate) => told["outcome"] = json!(crate::shell::dlq::fate_name(fate)),
        }
        let config = self.plan.loaded.config.functions.iter().find(|config| config.manifest.name == function);
        if let (Some(config), Some(staged)) = (config, self.gateway.staged_of(function)) {
            told["version"] = json!(config.manifest.version);
            let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            told["emits"] =
                staged.emits().map(|emit| json!({ "topic": emit.topic, "payload": utf8(emit.payload) })).collect();
            let meter = |index: u16| config.manifest.meters.get(usize::from(index)).map(|meter| meter.name.as_str());
            told["meters"] = staged
                .meters()
                .map(|op| json!({ "meter": meter(op.meter), "key": op.key, "value": op.value }))
                .collect();
        }
        self.gateway.seal(now, &mut self.effects);
        told["log"] = self.effects.log.iter().map(|line| json!(line.text)).collect();
        told["records"] = self.records();
        told["state"] = self.state();
        told
    }

    /// The records that would be committed.
    fn records(&self) -> Value {
        let lanes = self.gateway.outbox().lanes();
        let (mut records, store) = (Vec::new(), self.gateway.store().to_string());
        for batch in &self.effects.lanes {
            let mut rest = batch.records.as_slice();
            let mut seq = batch.first_seq;
            while let Some(record) = Record::take(&mut rest) {
                let lane = lanes.get(batch.lane).map_or("", |lane| &lane.config().name);
                let mut bytes = Vec::new();
                let origin = Origin { gateway: &self.plan.loaded.config.id, store: &store, lane, seq };
                envelope::write(SinkFormat::Json, origin, &record, &mut bytes);
                if record.kind != RecordKind::Loss {
                    records.push(serde_json::from_slice::<Value>(&bytes).unwrap_or_default());
                }
                seq += 1;
            }
        }
        Value::Array(records)
    }

    /// Changes of functions' state.
    fn state(&self) -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        entries(self.effects.entries.bytes())
            .flatten()
            .filter_map(|entry| {
                let rest = entry.key.strip_prefix(&[Space::State as u8])?;
                let end = rest.iter().position(|byte| *byte == 0)?;
                let key = text(&rest[end + 1..]);
                Some(json!({ "function": text(&rest[..end]), "key": key, "value": entry.value.map(text) }))
            })
            .collect()
    }
}

fn text(tried: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), escaped);
    let list = |key: &str| tried[key].as_array().cloned().unwrap_or_default();
    if !tried["refused"].is_null() {
        return format!("{}: refused: {}\n", tried["seq"], word(&tried["refused"]));
    }
    let version = if tried["version"].is_null() { String::new() } else { format!("@{}", word(&tried["version"])) };
    let mut text = format!(
        "{}: {}{version} would make of it: {}\n",
        tried["seq"],
        word(&tried["function"]),
        word(&tried["outcome"])
    );
    for emit in list("emits") {
        text += &format!("  emits   {} {}\n", word(&emit["topic"]), word(&emit["payload"]));
    }
    for op in list("meters") {
        let key = if op["key"].is_null() { "its device".to_owned() } else { word(&op["key"]) };
        text += &format!("  meter   {} {} for {key}\n", word(&op["meter"]), op["value"]);
    }
    for change in list("state") {
        let value = if change["value"].is_null() { "(deleted)".to_owned() } else { word(&change["value"]) };
        text += &format!("  state   {}: {} = {value}\n", word(&change["function"]), word(&change["key"]));
    }
    for line in list("log") {
        text += &format!("  log     {}\n", word(&line));
    }
    for record in list("records") {
        text += &format!("  record  {} {} {}\n", word(&record["lane"]), word(&record["kind"]), word(&record["topic"]));
    }
    text
}
