//! Commands as values: what the grammar makes of a line, and what the session carries out.

use bytes::Bytes;
use rockdove_mail::{
    FlagUpdate, Flags, Keyword, MailboxName, MailboxNameError, MetadataEntry, ModSeq, Rights, RightsUpdate, SpecialUse,
    SystemFlags, UidValidity,
    sasl::Password,
    search::{DateField, Day, SearchField, SortCriterion, ThreadAlgorithm},
};

use crate::fetch::{FetchItem, FetchRequest};

/// A mailbox as the client named it; decoded from modified UTF-7 (RFC 3501 section 5.1.3) or UTF-8.
pub type MailboxArg = Result<MailboxName, MailboxNameError>;

/// A command and its tag.
#[derive(Debug)]
pub struct Tagged {
    /// The tag, to be repeated in the tagged response.
    pub tag: String,
    /// What is wanted.
    pub command: Command,
}

/// A set of messages as the client wrote it: sequence numbers or UIDs, which is told beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSet {
    /// Ranges in the order written. `None` is `*`, the largest number in use. The ends may come in either order. No range
    /// at all is `$`, the saved result of a search (RFC 5182).
    pub ranges: Vec<(Option<u32>, Option<u32>)>,
    /// Octets of the text it came from: bounds the work.
    pub text_octets: usize,
}

/// Everything a client can ask.
#[derive(Debug)]
pub enum Command {
    /// CAPABILITY.
    Capability,
    /// NOOP.
    Noop,
    /// LOGOUT.
    Logout,
    /// ID (RFC 2971): what the client says of itself; empty for `NIL`.
    Id(Vec<(String, Option<String>)>),
    /// LANGUAGE (RFC 5255): language ranges.
    Language(Vec<String>),
    /// STARTTLS.
    StartTls,
    /// LOGIN.
    Login {
        /// Login name.
        login: String,
        /// Password.
        password: Password,
    },
    /// AUTHENTICATE.
    Authenticate {
        /// Name of the mechanism, upper case.
        mechanism: String,
        /// Initial response (RFC 4959), still base64; `=` for an empty one.
        initial: Option<Vec<u8>>,
    },
    /// ENABLE (RFC 5161): capability names, upper case.
    Enable(Vec<String>),
    /// UNAUTHENTICATE (RFC 8437).
    Unauthenticate,
    /// COMPRESS (RFC 4978): name of the mechanism, upper case.
    Compress(String),
    /// SELECT and EXAMINE.
    Select {
        /// Which.
        mailbox: MailboxArg,
        /// EXAMINE.
        read_only: bool,
        /// `(CONDSTORE)` (RFC 7162 section 3.1.8).
        condstore: bool,
        /// `(QRESYNC (...))` (RFC 7162 section 3.2.5).
        resync: Option<Box<Resync>>,
    },
    /// CREATE, with `USE` (RFC 6154).
    Create {
        /// Which.
        mailbox: MailboxArg,
        /// Special uses asked for; an unknown attribute is `Err` with its name.
        special_use: Vec<Result<SpecialUse, String>>,
    },
    /// DELETE.
    Delete(MailboxArg),
    /// RENAME.
    Rename {
        /// Old name.
        from: MailboxArg,
        /// New name.
        to: MailboxArg,
    },
    /// SUBSCRIBE (true) and UNSUBSCRIBE (false).
    Subscribe(MailboxArg, bool),
    /// LIST, with the selections and returns of RFC 5258 that come with SPECIAL-USE and CHILDREN.
    List(ListRequest),
    /// LSUB.
    Lsub {
        /// Reference, decoded to UTF-8.
        reference: String,
        /// Pattern, decoded to UTF-8.
        pattern: String,
    },
    /// NAMESPACE (RFC 2342).
    Namespace,
    /// Rights and quotas.
    Access(AccessCommand),
    /// Annotations.
    Metadata(MetadataCommand),
    /// STATUS.
    Status {
        /// Which.
        mailbox: MailboxArg,
        /// What.
        items: Vec<StatusItem>,
    },
    /// The beginning of APPEND; the octets of its literal follow outside the command.
    Append(AppendHead),
    /// NOTIFY (RFC 5465); `None` for NONE.
    Notify(Option<NotifySet>),
    /// IDLE (RFC 2177).
    Idle,
    /// CHECK.
    Check,
    /// CLOSE.
    Close,
    /// UNSELECT (RFC 3691).
    Unselect,
    /// EXPUNGE.
    Expunge,
    /// UID EXPUNGE (RFC 4315).
    UidExpunge(SequenceSet),
    /// SEARCH and UID SEARCH.
    Search {
        /// UID SEARCH.
        uid: bool,
        /// `CHARSET`, upper case.
        charset: Option<String>,
        /// What.
        key: SearchProgram,
    },
    /// SEARCH with RETURN (RFC 4731), SORT and THREAD (RFC 5256), and their UID forms.
    Find(FindRequest),
    /// ESEARCH (RFC 7377).
    MultiSearch(MultiSearch),
    /// FETCH and UID FETCH.
    Fetch {
        /// UID FETCH; the request then holds UID.
        uid: bool,
        /// Which.
        set: SequenceSet,
        /// What.
        request: FetchRequest,
        /// CHANGEDSINCE (RFC 7162 section 3.1.4).
        changed_since: Option<ModSeq>,
        /// VANISHED (RFC 7162 section 3.2.6); only with UID FETCH and CHANGEDSINCE.
        vanished: bool,
        /// PARTIAL (RFC 9394 section 3.3), of UID FETCH only.
        partial: Option<PartialRange>,
    },
    /// STORE and UID STORE.
    Store {
        /// UID STORE.
        uid: bool,
        /// Which.
        set: SequenceSet,
        /// How.
        update: FlagUpdate,
        /// Flags; `\Recent` is dropped.
        flags: Flags,
        /// `.SILENT`.
        silent: bool,
        /// UNCHANGEDSINCE (RFC 7162 section 3.1.3).
        unchanged_since: Option<ModSeq>,
    },
    /// COPY, MOVE (RFC 6851) and their UID forms.
    Copy {
        /// UID COPY, UID MOVE.
        uid: bool,
        /// MOVE.
        remove: bool,
        /// Which.
        set: SequenceSet,
        /// Where.
        mailbox: MailboxArg,
    },
}

/// What a client knows of a mailbox that it comes back to (RFC 7162 section 3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The last known UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The last known mod-sequence.
    pub modseq: ModSeq,
    /// The known UIDs; `None` for all there have been.
    pub known: Option<SequenceSet>,
    /// Some sequence numbers and the UIDs that the client knows for them, both ascending.
    pub matching: Option<(SequenceSet, SequenceSet)>,
}

/// A search whose answer is not that of plain SEARCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindRequest {
    /// Its UID form.
    pub uid: bool,
    /// The charset of the strings, upper case.
    pub charset: Option<String>,
    /// What.
    pub key: SearchProgram,
    /// How it is answered.
    pub form: FindForm,
}

/// A search of several mailboxes (RFC 7377). Its answers are UIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiSearch {
    /// Where; empty for the selected mailbox.
    pub sources: Vec<SearchSource>,
    /// What to tell of each mailbox.
    pub returns: ReturnOptions,
    /// The charset of the strings, upper case.
    pub charset: Option<String>,
    /// What.
    pub key: SearchProgram,
}

/// Mailboxes to be searched (RFC 7377 section 2.2, RFC 5465 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchSource {
    /// `selected`.
    Selected,
    /// `inboxes`: one's own mailboxes that mail may be delivered to.
    Inboxes,
    /// `personal`: one's own mailboxes.
    Personal,
    /// `subscribed`.
    Subscribed,
    /// `subtree`: these, and all below them.
    Subtree(Vec<MailboxArg>),
    /// `subtree-one`: these, and those one level below them.
    SubtreeOne(Vec<MailboxArg>),
    /// `mailboxes`.
    Mailboxes(Vec<MailboxArg>),
}

/// NOTIFY SET (RFC 5465 section 3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifySet {
    /// The counters of the mailboxes are told first.
    pub status: bool,
    /// Whether `selected` or `selected-delayed` (`true`) is among the mailboxes, and its events.
    pub selected: Option<(bool, NotifyEvents)>,
    /// The other mailboxes, never [`SearchSource::Selected`], and their events.
    pub groups: Vec<(SearchSource, NotifyEvents)>,
}

/// Events (RFC 5465 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event that may be wanted")]
pub struct NotifyEvents {
    /// `MessageNew` and `MessageExpunge`, which come together.
    pub messages: bool,
    /// What is told of each new message; empty: nothing. Only for the selected mailbox.
    pub items: Vec<FetchItem>,
    /// `FlagChange`.
    pub flags: bool,
    /// `MailboxName`.
    pub names: bool,
    /// `SubscriptionChange`.
    pub subscriptions: bool,
    /// `MailboxMetadataChange`.
    pub annotations: bool,
    /// `ServerMetadataChange`, which is of no mailbox, whichever it is named beside.
    pub server: bool,
    /// An event that there is not here.
    pub unknown: bool,
}

/// How a search is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindForm {
    /// SEARCH RETURN.
    Extended(ReturnOptions),
    /// SORT.
    Sort(Vec<SortCriterion>),
    /// SORT RETURN (RFC 5267).
    ExtendedSort(Vec<SortCriterion>, ReturnOptions),
    /// THREAD.
    Thread(ThreadAlgorithm),
}

/// What RETURN asks for (RFC 4731, RFC 5182, RFC 6203, RFC 9394).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "options that the RFC lets be combined at will")]
pub struct ReturnOptions {
    /// MIN.
    pub min: bool,
    /// MAX.
    pub max: bool,
    /// ALL.
    pub all: bool,
    /// COUNT.
    pub count: bool,
    /// SAVE.
    pub save: bool,
    /// PARTIAL.
    pub partial: Option<PartialRange>,
    /// RELEVANCY (RFC 6203).
    pub relevancy: bool,
}

/// Some of the results by their places, from 1 on (RFC 9394).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialRange {
    /// One end.
    pub first: u32,
    /// The other end, in either order.
    pub last: u32,
    /// Places are counted from the last result backwards.
    pub from_end: bool,
}

/// LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "options that the RFC lets be combined at will")]
pub struct ListRequest {
    /// Reference, decoded to UTF-8.
    pub reference: String,
    /// Patterns, decoded to UTF-8.
    pub patterns: Vec<String>,
    /// The extended form (RFC 5258) was used.
    pub extended: bool,
    /// Selection `SUBSCRIBED`.
    pub select_subscribed: bool,
    /// Selection `SPECIAL-USE`.
    pub select_special_use: bool,
    /// Selection `RECURSIVEMATCH`.
    pub recursive_match: bool,
    /// Return `SUBSCRIBED`.
    pub return_subscribed: bool,
    /// Return `CHILDREN`.
    pub return_children: bool,
    /// Return `SPECIAL-USE`.
    pub return_special_use: bool,
    /// Return `MYRIGHTS` (RFC 8440).
    pub return_my_rights: bool,
    /// Return `STATUS` (RFC 5819).
    pub return_status: Option<Vec<StatusItem>>,
    /// Return `METADATA` (RFC 9590).
    pub return_metadata: Option<Vec<MetadataEntry>>,
}

/// What STATUS can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// MESSAGES.
    Messages,
    /// RECENT.
    Recent,
    /// UIDNEXT.
    UidNext,
    /// UIDVALIDITY.
    UidValidity,
    /// UNSEEN.
    Unseen,
    /// DELETED (RFC 9051).
    Deleted,
    /// SIZE (RFC 8438).
    Size,
    /// HIGHESTMODSEQ (RFC 7162).
    HighestModSeq,
    /// MAILBOXID (RFC 8474).
    MailboxId,
    /// APPENDLIMIT (RFC 7889).
    AppendLimit,
    /// DELETED-STORAGE (RFC 9208).
    DeletedStorage,
}

/// Commands about rights (RFC 4314) and quotas (RFC 9208).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessCommand {
    /// SETACL.
    SetAcl {
        /// Which mailbox.
        mailbox: MailboxArg,
        /// Whose rights.
        identifier: String,
        /// How.
        update: RightsUpdate,
        /// What.
        rights: Rights,
    },
    /// DELETEACL.
    DeleteAcl {
        /// Which mailbox.
        mailbox: MailboxArg,
        /// Whose rights.
        identifier: String,
    },
    /// GETACL.
    GetAcl(MailboxArg),
    /// LISTRIGHTS.
    ListRights {
        /// Which mailbox.
        mailbox: MailboxArg,
        /// Whose rights.
        identifier: String,
    },
    /// MYRIGHTS.
    MyRights(MailboxArg),
    /// GETQUOTA: the quota root.
    GetQuota(String),
    /// GETQUOTAROOT.
    GetQuotaRoot(MailboxArg),
    /// SETQUOTA.
    SetQuota {
        /// The quota root.
        root: String,
        /// Names of resources, upper case, and their limits in their units.
        limits: Vec<(String, u64)>,
    },
}

/// Commands about annotations (RFC 5464).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataCommand {
    /// GETMETADATA.
    Get {
        /// Of which mailbox; `None`: of the server.
        mailbox: Option<MailboxArg>,
        /// What.
        request: MetadataRequest,
    },
    /// SETMETADATA.
    Set {
        /// Of which mailbox; `None`: of the server.
        mailbox: Option<MailboxArg>,
        /// Entries and their values; `None` removes one.
        entries: Vec<(MetadataEntry, Option<Bytes>)>,
    },
}

/// Which annotations are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataRequest {
    /// The entries.
    pub entries: Vec<MetadataEntry>,
    /// How far below them.
    pub depth: MetadataDepth,
    /// MAXSIZE: no larger values, in octets.
    pub octets_max: Option<u32>,
}

/// DEPTH (RFC 5464 section 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataDepth {
    /// The entries themselves.
    #[default]
    Zero,
    /// And those right below.
    One,
    /// And all below.
    Infinity,
}

/// Flags and internal date (seconds since 1970 and zone east of UTC in minutes) that stand before a message of APPEND.
pub type AppendFacts = (Flags, Option<(i64, i16)>);

/// APPEND up to its literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendHead {
    /// Where.
    pub mailbox: MailboxArg,
    /// Flags to begin with; `\Recent` is dropped.
    pub flags: Flags,
    /// Internal date: seconds since 1970 and zone east of UTC in minutes.
    pub date: Option<(i64, i16)>,
    /// The message comes in the UTF8 extension (RFC 6855 section 4).
    pub utf8: bool,
    /// REPLACE (RFC 8508): the message that goes, and whether it is named by its UID.
    pub replaces: Option<(SequenceSet, bool)>,
}

/// A search condition as the client wrote it; sequence numbers are not yet UIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchProgram {
    /// ALL.
    All,
    /// Several, all of which must hold.
    And(Vec<SearchProgram>),
    /// OR.
    Or(Box<SearchProgram>, Box<SearchProgram>),
    /// NOT, and the negative keys (`UNSEEN`, `UNKEYWORD` ...).
    Not(Box<SearchProgram>),
    /// Sequence numbers.
    Sequence(SequenceSet),
    /// UID.
    Uid(SequenceSet),
    /// A system flag.
    Flag(SystemFlags),
    /// KEYWORD.
    Keyword(Keyword),
    /// RECENT. `NEW` is `RECENT UNSEEN`, `OLD` is `NOT RECENT`.
    Recent,
    /// BEFORE, SENTBEFORE and SAVEDBEFORE.
    Before(DateField, Day),
    /// ON, SENTON and SAVEDON.
    On(DateField, Day),
    /// SINCE, SENTSINCE and SAVEDSINCE.
    Since(DateField, Day),
    /// OLDER: seconds (RFC 5032).
    Older(u32),
    /// YOUNGER: seconds (RFC 5032).
    Younger(u32),
    /// LARGER.
    Larger(u64),
    /// SMALLER.
    Smaller(u64),
    /// MODSEQ (RFC 7162 section 3.1.5).
    ModSeq(ModSeq),
    /// EMAILID (RFC 8474).
    EmailId(String),
    /// THREADID (RFC 8474): no message has one.
    ThreadId,
    /// FROM, TO, CC, BCC, SUBJECT, HEADER, BODY, TEXT: decoded to UTF-8.
    Text(SearchField, String),
    /// FILTER (RFC 5466): the name of a search that is kept.
    Filter(String),
    /// FUZZY (RFC 6203).
    Fuzzy(Box<SearchProgram>),
}

impl SearchProgram {
    /// Whether this is so of the condition or of one within it.
    pub fn any(&self, is: &dyn Fn(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::And(all) => all.iter().any(|key| key.any(is)),
                Self::Or(one, other) => one.any(is) || other.any(is),
                Self::Not(inner) | Self::Fuzzy(inner) => inner.any(is),
                _ => false,
            }
    }
}
