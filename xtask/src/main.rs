//! The project's commands: `cargo xtask functions`, `cargo xtask test`, `cargo xtask demo`, `cargo xtask fuzz`.
//!
//! - What a bare machine lacks is found or fetched; what cannot be got is named, with the fix.
//! - Nothing is written outside of `target/`, but for the packages that apt-get installs.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod cross;
mod debian;
mod demo;
mod deploy;
mod dist;
mod functions;
mod fuzz;
mod languages;
mod mutants;
mod need;
mod proof;
mod qemu;
mod sim;
mod tests;
#[path = "../../src/shell/toolchain/mod.rs"]
#[allow(dead_code, reason = "`weir build` uses the rest")]
mod toolchain;
mod wasm;
mod wasm_target;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask functions          build the modules in functions/ to target/functions/NAME/
cargo xtask languages          fetch the compilers for functions in C, Zig and AssemblyScript to target/ (pip, npm)
cargo xtask test [ARGS..]      build the functions, then run all tests; ARGS go to the test runner
cargo xtask test --target T    the fast part of them on an emulated processor (qemu-user)
cargo xtask demo [ARGS..]      the whole gateway at work, in one terminal
cargo xtask dist --board NAME  .deb and .tar.gz for a board, in target/packages/ (--target T, --all)
cargo xtask deploy --board NAME USER@HOST   the package over ssh: installed, started, ready
cargo xtask qemu [ARGS..]      the main job on an emulated arm64 board, also with its power cut
cargo xtask size               what the binaries that dist built weigh, and what each feature costs
cargo xtask fuzz [TARGET] [--for 30m]
                               fuzzes what reads the bytes of others; without TARGET each in turn
cargo xtask sim --seeds N      the real gateway in a virtual world of faults, a world a seed (--seed S, --for 60s, --help)
cargo xtask mutants            deliberate bugs, one at a time: the virtual world must catch each

cargo xtask crash --kills N    kill -9 of the real gateway among real brokers: nothing lost, nothing twice
cargo xtask powercut --cuts N  the power cut at any write of a recorded run: nothing acknowledged lost, no failed start
cargo xtask damage             every file of a store cut, zeroed, flipped: it starts, and says what that cost
cargo xtask offline            a full outbox of 64 MiB: opened, resumed, drained
cargo xtask soak --for 30m     2,000 messages a second with faults: memory flat, totals exact
                               (each of them: --release for the shipped profile; --help for its options)

WEIR_NO_RUSTUP=1               never ask rustup for a target: use Debian's packages
WEIR_ZIG=FILE                  zig, for C and musl, in place of the one that is found or fetched
WEIR_WASM_LD=FILE              the linker for functions, in place of the one that is found";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "functions" => functions::build(root).map(|built| print!("{}", functions::table(&built))),
        "languages" => languages::get(root),
        "test" => tests::run(root, &rest),
        "demo" => demo::run(root, &rest),
        proof if proof::COMMANDS.contains(&proof) => proof::run(root, proof, &rest),
        "dist" => dist::run(root, &rest),
        "deploy" => deploy::run(root, &rest),
        "qemu" => qemu::run(root, &rest),
        "size" => dist::size::run(root, &rest),
        "fuzz" => fuzz::run(root, &rest),
        "sim" => sim::run(root, &rest),
        "mutants" => mutants::run(root, &rest),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
