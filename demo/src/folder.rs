//! The folder of a run: the gateway's configuration, its data and its log.
//!
//! - A temporary one goes with the run. `./demo-data` stays; it is emptied at the start only if a demo has made it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const CONFIG: &str = include_str!("../gateway.toml");
const DEVICES_URL: &str = "mqtt://localhost:1883";
const UPSTREAM_URL: &str = "mqtt://localhost:1884";
const FUNCTIONS: &str = "\"../target/functions/";
/// A folder with this file was made by a demo.
const MARK: &str = "made-by-weir-demo";

/// The folder of a run.
pub struct Folder {
    path: PathBuf,
    /// Removes it when the run ends.
    temporary: Option<TempDir>,
}

impl Folder {
    /// Makes it: `./demo-data` if it is to be kept.
    ///
    /// # Errors
    /// It cannot be made, or is not ours; in words.
    pub fn make(keep: bool) -> Result<Self, String> {
        if keep {
            return Self::keep(Path::new("demo-data"));
        }
        let temporary = TempDir::with_prefix("weir-demo-").map_err(|error| format!("no temporary folder: {error}"))?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    fn keep(path: &Path) -> Result<Self, String> {
        let fault = |error: std::io::Error| format!("{}: {error}", path.display());
        if path.join(MARK).exists() {
            fs::remove_dir_all(path).map_err(fault)?;
        } else if path.exists() {
            return Err(format!("{} is there and was not made by a demo; remove or rename it", path.display()));
        }
        fs::create_dir_all(path).map_err(fault)?;
        fs::write(path.join(MARK), "removed by the next `cargo xtask demo --keep`\n").map_err(fault)?;
        Ok(Self { path: path.canonicalize().map_err(fault)?, temporary: None })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay, to be looked at.
    #[must_use]
    pub fn leave(self) -> PathBuf {
        self.temporary.map_or(self.path, TempDir::keep)
    }

    /// The gateway's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("weir.log")
    }

    /// Writes the configuration; returns its file.
    ///
    /// # Errors
    /// The functions are not built, or the file cannot be written; in words.
    pub fn configure(&self, devices: SocketAddr, upstream: SocketAddr, functions: &Path) -> Result<PathBuf, String> {
        let functions = functions.canonicalize().ok().filter(|folder| folder.join("energy-meter").is_dir());
        let functions = functions
            .ok_or("the functions are not built; `cargo xtask functions` does it, `cargo xtask demo` as well")?;
        let file = self.path.join("gateway.toml");
        let text = configuration(devices, upstream, &functions);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(file)
    }
}

fn configuration(devices: SocketAddr, upstream: SocketAddr, functions: &Path) -> String {
    CONFIG
        .replace(DEVICES_URL, &format!("mqtt://{devices}"))
        .replace(UPSTREAM_URL, &format!("mqtt://{upstream}"))
        .replace(FUNCTIONS, &format!("\"{}/", functions.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_gets_this_runs_addresses_and_folders() {
        let (devices, upstream) = ("127.0.0.1:7001".parse().unwrap(), "127.0.0.1:7002".parse().unwrap());
        let text = configuration(devices, upstream, Path::new("/f"));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["broker"]["url"].as_str(), Some("mqtt://127.0.0.1:7001"));
        assert_eq!(table["sink"][0]["url"].as_str(), Some("mqtt://127.0.0.1:7002"));
        let paths: Vec<_> =
            table["function"].as_array().unwrap().iter().map(|function| function["path"].as_str().unwrap()).collect();
        assert!(paths.iter().all(|path| path.starts_with("/f/")) && paths.len() == 6, "{paths:?}");
    }
}
