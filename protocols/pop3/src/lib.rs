//! The server side of POP3: RFC 1939 with TOP, UIDL, USER, CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034) and the
//! response codes of RFC 2449 and RFC 3206.
//!
//! * What: one [`Pop3Session`] per connection, from the greeting to QUIT.
//! * In: bytes from the client, and the host's answers to what the session [`Ask`]s: is this password right, open the
//!   maildrop, give me the next page of that message, carry out the update.
//! * Out: bytes for the client, questions for the host.
//! * Never: removes a message before QUIT, holds more of a message than one page, keeps anything that was received in
//!   clear across STLS, or takes a password in clear where the configuration forbids it.
//! * Fails: bad commands get `-ERR`; too many of them, silence, and a message that breaks off in the middle close the
//!   connection. It does not panic on any input.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod ask;
mod command;
pub mod limits;
mod lines;
mod maildrop;
mod outbox;
mod session;
mod stuffing;

pub use ask::{Answer, Ask, LoginAnswer, Maildrop, OpenError, Pop3Config};
pub use session::Pop3Session;
