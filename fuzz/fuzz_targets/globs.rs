#![no_main]
#[path = "../targets/globs.rs"]
mod globs;
libfuzzer_sys::fuzz_target!(|input: &[u8]| globs::check(input));
