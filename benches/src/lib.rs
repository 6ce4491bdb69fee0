//! `rockdove-load`: loads and measures any SMTP, LMTP, IMAP or POP3 server as its clients would.
//!
//! * What: small clients of the four protocols, runs that drive many of them at once, and what they measure.
//! * In: where the server is, who logs in, which messages, how many.
//! * Out: rates, percentiles, memory per connection; for `verify` the octets that differ.
//! * Never: knows more of a server than its protocol tells, so that its figures compare servers; goes on after a refusal.
//! * Fails: with the server's words when it refuses something, with what was being done when the network fails.

pub mod arguments;
pub mod corpus;
pub mod failure;
pub mod imap;
pub mod latencies;
pub mod link;
pub mod load;
pub mod login;
pub mod memory;
pub mod names;
pub mod pace;
pub mod pop3;
pub mod smtp;
pub mod target;
