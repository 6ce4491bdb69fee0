//! What a reader sees of a mailbox: an immutable snapshot.

use std::sync::Arc;

use rockdove_mail::{Flags, Keyword, ModSeq, SystemFlags, Uid, UidSet, UidValidity};

use super::{FlagBits, Row, Segment, segment_of};
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
#[derive(Debug)]
pub struct MailboxView {
    id: MailboxId,
    status: MailboxStatus,
    vanished_floor: ModSeq,
    keywords: Arc<Vec<Keyword>>,
    segments: Arc<Vec<Arc<Segment>>>,
    /// Messages before each segment.
    starts: Vec<u32>,
}

impl MailboxView {
    pub(crate) fn new(
        id: MailboxId,
        status: MailboxStatus,
        vanished_floor: ModSeq,
        keywords: Arc<Vec<Keyword>>,
        segments: Arc<Vec<Arc<Segment>>>,
    ) -> Self {
        let mut before = 0;
        let starts = segments.iter().map(|segment| {
            let start = before;
            before += u32::try_from(segment.len()).unwrap_or_default();
            start
        });
        let starts = starts.collect();
        Self { id, status, vanished_floor, keywords, segments, starts }
    }

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

    /// HIGHESTMODSEQ: the mod-sequence of the mailbox's last change.
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

    /// Keywords that the mailbox knows. They only grow in number, and keep their order.
    pub fn keywords(&self) -> &[Keyword] {
        &self.keywords
    }

    /// UIDs of all messages.
    pub fn uids(&self) -> UidSet {
        self.segments.iter().flat_map(|segment| segment.uids()).collect()
    }

    /// UIDs of the messages from this one on: what has arrived since it was UIDNEXT.
    pub fn uids_from(&self, first: Uid) -> UidSet {
        let at = self.segments.partition_point(|segment| segment.number < segment_of(first));
        let newer = self.segments.get(at..).unwrap_or_default();
        newer.iter().flat_map(|segment| segment.uids()).filter(|uid| *uid >= first).collect()
    }

    /// The highest mod-sequence of these messages; zero when none is there.
    pub fn highest_modseq_of(&self, uids: &UidSet) -> ModSeq {
        let modseqs =
            self.segments.iter().flat_map(|segment| segment.indexes(uids).map(move |index| segment.modseq(index)));
        modseqs.max().unwrap_or_default()
    }

    /// One entry.
    pub fn entry(&self, uid: Uid) -> Option<Entry> {
        let segment = self.segment(uid)?;
        Some(self.to_entry(&segment.row(segment.index(uid)?)))
    }

    /// The entries of these UIDs, ascending; UIDs that are not there are passed over.
    pub fn entries<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = Entry> + 'a {
        let rows =
            self.segments.iter().flat_map(move |segment| segment.indexes(uids).map(move |index| segment.row(index)));
        rows.map(|row| self.to_entry(&row))
    }

    /// The entries changed (or added) after `modseq`, ascending by UID (RFC 7162 CHANGEDSINCE).
    pub fn changed_since(&self, modseq: ModSeq) -> impl Iterator<Item = Entry> + '_ {
        let newer = self.segments.iter().filter(move |segment| segment.highest() > modseq);
        let rows = newer.flat_map(move |segment| {
            (0..segment.len()).filter(move |&at| segment.modseq(at) > modseq).map(move |at| segment.row(at))
        });
        rows.map(|row| self.to_entry(&row))
    }

    /// The UIDs expunged after `modseq` (RFC 7162 VANISHED). Where the memory of expunges does not reach back that far:
    /// every UID below UIDNEXT that is not there.
    ///
    //= rfc7162#section-3.2.5.1
    //# If the server cannot do that, it
    //# returns all UIDs that are less than UIDNEXT and are not in the mailbox
    /// in effect: the set may hold UIDs that the client never knew.
    pub fn vanished_since(&self, modseq: ModSeq) -> UidSet {
        if modseq < self.vanished_floor {
            let all = if self.uid_next() > 1 { UidSet::range(1, self.uid_next() - 1) } else { UidSet::new() };
            return all.difference(&self.uids());
        }
        let newer = self.segments.iter().filter(|segment| segment.highest() > modseq);
        newer.flat_map(|segment| segment.gone_since(modseq)).collect()
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<Uid> {
        let seen = SystemFlags::SEEN.bits();
        self.segments.iter().find_map(|segment| {
            let at = segment.system_flags().iter().position(|bits| bits & seen == 0)?;
            segment.uid(at)
        })
    }

    /// The UID at this position (sequence number minus one).
    pub fn uid_at(&self, position: u32) -> Option<Uid> {
        let at = self.starts.partition_point(|start| *start <= position).checked_sub(1)?;
        // Of several segments with the same start all but the last are empty.
        self.segments.get(at)?.uid((position - self.starts[at]) as usize)
    }

    /// Number of messages with a UID below this: the position of `uid`, when it is there.
    pub fn position(&self, uid: Uid) -> u32 {
        let at = self.segments.partition_point(|segment| segment.number < segment_of(uid));
        let Some(segment) = self.segments.get(at) else { return self.exists() };
        self.starts[at] + u32::try_from(segment.below(uid)).unwrap_or_default()
    }

    /// Whether two views share what they know of the mailbox: nothing has changed between them.
    pub fn same_as(&self, other: &Self) -> bool {
        self.id == other.id && self.highest_modseq() == other.highest_modseq()
    }

    pub(crate) fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    fn segment(&self, uid: Uid) -> Option<&Arc<Segment>> {
        let at = self.segments.binary_search_by_key(&segment_of(uid), |segment| segment.number).ok()?;
        self.segments.get(at)
    }

    fn to_entry(&self, row: &Row) -> Entry {
        Entry {
            uid: row.uid,
            message: MessageId(row.message),
            flags: flags_of(row.flags, &self.keywords),
            modseq: row.modseq,
            internal_date: row.date,
            save_date_unix_s: i64::from(row.save_date),
            size_bytes: u64::from(row.size),
        }
    }
}

/// Bits as flags, by the mailbox's table of keywords.
pub(crate) fn flags_of(bits: FlagBits, table: &[Keyword]) -> Flags {
    let named = |(place, keyword): (usize, &Keyword)| (bits.keywords & (1 << place) != 0).then(|| keyword.clone());
    let keywords = if bits.keywords == 0 { Vec::new() } else { table.iter().enumerate().filter_map(named).collect() };
    Flags { system: SystemFlags::from_bits(bits.system), keywords }
}
