//! `function.toml` read into a [`Manifest`], and what a site may change of it.

use crate::strict::{self, Faults, Section};
use crate::topic::{self, TopicFilter};
use crate::units::{Bytes, Fuel, Millis};

use super::{InstancePolicy, Limits, METERS_MAX, Manifest, MeterKind, MeterSpec, MeterTime, check_label};

/// Bytes of an error code's meaning.
const ERROR_WORDS_MAX: usize = 200;

impl Manifest {
    /// Parses `text`, the content of `file`; what is wrong goes to `faults`.
    pub fn parse(file: &str, text: &str, faults: &Faults) -> Option<Self> {
        let table = strict::parse(file, text, faults)?;
        let mut section = Section::top(file, &table, faults);
        let name = section.required_text("name", "mean").unwrap_or_default().to_owned();
        if !name.is_empty() || section.has("name") {
            check_name(&section, &name);
        }
        let manifest = Self {
            version: section.text("version").unwrap_or("0").to_owned(),
            description: section.text("description").unwrap_or_default().to_owned(),
            module: module(&mut section, &name),
            emits: emits(&mut section),
            keep_prefix: keep_prefix(&mut section, &name),
            meters: meters(&mut section),
            limits: limits(&mut section),
            instances: section
                .choice("instances", &[("pristine", InstancePolicy::Pristine), ("warm", InstancePolicy::Warm)])
                .unwrap_or_default(),
            errors: errors(&mut section),
            config: section.pairs("config"),
            name,
        };
        section.close().then_some(manifest)
    }

    /// Takes the name that the site gives, and the default of `keep-prefix` with it.
    pub fn rename(&mut self, name: &str) {
        if self.keep_prefix == default_prefix(&self.name) {
            self.keep_prefix = default_prefix(name);
        }
        name.clone_into(&mut self.name);
    }
}

fn default_prefix(name: &str) -> String {
    format!("{name}/")
}

fn check_name(section: &Section<'_>, name: &str) {
    if let Err(why) = check_label(name) {
        section.refuse("name", &why);
    }
}

fn module(section: &mut Section<'_>, name: &str) -> String {
    let module = section.text("module").map_or_else(|| format!("{name}.wasm"), str::to_owned);
    if module.is_empty() || module.starts_with('/') || module.split('/').any(|part| part == "..") {
        section
            .refuse("module", &format!("`{module}` leaves the manifest's folder; name a file in it: \"{name}.wasm\""));
    }
    module
}

fn emits(section: &mut Section<'_>) -> Vec<TopicFilter> {
    let emits: Vec<TopicFilter> = section.list("emits").unwrap_or_default();
    for filter in &emits {
        if filter.share_group().is_some() || filter.as_str().starts_with('$') {
            section.refuse("emits", &format!("`{filter}` begins with `$`, which belongs to the broker"));
        }
    }
    emits
}

fn keep_prefix(section: &mut Section<'_>, name: &str) -> String {
    let Some(prefix) = section.text("keep-prefix") else { return default_prefix(name) };
    match topic::check_name(prefix) {
        Err(error) if !prefix.is_empty() => section.refuse("keep-prefix", &error.to_string()),
        _ if prefix.starts_with('$') => section.refuse("keep-prefix", "begins with `$`, which belongs to the broker"),
        _ => {}
    }
    prefix.to_owned()
}

fn limits(section: &mut Section<'_>) -> Limits {
    let mut own = section.section("limits");
    let limits = Limits::default().read(&mut own);
    own.close();
    limits
}

impl Limits {
    /// These limits with those that `section` names in their place.
    #[must_use]
    pub fn read(&self, section: &mut Section<'_>) -> Self {
        Self {
            memory: section.bytes("memory", self.memory, Bytes(256)..=Bytes::mib(64)),
            fuel: Fuel(section.number("fuel", self.fuel.0, 1_000..=1_000_000_000_000)),
            time: section.millis("time", self.time, Millis(1)..=Millis(60_000)),
            emits: section.number("emits", self.emits, 0..=1024),
            emit_bytes: section.bytes("emit-bytes", self.emit_bytes, Bytes(0)..=Bytes::mib(1)),
            state: section.bytes("state", self.state, Bytes(0)..=Bytes::mib(16)),
            log_bytes: section.bytes("log", self.log_bytes, Bytes(0)..=Bytes::kib(64)),
            meter_ops: section.number("meter-ops", self.meter_ops, 0..=4096),
        }
    }
}

/// Words for the codes that are no host call's: from 6 on.
fn errors(section: &mut Section<'_>) -> Vec<(u16, String)> {
    let mut errors = Vec::new();
    for (key, words) in section.pairs("errors") {
        match key.parse::<u16>() {
            Ok(code @ 6..) if key == code.to_string() && (1..=ERROR_WORDS_MAX).contains(&words.len()) => {
                errors.push((code, words));
            }
            _ => section.refuse(
                &format!("errors.{key}"),
                &format!(
                    "is no code with its meaning; wants 16 = \"no count of pulses\": a number from 6 to 65535 (1 to 5 are host \
                     calls'), and text of at most {ERROR_WORDS_MAX} bytes"
                ),
            ),
        }
    }
    errors
}

fn meters(section: &mut Section<'_>) -> Vec<MeterSpec> {
    let mut meters: Vec<MeterSpec> = Vec::new();
    for mut own in section.sections("meter", METERS_MAX) {
        let name = own.required_text("name", "temperature").unwrap_or_default().to_owned();
        if !name.is_empty() {
            own.rename(format!("meter.{name}"));
            check_name(&own, &name);
        }
        if meters.iter().any(|meter| meter.name == name) {
            own.refuse("name", "is given twice");
        }
        let kinds =
            [("counter", MeterKind::Counter), ("gauge", MeterKind::Gauge), ("distribution", MeterKind::Distribution)];
        if !own.has("kind") {
            own.refuse("kind", "is missing; write kind = \"counter\", \"gauge\" or \"distribution\"");
        }
        let spec = MeterSpec {
            name,
            kind: own.choice("kind", &kinds).unwrap_or(MeterKind::Gauge),
            window: Millis(60_000),
            lateness: Millis(10_000),
            time: own
                .choice("time", &[("event", MeterTime::Event), ("processing", MeterTime::Processing)])
                .unwrap_or_default(),
            keys_max: 128,
            unit: own.text("unit").unwrap_or_default().to_owned(),
        };
        meters.push(spec.read(&mut own));
        own.close();
    }
    meters
}

impl MeterSpec {
    /// This meter with the window, lateness and number of keys that `section` names in place of its own.
    #[must_use]
    pub fn read(self, section: &mut Section<'_>) -> Self {
        const DAY: u64 = 86_400_000;
        Self {
            window: section.millis("window", self.window, Millis(100)..=Millis(366 * DAY)),
            lateness: section.millis("lateness", self.lateness, Millis(0)..=Millis(30 * DAY)),
            keys_max: section.number("keys-max", self.keys_max, 1..=1_000_000),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<Manifest>, Vec<String>) {
        let faults = Faults::default();
        let manifest = Manifest::parse("function.toml", text, &faults);
        (manifest, faults.into_list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_name_is_enough() {
        let (manifest, faults) = parse("name = \"mean\"");
        let manifest = manifest.unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((manifest.module.as_str(), manifest.keep_prefix.as_str()), ("mean.wasm", "mean/"));
        assert_eq!(manifest.limits, Limits::default());
        assert_eq!((manifest.limits.memory, manifest.limits.fuel), (Bytes::kib(64), Fuel(1_000_000)));
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            name = "energy-meter"
            version = "1.2.0"
            description = "kWh from pulses"
            module = "out/energy.wasm"
            emits = ["alerts/#", "energy/+"]
            keep-prefix = "seen/"
            instances = "warm"
            [limits]
            memory = "128 KiB"
            fuel = 50000
            time = "250 ms"
            emits = 2
            emit-bytes = "1 KiB"
            state = "64 KiB"
            log = "0 B"
            meter-ops = 4
            [[meter]]
            name = "energy"
            kind = "counter"
            window = "15 min"
            lateness = "1 min"
            time = "processing"
            keys-max = 32
            unit = "kWh"
            [errors]
            16 = "no count of pulses"
            [config]
            pulses-per-kwh = 1000
            label = "hall"
        "#;
        let (manifest, faults) = parse(text);
        assert!(faults.is_empty(), "{faults:?}");
        let manifest = manifest.unwrap();
        assert_eq!(manifest.instances, InstancePolicy::Warm);
        assert_eq!(manifest.emits.len(), 2);
        assert_eq!(manifest.meters[0].window, Millis(900_000));
        assert_eq!((manifest.meters[0].kind, manifest.meters[0].keys_max), (MeterKind::Counter, 32));
        assert_eq!(manifest.meters[0].cells_max(), 3 * 33);
        assert_eq!(manifest.errors, [(16, String::from("no count of pulses"))]);
        assert_eq!(manifest.config[1], (String::from("pulses-per-kwh"), String::from("1000")));
        assert_eq!((manifest.limits.fuel, manifest.limits.log_bytes), (Fuel(50_000), Bytes(0)));
    }

    #[test]
    fn a_faulty_manifest_is_refused_with_all_its_faults() {
        for (text, want) in [
            ("", "name: is missing; write name = \"mean\""),
            ("name = \"Mean!\"", "name: `Mean!` is not a name; 1 to 48 of a-z, 0-9 and `-`"),
            ("name = \"a\"\nmodule = \"../b.wasm\"", "module: `../b.wasm` leaves the manifest's folder"),
            ("name = \"a\"\nemits = [\"x/#/y\"]", "emits: `x/#/y` has `#` before the last level"),
            ("name = \"a\"\nemits = [\"$SYS/x\"]", "emits: `$SYS/x` begins with `$`"),
            ("name = \"a\"\nkeep-prefix = \"a+\"", "keep-prefix: `a+` has a wildcard"),
            ("name = \"a\"\n[limits]\nmemry = \"1 KiB\"", "limits.memry: is not a key"),
            ("name = \"a\"\n[[meter]]\nname = \"t\"", "meter.t.kind: is missing"),
            ("name = \"a\"\n[errors]\n4 = \"x\"", "errors.4: is no code with its meaning"),
            ("name = \"a\"\n[errors]\n16 = \"\"", "errors.16: is no code with its meaning"),
            ("name = \"a\"\n[[meter]]\nname = \"t\"\nkind = \"guage\"", "did you mean `gauge`?"),
        ] {
            let (_, faults) = parse(text);
            assert!(faults.iter().any(|fault| fault.contains(want)), "{text}: {faults:?}");
        }
        let two = "name = \"a\"\n[[meter]]\nname = \"t\"\nkind = \"gauge\"\n[[meter]]\nname = \"t\"\nkind = \"gauge\"";
        assert_eq!(parse(two).1, ["function.toml: meter.t.name: is given twice"]);
    }

    #[test]
    fn a_site_that_renames_a_function_moves_its_default_prefix_only() {
        for (text, want) in [("name = \"a\"", "b/"), ("name = \"a\"\nkeep-prefix = \"x/\"", "x/")] {
            let mut manifest = parse(text).0.unwrap();
            manifest.rename("b");
            assert_eq!((manifest.name.as_str(), manifest.keep_prefix.as_str()), ("b", want));
        }
    }
}
