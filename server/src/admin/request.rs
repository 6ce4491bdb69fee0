//! What can be asked, and what is replied: one JSON object per line on the control socket.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::facts::*;
use super::quarantine::{QuarantineRequest, QuarantinedFacts};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the server is.
    Status,
    /// Its figures in the text form of Prometheus.
    Metrics,
    /// Adds a local domain.
    DomainAdd {
        /// Its name.
        name: String,
    },
    /// Removes a domain without accounts and aliases.
    DomainRemove {
        /// Its name.
        name: String,
    },
    /// All domains.
    DomainList,
    /// Sets or clears the address that receives mail for unknown local parts.
    DomainCatchAll {
        /// Name of the domain.
        name: String,
        /// A local address; `None` clears it.
        address: Option<String>,
    },
    /// Sets or clears the account whose mailboxes a domain sees as public.
    DomainPublic {
        /// Name of the domain.
        name: String,
        /// Its address; `None` clears it.
        address: Option<String>,
    },
    /// Makes a key that mail of a domain is signed with.
    DkimCreate {
        /// Name of the domain.
        domain: String,
        /// Its selector; made from the present day when missing.
        selector: Option<String>,
        /// `ed25519` instead of `rsa`.
        ed25519: bool,
        /// Mail is signed with it at once.
        active: bool,
    },
    /// The keys of a domain: [`Reply::Dkim`].
    DkimList {
        /// Name of the domain.
        domain: String,
    },
    /// Signs with a key from now on, or no more.
    DkimActivate {
        /// Name of the domain.
        domain: String,
        /// Its selector.
        selector: String,
        /// Sign.
        active: bool,
    },
    /// Removes a key.
    DkimRemove {
        /// Name of the domain.
        domain: String,
        /// Its selector.
        selector: String,
    },
    /// Tells other domains now how well connections to them were protected (RFC 8460), today's included.
    TlsReports,
    /// Changes what somebody may do with a mailbox.
    AclSet {
        /// Address of the owner.
        owner: String,
        /// Name of the mailbox, as the owner sees it.
        mailbox: String,
        /// An address, `group:` and a name, `anyone` or `owner`; with `-` before it for what is denied.
        identifier: String,
        /// Letters of RFC 4314, with `+` or `-` before them to add or remove; none removes all.
        rights: String,
    },
    /// Who may do what with a mailbox.
    AclList {
        /// Address of the owner.
        owner: String,
        /// Name of the mailbox, as the owner sees it.
        mailbox: String,
    },
    /// Adds a group.
    GroupAdd {
        /// Its name.
        group: String,
    },
    /// Removes a group.
    GroupRemove {
        /// Its name.
        group: String,
    },
    /// All groups and their members.
    GroupList,
    /// Adds an account to a group or takes it out.
    GroupMember {
        /// Name of the group.
        group: String,
        /// Primary address of the account.
        address: String,
        /// Add or take out.
        member: bool,
    },
    /// Adds accounts, each on its own: some may be refused and others made. One that is refused is named by a
    /// [`Reply::NotAdded`].
    AccountAdd {
        /// At most [`super::IMPORT_BATCH_MAX`].
        accounts: Vec<NewAccount>,
    },
    /// Removes an account and its mail.
    AccountRemove {
        /// Primary address.
        address: String,
    },
    /// All accounts.
    AccountList,
    /// One account and what it uses.
    AccountShow {
        /// Primary address.
        address: String,
    },
    /// Changes a password.
    AccountPassword {
        /// Primary address.
        address: String,
        /// The new one.
        password: Secret,
    },
    /// Changes a quota.
    AccountQuota {
        /// Primary address.
        address: String,
        /// Octets; `None` for no limit.
        quota_bytes: Option<u64>,
    },
    /// Sends the mail of an account on, or no more.
    AccountForward {
        /// Primary address.
        address: String,
        /// Addresses, here or elsewhere; none: to nobody.
        targets: Vec<String>,
        /// The account gets a copy too.
        keep: bool,
    },
    /// Makes a distribution list, or changes it.
    ListSet {
        /// Its address.
        list: String,
        /// Who answers for it; needed for a new one.
        owner: Option<String>,
        /// Who may post: `anyone`, `members` or `owner`.
        posting: Option<String>,
        /// And these.
        posters: Option<Vec<String>>,
        /// It is not there yet.
        is_new: bool,
    },
    /// Removes a distribution list.
    ListRemove {
        /// Its address.
        list: String,
    },
    /// One list with its members, or all without: [`Reply::List`].
    ListShow {
        /// Its address.
        list: Option<String>,
    },
    /// Adds members to a list, or takes them out.
    ListMembers {
        /// Its address.
        list: String,
        /// Addresses.
        members: Vec<String>,
        /// Add.
        member: bool,
    },
    /// Makes an alias, or replaces its targets.
    AliasAdd {
        /// The address.
        alias: String,
        /// Addresses, here or elsewhere.
        targets: Vec<String>,
    },
    /// Removes an alias.
    AliasRemove {
        /// The address.
        alias: String,
    },
    /// All aliases.
    AliasList,
    /// Compares what is derived with what it is derived from.
    Fsck {
        /// Whether what can be repaired is.
        repair: bool,
    },
    /// Writes everything that is derived anew.
    Rebuild,
    /// The deleted mail of an account that can be had again: [`Reply::DeletedMailbox`], [`Reply::DeletedMessage`].
    UndeleteList {
        /// Primary address.
        address: String,
        /// Only this.
        filter: UndeleteFilter,
    },
    /// Brings deleted mail back: messages, or a mailbox, or everything since a moment.
    UndeleteRestore {
        /// Primary address.
        address: String,
        /// Ids of messages.
        messages: Vec<u32>,
        /// A mailbox, or a moment.
        filter: UndeleteFilter,
        /// The mailbox to bring it to, instead of where it was.
        to: Option<String>,
    },
    /// Removes deleted mail for good.
    UndeletePurge {
        /// Primary address.
        address: String,
    },
    /// Gives back at once what limits have taken from somebody.
    GateRefill {
        /// An address of a client or its network, the address of an account, or a domain.
        who: String,
    },
    /// Mail that is kept apart: [`Reply::Quarantined`].
    Quarantine(QuarantineRequest),
    /// Mail that waits to leave: [`Reply::Queued`].
    QueueList {
        /// Only this.
        filter: QueueFilter,
    },
    /// One message that waits.
    QueueShow {
        /// Its number.
        message: u64,
    },
    /// How much waits for each next hop: [`Reply::QueueHop`].
    QueueHops,
    /// Does something with messages that wait.
    QueueEdit {
        /// Their numbers.
        messages: Vec<u64>,
        /// Those that are meant, instead.
        filter: Option<QueueFilter>,
        /// What.
        edit: QueueEdit,
    },
    /// How much was learned of spam: [`Reply::Spam`].
    SpamStatus {
        /// Of this account, instead of the whole server.
        account: Option<String>,
    },
    /// Learns messages: [`Reply::SpamLearned`].
    SpamLearn {
        /// For this account, instead of the whole server.
        account: Option<String>,
        /// They are unwanted.
        spam: bool,
        /// The messages.
        messages: Vec<SpamMessage>,
    },
    /// Takes back what was learned of messages: [`Reply::SpamLearned`].
    SpamForget {
        /// Of this account, instead of the whole server.
        account: Option<String>,
        /// The messages.
        messages: Vec<SpamMessage>,
    },
    /// Takes back everything.
    SpamForgetAll {
        /// Of this account, instead of the whole server.
        account: Option<String>,
    },
    /// Judges a message: [`Reply::SpamVerdict`].
    SpamTest {
        /// As one for this account.
        account: Option<String>,
        /// What it has.
        tokens: Vec<u64>,
    },
    /// What happened to mail: [`Reply::Traced`].
    Trace {
        /// To which.
        filter: TraceFilter,
    },
    /// What is stored and for whom.
    Stats,
    /// Makes a checkpoint of the store for a backup.
    Checkpoint,
}

/// Some of the mail that waits to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueFilter {
    /// Address of the account that sent it.
    pub owner: Option<String>,
    /// Its sender.
    pub sender: Option<String>,
    /// What a recipient has in its address.
    pub recipient: Option<String>,
    /// Its next hop.
    pub next_hop: Option<String>,
    /// Whether it is on hold.
    pub held: Option<bool>,
}

/// A distribution list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFacts {
    /// Its address.
    pub list: String,
    /// Who answers for it.
    pub owner: String,
    /// Who may post: `anyone`, `members` or `owner`.
    pub posting: String,
    /// And these.
    pub posters: Vec<String>,
    /// How many members it has.
    pub count: usize,
    /// They, when one list was asked for.
    pub members: Vec<String>,
}

/// Whose fate is asked for: all that is given must be true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceFilter {
    /// What the message is called in the log.
    pub id: Option<String>,
    /// Its sender.
    pub from: Option<String>,
    /// One of its recipients.
    pub to: Option<String>,
    /// Its Message-ID.
    pub message_id: Option<String>,
    /// The IP address of the client.
    pub ip: Option<String>,
    /// At this moment or later, in seconds since 1970.
    pub since_unix_s: Option<i64>,
    /// Before this moment, in seconds since 1970.
    pub until_unix_s: Option<i64>,
    /// So many messages, the newest.
    pub limit: usize,
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFacts {
    /// What it is called in the log; empty when it was refused before it had a name.
    pub id: String,
    /// In their order.
    pub events: Vec<EventFacts>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFacts {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What: the word of the log.
    pub what: String,
    /// The rest, by its name in the log.
    #[serde(flatten)]
    pub facts: std::collections::BTreeMap<String, String>,
}

/// What is to be done with a message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueEdit {
    /// Not sent until it is released.
    Hold,
    /// Sent after all.
    Release,
    /// Tried now.
    Retry,
    /// Sent another way.
    Reroute {
        /// The next hop.
        next_hop: String,
    },
    /// Not sent at all.
    Cancel,
}

/// Some of the deleted mail of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndeleteFilter {
    /// Of mailboxes of this name.
    pub mailbox: Option<String>,
    /// Deleted at this moment or later, in seconds since 1970.
    pub since_unix_s: Option<i64>,
    /// With this in its subject, whatever its case.
    pub subject: Option<String>,
}

/// An account to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Primary address, which is also the login.
    pub address: String,
    /// Its password.
    pub password: Secret,
    /// Octets its mail may take; `None` for no limit.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
}

/// A password. It is not shown by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A reply. A request has any number of the others and then one [`Reply::is_last`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Metrics`].
    Metrics(String),
    /// One domain.
    Domain(DomainFacts),
    /// One account.
    Account(AccountFacts),
    /// What an account uses.
    Use(AccountUse),
    /// A mailbox that was deleted.
    DeletedMailbox(DeletedMailboxFacts),
    /// A message that was expunged, or that is in a deleted mailbox.
    DeletedMessage(DeletedMessageFacts),
    /// A message that is kept apart.
    Quarantined(QuarantinedFacts),
    /// A message that waits to leave.
    Queued(QueuedFacts),
    /// How much waits for a next hop.
    QueueHop(QueueHopFacts),
    /// What happened to a message.
    Traced(TraceFacts),
    /// A signing key.
    Dkim(DkimFacts),
    /// One distribution list.
    List(ListFacts),
    /// One alias.
    Alias(AliasFacts),
    /// One group.
    Group(GroupFacts),
    /// One line of a list of rights.
    Acl(AclLine),
    /// An account that was not made.
    NotAdded {
        /// Which.
        address: String,
        /// Why, and what to do.
        why: String,
    },
    /// How much was learned of spam.
    Spam(SpamFacts),
    /// What came of learning and forgetting messages.
    SpamLearned {
        /// Counted in.
        learned: u32,
        /// Taken out again.
        forgotten: u32,
        /// Nothing new was said of them.
        known: u32,
    },
    /// What a message is judged.
    SpamVerdict(SpamVerdict),
    /// The name of a checkpoint.
    Checkpoint(String),
    /// What is stored for somebody.
    Storage(StorageFacts),
    /// Something that a check found, in words.
    Finding(String),
    /// What a check went through.
    Checked(CheckFacts),
    /// The last: it is done; a line for people, maybe empty.
    Done(String),
    /// The last: it was refused; why, and what to do.
    Refused(String),
}

impl Reply {
    /// Whether no more replies follow.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Refused(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_are_lines_of_json() {
        let add = Request::AccountAdd {
            accounts: vec![NewAccount {
                address: "ada@example.org".to_owned(),
                password: Secret("a \"quoted\"\nword".to_owned()),
                quota_bytes: None,
            }],
        };
        let replies =
            [Reply::Done(String::new()), Reply::Refused("no\nway".to_owned()), Reply::Metrics("x 1\n".into())];
        let line = serde_json::to_string(&add).expect("JSON");
        assert!(!line.contains('\n') && line.starts_with("{\"request\":\"account-add\""), "{line}");
        assert_eq!(serde_json::from_str::<Request>(&line).expect("a request"), add);
        assert!(!format!("{add:?}").contains("quoted"));
        for reply in replies {
            let line = serde_json::to_string(&reply).expect("JSON");
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Reply>(&line).expect("a reply"), reply);
        }
        for bad in ["", "{}", "{\"request\":\"no-such\"}", "{\"request\":\"domain-add\",\"name\":\"x\",\"more\":1}"] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
