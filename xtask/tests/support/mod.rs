//! A machine in a folder: a root for dpkg, programs that stand before the real ones, and an sshd on loopback.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Whether `program` is installed; says that a test is skipped where it is not.
pub fn here(program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        eprintln!("skipped: no {program} on this machine");
    }
    found
}

/// dpkg writes owners, and sshd takes root's session.
pub fn is_root() -> bool {
    let root = text(Command::new("id").arg("-u")).trim() == "0";
    if !root {
        eprintln!("skipped: installing into a root folder wants root");
    }
    root
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Standard output of a command that must succeed.
pub fn text(command: &mut Command) -> String {
    let output = output(command);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {err}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The gateway that goes into the package.
fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("weir");
    let binary = std::env::var_os("WEIR_BINARY").map_or_else(built, PathBuf::from);
    assert!(binary.is_file(), "{}: run `cargo build` first, as `cargo xtask test` does", binary.display());
    binary
}

/// Packs for `board` into `out`; the package.
pub fn packed(out: &Path, board: &str) -> PathBuf {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args(["dist", "--board", board, "--binary"]).arg(binary()).arg("--out").arg(out);
    let printed = text(&mut xtask);
    let deb = PathBuf::from(printed.trim());
    assert!(deb.is_file(), "{printed}");
    deb
}

/// A root folder and what belongs to it.
pub struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self { home: tempfile::tempdir().unwrap() };
        // sshd wants nobody but root to write here; a session's home.
        fs::set_permissions(machine.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["etc", "var/lib/dpkg/updates", "var/lib/dpkg/info", "tmp"] {
            fs::create_dir_all(machine.root(folder)).unwrap();
        }
        for file in
            ["var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"]
        {
            fs::write(machine.root(file), "").unwrap();
        }
        machine
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A path of the machine.
    pub fn root(&self, path: &str) -> PathBuf {
        self.folder("root").join(path)
    }

    /// The real dpkg, for this root; the package's scripts run with `DPKG_ROOT`.
    pub fn dpkg(&self) -> Command {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.root("").display())).arg("--force-script-chrootless");
        dpkg.arg("--force-bad-path").env("DEBIAN_FRONTEND", "noninteractive");
        dpkg
    }

    /// Lets the installed configuration speak of this root, where the gateway runs without a chroot.
    pub fn move_paths_into_root(&self) {
        text(Command::new("sed").args(["-i", &self.moves()]).arg(self.root("etc/weir/gateway.toml")));
    }

    fn moves(&self) -> String {
        let root = self.folder("root").display().to_string();
        format!(
            r#"s#"/var/lib/weir#"{root}/var/lib/weir#; s#"/usr/share/weir#"{root}/usr/share/weir#; s/^\#id = .*/id = "deployed"/"#
        )
    }

    /// Starts an sshd that lets the test in, and whose sessions find the stand-ins first.
    pub fn sshd(&self) -> Sshd {
        let bin = self.folder("bin");
        fs::create_dir_all(&bin).unwrap();
        let root = self.folder("root").display().to_string();
        let put = |name: &str, script: &str| {
            let file = bin.join(name);
            fs::write(&file, format!("#!/bin/sh\nroot='{root}'\n{script}")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let dpkg = find("dpkg").unwrap();
        put(
            "dpkg",
            &format!(
                "'{}' --root=\"$root\" --force-script-chrootless --force-bad-path --force-confold \"$@\" || exit\nsed -i '{}' \"$root/etc/weir/gateway.toml\"\n",
                dpkg.display(),
                self.moves()
            ),
        );
        put("weir", "command=$1; shift\nexec \"$root/usr/bin/weir\" \"$command\" \"$root$1\"\n");
        put("systemctl", SYSTEMCTL);
        Sshd::start(self, &bin)
    }

    /// Ends the gateway that `systemctl` has started.
    pub fn stop_service(&self) {
        let _ = Command::new(self.folder("bin").join("systemctl")).args(["stop", "weir.service"]).status();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop_service();
    }
}

/// Starts what the unit's ExecStart says, and calls it active when it has said that it is ready.
const SYSTEMCTL: &str = r#"
unit=$root/usr/lib/systemd/system/weir.service
ready() { kill -0 "$(cat "$root/pid" 2>/dev/null)" 2>/dev/null && grep -q 'is ready' "$root/log"; }
case "$*" in
  *restart*|*stop*)
    if [ -f "$root/pid" ]; then kill "$(cat "$root/pid")" 2>/dev/null; rm -f "$root/pid"; fi ;;
esac
case "$*" in
  *restart*)
    line=$(sed -n 's/^ExecStart=//p' "$unit" | sed "s# --metrics.*##; s#/usr/bin#$root/usr/bin#; s#/etc/weir#$root/etc/weir#")
    mkdir -p "$root/var/lib/weir"
    : > "$root/log"
    nohup $line </dev/null >"$root/log" 2>&1 &
    echo $! > "$root/pid" ;;
  *is-active*) ready ;;
  *status*) ready && echo "active (running)"; cat "$root/log" ;;
esac
"#;

/// A running sshd; it ends with its value.
pub struct Sshd {
    child: Child,
    /// The ssh command that gets in.
    pub command: String,
}

impl Sshd {
    fn start(machine: &Machine, bin: &Path) -> Self {
        let folder = machine.folder("ssh");
        fs::create_dir_all(&folder).unwrap();
        for key in ["host", "user"] {
            text(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key)));
        }
        let path = |name: &str| folder.join(name).display().to_string();
        fs::copy(folder.join("user.pub"), folder.join("authorized")).unwrap();
        // Debian's sshd wants its folder, which its service would make.
        let _ = fs::create_dir_all("/run/sshd");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nSetEnv PATH={}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n",
            path("host"),
            path("authorized"),
            bin.display()
        );
        fs::write(folder.join("config"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let sshd = find("sshd").unwrap();
        let child = Command::new(sshd).args(["-D", "-e", "-f"]).arg(folder.join("config")).stderr(log).spawn().unwrap();
        let sshd = Self {
            child,
            command: format!(
                "ssh -p {port} -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR",
                path("user")
            ),
        };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(30), "{}", fs::read_to_string(folder.join("log")).unwrap());
            sleep(Duration::from_millis(50));
        }
        sshd
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
