//! A site for the benches: `gateway.toml` from a string, functions from `target/functions` (`cargo xtask functions`).

use std::fs;
use std::path::{Path, PathBuf};

use weir::config::{self, Config, Site};
use weir::effect::Effects;
use weir::function::{Function, MODULE_BYTES_MAX, Pool};
use weir::gateway::Gateway;
use weir::store::Recovered;
use weir::strict::Faults;
use weir::time::{Now, Stopwatch};
use weir::units::Bytes;

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The functions that `cargo xtask functions` has built.
pub fn functions() -> PathBuf {
    let folder = root().join("target/functions");
    assert!(
        folder.join("threshold/threshold.wasm").is_file(),
        "{} is empty: run `cargo xtask functions`",
        folder.display()
    );
    folder
}

struct Files(String);

impl Site for Files {
    fn read(&self, path: &Path) -> Result<String, String> {
        if path == Path::new("gateway.toml") {
            return Ok(self.0.clone());
        }
        fs::read_to_string(path).map_err(|error| error.to_string())
    }
    fn size(&self, path: &Path) -> Result<u64, String> {
        fs::metadata(path).map(|metadata| metadata.len()).map_err(|error| error.to_string())
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

/// Reads the configuration; its faults end the bench.
pub fn config(text: &str) -> Config {
    let faults = Faults::default();
    let loaded = config::load(Path::new("gateway.toml"), None, &Files(text.to_owned()), &faults);
    let refused = faults.refused();
    let list: Vec<String> = faults.into_list().iter().map(ToString::to_string).collect();
    assert!(!refused, "{}", list.join("\n"));
    loaded.expect("a configuration without faults is given").config
}

/// A gateway that has nothing on flash.
pub fn gateway(text: &str, now: Now, stopwatch: impl Fn() -> Box<dyn Stopwatch>, effects: &mut Effects) -> Gateway {
    let config = config(text);
    let pool = Pool::new(Bytes::mib(16));
    let load = |function: &config::FunctionConfig| {
        let wasm = fs::read(&function.module).expect("the module can be read");
        Function::load(&function.manifest, &wasm, MODULE_BYTES_MAX, &pool, stopwatch().as_mut()).expect("it loads")
    };
    let functions = config.functions.iter().map(load).collect();
    Gateway::new(&config, functions, Recovered::default(), now, stopwatch(), effects).expect("it starts")
}
