//! One boot of the emulated board: QEMU as a child process, its console in a file. It ends with its value.

#![expect(clippy::disallowed_methods, reason = "waits on processes of this machine in real time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a boot needs.
pub struct Hardware<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub disk: &'a Path,
    pub memory_mib: u32,
    /// Port of this machine that leads to the guest's metrics.
    pub metrics: u16,
}

/// A running guest.
pub struct Machine {
    child: Child,
    console: PathBuf,
}

impl Machine {
    /// Switches it on.
    pub fn boot(hardware: &Hardware<'_>, console: &Path) -> Result<Self, String> {
        let fault = |error: std::io::Error| format!("{}: {error}", console.display());
        let out = fs::File::create(console).map_err(fault)?;
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args(["-M", "virt", "-cpu", "cortex-a53", "-smp", "1", "-nographic", "-no-reboot", "-nic", "none"]);
        qemu.args(["-m", &hardware.memory_mib.to_string(), "-append", "console=ttyAMA0 quiet panic=-1"]);
        qemu.arg("-kernel").arg(hardware.kernel).arg("-initrd").arg(hardware.initramfs);
        qemu.args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{}-:9187", hardware.metrics)]);
        qemu.args(["-device", "virtio-net-device,netdev=net", "-device", "virtio-blk-device,drive=disk", "-drive"]);
        qemu.arg(format!("if=none,id=disk,format=raw,cache=writeback,file={}", hardware.disk.display()));
        let child = qemu.stdin(Stdio::null()).stdout(out.try_clone().map_err(fault)?).stderr(out).spawn();
        let child = child.map_err(|error| format!("qemu-system-aarch64: {error}"))?;
        Ok(Self { child, console: console.to_owned() })
    }

    /// What it has said so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Waits for a line that begins so; the rest of it.
    pub fn wait_for(&mut self, start: &str, patience: Duration) -> Result<String, String> {
        let until = Instant::now() + patience;
        loop {
            let said = self.console();
            // The last line may be half written.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(rest) = whole.lines().find_map(|line| line.trim().strip_prefix(start)) {
                return Ok(rest.trim().to_owned());
            }
            if self.child.try_wait().is_ok_and(|status| status.is_some()) || until < Instant::now() {
                let tail: Vec<&str> = said.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(format!("the board never said `{start}`; its last words:\n{}", tail.join("\n")));
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// The power goes, without warning.
    pub fn cut(mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.console()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
