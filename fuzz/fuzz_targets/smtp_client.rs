//! The client's half of SMTP, under cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rockdove_fuzz::smtp_client(data));
