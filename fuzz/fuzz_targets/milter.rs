//! Our half of the milter protocol, under cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rockdove_fuzz::milter(data));
