//! One boot of the emulated board: QEMU as a child process, its console in a file. It ends with its value.

use core::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::board::Board;

use super::Fault;
use super::system::System;

/// What the kernel takes of a machine, and what is left for tools, in MiB: of 64 it leaves 18.
const KERNEL_MIB: u32 = 64;

/// What is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// QEMU's own machine, with so much memory. Its arm64 kernel runs 32-bit programs too.
    Virt {
        /// Its memory.
        memory_mib: u32,
    },
    /// Raspberry Pi Zero: ARMv6, 512 MB, network over USB, SD card.
    Raspi0,
    /// Raspberry Pi 3 B: Cortex-A53, 1 GB, network over USB, SD card.
    Raspi3b,
}

impl Kind {
    /// The machine that stands for a board. Of `virt` it has the memory that its name says, else what the board grants the gateway
    /// and what the kernel takes, so that a gateway that takes much more is killed.
    pub fn of(board: &Board) -> Result<Self, Fault> {
        if !(board.target.starts_with("aarch64-") || board.target.starts_with("arm")) {
            let Board { name, target, .. } = board;
            return Err(format!("board {name} is {target}; only ARM boards are emulated, a PC runs weir itself"));
        }
        let named = board.name.strip_prefix("qemu-virt-").and_then(|rest| rest.strip_suffix('m')?.parse().ok());
        let granted = u32::try_from(board.memory.0 >> 20).unwrap_or(u32::MAX / 2);
        Ok(match board.name.as_str() {
            "pi-zero" => Self::Raspi0,
            "pi-3b" => Self::Raspi3b,
            _ => Self::Virt { memory_mib: named.unwrap_or_else(|| (granted + KERNEL_MIB).next_multiple_of(32)) },
        })
    }

    /// Disk and network as the guest's kernel names them.
    const fn devices(self) -> (&'static str, &'static str) {
        match self {
            Self::Virt { .. } => ("vda", "eth0"),
            Self::Raspi0 | Self::Raspi3b => ("mmcblk0", "usb0"),
        }
    }

    fn qemu(self, hardware: &Hardware) -> Command {
        let mut qemu = Command::new(if self == Self::Raspi0 { "qemu-system-arm" } else { "qemu-system-aarch64" });
        let disk = format!("format=raw,cache=writeback,file={}", hardware.disk.display());
        let (drive, network) = match self {
            Self::Virt { memory_mib } => {
                qemu.args([
                    "-M",
                    "virt",
                    "-cpu",
                    "cortex-a53",
                    "-smp",
                    "1",
                    "-nic",
                    "none",
                    "-m",
                    &memory_mib.to_string(),
                ]);
                qemu.args(["-device", "virtio-blk-device,drive=disk"]);
                ("if=none,id=disk", "virtio-net-device,netdev=net")
            }
            Self::Raspi0 => {
                qemu.args(["-M", "raspi0", "-usb"]);
                ("if=sd", "usb-net,netdev=net")
            }
            Self::Raspi3b => {
                qemu.args(["-M", "raspi3b", "-usb"]);
                ("if=sd", "usb-net,netdev=net")
            }
        };
        qemu.args(["-drive", &format!("{drive},{disk}")]);
        qemu.args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{}-:9187", hardware.metrics)]);
        qemu.args(["-device", network]);
        if let Some(tree) = &hardware.system.device_tree {
            qemu.arg("-dtb").arg(tree);
        }
        qemu
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virt { memory_mib } => write!(f, "virt, Cortex-A53, {memory_mib} MiB"),
            Self::Raspi0 => f.write_str("raspi0, ARM1176 (ARMv6), 512 MiB"),
            Self::Raspi3b => f.write_str("raspi3b, Cortex-A53, 1 GiB"),
        }
    }
}

/// What a boot needs.
pub struct Hardware {
    pub kind: Kind,
    pub system: System,
    pub initramfs: PathBuf,
    pub disk: PathBuf,
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
    pub fn boot(hardware: &Hardware, console: &Path) -> Result<Self, Fault> {
        let fault = |error: std::io::Error| format!("{}: {error}", console.display());
        let out = fs::File::create(console).map_err(fault)?;
        let mut qemu = hardware.kind.qemu(hardware);
        let (disk, network) = hardware.kind.devices();
        // What the kernel does not know it hands to init. A Pi has no clock; the time is what its network would tell it.
        let seconds = crate::publish::clock::wall_ms() / 1000;
        let append = format!(
            "console=ttyAMA0 quiet panic=-1 initcall_blacklist=bcm2835_pm_driver_init,bcm2835_power_driver_init \
             WEIR_DISK={disk} WEIR_NET={network} WEIR_TIME={seconds}"
        );
        qemu.args(["-nographic", "-no-reboot", "-append", &append]);
        qemu.arg("-kernel").arg(&hardware.system.kernel).arg("-initrd").arg(&hardware.initramfs);
        let child = qemu.stdin(Stdio::null()).stdout(out.try_clone().map_err(fault)?).stderr(out).spawn();
        let child =
            child.map_err(|error| format!("{:?}: {error}; apt-get install qemu-system-arm", qemu.get_program()))?;
        Ok(Self { child, console: console.to_owned() })
    }

    /// What it has said so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Waits for a line that begins so; the rest of it.
    pub async fn wait_for(&mut self, start: &str, patience: Duration) -> Result<String, Fault> {
        let until = Instant::now() + patience;
        loop {
            let said = self.console();
            // The last line may be half written.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(rest) = whole.lines().find_map(|line| line.trim().strip_prefix(start)) {
                return Ok(rest.trim().to_owned());
            }
            self.still_runs()?;
            if until < Instant::now() {
                return Err(format!("the board never said `{start}`; {}", last_words(&said)));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// An error once the gateway or the machine has ended.
    pub fn still_runs(&mut self) -> Result<(), Fault> {
        let said = self.console();
        let ended = said.lines().any(|line| line.trim().starts_with("GUEST ended"));
        let is_off = self.child.try_wait().is_ok_and(|status| status.is_some());
        if is_off || (ended && said.contains("GUEST off")) {
            return Err(format!("the gateway did not stay; {}", last_words(&said)));
        }
        Ok(())
    }

    /// The power goes, without warning. What it had said.
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

fn last_words(console: &str) -> String {
    let said: Vec<&str> = console.lines().filter(|line| !line.contains("GUEST sample")).collect();
    let tail = &said[said.len().saturating_sub(20)..];
    format!("its last words:\n{}", tail.join("\n"))
}

/// How a boot went; times in seconds since the kernel began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Boot {
    /// The gateway was started.
    pub exec: f64,
    /// It was ready.
    pub ready: f64,
    /// Free memory before it was started.
    pub available_kib: u64,
}

impl Boot {
    /// Waits until the gateway is ready.
    pub async fn read(machine: &mut Machine, patience: Duration) -> Result<Self, Fault> {
        let up = machine.wait_for("GUEST exec", patience).await?;
        let ready = machine.wait_for("GUEST ready", patience).await?;
        let number = |text: &str, at: usize| text.split(' ').nth(at).and_then(|word| word.parse::<f64>().ok());
        let read = || Some((number(&up, 0)?, number(&up, 2)?, number(&ready, 0)?));
        let (exec, available, ready) = read().ok_or_else(|| format!("the guest speaks otherwise: {up}; {ready}"))?;
        Ok(Self { exec, ready, available_kib: available as u64 })
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ready, own) = (self.ready, (self.ready - self.exec) * 1000.0);
        write!(
            f,
            "ready {ready:.2} s after the kernel began, {own:.0} ms after exec; {} KiB were free",
            self.available_kib
        )
    }
}

/// What the guest says once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Seconds since the kernel began.
    pub at: f64,
    /// Resident set, KiB.
    pub rss: u64,
    /// Proportional set, KiB.
    pub pss: u64,
    /// Of it anonymous, KiB.
    pub anonymous: u64,
    /// Highest resident set so far, KiB.
    pub rss_max: u64,
    /// Processor time of the gateway so far, in hundredths of a second.
    pub cpu: u64,
    /// Bytes written to the disk since boot.
    pub disk: u64,
    /// Bytes over the network since boot, both ways.
    pub net: u64,
}

/// All samples of a console.
pub fn samples(console: &str) -> Vec<Sample> {
    // The last line may be half written.
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| sample(line.trim())).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let words: Vec<&str> = line.strip_prefix("GUEST sample ")?.split(' ').collect();
    let [at, rss, pss, anonymous, rss_max, cpu, disk, net] = words[..] else { return None };
    let number = |word: &str| word.parse::<u64>().ok();
    Some(Sample {
        at: at.parse().ok()?,
        rss: number(rss)?,
        pss: number(pss)?,
        anonymous: number(anonymous)?,
        rss_max: number(rss_max)?,
        cpu: number(cpu)?,
        disk: number(disk)?,
        net: number(net)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_half_a_line_is_none() {
        let text = "boot\r\nGUEST sample 3.21 5000 4000 900 5100 12 8192 77\r\nGUEST sample 4.2 1 2\nGUEST sample 5.2 1 2 3 4 5 6 7";
        let read = samples(text);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].at, read[0].pss, read[0].rss_max, read[0].disk), (3.21, 4000, 5100, 8192));
    }

    #[test]
    fn machines_have_the_boards_memory_and_the_kernels() {
        let kind = |name| Kind::of(&Board::built_in(name).expect(name));
        assert_eq!(kind("qemu-virt-64m"), Ok(Kind::Virt { memory_mib: 64 }));
        assert_eq!(kind("pi-zero-2w"), Ok(Kind::Virt { memory_mib: 128 }));
        assert_eq!((kind("pi-zero"), kind("pi-3b")), (Ok(Kind::Raspi0), Ok(Kind::Raspi3b)));
        assert!(kind("generic").is_err());
    }
}
