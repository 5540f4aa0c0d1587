//! What `weir new` writes: the example `threshold` of the language, its SDK and its cases, from the repository's own files, so that
//! what is tested there is what is started from.

use crate::shell::toolchain::Language;

macro_rules! own {
    ($path:literal) => {
        include_str!(concat!("../../../../functions/", $path))
    };
}

const CASES: [(&str, &str); 3] = [
    ("cases/hysteresis.toml", own!("threshold/cases/hysteresis.toml")),
    ("cases/limits-crossed.toml", own!("threshold/cases/limits-crossed.toml")),
    ("cases/no-number.toml", own!("threshold/cases/no-number.toml")),
];

/// The SDK, as it stands.
const RUST: [(&str, &str); 17] = [
    (".cargo/config.toml", own!(".cargo/config.toml")),
    ("weir-sdk/Cargo.toml", own!("sdk/Cargo.toml")),
    ("weir-sdk/src/answer.rs", own!("sdk/src/answer.rs")),
    ("weir-sdk/src/check.rs", own!("sdk/src/check.rs")),
    ("weir-sdk/src/config.rs", own!("sdk/src/config.rs")),
    ("weir-sdk/src/event.rs", own!("sdk/src/event.rs")),
    ("weir-sdk/src/field.rs", own!("sdk/src/field.rs")),
    ("weir-sdk/src/lib.rs", own!("sdk/src/lib.rs")),
    ("weir-sdk/src/macros.rs", own!("sdk/src/macros.rs")),
    ("weir-sdk/src/math.rs", own!("sdk/src/math.rs")),
    ("weir-sdk/src/meter.rs", own!("sdk/src/meter.rs")),
    ("weir-sdk/src/number.rs", own!("sdk/src/number.rs")),
    ("weir-sdk/src/panic.rs", own!("sdk/src/panic.rs")),
    ("weir-sdk/src/raw.rs", own!("sdk/src/raw.rs")),
    ("weir-sdk/src/state.rs", own!("sdk/src/state.rs")),
    ("weir-sdk/src/text.rs", own!("sdk/src/text.rs")),
    ("weir-sdk/abi/Cargo.toml", own!("abi/Cargo.toml")),
];
const RUST_ABI: &str = own!("abi/src/lib.rs");

const CARGO: &str = r#"[package]
name = "NAME"
version = "1.0.0"
edition = "2024"
publish = false

[lib]
crate-type = ["cdylib"]
test = false
doctest = false

[dependencies]
weir-sdk.workspace = true

[workspace]
members = ["weir-sdk", "weir-sdk/abi"]
resolver = "3"

[workspace.dependencies]
weir-sdk = { path = "weir-sdk" }
weir-abi = { path = "weir-sdk/abi" }

[workspace.lints.rust]
unsafe_code = "deny"

# A function is measured in bytes and in fuel: small code is what an interpreter translates and walks.
[profile.release]
opt-level = "s"
lto = "fat"
codegen-units = 1
panic = "abort"
"#;

const NPM: &str = r#"{ "name": "NAME", "private": true, "devDependencies": { "assemblyscript": "^0.28" } }
"#;

/// What the builds leave.
const IGNORED: &str = "/target/\n/node_modules/\n*.wasm\n";

/// Paths and texts. Without `small_pages` the manifest grants what one page of 64 KiB takes.
pub(super) fn files(language: Language, name: &str, small_pages: bool) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut add = |path: &str, text: &str| files.push((path.to_owned(), text.to_owned()));
    let (example, manifest) = match language {
        Language::Rust => ("threshold", own!("threshold/function.toml")),
        Language::C => ("threshold-c", own!("threshold-c/function.toml")),
        Language::Zig => ("threshold-zig", own!("threshold-zig/function.toml")),
        Language::AssemblyScript => ("threshold-as", own!("threshold-as/function.toml")),
    };
    let mut manifest = manifest.replace(&format!("\"{example}"), &format!("\"{name}"));
    if !small_pages {
        manifest = manifest.replacen("memory = \"4 KiB\"", "memory = \"64 KiB\"", 1);
    }
    add("function.toml", &manifest);
    add(".gitignore", IGNORED);
    CASES.iter().for_each(|(path, text)| add(path, text));
    match language {
        Language::Rust => {
            add("Cargo.toml", &CARGO.replace("NAME", name));
            add("src/lib.rs", own!("threshold/src/lib.rs"));
            RUST.iter().for_each(|(path, text)| add(path, text));
            add("weir-sdk/abi/src/lib.rs", RUST_ABI);
        }
        Language::C => {
            add(&language.source(name), own!("threshold-c/threshold-c.c"));
            add("weir.h", own!("c/weir.h"));
        }
        Language::Zig => {
            add(&language.source(name), own!("threshold-zig/threshold-zig.zig"));
            add("weir.zig", own!("zig/weir.zig"));
        }
        Language::AssemblyScript => {
            add(&language.source(name), own!("threshold-as/threshold-as.ts"));
            add("weir.ts", own!("assemblyscript/weir.ts"));
            add("package.json", &NPM.replace("NAME", name));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::strict::Faults;

    #[test]
    fn every_template_is_whole_and_bears_its_name() {
        for language in Language::ALL {
            let files = files(language, "hot-7", true);
            let text = |path: &str| files.iter().find(|(one, _)| one == path).map(|(_, text)| text.as_str());
            let faults = Faults::default();
            let manifest = Manifest::parse("function.toml", text("function.toml").unwrap(), &faults).unwrap();
            assert_eq!((&*manifest.name, &*manifest.module), ("hot-7", "hot-7.wasm"), "{language:?}");
            assert!(text(&language.source("hot-7")).is_some(), "{language:?}");
            let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
            assert!(bytes < 100_000, "{language:?}: {bytes} B");
        }
    }

    #[test]
    fn the_templates_are_small() {
        let all = Language::ALL.into_iter().flat_map(|language| files(language, "a", true));
        let texts: std::collections::BTreeSet<String> = all.map(|(_, text)| text).collect();
        let bytes: usize = texts.iter().map(String::len).sum();
        println!("templates and SDKs: {bytes} B");
        assert!(bytes < 140_000, "{bytes} B");
    }

    #[test]
    fn the_rust_sdk_is_embedded_whole() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/sdk/src");
        for file in std::fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(RUST.iter().any(|(path, _)| *path == format!("weir-sdk/src/{name}")), "{name} is left out");
        }
    }
}
