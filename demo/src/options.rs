//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use weir::units::Millis;

/// The help text.
pub const HELP: &str = "\
weir-demo: the whole gateway at work, in one terminal

Devices publish to a broker; `weir run` filters, chains and meters their readings in sandboxed functions and sends what is
left to an upstream broker. In the middle the upstream is away for a while, and the gateway is killed with -9. At the end the
simulator's truth is compared with what arrived upstream.

Usage: cargo xtask demo [OPTIONS]

Options:
      --for TIME        How long the devices publish: 20s, 2min (default 20s, at least 5s)
      --rate N          Readings a second, all devices together (default: some 640)
      --plain           One line a second instead of the live view; also when standard output is no terminal
      --json FILE       Write the summary as JSON
      --seed N          Another seed for the devices than 1
      --no-kill         Leave the gateway alive
      --no-outage       Leave the link to the upstream alone
      --keep            Keep data and logs in ./demo-data
      --weir FILE       The gateway's binary (default: `weir` beside this one)
      --functions DIR   The built functions (default: target/functions of the project)
      --release         For `cargo xtask demo`: run the optimised gateway, which takes longer to build
  -h, --help            This text

Exit codes: 0 nothing was lost and nothing counted twice, 1 something differs, 2 wrong use or a broken setup, 130 interrupted.
";

/// The shortest run in which outage, kill and windows find room.
const FOR_MS_MIN: u64 = 5000;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long the devices publish.
    pub for_ms: u64,
    /// Readings a second.
    pub rate: Option<f64>,
    /// Seed of the devices.
    pub seed: Option<u64>,
    /// One line a second.
    pub plain: bool,
    /// Where the summary goes.
    pub json: Option<PathBuf>,
    /// Whether the gateway is killed.
    pub kill: bool,
    /// Whether the upstream goes away.
    pub outage: bool,
    /// Whether data and logs stay.
    pub keep: bool,
    /// The gateway's binary.
    pub weir: Option<PathBuf>,
    /// The built functions.
    pub functions: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            for_ms: 20_000,
            rate: None,
            seed: None,
            plain: false,
            json: None,
            kill: true,
            outage: true,
            keep: false,
            weir: None,
            functions: None,
        }
    }
}

impl Options {
    /// Reads the command line; `None`: help is wanted.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let words = |error: lexopt::Error| error.to_string();
        let mut parser = lexopt::Parser::from_args(args);
        let mut options = Self::default();
        while let Some(arg) = parser.next().map_err(words)? {
            match arg {
                Long("for") => options.for_ms = span(&text(&mut parser)?)?,
                Long("rate") => options.rate = Some(rate(&text(&mut parser)?)?),
                Long("seed") => options.seed = Some(seed(&text(&mut parser)?)?),
                Long("json") => options.json = Some(parser.value().map_err(words)?.into()),
                Long("weir") => options.weir = Some(parser.value().map_err(words)?.into()),
                Long("functions") => options.functions = Some(parser.value().map_err(words)?.into()),
                Long("plain") => options.plain = true,
                Long("keep") => options.keep = true,
                Long("no-kill") => options.kill = false,
                Long("no-outage") => options.outage = false,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(format!("{}; see --help", arg.unexpected())),
            }
        }
        Ok(Some(options))
    }
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser.value().and_then(|value| value.string()).map_err(|error| error.to_string())
}

fn span(text: &str) -> Result<u64, String> {
    let Millis(ms) = text.parse().map_err(|error| format!("--for {text}: {error}; write 20s or 2min"))?;
    if (FOR_MS_MIN..=86_400_000).contains(&ms) { Ok(ms) } else { Err(format!("--for {text}: wants 5s to 24h")) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (10.0..=20_000.0).contains(rate));
    rate.ok_or_else(|| format!("--rate {text}: wants readings a second, 10 to 20000"))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("--seed {text}: wants a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let base = Options::default();
        for (line, want) in [
            ("", base.clone()),
            ("--for 8s --plain", Options { for_ms: 8000, plain: true, ..base.clone() }),
            ("--json o.json --rate=100", Options { json: Some("o.json".into()), rate: Some(100.0), ..base.clone() }),
            ("--no-kill --no-outage --keep", Options { kill: false, outage: false, keep: true, ..base.clone() }),
        ] {
            assert_eq!(parse(line), Ok(Some(want)), "{line}");
        }
        assert_eq!(parse("--help"), Ok(None));
    }

    #[test]
    fn faults_name_the_option_and_what_it_wants() {
        for (line, part) in [
            ("--for 1s", "5s to 24h"),
            ("--for long", "--for long"),
            ("--rate 0", "10 to 20000"),
            ("--seed x", "whole number"),
            ("--fast", "--help"),
        ] {
            assert!(parse(line).unwrap_err().contains(part), "{line}: {:?}", parse(line));
        }
    }
}
