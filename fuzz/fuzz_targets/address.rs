#![no_main]
#[path = "../targets/address.rs"]
mod address;
libfuzzer_sys::fuzz_target!(|input: &[u8]| address::check(input));
