//! Entries of a mailbox in columns, 1,024 UIDs to a segment.
//!
//! * What: the segment in memory ([`Segment`]), its stored forms ([`base`], [`delta`]), and what readers see ([`view`]).
//! * In: rows of the family `Segment`, and changes ([`Op`]).
//! * Out: segments with the changes applied, rows to write, entries.
//! * Never: changes a segment that a reader holds; a change makes a copy.
//! * Fails: decoding answers `None` on bytes that no encoder made; it never panics.
//!
//! The state of a segment is its base row with every delta row of a higher mod-sequence applied in order. Folding
//! writes that state as the new base and drops the deltas; it changes nothing that can be seen.

pub(crate) mod base;
pub(crate) mod delta;
pub(crate) mod view;

use rockdove_mail::{ModSeq, Rights, SystemFlags, Uid, UidSet};

use crate::command::InternalDate;
pub(crate) use delta::Op;
pub use view::{Entry, MailboxView};

/// UIDs in a segment. A change copies one segment in memory (about 40 KiB) and rewrites at most one base row.
pub const SEGMENT_UIDS: u32 = 1024;
/// Delta rows of a segment before they are folded into a new base: a base of about 20 KiB then costs each change
/// less than 200 octets, and loading reads at most this many small rows.
pub const DELTAS_MAX: usize = 128;
/// Octets of delta rows of a segment before they are folded.
pub const DELTA_BYTES_MAX: usize = 32 * 1024;
/// Segments without messages that are kept for what they remember of expunges. Older ones go, and clients that were
/// away longer are told of every missing UID instead.
pub const EXPUNGED_SEGMENTS_MAX: usize = 32;
/// Keywords that one mailbox can know: they are bits of a word. RFC 9051 names no minimum; clients use a few.
pub const KEYWORDS_MAX: usize = 64;
/// Octets that an entry takes in memory, for bounding the cache.
pub const ENTRY_BYTES: usize = 40;

/// Flags as bits: system flags, and keywords by their place in the mailbox's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlagBits {
    pub(crate) system: u8,
    pub(crate) keywords: u64,
}

impl FlagBits {
    /// Every flag there is.
    pub(crate) const ALL: Self = Self { system: SystemFlags::ALL.bits(), keywords: u64::MAX };

    /// The flags that these rights let one change.
    pub(crate) fn open_to(rights: Rights) -> Self {
        let keywords = if rights.contains(Rights::WRITE) { Self::ALL.keywords } else { 0 };
        Self { system: rights.system_flags().bits(), keywords }
    }

    pub(crate) const fn changed(self, clear: Self, set: Self) -> Self {
        Self {
            system: (self.system & !clear.system) | set.system,
            keywords: (self.keywords & !clear.keywords) | set.keywords,
        }
    }

    pub(crate) const fn has(self, flag: SystemFlags) -> bool {
        self.system & flag.bits() == flag.bits()
    }
}

/// One entry with its columns side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) uid: Uid,
    pub(crate) message: u32,
    /// First message of its thread; its own id until threads are computed.
    pub(crate) thread: u32,
    pub(crate) size: u32,
    pub(crate) date: InternalDate,
    /// Seconds since 1970, as an unsigned number until 2106.
    pub(crate) save_date: u32,
    pub(crate) modseq: ModSeq,
    pub(crate) flags: FlagBits,
}

/// The entries of [`SEGMENT_UIDS`] neighbouring UIDs. Columns have one element per message that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    /// UID within the segment, ascending.
    slots: Vec<u16>,
    messages: Vec<u32>,
    threads: Vec<u32>,
    sizes: Vec<u32>,
    dates: Vec<i64>,
    zones: Vec<i16>,
    save_dates: Vec<u32>,
    modseqs: Vec<ModSeq>,
    system: Vec<u8>,
    /// Empty while no message here has a keyword.
    keywords: Vec<u64>,
    /// Expunged: UID within the segment, ascending, and when.
    gone_slots: Vec<u16>,
    gone_modseqs: Vec<ModSeq>,
    /// Highest mod-sequence of anything here.
    highest: ModSeq,
    /// Delta rows since the base.
    pub(crate) deltas: Vec<ModSeq>,
    /// Octets of these.
    pub(crate) delta_bytes: usize,
}

/// The segment of a UID.
pub(crate) const fn segment_of(uid: Uid) -> u32 {
    uid / SEGMENT_UIDS
}

impl Segment {
    pub(crate) fn empty(number: u32) -> Self {
        Self { number, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) const fn highest(&self) -> ModSeq {
        self.highest
    }

    /// First UID that can be in here.
    pub(crate) const fn first_uid(&self) -> Uid {
        self.number.saturating_mul(SEGMENT_UIDS)
    }

    const fn uid_of(&self, slot: u16) -> Uid {
        self.first_uid().saturating_add(slot as u32)
    }

    fn slot_of(&self, uid: Uid) -> Option<u16> {
        (segment_of(uid) == self.number).then_some((uid % SEGMENT_UIDS) as u16)
    }

    /// Place of a UID in the columns.
    pub(crate) fn index(&self, uid: Uid) -> Option<usize> {
        self.slots.binary_search(&self.slot_of(uid)?).ok()
    }

    /// Number of messages below `uid`.
    pub(crate) fn below(&self, uid: Uid) -> usize {
        self.slots.partition_point(|&slot| self.uid_of(slot) < uid)
    }

    pub(crate) fn uid(&self, index: usize) -> Option<Uid> {
        self.slots.get(index).map(|&slot| self.uid_of(slot))
    }

    pub(crate) fn uids(&self) -> impl Iterator<Item = Uid> + '_ {
        self.slots.iter().map(|&slot| self.uid_of(slot))
    }

    pub(crate) fn flags(&self, index: usize) -> FlagBits {
        FlagBits { system: self.system[index], keywords: self.keywords.get(index).copied().unwrap_or_default() }
    }

    pub(crate) fn modseq(&self, index: usize) -> ModSeq {
        self.modseqs[index]
    }

    /// System flags of every message, in order.
    pub(crate) fn system_flags(&self) -> &[u8] {
        &self.system
    }

    /// The entry at `index`, which must be below [`Segment::len`].
    pub(crate) fn row(&self, index: usize) -> Row {
        Row {
            uid: self.uid_of(self.slots[index]),
            message: self.messages[index],
            thread: self.threads[index],
            size: self.sizes[index],
            date: InternalDate { unix_s: self.dates[index], offset_minutes: self.zones[index] },
            save_date: self.save_dates[index],
            modseq: self.modseqs[index],
            flags: self.flags(index),
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.len()).map(|index| self.row(index))
    }

    /// Indexes of the messages in `uids`, ascending.
    pub(crate) fn indexes<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = usize> + 'a {
        let last = self.first_uid().saturating_add(SEGMENT_UIDS - 1);
        let from = uids.ranges().partition_point(|range| range.1 < self.first_uid());
        uids.ranges()[from..]
            .iter()
            .take_while(move |range| range.0 <= last)
            .flat_map(|range| self.below(range.0)..self.slots.partition_point(|&slot| self.uid_of(slot) <= range.1))
    }

    /// UIDs expunged after `modseq`, ascending.
    pub(crate) fn gone_since(&self, modseq: ModSeq) -> impl Iterator<Item = Uid> + '_ {
        let gone = self.gone_slots.iter().zip(&self.gone_modseqs);
        gone.filter(move |(_, when)| **when > modseq).map(|(&slot, _)| self.uid_of(slot))
    }

    /// Applies one change made at `modseq`.
    pub(crate) fn apply(&mut self, modseq: ModSeq, op: &Op) {
        self.highest = self.highest.max(modseq);
        match op {
            Op::Append(row) => self.insert(&Row { modseq, ..*row }),
            Op::Flags { uids, clear, set } => {
                let places: Vec<usize> = self.indexes(uids).collect();
                for index in places {
                    self.set_flags(index, self.flags(index).changed(*clear, *set));
                    self.modseqs[index] = modseq;
                }
            }
            Op::Expunge { uids } => self.expunge(uids, modseq),
        }
    }

    fn set_flags(&mut self, index: usize, flags: FlagBits) {
        self.system[index] = flags.system;
        if self.keywords.is_empty() && flags.keywords != 0 {
            self.keywords = vec![0; self.len()];
        }
        if let Some(keywords) = self.keywords.get_mut(index) {
            *keywords = flags.keywords;
        }
    }

    /// Adds an entry; one that is there already, or was expunged, is left as it is, because no UID comes twice.
    fn insert(&mut self, row: &Row) {
        let Some(slot) = self.slot_of(row.uid) else { return };
        let Err(at) = self.slots.binary_search(&slot) else { return };
        self.slots.insert(at, slot);
        self.messages.insert(at, row.message);
        self.threads.insert(at, row.thread);
        self.sizes.insert(at, row.size);
        self.dates.insert(at, row.date.unix_s);
        self.zones.insert(at, row.date.offset_minutes);
        self.save_dates.insert(at, row.save_date);
        self.modseqs.insert(at, row.modseq);
        self.system.insert(at, 0);
        if !self.keywords.is_empty() {
            self.keywords.insert(at, 0);
        }
        self.set_flags(at, row.flags);
        self.highest = self.highest.max(row.modseq);
    }

    fn expunge(&mut self, uids: &UidSet, modseq: ModSeq) {
        let mut keep = vec![true; self.len()];
        for index in self.indexes(uids).collect::<Vec<_>>() {
            keep[index] = false;
            let slot = self.slots[index];
            let at = self.gone_slots.partition_point(|&gone| gone < slot);
            self.gone_slots.insert(at, slot);
            self.gone_modseqs.insert(at, modseq);
        }
        retain(&mut self.slots, &keep);
        retain(&mut self.messages, &keep);
        retain(&mut self.threads, &keep);
        retain(&mut self.sizes, &keep);
        retain(&mut self.dates, &keep);
        retain(&mut self.zones, &keep);
        retain(&mut self.save_dates, &keep);
        retain(&mut self.modseqs, &keep);
        retain(&mut self.system, &keep);
        retain(&mut self.keywords, &keep);
    }
}

fn retain<T>(column: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    column.retain(|_| keep.next().copied().unwrap_or(true));
}

#[cfg(test)]
mod tests;
