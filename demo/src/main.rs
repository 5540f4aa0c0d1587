//! `weir-demo`: the whole gateway at work, in one terminal.
//!
//! - Exit codes: 0 as promised, 1 something differs, 2 wrong use or a broken setup, 130 interrupted.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use weir_demo::gateway::{LEASH, become_leashed};
use weir_demo::options::{HELP, Options};
use weir_demo::run::{Outcome, run};

const DIFFERS: u8 = 1;
const BROKEN: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == LEASH).is_some() {
        eprintln!("weir-demo: {}", become_leashed(args));
        return ExitCode::from(BROKEN);
    }
    match Options::parse(args) {
        Ok(Some(options)) => demo(&options),
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(fault) => broken(&fault),
    }
}

fn demo(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return broken(&format!("no runtime: {error}")),
    };
    match runtime.block_on(run(options)) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Differs) => ExitCode::from(DIFFERS),
        Ok(Outcome::Interrupted) => {
            eprintln!("weir-demo: interrupted; everything that it started has ended");
            ExitCode::from(INTERRUPTED)
        }
        Err(fault) => broken(&fault),
    }
}

fn broken(fault: &str) -> ExitCode {
    eprintln!("weir-demo: {fault}");
    ExitCode::from(BROKEN)
}
