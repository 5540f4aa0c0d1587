//! The guest's system: Debian's arm64 cloud kernel and busybox, fetched through an apt of their own; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Fault;
use super::host::{output, run};

/// What is needed of the two packages.
pub struct System {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// `/lib/modules/RELEASE`.
    modules: PathBuf,
}

impl System {
    /// Fetches and unpacks into `folder`, once.
    pub fn get(folder: &Path) -> Result<Self, Fault> {
        let root = folder.join("root");
        if !root.join("boot").is_dir() {
            fetch(folder, &root)?;
        }
        let one = |folder: PathBuf, prefix: &str| {
            let files = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut found = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
            found.next().map(|file| file.path()).ok_or_else(|| format!("{}: no {prefix}*", folder.display()))
        };
        Ok(Self {
            kernel: one(root.join("boot"), "vmlinuz-")?,
            busybox: root.join("bin/busybox"),
            modules: one(root.join("lib/modules"), "")?,
        })
    }

    /// The named modules and those that they need, in the order in which they are to be inserted: name and content.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Fault> {
        let mut all = Vec::new();
        files(&self.modules, &mut all);
        let mut ordered = Vec::new();
        for name in names {
            insert(name, &all, &mut ordered)?;
        }
        Ok(ordered)
    }
}

fn insert(name: &str, all: &[PathBuf], ordered: &mut Vec<(String, Vec<u8>)>) -> Result<(), Fault> {
    let same = |stem: &str| stem.replace('-', "_") == name.replace('-', "_");
    if ordered.iter().any(|(known, _)| same(known)) {
        return Ok(());
    }
    let stem = |file: &Path| file.file_name()?.to_str()?.split(".ko").next().map(str::to_owned);
    let Some(file) = all.iter().find(|file| stem(file).is_some_and(|stem| same(&stem))) else {
        // Built in.
        return Ok(());
    };
    let bytes = if file.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").arg("-dc").arg(file).output().map_err(|error| format!("xz: {error}"))?;
        output.stdout
    } else {
        fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?
    };
    for needed in depends(&bytes) {
        insert(&needed, all, ordered)?;
    }
    ordered.push((name.to_owned(), bytes));
    Ok(())
}

/// The module's own list, `depends=a,b` in its section `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let text = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.to_string_lossy().contains(".ko") {
            found.push(path);
        }
    }
}

fn fetch(folder: &Path, root: &Path) -> Result<(), Fault> {
    eprintln!("weir-sim: fetching Debian's arm64 cloud kernel and busybox (22 MB)");
    for part in ["lists/partial", "cache/archives/partial"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    }
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        let path = |name: &str| folder.join(name).display().to_string();
        for option in [
            "APT::Architecture=arm64".to_owned(),
            "APT::Architectures=arm64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            "Dir::State::status=/dev/null".to_owned(),
        ] {
            apt.args(["-o", &option]);
        }
        apt.current_dir(folder);
        apt
    };
    run(apt("apt-get").args(["update", "-q=2"]))?;
    let depends = output(apt("apt-cache").args(["depends", "linux-image-cloud-arm64"])).unwrap_or_default();
    let image = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let image = format!("linux-image-{}", image.ok_or("apt knows no linux-image-cloud-arm64")?);
    run(apt("apt-get").args(["download", "-q=2", "busybox-static", &image]))?;
    let unpacked = root.with_extension("new");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&unpacked))?;
        }
    }
    fs::rename(&unpacked, root).map_err(|error| format!("{}: {error}", root.display()))
}
