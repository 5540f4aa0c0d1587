//! `docs/functions.md` is true: its commands are run, word for word, and what they print is what it says.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::broker::free_port;
use super::support::gateway::PATIENCE;

/// Said by the script between two blocks.
const MARK: &str = "=== the end of a block ===";

/// A block of commands, and what it prints.
struct Block {
    commands: String,
    prints: Vec<String>,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut kind = None;
    for line in document.lines() {
        match (kind, line) {
            (None, "```sh") => {
                kind = Some("sh");
                blocks.push(Block { commands: String::new(), prints: Vec::new() });
            }
            (None, "```text") => kind = Some("text"),
            (None, fence) if fence.starts_with("```") => kind = Some("other"),
            (Some(_), "```") => kind = None,
            (Some("sh"), line) => blocks.last_mut().unwrap().commands += &format!("{line}\n"),
            (Some("text"), line) => blocks.last_mut().unwrap().prints.push(line.trim().to_owned()),
            _ => {}
        }
    }
    blocks
}

/// Whether the pieces of `pattern` between its dots stand in `line`, in order.
fn fits(pattern: &str, line: &str) -> bool {
    let mut rest = line.trim();
    pattern.split('…').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn the_guide_is_true_word_for_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/functions.md")).unwrap();
    let blocks = blocks(&document);
    assert!(blocks.len() >= 8 && blocks.iter().filter(|block| !block.prints.is_empty()).count() >= 8);
    if Command::new("mosquitto_pub").arg("--help").output().is_err() {
        eprintln!("\nNOT TESTED: docs/functions.md, for want of mosquitto_pub: apt-get install mosquitto-clients\n");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // Whatever happens, nothing of it stays behind.
    let mut script = "set -e\ntrap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n".to_owned();
    for block in &blocks {
        script += &format!("{}\necho '{MARK}'\n", block.commands);
    }
    // Somebody may have a broker here already.
    let port = free_port().to_string();
    fs::write(
        place.path().join("script"),
        script.replace("1883", &port).replace("mosquitto_pub", &format!("mosquitto_pub -p {port}")),
    )
    .unwrap();
    let path = std::env::var("PATH").unwrap();
    let weir = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
    let out = fs::File::create(place.path().join("out")).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("script").current_dir(place.path()).env("PATH", format!("{}:{path}:/usr/sbin", weir.display()));
    bash.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out).env_remove("JOURNAL_STREAM");
    let mut child = bash.spawn().unwrap();
    let until = Instant::now() + 5 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if until < Instant::now() {
            super::support::process::signal("TERM", child.id());
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let said = fs::read_to_string(place.path().join("out")).unwrap();
    let log = fs::read_to_string(place.path().join("gateway.log")).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{said}\n{log}");
    let parts: Vec<&str> = said.split(MARK).collect();
    assert_eq!(parts.len(), blocks.len() + 1, "{said}");
    for (block, printed) in blocks.iter().zip(parts) {
        let mut lines = printed.lines();
        for pattern in &block.prints {
            assert!(
                lines.any(|line| fits(pattern, line)),
                "no line `{pattern}` (in this order) of:\n{}\nprints:\n{printed}",
                block.commands
            );
        }
    }
}
