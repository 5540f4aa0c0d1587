//! The `weir` binary: arguments to the command line of the shell, its answer to an exit code.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

fn main() -> std::process::ExitCode {
    weir::shell::cli::main()
}
