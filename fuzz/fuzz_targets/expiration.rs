#![no_main]
#[path = "../targets/expiration.rs"]
mod expiration;
libfuzzer_sys::fuzz_target!(|input: &[u8]| expiration::check(input));
