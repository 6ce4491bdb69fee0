//! The named limits of an IMAP conversation, each with its reason.

/// Octets of one command with all its literals but APPEND's message. RFC 7162 section 4 asks for lines of 8,192; clients
/// send UID sets and header lists of several times that.
pub const COMMAND_OCTETS_MAX: usize = 64 * 1024;

/// Octets read and thrown away to get past a command that is too long, before the connection is given up.
pub const SKIP_OCTETS_MAX: u64 = 1024 * 1024;

/// Octets of a tag. It is kept and repeated; clients use less than ten.
pub const TAG_OCTETS_MAX: usize = 128;

/// Pairs in ID. RFC 2971 section 3.3 allows a client thirty.
pub const ID_PAIRS_MAX: usize = 30;

/// Octets of a field or value in ID. RFC 2971 section 3.3: fields of 30, values of 1,024.
pub const ID_VALUE_OCTETS_MAX: usize = 1024;

/// Language ranges of one LANGUAGE: more than a person speaks.
pub const LANGUAGES_MAX: usize = 64;

/// Items of one FETCH. Clients that fetch part by part name a few dozen.
pub const FETCH_ITEMS_MAX: usize = 512;

/// Numbers in a section (`1.2.3`): as deep as messages are taken apart, and a little more.
pub const SECTION_DEPTH_MAX: usize = 128;

/// Keys of one SEARCH. Filters over address books name hundreds.
pub const SEARCH_KEYS_MAX: usize = 2_048;

/// Nesting of a SEARCH. A list of alternatives is written as `OR a OR b OR c d`, one level each.
pub const SEARCH_DEPTH_MAX: usize = 256;

/// RECENT, NEW, OLD and `$` in one SEARCH: each holds a set of messages once more.
pub const SEARCH_RECENT_MAX: usize = 16;

/// Strings of one SEARCH that are matched fuzzily (RFC 6203 section 8): each is compared with every word of an account.
pub const SEARCH_FUZZY_MAX: usize = 16;

/// Mailbox specifiers of one ESEARCH, and mailboxes named by one of them (RFC 7377 section 2.4): a command is 64 KiB, so
/// that this is not what keeps a client from naming all that it has.
pub const SEARCH_SOURCES_MAX: usize = 4_096;

/// How often filters that name filters are looked into. RFC 5466 section 3.1 asks for 3.
pub const FILTER_PASSES_MAX: usize = 3;

/// Groups of events of one NOTIFY: clients name a few kinds of mailboxes.
pub const NOTIFY_GROUPS_MAX: usize = 64;

/// Mailboxes that one NOTIFY watches: the counters of each are kept, and looked at when something has changed.
pub const NOTIFY_MAILBOXES_MAX: usize = 2_048;

/// Annotations that one NOTIFY watches: their names, and what stands for their values, are kept. A client annotates few of
/// its mailboxes, and these with a comment, a colour, an order.
pub const NOTIFY_ANNOTATIONS_MAX: usize = 4_096;

/// Changes of its own that a session remembers while its client does not want to hear of the selected mailbox; older ones
/// are told like those of others in the end.
pub const NOTIFY_OWN_MAX: usize = 1_024;

/// Criteria of one SORT: each at most a few times.
pub const SORT_CRITERIA_MAX: usize = 32;

/// Patterns of one LIST.
pub const LIST_PATTERNS_MAX: usize = 256;

/// Octets of an identifier in a list of rights: an address has at most 320, a name of a group less.
pub const IDENTIFIER_OCTETS_MAX: usize = 512;

/// Entries of one GETMETADATA, SETMETADATA or LIST: as many as a mailbox has, shared and private.
pub const METADATA_ENTRIES_MAX: usize = 200;

/// Resources of one SETQUOTA. RFC 9208 knows four.
pub const QUOTA_RESOURCES_MAX: usize = 16;

/// Flags and keywords named in one command.
pub const FLAGS_MAX: usize = 256;

/// Octets of FETCH responses that are made at a time: large enough to keep a link busy, small enough to hold one per
/// connection.
pub const PAGE_OCTETS_AIM: usize = 256 * 1024;

/// Messages looked at for one page of FETCH responses, written or passed over: bounds the time of a page.
pub const PAGE_MESSAGES_MAX: usize = 16_384;

/// Octets of a literal that a page takes even when it is full already, so that every page goes on.
pub const LITERAL_OCTETS_MIN: u64 = 16 * 1024;

/// Octets from here on are passed on as the slice that they came in; fewer are copied into one buffer with what is
/// around them.
pub const SLICE_OCTETS_MIN: usize = 4 * 1024;

/// Octets of an encoded part that are decoded at a time.
pub const DECODED_OCTETS_AIM: u64 = 64 * 1024;

/// Octets of a header that HEADER.FIELDS looks through. Fields behind are not shown.
pub const HEADER_OCTETS_MAX: u64 = 1024 * 1024;

/// Octets of a string that is written between quotes; a longer one becomes a literal.
pub const QUOTED_OCTETS_MAX: usize = 1024;

/// Octets of a line that is no command: a SASL response (RFC 4959 leaves it to the mechanisms; this is what RFC 4954
/// section 4 asks of SMTP) or DONE.
pub const LINE_OCTETS_MAX: usize = 12_288;

/// Octets received and not looked at before the client is not listened to: pipelined commands wait in the network.
pub const RECEIVED_OCTETS_MAX: usize = 64 * 1024;

/// Answers are gathered up to about this many octets before they are sent, so that a thousand pipelined commands do not
/// cost a thousand writes, nor their answers unbounded memory.
pub const SEND_OCTETS_AIM: usize = 32 * 1024;

/// Numbers written at a time into the answer of SEARCH, and EXPUNGE responses.
pub const NUMBERS_PIECE_MAX: usize = 2_048;

/// Octets of a message that are gathered before they are handed over.
pub const APPEND_OCTETS_AIM: u64 = 64 * 1024;

/// Messages of one APPEND (RFC 3502): they are stored at once, and the store works on one command at a time.
pub const APPEND_MESSAGES_MAX: usize = 1_000;

/// APPENDs that may wait for the disk while the next one comes: enough to share a sync, few enough to be remembered.
pub const APPENDS_UNDER_WAY_MAX: usize = 64;

/// Octets of their messages; the next one comes when it is less.
pub const APPENDS_UNDER_WAY_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// Octets of one APPEND's messages that may wait in memory until all have come; of a message counts no more than
/// [`APPEND_HELD_EACH_MAX`].
pub const APPEND_HELD_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// What is held of a message that waits for others, however large it is: the rest is on disk.
pub const APPEND_HELD_EACH_MAX: u64 = 512 * 1024;

/// Octets of a refused message that are read to get past it, when the largest message that is taken is smaller. A client
/// that announces more without waiting (LITERAL+) loses the connection.
pub const REFUSED_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Commands that may be wrong (unknown, malformed, out of place) in a row before the connection is closed; before login:
/// at all.
pub const ERRORS_MAX: u32 = 20;

/// Logins that may fail before the connection is closed.
pub const LOGIN_FAILURES_MAX: u32 = 3;

/// Octets of the text of one response that our client reads, without its literals. Servers list the UIDs of a search and
/// the structure of a message in one line; a line of this length names 100,000 messages.
pub const RESPONSE_TEXT_OCTETS_MAX: usize = 1024 * 1024;

/// Nesting of a response that our client reads: a structure of a message is nested as deep as its parts.
pub const RESPONSE_DEPTH_MAX: usize = 128;
