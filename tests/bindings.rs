//! What the bindings for C and Rust declare is what the host offers: a call that drifts would only be seen at a load.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use weir::function::host::Call;

fn lines(file: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// The type that wasm knows behind one of C or Rust; every pointer is an `i32`.
fn wasm(ty: &str) -> &'static str {
    match ty.trim() {
        "void" | "" => "",
        "double" | "f64" => "F64",
        "int64_t" | "i64" => "I64",
        "int32_t" | "uint32_t" | "i32" | "usize" => "I32",
        pointer if pointer.contains('*') => "I32",
        other => panic!("type `{other}`"),
    }
}

fn signature<'a>(name: &str, parameters: impl Iterator<Item = &'a str>, result: &str) -> String {
    let parameters: Vec<&str> = parameters.map(wasm).filter(|ty| !ty.is_empty()).collect();
    format!("{name}({}) {}", parameters.join(" "), wasm(result))
}

/// `WEIR_CALL(name) RESULT weir_name(TYPE parameter, ..);`
fn in_c(line: &str) -> Option<String> {
    let (import, declaration) = line.strip_prefix("WEIR_CALL(")?.split_once(") ").unwrap();
    let (result, rest) = declaration.split_once(" weir_").unwrap();
    let (name, parameters) = rest.strip_suffix(");").unwrap().split_once('(').unwrap();
    assert_eq!(import, name);
    let types = parameters.split(", ").map(|parameter| {
        parameter.rsplit_once(' ').map_or(parameter, |(ty, name)| if name.starts_with('*') { "*" } else { ty })
    });
    Some(signature(name, types, result))
}

/// `fn name(parameter: TYPE, ..) -> RESULT;`
fn in_rust(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("fn ")?.strip_suffix(';')?.split_once('(').unwrap();
    let (parameters, result) = rest.rsplit_once(')').unwrap();
    let types = parameters.split(", ").map(|parameter| parameter.split_once(": ").map_or("", |(_, ty)| ty));
    Some(signature(name, types, result.trim().trim_start_matches("-> ")))
}

#[test]
fn the_bindings_for_c_and_rust_declare_the_calls_that_the_host_offers() {
    let offered: BTreeSet<String> = Call::ALL
        .iter()
        .map(|call| {
            let (parameters, results) = call.signature();
            let list = |types: &[_]| types.iter().map(|ty| format!("{ty:?}")).collect::<Vec<_>>().join(" ");
            format!("{}({}) {}", call.name(), list(parameters), list(results))
        })
        .collect();
    let c: BTreeSet<String> = lines("functions/c/weir.h").iter().filter_map(|line| in_c(line)).collect();
    assert_eq!(c, offered);
    let rust: BTreeSet<String> = lines("functions/sdk/src/raw.rs").iter().filter_map(|line| in_rust(line)).collect();
    assert_eq!(rust, offered);
}
