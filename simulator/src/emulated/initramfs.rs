//! The guest's file system in memory: busybox, the kernel's modules for QEMU's devices, the gateway and its site, and `/init`.

use std::fs;
use std::path::Path;

use super::Fault;
use super::system::System;

/// What the guest does. Every line for the host begins with `GUEST`. The data's file system is a disk; the rest is memory.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmpfs /tmp
for module in /mod/*; do insmod "$module" || echo "GUEST insmod $module failed"; done
rm -rf /mod
patience=600
until [ -e /dev/$WEIR_DISK -a -e /sys/class/net/$WEIR_NET ] || [ $patience = 0 ]; do usleep 50000; patience=$((patience - 1)); done
date -u -s "@$WEIR_TIME" >/dev/null
ip link set lo up; ip link set $WEIR_NET up; ip addr add 10.0.2.15/24 dev $WEIR_NET; ip route add default via 10.0.2.2
mount -t ext4 -o noatime /dev/$WEIR_DISK /data || echo "GUEST no disk"
hostname emulated
echo "GUEST exec $(cut -d' ' -f1 /proc/uptime) available_kb $(awk '/MemAvailable/ {print $2}' /proc/meminfo)"
weir run /site/gateway.toml --metrics 0.0.0.0:9187 2>/tmp/log & pid=$!
until grep -q 'is ready' /tmp/log || ! kill -0 $pid 2>/dev/null; do usleep 10000; done
kill -0 $pid 2>/dev/null && echo "GUEST ready $(cut -d' ' -f1 /proc/uptime)"
sed 's/^/GUEST log /' /tmp/log
net=/sys/class/net/$WEIR_NET/statistics
while kill -0 $pid 2>/dev/null; do
  awk 'FILENAME == "/proc/uptime" {at = $1} /^Rss:/ {rss = $2} /^Pss:/ {pss = $2} /^Pss_Anon:/ {anon = $2} /^VmHWM:/ {high = $2}
    FILENAME ~ /proc.*stat$/ {cpu = $14 + $15} FILENAME ~ /block/ {disk = $7 * 512} FILENAME ~ /bytes$/ {net += $1}
    END {printf "GUEST sample %s %d %d %d %d %d %.0f %.0f\n", at, rss, pss, anon, high, cpu, disk, net}' \
    /proc/uptime /proc/$pid/smaps_rollup /proc/$pid/status /proc/$pid/stat /sys/block/$WEIR_DISK/stat $net/rx_bytes $net/tx_bytes
  sleep 1
done
wait $pid
echo "GUEST ended $?"
cat /tmp/log
echo "GUEST off"
poweroff -f
"#;

/// The archive: `site` is what lies in `/site`. It is not packed: a slow processor reads it faster so.
pub fn initramfs(system: &System, weir: &Path, site: &[(String, Vec<u8>)]) -> Result<Vec<u8>, Fault> {
    let read = |file: &Path| fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    let mut archive = Archive::default();
    for folder in ["bin", "proc", "sys", "dev", "data", "tmp", "mod", "site"] {
        archive.put(folder, 0o040_755, &[]);
    }
    archive.put("init", 0o100_755, INIT.as_bytes());
    archive.put("bin/busybox", 0o100_755, &read(&system.busybox)?);
    archive.put("bin/weir", 0o100_755, &read(weir)?);
    for (at, (name, bytes)) in system.modules()?.iter().enumerate() {
        archive.put(&format!("mod/{at:02}-{name}.ko"), 0o100_644, bytes);
    }
    let mut folders: Vec<&str> = Vec::new();
    for (path, bytes) in site {
        for (end, _) in path.match_indices('/') {
            if !folders.contains(&&path[..end]) {
                folders.push(&path[..end]);
                archive.put(&format!("site/{}", &path[..end]), 0o040_755, &[]);
            }
        }
        archive.put(&format!("site/{path}"), 0o100_644, bytes);
    }
    Ok(archive.finish())
}

/// A cpio archive of the form `newc`, which the kernel unpacks.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

impl Archive {
    fn put(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.count += 1;
        // Magic; inode, mode, owner, group, links, time, size, four numbers of devices, length of the name, check sum.
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let links = if mode & 0o040_000 == 0 { 1 } else { 2 };
        let numbers = [self.count, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.put("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
