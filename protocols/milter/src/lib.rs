//! Milter: the mail server's half of a conversation with a mail filter (Sendmail's milter protocol, version 6).
//!
//! * What: one sans-IO [`Session`] for one message: negotiation, connection, envelope, header, body, verdict.
//! * In: a [`Subject`], the whole message with its envelope; octets from the filter.
//! * Out: octets for the filter, then a [`Judgement`].
//! * Never: reads a socket or a clock, offers a filter what was not asked for, takes a change that was not offered, or
//!   keeps more of a filter's wishes than [`CHANGES_MAX`] and [`CHANGES_OCTETS_MAX`].
//! * Fails: with a [`Failure`] when the filter does not keep to the protocol; whether the message is taken then is its
//!   host's to say.
//!
//! There is no RFC. The protocol is what `libmilter` speaks, which is described in its header files (`mfdef.h`, `mfapi.h`).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod change;
mod packet;
mod reply;
mod session;
mod stage;
mod subject;

pub use change::{Actions, CHANGES_MAX, CHANGES_OCTETS_MAX, Change, rewrite};
pub use packet::PACKET_OCTETS_MAX;
pub use reply::Reply;
pub use session::{Disposition, Failure, Judgement, QUIT, Session, Step};
pub use subject::{Recipient, Subject};
