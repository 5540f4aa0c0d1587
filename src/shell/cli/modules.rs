//! The functions' modules, loaded with their limits: `weir check` drops them, `weir run` runs them.

use std::path::Path;

use super::site;
use crate::budget::Plan;
use crate::config::{DeviceFrom, FunctionConfig, Trigger};
use crate::field::{PATHS_MAX, Path as FieldPath, Paths};
use crate::function::{EventKind, Function, MODULE_BYTES_MAX, Pool};
use crate::manifest::Manifest;
use crate::strict::Faults;
use crate::time::Stopwatch;

/// Stands still: fuel alone ends `on_start`, so that the answer is the same on every machine.
pub(super) struct Standing;

impl Stopwatch for Standing {
    fn mono_us(&mut self) -> u64 {
        0
    }
}

/// Loads the modules of `plan`, in order. What is wrong goes to `faults`, as faults of `file`; those that are missing are known.
pub(super) fn load_all(file: &str, plan: &Plan, faults: &Faults) -> Vec<Function> {
    let pool = Pool::new(plan.budget.guests);
    // All at once, as they will run: they share the pool and the set of fields.
    let mut loaded = Vec::new();
    let mut paths = Paths::new();
    for (function, size) in plan.loaded.config.functions.iter().zip(&plan.loaded.modules) {
        if size.0 == 0 {
            continue;
        }
        let Some(mut module) = try_one(file, function, &pool, faults) else { continue };
        if module.bind_paths(&mut paths).is_err() || !bind_triggers(function, &mut paths) {
            let text = format!("looks at fields beyond the {PATHS_MAX} different ones that all functions may look at");
            faults.refuse(file, &format!("function.{}", function.manifest.name), &text);
        }
        loaded.push(module);
    }
    loaded
}

/// Longest `function.toml` of a bundle.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The manifest of a function's folder.
pub(super) fn read_manifest(folder: &Path) -> Result<Manifest, String> {
    let file = folder.join("function.toml");
    let plain = |why: String| format!("{}: {why}", file.display());
    let text = site::read_at_most(&file, MANIFEST_BYTES_MAX).map_err(plain)?;
    let text = String::from_utf8(text).map_err(|_| plain("is not UTF-8 text".to_owned()))?;
    let faults = Faults::default();
    let manifest = Manifest::parse(&file.display().to_string(), &text, &faults);
    manifest.filter(|_| !faults.refused()).ok_or_else(|| {
        let faults: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}

/// Manifest and module of a function's folder, for a try.
pub(super) fn read_bundle(folder: &Path) -> Result<(Manifest, Vec<u8>), String> {
    let manifest = read_manifest(folder)?;
    let module = folder.join(&manifest.module);
    let wasm = read_module(&module)?;
    Ok((manifest, wasm))
}

/// The bytes of a module.
pub(super) fn read_module(file: &Path) -> Result<Vec<u8>, String> {
    site::read_at_most(file, MODULE_BYTES_MAX.0).map_err(|why| format!("{}: {why}", file.display()))
}

/// Loads one function by itself, with all the memory that its limits grant.
pub(super) fn load_one(manifest: &Manifest, wasm: &[u8]) -> Result<Function, String> {
    let pool = Pool::new(manifest.limits.memory);
    Function::load(manifest, wasm, MODULE_BYTES_MAX, &pool, &mut Standing).map_err(|error| error.to_string())
}

/// Adds the fields of filters, times and devices; false where there is no room.
fn bind_triggers(function: &FunctionConfig, paths: &mut Paths) -> bool {
    function.triggers.iter().all(|trigger| {
        let (Trigger::Mqtt(message) | Trigger::Chain(message)) = trigger else { return true };
        let device = match &message.device {
            DeviceFrom::Field(path) => Some(path),
            _ => None,
        };
        let named = message.time_field.iter().chain(device);
        // Faulty paths are known.
        named.filter_map(|path| FieldPath::parse(path).ok()).all(|path| paths.add(&path).is_some())
            && message.filter.as_ref().is_none_or(|filter| filter.bind(paths).is_ok())
    })
}

fn try_one(file: &str, function: &FunctionConfig, pool: &Pool, faults: &Faults) -> Option<Function> {
    let refuse = |why: &str| {
        let key = format!("function.{}.path", function.manifest.name);
        faults.refuse(file, &key, &format!("{}: {why}", function.module.display()));
    };
    let wasm = match site::read_at_most(&function.module, MODULE_BYTES_MAX.0) {
        Ok(wasm) => wasm,
        Err(why) => {
            refuse(&why);
            return None;
        }
    };
    let loaded = match Function::load(&function.manifest, &wasm, MODULE_BYTES_MAX, pool, &mut Standing) {
        Ok(loaded) => loaded,
        Err(error) => {
            refuse(&error.to_string());
            return None;
        }
    };
    for (kind, handler) in [(EventKind::Message, "on_event"), (EventKind::Interval, "on_interval")] {
        let wanted = function
            .triggers
            .iter()
            .any(|trigger| matches!(trigger, Trigger::Interval(_)) == (kind == EventKind::Interval));
        if wanted && !loaded.handles(kind) {
            refuse(&format!("exports no `{handler}`, which a trigger of the function needs"));
        }
    }
    Some(loaded)
}
