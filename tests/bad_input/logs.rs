//! What devices, functions, brokers and files write into lines of the log: escaped, bounded, and one line each.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use super::support::fake::{Fake, Raw};
use super::support::gateway::Gateway;
use super::support::guests::{Guest, METER};
use super::{settled, unconnected, wait_for_subscription};

/// What a terminal, or a reader of lines, would obey.
const HOSTILE: &str = "a\n23:59:59.999 ERROR forged\r\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}\u{2028}<2>b";
/// Longer than any line of ours: the time, a name, the cut text, its mark.
const LINE_BYTES_MAX: usize = 2048 + 64;

/// Logs the payload as it is, then aborts with it.
const ECHO: Guest = Guest {
    name: "echo",
    body: r#"
  (import "weir1" "want" (func $want (param i32) (result i32)))
  (import "weir1" "log" (func $log (param i32 i32 i32)))
  (import "weir1" "abort" (func $abort (param i32 i32)))
  (func (export "on_start") (result i32) (call $want (i32.const 7)))
  (func $"\1b[2J\nforged" (param $ev i32)
    (call $log (i32.const 1) (i32.load offset=32 (local.get $ev)) (i32.load offset=36 (local.get $ev)))
    (call $abort (i32.load offset=32 (local.get $ev)) (i32.load offset=36 (local.get $ev))))
  (func (export "on_event") (param $ev i32) (result i32) (call $"\1b[2J\nforged" (local.get $ev)) (i32.const 0))"#,
    manifest: "version = \"1\\u001b[2J\"\n[limits]\nlog = \"16 KiB\"\n",
};

fn assert_clean(log: &str) {
    for line in log.lines() {
        let odd = line.chars().find(|c| weir::printable::is_escaped(*c));
        assert!(odd.is_none(), "{odd:?} in {line:?}");
        assert!(line.len() <= LINE_BYTES_MAX, "{} bytes: {line}", line.len());
        let time: Vec<&str> = line.split([':', '.', ' ']).take(4).collect();
        let digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
        assert!(time.len() == 4 && time.iter().all(digits), "not a line of ours: {line:?}");
        assert!(!line.starts_with("23:59:59.999 ERROR forged"), "{line:?}");
    }
}

#[test]
fn what_devices_and_functions_write_stays_on_its_line_and_is_cut() {
    let hostile = format!("site/{HOSTILE}/temp");
    let long = format!("site/{}/temp", "\u{1b}ü".repeat(20_000));
    let cases: [(&str, &[u8]); 5] = [
        (&hostile, b"not json"),
        (&long, b"not json"),
        ("echo/x", HOSTILE.as_bytes()),
        ("echo/\u{1b}[31m", &[0xff, 0x1b, b'\n', 0x9b]),
        ("echo/long", &[0x1b; 900]),
    ];
    let mut publishes: Vec<Raw> = (1..)
        .zip(cases)
        .map(|(packet_id, (topic, payload))| Raw {
            packet_id,
            topic: topic.as_bytes().to_vec(),
            payload: payload.to_vec(),
        })
        .collect();
    publishes.push(Raw {
        packet_id: 40,
        topic: format!("si\u{1b}te/{HOSTILE}").into_bytes(),
        payload: vec![b'x'; 300_000],
    });
    // Not UTF-8 at all.
    publishes.push(Raw { packet_id: 41, topic: b"site/\xff\x1b[2J\n/temp".to_vec(), payload: b"1".to_vec() });
    let fake = Fake::start(&publishes);
    let site = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"#\"\nfilter = { topic = [{ prefix = \"si\" }] }\n\
                [[function]]\npath = \"echo\"\nreport = true\n[[function.trigger]]\nmqtt = \"echo/#\"\ncodec = \"raw\"\n";
    let mut gateway = unconnected(&format!("mqtt://127.0.0.1:{}", fake.port), site);
    METER.install(&gateway);
    ECHO.install(&gateway);
    gateway.start();
    wait_for_subscription(&mut gateway);
    fake.wait_until_acknowledged();
    let (ledger, _) = settled(&mut gateway, publishes.len());
    let log = gateway.log();
    assert_clean(&log);
    for part in [
        "dead letter (malformed) on site/a\\n23:59",
        "\\u{1b}[2J",
        "\\u{202e}",
        "REPORT ",
        "echo: a\\n23:59",
        "dead letter (abort)",
    ] {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
    // What goes upstream is whole, and a line each.
    assert!(ledger.dead_letters().len() >= 6);
    let whole = ledger
        .records
        .iter()
        .any(|record| record.fields.get("message_topic").is_some_and(|topic| *topic == hostile.as_str()));
    assert!(whole, "the topic itself is kept as it came");
}

/// A broker that answers CONNECT with a refusal in its own words, or with a welcome and then a DISCONNECT in its own words.
fn wordy(refuses: bool, words: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let words = words.as_bytes().to_vec();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let varint = |len: usize| vec![len as u8 & 0x7f | 0x80, (len >> 7) as u8 & 0x7f | 0x80, (len >> 14) as u8];
        let property = [&[0x1f][..], &u16::try_from(words.len()).unwrap().to_be_bytes(), &words].concat();
        let properties = [varint(property.len()), property].concat();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let mut answer = Vec::new();
            if refuses {
                let body = [&[0, 0x87][..], &properties].concat();
                answer.extend([&[0x20][..], &varint(body.len()), &body].concat());
            } else {
                answer.extend([0x20, 3, 0, 0, 0]);
                let body = [&[0x98][..], &properties].concat();
                answer.extend([&[0xe0][..], &varint(body.len()), &body].concat());
            }
            let _ = stream.write_all(&answer);
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    port
}

#[test]
fn a_brokers_own_words_stay_on_their_line_and_are_cut() {
    let words = format!("{HOSTILE}{}", "\u{1b}[5m".repeat(12_000));
    for (refuses, part) in [(true, "not authorised"), (false, "administrative action")] {
        let port = wordy(refuses, &words);
        let site = "[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"site/+/temp\"\n";
        let mut gateway = unconnected(&format!("mqtt://127.0.0.1:{port}"), site);
        METER.install(&gateway);
        gateway.start();
        gateway.wait_for_log(part);
        assert!(gateway.stop().success(), "{}", gateway.log());
        let log = gateway.log();
        assert_clean(&log);
        assert!(log.contains("forged"), "its words are told, in ours: {log}");
    }
}

#[test]
fn a_hostile_configuration_manifest_or_module_is_told_on_plain_lines() {
    let odd = "\"x\\u001b[2J\\nforged: all is well\\u202e\" = 1\n";
    for (gateway_toml, manifest, part) in [
        (odd.to_owned(), String::new(), "is not a key"),
        (format!("[gateway]\nid = \"a\\u001b[2J\"\n{odd}"), String::new(), "letters, digits"),
        ("board = \"\\u001b[2J\"\n[gateway]\nboard = \"\\u001b]0;x\\u0007\"\n".to_owned(), String::new(), "is none of"),
        (String::new(), odd.to_owned(), "is not a key"),
        (String::new(), "module = \"../\\u001b[2J\"\n".to_owned(), "leaves the manifest's folder"),
        (
            String::new(),
            format!("emits = [\"a\\u001b/#/\\n\"]\n{}", "k".repeat(100_000) + " = 1\n"),
            "before the last level",
        ),
    ] {
        let gateway = Gateway::new(&format!(
            "{gateway_toml}[broker]\nurl = \"mqtt://x\"\n[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"a\"\n"
        ));
        METER.install(&gateway);
        let file = gateway.path("meter/function.toml");
        let whole = format!("name = \"meter\"\n{manifest}");
        fs::write(&file, whole).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["check", "gateway.toml"])
            .current_dir(gateway.path(""))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(part), "{said}");
        for line in said.lines() {
            assert!(!line.chars().any(weir::printable::is_escaped) && line.len() < 8192, "{line:?}");
            assert!(line.contains(": ") && !line.starts_with("forged"), "{line:?}");
        }
    }
}

/// What is named as a file of the configuration, and is none, is refused at once: a pipe would be waited for, and a device has no end.
#[test]
fn pipes_and_devices_are_no_files_of_a_configuration() {
    let gateway = Gateway::new(
        "[broker]\nurl = \"mqtt://x\"\n[[function]]\npath = \"meter\"\n[[function.trigger]]\nmqtt = \"a\"\n",
    );
    METER.install(&gateway);
    let check = |file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["check", file])
            .current_dir(gateway.path(""))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let pipe = gateway.path("pipe.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in ["/dev/zero", "pipe.toml"] {
        let (code, said) = check(file);
        assert!(code == Some(78) && said.contains("is not an ordinary file"), "{file}: {said}");
    }
    for name in ["meter/meter.wasm", "meter/function.toml"] {
        let file = gateway.path(name);
        let kept = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        let (code, said) = check("gateway.toml");
        assert!(code == Some(78) && said.contains("is not an ordinary file"), "{name}: {said}");
        fs::remove_file(&file).unwrap();
        fs::write(&file, kept).unwrap();
    }
}
