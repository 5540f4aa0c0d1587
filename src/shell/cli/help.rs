//! The help texts.

pub(super) const WEIR: &str = "\
weir: functions at the edge. Filters and meters MQTT telemetry by sandboxed WebAssembly functions.

Usage: weir COMMAND [FILE] [OPTIONS]

Commands:
  init     Write a commented gateway.toml to start from
  check    Check gateway.toml and all that it names; print the memory and flash plan
  run      Run the gateway

Options:
  -h, --help       This text; `weir COMMAND --help` for a command
  -V, --version    The version

FILE is gateway.toml where it is not given.

Examples:
  weir init && weir check
  weir check /etc/weir/gateway.toml --board pi-zero-2w
  weir run /etc/weir/gateway.toml

Exit codes: 0 ok, 64 wrong use, 73 cannot create the file, 78 configuration refused.
";

pub(super) const CHECK: &str = "\
Checks a configuration and everything that it names, and prints what it takes in memory and flash at most.
All faults are reported at once. `weir run` refuses exactly what `weir check` refuses.

Usage: weir check [FILE] [OPTIONS]

Options:
  -b, --board NAME    Check for this board instead of the file's: generic, pi-zero, pi-zero-2w, pi-3b, pi-4b, pi-5, or the
                      path of a board's TOML file
      --json          Print faults and plan as one JSON document
  -h, --help          This text

Examples:
  weir check
  weir check site.toml --board pi-zero
  weir check --json | jq .memory.total

Exit codes: 0 ok (warnings are not faults), 78 refused.
";

pub(super) const INIT: &str = "\
Writes a commented configuration to start from. Every key stands in it, with its default.

Usage: weir init [FILE] [OPTIONS]

Options:
  -f, --force    Overwrite FILE
  -h, --help     This text

Examples:
  weir init
  weir init /etc/weir/gateway.toml

Exit codes: 0 ok, 73 FILE exists or cannot be written.
";

pub(super) const RUN: &str = "\
Runs the gateway until it is told to end (SIGTERM, SIGINT).

Usage: weir run [FILE] [OPTIONS]

Options:
  -m, --metrics ADDR    Serve Prometheus metrics on this address, as in 127.0.0.1:9187; off by default
  -h, --help            This text

Examples:
  weir run
  weir run /etc/weir/gateway.toml --metrics 127.0.0.1:9187

Exit codes: 0 ended on request; 65 the same, but the store had lost acknowledged data when it was opened (the log says what);
69 cannot start (data folder, metrics address); 74 the disk failed: restart it; 78 configuration refused.
";
