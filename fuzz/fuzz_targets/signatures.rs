#![no_main]
#[path = "../targets/signatures.rs"]
mod signatures;
libfuzzer_sys::fuzz_target!(|input: &[u8]| signatures::check(input));
