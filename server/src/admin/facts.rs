//! What is told about things: the values of replies.

use serde::{Deserialize, Serialize};

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since it began to serve.
    pub uptime_s: u64,
    /// How sockets are driven: `io_uring` or `epoll`.
    pub backend: String,
    /// Process id.
    pub pid: u32,
    /// Connections now.
    pub connections: usize,
    /// Where it listens in fact.
    pub listeners: Vec<ListenerFacts>,
    /// Mail that waits to leave.
    #[serde(default)]
    pub queue: QueueStatus,
}

/// How much mail waits to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Messages.
    pub messages: u64,
    /// Recipients that wait.
    pub recipients: u64,
    /// Those that are due.
    pub due: u64,
    /// Those that are on hold.
    pub held: u64,
    /// Seconds since the oldest message was accepted.
    pub oldest_s: u64,
}

/// A listener that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerFacts {
    /// `smtp`, `submission`, `lmtp`, `imap` or `pop3`.
    pub protocol: String,
    /// `none`, `starttls` or `implicit`.
    pub tls: String,
    /// Address and port, or `unix:` and a path.
    pub address: String,
}

/// A local domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainFacts {
    /// Its name: A-labels, lower case.
    pub name: String,
    /// The address that receives mail for unknown local parts.
    pub catch_all: Option<String>,
    /// The account whose mailboxes it sees as public.
    #[serde(default)]
    pub public: Option<String>,
    /// When it was added, in seconds since 1970.
    pub created_unix_s: i64,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// Primary address.
    pub address: String,
    /// Its number, which is never used again.
    pub id: u32,
    /// Octets its mail may take; `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// When it was added, in seconds since 1970.
    pub created_unix_s: i64,
    /// Addresses that its mail is sent on to.
    #[serde(default)]
    pub forward: Vec<String>,
    /// It gets its mail itself: what is sent on too.
    #[serde(default = "yes")]
    pub keeps: bool,
}

fn yes() -> bool {
    true
}

/// What an account uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUse {
    /// Octets of its messages.
    pub used_bytes: u64,
    /// Its messages.
    pub messages: u64,
    /// Octets of deleted messages that can be had again; the quota does not count them.
    pub deleted_bytes: u64,
    /// These messages.
    pub deleted_messages: u64,
}

/// A mailbox that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedMailboxFacts {
    /// Its name.
    pub deleted_mailbox: String,
    /// When, in seconds since 1970.
    pub deleted_unix_s: i64,
    /// Messages in it.
    pub messages: u32,
    /// Octets of these.
    pub size_bytes: u64,
}

/// A message that can be had again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedMessageFacts {
    /// Its id in the account.
    pub message: u32,
    /// Where it was; missing when that is not known.
    pub mailbox: Option<String>,
    /// Its UID there.
    pub uid: u32,
    /// When it was expunged, or its mailbox deleted, in seconds since 1970.
    pub deleted_unix_s: i64,
    /// Its internal date, in seconds since 1970.
    pub internal_date_unix_s: i64,
    /// Octets.
    pub size_bytes: u64,
    /// Its subject.
    pub subject: String,
}

/// A message that waits to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedFacts {
    /// Its number.
    pub message: u64,
    /// Its sender; empty for a report.
    pub sender: String,
    /// Address of the account that sent it.
    pub owner: Option<String>,
    /// Octets.
    pub size_bytes: u64,
    /// When it was accepted, in seconds since 1970.
    pub received_unix_s: i64,
    /// Its subject.
    pub subject: String,
    /// What is left to do.
    pub tasks: Vec<QueuedTaskFacts>,
}

/// What is left to do for a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedTaskFacts {
    /// The next hop.
    pub next_hop: String,
    /// When it is tried, in seconds since 1970.
    pub due_unix_s: i64,
    /// It is on hold.
    pub held: bool,
    /// Attempts so far.
    pub attempts: u32,
    /// The recipients.
    pub recipients: Vec<QueuedRecipientFacts>,
}

/// A recipient of a message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipientFacts {
    /// Its address.
    pub address: String,
    /// `waiting`, `sent` or `failed`.
    pub state: String,
    /// The last reply; empty before the first.
    pub reply: String,
}

/// A signing key, without its private half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimFacts {
    /// The domain.
    pub domain: String,
    /// Its selector.
    pub selector: String,
    /// `rsa` or `ed25519`.
    pub algorithm: String,
    /// Mail is signed with it.
    pub active: bool,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: i64,
    /// What is to be published, as a TXT record of `selector._domainkey.domain`.
    pub record: String,
}

/// How much waits for a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueHopFacts {
    /// The next hop.
    pub next_hop: String,
    /// Tasks: messages, or hundreds of recipients of one.
    pub tasks: u64,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupFacts {
    /// Its name.
    pub name: String,
    /// Addresses of its members.
    pub members: Vec<String>,
}

/// What somebody may do with a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclLine {
    /// Who.
    pub identifier: String,
    /// Letters of RFC 4314.
    pub rights: String,
}

/// How much was learned of spam.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpamFacts {
    /// Unwanted messages learned.
    pub spam: u32,
    /// Wanted messages learned.
    pub ham: u32,
    /// Different tokens.
    pub tokens: u64,
    /// Messages of the whole server that wait to be learned.
    pub waiting: u64,
}

/// A message to be learned, without its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpamMessage {
    /// What it is known by.
    pub digest: [u8; 16],
    /// Numbers of its tokens.
    pub tokens: Vec<u64>,
}

/// How likely a message is unwanted, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpamVerdict {
    /// From 0 (wanted) to 1 (unwanted); `None` when nothing was learned of either.
    pub score: Option<f64>,
    /// The tokens that are known.
    pub tokens: Vec<SpokenToken>,
}

/// What one token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpokenToken {
    /// Its number.
    pub token: u64,
    /// Unwanted messages that it was in.
    pub spam: u32,
    /// Wanted ones.
    pub ham: u32,
    /// How likely a message with it is unwanted.
    pub probability: f64,
}

/// What is stored for somebody. Octets are as the engine writes them, before the tables on disk are packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageFacts {
    /// `store`, `domain` or `account`.
    pub of: String,
    /// The domain or the address; empty for the whole store.
    pub name: String,
    /// Messages.
    pub messages: u64,
    /// Octets of them as clients see them.
    pub message_bytes: u64,
    /// Octets of their records.
    pub record_bytes: u64,
    /// Parts that they refer to, each once.
    pub parts: u64,
    /// Octets stored of these parts.
    pub part_bytes: u64,
    /// Octets that storing equal parts once saves.
    pub deduplication_saved_bytes: u64,
    /// Octets that decoding and compressing saves, less what records add; below 0 where they add more.
    pub packing_saved_bytes: i64,
    /// Octets of parts that no message refers to; for the whole store alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_bytes: Option<u64>,
    /// Octets of tables and parts on disk, without the log; for the whole store of a running server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Of these, octets that searching and sorting read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_bytes: Option<u64>,
    /// Of these, octets of the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_bytes: Option<u64>,
}

/// What a check went through and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFacts {
    /// Accounts.
    pub accounts: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Entries in mailboxes.
    pub entries: u64,
    /// Messages.
    pub messages: u64,
    /// Messages that wait to leave.
    #[serde(default)]
    pub queued: u64,
    /// Events of the trace.
    #[serde(default)]
    pub events: u64,
    /// Messages that are kept apart.
    #[serde(default)]
    pub quarantined: u64,
    /// Parts.
    pub parts: u64,
    /// Findings, repaired ones included.
    pub findings: u64,
    /// Findings that were repaired.
    pub repaired: u64,
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasFacts {
    /// The address.
    pub address: String,
    /// Local addresses that receive its mail.
    pub targets: Vec<String>,
}
