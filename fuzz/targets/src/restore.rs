//! What a gateway finds on flash: entries of every space with damaged keys and values, and lanes that say anything.
//!
//! Input: steps of a byte for the entry, one for the place, one for what to do, one for the new byte; behind a byte `fe`, entries
//! as they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use weir::config::{self, Config, Qos, Site};
use weir::effect::Effects;
use weir::entry::Entries;
use weir::event::{Event, Message};
use weir::function::{Function, MODULE_BYTES_MAX, Pool};
use weir::gateway::Gateway;
use weir::store::{Extent, LaneRecovered, Recovered};
use weir::strict::Faults;
use weir::time::{Now, Stopwatch, TimeQuality};
use weir::units::Bytes;

use crate::guest::{self, module};
use crate::sites::Texts;
use crate::store::readable;

const GATEWAY: &str = r#"
[gateway]
id = "gw"
[broker]
url = "mqtt://localhost"
[[function]]
path = "f"
[[function.trigger]]
mqtt = "in/#"
[[lane]]
name = "alerts"
topics = ["out/#"]
size = "256 KiB"
[[sink]]
name = "upstream"
type = "file"
dir = "out"
"#;

const MANIFEST: &str = r#"
name = "f"
emits = ["out/#"]
[[meter]]
name = "count"
kind = "counter"
[[meter]]
name = "level"
kind = "gauge"
[[meter]]
name = "spread"
kind = "distribution"
"#;

struct Standing;

impl Stopwatch for Standing {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

const NOW: Now = Now { mono_us: 0, wall_ms: 1_800_000_000_000, quality: TimeQuality::Synced };

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let faults = Faults::default();
        let site = Texts { gateway: GATEWAY, manifest: MANIFEST, board: "" };
        let _: &dyn Site = &site;
        let loaded = config::load(Path::new("gateway.toml"), None, &site, &faults);
        loaded.unwrap_or_else(|| panic!("{:?}", faults.into_list())).config
    })
}

/// A guest that meters all three kinds, keeps state, and emits, for every message.
fn wasm() -> Vec<u8> {
    let mut code = Vec::new();
    for meter in 0..3u8 {
        // meter_add, _set, _observe of meter N, keyed "a", by 1.5.
        code.extend([0x41, meter, 0x41]);
        guest::signed(&mut code, 104);
        code.extend([0x41, 1, 0x44]);
        code.extend(1.5f64.to_le_bytes());
        code.extend([0x10, 13 + meter, 0x1a]);
    }
    // state_put "a" = 5 bytes; emit "out/a".
    code.extend([0x41]);
    guest::signed(&mut code, 104);
    code.extend([0x41, 1, 0x41, 16, 0x41, 5, 0x10, 17, 0x1a]);
    code.extend([0x41, 16, 0x41, 5, 0x41, 16, 0x41, 5, 0x10, 12, 0x1a, 0x41, 2]);
    module(&[0x41, 0], &code, crate::calls::TEXT)
}

fn gateway(recovered: Recovered, effects: &mut Effects) -> Gateway {
    let config = config();
    let pool = Pool::new(Bytes::mib(1));
    let load = |manifest| Function::load(manifest, &wasm(), MODULE_BYTES_MAX, &pool, &mut Standing);
    let functions = config.functions.iter().map(|function| load(&function.manifest).expect("our own guest loads"));
    Gateway::new(config, functions.collect(), recovered, NOW, Box::new(Standing), effects)
        .expect("a configuration that was read")
}

/// The entries of a gateway that lived a while.
fn lived() -> &'static Vec<(Vec<u8>, Vec<u8>)> {
    static LIVED: OnceLock<Vec<(Vec<u8>, Vec<u8>)>> = OnceLock::new();
    LIVED.get_or_init(|| {
        let mut effects = Effects::default();
        let mut gateway = gateway(Recovered::default(), &mut effects);
        for id in 1..6 {
            message(&mut gateway, id, &mut effects);
        }
        gateway.seal(NOW, &mut effects);
        let mut all = Entries::default();
        gateway.export(NOW, &mut all);
        let found: Vec<_> = readable(all.bytes()).into_iter().collect();
        for space in [b'b', b'c', b'l', b'm', b's', b'u'] {
            assert!(found.iter().any(|(key, _)| key[0] == space), "no entry of space {}", char::from(space));
        }
        found
    })
}

fn message(gateway: &mut Gateway, packet_id: u16, effects: &mut Effects) {
    let message = Message {
        topic: "in/boiler",
        payload: b"{\"a\":1}",
        qos: Qos::AtLeastOnce,
        packet_id,
        dup: packet_id.is_multiple_of(2),
        retained: false,
        resubscribed: false,
        epoch: 1,
    };
    gateway.handle(NOW, Event::Message(message), effects);
}

pub(crate) fn run(data: &[u8]) {
    let (steps, raw) = crate::split_at(data, 0xfe);
    let mut found = lived().clone();
    let mut next = [5u64, 3, 2];
    for step in steps.chunks_exact(4).take(200) {
        let [which, place, what, byte] = *step else { break };
        if which == 0xff {
            next[usize::from(place) % 3] = [0, 1, 5, 1 << 31, 1 << 40, 1 << 61][usize::from(byte) % 6];
            continue;
        }
        let count = found.len();
        let (key, value) = &mut found[usize::from(which) % count];
        let part = if what & 0x80 == 0 { value } else { key };
        let at = usize::from(place) % (part.len() + 1);
        match what % 4 {
            0 => part.truncate(at),
            1 => part.insert(at, byte),
            _ => part.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
        }
    }
    let mut entries: BTreeMap<Vec<u8>, Vec<u8>> = found.into_iter().collect();
    entries.extend(readable(raw));
    let lane = |name: &str| LaneRecovered {
        name: name.to_owned(),
        extents: vec![Extent { segment: 1, first_seq: next[0].min(1), first_message: 0, bytes: 4096, at_ms: -1 }],
        next_seq: next[0],
        next_message: next[1],
        next_segment: u32::try_from(next[2]).unwrap_or(1 << 31),
    };
    let recovered = Recovered { entries, lanes: vec![lane("alerts"), lane("stray")], report: Default::default() };
    let mut effects = Effects::default();
    let mut gateway = gateway(recovered, &mut effects);
    for id in 4..8 {
        message(&mut gateway, id, &mut effects);
    }
    gateway.handle(NOW, Event::Tick, &mut effects);
    gateway.seal(NOW, &mut effects);
    let late = Now { mono_us: 3_600_000_000, wall_ms: NOW.wall_ms + 3_600_000, ..NOW };
    gateway.handle(late, Event::Tick, &mut effects);
    gateway.seal(late, &mut effects);
    let _ = gateway.status();
    // What it writes, it can read: nothing of it is left aside or lost.
    let mut all = Entries::default();
    gateway.export(late, &mut all);
    let again = Recovered { entries: readable(all.bytes()), ..Recovered::default() };
    let mut effects = Effects::default();
    let _ = self::gateway(again, &mut effects);
}
