//! The help texts, and the one table of the commands: the manual page and the shells' completions are made of it.
//!
//! - An option stands under `Options:` as `  -b, --board NAME    Text`, its further lines indented as far as the text.
//! - This file uses nothing of the program, so that the packaging reads the same one.

/// Every command and its help, in the order in which they are listed.
pub const COMMANDS: [(&str, &str); 14] = [
    ("init", INIT),
    ("check", CHECK),
    ("plan", PLAN),
    ("run", RUN),
    ("status", STATUS),
    ("doctor", DOCTOR),
    ("store", STORE),
    ("dlq", DLQ),
    ("new", NEW),
    ("build", BUILD),
    ("test", TEST),
    ("invoke", INVOKE),
    ("record", RECORD),
    ("replay", REPLAY),
];

pub const WEIR: &str = "\
weir: functions at the edge. Filters and meters MQTT telemetry by sandboxed WebAssembly functions.

Usage: weir COMMAND [FILE] [OPTIONS]

Commands:
  init     Write a commented gateway.toml to start from
  check    Check gateway.toml and all that it names; print the memory and flash plan
  plan     The plan for any board: what it takes, how long the flash lasts, what more would fit
  run      Run the gateway
  status   Ask the running gateway how it is
  doctor   Try everything that the gateway depends on; say what helps
  store    Look at what is on flash: check, dump, repair
  dlq      Dead letters: list, show, replay, purge
  new      A function to start from, in Rust, C, Zig or AssemblyScript
  build    Compile a function with what this machine has
  test     Run a function's cases: events in, effects out
  invoke   Hand events to a function here, without a gateway
  record   Record the calls of a running gateway's functions
  replay   Make recorded calls again, with this version or another

Options:
  -h, --help       This text; `weir COMMAND --help` for a command
  -V, --version    The version

FILE is gateway.toml where it is not given.

Examples:
  weir init && weir check
  weir check /etc/weir/gateway.toml --board pi-zero-2w
  weir plan --all
  weir run /etc/weir/gateway.toml
  weir new hot --lang rust && weir build hot && weir test hot

Exit codes: 0 ok, 64 wrong use, 65 an orderly end after acknowledged data was found lost, 69 cannot start, 73 cannot create the file,
74 flash failed, 78 configuration refused.
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
  -m, --metrics ADDR    Serve Prometheus metrics (/metrics) and health (/health: 200, or 503 when it makes no progress) on this
                        address, as in 127.0.0.1:9187; off by default
  -h, --help            This text

Examples:
  weir run
  weir run /etc/weir/gateway.toml --metrics 127.0.0.1:9187

Under systemd (Type=notify) it says when it is ready, and feeds the watchdog (WatchdogSec) only while it makes progress. In its
data folder it listens on control.sock, for `weir status` and `weir dlq`.

Exit codes:
  0   ended on request
  64  wrong use of the command line
  65  ended on request, but when it started the store had lost acknowledged data: the log says what
  69  cannot start: the data folder or the metrics address is in use, or cannot be had
  74  flash failed: nothing of the last commit was acknowledged, and a restart finds the truth
  78  configuration refused
";

pub const STATUS: &str = "\
Asks the running gateway how it is: ready, degraded or failed, with the reasons, and the main numbers. It answers also when the
gateway's loop hangs.

Usage: weir status [FILE | --dir DIR] [--json]

Options:
      --dir DIR    The data folder (gateway.data-dir), where gateway.toml is not at hand
      --json       One JSON document
  -h, --help       This text

Examples:
  weir status
  weir status --dir /var/lib/weir --json | jq .health.reasons

Exit codes: 0 ready, 1 degraded, 2 failed (it lives and makes no progress), 64 wrong use, 69 no gateway answers,
78 gateway.toml cannot be read.
";

pub const DOCTOR: &str = "\
Tries what the gateway depends on, and says what to do about what does not work: configuration, broker and upstream (a real
connection, with TLS and login), whether the broker keeps sessions, certificates, clock, disk (room, speed, read-only), store, and the
board's plan against the memory that a running gateway takes.

Usage: weir doctor [FILE] [--json]

Options:
      --json    One JSON document
  -h, --help    This text

It may run beside the gateway: it connects under client identifiers of its own (CLIENT-ID-doctor) and leaves no session behind.
A broker that ties client identifiers to certificates or access lists may refuse those.

Examples:
  weir doctor
  weir doctor /etc/weir/gateway.toml --json | jq '.findings[] | select(.level != \"ok\")'

Exit codes: 0 all is well, 1 warnings, 2 failures, 64 wrong use.
";

pub const STORE: &str = "\
Looks at what a gateway has on flash, and makes it good.

Usage: weir store check  [FILE | --dir DIR] [--json]
       weir store dump   [FILE | --dir DIR] [--kind KIND] [--lane LANE] [--from SEQ] [--limit N]
       weir store repair [FILE | --dir DIR] [--json]

Actions:
  check    Reads only, also on a read-only medium and beside a running gateway. Segments, frames, commits, lanes, gaps,
           damage, and what a start would lose
  dump     Prints entries, open windows and waiting records as lines of JSON. Reads only
  repair   Does what a start does: drops unfinished writes, sets aside what is damaged, and says what each file cost.
           Damaged files are copied to quarantine/ in the data folder first. Refused while a gateway runs

Options:
      --dir DIR      The data folder (gateway.data-dir), where gateway.toml is not at hand
      --json         check, repair: one JSON document
  -k, --kind KIND    dump: entry, meter, record, or the records of one kind: message, aggregate, dead-letter, loss, usage
  -l, --lane LANE    dump: records of this lane only
      --from SEQ     dump: records from this sequence on, delivered ones that are still on flash included; default: what waits
  -n, --limit N      dump: so many lines at most
  -h, --help         This text

FILE is gateway.toml where neither is given.

Examples:
  weir store check /etc/weir/gateway.toml
  weir store dump --dir /var/lib/weir --kind dead-letter --limit 10
  weir store dump --kind meter | jq .sum
  systemctl stop weir; weir store repair; systemctl start weir

Exit codes: 0 sound (unfinished writes are no fault: nothing of them was acknowledged), 1 look at it (something was set aside,
or healed, or the store is empty), 2 damaged: something acknowledged is lost, 64 wrong use, 66 no store there, 74 the disk
fails, 75 a gateway runs (repair), 78 gateway.toml cannot be read.
";

pub const DLQ: &str = "\
Dead letters: messages that no function could handle. They stay on flash until they are replayed, purged, delivered (if the lane
`dead-letter` has a sink) or make room for newer ones.

Usage: weir dlq list   [FILE | --dir DIR] [--limit N] [--json]
       weir dlq show   N [FILE | --dir DIR] [--json]
       weir dlq replay N…|--all [FILE] [--function F[@VERSION]] [--try] [--bundle DIR] [--json]
       weir dlq purge  N…|--all [FILE] [--json]

Actions:
  list     Number, time, function, error, device and topic of each. Reads only, also beside a running gateway
  show     One letter in full: what failed, and the event
  replay   Calls the function that failed once more with what it was called with: message, device, topic and time. The
           letter leaves, and what comes of it is committed, in one step. Through the running gateway, or on the store of
           a stopped one. If it fails again, there is a new letter. --try calls it here and shows what it would do;
           nothing changes, and --bundle tries another version of it
  purge    Throws letters away. Counted as `purged`; said in a loss record where the lane has a sink

Options:
      --dir DIR              list, show: the data folder, where gateway.toml is not at hand
      --all                  Every letter that is there now
  -f, --function FUNCTION    Only letters of this function; F@VERSION only if it is configured (or in the bundle) at this version
      --try                  Show the effects, change nothing
      --bundle DIR           A function's folder (function.toml and module) in place of the configured one; with --try
  -n, --limit N              list: so many at most; 1000 by default
      --json                 One JSON document
  -h, --help                 This text

FILE is gateway.toml where none is given; a name that is a number is a letter.

Examples:
  weir dlq list
  weir dlq show 17
  weir dlq replay 17 --try --bundle functions/threshold-2 --function threshold@2.0.0
  weir dlq replay --all --function threshold@2.0.0
  weir dlq purge 3 4 5

Exit codes: 0 done (list: there are none), 1 list: there are letters; replay, purge: some were refused or failed again, 2 all were,
64 wrong use, 66 no store, 69 the gateway does not answer, 74 the disk fails, 75 a gateway that cannot be asked has the store,
78 gateway.toml refused.
";

pub const NEW: &str = "\
Writes a function to start from: source, SDK, manifest and cases, in a new folder. It alerts when a reading crosses a limit; build it,
test it, and change it into your own. Nothing is fetched.

Usage: weir new NAME --lang LANG

Options:
  -l, --lang LANG    rust, c, zig or assemblyscript
  -h, --help         This text

NAME is the folder; its last level is the function's name (a-z, 0-9 and -).

Examples:
  weir new hot --lang rust && weir build hot && weir test hot
  weir new functions/hot --lang c

Exit codes: 0 ok, 64 wrong use, 73 the folder is there already or cannot be written.
";

pub const BUILD: &str = "\
Compiles a function's folder to its module, with what this machine has, and loads it for a try as a gateway would. What is missing is
named, with the command that gets it; nothing is installed.

Usage: weir build [DIR]

Options:
  -h, --help    This text

DIR is the current folder where it is not given. The language shows in it: Cargo.toml, NAME.c, NAME.zig or NAME.ts, where NAME is the
name in function.toml. The module is written beside function.toml, what is made on the way into DIR/target.

  rust             cargo with the target wasm32-unknown-unknown (rustup target add), or with rust-src, which builds it
  c                clang and LLD, or zig
  zig              zig (pip install ziglang)
  assemblyscript   asc (npm install in DIR)

WEIR_ZIG, WEIR_ASC and WEIR_WASM_LD name a program in place of the one that is found. LLD 22 makes a memory as large as it must be; older
ones make it of whole pages of 64 KiB, and limits.memory must grant them.

Examples:
  weir build hot
  cd hot && weir build && weir test

Exit codes: 0 ok, 1 it does not compile, 64 wrong use, 69 a tool is missing, 78 function.toml, or the module, is refused.
";

pub const TEST: &str = "\
Runs the cases of a function: events in, effects out, through the gateway's own code and under the manifest's limits. Each case shows
the most fuel of a step, the memory and the time; one that fails shows what differs, the event, and after a trap the guest's functions.

Usage: weir test [DIR] [OPTIONS]

Options:
      --cases DIR    The cases (*.toml); default DIR/cases
  -c, --case TEXT    Only cases whose name contains this text
      --json         One JSON document
  -h, --help         This text

DIR (default: the current folder) has function.toml and the module.

Examples:
  weir test hot
  weir test target/functions/threshold --cases functions/threshold/cases
  weir test hot --json | jq '.cases[] | select(.holds | not)'

Exit codes: 0 all passed, 1 some failed, 64 wrong use, 66 there are no cases, 78 function.toml or the module is missing or refused.
";

pub const INVOKE: &str = "\
Hands events to a function here, without a gateway, and shows what it wants: verdict, messages, meters, state, log, fuel, memory.
State goes from event to event, and is gone afterwards.

Usage: weir invoke [DIR] --event FILE [OPTIONS]

Options:
  -e, --event FILE       A file with an event, or several one behind another; - is standard input
      --set KEY=VALUE    A setting in place of the manifest's
      --json             One line of JSON for each event
  -h, --help             This text

An event is a JSON object; every key may be left out:
  topic, device     texts; the device is the topic where there is none
  payload           any JSON value; or the bytes in `text` or `base64`
  codec             \"json\", \"cbor\" or \"raw\"
  time, now         of the event and of the handling, in milliseconds since 1970
  kind              \"message\" or \"interval\"
  qos, retained, chained, replayed, quality, time_from_payload, sequence, seed

Examples:
  echo '{\"topic\": \"site/boiler\", \"payload\": {\"temp\": 91.5}}' | weir invoke hot --event -
  weir invoke hot --event events.json --set high=30 --json | jq .outcome.emits

Exit codes: 0 a verdict for each, 1 an error or a malformed payload among them, 64 wrong use, 65 no event, 78 the function is refused.
";

pub const RECORD: &str = "\
Records the calls of a running gateway's functions: every event whole, what came of it, and what the functions were when it began
(version, settings, limits, state). The gateway keeps at most 128 KiB in memory and writes nothing; this program writes the file.

Usage: weir record [FILE | --dir DIR] --to RECORDING [OPTIONS]

Options:
  -t, --to RECORDING     The file to write
      --for TIME         End after this time; 60 s by default
  -n, --calls N          End after so many calls
      --bytes-max SIZE   End before the file is larger; 16 MiB by default
  -f, --function NAME    Only calls of this function; may be given several times
      --force            Overwrite RECORDING
      --dir DIR          The data folder (gateway.data-dir), where gateway.toml is not at hand
  -h, --help             This text

FILE is gateway.toml where neither is given. A recording holds what devices sent: keep it as you keep the data. Where more comes than can
be taken in time it ends, and says so. RECORDING is lines of JSON.

Examples:
  weir record /etc/weir/gateway.toml --to site.jsonl --for 5min
  weir record --dir /var/lib/weir --to hot.jsonl --function hot --calls 1000

Exit codes: 0 recorded, 64 wrong use, 69 the gateway does not answer, or refuses, 73 RECORDING cannot be written, 78 gateway.toml cannot
be read.
";

pub const REPLAY: &str = "\
Makes the calls of a recording again, on any machine: with the same version the answers are identical, byte for byte; with another
one, what differs is shown. State, settings, times and random bytes are those of the recording.

Usage: weir replay RECORDING --function FUNCTION [OPTIONS]

Options:
  -f, --function FUNCTION    A function's folder (function.toml and module), or F or F@VERSION as configured in gateway.toml
      --config FILE          The gateway.toml in which F is looked up
  -n, --limit N              Show so many calls that differ; 10 by default
      --json                 One JSON document
  -h, --help                 This text

The same module has the limits of the recording, another one those of its manifest. Fuel is told and does not count as a difference.

Examples:
  weir replay site.jsonl --function ./hot
  weir replay site.jsonl --function ./hot-2
  weir replay site.jsonl --function hot@1.0.0 --config /etc/weir/gateway.toml

Exit codes: 0 identical, 1 something differs, 64 wrong use, 65 no recording, 66 no such file, 78 the function is not there or refused.
";
