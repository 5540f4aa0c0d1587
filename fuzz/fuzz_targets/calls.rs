//! libFuzzer's way into the target `calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::run("calls", data));
