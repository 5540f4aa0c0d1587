//! The real binary, from outside: what it prints, where, and its exit codes.
#![cfg(feature = "shell")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use weir::board::BUILT_IN;

struct Answer {
    code: i32,
    out: String,
    err: String,
}

fn weir(folder: &Path, line: &str) -> Answer {
    let output =
        Command::new(env!("CARGO_BIN_EXE_weir")).args(line.split_whitespace()).current_dir(folder).output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The least module that the gateway loads: every export of the ABI, nothing done.
const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (global (export "weir_abi") i32 (i32.const 1))
    (func (export "weir_buf") (result i64) (i64.const 0x0000_0400_0000_1000))
    (func (export "on_event") (param i32) (result i32) (i32.const 0)))"#;

/// A folder with what `weir init` writes and a function where it looks for one.
fn started() -> tempfile::TempDir {
    let folder = folder();
    assert_eq!(weir(folder.path(), "init").code, 0);
    let function = folder.path().join("functions/threshold");
    fs::create_dir_all(&function).unwrap();
    fs::write(function.join("function.toml"), "name = \"threshold\"\nemits = [\"alerts/#\"]\n").unwrap();
    fs::write(function.join("threshold.wasm"), wat::parse_str(MODULE).unwrap()).unwrap();
    folder
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn help_and_version_go_to_standard_output() {
    let folder = folder();
    for (line, want) in [
        ("--help", "Usage: weir COMMAND"),
        ("help", "Usage: weir COMMAND"),
        ("check --help", "weir check site.toml --board pi-zero"),
        ("init -h", "weir init /etc/weir/gateway.toml"),
        ("run --help", "weir run /etc/weir/gateway.toml --metrics 127.0.0.1:9187"),
        ("--version", concat!("weir ", env!("CARGO_PKG_VERSION"))),
    ] {
        let answer = weir(folder.path(), line);
        assert!(answer.code == 0 && answer.out.contains(want) && answer.err.is_empty(), "{line}: {}", answer.out);
    }
    // A board is listed where its plan is.
    let started = started();
    let boards = weir(started.path(), "plan --all").out;
    for (board, _) in BUILT_IN {
        assert!(boards.lines().any(|line| line.starts_with(&format!("{board} "))), "{board}: {boards}");
    }
}

#[test]
fn wrong_use_exits_with_64_and_names_the_closest() {
    let folder = folder();
    for (line, want) in [
        ("", "wants a command"),
        ("cehck", "did you mean `check`?"),
        ("check --jsn", "did you mean `--json`?"),
        ("run --metric 127.0.0.1:1", "did you mean `--metrics`?"),
        ("check --board", "see `weir --help`"),
    ] {
        let answer = weir(folder.path(), line);
        assert!(answer.code == 64 && answer.err.contains(want) && answer.out.is_empty(), "{line}: {}", answer.err);
    }
}

#[test]
fn what_init_writes_passes_check_on_every_board_without_a_warning() {
    let folder = started();
    edit(folder.path(), "#id = \"hall-3\"", "id = \"hall-3\"");
    for (board, _) in BUILT_IN {
        let answer = weir(folder.path(), &format!("check --board {board}"));
        assert!(answer.code == 0 && answer.err.is_empty(), "{board}: {}\n{}", answer.err, answer.out);
        assert!(answer.out.contains(&format!("gateway.toml: ok, fits board {board}")), "{}", answer.out);
    }
}

#[test]
fn a_plan_for_any_board_says_what_fits_how_long_the_flash_lasts_and_whose_the_defaults_are() {
    let folder = started();
    edit(folder.path(), "#id = \"hall-3\"", "id = \"hall-3\"");
    let answer = weir(folder.path(), "plan --board pi-zero");
    assert!(answer.code == 0 && answer.err.is_empty(), "{}", answer.err);
    for want in [
        "pi-zero: Raspberry Pi Zero, Zero W or 1 (ARMv6); arm-unknown-linux-musleabihf, 1 core, no clock battery\n",
        "memory: board pi-zero grants 32 MiB\n",
        "few in each commit; the flash lasts ",
        "500 ms  commit.interval         the board's default\n",
        "512 KiB  store.segment-bytes     weir's default\n",
        "like threshold, the smallest: ",
    ] {
        assert!(answer.out.contains(want), "{want}\n{}", answer.out);
    }
    let document = |line: &str| serde_json::from_str::<serde_json::Value>(&weir(folder.path(), line).out).unwrap();
    let plan = document("plan --board pi-zero --json");
    assert!(plan["room"]["smallest"]["fit"].as_u64().unwrap() > 10, "{plan}");
    let life = &plan["flash-life-days"];
    assert!(life["idle"].is_null() && life["steady"].as_u64() > life["worst"].as_u64(), "{plan}");
    assert_eq!(document("plan --all --json").as_array().unwrap().len(), BUILT_IN.len());
    // A plan of what does not fit is shown, and refused.
    edit(folder.path(), "#[function.limits]\n#memory = \"64 KiB\"", "[function.limits]\nmemory = \"16 MiB\"");
    let answer = weir(folder.path(), "plan --board pi-zero");
    assert!(answer.code == 78 && answer.out.contains(" too much\n"), "{}", answer.out);
    assert!(
        weir(folder.path(), "plan --all")
            .out
            .lines()
            .any(|line| line.starts_with("pi-zero ") && line.ends_with("does not fit"))
    );
    assert_eq!(weir(folder.path(), "plan --all --board pi-5").code, 64);
}

#[test]
fn init_overwrites_only_when_told() {
    let folder = started();
    edit(folder.path(), "board = \"generic\"", "board = \"pi-5\"");
    let answer = weir(folder.path(), "init");
    assert_eq!(
        (answer.code, answer.err.as_str()),
        (73, "weir init: gateway.toml: is there already; --force overwrites it\n")
    );
    assert_eq!(weir(folder.path(), "init --force").code, 0);
    assert!(fs::read_to_string(folder.path().join("gateway.toml")).unwrap().contains("board = \"generic\""));
    assert_eq!(weir(folder.path(), "init --force --board pi-zero").code, 0);
    assert!(fs::read_to_string(folder.path().join("gateway.toml")).unwrap().contains("board = \"pi-zero\""));
    let answer = weir(folder.path(), "init --force --board pi-zreo");
    assert!(answer.code == 64 && answer.err.contains("`pi-zreo` is none of generic, "), "{}", answer.err);
    assert_eq!(
        weir(folder.path(), "init none/gateway.toml").err,
        "weir init: none/gateway.toml: its folder does not exist\n"
    );
}

#[test]
fn init_finds_the_function_where_the_project_builds_it() {
    let folder = started();
    fs::create_dir(folder.path().join("target")).unwrap();
    fs::rename(folder.path().join("functions"), folder.path().join("target/functions")).unwrap();
    assert_eq!(
        weir(folder.path(), "init --force").out,
        "gateway.toml is written; edit it, then: weir check gateway.toml\n"
    );
    let answer = weir(folder.path(), "check");
    assert_eq!(answer.code, 0, "{}", answer.err);
}

#[test]
fn a_module_that_does_not_load_is_refused_with_its_reason() {
    for (from, to, want) in [
        ("\"weir_abi\"", "\"weir_ab\"", "threshold.wasm: exports no `weir_abi`"),
        ("\"memory\") 1", "\"memory\") 9", "threshold.wasm: wants 576 KiB of memory from the start"),
        (
            "\"on_event\"",
            "\"on_interval\"",
            "threshold.wasm: exports no `on_event`, which a trigger of the function needs",
        ),
    ] {
        let folder = started();
        let module = folder.path().join("functions/threshold/threshold.wasm");
        fs::write(module, wat::parse_str(MODULE.replace(from, to)).unwrap()).unwrap();
        for command in ["check", "run"] {
            let answer = weir(folder.path(), command);
            assert_eq!(answer.code, 78, "{command}");
            let want = format!("gateway.toml: function.threshold.path: functions/threshold/{want}");
            assert!(answer.err.contains(&want), "{}", answer.err);
        }
    }
    let folder = started();
    fs::write(folder.path().join("functions/threshold/threshold.wasm"), "#!/bin/sh\n").unwrap();
    assert!(weir(folder.path(), "check").err.contains("threshold.wasm: not a module that is taken (byte 0: "));
    // What is no file at all is not to be built.
    let folder = started();
    let module = folder.path().join("functions/threshold/threshold.wasm");
    fs::remove_file(&module).unwrap();
    let missing = weir(folder.path(), "check").err;
    assert!(missing.contains("threshold.wasm: no such file; the module has to be built first"), "{missing}");
    fs::create_dir(&module).unwrap();
    let said = weir(folder.path(), "check").err;
    assert!(said.contains("threshold.wasm: is a folder, not a file") && !said.contains("built"), "{said}");
}

#[test]
fn every_key_that_the_starting_file_shows_is_a_key() {
    let folder = started();
    let path = folder.path().join("gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    // `#key = value` and `#[table]` are keys, `# Prose` is not.
    let shown = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    assert!(text.lines().filter(shown).count() > 60);
    let whole: Vec<&str> = text.lines().map(|line| if shown(&line) { &line[1..] } else { line }).collect();
    fs::write(&path, whole.join("\n")).unwrap();
    let answer = weir(folder.path(), "check");
    assert_eq!(answer.code, 78);
    assert!(!answer.err.contains("is not a key") && !answer.err.contains("not TOML"), "{}", answer.err);
    // Files that are not there, TLS beside mqtt://, a meter and a handler that threshold lacks, roll-up without the policy: nothing
    // else is wrong.
    for line in answer.err.lines() {
        let known = [
            "no such file",
            "password-env",
            "is for mqtts://",
            "is not a meter",
            "on_interval",
            "is for full =",
            "refused,",
        ];
        assert!(known.iter().any(|known| line.contains(known)) || line.contains("sink.upstream"), "{line}");
    }
}

#[test]
fn faults_go_to_standard_error_all_at_once_and_exit_with_78() {
    let folder = started();
    edit(folder.path(), "[commit]\n#interval = \"100 ms\"", "[commit]\ninterval = 250\nbytes = 1");
    edit(folder.path(), "functions/threshold", "functions/treshold");
    for command in ["check", "run"] {
        let answer = weir(folder.path(), command);
        assert_eq!(answer.code, 78, "{command}");
        for want in [
            "gateway.toml: commit.interval: is the number 250; wants a duration with its unit, as in \"5 s\"\n",
            "gateway.toml: commit.bytes: is not a key (known: interval, messages-max, bytes-max); did you mean `bytes-max`?\n",
            "gateway.toml: function.treshold.path: functions/treshold/function.toml: no such file",
        ] {
            assert!(answer.err.contains(want), "{command}: {}", answer.err);
        }
    }
    assert!(weir(folder.path(), "check").err.ends_with("gateway.toml: refused, 3 faults\n"));
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_repair() {
    let folder = folder();
    let answer = weir(folder.path(), "check none.toml");
    assert_eq!(answer.code, 78);
    assert!(
        answer.err.starts_with("none.toml: no such file; `weir init none.toml` writes a starting file\n"),
        "{}",
        answer.err
    );
}

#[test]
fn what_does_not_fit_is_refused_with_the_sum_shown() {
    let folder = started();
    edit(folder.path(), "#[function.limits]\n#memory = \"64 KiB\"", "[function.limits]\nmemory = \"16 MiB\"");
    let answer = weir(folder.path(), "check --board pi-zero");
    assert_eq!(answer.code, 78);
    assert!(
        answer.err.contains("gateway.toml: function.threshold.limits.memory: wants 32 MiB (16 MiB for linear memory, 16 MiB for its image, or room to grow); board pi-zero has "),
        "{}",
        answer.err
    );
    assert!(
        answer.out.contains("memory: board pi-zero grants 32 MiB\n") && answer.out.contains(" too much\n"),
        "{}",
        answer.out
    );
}

#[test]
fn json_says_the_same_to_programs() {
    let folder = started();
    let answer = weir(folder.path(), "check --json --board pi-zero-2w");
    let document: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer.code, &document["ok"]), (0, &serde_json::Value::Bool(true)));
    assert_eq!(document["board"]["name"], "pi-zero-2w");
    assert_eq!(document["functions"][0], "threshold");
    for ledger in ["memory", "flash"] {
        let lines = document[ledger]["lines"].as_array().unwrap();
        let sum: u64 = lines.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
        assert_eq!(document[ledger]["total"], sum);
        assert!(sum <= document[ledger]["room"].as_u64().unwrap());
    }
    edit(folder.path(), "type = \"file\"", "type = \"fille\"");
    let answer = weir(folder.path(), "check --json");
    let document: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer.code, &document["ok"]), (78, &serde_json::Value::Bool(false)));
    let fault = document["faults"].as_array().unwrap().iter().find(|fault| fault["severity"] == "refusal").unwrap();
    assert_eq!(fault["key"], "sink.upstream.type");
    assert!(fault["text"].as_str().unwrap().contains("did you mean `file`?"));
}

#[test]
fn a_file_that_is_there_and_no_text_is_not_answered_with_the_wish_for_another() {
    let folder = folder();
    std::fs::write(folder.path().join("gateway.toml"), b"[gateway]\nid = \"\xff\"\n").unwrap();
    let answer = weir(folder.path(), "check");
    assert_eq!(
        (answer.code, answer.err.lines().next()),
        (78, Some("gateway.toml: is not UTF-8 text: byte 17 is not of it"))
    );
    assert!(!answer.err.contains("weir init"), "{}", answer.err);
}

#[test]
fn writes_beyond_what_the_board_grants_are_marked_in_the_plan() {
    let folder = started();
    let answer = weir(folder.path(), "check --board pi-zero");
    let said = |what: &str| answer.out.lines().any(|line| line.contains(what));
    assert!(said("every commit is full; more than the board grants; the flash lasts "), "{}", answer.out);
    assert!(said("no message comes; the flash lasts "), "{}", answer.out);
}

#[test]
fn the_help_names_every_exit_code_that_the_program_has() {
    use weir::shell::cli::{EXIT_CANNOT_CREATE, EXIT_CONFIG, EXIT_DATA, EXIT_FLASH, EXIT_UNAVAILABLE, EXIT_USAGE};
    let folder = folder();
    let all = [EXIT_USAGE, EXIT_DATA, EXIT_UNAVAILABLE, EXIT_CANNOT_CREATE, EXIT_FLASH, EXIT_CONFIG];
    let run = [EXIT_USAGE, EXIT_DATA, EXIT_UNAVAILABLE, EXIT_FLASH, EXIT_CONFIG];
    for (line, codes) in [("--help", &all[..]), ("run --help", &run)] {
        let help = weir(folder.path(), line).out;
        let (_, told) = help.split_once("Exit codes:").unwrap();
        let words: Vec<&str> = told.split([' ', ',', '\n']).collect();
        for code in codes {
            assert!(words.contains(&code.to_string().as_str()), "{line}: {code}: {told}");
        }
    }
}

#[test]
fn what_the_first_steps_of_the_readme_write_is_ignored_by_git() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap();
    for name in ["/gateway.toml", "/weir-data", "/upstream"] {
        assert!(ignored.lines().any(|line| line == name), "{name}");
    }
}

#[test]
fn the_gateway_of_the_simulators_scenario_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let answer = weir(root, "check simulator/scenarios/factory-gateway.toml");
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "cargo xtask functions builds what it names");
}
