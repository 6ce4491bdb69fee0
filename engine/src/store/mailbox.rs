//! Mailboxes of an account: their list, their counters, and their state in memory.

use std::{
    ops::ControlFlow,
    sync::{Arc, OnceLock},
};

use rockdove_mail::{Keyword, MailboxName, ModSeq, SpecialUse, SystemFlags, Uid, UidValidity};

use super::{
    octets::{Take, put_bytes, put_varint},
    segment::{ENTRY_BYTES, KEYWORDS_MAX, MailboxView, Row, Segment, delta, segment_of},
};
use crate::{
    command::{AccountId, EngineError, MailboxId},
    kv::{
        Family, Read,
        keys::{self, KeyReader},
    },
};

/// A mailbox in a [`MailboxList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its id, which survives renaming.
    pub id: MailboxId,
    /// Its name.
    pub name: MailboxName,
    /// What it is for (RFC 6154).
    pub special_use: Option<SpecialUse>,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
}

/// The mailboxes and subscriptions of an account at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxList {
    /// Sorted by name.
    pub(crate) mailboxes: Vec<MailboxInfo>,
    /// Sorted.
    pub(crate) subscriptions: Vec<MailboxName>,
}

impl MailboxList {
    /// The mailboxes, sorted by name.
    pub fn mailboxes(&self) -> &[MailboxInfo] {
        &self.mailboxes
    }

    /// The subscribed names, sorted; they need not exist (RFC 9051 section 6.3.7).
    pub fn subscriptions(&self) -> &[MailboxName] {
        &self.subscriptions
    }

    /// The mailbox of this name.
    pub fn by_name(&self, name: &MailboxName) -> Option<&MailboxInfo> {
        let at = self.mailboxes.binary_search_by(|mailbox| mailbox.name.cmp(name)).ok()?;
        self.mailboxes.get(at)
    }

    /// The mailbox with this id.
    pub fn by_id(&self, id: MailboxId) -> Option<&MailboxInfo> {
        self.mailboxes.iter().find(|mailbox| mailbox.id == id)
    }

    /// Whether the name is subscribed.
    pub fn is_subscribed(&self, name: &MailboxName) -> bool {
        self.subscriptions.binary_search(name).is_ok()
    }

    /// Whether a mailbox exists below `name`.
    pub fn has_children(&self, name: &MailboxName) -> bool {
        self.mailboxes.iter().any(|mailbox| mailbox.name.is_below(name))
    }
}

/// What STATUS and SELECT tell about a mailbox (RFC 9051 section 6.3.11), from stored counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxStatus {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// MESSAGES.
    pub exists: u32,
    /// UNSEEN: messages without `\Seen`.
    pub unseen: u32,
    /// DELETED: messages with `\Deleted`.
    pub deleted: u32,
    /// SIZE, in octets.
    pub size_bytes: u64,
}

/// How much of its quota an account uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaUsage {
    /// Octets of all entries; a copy counts again, as users see it in every mailbox.
    pub used_bytes: u64,
    /// Entries in all mailboxes.
    pub messages: u64,
    /// Most octets; `None` for no limit.
    pub limit_bytes: Option<u64>,
}

const VERSION: u8 = 1;

/// The segments of a mailbox, ascending; shared until one changes.
pub(crate) type Segments = Arc<Vec<Arc<Segment>>>;

/// Counters of a mailbox, rewritten by every change of it.
///
/// ```text
/// 01 uid_next.. highest_modseq.. exists.. unseen.. deleted.. size.. vanished_floor..      all varints
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) uid_next: Uid,
    pub(crate) highest_modseq: ModSeq,
    pub(crate) exists: u32,
    pub(crate) unseen: u32,
    pub(crate) deleted: u32,
    pub(crate) size_bytes: u64,
    /// Expunges at or before this may have been forgotten.
    pub(crate) vanished_floor: ModSeq,
}

impl Counters {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        for value in [u64::from(self.uid_next), self.highest_modseq, u64::from(self.exists)] {
            put_varint(&mut row, value);
        }
        for value in [u64::from(self.unseen), u64::from(self.deleted), self.size_bytes, self.vanished_floor] {
            put_varint(&mut row, value);
        }
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let counters = Self {
            uid_next: take.small()?,
            highest_modseq: take.varint()?,
            exists: take.small()?,
            unseen: take.small()?,
            deleted: take.small()?,
            size_bytes: take.varint()?,
            vanished_floor: take.varint()?,
        };
        take.end().map(|()| counters)
    }
}

impl Counters {
    /// Takes away entries that were there.
    pub(crate) fn remove(&mut self, rows: &[Row]) {
        let count = |flag| rows.iter().filter(|row| row.flags.has(flag)).map(|_| 1).sum::<u32>();
        let all = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        self.exists = self.exists.saturating_sub(all);
        self.unseen = self.unseen.saturating_sub(all - count(SystemFlags::SEEN));
        self.deleted = self.deleted.saturating_sub(count(SystemFlags::DELETED));
        self.size_bytes = self.size_bytes.saturating_sub(rows.iter().map(|row| u64::from(row.size)).sum());
    }
}

/// What seldom changes about a mailbox.
///
/// ```text
/// 01 uid_validity.. created_modseq.. use1 name(..) count.. keyword(..)*      use: 0 none, else place in SpecialUse::NAMES + 1
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) name: MailboxName,
    pub(crate) special_use: Option<SpecialUse>,
    pub(crate) uid_validity: UidValidity,
    pub(crate) created_modseq: ModSeq,
    /// Only grows: an entry's keyword bits are places in it.
    pub(crate) keywords: Arc<Vec<Keyword>>,
}

impl Fixed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        put_varint(&mut row, u64::from(self.uid_validity));
        put_varint(&mut row, self.created_modseq);
        let place = SpecialUse::NAMES.iter().position(|(known, _)| Some(*known) == self.special_use);
        row.push(place.map_or(0, |place| u8::try_from(place + 1).unwrap_or_default()));
        put_bytes(&mut row, self.name.as_str().as_bytes());
        put_varint(&mut row, self.keywords.len() as u64);
        for keyword in self.keywords.iter() {
            put_bytes(&mut row, keyword.as_str().as_bytes());
        }
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let (uid_validity, created_modseq) = (take.small()?, take.varint()?);
        let special_use = match take.u8()? {
            0 => None,
            place => Some(SpecialUse::NAMES.get(usize::from(place) - 1)?.0),
        };
        let name = MailboxName::new(take.text()?).ok()?;
        let count: usize = take.small().filter(|count| *count <= KEYWORDS_MAX)?;
        let keywords = (0..count).map(|_| Keyword::new(take.text()?)).collect::<Option<Vec<_>>>()?;
        take.end()?;
        Some(Self { name, special_use, uid_validity, created_modseq, keywords: Arc::new(keywords) })
    }
}

/// Which segments of a mailbox a state has changed since the account was loaded.
#[derive(Clone, Debug)]
enum Entries {
    /// None.
    Untouched,
    /// Those from [`Lineage::tail_number`] on; the ones before are as on disk.
    Suffix(Segments),
    /// Possibly any.
    Full(Segments),
}

/// What the disk held of a mailbox when its account was loaded. Shared by all later states; filled when first needed.
/// Whoever changes a segment has it filled before, so it always tells the state at load time, whatever is on disk now.
#[derive(Debug)]
struct Lineage {
    uid_next: Uid,
    tail_number: u32,
    tail: OnceLock<Segments>,
    before: OnceLock<Segments>,
}

/// A mailbox in memory at one moment.
#[derive(Clone, Debug)]
pub(crate) struct MailboxState {
    pub(crate) account: AccountId,
    pub(crate) id: MailboxId,
    pub(crate) fixed: Arc<Fixed>,
    pub(crate) counters: Counters,
    entries: Entries,
    lineage: Arc<Lineage>,
    view: OnceLock<Arc<MailboxView>>,
}

impl MailboxState {
    /// A mailbox as its rows tell; no segment is read yet.
    pub(crate) fn stored(account: AccountId, id: MailboxId, fixed: Fixed, counters: Counters) -> Self {
        let tail_number = segment_of(counters.uid_next);
        let uid_next = counters.uid_next;
        let lineage = Lineage { uid_next, tail_number, tail: OnceLock::new(), before: OnceLock::new() };
        Self {
            account,
            id,
            fixed: Arc::new(fixed),
            counters,
            entries: Entries::Untouched,
            lineage: Arc::new(lineage),
            view: OnceLock::new(),
        }
    }

    /// A new mailbox without messages.
    pub(crate) fn new(account: AccountId, id: MailboxId, fixed: Fixed) -> Self {
        let counters = Counters { uid_next: 1, highest_modseq: fixed.created_modseq, ..Counters::default() };
        let mut state = Self::stored(account, id, fixed, counters);
        state.entries = Entries::Full(Segments::default());
        state
    }

    /// The segments that appending needs: the last ones, or all when they are in memory.
    pub(crate) fn tail(&self, store: &dyn Read) -> Result<Segments, EngineError> {
        match &self.entries {
            Entries::Suffix(segments) | Entries::Full(segments) => Ok(Arc::clone(segments)),
            Entries::Untouched => {
                let number = self.lineage.tail_number;
                filled(&self.lineage.tail, || self.load(store, number, u32::MAX))
            }
        }
    }

    /// Every segment.
    pub(crate) fn all(&self, store: &dyn Read) -> Result<Segments, EngineError> {
        if let Entries::Full(segments) = &self.entries {
            return Ok(Arc::clone(segments));
        }
        let tail = self.tail(store)?;
        let before = filled(&self.lineage.before, || self.load(store, 0, self.lineage.tail_number))?;
        if before.is_empty() {
            return Ok(tail);
        }
        Ok(Arc::new(before.iter().chain(tail.iter()).cloned().collect()))
    }

    /// A view for readers.
    pub(crate) fn view(&self, store: &dyn Read) -> Result<Arc<MailboxView>, EngineError> {
        if let Some(view) = self.view.get() {
            return Ok(Arc::clone(view));
        }
        let segments = self.all(store)?;
        Ok(Arc::clone(self.view.get_or_init(|| Arc::new(self.view_of(segments)))))
    }

    /// A view, if that needs no disk.
    pub(crate) fn view_cached(&self) -> Option<Arc<MailboxView>> {
        let tail_there = !matches!(self.entries, Entries::Untouched) || self.lineage.tail.get().is_some();
        let all_there = matches!(self.entries, Entries::Full(_)) || (tail_there && self.lineage.before.get().is_some());
        if self.view.get().is_some() || all_there { self.view(&NoDisk).ok() } else { None }
    }

    fn view_of(&self, segments: Segments) -> MailboxView {
        let keywords = Arc::clone(&self.fixed.keywords);
        MailboxView::new(self.id, self.status(), self.counters.vanished_floor, keywords, segments)
    }

    /// The state with the last segments replaced (those that [`MailboxState::tail`] gave, changed).
    pub(crate) fn set_tail(&mut self, segments: Segments) {
        self.view = OnceLock::new();
        self.entries = match self.entries {
            Entries::Full(_) => Entries::Full(segments),
            Entries::Untouched | Entries::Suffix(_) => Entries::Suffix(segments),
        };
    }

    /// The state with every segment replaced (those that [`MailboxState::all`] gave, changed).
    pub(crate) fn set_all(&mut self, segments: Segments) {
        self.view = OnceLock::new();
        self.entries = Entries::Full(segments);
    }

    /// Changes what seldom changes.
    pub(crate) fn fixed_mut(&mut self) -> &mut Fixed {
        self.view = OnceLock::new();
        Arc::make_mut(&mut self.fixed)
    }

    /// Makes sure that no UID below `uid_next` is given out again.
    pub(crate) fn skip_uids(&mut self, uid_next: Uid) {
        if uid_next > self.counters.uid_next {
            self.counters.uid_next = uid_next;
            self.view = OnceLock::new();
        }
    }

    /// UIDNEXT when the account came into memory.
    pub(crate) fn loaded_uid_next(&self) -> Uid {
        self.lineage.uid_next
    }

    pub(crate) fn status(&self) -> MailboxStatus {
        let counters = &self.counters;
        MailboxStatus {
            uid_validity: self.fixed.uid_validity,
            uid_next: counters.uid_next,
            highest_modseq: counters.highest_modseq,
            exists: counters.exists,
            unseen: counters.unseen,
            deleted: counters.deleted,
            size_bytes: counters.size_bytes,
        }
    }

    pub(crate) fn info(&self) -> MailboxInfo {
        MailboxInfo {
            id: self.id,
            name: self.fixed.name.clone(),
            special_use: self.fixed.special_use,
            uid_validity: self.fixed.uid_validity,
        }
    }

    /// Octets in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let full = matches!(self.entries, Entries::Full(_)) || self.lineage.before.get().is_some();
        let exists = usize::try_from(self.counters.exists).unwrap_or(usize::MAX);
        256 + ENTRY_BYTES * if full { exists } else { exists.min(1024) }
    }

    fn load(&self, store: &dyn Read, from: u32, to: u32) -> Result<Segments, EngineError> {
        load_segments(store, self.account, self.id, from, to).map(Arc::new)
    }
}

fn filled(
    cell: &OnceLock<Segments>,
    load: impl FnOnce() -> Result<Segments, EngineError>,
) -> Result<Segments, EngineError> {
    if let Some(segments) = cell.get() {
        return Ok(Arc::clone(segments));
    }
    let segments = load()?;
    // Whoever was first has won: only what was there before any change may be kept.
    Ok(Arc::clone(cell.get_or_init(|| segments)))
}

/// Reads the segments with `from <= number < to`.
pub(crate) fn load_segments(
    store: &dyn Read,
    account: AccountId,
    mailbox: MailboxId,
    from: u32,
    to: u32,
) -> Result<Vec<Arc<Segment>>, EngineError> {
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut damaged = false;
    let (first, end) =
        (keys::segment_prefix(account.0, mailbox.0, from), keys::segment_prefix(account.0, mailbox.0, to));
    store.scan(Family::Segment, &first, &end, &mut |key, row| {
        damaged = load_row(&mut segments, key, row).is_none();
        if damaged { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if damaged {
        return Err(EngineError::Corrupt(format!("entries of mailbox {} of account {}", mailbox.0, account.0)));
    }
    Ok(segments)
}

/// Adds a row to the segments read so far. A base comes before its deltas, these in order of mod-sequence.
pub(crate) fn load_row(segments: &mut Vec<Arc<Segment>>, key: &[u8], row: &[u8]) -> Option<()> {
    let mut reader = KeyReader::new(key);
    let (_, _, number, kind) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u8()?);
    if kind == keys::SEGMENT_BASE {
        reader.end()?;
        segments.push(Arc::new(Segment::decode(number, row)?));
        return Some(());
    }
    let modseq = reader.u64()?;
    reader.end()?;
    if segments.last().is_none_or(|last| last.number != number) {
        segments.push(Arc::new(Segment::empty(number)));
    }
    let segment = Arc::make_mut(segments.last_mut()?);
    for op in delta::decode(number, row)? {
        segment.apply(modseq, &op);
    }
    segment.deltas.push(modseq);
    segment.delta_bytes += row.len();
    Some(())
}

/// A store that must not be asked.
struct NoDisk;

impl Read for NoDisk {
    fn get(&self, _: Family, _: &[u8]) -> Result<Option<bytes::Bytes>, crate::kv::KvError> {
        Err(crate::kv::KvError::Busy("not in memory".to_owned()))
    }

    fn multi_get(&self, _: Family, _: &[&[u8]]) -> Result<Vec<Option<bytes::Bytes>>, crate::kv::KvError> {
        Err(crate::kv::KvError::Busy("not in memory".to_owned()))
    }

    fn scan(&self, _: Family, _: &[u8], _: &[u8], _: crate::kv::Visit<'_>) -> Result<(), crate::kv::KvError> {
        Err(crate::kv::KvError::Busy("not in memory".to_owned()))
    }

    fn scan_back(&self, _: Family, _: &[u8], _: &[u8], _: crate::kv::Visit<'_>) -> Result<(), crate::kv::KvError> {
        Err(crate::kv::KvError::Busy("not in memory".to_owned()))
    }
}
