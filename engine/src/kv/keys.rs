//! Every key of the store, byte by byte.
//!
//! All integers are big-endian and of fixed width, so byte order is number order. Keys of the per-account families
//! begin with the account id, so an account is one contiguous range in each of them.
//!
//! ## Sys
//! ```text
//! 00                      -> format version
//! 01 name…                -> allocator: next free value, u64
//! 02 name…                -> secret or setting made once at first start
//! 03 domain…              -> domain record
//! 04 account4             -> account record (the login is its address, indexed in memory)
//! 05 address…             -> alias record
//! 06 account4             -> an account that was removed: its rows are on their way out
//! 0a group4               -> group record
//! 0b domain…              -> the account whose mailboxes are public in the domain
//! 0c entry…               -> shared annotation of the server
//! 0d domain… 00 selector… -> signing key
//! 0e kind1 name…          -> memo: what the server remembers beside mail, see memo.rs
//! 0f account4             -> where the mail of an account is sent on to
//! 10 address…             -> distribution list
//! 11 address… 00 member…  -> member of a list
//! ```
//!
//! ## Account
//! ```text
//! account4 00             -> account state: counters and allocators
//! account4 01 mailbox4    -> mailbox: name, UIDVALIDITY, special use, keywords
//! account4 02 mailbox4    -> counters of the mailbox
//! account4 03 name…       -> subscription
//! account4 08 mailbox4 kind1 id4     -> what somebody may do with the mailbox
//! account4 09 mailbox4 entry…         -> shared annotation of the mailbox
//! account4 0a mailbox4 reader4 entry…  -> private annotation of an account; mailbox 0 and itself: of the server
//! ```
//!
//! ## Segment
//! ```text
//! account4 mailbox4 segment4 00          -> base row of the UIDs segment * 1024 ..= segment * 1024 + 1023
//! account4 mailbox4 segment4 01 modseq8  -> delta row
//! ```
//!
//! ## Message
//! ```text
//! account4 message4 00    -> message record
//! account4 message4 01    -> entries beyond the first; absent when there is one
//! ```
//!
//! ## Change
//! ```text
//! account4 00 when8 modseq8 mailbox4 segment4   -> kept: entries that were expunged from a segment, in order of time
//! account4 01 mailbox4                          -> hidden: a mailbox that was deleted; its segments and counters stay
//! ```
//!
//! ## Text
//! ```text
//! account4 00                               -> how far the texts reach
//! account4 01 column1 message4              -> page: the texts of a column from this message on
//! account4 02 message4                      -> a message below the mark whose text is not kept
//! account4 03 message4                      -> a message that is gone: its text is to be removed
//! account4 04 column1 tier1 number4         -> words of a block
//! account4 05 column1 tier1 number4 chunk4  -> postings of these words
//! ```
//!
//! ## Queue
//! ```text
//! 00 message8                      -> envelope
//! 01 message8 task2                -> task: the recipients of one next hop, and how far they are
//! 02 hop… 00 due8 message8 task2   -> when the task is due; absent while it is on hold
//! 03 account4 message8             -> mail that an account has sent
//! 04 message8                      -> message record
//! 05 message8                      -> quarantine: a message that is kept apart; it has a record, and neither envelope nor tasks
//! ```
//!
//! ## Trace
//! ```text
//! day4 00 number8          -> event
//! day4 01 hash8 number8    -> the event is about a message, an address or a client with this hash
//! ```
//!
//! ## Spam
//! A scope is an account, or `ffffffff` for the whole server.
//! ```text
//! scope4 00                          -> how many messages were learned
//! scope4 01 token8                   -> in how many of them the token is
//! account4 02 message4               -> as what a message of the account was learned
//! scope4 03 digest16                 -> as what a message that is in no mailbox was learned
//! ffffffff 04 account4 message4      -> a message that waits to be learned
//! ```
//!
//! ## Part
//! ```text
//! part8 chunk4            -> one chunk of a part, framed
//! ```
//!
//! ## Reference
//! ```text
//! 00 part8                     -> head of the part: length, octets stored, chunks, content hash
//! 01 hash32                    -> the part with octets of this hash
//! 02 part8 account4 message4   -> the message needs the part
//! 02 part8 f message8           -> the same of mail in the queue: its number with the first four bits set
//! 03 part8                     -> the part may be collected, and since when
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// Sys: the format version.
pub const SYS_VERSION: &[u8] = &[0x00];
/// Sys: first byte of allocator rows.
pub const SYS_ALLOCATOR: u8 = 0x01;
/// Sys: first byte of settings made once.
pub const SYS_SETTING: u8 = 0x02;
/// Sys: first byte of domain rows.
pub const SYS_DOMAIN: u8 = 0x03;
/// Sys: first byte of account rows.
pub const SYS_ACCOUNT: u8 = 0x04;
/// Sys: first byte of alias rows.
pub const SYS_ALIAS: u8 = 0x05;
/// Sys: first byte of rows of accounts that were removed.
pub const SYS_LEAVING: u8 = 0x06;
/// Sys: first byte of group rows.
pub const SYS_GROUP: u8 = 0x0a;
/// Sys: first byte of rows of public accounts.
pub const SYS_PUBLIC: u8 = 0x0b;
/// Sys: first byte of annotations of the server.
pub const SYS_ANNOTATION: u8 = 0x0c;

/// Sys: first byte of rows of signing keys.
pub const SYS_SIGNING: u8 = 0x0d;
/// Sys: first byte of memos.
pub const SYS_MEMO: u8 = 0x0e;
/// Sys: first byte of rows of forwarding.
pub const SYS_FORWARD: u8 = 0x0f;

/// Account: kind of the state row.
pub const ACCOUNT_STATE: u8 = 0x00;
/// Account: kind of mailbox rows.
pub const ACCOUNT_MAILBOX: u8 = 0x01;
/// Account: kind of counter rows.
pub const ACCOUNT_COUNTERS: u8 = 0x02;
/// Account: kind of subscription rows.
pub const ACCOUNT_SUBSCRIPTION: u8 = 0x03;
/// Account: kind of rows of rights.
pub const ACCOUNT_RIGHTS: u8 = 0x08;
/// Account: kind of shared annotations.
pub const ACCOUNT_SHARED: u8 = 0x09;
/// Account: kind of private annotations.
pub const ACCOUNT_PRIVATE: u8 = 0x0a;
/// Segment: kind of base rows.
pub const SEGMENT_BASE: u8 = 0x00;
/// Segment: kind of delta rows.
pub const SEGMENT_DELTA: u8 = 0x01;
/// Message: kind of records.
pub const MESSAGE_RECORD: u8 = 0x00;
/// Message: kind of entry counts.
pub const MESSAGE_EXTRA: u8 = 0x01;
/// Change: kind of rows of entries that were expunged.
pub const CHANGE_KEPT: u8 = 0x00;
/// Change: kind of rows of mailboxes that were deleted.
pub const CHANGE_HIDDEN: u8 = 0x01;
/// Text: kind of the row that says how far the texts reach.
pub const TEXT_REACH: u8 = 0x00;
/// Text: kind of pages.
pub const TEXT_PAGE: u8 = 0x01;
/// Text: kind of rows of messages whose text is not kept.
pub const TEXT_LEFT_OUT: u8 = 0x02;
/// Text: kind of rows of messages that are gone.
pub const TEXT_GONE: u8 = 0x03;
/// Text: kind of rows of words.
pub const TEXT_WORDS: u8 = 0x04;
/// Text: kind of rows of postings.
pub const TEXT_POSTINGS: u8 = 0x05;
/// Reference: kind of part heads.
pub const REFERENCE_HEAD: u8 = 0x00;
/// Reference: kind of rows from content hash to part; reserved.
pub const REFERENCE_HASH: u8 = 0x01;
/// Reference: kind of references.
pub const REFERENCE_USE: u8 = 0x02;
/// Reference: kind of rows of parts that may be collected.
pub const REFERENCE_CANDIDATE: u8 = 0x03;

/// Spam: the scope that is the whole server. No account has this id.
pub const SPAM_SERVER: u32 = u32::MAX;
/// Spam: kind of the row that counts messages.
pub const SPAM_TOTALS: u8 = 0x00;
/// Spam: kind of rows of tokens.
pub const SPAM_TOKEN: u8 = 0x01;
/// Spam: kind of rows of messages of an account that were learned.
pub const SPAM_MESSAGE: u8 = 0x02;
/// Spam: kind of rows of other messages that were learned.
pub const SPAM_DIGEST: u8 = 0x03;
/// Spam: kind of rows of messages that wait to be learned.
pub const SPAM_WAITING: u8 = 0x04;

/// Spam: how many messages were learned.
pub fn spam_totals(scope: u32) -> Bytes {
    KeyWriter::default().u32(scope).u8(SPAM_TOTALS).done()
}

/// Spam: in how many messages a token is.
pub fn spam_token(scope: u32, token: u64) -> Bytes {
    KeyWriter::default().u32(scope).u8(SPAM_TOKEN).u64(token).done()
}

/// Spam: as what a message of an account was learned.
pub fn spam_message(account: u32, message: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(SPAM_MESSAGE).u32(message).done()
}

/// Spam: as what a message that is in no mailbox was learned.
pub fn spam_digest(scope: u32, digest: &[u8; 16]) -> Bytes {
    KeyWriter::default().u32(scope).u8(SPAM_DIGEST).raw(digest).done()
}

/// Spam: a message that waits to be learned.
pub fn spam_waiting(account: u32, message: u32) -> Bytes {
    KeyWriter::default().u32(SPAM_SERVER).u8(SPAM_WAITING).u32(account).u32(message).done()
}

/// Spam: the beginning of every key of a kind.
pub fn spam_kind(scope: u32, kind: u8) -> Bytes {
    KeyWriter::default().u32(scope).u8(kind).done()
}

/// Spam: the beginning of every message of an account that waits to be learned.
pub fn spam_waiting_of(account: u32) -> Bytes {
    KeyWriter::default().u32(SPAM_SERVER).u8(SPAM_WAITING).u32(account).done()
}

/// Trace: kind of events.
pub const TRACE_EVENT: u8 = 0x00;
/// Trace: kind of rows that lead to events.
pub const TRACE_INDEX: u8 = 0x01;
/// Trace: beyond every key.
pub const TRACE_END: [u8; 5] = [0xff; 5];

/// Trace: an event of a day.
pub fn trace_event(day: u32, number: u64) -> Bytes {
    KeyWriter::default().u32(day).u8(TRACE_EVENT).u64(number).done()
}

/// Trace: that an event of a day is found by what has this hash.
pub fn trace_index(day: u32, hash: u64, number: u64) -> Bytes {
    KeyWriter::default().u32(day).u8(TRACE_INDEX).u64(hash).u64(number).done()
}

/// Sys: the allocator called `name`.
pub fn allocator(name: &str) -> Bytes {
    KeyWriter::kind(SYS_ALLOCATOR).raw(name.as_bytes()).done()
}

/// Sys: the setting called `name`.
pub fn setting(name: &str) -> Bytes {
    KeyWriter::kind(SYS_SETTING).raw(name.as_bytes()).done()
}

/// Sys: a domain, by its normalised name.
pub fn domain(name: &str) -> Bytes {
    KeyWriter::kind(SYS_DOMAIN).raw(name.as_bytes()).done()
}

/// Sys: an account, by its id.
pub fn account(account: u32) -> Bytes {
    KeyWriter::kind(SYS_ACCOUNT).u32(account).done()
}

/// Sys: a signing key, by its normalised domain (which has no NUL) and selector.
pub fn signing_key(domain: &str, selector: &str) -> Bytes {
    KeyWriter::kind(SYS_SIGNING).raw(domain.as_bytes()).u8(0).raw(selector.as_bytes()).done()
}

/// Sys: first byte of rows of distribution lists.
pub const SYS_LIST: u8 = 0x10;
/// Sys: first byte of rows of members of lists.
pub const SYS_LIST_MEMBER: u8 = 0x11;

/// Sys: a distribution list, by its normalised address.
pub fn list(address: &str) -> Bytes {
    KeyWriter::kind(SYS_LIST).raw(address.as_bytes()).done()
}

/// Sys: a member of a list, by both normalised addresses (which have no NUL).
pub fn list_member(list: &str, member: &str) -> Bytes {
    KeyWriter::kind(SYS_LIST_MEMBER).raw(list.as_bytes()).u8(0).raw(member.as_bytes()).done()
}

/// Sys: where the mail of an account is sent on to.
pub fn forward(account: u32) -> Bytes {
    KeyWriter::kind(SYS_FORWARD).u32(account).done()
}

/// Sys: a memo, by its kind and name.
pub fn memo(kind: u8, name: &str) -> Bytes {
    KeyWriter::kind(SYS_MEMO).u8(kind).raw(name.as_bytes()).done()
}

/// Sys: an alias, by its normalised address.
pub fn alias(address: &str) -> Bytes {
    KeyWriter::kind(SYS_ALIAS).raw(address.as_bytes()).done()
}

/// Sys: a group, by its id.
pub fn group(group: u32) -> Bytes {
    KeyWriter::kind(SYS_GROUP).u32(group).done()
}

/// Sys: the public account of a domain, by its normalised name.
pub fn public_account(domain: &str) -> Bytes {
    KeyWriter::kind(SYS_PUBLIC).raw(domain.as_bytes()).done()
}

/// Sys: a shared annotation of the server, by what follows `/shared` in its name.
pub fn server_annotation(path: &str) -> Bytes {
    KeyWriter::kind(SYS_ANNOTATION).raw(path.as_bytes()).done()
}

/// Sys: an account that was removed.
pub fn leaving(account: u32) -> Bytes {
    KeyWriter::kind(SYS_LEAVING).u32(account).done()
}

/// Change: entries of a segment that were expunged at this time (seconds since 1970) and mod-sequence.
pub fn kept(account: u32, when: u64, modseq: u64, mailbox: u32, segment: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(CHANGE_KEPT).u64(when).u64(modseq).u32(mailbox).u32(segment).done()
}

/// Change: a mailbox that was deleted.
pub fn hidden(account: u32, mailbox: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(CHANGE_HIDDEN).u32(mailbox).done()
}

/// Change: the beginning of every key of a kind.
pub fn change_kind(account: u32, kind: u8) -> Bytes {
    KeyWriter::default().u32(account).u8(kind).done()
}

/// Account: the state.
pub fn account_state(account: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_STATE).done()
}

/// Account: a mailbox.
pub fn mailbox(account: u32, mailbox: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_MAILBOX).u32(mailbox).done()
}

/// Account: the counters of a mailbox.
pub fn counters(account: u32, mailbox: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_COUNTERS).u32(mailbox).done()
}

/// Account: a subscription.
pub fn subscription(account: u32, name: &str) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_SUBSCRIPTION).raw(name.as_bytes()).done()
}

/// Account: the beginning of every row of rights of an account.
pub fn rights_of_account(account: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_RIGHTS).done()
}

/// Account: the beginning of every row of rights of a mailbox.
pub fn rights_of_mailbox(account: u32, mailbox: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_RIGHTS).u32(mailbox).done()
}

/// Account: what somebody may do with a mailbox.
pub fn rights(account: u32, mailbox: u32, kind: u8, id: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_RIGHTS).u32(mailbox).u8(kind).u32(id).done()
}

/// Account: the beginning of every annotation of a mailbox of this kind.
pub fn annotations(account: u32, kind: u8, mailbox: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(kind).u32(mailbox).done()
}

/// Account: a shared annotation of a mailbox, by what follows `/shared` in its name.
pub fn shared_annotation(account: u32, mailbox: u32, path: &str) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_SHARED).u32(mailbox).raw(path.as_bytes()).done()
}

/// Account: an annotation of a mailbox that only `reader` sees, by what follows `/private` in its name.
pub fn private_annotation(account: u32, mailbox: u32, reader: u32, path: &str) -> Bytes {
    KeyWriter::default().u32(account).u8(ACCOUNT_PRIVATE).u32(mailbox).u32(reader).raw(path.as_bytes()).done()
}

/// The beginning of every key of an account, in the families `Account`, `Segment`, `Message`,
/// `Change` and `Text`.
pub fn account_prefix(account: u32) -> Bytes {
    KeyWriter::default().u32(account).done()
}

/// Segment: the beginning of every key of a mailbox.
pub fn mailbox_prefix(account: u32, mailbox: u32) -> Bytes {
    KeyWriter::default().u32(account).u32(mailbox).done()
}

/// Segment: the beginning of every key of a segment.
pub fn segment_prefix(account: u32, mailbox: u32, segment: u32) -> Bytes {
    KeyWriter::default().u32(account).u32(mailbox).u32(segment).done()
}

/// Segment: a base row.
pub fn segment_base(account: u32, mailbox: u32, segment: u32) -> Bytes {
    KeyWriter::default().u32(account).u32(mailbox).u32(segment).u8(SEGMENT_BASE).done()
}

/// Segment: a delta row.
pub fn segment_delta(account: u32, mailbox: u32, segment: u32, modseq: u64) -> Bytes {
    KeyWriter::default().u32(account).u32(mailbox).u32(segment).u8(SEGMENT_DELTA).u64(modseq).done()
}

/// Message: a record.
pub fn message_record(account: u32, message: u32) -> Bytes {
    KeyWriter::default().u32(account).u32(message).u8(MESSAGE_RECORD).done()
}

/// Message: the message whose record has this key; `None` for rows of other kinds.
pub fn message_of_record(key: &[u8]) -> Option<u32> {
    let (message, kind) = key.get(4..)?.split_first_chunk::<4>()?;
    (*kind == [MESSAGE_RECORD]).then(|| u32::from_be_bytes(*message))
}

/// Message: the number of entries beyond the first.
pub fn message_extra(account: u32, message: u32) -> Bytes {
    KeyWriter::default().u32(account).u32(message).u8(MESSAGE_EXTRA).done()
}

/// Text: how far the texts of an account reach.
pub fn text_reach(account: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(TEXT_REACH).done()
}

/// Text: the page of a column that begins with this message.
pub fn text_page(account: u32, column: u8, message: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(TEXT_PAGE).u8(column).u32(message).done()
}

/// Text: a message whose text is not kept.
pub fn text_left_out(account: u32, message: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(TEXT_LEFT_OUT).u32(message).done()
}

/// Text: a message that is gone.
pub fn text_gone(account: u32, message: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(TEXT_GONE).u32(message).done()
}

/// Text: the beginning of every key of a kind.
pub fn text_kind(account: u32, kind: u8) -> Bytes {
    KeyWriter::default().u32(account).u8(kind).done()
}

/// Text: the words of a block.
pub fn text_words(account: u32, column: u8, tier: u8, number: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(TEXT_WORDS).u8(column).u8(tier).u32(number).done()
}

/// Text: some postings of a block.
pub fn text_postings(account: u32, column: u8, tier: u8, number: u32, chunk: u32) -> Bytes {
    KeyWriter::default().u32(account).u8(TEXT_POSTINGS).u8(column).u8(tier).u32(number).u32(chunk).done()
}

/// Queue: kind of envelopes.
pub const QUEUE_ENVELOPE: u8 = 0x00;
/// Queue: kind of tasks.
pub const QUEUE_TASK: u8 = 0x01;
/// Queue: kind of rows that say when a task is due.
pub const QUEUE_DUE: u8 = 0x02;
/// Queue: kind of rows by account.
pub const QUEUE_SENDER: u8 = 0x03;
/// Queue: kind of message records.
pub const QUEUE_RECORD: u8 = 0x04;
/// Queue: kind of rows of messages that are kept apart.
pub const QUEUE_QUARANTINE: u8 = 0x05;
/// Numbers of queued messages are less, so that they can stand where an account and its message do.
pub const QUEUE_NUMBERS: u64 = 1 << 60;

/// Queue: the envelope of a message.
pub fn queue_envelope(message: u64) -> Bytes {
    KeyWriter::kind(QUEUE_ENVELOPE).u64(message).done()
}

/// Queue: a task of a message.
pub fn queue_task(message: u64, task: u16) -> Bytes {
    KeyWriter::kind(QUEUE_TASK).u64(message).u16(task).done()
}

/// Queue: the beginning of the tasks of a message.
pub fn queue_tasks(message: u64) -> Bytes {
    KeyWriter::kind(QUEUE_TASK).u64(message).done()
}

/// Queue: when a task is due, by its next hop (which has no NUL).
pub fn queue_due(hop: &str, due_ms: u64, message: u64, task: u16) -> Bytes {
    KeyWriter::kind(QUEUE_DUE).raw(hop.as_bytes()).u8(0).u64(due_ms).u64(message).u16(task).done()
}

/// Queue: the beginning of what is due for a next hop.
pub fn queue_hop(hop: &str) -> Bytes {
    KeyWriter::kind(QUEUE_DUE).raw(hop.as_bytes()).u8(0).done()
}

/// Queue: mail that an account has sent.
pub fn queue_sender(account: u32, message: u64) -> Bytes {
    KeyWriter::kind(QUEUE_SENDER).u32(account).u64(message).done()
}

/// Queue: the record of a message.
pub fn queue_record(message: u64) -> Bytes {
    KeyWriter::kind(QUEUE_RECORD).u64(message).done()
}

/// Queue: a message that is kept apart.
pub fn quarantine(message: u64) -> Bytes {
    KeyWriter::kind(QUEUE_QUARANTINE).u64(message).done()
}

/// Reference: a queued message needs the part.
pub fn queue_reference(part: u64, message: u64) -> Bytes {
    KeyWriter::kind(REFERENCE_USE).u64(part).u64(message | (0xf << 60)).done()
}

/// The queued message that needs a part, where an account and its message stand.
pub fn queued_in(account: u32, message: u32) -> Option<u64> {
    let number = (u64::from(account) << 32) | u64::from(message);
    (number >> 60 == 0xf).then_some(number & (QUEUE_NUMBERS - 1))
}

/// Part: a chunk.
pub fn part_chunk(part: u64, chunk: u32) -> Bytes {
    KeyWriter::default().u64(part).u32(chunk).done()
}

/// Reference: the head of a part.
pub fn part_head(part: u64) -> Bytes {
    KeyWriter::kind(REFERENCE_HEAD).u64(part).done()
}

/// Reference: the part with octets of this hash.
pub fn part_of_hash(hash: &[u8; 32]) -> Bytes {
    KeyWriter::kind(REFERENCE_HASH).raw(hash).done()
}

/// Reference: a message that needs a part.
pub fn part_reference(part: u64, account: u32, message: u32) -> Bytes {
    KeyWriter::kind(REFERENCE_USE).u64(part).u32(account).u32(message).done()
}

/// Reference: the beginning of the references to a part.
pub fn part_references(part: u64) -> Bytes {
    KeyWriter::kind(REFERENCE_USE).u64(part).done()
}

/// Reference: a part that may be collected.
pub fn part_candidate(part: u64) -> Bytes {
    KeyWriter::kind(REFERENCE_CANDIDATE).u64(part).done()
}

/// Writes a key field by field.
#[derive(Debug, Default)]
pub struct KeyWriter {
    bytes: BytesMut,
}

impl KeyWriter {
    /// A key that begins with a kind byte.
    pub fn kind(kind: u8) -> Self {
        Self::default().u8(kind)
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.bytes.put_u8(value);
        self
    }

    /// Appends two bytes, big-endian.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.bytes.put_u16(value);
        self
    }

    /// Appends four bytes, big-endian.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.bytes.put_u32(value);
        self
    }

    /// Appends eight bytes, big-endian.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.bytes.put_u64(value);
        self
    }

    /// Appends bytes as they are; only a key's last field may have a varying length.
    #[must_use]
    pub fn raw(mut self, value: &[u8]) -> Self {
        self.bytes.put_slice(value);
        self
    }

    /// The key.
    pub fn done(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Reads a key field by field; `None` when it is too short.
#[derive(Clone, Copy, Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Begins at the first byte.
    pub const fn new(key: &'a [u8]) -> Self {
        Self { rest: key }
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// What is left.
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// `Some` when nothing is left.
    pub const fn end(self) -> Option<()> {
        if self.rest.is_empty() { Some(()) } else { None }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }
}

/// The first key that does not begin with `prefix`: the end of a scan over all that do. Empty for a prefix of only
/// `ff` bytes, which no key here has.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_described() {
        assert_eq!(&allocator("part")[..], b"\x01part");
        assert_eq!(&setting("dedup")[..], b"\x02dedup");
        assert_eq!(&domain("a.example")[..], b"\x03a.example");
        assert_eq!(&account(0x0102_0304)[..], [4, 1, 2, 3, 4]);
        assert_eq!(&alias("a@b")[..], b"\x05a@b");
    }

    #[test]
    fn a_reader_takes_what_a_writer_put() {
        let key = KeyWriter::kind(9).u16(2).u32(3).u64(4).raw(b"xy").done();
        let mut reader = KeyReader::new(&key);
        assert_eq!((reader.u8(), reader.u16(), reader.u32(), reader.u64()), (Some(9), Some(2), Some(3), Some(4)));
        assert_eq!((reader.end(), reader.rest()), (None, &b"xy"[..]));
        assert_eq!(reader.u32(), None);
    }

    #[test]
    fn the_end_of_a_prefix_skips_full_bytes() {
        assert_eq!(&prefix_end(&[1, 2])[..], [1, 3]);
        assert_eq!(&prefix_end(&[1, 0xff, 0xff])[..], [2]);
        assert_eq!(&prefix_end(&[0xff])[..], [0_u8; 0]);
    }
}
