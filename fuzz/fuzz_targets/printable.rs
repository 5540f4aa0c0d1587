//! libFuzzer's way into the target `printable`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::run("printable", data));
