//! Functions of the tests' own, written in WAT.

use std::fs;

use super::gateway::Gateway;
use super::middle::module;

/// Adds `temp` to the counter `total` and the distribution `spread` under the device's key; keeps every eighth reading of a
/// device (by `seq`).
pub const METER: Guest = Guest {
    name: "meter",
    body: r#"
  (import "weir1" "bind_f64" (func $bind (param i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "meter_observe" (func $observe (param i32 i32 i32 f64) (result i32)))
  (data (i32.const 0) "temp") (data (i32.const 8) "seq")
  (data (i32.const 16) "total") (data (i32.const 24) "spread")
  (func (export "on_start") (result i32)
    (drop (call $bind (i32.const 0) (i32.const 4)))
    (drop (call $bind (i32.const 8) (i32.const 3)))
    (drop (call $meter (i32.const 16) (i32.const 5)))
    (drop (call $meter (i32.const 24) (i32.const 6)))
    (i32.const 0))
  (func (export "on_event") (param $ev i32) (result i32) (local $temp f64) (local $seq i64)
    (local.set $temp (f64.load (i32.load offset=52 (local.get $ev))))
    (local.set $seq (i64.trunc_sat_f64_u (f64.load offset=8 (i32.load offset=52 (local.get $ev)))))
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (local.get $temp)))
    (drop (call $observe (i32.const 1) (i32.const 0) (i32.const 0) (local.get $temp)))
    (select (i32.const 1) (i32.const 2) (i64.eqz (i64.and (local.get $seq) (i64.const 7)))))"#,
    manifest: r#"
[[meter]]
name = "total"
kind = "counter"
window = "1 s"
lateness = "500 ms"
[[meter]]
name = "spread"
kind = "distribution"
window = "1 s"
lateness = "500 ms"
"#,
};

/// A function: its name, its module (whole, or the body of one), further lines of its manifest.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    pub name: &'static str,
    pub body: &'static str,
    pub manifest: &'static str,
}

impl Guest {
    /// Puts the function into the gateway's folder, where `path = "NAME"` finds it.
    pub fn install(&self, gateway: &Gateway) {
        let folder = gateway.path(self.name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("function.toml"), format!("name = \"{}\"\n{}", self.name, self.manifest)).unwrap();
        let is_whole = self.body.starts_with("(module");
        let wasm = if is_whole { wat::parse_str(self.body).unwrap() } else { module(self.body) };
        fs::write(folder.join(format!("{}.wasm", self.name)), wasm).unwrap();
    }
}
