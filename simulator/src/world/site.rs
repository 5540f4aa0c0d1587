//! The site of a world: its configuration and its functions, written as TOML and WAT and read by the gateway's own readers.
//!
//! - Two functions: `stats` meters every temperature, counts its calls in durable state and keeps the high ones; `alarm` takes
//!   what `stats` keeps (a chain) and counts it.
//! - The lane of the meters is never full: nothing of them may be lost. The lane of the kept messages is small.

use std::collections::BTreeMap;
use std::path::Path;

use weir::config::{self, Config};
use weir::function::{Function, MODULE_BYTES_MAX, Pool};
use weir::strict::Faults;
use weir::time::Stopwatch;
use weir::units::Bytes;

use crate::rng::Rng;

/// Temperatures above this are kept.
pub const KEPT_ABOVE: f64 = 55.0;
/// The function that meters.
pub const STATS: &str = "stats";
/// Its meter.
pub const TEMP: &str = "stats.temp";
/// The meter of the chained function.
pub const ALARMS: &str = "alarm.count";
/// The state in which `stats` counts its calls.
pub const CALLS_KEY: &[u8] = b"n";
/// The gateway's id.
pub const GATEWAY: &str = "world";

/// `state n += 1; meter temp = temp; keep if temp > 55`; a message without a number is dropped, and counts as no call.
const STATS_WAT: &str = r#"(module
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_set" (func $set (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "state_put" (func $put (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 1)
  (global (export "weir_abi") i32 (i32.const 1))
  (func (export "weir_buf") (result i64) (i64.const 0x400_0000_2000))
  (data (i32.const 0) "temp") (data (i32.const 8) "n")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 0) (i32.const 4)))
    (call $meter (i32.const 0) (i32.const 4)))
  (func (export "on_event") (param $ev i32) (result i32) (local $t f64)
    (local.set $t (f64.load (i32.load offset=52 (local.get $ev))))
    (if (f64.ne (local.get $t) (local.get $t)) (then (return (i32.const 0))))
    (drop (call $set (i32.const 0) (i32.const 0) (i32.const 0) (local.get $t)))
    (i64.store (i32.const 32) (i64.const 0))
    (drop (call $get (i32.const 8) (i32.const 1) (i32.const 32) (i32.const 8)))
    (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.const 1)))
    (drop (call $put (i32.const 8) (i32.const 1) (i32.const 32) (i32.const 8)))
    (select (i32.const 1) (i32.const 2) (f64.gt (local.get $t) (f64.const 55)))))"#;

/// `meter count += 1`.
const ALARM_WAT: &str = r#"(module
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (memory (export "memory") 1 1)
  (global (export "weir_abi") i32 (i32.const 1))
  (func (export "weir_buf") (result i64) (i64.const 0x400_0000_2000))
  (data (i32.const 0) "count")
  (func (export "on_start") (result i32) (call $meter (i32.const 0) (i32.const 5)))
  (func (export "on_event") (param $ev i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))
    (i32.const 2)))"#;

/// A configuration and the modules that it names.
#[derive(Debug)]
pub struct Site {
    /// The configuration, checked.
    pub config: Config,
    files: Files,
}

#[derive(Debug)]
struct Files(BTreeMap<&'static str, Vec<u8>>);

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

impl Site {
    /// A site whose batches, windows and lanes are drawn from `rng`.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
            from[rng.below(from.len() as u64) as usize]
        }
        let gateway = format!(
            "[gateway]\nid = \"{GATEWAY}\"\nfuture-skew-max = \"10 s\"\n\
             [broker]\nurl = \"mqtt://broker\"\nin-flight = {in_flight}\n\
             [commit]\ninterval = \"{interval}\"\nmessages-max = {messages}\n\
             [store]\nsled = false\nsegment-bytes = \"64 KiB\"\njournal-bytes-max = \"{journal}\"\nsnapshot-interval = \"{snapshot}\"\n\
             [[function]]\npath = \"stats\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\nqos = 2\ntime-field = \"ts\"\ntime-unit = \"ms\"\n\
             [function.meter.temp]\nwindow = \"{window}\"\nlateness = \"{lateness}\"\n\
             [[function]]\npath = \"alarm\"\n[[function.trigger]]\nchain = \"kept/#\"\ndevice = \"topic:2\"\n\
             [[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://upstream\"\n\
             [[lane]]\nname = \"meters\"\ntopics = [\"meter/#\"]\nbytes-max = \"64 MiB\"\n\
             [[lane]]\nname = \"kept\"\ntopics = [\"kept/#\"]\nbytes-max = \"{kept}\"\nfull = \"{full}\"\n\
             [[lane]]\nname = \"dead-letter\"\nbytes-max = \"16 MiB\"\nsink = \"cloud\"\n",
            in_flight = pick(rng, &["1", "8", "64", "512"]),
            interval = pick(rng, &["0 ms", "20 ms", "200 ms", "1 s"]),
            messages = pick(rng, &["1", "20", "1000"]),
            journal = pick(rng, &["512 KiB", "1 MiB", "8 MiB"]),
            snapshot = pick(rng, &["1 s", "10 s", "10 min"]),
            window = pick(rng, &["500 ms", "5 s", "1 min"]),
            lateness = pick(rng, &["0 ms", "2 s", "30 s"]),
            kept = pick(rng, &["128 KiB", "256 KiB", "16 MiB"]),
            full = pick(rng, &["drop-oldest", "reject"]),
        );
        let limits = "[limits]\nmemory = \"64 KiB\"\n";
        let stats = format!(
            "name = \"stats\"\nversion = \"1\"\nmodule = \"stats.wasm\"\nkeep-prefix = \"kept/\"\n{limits}\
             [[meter]]\nname = \"temp\"\nkind = \"gauge\"\nunit = \"C\"\n"
        );
        let alarm = format!(
            "name = \"alarm\"\nversion = \"1\"\nmodule = \"alarm.wasm\"\n{limits}\
             [[meter]]\nname = \"count\"\nkind = \"counter\"\n"
        );
        let wasm = |text: &str| wat::parse_str(text).expect("the modules are constants");
        let files = Files(BTreeMap::from([
            ("gateway.toml", gateway.into_bytes()),
            ("stats/function.toml", stats.into_bytes()),
            ("stats/stats.wasm", wasm(STATS_WAT)),
            ("alarm/function.toml", alarm.into_bytes()),
            ("alarm/alarm.wasm", wasm(ALARM_WAT)),
        ]));
        let faults = Faults::default();
        let loaded = config::load(Path::new("gateway.toml"), None, &files, &faults);
        let is_refused = faults.refused();
        let list: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
        assert!(!is_refused, "a world's configuration is refused:\n{}", list.join("\n"));
        Self { config: loaded.expect("it is not refused").config, files }
    }

    /// Loads the functions anew, as a starting process does.
    pub fn functions(&self, watch: &mut dyn Stopwatch) -> Vec<Function> {
        let pool = Pool::new(Bytes::mib(4));
        let load = |function: &config::FunctionConfig| {
            let path = function.module.to_str().unwrap_or_default();
            let wasm = self.files.0.get(path).expect("the check found the module");
            Function::load(&function.manifest, wasm, MODULE_BYTES_MAX, &pool, watch).expect("the modules are constants")
        };
        self.config.functions.iter().map(load).collect()
    }

    /// The configuration in short, for a failure's report.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.files.0.get("gateway.toml").map_or(&[], Vec::as_slice)).into_owned()
    }
}
