//! Cutting messages into parts, under cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rockdove_fuzz::parts(data));
