//! Whether mail is what it says it is: signing what leaves.
//!
//! * What: keys for DKIM, signatures, and the records that a domain publishes about its mail.
//! * In: keys of the directory, messages in the queue.
//! * Out: header fields, lines for a zone file.
//! * Never: shows or logs a private key, signs for a domain that is not ours, or mail that none of our users has sent.
//! * Fails: mail that cannot be signed leaves without a signature, and the log says so.

pub mod dkim;
pub mod records;
pub mod spf;
#[cfg(test)]
mod zone;
