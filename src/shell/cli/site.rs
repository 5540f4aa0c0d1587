//! The machine as a [`Site`]: real files, the real environment.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::config::{NO_SUCH_FILE, Site};

/// Longest configuration file that is read; more is not a configuration.
const TEXT_MAX: u64 = 1 << 20;

pub(super) struct Machine;

impl Site for Machine {
    fn read(&self, path: &Path) -> Result<String, String> {
        let size = self.size(path)?;
        if size > TEXT_MAX {
            return Err(format!("has {size} bytes; at most {TEXT_MAX} are read"));
        }
        let bytes = fs::read(path).map_err(|error| plain(&error))?;
        String::from_utf8(bytes)
            .map_err(|error| format!("is not UTF-8 text: byte {} is not of it", error.utf8_error().valid_up_to() + 1))
    }

    fn size(&self, path: &Path) -> Result<u64, String> {
        let metadata = fs::metadata(path).map_err(|error| plain(&error))?;
        if metadata.is_dir() {
            return Err(String::from("is a folder, not a file"));
        }
        // Opened as well: what may not be read is better told now.
        fs::File::open(path).map_err(|error| plain(&error))?;
        Ok(metadata.len())
    }

    #[cfg(unix)]
    fn mode(&self, path: &Path) -> Option<u32> {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).ok().map(|metadata| metadata.permissions().mode())
    }

    #[cfg(not(unix))]
    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }

    fn has_env(&self, name: &str) -> bool {
        std::env::var_os(name).is_some()
    }

    fn host_name(&self) -> Option<String> {
        let name =
            fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname")).ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }
}

/// An error without the number of the operating system.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => String::from(NO_SUCH_FILE),
        ErrorKind::PermissionDenied => String::from("may not be read or written by this user"),
        _ => error.to_string(),
    }
}
