//! `cargo xtask deploy`: the package of a board, over ssh, to a running service, in one connection.
//!
//! - What is done there stands in `packaging/deploy.sh`; `--print` shows it and does nothing.
//! - The package goes in on standard input; how it went comes back as the exit code.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dist::{self, board::Board};

const USAGE: &str = "\
cargo xtask deploy --board NAME USER@HOST
  --package FILE    install this .deb instead of building one
  --ssh COMMAND     in place of `ssh`, as in \"ssh -p 2222\"
  --print           show what would be done";

struct Options {
    board: Board,
    host: String,
    package: Option<PathBuf>,
    ssh: Vec<String>,
    print: bool,
}

/// The command.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = options(root, arguments)?;
    let script = root.join("packaging/deploy.sh");
    let script = fs::read_to_string(&script).map_err(|error| format!("{}: {error}", script.display()))?;
    let remote = format!("sh -c {} deploy {}", quoted(&script), quoted(&options.board.target.machines.join(" ")));
    if options.print {
        let package = match &options.package {
            Some(file) => file.display().to_string(),
            None => format!("$(cargo xtask dist --board {})", options.board.name),
        };
        println!("{} {} < {package} \\\n  {remote}", options.ssh.join(" "), options.host);
        return Ok(());
    }
    let package = match options.package {
        Some(file) => file,
        None => {
            let made = dist::packages(root, vec![options.board], None, &root.join("target/packages"))?;
            made.into_iter().next().ok_or("no package was made")?
        }
    };
    let input = File::open(&package).map_err(|error| format!("{}: {error}", package.display()))?;
    eprintln!("xtask: {} to {}", package.display(), options.host);
    let (program, arguments) = options.ssh.split_first().ok_or("--ssh wants a command")?;
    let status = Command::new(program).args(arguments).arg(&options.host).arg(remote).stdin(input).status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => Ok(()),
        Ok(Some(78)) => Err(format!("{}: installed; its configuration is refused, see above", options.host)),
        Ok(code) => Err(format!("{}: ended with {}", options.host, code.unwrap_or(-1))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn options(root: &Path, arguments: &[String]) -> Result<Options, String> {
    let (mut board, mut host, mut package, mut print) = (None, None, None, false);
    let mut ssh = vec!["ssh".to_owned()];
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().cloned().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
        match argument.as_str() {
            "--board" => board = Some(Board::get(root, &value()?)?),
            "--package" => package = Some(PathBuf::from(value()?)),
            "--ssh" => ssh = value()?.split_ascii_whitespace().map(str::to_owned).collect(),
            "--print" => print = true,
            name if !name.starts_with('-') && host.is_none() => host = Some(name.to_owned()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    let (Some(board), Some(host)) = (board, host) else { return Err(USAGE.to_owned()) };
    Ok(Options { board, host, package, ssh, print })
}

/// For a shell, as one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
