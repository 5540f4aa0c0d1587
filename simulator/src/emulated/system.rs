//! The guest's system: Debian's kernel and busybox, fetched through an apt of their own; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Fault;
use super::host::{output, run};
use super::machine::Kind;

/// Where a kind's system comes from.
struct Source {
    architecture: &'static str,
    /// The package that depends on the newest kernel.
    kernel: &'static str,
    /// In the kernel's package; the machine makes its own if it is empty.
    device_tree: &'static str,
    /// Modules for disk and network; what they need comes along, what is built in is left out.
    modules: &'static [&'static str],
}

const CLOUD: Source = Source {
    architecture: "arm64",
    kernel: "linux-image-cloud-arm64",
    device_tree: "",
    modules: &["virtio_mmio", "virtio_blk", "virtio_net", "ext4"],
};
const ARM64: Source = Source {
    architecture: "arm64",
    kernel: "linux-image-arm64",
    device_tree: "bcm2837-rpi-3-b.dtb",
    modules: &["crc32c_generic", "ext4", "mmc_block", "bcm2835", "sdhci_iproc", "phy_generic", "dwc2", "cdc_ether"],
};
/// The tree of the model B+ makes the USB port a host's, which QEMU's is; that of the Zero leaves it open.
const ARMEL: Source = Source {
    architecture: "armel",
    kernel: "linux-image-rpi",
    device_tree: "bcm2835-rpi-b-plus.dtb",
    modules: &["crc32c_generic", "ext4", "cdc_ether"],
};

const fn source(kind: Kind) -> &'static Source {
    match kind {
        Kind::Virt { .. } => &CLOUD,
        Kind::Raspi0 => &ARMEL,
        Kind::Raspi3b => &ARM64,
    }
}

/// What is needed of the two packages.
pub struct System {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The tree of devices, if the machine needs one.
    pub device_tree: Option<PathBuf>,
    /// A static busybox.
    pub busybox: PathBuf,
    /// `/lib/modules/RELEASE`.
    modules: PathBuf,
    names: &'static [&'static str],
}

impl System {
    /// Fetches and unpacks into a folder of `folder`, once.
    pub fn get(folder: &Path, kind: Kind) -> Result<Self, Fault> {
        let source = source(kind);
        let folder = &folder.join(source.kernel);
        let root = folder.join("root");
        if !root.join("boot").is_dir() {
            fetch(folder, &root, source)?;
        }
        let one = |folder: PathBuf, prefix: &str| {
            let files = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut found = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
            found.next().map(|file| file.path()).ok_or_else(|| format!("{}: no {prefix}*", folder.display()))
        };
        let tree = || {
            let mut all = Vec::new();
            files(&root.join("usr/lib"), source.device_tree, &mut all);
            all.pop().ok_or_else(|| format!("{}: no {}", source.kernel, source.device_tree))
        };
        Ok(Self {
            kernel: one(root.join("boot"), "vmlinuz-")?,
            device_tree: if source.device_tree.is_empty() { None } else { Some(tree()?) },
            busybox: root.join("bin/busybox"),
            modules: one(root.join("lib/modules"), "")?,
            names: source.modules,
        })
    }

    /// The modules and those that they need, in the order in which they are to be inserted: name and content.
    pub fn modules(&self) -> Result<Vec<(String, Vec<u8>)>, Fault> {
        let mut all = Vec::new();
        files(&self.modules, ".ko", &mut all);
        let mut ordered = Vec::new();
        for name in self.names {
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

/// Files whose name has `part` in it.
fn files(folder: &Path, part: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, part, found);
        } else if entry.file_name().to_string_lossy().contains(part) {
            found.push(path);
        }
    }
}

fn fetch(folder: &Path, root: &Path, source: &Source) -> Result<(), Fault> {
    let Source { architecture, kernel, .. } = source;
    eprintln!("weir-sim: fetching Debian's {kernel} and busybox for {architecture} (20 to 60 MB, once)");
    for part in ["lists/partial", "cache/archives/partial"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    }
    let folder = &fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        let path = |name: &str| folder.join(name).display().to_string();
        for option in [
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
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
    let depends = output(apt("apt-cache").args(["depends", kernel])).unwrap_or_default();
    let image = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let image = format!("linux-image-{}", image.ok_or_else(|| format!("apt knows no {kernel}"))?);
    run(apt("apt-get").args(["download", "-q=2", "busybox-static", &image]))?;
    let unpacked = root.with_extension("new");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&unpacked))?;
        }
    }
    fs::rename(&unpacked, root).map_err(|error| format!("{}: {error}", root.display()))
}
