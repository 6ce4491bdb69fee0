//! The message store: accounts' mail, from staged bytes to what a client sees.
//!
//! * What: mailboxes, entries in segments, message records, parts, flags, quota, group commit.
//! * In: commands with staged messages, and the rows of the families `Account`, `Segment`, `Message`, `Part` and
//!   `Reference`.
//! * Out: immutable views ([`MailboxView`], [`MessageRecord`]), bytes of messages, outcomes, change notices.
//! * Never: shows anything that is not durable, reuses a UID, a message id or a mod-sequence, or holds an account's lock
//!   while the disk syncs.
//! * Fails: with `Unavailable` when the disk is full or too much waits, with `Corrupt` when a row is not what was written.
//!   Nothing has changed then.

mod access;
pub(crate) mod account;
mod across;
pub mod annotations;
pub(crate) mod cache;
mod commands;
pub(crate) mod commit;
mod digest;
pub(crate) mod directory;
pub(crate) mod encoding;
pub(crate) mod frame;
pub mod ingest;
mod judge;
pub(crate) mod kept;
pub mod mailbox;
pub(crate) mod octets;
pub mod parts;
pub(crate) mod pieces;
pub(crate) mod plan;
pub mod record;
mod removal;
mod replace;
pub mod segment;
pub(crate) mod staged;
mod undelete;

pub use ingest::{StagedMessage, Staging};
pub use kept::{DeletedMailbox, DeletedMessage, DeletedUse};
pub use mailbox::{MailboxInfo, MailboxList, MailboxStatus, QuotaUsage};
pub use record::MessageRecord;
pub use segment::{Entry, KEYWORDS_MAX, MailboxView};

#[cfg(test)]
mod tests;
