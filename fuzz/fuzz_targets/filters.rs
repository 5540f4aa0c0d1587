//! libFuzzer's way into the target `filters`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::run("filters", data));
