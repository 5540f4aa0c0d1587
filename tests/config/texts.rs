//! A site of texts in memory, and a small configuration to vary.

use std::collections::BTreeMap;
use std::path::Path;

use weir::budget::{self, Plan};
use weir::config::Site;
use weir::strict::Faults;

/// A site of texts.
#[derive(Default)]
pub struct Texts {
    pub files: BTreeMap<String, String>,
    pub modes: BTreeMap<String, u32>,
    pub host: Option<&'static str>,
}

impl Texts {
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    pub fn function(self, name: &str, manifest: &str) -> Self {
        let manifest = format!("name = \"{name}\"\n{manifest}");
        self.with(&format!("functions/{name}/function.toml"), &manifest)
            .with(&format!("functions/{name}/{name}.wasm"), &"w".repeat(2000))
    }

    pub fn mode(mut self, path: &str, mode: u32) -> Self {
        self.modes.insert(path.to_owned(), mode);
        self
    }
}

impl Site for Texts {
    fn read(&self, path: &Path) -> Result<String, String> {
        self.files.get(&path.display().to_string()).cloned().ok_or_else(|| String::from("no such file"))
    }
    fn size(&self, path: &Path) -> Result<u64, String> {
        self.read(path).map(|text| text.len() as u64)
    }
    fn mode(&self, path: &Path) -> Option<u32> {
        self.modes.get(&path.display().to_string()).copied()
    }
    fn has_env(&self, _: &str) -> bool {
        false
    }
    fn host_name(&self) -> Option<String> {
        self.host.map(str::to_owned)
    }
}

/// A broker, a function, a sink.
pub const SMALL: &str = r#"
[broker]
url = "mqtt://localhost"
[[function]]
path = "functions/mean"
[[function.trigger]]
mqtt = "plant/+/temperature"
[[sink]]
name = "cloud"
type = "file"
dir = "upstream"
"#;

pub const MEAN: &str = "[[meter]]\nname = \"t\"\nkind = \"gauge\"\n";

pub fn site(gateway: &str) -> Texts {
    Texts { host: Some("hall-3"), ..Texts::default() }.with("gateway.toml", gateway).function("mean", MEAN)
}

pub fn examine(site: &Texts) -> (Option<Plan>, Vec<String>) {
    examine_on(site, None)
}

pub fn examine_on(site: &Texts, board: Option<&str>) -> (Option<Plan>, Vec<String>) {
    let faults = Faults::default();
    let plan = budget::examine(Path::new("gateway.toml"), board, site, &faults);
    (plan, faults.into_list().iter().map(ToString::to_string).collect())
}

pub fn accepted(gateway: &str) -> Plan {
    let (plan, faults) = examine(&site(gateway));
    assert!(faults.is_empty(), "{faults:#?}");
    plan.unwrap()
}

/// The faults of the small file with `added` behind it.
pub fn faults_with(added: &str) -> Vec<String> {
    examine(&site(&format!("{SMALL}{added}"))).1
}

#[track_caller]
pub fn refuses(gateway: &str, want: &[&str]) {
    let (_, faults) = examine(&site(gateway));
    assert_eq!(faults, want, "{gateway}");
}
