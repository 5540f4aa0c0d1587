//! `[[function]]`: the manifest with the site's changes, and the triggers.

use core::str::FromStr;
use std::path::{Path, PathBuf};

use crate::manifest::{Manifest, check_label};
use crate::strict::{Faults, Section, did_you_mean};
use crate::topic::TopicFilter;
use crate::units::{Bytes, Millis};

use super::site::Place;
use super::{Codec, DeviceFrom, FunctionConfig, MessageTrigger, Qos, RetainedPolicy, TimeUnit, Trigger};

/// Functions of one gateway.
pub const FUNCTIONS_MAX: usize = 64;
/// Triggers of one function.
pub const TRIGGERS_MAX: usize = 32;

/// Reads all functions; beside each, the size of its module.
pub(super) fn read(top: &mut Section<'_>, place: Place<'_>, faults: &Faults) -> Vec<(FunctionConfig, Bytes)> {
    let mut functions: Vec<(FunctionConfig, Bytes)> = Vec::new();
    if !top.has("function") {
        top.refuse("function", "is missing: a gateway has at least one; write [[function]] with path and trigger");
    }
    for mut section in top.sections("function", FUNCTIONS_MAX) {
        let read = function(&mut section, place, faults);
        if let Some((config, size)) = read {
            if functions.iter().any(|(other, _)| other.manifest.name == config.manifest.name) {
                section.refuse("name", "is the name of two functions; give one of them a name = \"…\" of its own");
            }
            functions.push((config, size));
        }
        section.close();
    }
    functions
}

fn function(section: &mut Section<'_>, place: Place<'_>, faults: &Faults) -> Option<(FunctionConfig, Bytes)> {
    let name = section.text("name");
    let path = section.required_text("path", "functions/mean");
    if let Some(label) = name.or_else(|| path.map(last_level)) {
        section.rename(format!("function.{label}"));
    }
    if let Some(Err(why)) = name.map(check_label) {
        section.refuse("name", &why);
    }
    let folder = path.map(|path| place.path(path));
    let manifest = folder.as_deref().and_then(|folder| manifest(section, place, folder, faults));
    if let (None, Some(manifest)) = (name, &manifest) {
        section.rename(format!("function.{}", manifest.name));
    }
    // Without its manifest the rest is read for its faults only.
    let known = manifest.is_some();
    let mut manifest = manifest.unwrap_or_else(|| nameless(name));
    if let Some(name) = name {
        manifest.rename(name);
    }
    change(section, &mut manifest, known);
    let triggers = triggers(section);
    let report = section.flag("report", false);
    let module = folder?.join(&manifest.module);
    if !known {
        return None;
    }
    let size = match place.site.size(&module) {
        Ok(size) if 0 < size => Bytes(size),
        Ok(_) => {
            section.refuse("path", &format!("{}: is empty", module.display()));
            Bytes(0)
        }
        Err(why) => {
            let advice = if why == super::NO_SUCH_FILE { "; the module has to be built first" } else { "" };
            section.refuse("path", &format!("{}: {why}{advice}", module.display()));
            Bytes(0)
        }
    };
    Some((FunctionConfig { manifest, module, triggers, report }, size))
}

fn last_level(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn manifest(section: &Section<'_>, place: Place<'_>, folder: &Path, faults: &Faults) -> Option<Manifest> {
    let file: PathBuf = folder.join("function.toml");
    match place.site.read(&file) {
        Ok(text) => Manifest::parse(&file.display().to_string(), &text, faults),
        Err(why) => {
            section.refuse(
                "path",
                &format!("{}: {why}; path names a folder with function.toml and a module", file.display()),
            );
            None
        }
    }
}

fn nameless(name: Option<&str>) -> Manifest {
    let text = "name = \"nameless\"";
    let mut manifest = Manifest::parse("", text, &Faults::default()).expect("a name is a whole manifest");
    manifest.rename(name.unwrap_or("nameless"));
    manifest
}

/// What the site changes of a manifest. Meters are known only when it was read.
fn change(section: &mut Section<'_>, manifest: &mut Manifest, known: bool) {
    let mut limits = section.section("limits");
    manifest.limits = manifest.limits.read(&mut limits);
    limits.close();
    for (name, mut own) in section.named_sections("meter") {
        match manifest.meters.iter_mut().find(|meter| meter.name == name) {
            Some(meter) => {
                *meter = meter.clone().read(&mut own);
                own.close();
            }
            None if known => {
                let meant = did_you_mean(name, manifest.meters.iter().map(|meter| meter.name.as_str()));
                own.refuse("", &format!("is not a meter of this function's manifest{meant}"));
            }
            None => {}
        }
    }
    // A manifest that declares its settings declares them all; one without any leaves them to the site.
    let declares = !manifest.config.is_empty();
    for (key, value) in section.pairs("config") {
        match manifest.config.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None if declares => {
                let settings: Vec<&str> = manifest.config.iter().map(|(known, _)| known.as_str()).collect();
                let (known, meant) = (settings.join(", "), did_you_mean(&key, settings.iter().copied()));
                let what = format!("is not a setting of this function's manifest (known: {known}){meant}");
                section.refuse(&format!("config.{key}"), &what);
            }
            None => manifest.config.push((key, value)),
        }
    }
    manifest.config.sort_unstable();
}

fn triggers(section: &mut Section<'_>) -> Vec<Trigger> {
    if !section.has("trigger") {
        section.refuse(
            "trigger",
            "is missing: nothing would wake the function; write [[function.trigger]] with mqtt = \"a/+/b\"",
        );
    }
    let mut triggers = Vec::new();
    for mut own in section.sections("trigger", TRIGGERS_MAX) {
        triggers.extend(trigger(&mut own));
        own.close();
    }
    triggers
}

fn trigger(section: &mut Section<'_>) -> Option<Trigger> {
    let named: Vec<&str> = ["mqtt", "chain", "interval"].into_iter().filter(|key| section.has(key)).collect();
    match named.as_slice() {
        ["mqtt"] => {
            let topics = section.parsed::<TopicFilter>("mqtt", "a topic filter");
            Some(Trigger::Mqtt(message(section, topics, true)?))
        }
        ["chain"] => {
            let topics = section.parsed::<TopicFilter>("chain", "a topic filter");
            if topics.as_ref().is_some_and(|topics| topics.share_group().is_some()) {
                section.refuse("chain", "is within this gateway, where nothing is shared; leave $share/GROUP/ out");
            }
            Some(Trigger::Chain(message(section, topics, false)?))
        }
        ["interval"] => {
            Some(Trigger::Interval(section.millis("interval", Millis(60_000), Millis(10)..=Millis(366 * 86_400_000))))
        }
        [] => {
            section.refuse("", "has none of mqtt, chain and interval; it wants one");
            None
        }
        more => {
            section.refuse("", &format!("has {}; it wants one of them (write a trigger for each)", more.join(" and ")));
            None
        }
    }
}

fn message(section: &mut Section<'_>, topics: Option<TopicFilter>, from_broker: bool) -> Option<MessageTrigger> {
    let codecs = [("json", Codec::Json), ("cbor", Codec::Cbor), ("raw", Codec::Raw)];
    let units = [("s", TimeUnit::Seconds), ("ms", TimeUnit::Milliseconds)];
    let policies = [
        ("skip-on-resubscribe", RetainedPolicy::SkipOnResubscribe),
        ("always", RetainedPolicy::Always),
        ("never", RetainedPolicy::Never),
    ];
    let (qos, retained) = if from_broker {
        (section.number::<u8>("qos", 1, 0..=2), section.choice("retained", &policies))
    } else {
        (1, None)
    };
    let codec = section.choice("codec", &codecs).unwrap_or_default();
    let time_field = section.text("time-field").map(str::to_owned);
    let device = match section.parsed::<DeviceFrom>("device", "\"topic\", \"topic:N\" or \"field:PATH\"") {
        Some(device) => device,
        None => default_device(topics.as_ref()),
    };
    if let (DeviceFrom::Field(path), true) = (&device, section.has("device")) {
        check_path(section, "device", path, codec);
    }
    if let Some(path) = &time_field {
        check_path(section, "time-field", path, codec);
    } else if section.has("time-unit") {
        section.refuse("time-unit", "has no time-field whose unit it would be");
    }
    Some(MessageTrigger {
        qos: match qos {
            0 => Qos::AtMostOnce,
            2 => Qos::ExactlyOnce,
            _ => Qos::AtLeastOnce,
        },
        retained: retained.unwrap_or_default(),
        codec,
        time_field,
        time_unit: section.choice("time-unit", &units).unwrap_or_default(),
        device,
        filter: super::pattern::read(section, codec),
        topics: topics?,
    })
}

/// The level of the first `+`: `plant/+/temperature` has the device there; without one the whole topic is the device.
fn default_device(topics: Option<&TopicFilter>) -> DeviceFrom {
    let level = topics.and_then(|topics| topics.as_str().split('/').position(|level| level == "+"));
    level.and_then(|level| u8::try_from(level).ok()).map_or(DeviceFrom::Topic, DeviceFrom::TopicLevel)
}

fn check_path(section: &Section<'_>, key: &str, path: &str, codec: Codec) {
    if codec == Codec::Raw {
        section.refuse(key, "names a field; codec = \"raw\" has none");
    }
    if let Err(why) = super::pattern::check_path(path) {
        section.refuse(key, &why);
    }
}

impl FromStr for DeviceFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("`{}` is none of \"topic\", \"topic:N\" (N from 0) and \"field:PATH\"", text.escape_debug());
        match text.split_once(':') {
            None if text == "topic" => Ok(Self::Topic),
            Some(("topic", level)) => level.parse().map(Self::TopicLevel).map_err(|_| refuse()),
            Some(("field", path)) if !path.is_empty() => Ok(Self::Field(path.to_owned())),
            _ => Err(refuse()),
        }
    }
}
