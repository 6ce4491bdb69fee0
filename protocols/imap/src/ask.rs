//! What a session asks its host, and what the host answers.
//!
//! The host holds, for each connection, whose it is and the selected mailbox: a snapshot (*view*) that it renews with
//! every [`Ask::Sync`], [`Ask::Store`] and [`Ask::Expunge`]. Sets of messages cross as UIDs; sequence numbers belong to
//! the session, and the host gets them only to render FETCH responses ([`Numbers`]).

use std::sync::Arc;

use bytes::Bytes;
use rockdove_mail::{
    FlagUpdate, Flags, Keyword, MailboxName, MetadataEntry, ModSeq, Rights, RightsUpdate, SpecialUse, Uid, UidSet,
    UidValidity,
    sasl::{Password, ScramKeys},
    search::{SearchKey, SortCriterion, ThreadAlgorithm, ThreadNode},
};

pub use rockdove_mail::sasl::LoginAnswer;

use crate::{
    fetch::{FetchCursor, FetchRequest},
    numbers::Numbers,
};

/// What never changes and is never used again: of a mailbox MAILBOXID, of a message and its copies EMAILID (RFC 8474).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    /// Whose it is.
    pub account: u32,
    /// Which of the account's.
    pub number: u32,
}

impl ObjectId {
    /// MAILBOXID on the wire.
    pub fn mailbox(self) -> String {
        format!("F{}-{}", self.account, self.number)
    }

    /// EMAILID on the wire.
    pub fn email(self) -> String {
        format!("M{}-{}", self.account, self.number)
    }

    /// The message of an EMAILID; `None`: it is none of ours.
    pub fn of_email(text: &str) -> Option<Self> {
        let (account, number) = text.strip_prefix('M')?.split_once('-')?;
        let id = Self { account: account.parse().ok()?, number: number.parse().ok()? };
        (id.email() == text).then_some(id)
    }
}

/// What the host tells a session about itself at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapConfig {
    /// Name of this server in the greeting.
    pub host_name: String,
    /// Version for ID.
    pub version: String,
    /// Whether STARTTLS is offered (there is a certificate, and TLS is not on already).
    pub starttls: bool,
    /// Whether passwords are taken on this connection without TLS.
    pub clear_login: bool,
    /// The administrator's door: the operating system has told who is there. SASL EXTERNAL (RFC 4422 appendix A) and
    /// nothing else is offered.
    pub external: bool,
    /// Octets of one message.
    pub message_size_max: u64,
    /// Keywords that a mailbox can have. One that has them all takes no others.
    pub keywords_max: usize,
    /// First level of the names of other users' mailboxes (RFC 2342).
    pub other_users: &'static str,
    /// First level of the names of public mailboxes.
    pub public: &'static str,
    /// From the greeting to a login, in milliseconds.
    pub login_ms_max: u64,
    /// Silence after login, in milliseconds; RFC 9051 section 5.4 demands 30 minutes at least.
    pub autologout_ms: u64,
}

/// A question to the host. Each is answered exactly once; [`Answer::Refused`] answers any.
#[derive(Debug)]
pub enum Ask {
    /// Is this the password? Answered by [`Answer::Login`]; when accepted, the host remembers whose connection this is.
    CheckPassword {
        /// Login name as the client gave it.
        login: String,
        /// The password.
        password: Password,
        /// SASL authorization identity, where it was given.
        authorize_as: Option<String>,
    },
    /// The SCRAM keys of this login; made-up but stable ones for a login that does not exist. Answered by
    /// [`Answer::Scram`].
    ScramKeys {
        /// Login name as the client gave it.
        login: String,
    },
    /// A SCRAM exchange is over. Answered by [`Answer::Login`].
    ScramDone {
        /// Login name as the client gave it; empty when the exchange broke before it was known.
        login: String,
        /// SASL authorization identity, where it was given.
        authorize_as: Option<String>,
        /// Whether the client proved that it knows the password.
        proven: bool,
    },
    /// EXTERNAL: may this connection be that account's? Answered by [`Answer::Login`]; when accepted, the host remembers
    /// whose connection this is.
    External {
        /// SASL authorization identity: the account.
        authorize_as: String,
    },
    /// May this connection be compressed? Answered by [`Answer::Done`]; then the memory for it is put aside.
    MayCompress,
    /// Forget whose connection this is, and whatever was open (RFC 8437). Answered by [`Answer::Done`].
    Unauthenticate,
    /// All mailboxes and subscriptions. Answered by [`Answer::Mailboxes`].
    Mailboxes,
    /// Counters of a mailbox. Answered by [`Answer::Status`].
    Status {
        /// Which.
        mailbox: MailboxName,
        /// Whether [`Status::deleted_bytes`] is wanted, which costs a look at every message.
        deleted_bytes: bool,
    },
    /// Create a mailbox. Answered by [`Answer::Created`].
    Create {
        /// Its name.
        mailbox: MailboxName,
        /// Its use, if any.
        special_use: Option<SpecialUse>,
    },
    /// Delete a mailbox. Answered by [`Answer::Done`].
    Delete {
        /// Which.
        mailbox: MailboxName,
    },
    /// Rename a mailbox. Answered by [`Answer::Done`].
    Rename {
        /// Old name.
        from: MailboxName,
        /// New name.
        to: MailboxName,
    },
    /// Change a subscription. Answered by [`Answer::Done`].
    Subscribe {
        /// Which.
        mailbox: MailboxName,
        /// Add or remove.
        subscribed: bool,
    },
    /// Change what somebody may do with a mailbox (RFC 4314). Answered by [`Answer::Done`].
    SetRights {
        /// Which.
        mailbox: MailboxName,
        /// Who; with `-` before it for what is denied.
        identifier: String,
        /// How.
        update: RightsUpdate,
        /// What; none with [`RightsUpdate::Replace`] takes the identifier out.
        rights: Rights,
    },
    /// Who may do what with a mailbox. Answered by [`Answer::Acl`].
    Acl {
        /// Which.
        mailbox: MailboxName,
    },
    /// What an identifier may do with a mailbox in any case. Answered by [`Answer::Rights`].
    ListRights {
        /// Which.
        mailbox: MailboxName,
        /// Who.
        identifier: String,
    },
    /// What the user may do with a mailbox. Answered by [`Answer::Rights`].
    MyRights {
        /// Which.
        mailbox: MailboxName,
    },
    /// A quota root (RFC 9208). Answered by [`Answer::Quota`].
    Quota {
        /// Its name.
        root: String,
    },
    /// The quota root of a mailbox. Answered by [`Answer::Quota`].
    QuotaRoot {
        /// Which.
        mailbox: MailboxName,
    },
    /// Replace the limits of a quota root. Answered by [`Answer::Done`].
    SetQuota {
        /// Its name.
        root: String,
        /// Names of resources, upper case, and their limits in their units.
        limits: Vec<(String, u64)>,
    },
    /// The annotations (RFC 5464) that the user sees, of a mailbox or (`None`) of the server. [`Answer::Metadata`].
    Metadata {
        /// Of which.
        mailbox: Option<MailboxName>,
    },
    /// What stands for the annotations that the user sees of mailboxes and (`None`) the server, so that changes are seen.
    /// [`Answer::MetadataMarks`].
    MetadataMarks {
        /// Of which.
        places: Vec<Option<MailboxName>>,
    },
    /// Sets annotations, all or none. [`Answer::Done`].
    SetMetadata {
        /// Of which mailbox; `None`: of the server.
        mailbox: Option<MailboxName>,
        /// Entries and their values, none larger than [`rockdove_mail::METADATA_VALUE_OCTETS_MAX`]; `None` removes one.
        entries: Vec<(MetadataEntry, Option<Bytes>)>,
    },
    /// Open a mailbox in place of the one that is open. Answered by [`Answer::Selected`]; after [`Answer::Refused`] none
    /// is open.
    Select {
        /// Which.
        mailbox: MailboxName,
        /// EXAMINE: claims no recent messages.
        read_only: bool,
    },
    /// Let the open mailbox go. Answered by [`Answer::Done`].
    Unselect,
    /// What has changed in the open mailbox since this mod-sequence. Renews the view. Answered by [`Answer::Changes`].
    Sync {
        /// Everything up to here is known.
        since: ModSeq,
        /// Mod-sequences of changes of this session, whose flags the client knows already.
        own: Vec<ModSeq>,
        /// Keywords known so far.
        keywords_known: usize,
        /// Claim new messages as recent (not in EXAMINE).
        claim_recent: bool,
    },
    /// UIDs of messages that have been removed from the open mailbox after this mod-sequence. Does not renew the view.
    /// Answered by [`Answer::Vanished`].
    Vanished {
        /// Removals up to here are known.
        since: ModSeq,
    },
    /// Wait until the open mailbox has changed after this mod-sequence. Answered by [`Answer::Changed`], at once when it
    /// has already, or when [`Ask::EndWatch`] comes. At most one is open.
    Watch {
        /// Everything up to here is known.
        since: ModSeq,
    },
    /// Wait until something has changed in what the user sees: mailboxes, their names, subscriptions. Answered by
    /// [`Answer::Changed`]: at once the first time, and when something has changed since it was answered so before; until
    /// [`Ask::Watch`] comes the host remembers that it has, also while this is not asked.
    WatchAll,
    /// Counters of several mailboxes. Answered by [`Answer::Statuses`].
    Statuses {
        /// Which.
        mailboxes: Vec<MailboxName>,
    },
    /// End the watch: the host answers the open [`Ask::Watch`] with [`Answer::Changed`] first, if there is one, and this
    /// with [`Answer::Done`]. An open [`Ask::WatchAll`] that nothing has happened to is answered with [`Answer::Done`].
    EndWatch,
    /// Render FETCH responses of the open mailbox, a page at a time. Answered by [`Answer::Page`].
    Fetch {
        /// Which messages; all of them known to the session.
        uids: Arc<UidSet>,
        /// What.
        request: Arc<FetchRequest>,
        /// The sequence numbers.
        numbers: Arc<Numbers>,
        /// Messages that are `\Recent` for this session.
        recent: Arc<UidSet>,
        /// Only messages changed after this.
        changed_since: Option<ModSeq>,
        /// Where to go on; the default for the first page.
        cursor: FetchCursor,
    },
    /// Change flags in the open mailbox. Renews the view. Answered by [`Answer::Stored`].
    Store {
        /// Which messages.
        uids: UidSet,
        /// How.
        update: FlagUpdate,
        /// What.
        flags: Flags,
        /// Leave messages with a higher mod-sequence alone.
        unchanged_since: Option<ModSeq>,
    },
    /// UIDs of the open mailbox's messages that match. Answered by [`Answer::Found`].
    Search {
        /// What; sequence numbers have become UIDs.
        key: SearchKey,
        /// Only messages that the session knows.
        within: UidSet,
    },
    /// UIDs of the messages of any mailbox that match. Answered by [`Answer::FoundIn`].
    SearchIn {
        /// Which.
        mailbox: MailboxName,
        /// What; sequence numbers have become UIDs.
        key: SearchKey,
        /// Only these messages; `None` for all.
        within: Option<UidSet>,
    },
    /// How well messages match what is searched fuzzily (RFC 6203). Answered by [`Answer::Relevancy`].
    Relevancy {
        /// Of which mailbox; `None` for the open one.
        mailbox: Option<MailboxName>,
        /// What they were found by.
        key: SearchKey,
        /// The messages.
        uids: UidSet,
    },
    /// Messages of the open mailbox that match, ordered. Answered by [`Answer::Sorted`].
    Sort {
        /// What; sequence numbers have become UIDs.
        key: SearchKey,
        /// Only messages that the session knows.
        within: UidSet,
        /// By what.
        criteria: Vec<SortCriterion>,
    },
    /// Threads of the open mailbox's messages that match. Answered by [`Answer::Threads`].
    Thread {
        /// What; sequence numbers have become UIDs.
        key: SearchKey,
        /// Only messages that the session knows.
        within: UidSet,
        /// How threads are found.
        algorithm: ThreadAlgorithm,
    },
    /// Copy or move messages of the open mailbox. Answered by [`Answer::Copied`].
    Copy {
        /// Which messages.
        uids: UidSet,
        /// Where.
        mailbox: MailboxName,
        /// MOVE.
        remove: bool,
    },
    /// Remove messages with `\Deleted` from the open mailbox. Renews the view. Answered by [`Answer::Expunged`].
    Expunge {
        /// Only these; `None` for all.
        uids: Option<UidSet>,
    },
    /// Begin to take a message in. Answered by [`Answer::Done`], or refused (`TryCreate` when there is no such mailbox)
    /// before the client has sent a single octet of it.
    AppendBegin {
        /// Where.
        mailbox: MailboxName,
        /// Octets announced.
        size_bytes: u64,
        /// A message will go for it, so that there is room for more than there seems to be.
        replaces: bool,
    },
    /// More octets of the message. Answered by [`Answer::Done`].
    AppendOctets(Vec<Bytes>),
    /// The message is complete and another follows, which will be stored together with it. Answered by [`Answer::Done`].
    AppendNext {
        /// Flags to begin with.
        flags: Flags,
        /// Internal date, as in [`Ask::AppendEnd`].
        date: Option<(i64, i16)>,
        /// Octets announced of the next one.
        size_bytes: u64,
    },
    /// The message is complete, and no other follows. Answered by [`Answer::Appended`] when all of this APPEND are durable.
    AppendEnd {
        /// Flags to begin with.
        flags: Flags,
        /// Internal date: seconds since 1970 and zone east of UTC in minutes; `None` for now.
        date: Option<(i64, i16)>,
        /// REPLACE (RFC 8508): this message of the open mailbox goes in the same commit.
        replaces: Option<Uid>,
    },
    /// All messages of this APPEND are given up. Answered by [`Answer::Done`].
    AppendAbort,
}

/// Why something was not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such mailbox.
    NoSuchMailbox,
    /// The user may not do that.
    NoPermission,
    /// No such quota root, or not for this user.
    NoSuchQuotaRoot,
    /// There would be too many annotations.
    TooManyAnnotations,
    /// It is there already.
    Exists,
    /// It makes no sense; the text says why.
    Cannot(String),
    /// The quota of the account would be exceeded.
    OverQuota,
    /// A named limit would be exceeded; the text says which.
    Limit(String),
    /// The open mailbox is gone.
    MailboxGone,
    /// Not at the moment.
    TryLater,
    /// Stored data is damaged.
    Corrupt,
}

/// One mailbox of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxLine {
    /// Its name.
    pub name: MailboxName,
    /// MAILBOXID, by which a mailbox is known again that has another name.
    pub mailbox_id: ObjectId,
    /// Its use.
    pub special_use: Option<SpecialUse>,
    /// What the user may do with it.
    pub rights: Rights,
}

/// A quota root and what is limited in it (RFC 9208).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaFacts {
    /// Its name.
    pub root: String,
    /// Resource, usage and limit, in the unit of the resource; what has no limit is left out.
    pub resources: Vec<(&'static str, u64, u64)>,
}

/// The mailboxes and subscriptions of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailboxes {
    /// Sorted by name. A parent that does not exist itself is not listed here.
    pub mailboxes: Vec<MailboxLine>,
    /// Sorted; they need not exist.
    pub subscriptions: Vec<MailboxName>,
}

/// Counters of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// MESSAGES.
    pub messages: u32,
    /// RECENT.
    pub recent: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UNSEEN.
    pub unseen: u32,
    /// DELETED.
    pub deleted: u32,
    /// SIZE, in octets.
    pub size_bytes: u64,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// MAILBOXID.
    pub mailbox_id: ObjectId,
    /// DELETED-STORAGE, in octets; only when it was asked for.
    pub deleted_bytes: u64,
}

/// An open mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// UIDs of all messages.
    pub uids: UidSet,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// Everything up to this mod-sequence of the account is told: `since` of what is asked next. Other mailboxes move it
    /// as well, so it is at least `highest_modseq`.
    pub known_modseq: ModSeq,
    /// Keywords in use.
    pub keywords: Vec<Keyword>,
    /// The first message without `\Seen`.
    pub first_unseen: Option<Uid>,
    /// The first UID that is `\Recent` for this session.
    pub recent_from: Uid,
    /// MAILBOXID.
    pub mailbox_id: ObjectId,
    /// What the user may do with it.
    pub rights: Rights,
}

/// What has changed in the open mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Messages that are gone; may name UIDs that the session never knew.
    pub vanished: UidSet,
    /// Messages that the session has not been told of.
    pub arrived: UidSet,
    /// Messages it knows whose flags have changed, but for the session's own changes.
    pub changed: UidSet,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// Everything up to this mod-sequence of the account is told: `since` of what is asked next. Other mailboxes move it
    /// as well, so it is at least `highest_modseq`.
    pub known_modseq: ModSeq,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// Keywords in use, when there are more than the session knows.
    pub keywords: Option<Vec<Keyword>>,
    /// The first of `arrived` that is `\Recent` for this session.
    pub recent_from: Uid,
}

/// An answer of the host.
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::CheckPassword`], [`Ask::ScramDone`] and [`Ask::External`].
    Login(LoginAnswer),
    /// To [`Ask::ScramKeys`].
    Scram(ScramKeys),
    /// To [`Ask::Mailboxes`].
    Mailboxes(Arc<Mailboxes>),
    /// To [`Ask::Acl`]: identifiers and their rights.
    Acl(Vec<(String, Rights)>),
    /// To [`Ask::ListRights`] and [`Ask::MyRights`].
    Rights(Rights),
    /// To [`Ask::Quota`] and [`Ask::QuotaRoot`].
    Quota(QuotaFacts),
    /// To [`Ask::Metadata`]: entries and values.
    Metadata(Vec<(MetadataEntry, Bytes)>),
    /// To [`Ask::MetadataMarks`]: in the same order, entries and what stands for their values
    /// ([`rockdove_mail::metadata_mark`]); none where the user may see none.
    MetadataMarks(Vec<Vec<(MetadataEntry, u64)>>),
    /// To [`Ask::Status`].
    Status(Status),
    /// To [`Ask::Create`]: MAILBOXID.
    Created(ObjectId),
    /// To [`Ask::Select`].
    Selected(Box<Selected>),
    /// To [`Ask::Sync`].
    Changes(Box<Changes>),
    /// To [`Ask::Vanished`]: may name UIDs that no message ever had, where it is not remembered who has gone.
    Vanished(UidSet),
    /// To [`Ask::Statuses`]: in the same order, without RECENT; `None` for what may not be read or is not there.
    Statuses(Vec<Option<Status>>),
    /// To [`Ask::Watch`] and [`Ask::WatchAll`].
    Changed,
    /// To [`Ask::Fetch`]: FETCH responses, ready to be sent.
    Page {
        /// Octets for the client.
        octets: Vec<Bytes>,
        /// Where to go on; `None` when all is told.
        next: Option<FetchCursor>,
        /// Messages that are gone and were passed over.
        missing: u32,
        /// Messages were left out because it is not known how their content is encoded.
        unknown_cte: bool,
    },
    /// To [`Ask::Fetch`]: a message became unreadable in the middle of a literal; the connection cannot go on.
    Broken,
    /// To [`Ask::Store`].
    Stored {
        /// Messages that are there and passed `unchanged_since`, whether their flags changed or not.
        uids: UidSet,
        /// Messages whose flags changed in fact.
        changed: UidSet,
        /// Messages left alone because of `unchanged_since`.
        modified: UidSet,
        /// Mod-sequence of the change; zero when nothing changed.
        modseq: ModSeq,
        /// Keywords in use now, when there are new ones.
        keywords: Option<Vec<Keyword>>,
    },
    /// To [`Ask::Search`].
    Found {
        /// The messages.
        uids: UidSet,
        /// The highest mod-sequence among them; zero when there is none.
        highest_modseq: ModSeq,
    },
    /// To [`Ask::SearchIn`].
    FoundIn {
        /// MAILBOXID.
        mailbox_id: ObjectId,
        /// UIDVALIDITY.
        uid_validity: UidValidity,
        /// The first UID that would be `\Recent` for a session that selects the mailbox.
        recent_from: Uid,
        /// The messages.
        uids: UidSet,
        /// The highest mod-sequence among them; zero when there is none.
        highest_modseq: ModSeq,
    },
    /// To [`Ask::Sort`].
    Sorted {
        /// The messages, in order.
        uids: Vec<Uid>,
        /// The highest mod-sequence among them; zero when there is none.
        highest_modseq: ModSeq,
    },
    /// To [`Ask::Relevancy`]: from 1 to 100, ascending by UID; those that are gone may be left out.
    Relevancy(Vec<(Uid, u8)>),
    /// To [`Ask::Thread`].
    Threads(Vec<ThreadNode>),
    /// To [`Ask::Copy`].
    Copied {
        /// UIDVALIDITY of the target.
        uid_validity: UidValidity,
        /// UIDs here, ascending.
        from: UidSet,
        /// UIDs there, in the same order.
        to: UidSet,
    },
    /// To [`Ask::Expunge`]: the messages that went.
    Expunged(UidSet),
    /// To [`Ask::AppendEnd`].
    Appended {
        /// UIDVALIDITY of the mailbox.
        uid_validity: UidValidity,
        /// UIDs there, in the order of the messages.
        uids: UidSet,
    },
    /// To the asks that have nothing to tell.
    Done,
    /// To any question.
    Refused(Refusal),
}
