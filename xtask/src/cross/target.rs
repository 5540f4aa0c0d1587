//! The targets that are shipped: static binaries, one for each kind of processor.

/// What must be known of one target.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Rust's name.
    pub triple: &'static str,
    /// Debian's name of the architecture. Raspberry Pi OS calls that of its ARMv6 packages `armhf` too.
    pub debian: &'static str,
    /// Machines that run it, as `uname -m` names them; a 64-bit kernel may have a 32-bit system on it.
    pub machines: &'static [&'static str],
    /// zig's name.
    pub zig: &'static str,
    /// The processor that zig compiles C and musl for.
    pub zig_cpu: &'static str,
    /// C compilers for it, the first found is taken: those made for musl, then Debian's for glibc. What is compiled uses no
    /// more than memory and string functions of the C library, which all have.
    pub gcc: &'static [&'static str],
    /// Runs its programs here: a program of qemu-user and its arguments; empty if this machine runs them itself.
    pub runner: &'static [&'static str],
    /// Its static programs are position-independent, and begin in `rcrt1.o`.
    pub pie: bool,
    /// The processor in the head of its programs (`e_machine` of ELF).
    pub elf_machine: u16,
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target {
        triple: "aarch64-unknown-linux-musl",
        debian: "arm64",
        machines: &["aarch64"],
        zig: "aarch64-linux-musl",
        zig_cpu: "generic",
        gcc: &["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"],
        runner: &["qemu-aarch64-static"],
        pie: false,
        elf_machine: 183,
    },
    Target {
        triple: "armv7-unknown-linux-musleabihf",
        debian: "armhf",
        machines: &["armv7l", "armv8l", "aarch64"],
        zig: "arm-linux-musleabihf",
        zig_cpu: "cortex_a7",
        gcc: &["armv7l-linux-musleabihf-gcc", "arm-linux-musleabihf-gcc", "arm-linux-gnueabihf-gcc"],
        runner: &["qemu-arm-static", "-cpu", "cortex-a7"],
        pie: false,
        elf_machine: 40,
    },
    Target {
        triple: "arm-unknown-linux-musleabihf",
        debian: "armhf",
        machines: &["armv6l", "armv7l", "armv8l", "aarch64"],
        zig: "arm-linux-musleabihf",
        zig_cpu: "arm1176jzf_s",
        gcc: &["arm-linux-musleabihf-gcc", "armv6-linux-musleabihf-gcc", "arm-linux-gnueabihf-gcc"],
        runner: &["qemu-arm-static", "-cpu", "arm1176"],
        pie: false,
        elf_machine: 40,
    },
    Target {
        triple: "x86_64-unknown-linux-musl",
        debian: "amd64",
        machines: &["x86_64"],
        zig: "x86_64-linux-musl",
        zig_cpu: "x86_64",
        gcc: &["x86_64-linux-musl-gcc", "musl-gcc", "x86_64-linux-gnu-gcc", "gcc"],
        runner: &[],
        pie: true,
        elf_machine: 62,
    },
];

impl Target {
    /// The target of that triple.
    pub fn get(triple: &str) -> Result<&'static Self, String> {
        let known = || TARGETS.iter().map(|target| target.triple).collect::<Vec<_>>().join(", ");
        TARGETS
            .iter()
            .find(|target| target.triple == triple)
            .ok_or_else(|| format!("`{triple}` is none of the targets that are shipped: {}", known()))
    }

    /// The triple as it stands in names of environment variables for cargo: `AARCH64_UNKNOWN_LINUX_MUSL`.
    pub fn upper(&self) -> String {
        self.triple.to_uppercase().replace('-', "_")
    }

    /// The triple as the `cc` crate wants it in names of environment variables: `aarch64_unknown_linux_musl`.
    pub fn lower(&self) -> String {
        self.triple.replace('-', "_")
    }
}
