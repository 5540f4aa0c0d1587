//! libFuzzer's way into the target `store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::run("store", data));
