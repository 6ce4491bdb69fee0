//! The engine: remembers mail and decides about it.
//!
//! * What: ordered key-value contract, directory, mailboxes, messages, group commit, checks and repairs.
//! * In: commands and staged bytes; time and random seeds as values.
//! * Out: outcomes, immutable views, change notices.
//! * Never: opens a socket, reads a clock, draws a random number or starts a thread.
//! * Fails: with an `EngineError` that says whose fault it is; nothing has changed when it does.
#![forbid(unsafe_code)]

pub mod archive;
pub mod command;
pub mod directory;
pub mod engine;
pub mod kv;
pub mod memo;
pub mod queue;
pub mod rights;
pub mod search;
pub mod spam;
pub mod store;
pub mod trace;

pub use archive::{Finding, FsckSummary, RebuildSummary, Repair, Stats, StorageUse};
pub use command::{
    AccountId, AppendMessage, ChangeNotice, Command, Credential, Deleted, Delivered, Delivery, EngineError, FlagRow,
    GroupId, InternalDate, Keywords, MailboxId, MessageId, Outcome, QuotaLimits, Stored,
};
pub use directory::{AccountRecord, AliasRecord, Directory, DomainRecord, GroupRecord, Resolution, Target};
pub use engine::{Done, Engine, EngineOptions, ReadyTexts};
pub use memo::MemoKind;
pub use queue::{Lease, Outbound, OutboundRecipient, QueueId, Settled};
pub use store::{
    DeletedMailbox, DeletedMessage, DeletedUse, Entry, KEYWORDS_MAX, MailboxInfo, MailboxList, MailboxStatus,
    MailboxView, MessageRecord, QuotaUsage, StagedMessage, Staging,
};
