//! A small IMAP client (RFC 3501 section 2.2.1) that moves mail: it logs in, lists, fetches, creates and appends.
//!
//! * What: an [`ImapClient`] takes commands and gives the octets to be sent; it takes what the server sends and gives
//!   [`Event`]s. Commands may be pipelined; it waits by itself where a literal has to be permitted.
//! * In: commands, octets from the server.
//! * Out: octets for the server, events.
//! * Never: holds more than one response, whose parts are limited; sends a command's next part before it may; believes a
//!   server that has not proven itself where the mechanism asks for it; keeps what was said in clear before TLS.
//! * Fails: with a [`ClientError`] when the server does not speak IMAP or says too much at once. What it merely does not
//!   understand is [`Untagged::Other`]: servers differ.

mod commands;
mod conversation;
mod reader;
mod response;
mod value;

pub use commands::{AppendMessage, ListReturn};
pub use conversation::{ClientError, Done, Event, Greeting, ImapClient, Outcome, Tag};
pub use response::{Body, Code, Fetched, Listed, Untagged, levels};
