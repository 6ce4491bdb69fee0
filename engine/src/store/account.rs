//! Accounts in memory: the newest planned state, the published one, and the lock that orders their changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rockdove_mail::{MailboxName, ModSeq, Uid};

use super::{
    annotations::{self, AllAnnotations, Annotations},
    mailbox::{Counters, Fixed, MailboxList, MailboxState},
    octets::{Take, put_varint},
};
use crate::{
    command::{AccountId, EngineError, MailboxId},
    kv::{
        Family, Read,
        keys::{self, KeyReader},
    },
    rights::{Acl, Entry, Subject},
};

const VERSION: u8 = 1;
/// Of a row with what is kept.
const VERSION_KEPT: u8 = 2;

/// The row of an account: what is counted and given out for the account as a whole.
///
/// ```text
/// 01 highest_modseq.. next_message.. next_mailbox.. last_uid_validity.. used_bytes.. messages..      all varints
/// 02 (the same) kept_bytes.. kept_messages..                                                         when there are any
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) highest_modseq: ModSeq,
    pub(crate) next_message: u32,
    pub(crate) next_mailbox: u32,
    pub(crate) last_uid_validity: u32,
    pub(crate) used_bytes: u64,
    /// Entries in all mailboxes.
    pub(crate) messages: u64,
    /// Octets of what was expunged or deleted and can be had again.
    pub(crate) kept_bytes: u64,
    /// Entries of that.
    pub(crate) kept_messages: u64,
}

impl Totals {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let keeps = self.kept_bytes > 0 || self.kept_messages > 0;
        let mut row = vec![if keeps { VERSION_KEPT } else { VERSION }];
        put_varint(&mut row, self.highest_modseq);
        for value in [self.next_message, self.next_mailbox, self.last_uid_validity] {
            put_varint(&mut row, u64::from(value));
        }
        put_varint(&mut row, self.used_bytes);
        put_varint(&mut row, self.messages);
        if keeps {
            put_varint(&mut row, self.kept_bytes);
            put_varint(&mut row, self.kept_messages);
        }
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = Take::new(row);
        let keeps = match take.u8()? {
            VERSION => false,
            VERSION_KEPT => true,
            _ => return None,
        };
        let mut totals = Self {
            highest_modseq: take.varint()?,
            next_message: take.small()?,
            next_mailbox: take.small()?,
            last_uid_validity: take.small()?,
            used_bytes: take.varint()?,
            messages: take.varint()?,
            ..Self::default()
        };
        if keeps {
            (totals.kept_bytes, totals.kept_messages) = (take.varint()?, take.varint()?);
        }
        take.end().map(|()| totals)
    }
}

/// Lists of rights by mailbox.
pub(crate) type Acls = Arc<BTreeMap<MailboxId, Arc<Acl>>>;
/// A mailbox that was deleted and can be had again.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    /// Seconds since 1970.
    pub(crate) when: u64,
    pub(crate) mailbox: Arc<MailboxState>,
}

/// The row of a hidden mailbox: `01 when.. fixed`, with what [`Fixed`] says.
pub(crate) fn encode_hidden(when: u64, fixed: &Fixed) -> Vec<u8> {
    let mut row = vec![VERSION];
    put_varint(&mut row, when);
    row.extend_from_slice(&fixed.encode());
    row
}

pub(crate) fn decode_hidden(row: &[u8]) -> Option<(u64, Fixed)> {
    let mut take = Take::versioned(row, VERSION)?;
    let when = take.varint()?;
    Some((when, Fixed::decode(take.rest())?))
}

/// An account at one moment. Cheap to copy: mailboxes are shared until they change.
#[derive(Clone, Debug)]
pub(crate) struct AccountState {
    pub(crate) totals: Totals,
    pub(crate) list: Arc<MailboxList>,
    /// By id.
    pub(crate) mailboxes: Vec<Arc<MailboxState>>,
    /// Deleted mailboxes, by id.
    pub(crate) hidden: Vec<Hidden>,
    /// Mailboxes whose UIDNEXT is ahead of its row; the next plan writes them, because it will show them.
    pub(crate) ahead: BTreeSet<MailboxId>,
    /// Lists of rights, of the mailboxes that have one.
    pub(crate) acls: Acls,
    /// Annotations.
    pub(crate) annotations: AllAnnotations,
}

impl AccountState {
    /// An account without mailboxes.
    pub(crate) fn new() -> Self {
        let totals = Totals { highest_modseq: 0, next_message: 1, next_mailbox: 1, ..Totals::default() };
        Self {
            totals,
            list: Arc::default(),
            mailboxes: Vec::new(),
            hidden: Vec::new(),
            ahead: BTreeSet::new(),
            acls: Arc::default(),
            annotations: Arc::default(),
        }
    }

    /// Reads an account; `None` when there is none of this id.
    pub(crate) fn load(store: &dyn Read, id: AccountId) -> Result<Option<Self>, EngineError> {
        let mut rows = Rows::default();
        let prefix = keys::account_prefix(id.0);
        store.scan(Family::Account, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            if rows.add(&key[prefix.len()..], row).is_none() {
                rows.damaged = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let damaged = || EngineError::Corrupt(format!("account {}", id.0));
        let prefix = keys::change_kind(id.0, keys::CHANGE_HIDDEN);
        store.scan(Family::Change, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            if rows.add_hidden(&key[prefix.len()..], row).is_none() {
                rows.damaged = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        // Deleted mailboxes of an account that was removed stay a little longer.
        if !rows.damaged && rows.totals.is_none() && rows.fixed.is_empty() && rows.counters.is_empty() {
            return Ok(None);
        }
        if rows.damaged || rows.fixed.len() + rows.hidden.len() != rows.counters.len() {
            return Err(damaged());
        }
        let totals = rows.totals.ok_or_else(damaged)?;
        let mut mailboxes = Vec::with_capacity(rows.fixed.len());
        for (mailbox, fixed) in rows.fixed {
            let counters = *rows.counters.get(&mailbox).ok_or_else(damaged)?;
            mailboxes.push(Arc::new(MailboxState::stored(id, MailboxId(mailbox), fixed, counters)));
        }
        let acls = Arc::new(rows.acls.into_iter().map(|(mailbox, acl)| (mailbox, Arc::new(acl))).collect());
        let mut hidden = Vec::with_capacity(rows.hidden.len());
        for (mailbox, (when, fixed)) in rows.hidden {
            let counters = *rows.counters.get(&mailbox).ok_or_else(damaged)?;
            let mailbox = Arc::new(MailboxState::stored(id, MailboxId(mailbox), fixed, counters));
            hidden.push(Hidden { when, mailbox });
        }
        let annotations = rows.annotations.into_iter().map(|(place, annotations)| (place, Arc::new(annotations)));
        let mut state = Self {
            totals,
            list: Arc::default(),
            mailboxes,
            hidden,
            ahead: BTreeSet::new(),
            acls,
            annotations: Arc::new(annotations.collect()),
        };
        state.set_list(rows.subscriptions);
        Ok(Some(state))
    }

    /// Makes the list anew from the mailboxes and these subscriptions (sorted).
    pub(crate) fn set_list(&mut self, subscriptions: Vec<MailboxName>) {
        let mut mailboxes: Vec<_> = self.mailboxes.iter().map(|mailbox| mailbox.info()).collect();
        mailboxes.sort_by(|a, b| a.name.cmp(&b.name));
        self.list = Arc::new(MailboxList { mailboxes, subscriptions });
    }

    fn place(&self, id: MailboxId) -> Result<usize, EngineError> {
        let missing = |_| EngineError::NotFound(format!("mailbox {}", id.0));
        self.mailboxes.binary_search_by_key(&id, |mailbox| mailbox.id).map_err(missing)
    }

    pub(crate) fn mailbox(&self, id: MailboxId) -> Result<&Arc<MailboxState>, EngineError> {
        Ok(&self.mailboxes[self.place(id)?])
    }

    pub(crate) fn mailbox_mut(&mut self, id: MailboxId) -> Result<&mut MailboxState, EngineError> {
        let place = self.place(id)?;
        Ok(Arc::make_mut(&mut self.mailboxes[place]))
    }

    /// Octets in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let rights: usize = self.acls.values().map(|acl| 64 + 32 * acl.len()).sum();
        let hidden = self.hidden.iter().map(|hidden| &hidden.mailbox);
        512 + rights
            + annotations::weight(&self.annotations)
            + self.mailboxes.iter().chain(hidden).map(|mailbox| mailbox.weight()).sum::<usize>()
    }

    /// Makes sure that nothing that `planned` gave out is given out again.
    fn skip(&mut self, planned: &Self) {
        let (totals, ahead) = (&mut self.totals, &planned.totals);
        totals.highest_modseq = totals.highest_modseq.max(ahead.highest_modseq);
        totals.next_message = totals.next_message.max(ahead.next_message);
        totals.next_mailbox = totals.next_mailbox.max(ahead.next_mailbox);
        totals.last_uid_validity = totals.last_uid_validity.max(ahead.last_uid_validity);
        for mailbox in &planned.mailboxes {
            if let Ok(mine) = self.mailbox(mailbox.id)
                && mine.counters.uid_next < mailbox.counters.uid_next
                && let Ok(mine) = self.mailbox_mut(mailbox.id)
            {
                mine.skip_uids(mailbox.counters.uid_next);
                self.ahead.insert(mailbox.id);
            }
        }
    }
}

#[derive(Default)]
struct Rows {
    totals: Option<Totals>,
    fixed: BTreeMap<u32, Fixed>,
    hidden: BTreeMap<u32, (u64, Fixed)>,
    counters: BTreeMap<u32, Counters>,
    subscriptions: Vec<MailboxName>,
    acls: BTreeMap<MailboxId, Acl>,
    annotations: BTreeMap<(MailboxId, Option<AccountId>), Annotations>,
    damaged: bool,
}

impl Rows {
    fn add_hidden(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        let id = u32::from_be_bytes(key.try_into().ok()?);
        self.hidden.insert(id, decode_hidden(row)?);
        Some(())
    }

    fn add(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        let (kind, rest) = key.split_first()?;
        let number = || Some(u32::from_be_bytes(rest.try_into().ok()?));
        match *kind {
            keys::ACCOUNT_STATE => self.totals = Some(Totals::decode(row)?),
            keys::ACCOUNT_MAILBOX => {
                self.fixed.insert(number()?, Fixed::decode(row)?);
            }
            keys::ACCOUNT_COUNTERS => {
                self.counters.insert(number()?, Counters::decode(row)?);
            }
            keys::ACCOUNT_SUBSCRIPTION => {
                self.subscriptions.push(MailboxName::new(std::str::from_utf8(rest).ok()?).ok()?);
            }
            keys::ACCOUNT_RIGHTS => {
                let (mailbox, subject) = rights_key(rest)?;
                self.acls.entry(mailbox).or_default().set(subject, Entry::decode(row)?);
            }
            kind @ (keys::ACCOUNT_SHARED | keys::ACCOUNT_PRIVATE) => {
                let (place, path) = annotations::place(kind, rest)?;
                self.annotations.entry(place).or_default().insert(path, annotations::decode(row)?);
            }
            _ => return None,
        }
        Some(())
    }
}

/// The mailbox and the subject of a row of rights, from what follows the kind in its key.
pub(crate) fn rights_key(rest: &[u8]) -> Option<(MailboxId, Subject)> {
    let mut reader = KeyReader::new(rest);
    let (mailbox, kind, id) = (reader.u32()?, reader.u8()?, reader.u32()?);
    reader.end()?;
    Some((MailboxId(mailbox), Subject::from_key(kind, id)?))
}

/// What is planned about a message and may not be on disk yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// The plan that said so last.
    pub(crate) sequence: u64,
    /// Entries beyond the first, when a plan changed it.
    pub(crate) extra: Option<u32>,
    /// The parts of a message that a plan created.
    pub(crate) parts: Option<Vec<u64>>,
}

/// What the lock of an account guards.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    /// Newest planned state; ahead of what is published while plans wait. `None`: not in memory, or removed.
    pub(crate) planned: Option<Arc<AccountState>>,
    /// Plans so far.
    pub(crate) sequence: u64,
    /// The removal of the account is planned.
    pub(crate) removed: bool,
    pub(crate) pending: BTreeMap<u32, Pending>,
    /// Rows of expunged entries that may not be on disk yet (`None`: taken away), and the plan that said so last.
    pub(crate) kept: BTreeMap<Bytes, (u64, Option<Bytes>)>,
}

/// An account's place in memory. Stays for ever; what it holds comes and goes.
#[derive(Debug)]
pub(crate) struct AccountSlot {
    pub(crate) id: AccountId,
    planner: Mutex<Planner>,
    published: RwLock<Option<Arc<AccountState>>>,
    /// Plans up to this sequence are published or have failed.
    committed: AtomicU64,
    /// Raised when planned state is dropped; plans of an earlier epoch must fail.
    epoch: AtomicU64,
    /// When it was last used, by the engine's count of uses.
    used: AtomicU64,
    /// First UIDs that no session has been told of, by mailbox.
    recent: Mutex<BTreeMap<MailboxId, Uid>>,
}

impl AccountSlot {
    pub(crate) fn new(id: AccountId) -> Self {
        Self {
            id,
            planner: Mutex::default(),
            published: RwLock::default(),
            committed: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            used: AtomicU64::new(0),
            recent: Mutex::default(),
        }
    }

    /// Takes the lock under which changes of this account are planned.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Planner> {
        // A plan that panicked has left no trace: planners replace states, they do not edit them.
        let mut planner = self.planner.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = self.committed.load(Ordering::Acquire);
        if planner.sequence == committed {
            planner.pending.clear();
            planner.kept.clear();
        } else if planner.pending.len() > 1024 {
            planner.pending.retain(|_, pending| pending.sequence > committed);
        }
        if planner.kept.len() > 1024 {
            planner.kept.retain(|_, (sequence, _)| *sequence > committed);
        }
        planner
    }

    /// The newest planned state, read from disk when it is not in memory.
    pub(crate) fn planned(&self, planner: &mut Planner, store: &dyn Read) -> Result<Arc<AccountState>, EngineError> {
        if let Some(state) = &planner.planned {
            return Ok(Arc::clone(state));
        }
        let missing = || EngineError::NotFound(format!("account {}", self.id.0));
        if planner.removed {
            return Err(missing());
        }
        let state = Arc::new(AccountState::load(store, self.id)?.ok_or_else(missing)?);
        planner.planned = Some(Arc::clone(&state));
        self.set_published(Some(Arc::clone(&state)));
        Ok(state)
    }

    /// What readers see; read from disk when it is not in memory.
    pub(crate) fn published(&self, store: &dyn Read) -> Result<Arc<AccountState>, EngineError> {
        if let Some(state) = self.published_cached() {
            return Ok(state);
        }
        let mut planner = self.lock();
        if let Some(state) = self.published_cached() {
            return Ok(state);
        }
        if planner.planned.is_some() {
            // Its creation waits to be committed.
            return Err(EngineError::NotFound(format!("account {}", self.id.0)));
        }
        self.planned(&mut planner, store)
    }

    pub(crate) fn published_cached(&self) -> Option<Arc<AccountState>> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_published(&self, state: Option<Arc<AccountState>>) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Shows the state after the plan `sequence`, which is durable.
    pub(crate) fn publish(&self, sequence: u64, state: Option<Arc<AccountState>>) {
        self.set_published(state);
        self.committed.store(sequence, Ordering::Release);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Drops everything planned that is not published, because its write failed. What was given out stays given out.
    pub(crate) fn forget_plans(&self) {
        let mut planner = self.lock();
        let published = self.published_cached();
        let next = match (&published, &planner.planned) {
            (Some(published), Some(planned)) => {
                let mut next = AccountState::clone(published);
                next.skip(planned);
                Some(Arc::new(next))
            }
            _ => published,
        };
        planner.planned = next;
        planner.removed = false;
        planner.pending.clear();
        planner.kept.clear();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.committed.store(planner.sequence, Ordering::Release);
    }

    /// Leaves memory, unless plans wait or somebody is planning or reading. `true` when it did.
    pub(crate) fn evict(&self) -> bool {
        let Ok(mut planner) = self.planner.try_lock() else { return false };
        if planner.sequence != self.committed.load(Ordering::Acquire) {
            return false;
        }
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        // A reader that has the state may still load segments through it. They must be those of the state, so nobody may
        // change them unseen: while it reads, the account stays. Nobody can take the state while it is locked here.
        let planned = planner.planned.take();
        let in_use = published.as_ref().is_some_and(|state| {
            let ours = 1 + usize::from(planned.as_ref().is_some_and(|planned| Arc::ptr_eq(planned, state)));
            Arc::strong_count(state) > ours
        });
        if in_use {
            planner.planned = planned;
            return false;
        }
        planner.pending.clear();
        planner.kept.clear();
        if let Some(state) = published.take() {
            self.keep_recent(&state);
        }
        true
    }

    /// Remembers which messages came while the account was in memory, where no session has asked yet.
    fn keep_recent(&self, state: &AccountState) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for mailbox in state.mailboxes.iter().filter(|mailbox| mailbox.loaded_uid_next() < mailbox.counters.uid_next) {
            recent.entry(mailbox.id).or_insert(mailbox.loaded_uid_next());
        }
    }

    /// Runs `work` while nothing of this account is planned or waits to be written, and reads the account anew afterwards.
    /// `None`, without running it, when something waits.
    pub(crate) fn when_quiet<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let mut planner = self.lock();
        if planner.sequence != self.committed.load(Ordering::Acquire) {
            return None;
        }
        let result = work();
        planner.pending.clear();
        planner.kept.clear();
        planner.planned = None;
        if let Some(state) = self.published_cached() {
            self.keep_recent(&state);
        }
        self.set_published(None);
        Some(result)
    }

    /// Runs `work`, which may write derived rows, unless the removal of the account is planned; nothing of the account is
    /// planned meanwhile. `None`: it was not run.
    pub(crate) fn while_there<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let planner = self.lock();
        (!planner.removed).then(work)
    }

    pub(crate) fn touch(&self, count: u64) {
        self.used.store(count, Ordering::Relaxed);
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// See `Engine::claim_recent`.
    pub(crate) fn claim_recent(&self, mailbox: &MailboxState, uid_next: Uid) -> Uid {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = recent.entry(mailbox.id).or_insert(mailbox.loaded_uid_next());
        let claimed = *first;
        *first = claimed.max(uid_next);
        claimed.min(uid_next)
    }

    /// See `Engine::recent_from`.
    pub(crate) fn recent_from(&self, mailbox: &MailboxState, uid_next: Uid) -> Uid {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(&mailbox.id).copied().unwrap_or(mailbox.loaded_uid_next()).min(uid_next)
    }
}
