//! A tree of files as `.tar.gz` and as `.deb`: the same files give the same bytes, whoever packs them, and when.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::gzip;
use super::tree::{Item, Tree};

/// Owner, group and time of every file are those of the release.
struct Writer {
    tar: tar::Builder<Vec<u8>>,
    folders: BTreeSet<String>,
    seconds: u64,
}

impl Writer {
    fn new(seconds: u64) -> Self {
        Self { tar: tar::Builder::new(Vec::new()), folders: BTreeSet::new(), seconds }
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.seconds);
        header
    }

    /// Adds a file, and before it the folders that it lies in.
    fn put(&mut self, path: &str, item: &Item) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("{path}: {error}");
        let mut parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        parents.reverse();
        for parent in parents.iter().filter_map(|parent| parent.to_str()).filter(|parent| !parent.is_empty()) {
            if self.folders.insert(parent.to_owned()) {
                let mut header = self.header(tar::EntryType::Directory, 0o755, 0);
                self.tar.append_data(&mut header, format!("{parent}/"), std::io::empty()).map_err(fault)?;
            }
        }
        let mut header = self.header(tar::EntryType::Regular, item.mode, item.bytes.len() as u64);
        self.tar.append_data(&mut header, path, item.bytes.as_slice()).map_err(fault)
    }

    fn finish(self) -> Result<Vec<u8>, String> {
        let bytes = self.tar.into_inner().map_err(|error| format!("tar: {error}"))?;
        gzip(&bytes)
    }
}

/// The files below `prefix` (empty, or with a `/` at its end) as `.tar.gz`.
pub fn tar_gz(tree: &Tree, prefix: &str, seconds: u64) -> Result<Vec<u8>, String> {
    let mut writer = Writer::new(seconds);
    for (path, item) in tree {
        writer.put(&format!("{prefix}{path}"), item)?;
    }
    writer.finish()
}

/// What stands in the package beside the files.
pub struct Control<'a> {
    /// `0.1.0`.
    pub version: &'a str,
    /// Debian's name of the architecture.
    pub architecture: &'a str,
    /// One line more for the description.
    pub made_for: &'a str,
    /// Name and text of the maintainer's scripts.
    pub scripts: Vec<(&'static str, Vec<u8>)>,
}

/// The files as a Debian package (deb(5), format 2.0).
pub fn deb(tree: &Tree, control: &Control<'_>, seconds: u64) -> Result<Vec<u8>, String> {
    let kib = tree.values().map(|item| item.bytes.len().div_ceil(1024)).sum::<usize>();
    let text = format!(
        "Package: weir\nVersion: {}\nArchitecture: {}\nMaintainer: weir's makers <weir@example.org>\nInstalled-Size: {kib}\n\
         Section: net\nPriority: optional\nSuggests: mosquitto, ca-certificates\nHomepage: https://example.org/weir\n\
         Description: functions at the edge\n Filters and meters MQTT telemetry by sandboxed WebAssembly functions, keeps what matters on\n \
         flash and sends it upstream when the link allows. One static binary.\n .\n {}\n",
        control.version, control.architecture, control.made_for
    );
    let configuration: String =
        tree.keys().filter(|path| path.starts_with("etc/")).map(|path| format!("/{path}\n")).collect();
    let mut writer = Writer::new(seconds);
    writer.put("control", &Item { mode: 0o644, bytes: text.into_bytes() })?;
    writer.put("conffiles", &Item { mode: 0o644, bytes: configuration.into_bytes() })?;
    for (name, bytes) in &control.scripts {
        writer.put(name, &Item { mode: 0o755, bytes: bytes.clone() })?;
    }
    let mut package = ar::Builder::new(Vec::new());
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", writer.finish()?),
        ("data.tar.gz", tar_gz(tree, "", seconds)?),
    ];
    for (name, bytes) in members {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(seconds);
        package.append(&header, bytes.as_slice()).map_err(|error| format!("{name}: {error}"))?;
    }
    let mut bytes = package.into_inner().map_err(|error| format!("ar: {error}"))?;
    bytes.flush().map_err(|error| error.to_string())?;
    Ok(bytes)
}
