//! The fronts: each turns what a protocol session asks into calls of the engine, and brings the answers back.
//!
//! * What: one room per protocol, the host's half of its sessions; `login` and `locks` are what they have in common.
//! * In: a session's questions.
//! * Out: calls of the engine, the directory and the login service; answers through a [`Replier`].
//! * Never: blocks. What can be answered from memory is answered at once, the rest runs on the storage pool or is
//!   submitted to the engine, and the answer comes back from whatever thread it was found on.
//! * Fails: what cannot be done is answered as such, "try again later" when the fault is ours.

pub mod imap;
pub(crate) mod locks;
mod login;
pub mod pop3;
pub mod smtp;

use rockdove_mail::{AskId, Session};

pub use crate::runtime::replier::Replier;

/// The host's half of one connection.
pub trait Front<S: Session> {
    /// Answers one question through `replier`, at once or later, exactly once. Must not block.
    fn ask(&mut self, id: AskId, ask: S::Ask, replier: &Replier<S::Answer>);
}
