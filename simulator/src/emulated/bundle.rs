//! A user's site, made fit for the emulated board: a folder with `gateway.toml` and all that it names.
//!
//! - Brokers' addresses lead to this machine's broker, with TLS where there was TLS; its certificate is the one trusted.
//! - Credentials are left out: that broker wants none. Data lies on the board's disk. Everything else stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use weir::board::Board;

use super::Fault;
use super::host::{ADDRESS, Host, Ports};

/// Bytes of all files together: they lie in the guest's memory.
const BYTES_MAX: usize = 8 << 20;
/// Where the board's file lies, beside the site.
const BOARD: &str = "emulated-board.toml";
const AUTHORITY: &str = "emulated-ca.crt";

/// The folder's files.
#[derive(Clone, Debug)]
pub struct Bundle {
    gateway: String,
    files: Vec<(String, Vec<u8>)>,
    board: Option<String>,
}

impl Bundle {
    /// Reads the folder.
    pub fn read(folder: &Path) -> Result<Self, Fault> {
        let mut files = Vec::new();
        walk(folder, folder, &mut files, 0)?;
        let at = files.iter().position(|(path, _)| path == "gateway.toml");
        let at = at.ok_or_else(|| format!("{}: there is no gateway.toml in it", folder.display()))?;
        let gateway = String::from_utf8(files.swap_remove(at).1).map_err(|_| "gateway.toml is no text".to_owned())?;
        Ok(Self { gateway, files, board: None })
    }

    /// A board that is not compiled into the binary: its file's text.
    #[must_use]
    pub fn with_board(mut self, text: String) -> Self {
        self.board = Some(text);
        self
    }

    /// What lies in the guest's `/site`: paths and contents.
    pub(super) fn site(&self, board: &Board, host: &Host) -> Result<Vec<(String, Vec<u8>)>, Fault> {
        let name = if self.board.is_some() { BOARD } else { &board.name };
        let gateway = adapt(&self.gateway, name, host.ports)?;
        let mut site = vec![
            ("gateway.toml".to_owned(), gateway.into_bytes()),
            (AUTHORITY.to_owned(), host.authority.clone().into_bytes()),
        ];
        site.extend(self.board.iter().map(|text| (BOARD.to_owned(), text.clone().into_bytes())));
        site.extend(self.files.iter().cloned());
        Ok(site)
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>, depth: usize) -> Result<(), Fault> {
    let fault = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|error| fault(folder, error))?
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| fault(folder, error)))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() && depth < 8 {
            walk(root, &path, files, depth + 1)?;
        } else if path.is_file() {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            files.push((name, fs::read(&path).map_err(|error| fault(&path, error))?));
        }
    }
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    if BYTES_MAX < bytes {
        return Err(format!("{}: more than {} MiB; keep the site's files alone", root.display(), BYTES_MAX >> 20));
    }
    Ok(())
}

/// `gateway.toml` for the guest.
fn adapt(text: &str, board: &str, ports: Ports) -> Result<String, Fault> {
    let mut adapted = String::with_capacity(text.len() + 256);
    let own = format!("data-dir = \"/data/weir\"\nboard = \"{board}\"\n");
    let mut section = String::new();
    let mut has_gateway = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            trimmed.clone_into(&mut section);
        }
        let (key, value) = trimmed.split_once('=').map_or((trimmed, ""), |(key, value)| (key.trim(), value.trim()));
        match (section.as_str(), key) {
            ("[gateway]", "[gateway]") => {
                has_gateway = true;
                adapted += &format!("{line}\n{own}");
            }
            ("[gateway]", "data-dir" | "board") => {}
            (_, "username" | "password-file" | "password-env" | "cert-file" | "key-file" | "server-name") => {}
            (_, "url") if value.starts_with("\"mqtts://") => {
                adapted += &format!("url = \"mqtts://{ADDRESS}:{}\"\n", ports.tls);
            }
            (_, "url") if value.starts_with("\"mqtt://") => {
                adapted += &format!("url = \"mqtt://{ADDRESS}:{}\"\n", ports.plain);
            }
            (_, "ca-file") => adapted += &format!("ca-file = \"/site/{AUTHORITY}\"\n"),
            ("[[sink]]", "dir") => adapted += "dir = \"/data/upstream\"\n",
            _ => {
                adapted += line;
                adapted.push('\n');
            }
        }
    }
    if !has_gateway {
        adapted = format!("[gateway]\n{own}{adapted}");
    }
    let table: toml::Table = adapted.parse().map_err(|error| format!("gateway.toml: {error}"))?;
    elsewhere(&toml::Value::Table(table)).map_or(Ok(adapted), |url| {
        Err(format!("gateway.toml: {url} would lead out of the emulated board; write its url on a line of its own"))
    })
}

/// A broker's address that does not lead to this machine.
fn elsewhere(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) if text.starts_with("mqtt") && text.contains("://") && !text.contains(ADDRESS) => {
            Some(text.clone())
        }
        toml::Value::Array(values) => values.iter().find_map(elsewhere),
        toml::Value::Table(table) => table.values().find_map(elsewhere),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { plain: 1, tls: 2, metrics: 3 };

    #[test]
    fn addresses_and_data_lead_to_the_emulated_world_and_the_rest_stays() {
        let text = "# site\n[gateway]\nid = \"a\"\nboard = \"pi-4b\"\ndata-dir = \"/var/lib/weir\"\n[broker]\nurl = \"mqtt://localhost:1883\" # ours\n\
                    username = \"u\"\npassword-file = \"secrets/p\"\n[[sink]]\nname = \"up\"\ntype = \"mqtt\"\nurl = \"mqtts://b.example\"\n\
                    [sink.tls]\nca-file = \"/etc/ca.crt\"\n[[sink]]\nname = \"files\"\ndir = \"/srv\"\n";
        let expected = "# site\n[gateway]\ndata-dir = \"/data/weir\"\nboard = \"pi-zero\"\nid = \"a\"\n[broker]\nurl = \"mqtt://10.0.2.2:1\"\n\
                        [[sink]]\nname = \"up\"\ntype = \"mqtt\"\nurl = \"mqtts://10.0.2.2:2\"\n\
                        [sink.tls]\nca-file = \"/site/emulated-ca.crt\"\n[[sink]]\nname = \"files\"\ndir = \"/data/upstream\"\n";
        assert_eq!(adapt(text, "pi-zero", PORTS).expect("a site"), expected);
        let none = adapt("[broker]\nurl = \"mqtt://h\"\n", "pi-5", PORTS).expect("a site");
        assert!(none.starts_with("[gateway]\ndata-dir"), "{none}");
    }

    #[test]
    fn an_address_that_would_lead_out_is_refused() {
        let error = adapt("broker = { url = \"mqtts://b.example\" }\n", "pi-5", PORTS).expect_err("leads out");
        assert!(error.contains("mqtts://b.example"), "{error}");
    }
}
