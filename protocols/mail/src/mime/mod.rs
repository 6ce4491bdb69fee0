//! MIME structure (RFC 2045, RFC 2046): where the parts of a message are, and what IMAP says of them.
//!
//! * What: [`Scanner`] finds the parts while a message streams by; [`Skeleton`] remembers where they are;
//!   [`envelope`] and [`body_structure`] write what FETCH answers.
//! * In: the octets of a message, in any cuts; header blocks.
//! * Out: offsets, and ready IMAP syntax.
//! * Never: holds a body, changes an octet, or takes memory that grows with more than the limits named here.
//! * Fails: not at all; broken MIME is read as RFC 2045 section 5.2 and the usual servers read it, and what goes beyond
//!   a limit is one opaque part.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod address;
mod content;
mod envelope;
mod imap_string;
mod names;
mod scanner;
mod skeleton;
mod structure;
#[cfg(test)]
mod tests;

pub use content::{Content, Parameters};
pub use envelope::envelope;
pub use names::{EnvelopeAddress, EnvelopeNames};
pub use scanner::{Cut, Scanner};
pub use skeleton::{Encoding, Kind, Part, Section, Skeleton, part, section};
pub use structure::{Structure, body_structure};

/// Parts of a message that are told apart; delimiters behind them are text of the last part. Real messages have fewer
/// than a hundred, digests of mailing lists a few hundred.
pub const PARTS_MAX: usize = 10_000;

/// Multiparts and messages within each other; what lies deeper is not taken apart. Forwards of forwards reach ten.
pub const DEPTH_MAX: usize = 100;

/// Octets of a part's header block that are read. A part with a longer one is opaque. RFC 5322 names no limit; real
/// headers stay under 64 KiB.
pub const HEADER_OCTETS_MAX: usize = 256 * 1024;

/// Longest boundary. RFC 2046 section 5.1.1 allows 70 octets.
pub const BOUNDARY_OCTETS_MAX: usize = 250;

/// Octets of types, parameters, names and envelopes that are kept for all parts together; parts behind them are opaque.
/// Every recipient's record repeats them, so a small message must not make a large record. Real messages have a few KiB.
pub const CONTENT_OCTETS_MAX: usize = 1024 * 1024;

/// Addresses that an ENVELOPE names of one field. RFC 5321 section 4.5.3.1.8 asks for 100 recipients at least; real
/// lists reach a few hundred.
pub const ADDRESSES_MAX: usize = 4096;
