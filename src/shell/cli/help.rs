//! The help texts, and the one table of the commands: the manual page and the shells' completions are made of it.
//!
//! - An option stands under `Options:` as `  -b, --board NAME    Text`, its further lines indented as far as the text.
//! - This file uses nothing of the program, so that the packaging reads the same one.

/// Every command and its help, in the order in which they are listed.
pub const COMMANDS: [(&str, &str); 4] = [("init", INIT), ("check", CHECK), ("plan", PLAN), ("run", RUN)];

pub const WEIR: &str = "\
weir: functions at the edge. Filters and meters MQTT telemetry by sandboxed WebAssembly functions.

Usage: weir COMMAND [FILE] [OPTIONS]

Commands:
  init     Write a commented gateway.toml to start from
  check    Check gateway.toml and all that it names; print the memory and flash plan
  plan     The plan for any board: what it takes, how long the flash lasts, what more would fit
  run      Run the gateway

Options:
  -h, --help       This text; `weir COMMAND --help` for a command
  -V, --version    The version

FILE is gateway.toml where it is not given.

Examples:
  weir init && weir check
  weir check /etc/weir/gateway.toml --board pi-zero-2w
  weir plan --all
  weir run /etc/weir/gateway.toml

Exit codes: 0 ok, 64 wrong use, 69 cannot start, 73 cannot create the file, 74 flash failed, 78 configuration refused.
";

pub const CHECK: &str = "\
Checks a configuration and everything that it names, and prints what it takes in memory and flash at most.
All faults are reported at once. `weir run` refuses exactly what `weir check` refuses.

Usage: weir check [FILE] [OPTIONS]

Options:
  -b, --board NAME    Check for this board instead of the file's: one that `weir plan --all` lists, or the path of a
                      board's TOML file
      --json          Print faults and plan as one JSON document
  -h, --help          This text

Examples:
  weir check
  weir check site.toml --board pi-zero
  weir check --json | jq .memory.total

Exit codes: 0 ok (warnings are not faults), 64 wrong use, 78 refused.
";

pub const PLAN: &str = "\
Prints what a configuration takes on a board in memory and flash at most, what it writes to the flash in a day and how long
the flash lasts at that, and how many more functions of the configured sizes would fit. It runs on any machine, for any board.

Usage: weir plan [FILE] [OPTIONS]

Options:
  -b, --board NAME    Plan for this board instead of the file's: a name, or the path of a board's TOML file
  -a, --all           One line for each board that is known
      --json          Print the plan as one JSON document
  -h, --help          This text

Examples:
  weir plan --board pi-zero
  weir plan site.toml --all
  weir plan --board beaglebone-black --json | jq .room.smallest.fit

Exit codes: 0 ok, 78 refused: it does not fit, or the file has faults.
";

pub const INIT: &str = "\
Writes a commented configuration to start from. Every key stands in it, with its default.

Usage: weir init [FILE] [OPTIONS]

Options:
  -f, --force         Overwrite FILE
  -b, --board NAME    The hardware, with its defaults; without it an ordinary PC
  -h, --help          This text

Examples:
  weir init
  weir init --board pi-zero-2w
  weir init /etc/weir/gateway.toml

Exit codes: 0 ok, 64 wrong use, 73 FILE exists or cannot be written.
";

pub const RUN: &str = "\
Runs the gateway until it is told to end (SIGTERM, SIGINT).

Usage: weir run [FILE] [OPTIONS]

Options:
  -m, --metrics ADDR    Serve Prometheus metrics on this address, as in 127.0.0.1:9187; off by default
  -h, --help            This text

Examples:
  weir run
  weir run /etc/weir/gateway.toml --metrics 127.0.0.1:9187

Exit codes:
  0   ended on request
  64  wrong use of the command line
  69  cannot start: the data folder or the metrics address is in use, or cannot be had
  74  flash failed: nothing of the last commit was acknowledged, and a restart finds the truth
  78  configuration refused
";
