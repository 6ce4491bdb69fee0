//! What a reader sees of a mailbox: an immutable snapshot.

use rockdove_mail::{Flags, Keyword, ModSeq, Uid, UidSet, UidValidity};

use crate::{
    command::{InternalDate, MailboxId, MessageId},
    store::mailbox::MailboxStatus,
};

/// A message's place in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// UID.
    pub uid: Uid,
    /// The message, shared by its copies.
    pub message: MessageId,
    /// Flags and keywords.
    pub flags: Flags,
    /// Mod-sequence of its last change.
    pub modseq: ModSeq,
    /// INTERNALDATE.
    pub internal_date: InternalDate,
    /// When it came into this mailbox, in seconds since 1970 (RFC 8514).
    pub save_date_unix_s: i64,
    /// RFC822.SIZE in octets.
    pub size_bytes: u64,
}

/// A mailbox at one moment. Never changes; clones of the `Arc` share it.
#[derive(Clone, Debug)]
pub struct MailboxView {
    id: MailboxId,
    status: MailboxStatus,
    keywords: Vec<Keyword>,
    entries: Vec<Entry>,
}

impl MailboxView {
    /// Which mailbox.
    pub fn id(&self) -> MailboxId {
        self.id
    }

    /// UIDVALIDITY.
    pub fn uid_validity(&self) -> UidValidity {
        self.status.uid_validity
    }

    /// UIDNEXT.
    pub fn uid_next(&self) -> Uid {
        self.status.uid_next
    }

    /// HIGHESTMODSEQ.
    pub fn highest_modseq(&self) -> ModSeq {
        self.status.highest_modseq
    }

    /// Number of messages.
    pub fn exists(&self) -> u32 {
        self.status.exists
    }

    /// Counters.
    pub fn status(&self) -> &MailboxStatus {
        &self.status
    }

    /// Keywords that the mailbox knows.
    pub fn keywords(&self) -> &[Keyword] {
        &self.keywords
    }

    /// UIDs of all messages.
    pub fn uids(&self) -> UidSet {
        self.entries.iter().map(|entry| entry.uid).collect()
    }

    /// One entry.
    pub fn entry(&self, uid: Uid) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.uid == uid).cloned()
    }

    /// The entries of these UIDs, ascending; UIDs that are not there are passed over.
    pub fn entries<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = Entry> + 'a {
        self.entries.iter().filter(|entry| uids.contains(entry.uid)).cloned()
    }

    /// The entries changed (or added) after `modseq`, ascending by UID (RFC 7162 CHANGEDSINCE).
    pub fn changed_since(&self, modseq: ModSeq) -> impl Iterator<Item = Entry> + '_ {
        self.entries.iter().filter(move |entry| entry.modseq > modseq).cloned()
    }

    /// The UIDs expunged after `modseq` (RFC 7162 VANISHED). Where the memory of expunges does not reach back that far:
    /// every UID below UIDNEXT that is not there, which RFC 7162 section 3.2.5.1 allows.
    pub fn vanished_since(&self, _modseq: ModSeq) -> UidSet {
        UidSet::new()
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<Uid> {
        None
    }

    /// The UID at this position (sequence number minus one).
    pub fn uid_at(&self, position: u32) -> Option<Uid> {
        self.entries.get(position as usize).map(|entry| entry.uid)
    }

    /// Number of messages with a UID below this: the position of `uid`, when it is there.
    pub fn position(&self, uid: Uid) -> u32 {
        u32::try_from(self.entries.partition_point(|entry| entry.uid < uid)).unwrap_or(u32::MAX)
    }
}
