#![no_main]
#[path = "../targets/tokens.rs"]
mod tokens;
libfuzzer_sys::fuzz_target!(|input: &[u8]| tokens::check(input));
