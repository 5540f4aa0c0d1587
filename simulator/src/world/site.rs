//! The site of a world: its configuration and its functions, written as TOML and WAT and read by the gateway's own readers.
//!
//! - `stats` meters every temperature, counts its calls in durable state and keeps the high ones; `alarm` takes what `stats`
//!   keeps (a chain) and counts it; `beat` counts intervals; `rogue` does everything wrong. The last three are there or not.
//! - The lane of the meters is never full, and nothing of them may be lost; or it rolls up, and what is lost all the same is counted.
//!   The lane of the kept messages is small.

use std::collections::BTreeMap;
use std::path::Path;

use weir::budget::Budget;
use weir::config::{self, Config, FullPolicy, Qos, RetainedPolicy, Trigger};
use weir::function::{Function, MODULE_BYTES_MAX, Pool};
use weir::strict::Faults;
use weir::time::Stopwatch;
use weir::units::Bytes;

use super::guests::{self, Deed, ROGUE_EMITS, ROGUE_FUEL};
use crate::rng::Rng;

/// The gateway's id.
pub const GATEWAY: &str = "world";
/// What the triggers subscribe.
pub const FILTER: &str = "site/+/temp";
/// Event times this far in the future count as skewed.
pub const SKEW_MAX_MS: i64 = 10_000;
/// Segments of a lane that rolls up.
const ROLL_UP_SEGMENTS: u64 = 8;

/// A configuration and the modules that it names.
#[derive(Debug)]
pub struct Site {
    /// The configuration, checked.
    pub config: Config,
    /// The same, in which `beat` waits for a year: with it a world comes to rest.
    pub quiet: Config,
    /// Every bound of it, added up.
    pub budget: Budget,
    /// What the rogue does, if there is one.
    pub deeds: Vec<Deed>,
    /// Whether `alarm` is there.
    pub has_alarm: bool,
    /// Whether `beat` is there.
    pub has_beat: bool,
    /// Length of the windows of `stats`.
    pub window_ms: i64,
    /// Its trigger has a filter: temperatures below are not wanted.
    pub wanted_from: Option<f64>,
    /// Whether events carry their own time.
    pub has_time: bool,
    files: Files,
}

#[derive(Debug, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl config::Site for Files {
    fn read(&self, path: &Path) -> Result<String, String> {
        let file = path.to_str().and_then(|path| self.0.get(path)).ok_or("no such file")?;
        Ok(String::from_utf8_lossy(file).into_owned())
    }
    fn size(&self, path: &Path) -> Result<u64, String> {
        let file = path.to_str().and_then(|path| self.0.get(path)).ok_or("no such file")?;
        Ok(file.len() as u64)
    }
    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }
    fn has_env(&self, _: &str) -> bool {
        false
    }
    fn host_name(&self) -> Option<String> {
        None
    }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

const RETAINED: [&str; 3] = ["skip-on-resubscribe", "always", "never"];

impl Site {
    /// A site drawn from `rng`, for a world of `end_us`; `is_long`: the world takes hours or days. `lane_rng` draws how lanes that
    /// are full and lanes that drain behave.
    #[must_use]
    pub fn draw(rng: &mut Rng, lane_rng: &mut Rng, end_us: u64, is_long: bool) -> Self {
        let mut files = Files::default();
        let deeds = if rng.chance(0.6) { Deed::draw(rng) } else { Vec::new() };
        let (has_alarm, has_beat) = (rng.chance(0.7), rng.chance(0.5));
        let (window, window_ms) = if is_long {
            [("1 s", 1_000), ("1 min", 60_000)][rng.below(2) as usize]
        } else {
            [("500 ms", 500), ("5 s", 5_000), ("1 min", 60_000)][rng.below(3) as usize]
        };
        let wanted_from = rng.chance(0.3).then_some(50.0);
        let has_time = rng.chance(0.85);
        let mut toml = format!(
            "[gateway]\nid = \"{GATEWAY}\"\nfuture-skew-max = \"{SKEW_MAX_MS} ms\"\n\
             [broker]\nurl = \"mqtt://broker\"\nin-flight = {in_flight}\nversion = \"{version}\"\n\
             [commit]\ninterval = \"{interval}\"\nmessages-max = {messages}\nbytes-max = \"{bytes}\"\n\
             [store]\nsled = false\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"{journal}\"\n\
             snapshot-interval = \"{snapshot}\"\n",
            in_flight = pick(rng, &["1", "8", "64", "512"]),
            version = pick(rng, &["5", "5", "3.1.1"]),
            interval = pick(rng, &["0 ms", "20 ms", "200 ms", "1 s"]),
            messages = pick(rng, &["1", "20", "1000"]),
            bytes = pick(rng, &["4 KiB", "32 KiB"]),
            journal = pick(rng, &["512 KiB", "1 MiB", "8 MiB"]),
            snapshot = pick(rng, &["1 s", "10 s", "10 min"]),
        );
        let time = if has_time { "time-field = \"ts\"\ntime-unit = \"ms\"\n" } else { "" };
        let filter = wanted_from.map_or_else(String::new, |from| {
            format!("filter = {{ payload = {{ temp = [{{ numeric = [\">=\", {from:.1}] }}] }} }}\n")
        });
        toml += &format!(
            "[[function]]\npath = \"stats\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\nqos = {}\nretained = \"{}\"\n{time}{filter}\
             [function.meter.temp]\nwindow = \"{window}\"\nlateness = \"{}\"\n",
            pick(rng, &["1", "2", "2"]),
            pick(rng, &RETAINED),
            pick(rng, &["0 ms", "2 s", "30 s"]),
        );
        if has_alarm {
            toml += "[[function]]\npath = \"alarm\"\n[[function.trigger]]\nchain = \"kept/#\"\ndevice = \"topic:2\"\n";
        }
        if has_beat {
            let every_ms = (end_us / 1000 / (10 + rng.below(60))).max(10);
            toml +=
                &format!("[[function]]\npath = \"beat\"\n[[function.trigger]]\ninterval = \"{every_ms} ms\" # beat\n");
        }
        if !deeds.is_empty() {
            toml += &format!(
                "[[function]]\npath = \"rogue\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\nqos = {}\nretained = \"{}\"\n",
                pick(rng, &["0", "1", "2"]),
                pick(rng, &RETAINED),
            );
        }
        toml += &lanes(rng, lane_rng, is_long);
        let wait = |line| if str::ends_with(line, "# beat") { "interval = \"366 d\"" } else { line };
        let quiet: Vec<&str> = toml.lines().map(wait).collect();
        files.0.insert("quiet.toml".to_owned(), quiet.join("\n").into_bytes());
        files.0.insert("gateway.toml".to_owned(), toml.into_bytes());
        write_functions(rng, &deeds, &mut files);
        let (mut quiet, mut loaded) = (load("quiet.toml", &files), load("gateway.toml", &files));
        let is_small = rng.chance(0.5);
        for config in [&mut loaded.config, &mut quiet.config] {
            if is_small {
                shrink(config);
            }
            make_scarce(config);
        }
        let budget = Budget::new(&loaded.config, &loaded.board, &loaded.modules);
        let (config, quiet) = (loaded.config, quiet.config);
        Self { config, quiet, budget, deeds, has_alarm, has_beat, window_ms, wanted_from, has_time, files }
    }

    /// Loads the functions anew, as a starting process does.
    pub fn functions(&self, pool: &Pool, watch: &mut dyn Stopwatch) -> Vec<Function> {
        let load = |function: &config::FunctionConfig| {
            let path = function.module.to_str().unwrap_or_default();
            let wasm = self.files.0.get(path).expect("the check found the module");
            Function::load(&function.manifest, wasm, MODULE_BYTES_MAX, pool, watch)
                .unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        self.config.functions.iter().map(load).collect()
    }

    /// Highest QoS and eagerest policy of the triggers, and whether their policies differ: what the link asks the broker for.
    #[must_use]
    pub fn subscription(&self) -> Subscription {
        let mut asked = Subscription { qos: Qos::AtMostOnce, retained: RetainedPolicy::Never };
        let eagerness = |policy| match policy {
            RetainedPolicy::Never => 0,
            RetainedPolicy::SkipOnResubscribe => 1,
            RetainedPolicy::Always => 2,
        };
        for trigger in self.config.functions.iter().flat_map(|function| &function.triggers) {
            let Trigger::Mqtt(message) = trigger else { continue };
            asked.qos = asked.qos.max(message.qos);
            if eagerness(asked.retained) < eagerness(message.retained) {
                asked.retained = message.retained;
            }
        }
        asked
    }

    /// The retained policy of a function's trigger.
    #[must_use]
    pub fn retained(&self, function: &str) -> RetainedPolicy {
        let function = self.config.functions.iter().find(|one| one.manifest.name == function);
        let mut policies =
            function.into_iter().flat_map(|function| &function.triggers).filter_map(|trigger| match trigger {
                Trigger::Mqtt(message) => Some(message.retained),
                _ => None,
            });
        policies.next_back().unwrap_or_default()
    }

    /// The configuration, for a failure's report.
    #[must_use]
    pub fn text(&self) -> String {
        let toml = self.files.0.get("gateway.toml").map_or(&[][..], Vec::as_slice);
        let segment = self.config.store.segment_bytes;
        format!("{}# rogue: {:?}; segments of {segment}", String::from_utf8_lossy(toml), self.deeds)
    }
}

fn load(name: &str, files: &Files) -> config::Loaded {
    let faults = Faults::default();
    let loaded = config::load(Path::new(name), None, files, &faults);
    let is_refused = faults.refused();
    let list: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
    assert!(!is_refused, "a world's configuration is refused:\n{}", list.join("\n"));
    loaded.expect("it is not refused")
}

/// Segments of a quarter of the size that a site may have, and all that is measured in them: more of everything happens.
fn shrink(config: &mut Config) {
    config.store.segment_bytes = Bytes::kib(16);
    config.store.journal_bytes_max.0 /= 4;
    for lane in config.lanes.iter_mut().filter(|lane| lane.name != "meters") {
        lane.bytes_max.0 /= 4;
    }
}

/// A lane that rolls up is smaller than a site may have it: there is little to roll up in a world.
fn make_scarce(config: &mut Config) {
    for lane in config.lanes.iter_mut().filter(|lane| lane.full == FullPolicy::RollUp) {
        lane.bytes_max = Bytes(config.store.segment_bytes.0 * ROLL_UP_SEGMENTS);
    }
}

/// What the link asks the broker for.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// Highest QoS.
    pub qos: Qos,
    /// Eagerest policy.
    pub retained: RetainedPolicy,
}

fn lanes(rng: &mut Rng, lane_rng: &mut Rng, is_long: bool) -> String {
    let ttl = |rng: &mut Rng| {
        let some = if is_long { pick(rng, &["30 min", "1 d"]) } else { pick(rng, &["2 s", "1 min"]) };
        if rng.chance(0.25) { format!("ttl = \"{some}\"\n") } else { String::new() }
    };
    let drain = |rng: &mut Rng| if rng.chance(0.4) { "drain = \"live-first\"\n" } else { "" };
    let meters = match lane_rng.below(4) {
        0 => "full = \"roll-up\"\nroll-up = [\"5 s\", \"1 min\", \"1 h\"]\n",
        _ => drain(lane_rng),
    };
    let mut text = format!(
        "[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://upstream\"\n\
         [[lane]]\nname = \"meters\"\ntopics = [\"meter/#\"]\nbytes-max = \"64 MiB\"\n{meters}"
    );
    for (name, topics, sizes, policies) in [
        ("kept", "kept/#", ["128 KiB", "256 KiB", "16 MiB"], ["drop-oldest", "reject"]),
        ("rogue", "rogue/#", ["128 KiB", "256 KiB", "1 MiB"], ["drop-oldest", "drop-oldest"]),
        ("beat", "beat/#", ["128 KiB", "1 MiB", "1 MiB"], ["drop-oldest", "drop-oldest"]),
    ] {
        text += &format!(
            "[[lane]]\nname = \"{name}\"\ntopics = [\"{topics}\"]\nbytes-max = \"{}\"\nfull = \"{}\"\n{}{}",
            pick(rng, &sizes),
            pick(rng, &policies),
            ttl(rng),
            drain(lane_rng),
        );
    }
    let sink = if rng.chance(0.8) { "sink = \"cloud\"\n" } else { "" };
    text + &format!(
        "[[lane]]\nname = \"dead-letter\"\nbytes-max = \"{}\"\n{sink}{}{}",
        pick(rng, &["128 KiB", "16 MiB"]),
        ttl(rng),
        drain(lane_rng),
    )
}

fn write_functions(rng: &mut Rng, deeds: &[Deed], files: &mut Files) {
    let (kind, call) =
        [("gauge", "meter_set"), ("counter", "meter_add"), ("distribution", "meter_observe")][rng.below(3) as usize];
    let counter = |name: &str| format!("[[meter]]\nname = \"{name}\"\nkind = \"counter\"\n");
    let instances = pick(rng, &["pristine", "warm"]);
    for (name, wat, manifest) in [
        (
            "stats",
            guests::stats(call),
            format!(
                "keep-prefix = \"kept/\"\n[limits]\nmemory = \"64 KiB\"\n[[meter]]\nname = \"temp\"\nkind = \"{kind}\"\nunit = \"C\"\n"
            ),
        ),
        ("alarm", guests::alarm(), format!("[limits]\nmemory = \"64 KiB\"\n{}", counter("count"))),
        ("beat", guests::beat(), format!("emits = [\"beat/#\"]\n[limits]\nmemory = \"64 KiB\"\n{}", counter("count"))),
        (
            "rogue",
            if deeds.is_empty() { String::from("(module)") } else { guests::rogue(deeds) },
            format!(
                "emits = [\"rogue/#\"]\ninstances = \"{instances}\"\n[limits]\nmemory = \"64 KiB\"\nfuel = {ROGUE_FUEL}\n\
                 emits = {ROGUE_EMITS}\nstate = \"4 KiB\"\n{}",
                counter("deeds")
            ),
        ),
    ] {
        let manifest = format!("name = \"{name}\"\nversion = \"1\"\nmodule = \"{name}.wasm\"\n{manifest}");
        let wasm = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
        files.0.insert(format!("{name}/function.toml"), manifest.into_bytes());
        files.0.insert(format!("{name}/{name}.wasm"), wasm);
    }
}
