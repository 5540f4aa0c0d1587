//! `weir run`: the same way to a plan as `weir check`, then the loop.

use std::process::ExitCode;

use super::arguments::RunOptions;
use log::LevelFilter;

use super::{EXIT_CONFIG, EXIT_DATA, EXIT_FLASH, EXIT_UNAVAILABLE, complain, examine};
use crate::budget::Plan;
use crate::function::Function;
use crate::shell::logging;
use crate::shell::start::{self, Failure};

pub(super) fn run(options: &RunOptions) -> ExitCode {
    let examined = examine(&options.file, None);
    complain(&examined.faults);
    match examined.plan {
        Some(plan) if !examined.refused => start(&plan, examined.functions, options),
        _ => {
            eprintln!("{}: refused; `weir check` shows the whole plan", options.file.display());
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Runs the gateway until it is told to end.
fn start(plan: &Plan, functions: Vec<Function>, options: &RunOptions) -> ExitCode {
    logging::start(LevelFilter::Info);
    match start::run(plan, functions, options.metrics) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{failure}");
            ExitCode::from(match failure {
                Failure::Run(_) => EXIT_FLASH,
                Failure::DataLost => EXIT_DATA,
                _ => EXIT_UNAVAILABLE,
            })
        }
    }
}
