//! Checks and repairs of what is stored.
//!
//! * What: [`fsck`] compares derived rows with the ground they come from and tells every difference; [`rebuild`] writes
//!   the derived rows anew; [`stats`] adds up what is stored, and for whom.
//! * In: an open engine, at work or at rest.
//! * Out: [`Finding`]s one by one, a summary, repaired rows.
//! * Never: changes ground (entries, message records, parts, mailboxes, subscriptions, the directory), lowers a UID, a
//!   mod-sequence or an allocator, or throws bytes away.
//! * Fails: with `Unavailable` when the store cannot be read or written, or when an account is never at rest long enough
//!   to be repaired. What was repaired until then stays repaired.

mod account;
mod backup;
mod deleted;
mod fsck;
mod parts;
mod queue;
mod rebuild;
mod stats;
mod trace;

pub use fsck::{Finding, FsckSummary, Repair};
pub use rebuild::RebuildSummary;
pub use stats::{Stats, StorageUse};
