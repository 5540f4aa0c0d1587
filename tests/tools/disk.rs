//! Disks of the tests' own: a folder that is read-only, and one whose writes hang. Both need root; where that is not possible a
//! test says so and does not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(program: &str, args: &[&str]) -> Option<Output> {
    Command::new(program).args(args).output().ok().filter(|output| output.status.success())
}

/// A file system that ends with the value.
pub struct Mount {
    folder: PathBuf,
    device: Option<String>,
}

impl Mount {
    /// A file system in memory.
    pub fn memory(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", folder.to_str()?])?;
        Some(Self { folder: folder.to_owned(), device: None })
    }

    /// ext4 on a loop device over a file beside the folder.
    pub fn ext4(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let image = folder.with_extension("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str()?])?;
        let output = run("losetup", &["--find", "--show", image.to_str()?])?;
        let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        if run("mount", &[&device, folder.to_str()?]).is_none() {
            run("losetup", &["-d", &device]);
            return None;
        }
        Some(Self { folder: folder.to_owned(), device: Some(device) })
    }

    pub fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro", self.folder.to_str().unwrap()]).unwrap();
    }

    /// From here on whoever writes waits.
    pub fn freeze(&self) -> Option<()> {
        run("fsfreeze", &["-f", self.folder.to_str()?]).map(drop)
    }

    pub fn thaw(&self) {
        run("fsfreeze", &["-u", self.folder.to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.to_str() {
            if self.device.is_some() {
                run("fsfreeze", &["-u", folder]);
            }
            run("umount", &["-l", folder]);
        }
        if let Some(device) = &self.device {
            run("losetup", &["-d", device]);
        }
    }
}
