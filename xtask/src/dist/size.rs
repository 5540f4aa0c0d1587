//! `cargo xtask size [--target T].. [--crates]`: what each shipped binary weighs, and what each feature of it costs.
//!
//! - Read from the binaries and linker's maps that `cargo xtask dist` leaves; a target that was not built says so.
//! - A feature is the crates that are there for it alone. Code of std and of generic crates that a feature pulls in counts
//!   where it is named, so a feature's row is what would go at least if it went.

use std::fs;
use std::path::Path;

use super::map::{self, Sizes};
use super::{map_file, targets};
use crate::cross::Target;

/// What is asked of the shipped binary for 64-bit boards.
const AARCH64_MAX: u64 = 5_000_000;

/// A feature and its crates.
const FEATURES: [(&str, &[&str]); 9] = [
    ("the gateway itself", &["weir", "weir_abi", "sketches_ddsketch"]),
    (
        "interpreter (wasmi, wasmparser)",
        &["wasmi", "wasmi_core", "wasmi_ir", "wasmi_collections", "wasmparser", "spin", "libm"],
    ),
    (
        "TLS (rustls, ring)",
        &["rustls", "webpki", "rustls_pki_types", "ring", "tokio_rustls", "untrusted", "subtle", "zeroize"],
    ),
    ("HTTP, metrics (hyper)", &["hyper", "hyper_util", "http", "httparse", "http_body", "http_body_util", "httpdate"]),
    (
        "sled",
        &["sled", "crossbeam_epoch", "crossbeam_utils", "parking_lot", "parking_lot_core", "lock_api", "fs2", "fxhash"],
    ),
    ("MQTT codec (rumqttc)", &["rumqttc", "flume", "tokio_stream", "tokio_util", "thiserror"]),
    (
        "runtime (tokio, mio)",
        &["tokio", "mio", "socket2", "signal_hook_registry", "futures_util", "futures_core", "futures_task"],
    ),
    (
        "configuration, JSON, CBOR",
        &[
            "toml",
            "toml_parser",
            "toml_datetime",
            "winnow",
            "serde",
            "serde_core",
            "serde_json",
            "serde_spanned",
            "minicbor",
            "postcard",
            "lexopt",
            "zmij",
            "itoa",
            "half",
        ],
    ),
    (
        "std, alloc, core",
        &[
            "std",
            "alloc",
            "core",
            "compiler_builtins",
            "gimli",
            "addr2line",
            "rustc_demangle",
            "hashbrown",
            "miniz_oxide",
            "memchr",
            "panic_unwind",
            "panic_abort",
            "object",
        ],
    ),
];

/// The command.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (mut wanted, mut crates) = (Vec::new(), false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--crates" => crates = true,
            "--target" => wanted.push(Target::get(arguments.next().ok_or("--target wants a triple")?)?),
            _ => return Err("cargo xtask size [--target TRIPLE].. [--crates]".to_owned()),
        }
    }
    if wanted.is_empty() {
        wanted = targets().collect();
    }
    let mut too_large = None;
    for target in wanted {
        let file = root.join("target/dist").join(target.triple).join("release/weir");
        let Ok(metadata) = fs::metadata(&file) else {
            println!("{}: not built; cargo xtask dist --target {0}", target.triple);
            continue;
        };
        println!("{}: {} bytes, stripped and static", target.triple, metadata.len());
        if target.triple.starts_with("aarch64") && AARCH64_MAX < metadata.len() {
            too_large =
                Some(format!("{}: {} bytes; at most {AARCH64_MAX} are aimed at", target.triple, metadata.len()));
        }
        if let Ok(text) = fs::read_to_string(map_file(root, target)) {
            print!("{}", table(&map::sizes(&text), crates));
        }
    }
    too_large.map_or(Ok(()), Err)
}

fn table(sizes: &Sizes, crates: bool) -> String {
    let of =
        |kind: &str, names: &[&str]| names.iter().map(|name| sizes.get(&format!("{kind} {name}")).unwrap_or(&0)).sum();
    let mut rows: Vec<(String, u64, u64)> =
        FEATURES.iter().map(|(what, names)| ((*what).to_owned(), of("code", names), of("constants", names))).collect();
    rows.push(("C library".to_owned(), of("code", &["(libc)"]), of("constants", &["(libc)"])));
    let sum = |kind: &str| sizes.iter().filter(|(key, _)| key.starts_with(kind)).map(|(_, size)| size).sum::<u64>();
    let known =
        |column: fn(&(String, u64, u64)) -> u64, rows: &[(String, u64, u64)]| rows.iter().map(column).sum::<u64>();
    let (code, constants) = (sum("code "), sum("constants "));
    rows.push((
        "other crates, constants without a name".to_owned(),
        code - known(|row| row.1, &rows),
        constants - known(|row| row.2, &rows),
    ));
    rows.push(("tables for unwinding and relocation".to_owned(), 0, sum("table ")));
    let mut text = format!("  {:42} {:>10} {:>10}\n", "", "code", "data");
    for (what, code, data) in &rows {
        text += &format!("  {what:42} {code:>10} {data:>10}\n");
    }
    if crates {
        let mut all: Vec<_> = sizes.iter().collect();
        all.sort_by_key(|(_, size)| core::cmp::Reverse(**size));
        all.iter().take(60).for_each(|(name, size)| text += &format!("    {size:>10} {name}\n"));
    }
    text
}
