//! SMTP: the server's half of an MX, submission or LMTP conversation, and the client's half.
//!
//! * What: one sans-IO [`SmtpSession`] for the three [`Role`]s, its command grammar, mail data framing and trace header.
//! * In: bytes from the peer, answers to its [`Ask`]s, moments and a seed.
//! * Out: replies, and [`Ask`]s: logins, senders, recipients, message bytes, the finished [`Mail`].
//! * Never: reads a socket, a clock or a random source; knows which addresses exist; interprets a bare CR or LF as a line
//!   end; keeps anything a peer said before STARTTLS.
//! * Fails: not at all; a bad peer gets a reply, and after too many of them 421 and a close.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod address;
mod ask;
pub mod client;
mod command;
mod config;
mod data;
mod frame;
mod header;
mod intake;
mod parameter;
mod path;
mod reply;
pub mod report;
mod session;
mod trace;

pub use address::{Address, AddressError};
pub use ask::{
    Abandoned, Answer, Ask, BodyKind, Client, Envelope, LoginAnswer, Mail, Notify, Recipient, RecipientAnswer,
    RecipientOutcome, Refusal, ReturnContent, SenderAnswer, SpoolAnswer,
};
pub use config::{ClearAuth, Config, Greeting, Role, Tarpit, Tls};
pub use header::HeaderFacts;
pub use session::SmtpSession;
pub use trace::received;

pub mod limits;
