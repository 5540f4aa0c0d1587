//! The functions' modules, loaded with their limits: `weir check` drops them, `weir run` runs them.

use super::site;
use crate::budget::Plan;
use crate::config::{DeviceFrom, FunctionConfig, Trigger};
use crate::field::{PATHS_MAX, Path, Paths};
use crate::function::{EventKind, Function, MODULE_BYTES_MAX, Pool};
use crate::strict::Faults;
use crate::time::Stopwatch;

/// Stands still: fuel alone ends `on_start`, so that the answer is the same on every machine.
struct Standing;

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
        named.filter_map(|path| Path::parse(path).ok()).all(|path| paths.add(&path).is_some())
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
