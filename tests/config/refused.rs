//! What one place of a file gets wrong, and the words that say so.

use crate::texts::*;

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    for (added, want) in [
        (
            "[brokr]\n",
            "gateway.toml: brokr: is not a key (known: gateway, broker, store, commit, health, function, sink, lane); did you mean `broker`?",
        ),
        (
            "[commit]\nintervall = \"1 s\"\n",
            "gateway.toml: commit.intervall: is not a key (known: interval, messages-max, bytes-max); did you mean `interval`?",
        ),
        (
            "files_max = 3\n",
            "gateway.toml: sink.cloud.files_max: is not a key (known: name, format, type, dir, file-bytes-max, files-max); did you mean `files-max`?",
        ),
    ] {
        assert_eq!(faults_with(added), [want], "{added}");
    }
    let trigger = SMALL.replace("[[sink]]", "[function.meter.tt]\nwindow = \"1 s\"\n[[sink]]");
    refuses(
        &trigger,
        &["gateway.toml: function.mean.meter.tt: is not a meter of this function's manifest; did you mean `t`?"],
    );
    let board = format!("[gateway]\nboard = \"pi-zero2w\"\n{SMALL}");
    let (_, faults) = examine(&site(&board));
    assert!(faults[0].ends_with("did you mean `pi-zero-2w`?"), "{faults:?}");
}

#[test]
fn an_empty_file_says_what_is_missing() {
    refuses(
        "",
        &[
            "gateway.toml: broker.url: is missing; write url = \"mqtt://HOST:1883\", or \"mqtts://HOST:8883\" for TLS",
            "gateway.toml: function: is missing: a gateway has at least one; write [[function]] with path and trigger",
            "gateway.toml: warning: sink: there is none: records stay on flash until they expire or make room",
        ],
    );
}

#[test]
fn faults_of_all_files_come_together() {
    let gateway = SMALL
        .replace("localhost", "localhost:x")
        .replace("[[sink]]", "[function.limits]\nmemory = 7\n[[sink]]")
        + "[[function]]\npath = \"functions/other\"\n[[function]]\npath = \"functions/bad\"\n[[function.trigger]]\nmqtt = \"a/#/b\"\n";
    let texts = site(&gateway).function("bad", "emit = [\"a\"]\n[[meter]]\nname = \"x\"\n");
    let (_, faults) = examine(&texts);
    let starts = [
        "gateway.toml: broker.url: has no port number",
        "gateway.toml: function.mean.limits.memory: is the number 7; wants a size with its unit",
        "gateway.toml: function.other.path: functions/other/function.toml: no such file",
        "gateway.toml: function.other.trigger: is missing",
        "functions/bad/function.toml: meter.x.kind: is missing",
        "functions/bad/function.toml: emit: is not a key; did you mean `emits`?",
        "gateway.toml: function.bad.trigger[0].mqtt: `a/#/b` has `#` before the last level",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}\n{start}");
    }
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    let (plan, faults) = examine(&site("[broker]\nurl = mqtt\n"));
    assert!(plan.is_none() && faults[0].starts_with("gateway.toml: line 2, column 7: not TOML: "), "{faults:?}");
}

#[test]
fn a_missing_file_is_named() {
    let (plan, faults) = examine(&Texts::default());
    assert!(plan.is_none());
    assert_eq!(faults, ["gateway.toml: no such file; `weir init gateway.toml` writes a starting file"]);
    let mut texts = site(SMALL);
    texts.files.remove("functions/mean/mean.wasm");
    let (_, faults) = examine(&texts);
    let want =
        "gateway.toml: function.mean.path: functions/mean/mean.wasm: no such file; the module has to be built first";
    assert_eq!(faults, [want]);
}

#[test]
fn passwords_are_never_taken_from_the_file_nor_printed() {
    for (line, want) in [
        ("password = \"hunter2\"", "broker.password: is not taken here"),
        ("passwrd = \"hunter2\"", "broker.passwrd: is not a key"),
        (
            "password-env = \"WEIR_PASSWORD\"",
            "warning: broker.password-env: the environment has no `WEIR_PASSWORD` here",
        ),
        ("password-file = \"none\"", "broker.password-file: none: no such file"),
        (
            "password-file = \"open\"",
            "warning: broker.password-file: open has mode 644, so that others may read it; chmod 600 open",
        ),
    ] {
        let gateway = SMALL.replace("[broker]", &format!("[broker]\n{line}"));
        let (_, faults) = examine(&site(&gateway).with("open", "x").mode("open", 0o100_644));
        assert!(faults.len() == 1 && faults[0].contains(want), "{line}: {faults:#?}");
        assert!(!faults[0].contains("hunter2"));
    }
    let gateway = SMALL.replace("mqtt://localhost", "mqtt://me:hunter2@localhost");
    let (_, faults) = examine(&site(&gateway));
    assert!(faults[0].contains("password-file = ") && !faults[0].contains("hunter2"), "{faults:?}");
    let gateway = SMALL.replace("mqtt://localhost\"", "mqtt://far.example.org\"\npassword-file = \"closed\"");
    let (_, faults) = examine(&site(&gateway).with("closed", "x").mode("closed", 0o100_600));
    assert!(faults.len() == 1 && faults[0].contains("in clear over the network"), "{faults:?}");
}

#[test]
fn tls_wants_what_it_needs_and_nothing_else() {
    let tls = |url: &str, lines: &str| {
        let gateway = SMALL.replace("url = \"mqtt://localhost\"", &format!("url = \"{url}\"\n[broker.tls]\n{lines}"));
        examine(&site(&gateway).with("a.pem", "")).1
    };
    for (url, lines, want) in [
        ("mqtts://b", "", "broker.tls.ca-file: is missing: mqtts:// needs the certificates to trust"),
        ("mqtts://b", "ca-file = \"none.pem\"", "broker.tls.ca-file: none.pem: no such file"),
        ("mqtts://b", "ca-file = \"a.pem\"\ncert-file = \"a.pem\"", "broker.tls.key-file: is missing"),
        ("mqtts://b", "ca-file = \"a.pem\"\nkey-file = \"a.pem\"", "broker.tls.cert-file: is missing"),
        ("mqtt://b", "ca-file = \"a.pem\"", "broker.tls: is for mqtts://; the url says mqtt://"),
    ] {
        let faults = tls(url, lines);
        assert!(faults.len() == 1 && faults[0].contains(want), "{url} {lines}: {faults:#?}");
    }
    assert!(tls("mqtts://b", "ca-file = \"a.pem\"").is_empty());
}

#[test]
fn names_are_unique_lanes_know_their_sinks_and_sizes_are_possible() {
    for (added, want) in [
        (
            "[[function]]\npath = \"functions/mean\"\n[[function.trigger]]\nmqtt = \"b\"\n",
            "function.mean.name: is the name of two functions",
        ),
        ("[[sink]]\nname = \"cloud\"\ntype = \"file\"\ndir = \"x\"\n", "sink.cloud.name: is the name of two sinks"),
        (
            "[[lane]]\nname = \"a\"\ntopics = [\"#\"]\n[[lane]]\nname = \"a\"\ntopics = [\"#\"]\n",
            "lane.a.name: is the name of two lanes",
        ),
        (
            "[[lane]]\nname = \"a\"\ntopics = [\"#\"]\nsink = \"clod\"\n",
            "lane.a.sink: no [[sink]] has the name `clod`; did you mean `cloud`?",
        ),
        ("[[lane]]\nname = \"A b\"\ntopics = [\"#\"]\n", "lane.A b.name: `A b` is not a name"),
        ("[[lane]]\nname = \"a\"\n", "lane.a.topics: is missing"),
        (
            "[[lane]]\nname = \"a\"\ntopics = [\"#\"]\nbytes-max = \"100 KiB\"\n",
            "lane.a.bytes-max: wants 100 KiB; at least 1 MiB is taken",
        ),
        (
            "[[lane]]\nname = \"a\"\ntopics = [\"#\"]\nfull = \"roll-up\"\nbytes-max = \"4 MiB\"\n",
            "lane.a.bytes-max: wants at least 8 MiB where full is \"roll-up\": 16 times store.segment-bytes",
        ),
        (
            "[[lane]]\nname = \"a\"\ntopics = [\"#\"]\nfull = \"roll-up\"\nroll-up = [\"1 min\", \"90 s\"]\n",
            "lane.a.roll-up: wants 1 to 8 lengths from \"1 s\" on, each a multiple of the one before",
        ),
        (
            "[[lane]]\nname = \"a\"\ntopics = [\"#\"]\nroll-up = [\"1 min\"]\n",
            "lane.a.roll-up: is for full = \"roll-up\"",
        ),
        ("[store]\nsegment-bytes = \"65 KiB\"\n", "store.segment-bytes: wants 65 KiB; multiples of 4 KiB are taken"),
        (
            "[[lane]]\nname = \"dead-letter\"\nfull = \"reject\"\n",
            "lane.dead-letter.full: is \"reject\": a poison message would come back for ever",
        ),
    ] {
        let faults = faults_with(added);
        assert!(faults.iter().any(|fault| fault.contains(want)), "{added}: {faults:#?}");
    }
}

#[test]
fn a_trigger_is_one_thing() {
    let trigger = |lines: &str| {
        let gateway = SMALL.replace("mqtt = \"plant/+/temperature\"", lines);
        examine(&site(&gateway)).1
    };
    for (lines, want) in [
        ("", "trigger[0]: has none of mqtt, chain and interval; it wants one"),
        ("mqtt = \"a\"\nchain = \"b\"", "trigger[0]: has mqtt and chain; it wants one of them"),
        ("interval = \"1 s\"\nqos = 1", "trigger[0].qos: is not a key"),
        ("interval = \"1 ms\"", "trigger[0].interval: wants 1 ms; at least 10 ms is taken"),
        ("chain = \"$share/g/a\"", "trigger[0].chain: is within this gateway"),
        ("mqtt = \"a\"\nqos = 3", "trigger[0].qos: is 3; wants a whole number from 0 to 2"),
        ("mqtt = \"a\"\ndevice = \"level:1\"", "trigger[0].device: `level:1` is none of"),
        ("mqtt = \"a\"\ntime-unit = \"ms\"", "trigger[0].time-unit: has no time-field"),
        ("mqtt = \"a\"\ntime-field = \"a[\"", "trigger[0].time-field: "),
        (
            "mqtt = \"a\"\ncodec = \"raw\"\ntime-field = \"a\"",
            "trigger[0].time-field: names a field; codec = \"raw\" has none",
        ),
        (
            "mqtt = \"a\"\nfilter = { payload = { t = [{ numeric = [\"=>\", 1] }] } }",
            "trigger[0].filter.payload.t[0].numeric",
        ),
        (
            "mqtt = \"a\"\ncodec = \"raw\"\nfilter = { payload = { t = [1] } }",
            "trigger[0].filter: looks into the payload",
        ),
        (
            "mqtt = \"a\"\nqos = 0",
            "warning: function.mean.trigger[0].qos: is 0 for `a`: what is lost on the way is missing",
        ),
    ] {
        let faults = trigger(lines);
        assert!(faults.iter().any(|fault| fault.contains(want)), "{lines}: {faults:#?}");
    }
}

#[test]
fn a_setting_that_the_manifest_does_not_declare_is_refused_and_one_of_a_manifest_without_any_is_the_sites_own() {
    let gateway = SMALL.replace("[[sink]]", "[function.config]\nhihg = 30\n[[sink]]");
    let declaring = |manifest: &str| examine(&site(&gateway).function("mean", &format!("{MEAN}{manifest}"))).1;
    assert_eq!(
        declaring("[config]\nhigh = 20\nlow = 10\n"),
        [
            "gateway.toml: function.mean.config.hihg: is not a setting of this function's manifest (known: high, low); did you mean `high`?"
        ]
    );
    assert_eq!(declaring(""), [""; 0]);
    assert_eq!(declaring("[config]\nhihg = 20\n"), [""; 0]);
}

#[test]
fn control_characters_of_a_file_are_not_printed_as_they_are() {
    let gateway = SMALL
        .replace("path = \"functions/mean\"", "path = \"nope\\u001b[31m\"")
        .replace("[broker]", "\"\\u001b]0;x\\u0007\" = 1\n[broker]\n\"a\\nb\" = 1");
    let (_, faults) = examine(&site(&gateway));
    assert!(faults.len() >= 3, "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains("nope\\u{1b}[31m")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains("broker.a\\nb: is not a key")), "{faults:#?}");
    assert!(faults.iter().all(|fault| !fault.chars().any(char::is_control)), "{faults:#?}");
}
