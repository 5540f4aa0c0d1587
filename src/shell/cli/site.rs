//! The machine as a [`Site`]: real files, the real environment.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use crate::config::{NO_SUCH_FILE, Site};

/// Longest configuration file that is read; more is not a configuration.
const TEXT_MAX: u64 = 1 << 20;

pub(super) struct Machine;

impl Site for Machine {
    fn read(&self, path: &Path) -> Result<String, String> {
        let bytes = read_at_most(path, TEXT_MAX)?;
        String::from_utf8(bytes)
            .map_err(|error| format!("is not UTF-8 text: byte {} is not of it", error.utf8_error().valid_up_to() + 1))
    }

    fn size(&self, path: &Path) -> Result<u64, String> {
        let metadata = fs::metadata(path).map_err(|error| plain(&error))?;
        if metadata.is_dir() {
            return Err(String::from("is a folder, not a file"));
        }
        // A pipe would be waited for, and a device has no end.
        if !metadata.is_file() {
            return Err(String::from("is not an ordinary file"));
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

/// The content of an ordinary file that has at most `bytes_max`, whatever it grows to meanwhile.
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let size = Machine.size(path)?;
    if bytes_max < size {
        return Err(format!("has {size} bytes; at most {bytes_max} are read"));
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    read.map_err(|error| plain(&error))?;
    if bytes_max < bytes.len() as u64 {
        return Err(format!("has more than {bytes_max} bytes; at most so many are read"));
    }
    Ok(bytes)
}

/// An error without the number of the operating system.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => String::from(NO_SUCH_FILE),
        ErrorKind::PermissionDenied => String::from("may not be read or written by this user"),
        _ => error.to_string(),
    }
}
