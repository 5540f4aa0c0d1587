//! The command line.

mod board;
mod compare;
mod publish;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use lexopt::prelude::*;
use weir_simulator::scenario::{SAMPLE, Scenario};

const HELP: &str = "\
weir-sim: fleets of modelled devices for a real broker, and the truth of what they sent

  weir-sim publish --broker URL --scenario FILE [options]   publish a fleet to a broker
  weir-sim compare --truth FILE --upstream DIR|URL          compare what was sent with what arrived upstream
  weir-sim scenario --print                                 print a commented scenario
  weir-sim board --board NAME --bundle DIR --scenario FILE  your site on an emulated board: does it fit, does it lose
  weir-sim world --seeds N                                  the real gateway in a virtual world of faults
  weir-sim COMMAND --help                                   all options of a command

Examples:
  weir-sim scenario --print > fleet.toml
  weir-sim publish --broker mqtt://127.0.0.1:1883 --scenario fleet.toml --for 20s --truth truth.json
  weir-sim compare --truth truth.json --upstream /var/lib/weir/upstream
  weir-sim publish --broker mqtt://127.0.0.1:1883 --scenario fleet.toml --rate 20000 --count 1000000 --qos 0
";

const SCENARIO_HELP: &str = "\
weir-sim scenario --print           print a commented scenario
weir-sim scenario --check FILE      check a scenario and say what it sends
";

/// What is wrong with the command line or a file, in words.
pub type Fault = Box<dyn std::error::Error>;

/// Runs the command in `args`.
pub fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode, Fault> {
    let mut parser = lexopt::Parser::from_args(args);
    match parser.next()? {
        Some(Value(command)) => match command.to_string_lossy().as_ref() {
            "publish" => publish::run(parser),
            "compare" => compare::run(parser),
            "scenario" => scenario(parser),
            "board" => board::run(parser),
            "world" => weir_simulator::world::command::run(parser),
            other => {
                Err(format!("`{other}` is no command; there are publish, compare, scenario, board and world").into())
            }
        },
        Some(Long("version") | Short('V')) => {
            println!("weir-sim {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Some(Long("help") | Short('h')) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
        Some(arg) => Err(arg.unexpected().into()),
    }
}

fn scenario(mut parser: lexopt::Parser) -> Result<ExitCode, Fault> {
    match parser.next()? {
        Some(Long("print")) => print!("{SAMPLE}"),
        Some(Long("check")) => {
            let scenario = read_scenario(Path::new(&parser.value()?))?;
            println!("{}: {:.1} messages a second", scenario.name, scenario.rate());
            for fleet in &scenario.fleets {
                let meter = fleet.meter.as_deref().unwrap_or("not metered");
                println!(
                    "  {:<16} {:>6} × {:<12} QoS {}  {meter}",
                    fleet.name,
                    fleet.devices,
                    fleet.model.name(),
                    fleet.qos as u8
                );
            }
        }
        Some(Long("help") | Short('h')) | None => print!("{SCENARIO_HELP}"),
        Some(arg) => return Err(arg.unexpected().into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn read_scenario(path: &Path) -> Result<Scenario, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Scenario::parse(&path.display().to_string(), &text)?)
}

/// A span of time: `20s`, `20 s`, `5min`.
fn parse_span(text: &str) -> Result<u64, Fault> {
    Ok(text.parse::<weir::units::Millis>()?.0)
}
