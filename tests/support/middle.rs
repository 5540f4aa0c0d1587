//! A gateway without a world: configuration and guests from strings, commits into a map, restarts from it.

use std::collections::BTreeMap;
use std::path::Path;

use weir::config::{self, Qos, Site};
use weir::effect::Effects;
use weir::entry::{self, Entries};
use weir::event::{Event, Message};
use weir::function::{Function, MODULE_BYTES_MAX, Pool};
use weir::gateway::Gateway;
use weir::record::Record;
use weir::store::{Extent, LaneRecovered, Recovered};
use weir::strict::Faults;
use weir::time::{Now, Stopwatch, TimeQuality};
use weir::units::Bytes;

/// A moment in 2027, at the start of a minute.
pub const NOW: i64 = 1_800_000_000_000;

/// That moment, on a clock that is set.
const SET: Now = Now { mono_us: 0, wall_ms: NOW, quality: TimeQuality::Synced };

/// A function: folder, body of its WAT module, further lines of its manifest.
pub type Guest<'a> = (&'a str, &'a str, &'a str);

/// The files of a site, in memory.
struct Files(BTreeMap<String, Vec<u8>>);

impl Site for Files {
    fn read(&self, path: &Path) -> Result<String, String> {
        let file = self.0.get(&path.display().to_string()).ok_or("no such file")?;
        Ok(String::from_utf8_lossy(file).into_owned())
    }
    fn size(&self, path: &Path) -> Result<u64, String> {
        self.0.get(&path.display().to_string()).map(|file| file.len() as u64).ok_or_else(|| "no such file".to_owned())
    }
    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }
    fn has_env(&self, _: &str) -> bool {
        false
    }
    fn host_name(&self) -> Option<String> {
        Some("test".to_owned())
    }
}

/// Stands still.
struct Still;

impl Stopwatch for Still {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

/// A record that left the gateway, owned.
#[derive(Clone, Debug)]
pub struct Left {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// A gateway, what it has committed, and its files.
pub struct Middle {
    pub gateway: Gateway,
    pub effects: Effects,
    pub now: Now,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    lanes: BTreeMap<String, LaneRecovered>,
    files: BTreeMap<String, Vec<u8>>,
}

/// Wraps a body with what every module must export: one page, the buffer at 1024.
pub fn module(body: &str) -> Vec<u8> {
    // Imports must come first.
    let (imports, rest): (Vec<&str>, Vec<&str>) =
        body.lines().partition(|line| line.trim_start().starts_with("(import"));
    let text = format!(
        r#"(module {} (memory (export "memory") 1 1) (global (export "weir_abi") i32 (i32.const 1))
           (func (export "weir_buf") (result i64) (i64.const 0x400_0000_2000)) {})"#,
        imports.join("\n"),
        rest.join("\n")
    );
    wat::parse_str(text).expect("the test's WAT is valid")
}

/// A QoS 0 message.
pub fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Event<'a> {
    Event::Message(message(topic, payload, Qos::AtMostOnce, 0, false))
}

/// Any message.
pub fn message<'a>(topic: &'a str, payload: &'a [u8], qos: Qos, packet_id: u16, dup: bool) -> Message<'a> {
    Message { topic, payload, qos, packet_id, dup, retained: false, resubscribed: false, epoch: 1 }
}

impl Middle {
    /// A gateway with these functions and this part of `gateway.toml`.
    pub fn new(guests: &[Guest<'_>], site: &str) -> Self {
        let modules = guests.iter().map(|(name, body, manifest)| {
            let manifest = format!("name = \"{name}\"\nversion = \"1\"\nmodule = \"{name}.wasm\"\n{manifest}\n");
            ((*name).to_owned(), manifest.into_bytes(), module(body))
        });
        Self::of_modules(modules, site)
    }

    /// The same with further lines for `[gateway]`.
    pub fn with_gateway(guests: &[Guest<'_>], gateway: &str, site: &str) -> Self {
        Self::new(guests, site).changed("[gateway]", &format!("[gateway]\n{gateway}"))
    }

    /// The same with built functions: name (of folder and module), manifest, module.
    pub fn of_modules(modules: impl IntoIterator<Item = (String, Vec<u8>, Vec<u8>)>, site: &str) -> Self {
        let mut files = BTreeMap::new();
        for (name, manifest, module) in modules {
            files.insert(format!("{name}/function.toml"), manifest);
            files.insert(format!("{name}/{name}.wasm"), module);
        }
        files.insert("gateway.toml".to_owned(), Self::gateway_toml(site));
        Self::start(files, BTreeMap::new(), BTreeMap::new(), SET)
    }

    fn gateway_toml(site: &str) -> Vec<u8> {
        let head = "[gateway]\nid = \"test\"\n[broker]\nurl = \"mqtt://localhost\"\n";
        let tail = "[[sink]]\nname = \"upstream\"\ntype = \"file\"\ndir = \"out\"\n";
        format!("{head}{site}{tail}").into_bytes()
    }

    fn start(
        files: BTreeMap<String, Vec<u8>>,
        entries: BTreeMap<Vec<u8>, Vec<u8>>,
        lanes: BTreeMap<String, LaneRecovered>,
        now: Now,
    ) -> Self {
        let faults = Faults::default();
        let site = Files(files);
        let loaded = config::load(Path::new("gateway.toml"), None, &site, &faults);
        let refused = faults.refused();
        let list: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
        assert!(!refused, "{}", list.join("\n"));
        let config = loaded.expect("a configuration without faults is given").config;
        let pool = Pool::new(Bytes::mib(16));
        let functions = config.functions.iter().map(|function| {
            let wasm = &site.0[&function.module.display().to_string()];
            Function::load(&function.manifest, wasm, MODULE_BYTES_MAX, &pool, &mut Still)
                .expect("the test's guest loads")
        });
        let functions = functions.collect();
        let recovered = Recovered {
            entries: entries.clone(),
            lanes: lanes.values().cloned().collect(),
            report: Default::default(),
        };
        let mut effects = Effects::default();
        let gateway = Gateway::new(&config, functions, recovered, now, Box::new(Still), &mut effects)
            .expect("the test's configuration starts");
        Self { gateway, effects, now, entries, lanes, files: site.0 }
    }

    /// Hands in one event.
    pub fn take(&mut self, event: Event<'_>) {
        self.gateway.handle(self.now, event, &mut self.effects);
    }

    /// Closes the batch, commits it, and returns it.
    pub fn seal(&mut self) -> Effects {
        self.gateway.seal(self.now, &mut self.effects);
        let effects = core::mem::take(&mut self.effects);
        for entry in entry::entries(effects.entries.bytes()) {
            let entry = entry.expect("the gateway writes whole entries");
            match entry.value {
                Some(value) => drop(self.entries.insert(entry.key, value.to_vec())),
                None => drop(self.entries.remove(&entry.key)),
            }
        }
        for batch in &effects.lanes {
            let name = self.gateway.outbox().lanes()[batch.lane].config().name.clone();
            let lane = self.lanes.entry(name.clone()).or_insert_with(|| LaneRecovered {
                name,
                extents: Vec::new(),
                next_seq: 1,
                next_message: 0,
                next_segment: 1,
            });
            assert_eq!((lane.next_seq, lane.next_message), (batch.first_seq, batch.first_message), "no gap in a lane");
            lane.next_seq += u64::from(batch.count);
            lane.next_message += u64::from(batch.messages);
            lane.next_segment = batch.segment + 1;
            if lane.extents.last().is_none_or(|last| last.segment < batch.segment) {
                let (first_seq, first_message) = (batch.first_seq, batch.first_message);
                let extent = Extent { segment: batch.segment, first_seq, first_message, bytes: 0, at_ms: batch.at_ms };
                lane.extents.push(extent);
            }
        }
        effects
    }

    /// What a new process finds after this one was killed: the last commit, and nothing later.
    pub fn restarted(self) -> Self {
        Self::start(self.files, self.entries, self.lanes, SET)
    }

    /// The same, on a machine whose clocks say `now`.
    pub fn restarted_at(self, now: Now) -> Self {
        Self::start(self.files, self.entries, self.lanes, now)
    }

    /// The same with another configuration of the same functions.
    pub fn reconfigured(mut self, site: &str) -> Self {
        self.files.insert("gateway.toml".to_owned(), Self::gateway_toml(site));
        self.restarted()
    }

    /// The same with a part of `gateway.toml` changed.
    pub fn changed(mut self, from: &str, to: &str) -> Self {
        let file = self.files.get_mut("gateway.toml").expect("it was put there");
        *file = String::from_utf8_lossy(file).replacen(from, to, 1).into_bytes();
        self.restarted()
    }

    /// Lets time pass, commits what falls due, and returns the records that were made.
    pub fn records_until(&mut self, wall_ms: i64) -> Vec<Left> {
        self.now.mono_us += (wall_ms - self.now.wall_ms) as u64 * 1000;
        self.now.wall_ms = wall_ms;
        self.take(Event::Tick);
        let effects = self.seal();
        let mut left = Vec::new();
        for batch in &effects.lanes {
            let mut bytes = batch.records.as_slice();
            while let Some(record) = Record::take(&mut bytes) {
                left.push(Left { topic: record.topic.to_owned(), payload: record.payload.to_vec() });
            }
        }
        left
    }

    /// Everything, as for a snapshot.
    pub fn export(&mut self) -> Entries {
        let mut entries = Entries::default();
        self.gateway.export(self.now, &mut entries);
        entries
    }
}
