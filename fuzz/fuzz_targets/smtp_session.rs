//! The SMTP, submission and LMTP sessions under cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rockdove_fuzz::smtp_session(data));
