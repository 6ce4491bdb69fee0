//! The grammar of IMAP (RFC 3501 section 9 and the extensions that are offered): framing, parsing, writing.
//!
//! * What: [`Frames`] finds commands and literals, [`parse`] and [`parse_append`] decode commands, [`write`](self::write)
//!   writes what responses are made of, [`matches`] decides LIST patterns.
//! * In: octets from the client, and how mailbox names travel; names, flags and sets to be written.
//! * Out: frames and [`Tagged`](crate::command::Tagged) commands; octets for the client.
//! * Never: lets what a command says shift where the next one begins, keeps more of a command than
//!   [`COMMAND_OCTETS_MAX`](crate::limits::COMMAND_OCTETS_MAX), or knows which command is allowed when.
//! * Fails: a bad command with its tag, where it had one, and a text for the client.

mod access;
mod fetch;
mod find;
mod frame;
mod mailbox;
mod message;
mod metadata;
mod notify;
mod parse;
mod pattern;
mod search;
pub mod utf7;
mod words;
pub mod write;

pub(crate) use words::is_atom_char;

pub use frame::{Frame, Frames, LineTooLong};
pub use parse::{BadCommand, parse, parse_append, parse_append_next};
pub use pattern::matches;
pub use search::parse_filter;
pub use words::Names;
