//! `weir-sim`: fleets of modelled devices for a real broker, the truth of what they sent, and the virtual world.
//!
//! - Exit codes: 0 all is right, 1 upstream differs or a run failed, 2 the command line or a file is wrong.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(std::env::args_os().skip(1)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir-sim: {error}");
            ExitCode::from(2)
        }
    }
}
