//! What can be asked of the engine, and what comes back. Plain data, so that a test is a list of these.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rockdove_mail::{
    FlagUpdate, Flags, Keyword, MailboxName, ModSeq, Rights, RightsUpdate, SpecialUse, Uid, UidSet, UidValidity,
};

use crate::{
    directory::SigningKeyRecord,
    kv::KvError,
    queue::{Decided, Edit, Outbound, QueueId, Settled, Suspect},
    store::{annotations::AnnotationChange, ingest::StagedMessage},
};

/// A mail account; fixed for its life, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u32);

/// A mailbox of an account; never reused, survives renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub u32);

/// A group of accounts; never reused, survives renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// A message of an account (RFC 8474 EMAILID); shared by its copies, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u32);

/// A moment with its zone, as INTERNALDATE shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InternalDate {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_s: i64,
    /// Zone east of UTC, in minutes.
    pub offset_minutes: i16,
}

/// The most that an account may have (RFC 9208); `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Octets of all entries (STORAGE).
    pub bytes: Option<u64>,
    /// Entries in all mailboxes (MESSAGE).
    pub messages: Option<u64>,
    /// Mailboxes (MAILBOX).
    pub mailboxes: Option<u32>,
}

/// How an account proves who it is. Made outside the engine, because hashing needs a random salt.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// argon2id hash as a PHC string.
    pub argon2: String,
    /// SCRAM-SHA-256 (RFC 7677) salt.
    pub scram_salt: Vec<u8>,
    /// SCRAM iteration count.
    pub scram_iterations: u32,
    /// SCRAM StoredKey.
    pub scram_stored_key: [u8; 32],
    /// SCRAM ServerKey.
    pub scram_server_key: [u8; 32],
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

/// A change to the state of the engine.
#[derive(Clone, Debug)]
pub enum Command {
    /// Adds a local domain (lower case, A-labels or ASCII).
    CreateDomain {
        /// Name of the domain.
        domain: String,
    },
    /// Removes a domain without accounts and aliases.
    RemoveDomain {
        /// Name of the domain.
        domain: String,
    },
    /// Sets or clears the account or address that receives mail for unknown local parts.
    SetCatchAll {
        /// Name of the domain.
        domain: String,
        /// A local address; `None` clears it.
        target: Option<String>,
    },
    /// Creates an account with INBOX and the usual special-use mailboxes.
    CreateAccount {
        /// Primary address, which is also the login.
        address: String,
        /// Password hashes.
        credential: Credential,
        /// Most octets its messages may take; `None` for no limit.
        quota_bytes: Option<u64>,
    },
    /// Removes an account and all its mail.
    RemoveAccount {
        /// Primary address.
        address: String,
    },
    /// Replaces the password.
    SetCredential {
        /// Primary address.
        address: String,
        /// Password hashes.
        credential: Credential,
    },
    /// Changes the quota.
    SetQuota {
        /// Primary address.
        address: String,
        /// Most octets; `None` for no limit.
        quota_bytes: Option<u64>,
    },
    /// Changes every limit of an account. An administrator may give it.
    SetQuotaLimits {
        /// Whose.
        account: AccountId,
        /// The limits.
        limits: QuotaLimits,
    },
    /// Adds a key that mail of a domain is signed with, or replaces it.
    SetSigningKey {
        /// The key, with its domain and selector.
        key: Box<SigningKeyRecord>,
    },
    /// Removes a signing key.
    RemoveSigningKey {
        /// Name of the domain.
        domain: String,
        /// Its selector.
        selector: String,
    },
    /// Creates a group without members.
    CreateGroup {
        /// Its name: letters, digits, `-`, `_` and `.`, compared without case.
        group: String,
    },
    /// Removes a group. What it was granted is granted to nobody.
    RemoveGroup {
        /// Its name.
        group: String,
    },
    /// Adds an account to a group, or takes it out.
    SetGroupMember {
        /// Name of the group.
        group: String,
        /// Primary address.
        address: String,
        /// Add or take out.
        member: bool,
    },
    /// Sets or clears the account whose mailboxes the accounts of a domain see as public.
    SetPublicAccount {
        /// Name of the domain.
        domain: String,
        /// Primary address of the account; `None`: no mailbox is public.
        address: Option<String>,
    },
    /// Makes `alias` deliver to `targets`, replacing earlier targets.
    SetAlias {
        /// The address that is an alias.
        alias: String,
        /// Addresses, here or elsewhere.
        targets: Vec<String>,
    },
    /// Sends the mail of an account on to `targets`, instead of earlier ones; none: to nobody.
    SetForward {
        /// Primary address of the account.
        address: String,
        /// Addresses, here or elsewhere.
        targets: Vec<String>,
        /// The account gets a copy too.
        keep: bool,
    },
    /// Removes an alias.
    RemoveAlias {
        /// The address that is an alias.
        alias: String,
    },
    /// Creates a mailbox, and its missing parents.
    CreateMailbox {
        /// Whose.
        account: AccountId,
        /// Its name.
        name: MailboxName,
        /// Its use (RFC 6154), if any.
        special_use: Option<SpecialUse>,
    },
    /// Deletes a mailbox and its messages. One with children stays as a `\NonExistent` parent in listings.
    DeleteMailbox {
        /// Whose.
        account: AccountId,
        /// Its name; never INBOX.
        name: MailboxName,
    },
    /// Renames a mailbox and everything below it. INBOX: moves its messages to the new mailbox (RFC 9051 section 6.3.6).
    RenameMailbox {
        /// Whose.
        account: AccountId,
        /// Old name.
        from: MailboxName,
        /// New name; its missing parents are created.
        to: MailboxName,
    },
    /// Adds or removes a name in the list of subscriptions; the mailbox need not exist.
    Subscribe {
        /// Whose.
        account: AccountId,
        /// The name.
        name: MailboxName,
        /// Add or remove.
        subscribed: bool,
    },
    /// Puts one message into mailboxes of several accounts, all in one batch.
    Deliver {
        /// The bytes, staged before.
        message: Arc<StagedMessage>,
        /// Where it goes.
        deliveries: Vec<Delivery>,
    },
    /// A message to local accounts and to others, or what came of mail that left, or both: in one batch.
    Dispatch {
        /// The bytes, staged before; `None` when nothing is delivered or leaves.
        message: Option<Arc<StagedMessage>>,
        /// Where it goes here.
        deliveries: Vec<Delivery>,
        /// How it leaves.
        outbound: Vec<Outbound>,
        /// What came of leases.
        settled: Vec<Settled>,
    },
    /// A message that is kept apart: it is taken, and goes to nobody.
    Quarantine {
        /// The bytes, staged before.
        message: Arc<StagedMessage>,
        /// Its envelope, and why.
        suspect: Box<Suspect>,
    },
    /// A message that was kept apart goes to recipients, in one batch, and is kept for the others only.
    Release {
        /// Whose it is now.
        decided: Decided,
        /// The bytes, staged again.
        message: Arc<StagedMessage>,
        /// Where it goes here.
        deliveries: Vec<Delivery>,
        /// How it leaves.
        outbound: Vec<Outbound>,
    },
    /// A message that was kept apart goes to nobody of these.
    Discard(Decided),
    /// Does something with mail that waits to leave.
    EditQueue {
        /// Which message.
        message: QueueId,
        /// What.
        edit: Edit,
        /// It must be this account's.
        owner: Option<AccountId>,
    },
    /// Puts messages into one mailbox, all or none (RFC 3502).
    Append {
        /// Whose.
        account: AccountId,
        /// Where.
        mailbox: MailboxId,
        /// What.
        messages: Vec<AppendMessage>,
    },
    /// Puts a message into a mailbox and removes another, which it takes the place of (RFC 8508), at once.
    Replace {
        /// Whose mailbox it goes to.
        account: AccountId,
        /// Where it goes to.
        mailbox: MailboxId,
        /// What.
        message: AppendMessage,
        /// Whose message is removed.
        from_account: AccountId,
        /// From where.
        from: MailboxId,
        /// Which; when it is not there, nothing is done.
        uid: Uid,
    },
    /// Changes flags.
    StoreFlags {
        /// Whose.
        account: AccountId,
        /// Where.
        mailbox: MailboxId,
        /// Which messages; UIDs that are not there are ignored.
        uids: UidSet,
        /// How.
        update: FlagUpdate,
        /// What.
        flags: Flags,
        /// Leave messages with a higher mod-sequence alone (RFC 7162 section 3.1.3).
        unchanged_since: Option<ModSeq>,
    },
    /// Copies messages within an account.
    Copy {
        /// Whose.
        account: AccountId,
        /// From where.
        from: MailboxId,
        /// Which messages.
        uids: UidSet,
        /// To where.
        to: MailboxId,
    },
    /// Moves messages within an account (RFC 6851), atomically.
    Move {
        /// Whose.
        account: AccountId,
        /// From where.
        from: MailboxId,
        /// Which messages.
        uids: UidSet,
        /// To where.
        to: MailboxId,
    },
    /// Copies or moves messages to a mailbox of another account.
    CopyAcross {
        /// Whose messages.
        account: AccountId,
        /// From where.
        from: MailboxId,
        /// Which messages.
        uids: UidSet,
        /// To whom.
        to_account: AccountId,
        /// To where.
        to: MailboxId,
        /// Move.
        remove: bool,
    },
    /// Changes what somebody may do with a mailbox (RFC 4314).
    SetRights {
        /// Whose.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
        /// Who: an address, `group:` and a name, `anyone`, `owner`; with `-` before it for what is denied.
        identifier: String,
        /// How.
        update: RightsUpdate,
        /// What; none with [`RightsUpdate::Replace`] takes the identifier out of the list.
        rights: Rights,
    },
    /// Sets annotations of a mailbox or of the server (RFC 5464), all or none. Those that are private are of whoever gives
    /// the command, else of the account. Shared ones of the server are set by administrators.
    Annotate {
        /// Whose mailbox; of the server: whoever gives the command.
        account: AccountId,
        /// Which; `None`: the server.
        mailbox: Option<MailboxId>,
        /// The entries and their new values; `None` removes one.
        entries: Vec<AnnotationChange>,
    },
    /// The same as the command, but given by an account, which must have the rights for it (RFC 4314 section 4).
    As {
        /// Who gives the command.
        actor: AccountId,
        /// A command about mailboxes or messages; no other, and not again `As`.
        command: Box<Command>,
    },
    /// Removes messages. Where the engine keeps what is expunged, they can be had again for a while.
    Expunge {
        /// Whose.
        account: AccountId,
        /// Where.
        mailbox: MailboxId,
        /// Only these; `None` for any.
        uids: Option<UidSet>,
        /// Only those with `\Deleted` (IMAP); POP3 removes by UID alone.
        deleted_only: bool,
    },
    /// Brings back what was expunged or deleted: messages with new UIDs in the mailbox they were in, with their flags (but
    /// `\Deleted`) and internal dates; a mailbox as it was, with a new UIDVALIDITY. Some of it at once; see
    /// [`Outcome::Restored`].
    Restore {
        /// Whose.
        account: AccountId,
        /// What.
        which: Deleted,
        /// Into this mailbox (created when it is missing) instead of where it was.
        to: Option<MailboxName>,
    },
    /// Removes for good what was expunged or deleted and is past its time, or more than is kept. Some of it at once; see
    /// [`Outcome::Purged`].
    Purge {
        /// Whose.
        account: AccountId,
        /// Whatever its time.
        everything: bool,
    },
}

/// What is to be had again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// These messages.
    Messages(Vec<MessageId>),
    /// The deleted mailboxes of this name, and what was expunged from them and from the mailbox that has the name now.
    Mailbox(MailboxName),
    /// Everything from this moment on, in seconds since 1970.
    Since(i64),
    /// Of these messages those that are in no mailbox and not kept either: damage, which `fsck` has found.
    Strays(Vec<MessageId>),
}

impl Command {
    /// Whether it brings something into the store, so that it has to wait when the disk is nearly full.
    pub(crate) fn takes_in(&self) -> bool {
        match self {
            Self::As { command, .. } => command.takes_in(),
            // What came of leases must be noted, or mail is sent twice.
            Self::Dispatch { settled, .. } => settled.is_empty(),
            Self::Deliver { .. }
            | Self::Quarantine { .. }
            | Self::Release { .. }
            | Self::Append { .. }
            | Self::Replace { .. }
            | Self::Copy { .. }
            | Self::CopyAcross { .. }
            | Self::CreateAccount { .. } => true,
            _ => false,
        }
    }
}

/// One recipient's share of a [`Command::Deliver`].
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Who receives.
    pub account: AccountId,
    /// Where; created when it is missing.
    pub mailbox: MailboxName,
    /// Trace headers for this recipient, put before the message (`Return-Path`, `Delivered-To`, `Received`), CRLF ends.
    pub trace_header: Bytes,
    /// Flags to begin with. Keywords beyond those that the mailbox can know are left out.
    pub flags: Flags,
    /// Internal date.
    pub internal_date: InternalDate,
}

/// One message of a [`Command::Append`].
#[derive(Clone, Debug)]
pub struct AppendMessage {
    /// The bytes, staged before.
    pub message: Arc<StagedMessage>,
    /// Flags to begin with.
    pub flags: Flags,
    /// Internal date.
    pub internal_date: InternalDate,
}

/// What a command did. Everything in it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; nothing to tell.
    Done,
    /// The account that was created.
    Account(AccountId),
    /// The group that was created.
    Group(GroupId),
    /// The mailbox that was created.
    Mailbox(MailboxId),
    /// One entry per delivery, in order.
    Delivered(Vec<Delivered>),
    /// One entry per delivery, and one per message that leaves, in order.
    Dispatched {
        /// Where the copies went.
        delivered: Vec<Delivered>,
        /// Their numbers in the queue.
        queued: Vec<QueueId>,
    },
    /// The number of a message that is kept apart.
    Quarantined(QueueId),
    /// Messages appended.
    Appended {
        /// UIDVALIDITY of the mailbox.
        uid_validity: UidValidity,
        /// UIDs, in the order of the messages.
        uids: Vec<Uid>,
    },
    /// Flags stored.
    Stored(Stored),
    /// Messages copied or moved.
    Copied {
        /// UIDVALIDITY of the target mailbox.
        uid_validity: UidValidity,
        /// Source UIDs, ascending.
        from: Vec<Uid>,
        /// Target UIDs, in the same order.
        to: Vec<Uid>,
    },
    /// Messages expunged.
    Expunged {
        /// The UIDs that went.
        uids: UidSet,
        /// Mod-sequence of the change; zero when nothing went.
        modseq: ModSeq,
    },
    /// Messages and mailboxes brought back.
    Restored {
        /// Entries that are there again, those of mailboxes included.
        messages: u64,
        /// Mailboxes that are there again.
        mailboxes: u32,
        /// There is more: give the same command again.
        more: bool,
    },
    /// Removed for good.
    Purged {
        /// Entries.
        messages: u64,
        /// There is more: give the same command again.
        more: bool,
    },
}

/// Where a recipient's copy went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Mailbox.
    pub mailbox: MailboxId,
    /// UID there.
    pub uid: Uid,
    /// Message id in the account.
    pub message: MessageId,
}

/// Result of [`Command::StoreFlags`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Every existing message asked for that passed `unchanged_since`, ascending, whether its flags changed or not.
    pub rows: Vec<FlagRow>,
    /// Messages left alone because of `unchanged_since` (RFC 7162 MODIFIED).
    pub modified: UidSet,
    /// Mod-sequence of the change; zero when nothing changed.
    pub modseq: ModSeq,
}

/// The flags of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagRow {
    /// UID.
    pub uid: Uid,
    /// Flags now.
    pub flags: Flags,
    /// Mod-sequence now.
    pub modseq: ModSeq,
}

/// Why the engine refused or failed. Nothing has changed when it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// No such domain, account, alias, mailbox or message.
    NotFound(String),
    /// It is there already.
    Exists(String),
    /// The request makes no sense (INBOX deleted, a mailbox renamed below itself, a bad address).
    Invalid(String),
    /// Whoever gave the command may not do that.
    NoPermission(String),
    /// The account's quota would be exceeded.
    OverQuota,
    /// A named limit would be exceeded.
    Limit(String),
    /// Try again later: disk full, write stall, too much work waiting.
    Unavailable(String),
    /// Stored data is damaged; `rockdove fsck` tells more.
    Corrupt(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "{what} does not exist"),
            Self::Exists(what) => write!(f, "{what} exists already"),
            Self::Invalid(why) => f.write_str(why),
            Self::NoPermission(why) => write!(f, "not permitted: {why}"),
            Self::OverQuota => f.write_str("the quota of the account is exceeded"),
            Self::Limit(why) => write!(f, "limit reached: {why}"),
            Self::Unavailable(why) => write!(f, "temporarily unavailable, try again: {why}"),
            Self::Corrupt(why) => write!(f, "damaged data, run `rockdove fsck`: {why}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<KvError> for EngineError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Busy(why) | KvError::Io(why) => Self::Unavailable(why),
            KvError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

/// What every commit tells: after it is durable, in commit order for each account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeNotice {
    /// Whose.
    pub account: AccountId,
    /// The mailboxes that changed; empty when only the list of mailboxes did.
    pub mailboxes: Vec<MailboxId>,
    /// The account's highest mod-sequence now.
    pub modseq: ModSeq,
}

/// The keywords a mailbox knows, as FLAGS and PERMANENTFLAGS list them.
pub type Keywords = Vec<Keyword>;
