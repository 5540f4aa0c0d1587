//! What patterns match, and what is refused, as tables.

use serde_json::json;

use super::*;
use crate::field::Codec;

fn bound(pattern: &Pattern) -> (Paths, BoundPattern) {
    let mut paths = Paths::new();
    let bound = pattern.bind(&mut paths).unwrap();
    (paths, bound)
}

fn matches_bytes(pattern: &serde_json::Value, codec: Codec, payload: &[u8]) -> bool {
    let (paths, pattern) = bound(&Pattern::parse(pattern).unwrap_or_else(|faults| panic!("{pattern}: {faults:?}")));
    let mut fields = Fields::new();
    paths.scan(codec, payload, &mut fields).unwrap();
    pattern.matches(&fields, payload, "plant/hall-1/boiler", "boiler-1")
}

fn matches(pattern: &serde_json::Value, payload: &str) -> bool {
    matches_bytes(pattern, Codec::Json, payload.as_bytes())
}

#[test]
fn an_entry_holds_for_a_value_or_not() {
    for (entry, value, want) in [
        (json!("on"), "\"on\"", true),
        (json!("on"), "\"on \"", false),
        (json!("on"), r#""o\u006e""#, true),
        (json!("on"), "\"ON\"", false),
        (json!(""), "\"\"", true),
        (json!("1"), "1", false),
        (json!(1), "\"1\"", false),
        (json!(1), "1.0", true),
        (json!(1.0), "1", true),
        (json!(0.1), "1e-1", true),
        (json!(9_007_199_254_740_993_i64), "9007199254740993", true),
        (json!(9_007_199_254_740_993_i64), "9007199254740992", false),
        (json!(1e300), "1e300", true),
        // Nearest to a whole number is not that number (found by `fuzz::filters`).
        (json!(0), "1e-400", false),
        (json!(-0.0), "1e-5582300000093022", false),
        (json!(1), "0.99999999999999999999", false),
        (json!({"anything-but": [0]}), "1e-400", true),
        (json!(-0.0), "0", true),
        (json!(true), "true", true),
        (json!(true), "false", false),
        (json!(true), "1", false),
        (json!(null), "null", true),
        (json!(null), "0", false),
        (json!({"numeric": [">", 20]}), "20.5", true),
        (json!({"numeric": [">", 20]}), "20", false),
        (json!({"numeric": [">=", 20]}), "20", true),
        (json!({"numeric": ["<", -1.5]}), "-2", true),
        (json!({"numeric": [">", 0, "<=", 5]}), "5", true),
        (json!({"numeric": ["<=", 5, ">", 0]}), "0", false),
        (json!({"numeric": ["=", 5]}), "5.0", true),
        (json!({"numeric": [">", 20]}), "\"21\"", false),
        (json!({"numeric": [">", 20]}), "null", false),
        (json!({"prefix": "boil"}), "\"boiler\"", true),
        (json!({"prefix": "boil"}), r#""\u0062oiler""#, true),
        (json!({"prefix": "boil"}), "\"boi\"", false),
        (json!({"prefix": ""}), "\"\"", true),
        (json!({"prefix": ""}), "7", false),
        (json!({"suffix": "ler"}), "\"boiler\"", true),
        (json!({"suffix": "ler"}), r#""boil\u0065r""#, true),
        (json!({"suffix": "ler"}), "\"lerx\"", false),
        (json!({"prefix": {"equals-ignore-case": "BOI"}}), "\"boiler\"", true),
        (json!({"suffix": {"equals-ignore-case": "LER"}}), "\"boiler\"", true),
        (json!({"suffix": {"equals-ignore-case": "LER"}}), "\"boilerx\"", false),
        (json!({"equals-ignore-case": "Störung"}), "\"STÖRUNG\"", true),
        (json!({"equals-ignore-case": "Störung"}), r#""st\u00f6rung""#, true),
        (json!({"equals-ignore-case": "on"}), "\"one\"", false),
        (json!({"wildcard": "a*c"}), "\"abc\"", true),
        (json!({"wildcard": "a*c"}), "\"ac\"", true),
        (json!({"wildcard": "a*c"}), "\"acb\"", false),
        (json!({"wildcard": "*b*c*"}), "\"xxbyycz\"", true),
        (json!({"wildcard": "*ab*abc"}), "\"ababxabababc\"", true),
        (json!({"wildcard": "a\\*c"}), "\"a*c\"", true),
        (json!({"wildcard": "a\\*c"}), "\"abc\"", false),
        (json!({"wildcard": "*"}), "\"\"", true),
        (json!({"wildcard": "é*"}), r#""\u00e9t\u00e9""#, true),
        (json!({"exists": true}), "null", true),
        (json!({"exists": true}), "{}", true),
        (json!({"exists": false}), "0", false),
        (json!({"anything-but": "on"}), "\"off\"", true),
        (json!({"anything-but": "on"}), "\"on\"", false),
        (json!({"anything-but": [1, 2, "x"]}), "2", false),
        (json!({"anything-but": [1, 2, "x"]}), "3", true),
        (json!({"anything-but": [1]}), "{}", false),
        (json!({"anything-but": {"prefix": "a"}}), "\"bc\"", true),
        (json!({"anything-but": {"prefix": ["a", "b"]}}), "\"bc\"", false),
        (json!({"anything-but": {"suffix": "c"}}), "\"bc\"", false),
        (json!({"anything-but": {"equals-ignore-case": ["ON", "off"]}}), "\"On\"", false),
        (json!({"anything-but": {"wildcard": "a*"}}), "\"abc\"", false),
        (json!("red"), r#"["green","red"]"#, true),
        (json!("red"), r#"["green",["red"]]"#, false),
        (json!({"numeric": [">", 5]}), "[1,2,6]", true),
        (json!({"anything-but": "red"}), r#"["red"]"#, false),
        (json!({"anything-but": "red"}), "[]", false),
    ] {
        let payload = format!("{{\"v\":{value}}}");
        assert_eq!(matches(&json!({"payload": {"v": [entry]}}), &payload), want, "{entry} {value}");
    }
}

#[test]
fn what_is_not_there_matches_exists_false_only() {
    for (entry, want) in [
        (json!({"exists": false}), true),
        (json!({"exists": true}), false),
        (json!(null), false),
        (json!({"anything-but": "on"}), false),
        (json!({"prefix": ""}), false),
        (json!({"wildcard": "*"}), false),
        (json!({"numeric": ["<", 5]}), false),
    ] {
        assert_eq!(matches(&json!({"payload": {"v": [entry]}}), "{\"w\":1}"), want, "{entry}");
    }
}

#[test]
fn keys_are_joined_by_and_lists_by_or() {
    for (pattern, payload, want) in [
        (json!({"payload": {"a": [1], "b": [2]}}), r#"{"a":1,"b":2}"#, true),
        (json!({"payload": {"a": [1], "b": [2]}}), r#"{"a":1,"b":3}"#, false),
        (json!({"payload": {"a": [1, 2]}}), r#"{"a":2}"#, true),
        (json!({"payload": {"a": {"b": {"c": ["x"]}}}}), r#"{"a":{"b":{"c":"x"}}}"#, true),
        (json!({"payload": {"a.b": [1]}}), r#"{"a.b":1,"a":{"b":2}}"#, true),
        (json!({"payload": {"a.b": [1]}}), r#"{"a":{"b":1}}"#, false),
        (json!({"payload": [{"numeric": [">", 20]}]}), "21.5", true),
        (json!({"topic": [{"prefix": "plant/"}]}), "0", true),
        (json!({"topic": [{"suffix": "pump"}], "payload": {"a": [1]}}), r#"{"a":1}"#, false),
        (json!({"device": ["boiler-1"], "payload": {"a": [1]}}), r#"{"a":1}"#, true),
        (json!({"device": [{"exists": true}]}), "{}", true),
        (json!({"$or": [{"device": ["x"]}, {"payload": {"a": [1]}}]}), r#"{"a":1}"#, true),
        (json!({"$or": [{"device": ["x"]}, {"payload": {"a": [1]}}]}), r#"{"a":2}"#, false),
        (json!({"payload": {"c": [3], "$or": [{"a": [1]}, {"b": [2], "d": [4]}]}}), r#"{"b":2,"c":3,"d":4}"#, true),
        (json!({"payload": {"c": [3], "$or": [{"a": [1]}, {"b": [2], "d": [4]}]}}), r#"{"b":2,"c":3}"#, false),
        (json!({"payload": {"c": [3], "$or": [{"a": [1]}, {"b": [2]}]}}), r#"{"a":1}"#, false),
    ] {
        assert_eq!(matches(&pattern, payload), want, "{pattern} {payload}");
    }
}

#[test]
fn cbor_matches_alike() {
    // {"t": 21.5, "s": (_ "o", "n"), "l": [1, 6]}
    let payload = b"\xa3\x61t\xf9\x4d\x60\x61s\x7f\x61o\x61n\xff\x61l\x82\x01\x06";
    for (pattern, want) in [
        (json!({"t": [{"numeric": [">", 20]}], "s": ["on"]}), true),
        (json!({"t": [21.5], "s": [{"prefix": "o"}], "l": [6]}), true),
        (json!({"s": [{"equals-ignore-case": "ON"}]}), true),
        (json!({"s": ["off"]}), false),
    ] {
        assert_eq!(matches_bytes(&json!({"payload": pattern}), Codec::Cbor, payload), want, "{pattern}");
    }
}

#[test]
fn a_pattern_tells_what_it_reads() {
    let pattern = Pattern::parse(&json!({"payload": {"a": {"b c": [1]}}, "topic": ["t"]})).unwrap();
    assert_eq!(pattern.paths().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.b c"]);
    assert!(pattern.reads_payload() && bound(&pattern).1.reads_payload());
    assert!(!Pattern::parse(&json!({"topic": ["t"]})).unwrap().reads_payload());
    let mut full = Paths::new();
    while full.add(&Path::parse(&format!("k{}", full.len())).unwrap()).is_some() && full.len() < 256 {}
    assert_eq!(pattern.bind(&mut full), Err(PathsFull));
}

#[test]
fn toml_and_json_are_read_alike() {
    let text = r#"
        topic = [{ prefix = "plant/" }]
        payload.temp = [{ numeric = [">", 20.0] }, "high"]
        "$or" = [{ device = ["a"] }, { payload.on = [true, 3] }]
    "#;
    let toml = toml::Value::Table(text.parse().unwrap());
    let json = json!({
        "topic": [{"prefix": "plant/"}],
        "payload": {"temp": [{"numeric": [">", 20]}, "high"]},
        "$or": [{"device": ["a"]}, {"payload": {"on": [true, 3]}}],
    });
    assert_eq!(Pattern::from_toml(&toml).unwrap(), Pattern::parse(&json).unwrap());
    let bad: toml::Table = "payload.a = [nan]\npayload.b = [2024-01-01]".parse().unwrap();
    let faults = Pattern::from_toml(&toml::Value::Table(bad)).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.key.as_str()).collect::<Vec<_>>(), ["payload.a[0]", "payload.b[0]"]);
}

#[test]
fn a_malformed_pattern_is_refused_with_key_and_fix() {
    for (pattern, key, hint) in [
        (json!([1]), "", "table of keys"),
        (json!({}), "", "empty"),
        (json!({"body": {"a": [1]}}), "body", "payload, topic, device"),
        (json!({"topic": "a"}), "topic", "write [\"a\"]"),
        (json!({"topic": {"a": [1]}}), "topic", "no keys below"),
        (json!({"topic": [1]}), "topic[0]", "always text"),
        (json!({"device": [{"numeric": [">", 1]}]}), "device[0]", "always text"),
        (json!({"payload": {}}), "payload", "empty"),
        (json!({"payload": {"a": 20}}), "payload.a", "write [20]"),
        (json!({"payload": {"a": []}}), "payload.a", "empty list"),
        (json!({"payload": {"a": [[1]]}}), "payload.a[0]", "list inside a list"),
        (json!({"payload": {"a": [{}]}}), "payload.a[0]", "0 operators"),
        (json!({"payload": {"a": [{"prefix": "a", "suffix": "b"}]}}), "payload.a[0]", "2 operators"),
        (json!({"payload": {"a": [{"cidr": "10.0.0.0/8"}]}}), "payload.a[0].cidr", "known are anything-but"),
        (json!({"payload": {"a": [{"exists": 1}]}}), "payload.a[0].exists", "true nor false"),
        (json!({"payload": {"a": [{"prefix": 1}]}}), "payload.a[0].prefix", "takes a text"),
        (json!({"payload": {"a": [{"prefix": {"x": "y"}}]}}), "payload.a[0].prefix", "equals-ignore-case"),
        (json!({"payload": {"a": [{"wildcard": "a**b"}]}}), "payload.a[0].wildcard", "in a row"),
        (json!({"payload": {"a": [{"wildcard": "a\\b"}]}}), "payload.a[0].wildcard", "\\\\"),
        (json!({"payload": {"a": [{"numeric": 5}]}}), "payload.a[0].numeric", "takes comparisons"),
        (json!({"payload": {"a": [{"numeric": []}]}}), "payload.a[0].numeric", "takes comparisons"),
        (json!({"payload": {"a": [{"numeric": ["!=", 5]}]}}), "payload.a[0].numeric", "takes comparisons"),
        (json!({"payload": {"a": [{"numeric": [">", "5"]}]}}), "payload.a[0].numeric", "takes comparisons"),
        (json!({"payload": {"a": [{"numeric": [">", 5, ">", 6]}]}}), "payload.a[0].numeric", "same side"),
        (json!({"payload": {"a": [{"numeric": ["=", 5, ">", 6]}]}}), "payload.a[0].numeric", "takes comparisons"),
        (json!({"payload": {"a": [{"numeric": [">", 6, "<", 6]}]}}), "payload.a[0].numeric", "empty range"),
        (json!({"payload": {"a": [{"anything-but": []}]}}), "payload.a[0].anything-but", "exists"),
        (json!({"payload": {"a": [{"anything-but": {"numeric": []}}]}}), "payload.a[0].anything-but", "one of prefix"),
        (
            json!({"payload": {"a": [{"anything-but": {"prefix": [1]}}]}}),
            "payload.a[0].anything-but.prefix[0]",
            "takes a text",
        ),
        (json!({"payload": {"a": ["x".repeat(257)]}}), "payload.a[0]", "257 bytes"),
        (json!({"$or": {"a": [1]}}), "$or", "list of patterns"),
        (json!({"$or": []}), "$or", "list of patterns"),
        (json!({"$or": [{"topic": ["a"]}, {"x": [1]}]}), "$or[1].x", "unknown"),
        (json!({"payload": {"$or": [{"a": 1}]}}), "payload.$or[0].a", "write [1]"),
        (
            json!({"payload": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": [1]}}}}}}}}}),
            "payload.a.b.c.d.e.f.g",
            "deeper than 8",
        ),
        (json!({"payload": {"k".repeat(300): [1]}}), &format!("payload.{}", "k".repeat(300)), "256 bytes"),
    ] {
        let faults = Pattern::parse(&pattern).unwrap_err();
        assert_eq!((faults.len(), faults[0].key.as_str()), (1, key), "{pattern} {faults:?}");
        assert!(faults[0].what.contains(hint), "{pattern} {faults:?}");
    }
}

#[test]
fn all_faults_come_together() {
    let pattern = json!({"body": 1, "topic": [], "payload": {"a": 1, "b": [{"numeric": [">"]}, {"what": 1}]}});
    let faults = Pattern::parse(&pattern).unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["body", "payload.a", "payload.b[0].numeric", "payload.b[1].what", "topic"]);
    assert_eq!(faults[4].to_string(), "topic: is an empty list, which nothing can match");
}

#[test]
fn patterns_are_bounded() {
    let leaves = |count: usize| {
        let keys: serde_json::Map<_, _> = (0..count).map(|n| (format!("k{n}"), json!([n]))).collect();
        Pattern::parse(&json!({"payload": keys}))
    };
    assert!(leaves(64).is_ok());
    assert!(leaves(65).unwrap_err()[0].what.contains("65 keys"));
    let tests = |count: usize| Pattern::parse(&json!({"payload": {"a": [{"anything-but": vec![1; count]}]}}));
    assert!(tests(256).is_ok());
    assert!(tests(257).unwrap_err()[0].what.contains("257 entries"));
}
