//! What only the whole configuration shows.

use crate::texts::*;

/// A function for each (name, chain, emits, keep-prefix), the first with an mqtt trigger as well.
fn chained(functions: &[(&str, &str, &str, &str)]) -> Vec<String> {
    let mut gateway =
        String::from("[broker]\nurl = \"mqtt://localhost\"\n[[sink]]\nname = \"c\"\ntype = \"file\"\ndir = \"d\"\n");
    let mut texts = Texts { host: Some("hall-3"), ..Texts::default() };
    for (index, (name, chain, emits, prefix)) in functions.iter().enumerate() {
        gateway += &format!("[[function]]\npath = \"functions/{name}\"\n[[function.trigger]]\nchain = \"{chain}\"\n");
        if index == 0 {
            gateway += "[[function.trigger]]\nmqtt = \"raw/+\"\n";
        }
        texts = texts.function(name, &format!("emits = [\"{emits}\"]\nkeep-prefix = \"{prefix}\"\n"));
    }
    examine(&texts.with("gateway.toml", &gateway)).1
}

#[test]
fn a_chain_that_comes_back_is_refused_with_its_way() {
    assert!(chained(&[("a", "never", "x/1", "ka/"), ("b", "x/+", "y", "kb/"), ("c", "y", "z", "kc/")]).is_empty());
    const FIX: &str = "; narrow an emits, a keep-prefix or a chain trigger on this way";
    for (functions, want) in [
        (
            vec![("a", "y", "x/1", "ka/"), ("b", "x/+", "y", "kb/")],
            "function.a: chain loop: a emits x/1 -> b emits y -> a",
        ),
        (vec![("a", "x/#", "x/1", "ka/")], "function.a: chain loop: a emits x/1 -> a"),
        (vec![("a", "never", "x", "ka/"), ("b", "x", "w", "")], "function.b: chain loop: b keeps x -> b"),
        (
            vec![("a", "kb/#", "x", "ka/"), ("b", "ka/raw/+", "w", "kb/")],
            "function.a: chain loop: a keeps ka/raw/+ -> b keeps kb/ka/raw/+ -> a",
        ),
    ] {
        assert_eq!(chained(&functions), [format!("gateway.toml: {want}{FIX}")], "{functions:?}");
    }
}

#[test]
fn what_the_gateway_publishes_does_not_come_in_again() {
    let sink = "[[sink]]\nname = \"up\"\ntype = \"mqtt\"\nurl = \"mqtt://LOCALHOST:1883\"\n";
    assert!(faults_with(sink).is_empty());
    let gateway = format!("{SMALL}{sink}").replace("plant/+/temperature", "#");
    refuses(
        &gateway,
        &[
            "gateway.toml: function.mean.trigger[0].mqtt: `#` takes weir/hall-3/#, which sink `up` publishes to the same broker: \
           messages would go round for ever; narrow it, or give the sink another topic-prefix",
        ],
    );
    let elsewhere = gateway.replace("LOCALHOST:1883", "far.example.org");
    assert!(examine(&site(&elsewhere)).1.is_empty());
    let twin = faults_with(&format!("{sink}client-id = \"weir-hall-3\"\n"));
    assert!(twin.len() == 1 && twin[0].contains("sink.up.client-id: is that of [broker]"), "{twin:?}");
}

#[test]
fn emits_that_nobody_takes_are_warned_of() {
    let lane = "[[lane]]\nname = \"a\"\ntopics = [\"alerts/#\"]\n";
    let texts = |emits: &str| site(&format!("{SMALL}{lane}")).function("mean", &format!("emits = [\"{emits}\"]\n"));
    assert!(examine(&texts("alerts/x")).1.is_empty());
    let want = "gateway.toml: warning: function.mean: emits noise/#, which no lane and no chain takes: what it emits there is dropped";
    assert_eq!(examine(&texts("noise/#")).1, [want]);
    let meters = examine(&site(&format!("{SMALL}{lane}"))).1;
    assert!(
        meters.len() == 1 && meters[0].contains("meter/mean.t, which no lane takes: they go to the first lane"),
        "{meters:?}"
    );
}

#[test]
fn two_gateways_of_one_name_are_warned_of() {
    let mut texts = site(SMALL);
    texts.host = Some("raspberrypi");
    let (_, faults) = examine(&texts);
    assert!(faults.len() == 1 && faults[0].contains("warning: gateway.id: is not given, and many hosts"), "{faults:?}");
    texts.host = None;
    let (_, faults) = examine(&texts);
    assert!(faults[0].contains("gateway.id: is missing, and the host has no name"), "{faults:?}");
}

#[test]
fn filters_of_which_a_broker_may_deliver_a_message_twice_are_refused_with_the_filter_that_covers_them() {
    let two = |first: &str, second: &str, subscribe: &str| {
        let gateway =
            SMALL.replace("plant/+/temperature", first).replace("[broker]", &format!("[broker]\n{subscribe}"));
        let gateway = format!("{gateway}[[function]]\npath = \"functions/mean\"\nname = \"b\"\n[[function.trigger]]\n");
        examine(&site(&format!("{gateway}mqtt = \"{second}\"\n"))).1
    };
    const TWICE: &str = "a broker may deliver a message of both twice, and it would be counted twice";
    for (first, second, subscribe, want) in [
        ("press/+/v", "press/#", "", None),
        ("press/+/v", "pump/+/v", "", None),
        ("press/+/v", "+/p1/v", "subscribe = [\"+/+/v\"]", None),
        ("$share/g/press/+/v", "$share/g/+/p1/v", "subscribe = \"$share/g/#\"", None),
        (
            "press/+/v",
            "+/p1/v",
            "",
            Some(format!(
                "function.b.trigger[0].mqtt: `+/p1/v` overlaps `press/+/v` (function.mean.trigger[0].mqtt) and neither \
                 covers the other: {TWICE}; add subscribe = [\"+/+/v\"] to [broker] (its messages all come in), or narrow one"
            )),
        ),
        (
            "$share/g/press/#",
            "press/p1/v",
            "",
            Some(format!(
                "function.b.trigger[0].mqtt: `press/p1/v` overlaps `$share/g/press/#` (function.mean.trigger[0].mqtt) and \
                 neither covers the other: {TWICE}; put both into one share group, or narrow one"
            )),
        ),
        (
            "press/+/v",
            "pump/+/v",
            "subscribe = [\"press/#\", \"hall/#\"]",
            Some(String::from("broker.subscribe: `hall/#` covers the filter of no mqtt trigger; leave it out")),
        ),
        (
            "press/+/v",
            "pump/+/v",
            "subscribe = [\"press/#\", \"+/+/v\"]",
            Some(format!(
                "broker.subscribe: `+/+/v` overlaps `press/#` (broker.subscribe) and neither covers the other: {TWICE}; add \
                 subscribe = [\"+/#\"] to [broker] (its messages all come in), or narrow one"
            )),
        ),
    ] {
        let want: Vec<String> = want.map(|text| format!("gateway.toml: {text}")).into_iter().collect();
        assert_eq!(two(first, second, subscribe), want, "{first} {second} {subscribe}");
    }
    let long = SMALL.replace("plant/+/temperature", &"x".repeat(1025));
    let want = "gateway.toml: function.mean.trigger[0].mqtt: has 1025 bytes; 1024 are taken";
    assert_eq!(examine(&site(&long)).1, [want]);
    let many: Vec<String> = (10..40).map(|number| format!("mqtt = \"{number}{}\"\n", "x".repeat(600))).collect();
    let many = SMALL.replace("mqtt = \"plant/+/temperature\"\n", &many.join("[[function.trigger]]\n"));
    let want = "gateway.toml: function: the filters of all mqtt triggers have 18060 bytes; 16384 are taken";
    assert_eq!(examine(&site(&many)).1, [want]);
}
