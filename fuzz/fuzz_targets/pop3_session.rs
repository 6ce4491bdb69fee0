//! The POP3 session under cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rockdove_fuzz::pop3_session(data));
