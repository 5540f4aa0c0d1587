//! A package as a board meets it: packed twice alike, read by dpkg-deb, installed by dpkg into a root of its own, and
//! deployed through a real sshd on loopback.
//!
//! - The binary in it is the one that is at hand (`target/debug/weir`, or `WEIR_BINARY`): how it is built is another test's matter.
//! - There is no systemd here that could start a unit: `dpkg` and `systemctl` are small programs before the real ones in the
//!   session's `PATH`. The first hands on to the real dpkg with a root folder; the second starts what the unit says.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;

use support::{Machine, here, output, packed, text};

/// What a package must lay on the machine, beside the functions.
const FILES: [&str; 10] = [
    "./usr/bin/weir",
    "./usr/lib/systemd/system/weir.service",
    "./usr/lib/sysusers.d/weir.conf",
    "./etc/weir/gateway.toml",
    "./usr/share/weir/example.toml",
    "./usr/share/weir/functions/threshold/threshold.wasm",
    "./usr/share/man/man1/weir.1.gz",
    "./usr/share/bash-completion/completions/weir",
    "./usr/share/zsh/vendor-completions/_weir",
    "./usr/share/fish/vendor_completions.d/weir.fish",
];

#[test]
fn dpkg_deb_reads_the_package_and_packing_again_gives_the_same_bytes() {
    if !here("dpkg-deb") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let deb = packed(&folder.path().join("one"), "generic");
    let again = packed(&folder.path().join("two"), "generic");
    assert!(fs::read(&deb).unwrap() == fs::read(again).unwrap(), "two packages of one commit differ");
    let control = text(Command::new("dpkg-deb").arg("-I").arg(&deb));
    for want in ["Package: weir", "Architecture: amd64", "Board: generic", "postinst", "conffiles"] {
        assert!(control.contains(want), "{want}\n{control}");
    }
    let listing = text(Command::new("dpkg-deb").arg("-c").arg(&deb));
    for file in FILES {
        let line =
            listing.lines().find(|line| line.ends_with(&file[1..])).unwrap_or_else(|| panic!("{file}\n{listing}"));
        assert!(line.contains("root/root") || line.contains("0/0"), "{line}");
    }
    assert!(!listing.contains("selftest"), "{listing}");
    let archive = deb.with_extension("tar.gz");
    let listing = text(Command::new("tar").arg("-tzf").arg(archive));
    assert!(FILES.iter().all(|file| listing.contains(&file[1..])), "{listing}");
}

#[test]
fn dpkg_installs_upgrades_and_purges_it_in_a_root_of_its_own() {
    if !here("dpkg") || !support::is_root() {
        return;
    }
    let machine = Machine::new();
    let deb = packed(&machine.folder("packages"), "generic");
    text(machine.dpkg().arg("-i").arg(&deb));
    let status = text(machine.dpkg().args(["-s", "weir"]));
    assert!(status.contains("Status: install ok installed"), "{status}");
    assert!(fs::read_to_string(machine.root("etc/passwd")).unwrap().contains("weir:"));
    // What stands in /etc is the owner's: an upgrade leaves it.
    let config = machine.root("etc/weir/gateway.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "# mine\n").unwrap();
    text(machine.dpkg().args(["--force-confdef", "-i"]).arg(&deb));
    assert!(fs::read_to_string(&config).unwrap().ends_with("# mine\n"));
    // The installed program takes the installed configuration and example.
    machine.move_paths_into_root();
    for site in ["etc/weir/gateway.toml", "usr/share/weir/example.toml"] {
        let output = output(Command::new(machine.root("usr/bin/weir")).arg("check").arg(machine.root(site)));
        let refused = String::from_utf8_lossy(&output.stderr).into_owned();
        // The example's certificates are Debian's, which need not be here.
        assert!(output.status.success() || refused.contains("ca-certificates.crt"), "{site}: {refused}");
    }
    text(machine.dpkg().args(["--purge", "weir"]));
    for gone in ["usr/bin/weir", "etc/weir", "var/lib/weir", "usr/share/weir"] {
        assert!(!machine.root(gone).exists(), "{gone} is left after the purge");
    }
}

#[test]
fn the_manual_page_is_one_and_the_unit_is_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let deb = packed(folder.path(), "pi-zero-2w");
    let archive = deb.with_extension("tar.gz");
    text(Command::new("tar").args(["--strip-components=1", "-C"]).arg(folder.path()).arg("-xzf").arg(archive));
    let unit = folder.path().join("usr/lib/systemd/system/weir.service");
    // 48 MiB of the board and a quarter.
    assert!(fs::read_to_string(&unit).unwrap().contains("MemoryMax=60M\n"));
    let config = fs::read_to_string(folder.path().join("etc/weir/gateway.toml")).unwrap();
    assert!(config.contains("\nboard = \"pi-zero-2w\"\n"));
    if here("systemd-analyze") {
        let security = text(Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(&unit));
        let level = security.lines().rev().find_map(|line| line.split("weir.service: ").nth(1)).unwrap().to_owned();
        let score: f64 = level.split(' ').next().unwrap().parse().unwrap();
        assert!(score <= 1.5, "exposure {level}");
    }
    if here("man") {
        let page = folder.path().join("usr/share/man/man1/weir.1.gz");
        let output = output(
            Command::new("man").args(["--warnings", "-l"]).arg(page).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8"),
        );
        let (page, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(faults.is_empty() && page.contains("weir - functions at the edge"), "{faults}{page}");
        assert!(page.contains("--board NAME") && page.contains("weir check site.toml --board pi-zero"), "{page}");
    }
}

#[test]
fn deploy_installs_starts_and_waits_through_a_real_sshd() {
    if !here("sshd") || !here("ssh") || !here("dpkg") || !support::is_root() {
        return;
    }
    let machine = Machine::new();
    let deb = packed(&machine.folder("packages"), "generic");
    let ssh = machine.sshd();
    let deploy = |board: &str, host: &str| {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(["deploy", "--board", board, host, "--ssh", &ssh.command, "--package"]).arg(&deb);
        output(&mut xtask)
    };
    // A package for another machine is not installed.
    let wrong = deploy("pi-zero", "root@127.0.0.1");
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("the package is for armv6l"), "{said}");
    assert!(!machine.root("usr/bin/weir").exists());
    let answer = deploy("generic", "root@127.0.0.1");
    let (out, err) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success(), "{out}{err}");
    assert!(err.contains("deploy: ready") && out.contains("active (running)"), "{out}{err}");
    assert!(machine.root("var/lib/weir/data").is_dir(), "the gateway has opened its store");
    machine.stop_service();
    // What cannot run is installed, said, and not started.
    fs::write(machine.root("etc/weir/gateway.toml"), "[gateway]\nbord = \"pi-5\"\n").unwrap();
    let answer = deploy("generic", "root@127.0.0.1");
    let err = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success() && err.contains("gateway.bord") && err.contains("not started"), "{err}");
}

#[test]
fn deploy_prints_what_it_would_do() {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let out = text(xtask.args(["deploy", "--board", "pi-zero", "--print", "pi@cabinet"]));
    for want in ["ssh pi@cabinet < $(cargo xtask dist --board pi-zero)", "dpkg -i", "armv6l"] {
        assert!(out.contains(want), "{want}\n{out}");
    }
}
