//! The server side of IMAP (RFC 3501, `IMAP4rev1`) and the extensions that clients lean on.
//!
//! * What: one [`ImapSession`] per connection, from the greeting to LOGOUT; the grammar of its commands and responses.
//! * In: bytes from the client, and the host's answers to what the session [`Ask`]s.
//! * Out: bytes for the client, questions for the host.
//! * Never: holds a message or a whole answer in memory, shows a sequence number that points at another message, keeps
//!   anything that was received in clear across STARTTLS, or takes a password in clear where that is forbidden.
//! * Fails: bad commands get a tagged BAD, refused ones a tagged NO with a response code; too many bad ones, silence and
//!   a literal that cannot be completed close the connection. It does not panic on any input.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod ask;
pub mod command;
pub mod fetch;
pub mod grammar;
pub mod limits;
mod numbers;
mod session;

pub use ask::{
    Answer, Ask, Changes, ImapConfig, LoginAnswer, MailboxLine, Mailboxes, ObjectId, QuotaFacts, Refusal, Selected,
    Status,
};
pub use numbers::{NoSuchNumber, Numbers};
pub use session::ImapSession;
