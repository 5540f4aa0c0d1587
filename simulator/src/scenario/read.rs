//! Reading a scenario's TOML, section by section.

use core::ops::RangeInclusive;

use toml::Value;
use weir::config::Qos;
use weir::strict::Section;
use weir::topic;
use weir::units::Millis;

use super::{Burst, DEVICES_MAX, FlawRates, FleetSpec, Outage, Scenario};
use crate::model::{Door, Energy, Lpp, Model, Temperature, Vibration};

const SPAN: RangeInclusive<Millis> = Millis(1)..=Millis(366 * 86_400_000);
const MOMENT: RangeInclusive<Millis> = Millis(0)..=Millis(366 * 86_400_000);
const SECTIONS_MAX: usize = 1000;

pub(super) fn scenario(mut top: Section<'_>) -> Scenario {
    let mut scenario = Scenario {
        name: top.text("name").unwrap_or("scenario").to_owned(),
        seed: top.number("seed", 1, 0..=i64::MAX) as u64,
        duration_ms: top.millis_option("duration", SPAN).map(|span| span.0),
        fleets: Vec::new(),
    };
    for section in top.sections("fleet", SECTIONS_MAX) {
        let fleet = fleet(section);
        if scenario.fleets.iter().any(|other| other.name == fleet.name) {
            top.refuse("fleet", &format!("has two of the name `{}`; device names would clash", fleet.name));
        }
        scenario.fleets.push(fleet);
    }
    if scenario.fleets.is_empty() {
        top.refuse("fleet", "is missing; wants at least one section [[fleet]]");
    }
    let devices: u64 = scenario.fleets.iter().map(|fleet| fleet.devices).sum();
    if devices > DEVICES_MAX {
        top.refuse("fleet", &format!("wants {devices} devices together; there is room for {DEVICES_MAX}"));
    }
    for mut section in top.sections("burst", SECTIONS_MAX) {
        let places = places(&mut section, &scenario.fleets);
        let (at_ms, for_ms) = phase(&mut section);
        let burst = Burst { at_ms, for_ms, factor: real(&mut section, "factor", 10.0, 0.01..=10_000.0) };
        section.close();
        places.into_iter().for_each(|place| scenario.fleets[place].bursts.push(burst));
    }
    for mut section in top.sections("outage", SECTIONS_MAX) {
        let places = places(&mut section, &scenario.fleets);
        let (at_ms, for_ms) = phase(&mut section);
        let outage = Outage { at_ms, for_ms, keep: section.flag("keep", true) };
        section.close();
        places.into_iter().for_each(|place| scenario.fleets[place].outages.push(outage));
    }
    top.close();
    scenario
}

/// A number with or without a fraction.
fn real(section: &mut Section<'_>, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
    let number = match section.raw(key) {
        None => return default,
        Some(Value::Float(number)) => *number,
        Some(Value::Integer(number)) => *number as f64,
        Some(_) => f64::NAN,
    };
    if range.contains(&number) {
        return number;
    }
    section.refuse(key, &format!("wants a number from {} to {}", range.start(), range.end()));
    default
}

fn chance(section: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
    real(section, key, default, 0.0..=1.0)
}

fn whole(section: &mut Section<'_>, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    section.number(key, signed(default), signed(*range.start())..=signed(*range.end())) as u64
}

/// The fleets that a phase is about: the one that it names, or all.
fn places(section: &mut Section<'_>, fleets: &[FleetSpec]) -> Vec<usize> {
    let Some(name) = section.text("fleet") else { return (0..fleets.len()).collect() };
    let place = fleets.iter().position(|fleet| fleet.name == name);
    if place.is_none() {
        let names: Vec<&str> = fleets.iter().map(|fleet| fleet.name.as_str()).collect();
        section.refuse("fleet", &format!("names `{name}`, which is none of {}", names.join(", ")));
    }
    place.into_iter().collect()
}

fn phase(section: &mut Section<'_>) -> (u64, u64) {
    let at = section.millis("at", Millis(0), MOMENT);
    if !section.has("for") {
        section.refuse("for", "is missing: how long it lasts; write for = \"5 s\"");
    }
    (at.0, section.millis("for", Millis(1), SPAN).0)
}

fn fleet(mut section: Section<'_>) -> FleetSpec {
    let name = section.required_text("name", "hall").unwrap_or("x").to_owned();
    let is_plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if name.is_empty() || name.len() > 48 || !name.bytes().all(is_plain) {
        section.refuse("name", &format!("is `{name}`; wants 1 to 48 of a-z, 0-9 and -"));
    }
    let model = model(&mut section);
    let topic = section.required_text("topic", "site/{device}/temp").unwrap_or("{device}").to_owned();
    if !topic.contains("{device}") {
        section.refuse("topic", &format!("is `{topic}`; wants {{device}} in it, which stands for the device's name"));
    } else if let Err(error) = topic::check_name(&topic.replace("{device}", "x")) {
        section.refuse("topic", &error.to_string());
    }
    let fleet = FleetSpec {
        devices: whole(&mut section, "devices", 1, 1..=DEVICES_MAX),
        interval_us: section.millis("interval", Millis(1000), SPAN).0 * 1000,
        jitter: real(&mut section, "jitter", 0.1, 0.0..=0.9),
        qos: match section.number("qos", 1, 0..=2) {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        retain: section.flag("retain", false),
        meter: section.text("meter").map(str::to_owned),
        flaws: FlawRates {
            duplicate: chance(&mut section, "duplicate", 0.0),
            late: chance(&mut section, "late", 0.0),
            late_ms: section.millis("late-by", Millis(10_000), SPAN).0,
            out_of_order: chance(&mut section, "out-of-order", 0.0),
            malformed: chance(&mut section, "malformed", 0.0),
            wrong_type: chance(&mut section, "wrong-type", 0.0),
            bad_time: chance(&mut section, "bad-time", 0.0),
        },
        bursts: Vec::new(),
        outages: Vec::new(),
        name,
        model,
        topic,
    };
    if fleet.model.is_ordered() && fleet.meter.is_some() {
        let text = "must be 0: what a counter adds depends on the reading before; leave out `meter` to have it";
        let FlawRates { late, out_of_order, bad_time, .. } = fleet.flaws;
        refuse_positive(&section, &[("late", late), ("out-of-order", out_of_order), ("bad-time", bad_time)], text);
    }
    if !fleet.model.is_json() {
        let text = "must be 0: binary readings have neither types nor a time";
        refuse_positive(&section, &[("wrong-type", fleet.flaws.wrong_type), ("bad-time", fleet.flaws.bad_time)], text);
    }
    section.close();
    fleet
}

fn refuse_positive(section: &Section<'_>, rates: &[(&str, f64)], text: &str) {
    rates.iter().filter(|(_, rate)| *rate > 0.0).for_each(|(key, _)| section.refuse(key, text));
}

#[derive(Clone, Copy)]
enum Kind {
    Temperature,
    Energy,
    Vibration,
    Door,
    Lpp,
}

const KINDS: [(&str, Kind); 5] = [
    ("temperature", Kind::Temperature),
    ("energy", Kind::Energy),
    ("vibration", Kind::Vibration),
    ("door", Kind::Door),
    ("lpp", Kind::Lpp),
];

fn model(section: &mut Section<'_>) -> Model {
    if !section.has("model") {
        section.refuse("model", "is missing; write model = \"temperature\"");
    }
    match section.choice("model", &KINDS).unwrap_or(Kind::Temperature) {
        Kind::Temperature => {
            let default = Temperature::default();
            let field = section.text("field").unwrap_or(&default.field).to_owned();
            if field.is_empty() || !field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                section.refuse("field", &format!("is `{field}`; wants letters, digits and _"));
            }
            Model::Temperature(Temperature {
                field,
                base: real(section, "base", default.base, -1e5..=1e5),
                swing: real(section, "swing", default.swing, 0.0..=1e5),
                noise: real(section, "noise", default.noise, 0.0..=1e5),
                day_ms: section.millis("day", Millis(default.day_ms), SPAN).0,
            })
        }
        Kind::Energy => energy(section),
        Kind::Vibration => {
            let default = Vibration::default();
            Model::Vibration(Vibration {
                samples: whole(section, "samples", default.samples, 4..=8192) / 4 * 4,
                level: real(section, "level", default.level, 0.0..=1e6),
                knock: chance(section, "knock", default.knock),
            })
        }
        Kind::Door => Model::Door(Door { change: chance(section, "change", Door::default().change) }),
        Kind::Lpp => {
            let default = Lpp::default();
            let base = real(section, "base", default.base, -40.0..=80.0);
            Model::Lpp(Lpp { base, noise: real(section, "noise", default.noise, 0.0..=20.0) })
        }
    }
}

fn energy(section: &mut Section<'_>) -> Model {
    let default = Energy::default();
    let energy = Energy {
        pulses: whole(section, "pulses", default.pulses, 1..=1_000_000),
        roll_over: whole(section, "roll-over", default.roll_over, 16..=1 << 40),
        reset: chance(section, "reset", default.reset),
        pulses_per_kwh: whole(section, "pulses-per-kwh", default.pulses_per_kwh, 1..=4),
        step_max: whole(section, "step-max", default.step_max, 1..=1 << 40),
    };
    if energy.pulses_per_kwh == 3 {
        section.refuse("pulses-per-kwh", "is 3; wants 1, 2 or 4: thirds have no exact sum");
    }
    if energy.roll_over <= energy.step_max {
        section.refuse("step-max", "must be below `roll-over`, else every reset looks like a roll-over");
    }
    Model::Energy(energy)
}
