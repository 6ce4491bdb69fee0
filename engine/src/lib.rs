//! The engine: remembers mail and decides about it.
//!
//! * What: ordered key-value contract, directory, mailboxes, messages, group commit, checks and repairs.
//! * In: commands and staged bytes; time and random seeds as values.
//! * Out: outcomes, immutable views, change notices.
//! * Never: opens a socket, reads a clock, draws a random number or starts a thread.
//! * Fails: with an `EngineError` that says whose fault it is; nothing has changed when it does.
#![forbid(unsafe_code)]

pub mod kv;
