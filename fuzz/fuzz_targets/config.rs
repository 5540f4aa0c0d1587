//! libFuzzer's way into the target `config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::run("config", data));
