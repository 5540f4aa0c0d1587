//! libFuzzer's way into the target `packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::run("packets", data));
