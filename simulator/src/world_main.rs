//! The deterministic world alone, without the load generator: quick to build (`cargo xtask sim`, `cargo xtask mutants`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_simulator::world::command::run(lexopt::Parser::from_env()).unwrap_or_else(|fault| {
        eprintln!("weir-world: {fault}");
        ExitCode::from(2)
    })
}
