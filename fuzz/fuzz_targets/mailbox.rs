//! A mailbox under any history, under cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rockdove_fuzz::mailbox(data));
