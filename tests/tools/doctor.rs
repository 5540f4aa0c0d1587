//! `weir doctor`: real connections, real certificates, real disks.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use super::disk::Mount;
use super::support::broker::{Broker, Conf, free_port};
use super::support::certs::{Authority, Validity};
use super::support::gateway::Gateway;
use super::support::guests::Guest;
use super::{function, head, tool};

/// Keeps everything.
const KEEP: Guest =
    Guest { name: "keep", body: r#"(func (export "on_event") (param i32) (result i32) (i32.const 1))"#, manifest: "" };
const FILES: &str = "[[sink]]\nname = \"disk\"\ntype = \"file\"\ndir = \"upstream\"\n";

fn gateway(config: &str) -> Gateway {
    let gateway = Gateway::new(config);
    KEEP.install(&gateway);
    gateway
}

/// Exit code, and the level and text of a finding.
fn doctor(gateway: &Gateway) -> (i32, impl Fn(&str) -> (String, String) + use<>) {
    let answer = tool(gateway, "doctor --json");
    let document = answer.json();
    let said = document.to_string();
    let find = move |what: &str| {
        let findings = document["findings"].as_array().unwrap();
        let found: Vec<&Value> = findings.iter().filter(|finding| finding["what"] == what).collect();
        assert_eq!(found.len(), 1, "{what}: {said}");
        let text = |key: &str| found[0][key].as_str().unwrap().to_owned();
        assert!(found[0]["level"] != "failure" || !text("fix").is_empty(), "a failure names its fix");
        (text("level"), text("text"))
    };
    (answer.code, find)
}

#[test]
fn a_sound_site_is_all_ok_beside_a_running_gateway_whose_session_it_leaves_alone() {
    let broker = Broker::start(&Conf::wide());
    let mut gateway = gateway(&(head(&broker.url()) + &function("keep") + FILES));
    let (code, find) = doctor(&gateway);
    assert_eq!((code, find("store").0.as_str(), find("gateway").0.as_str()), (0, "ok", "ok"));
    gateway.start();
    gateway.wait_for("a connection", |numbers| numbers.get("broker_up") == 1.0);
    let (code, find) = doctor(&gateway);
    for what in [
        "config",
        "clock",
        "disk room",
        "disk writes",
        "store",
        "gateway",
        "memory",
        "broker",
        "broker session",
        "sink disk",
    ] {
        assert_eq!(find(what).0, "ok", "{what}: {}", find(what).1);
    }
    assert_eq!(code, 0);
    assert!(find("broker").1.contains("MQTT 5"), "{}", find("broker").1);
    let text = tool(&gateway, "doctor");
    assert!(text.code == 0 && text.out.ends_with("10 ok, 0 warnings, 0 failures\n"), "{}", text.out);
    assert_eq!(gateway.numbers().unwrap().get("broker_connections_total"), 1.0, "the gateway was not thrown out");
}

#[test]
fn what_does_not_answer_is_a_failure_with_its_fix() {
    let sink = format!("[[sink]]\nname = \"cloud\"\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n", free_port());
    let refused = format!("mqtt://127.0.0.1:{}", free_port());
    let gateway = gateway(&(head(&refused) + &function("keep") + &sink));
    let (code, find) = doctor(&gateway);
    assert_eq!(code, 2);
    for what in ["broker", "sink cloud"] {
        let (level, text) = find(what);
        assert!(level == "failure" && text.contains("refuses connections"), "{what}: {text}");
    }
    let text = tool(&gateway, "doctor").out;
    assert!(text.contains("-> start it, or correct the url"), "{text}");
    // A configuration with faults is examined all the same.
    gateway.configure(&(head(&refused) + "[health]\nlane-percent = 200\n" + &function("keep") + &sink));
    let (code, find) = doctor(&gateway);
    let (level, text) = find("config");
    assert!(code == 2 && level == "failure" && text.contains("health.lane-percent"), "{text}");
    assert_eq!(find("broker").0, "failure");
}

#[test]
fn certificates_are_counted_in_days() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let server = authority.sign(folder.path(), "server", Validity::Soon);
    let client = authority.sign(folder.path(), "client", Validity::Expired);
    let broker = Broker::start(&Conf { tls: Some(server), ..Conf::wide() });
    let tls = format!(
        "[broker.tls]\nca-file = \"{}\"\ncert-file = \"{}\"\nkey-file = \"{}\"\nserver-name = \"localhost\"\n",
        authority.file.display(),
        client.0.display(),
        client.1.display()
    );
    let url = format!("mqtts://127.0.0.1:{}", broker.port());
    let gateway = gateway(&(head(&url) + &tls + &function("keep") + FILES));
    let (code, find) = doctor(&gateway);
    assert_eq!(code, 2);
    let (level, text) = find("broker server certificate");
    assert!(level == "warning" && text.contains("expires in 10 days"), "{text}");
    let (level, text) = find("broker cert-file");
    assert!(level == "failure" && text.contains("client.crt: expired on 2021-02-03"), "{text}");
    assert_eq!(find("broker ca-file").0, "ok");
    assert!(find("broker").1.contains("TLS"), "{}", find("broker").1);
}

/// Answers every CONNECT as new, as a broker without sessions does.
fn forgetful() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 1024];
            if stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(&[0x20, 3, 0, 0, 0]);
                // Until the DISCONNECT.
                let _ = stream.read(&mut bytes);
            }
        }
    });
    port
}

#[test]
fn a_broker_that_forgets_sessions_is_warned_of() {
    let gateway = gateway(&(head(&format!("mqtt://127.0.0.1:{}", forgetful())) + &function("keep") + FILES));
    let (code, find) = doctor(&gateway);
    let (level, text) = find("broker session");
    assert!(code == 1 && level == "warning" && text.contains("is forgotten at once"), "{code} {text}");
}

#[test]
fn a_read_only_medium_is_a_failure() {
    let broker = Broker::start(&Conf::wide());
    let config =
        head(&broker.url()).replace("[broker]", "data-dir = \"disk/data\"\n[broker]") + &function("keep") + FILES;
    let gateway = gateway(&config);
    let Some(mount) = Mount::memory(&gateway.path("disk")) else {
        eprintln!("skipped: file systems may not be mounted here");
        return;
    };
    mount.make_read_only();
    let (code, find) = doctor(&gateway);
    let (level, text) = find("disk");
    assert!(code == 2 && level == "failure" && text.contains("mounted read-only"), "{text}");
}
