//! The front door of the engine.

mod dispatch;
mod records;

pub use records::ReadyTexts;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rockdove_mail::{
    ModSeq, Uid, UidSet,
    search::{SearchKey, SortCriterion, SortKey, ThreadAlgorithm, ThreadNode},
    text,
};

use crate::{
    command::{AccountId, ChangeNotice, Command, EngineError, MailboxId, MessageId, Outcome, QuotaLimits},
    directory::{AccountRecord, Directory},
    kv::{Batch, Durability, Family, Read, SharedKv, keys},
    queue::Queue,
    rights::Grants,
    search::{self, KeptTexts, Messages, SheetCache, Sheets},
    store::{
        MailboxList, MailboxStatus, MailboxView, MessageRecord, QuotaUsage, StagedMessage, Staging,
        account::{AccountSlot, AccountState, Totals},
        cache::StateCache,
        commit::Committer,
        directory::DirectorySlot,
        parts::Parts,
        segment::Row,
    },
    trace::Trace,
};

pub(crate) use dispatch::By;

/// Called once with the answer to a command, on the thread that committed it.
pub type Done = Box<dyn FnOnce(Result<Outcome, EngineError>) + Send>;

/// Told of every commit.
pub type Listener = Box<dyn Fn(&[ChangeNotice]) + Send + Sync>;

/// Version of the whole layout, in the first row of the store.
const FORMAT_VERSION: u8 = 2;
/// Setting: the key of content hashes.
const DEDUP_KEY: &str = "dedup_key";

/// How often an account is looked at for a moment without waiting changes, before its repair is given up.
const QUIET_ATTEMPTS_MAX: u32 = 1_000;

/// Limits of the engine, and the secret of its content hashes.
#[derive(Clone)]
pub struct EngineOptions {
    /// Key of content hashes, so that nobody outside can tell which content is stored. Used on first start only; the
    /// stored one counts afterwards.
    pub dedup_key: [u8; 32],
    /// Bodies below this many octets stay in the message record; at most 16 KiB.
    pub part_inline_max: usize,
    /// Octets joined into one write, unless a single command has more.
    pub group_bytes_max: usize,
    /// Commands joined into one write.
    pub group_commands_max: usize,
    /// Commands that may wait to be committed; more are refused as `Unavailable`.
    pub queue_commands_max: usize,
    /// Octets of mailbox entries kept in memory; accounts used longest ago leave first.
    pub segment_cache_bytes_max: usize,
    /// Octets of decompressed part chunks kept in memory.
    pub chunk_cache_bytes_max: usize,
    /// Octets of sort keys and previews kept in memory: about 250 a message.
    pub sort_key_cache_bytes_max: usize,
    /// Octets of one message.
    pub message_size_max: u64,
    /// For how long what is expunged or deleted can be had again, in seconds; 0 for not at all.
    pub undelete_s: u64,
    /// Octets of that in one account; what went first is removed first.
    pub undelete_bytes_max: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            dedup_key: [0; 32],
            part_inline_max: 4 * 1024,
            group_bytes_max: 4 * 1024 * 1024,
            group_commands_max: 512,
            queue_commands_max: 8_192,
            segment_cache_bytes_max: 256 * 1024 * 1024,
            chunk_cache_bytes_max: 16 * 1024 * 1024,
            sort_key_cache_bytes_max: 64 * 1024 * 1024,
            message_size_max: 64 * 1024 * 1024,
            undelete_s: 0,
            undelete_bytes_max: 1024 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineOptions").field("message_size_max", &self.message_size_max).finish_non_exhaustive()
    }
}

/// The engine. Shared by all threads as `Arc<Engine>`.
pub struct Engine {
    kv: SharedKv,
    options: EngineOptions,
    directory: DirectorySlot,
    slots: RwLock<BTreeMap<AccountId, Arc<AccountSlot>>>,
    uses: AtomicU64,
    cache: StateCache,
    parts: Arc<Parts>,
    committer: Committer,
    /// Taken by whoever changes rows outside of groups, so that one does not undo what another stands on. Taken before
    /// the locks of accounts.
    upkeep: Mutex<()>,
    /// Taken by whoever writes texts. Taken before all others.
    texts: Mutex<()>,
    /// Taken by whoever changes what was learned of spam. Taken before all others.
    learning: Mutex<()>,
    sheets: SheetCache,
    listeners: RwLock<Vec<Listener>>,
    /// Nothing is taken in.
    closed: AtomicBool,
    /// Who is named in whose lists of rights.
    grants: Grants,
    /// Mail that leaves.
    queue: Arc<Queue>,
    /// What happened to mail.
    trace: Trace,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine on a store.
    pub fn open(kv: SharedKv, options: EngineOptions) -> Result<Arc<Self>, EngineError> {
        let dedup_key = first_start(&kv, &options)?;
        let directory = Directory::load(&*kv as &dyn Read)?;
        let grants = Grants::load(&*kv, &directory)?;
        let directory = DirectorySlot::new(directory);
        Ok(Arc::new(Self {
            directory,
            slots: RwLock::default(),
            uses: AtomicU64::new(0),
            cache: StateCache::new(options.segment_cache_bytes_max),
            parts: Arc::new(Parts::new(dedup_key, options.chunk_cache_bytes_max)),
            committer: Committer::new(Arc::clone(&kv), &options),
            upkeep: Mutex::default(),
            texts: Mutex::default(),
            learning: Mutex::default(),
            sheets: SheetCache::new(options.sort_key_cache_bytes_max),
            listeners: RwLock::default(),
            closed: AtomicBool::new(false),
            grants,
            queue: Arc::new(Queue::load(&*kv as &dyn Read)?),
            trace: Trace::load(&*kv as &dyn Read)?,
            kv,
            options,
        }))
    }

    /// The limits it was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The store below; for checks and repairs.
    pub(crate) fn kv(&self) -> &SharedKv {
        &self.kv
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(crate) fn tracer(&self) -> &Trace {
        &self.trace
    }

    /// A secret of this store for one purpose, the same after every start.
    pub fn secret(&self, purpose: &str) -> [u8; 32] {
        let own = self.parts.hasher().update(purpose.as_bytes()).finalize();
        blake3::derive_key(purpose, own.as_bytes())
    }

    /// Domains, accounts and aliases, as last published.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.published()
    }

    /// Plans on the calling thread; `done` is called from the committing thread after the sync, or at once when the
    /// command is refused. May read the disk.
    pub fn submit(&self, now_unix_s: i64, command: Command, done: Done) {
        let mut done = Some(done);
        let admitted = if command.takes_in() { self.takes_in() } else { Ok(()) };
        let admitted = admitted.and_then(|()| self.committer.admit());
        let queued = admitted.and_then(|()| self.queue_as(now_unix_s, command, &mut done));
        if let (Err(error), Some(done)) = (queued, done) {
            done(Err(error));
        }
    }

    /// Whether mail is taken in from now on: not while the disk is nearly full. Everything else goes on: reading, flags,
    /// moving, and what gives room back.
    pub fn set_takes_in(&self, takes_in: bool) {
        self.closed.store(!takes_in, Ordering::Relaxed);
    }

    /// Whether mail is taken in; `Unavailable` when not.
    pub fn takes_in(&self) -> Result<(), EngineError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(EngineError::Unavailable("the disk is nearly full".to_owned()));
        }
        Ok(())
    }

    /// [`Engine::submit`], then takes part in committing until answered; works with and without a committer thread.
    pub fn execute(&self, now_unix_s: i64, command: Command) -> Result<Outcome, EngineError> {
        let answer = Arc::new(Mutex::new(None));
        let here = Arc::clone(&answer);
        self.submit(now_unix_s, command, Box::new(move |outcome| *locked(&here) = Some(outcome)));
        loop {
            if let Some(outcome) = locked(&answer).take() {
                return outcome;
            }
            if !self.commit_pending(Duration::ZERO) {
                self.committer.wait();
            }
        }
    }

    /// Body of the committer thread's loop: waits up to `timeout` for work, then writes one group with one sync,
    /// publishes and answers. `false` when nothing came.
    pub fn commit_pending(&self, timeout: Duration) -> bool {
        let Some(mut committed) = self.committer.commit(timeout, &self.directory) else { return false };
        let notices = merged(std::mem::take(&mut committed.notices));
        if !notices.is_empty() {
            let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
            for listener in &*listeners {
                listener(&notices);
            }
        }
        let slots = std::mem::take(&mut committed.slots);
        for slot in &slots {
            self.grants.follow(slot);
        }
        self.committer.conclude(committed);
        for slot in &slots {
            self.weigh(slot);
        }
        true
    }

    /// Adds a listener that is told of every commit after it is durable and published, in order for each account. It
    /// must be quick: it holds up the committer.
    pub fn on_change(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Names, ids, special uses and subscriptions. Reads the disk when the account is not in memory.
    pub fn mailboxes(&self, account: AccountId) -> Result<Arc<MailboxList>, EngineError> {
        Ok(Arc::clone(&self.account(account)?.list))
    }

    /// [`Engine::mailboxes`], if that needs no disk.
    pub fn mailboxes_cached(&self, account: AccountId) -> Option<Arc<MailboxList>> {
        Some(Arc::clone(&self.slot(account).published_cached()?.list))
    }

    /// A snapshot of a mailbox. Reads the disk when it is not in memory.
    pub fn mailbox(&self, account: AccountId, mailbox: MailboxId) -> Result<Arc<MailboxView>, EngineError> {
        Ok(self.snapshot(account, mailbox)?.0)
    }

    /// A snapshot of a mailbox, if that needs no disk.
    pub fn mailbox_cached(&self, account: AccountId, mailbox: MailboxId) -> Option<Arc<MailboxView>> {
        Some(self.snapshot_cached(account, mailbox)?.0)
    }

    /// A snapshot of a mailbox and the account's highest mod-sequence at that moment: every change up to it is in the
    /// snapshot, every later one is greater. Reads the disk when it is not in memory.
    pub fn snapshot(&self, account: AccountId, mailbox: MailboxId) -> Result<(Arc<MailboxView>, ModSeq), EngineError> {
        if let Some(snapshot) = self.snapshot_cached(account, mailbox) {
            return Ok(snapshot);
        }
        let slot = self.slot(account);
        let state = slot.published(&*self.kv)?;
        let view = state.mailbox(mailbox)?.view(&*self.kv)?;
        self.weigh(&slot);
        Ok((view, state.totals.highest_modseq))
    }

    /// [`Engine::snapshot`], if that needs no disk.
    pub fn snapshot_cached(&self, account: AccountId, mailbox: MailboxId) -> Option<(Arc<MailboxView>, ModSeq)> {
        let state = self.slot(account).published_cached()?;
        Some((state.mailbox(mailbox).ok()?.view_cached()?, state.totals.highest_modseq))
    }

    /// Counters of a mailbox; never loads its entries.
    pub fn status(&self, account: AccountId, mailbox: MailboxId) -> Result<MailboxStatus, EngineError> {
        Ok(self.account(account)?.mailbox(mailbox)?.status())
    }

    /// [`Engine::status`], if that needs no disk. `None` also when there is no such mailbox.
    pub fn status_cached(&self, account: AccountId, mailbox: MailboxId) -> Option<MailboxStatus> {
        Some(self.slot(account).published_cached()?.mailbox(mailbox).ok()?.status())
    }

    /// Claims the messages that no session has been told of (`\Recent`, RFC 3501 section 2.3.2): the first UID that is
    /// recent for the caller; everything below `uid_next` is claimed. Kept in memory only: what came before the last
    /// start is not recent.
    pub fn claim_recent(&self, account: AccountId, mailbox: MailboxId, uid_next: Uid) -> Uid {
        let slot = self.slot(account);
        let state = slot.published_cached();
        let mailbox = state.as_ref().and_then(|state| state.mailbox(mailbox).ok());
        mailbox.map_or(uid_next, |mailbox| slot.claim_recent(mailbox, uid_next))
    }

    /// What [`Engine::claim_recent`] would answer, but claims nothing (EXAMINE, STATUS).
    pub fn recent_from(&self, account: AccountId, mailbox: MailboxId, uid_next: Uid) -> Uid {
        let slot = self.slot(account);
        let state = slot.published_cached();
        let mailbox = state.as_ref().and_then(|state| state.mailbox(mailbox).ok());
        mailbox.map_or(uid_next, |mailbox| slot.recent_from(mailbox, uid_next))
    }

    /// How much an account uses and may use.
    pub fn quota(&self, account: AccountId) -> Result<QuotaUsage, EngineError> {
        let totals = self.account(account)?.totals;
        let limit_bytes = self.limits_of(account).bytes;
        Ok(QuotaUsage { used_bytes: totals.used_bytes, messages: totals.messages, limit_bytes })
    }

    /// Begins to take in a message. What is written answers `Unavailable` while nothing is taken in.
    pub fn stage(&self) -> Staging {
        let mut staging = Staging::new(Arc::clone(&self.kv), Arc::clone(&self.parts), &self.options);
        if let Err(error) = self.takes_in() {
            staging.refuse(error);
        }
        staging
    }

    /// A staged message as it came in. All of it is held in memory.
    pub fn staged_octets(&self, message: &StagedMessage) -> Result<Bytes, EngineError> {
        self.staged_start(message, u64::MAX)
    }

    /// The same, cut to its first octets.
    pub fn staged_start(&self, message: &StagedMessage, octets_max: u64) -> Result<Bytes, EngineError> {
        message.start(&self.kv, &self.parts, octets_max)
    }

    /// Bytes of a message as the client sees it, cut to its end. Ask in pages: the answer is held in memory.
    pub fn read(&self, _account: AccountId, record: &MessageRecord, range: Range<u64>) -> Result<Bytes, EngineError> {
        record.read(&self.kv, &self.parts, range)
    }

    /// UIDs of the messages that match, ascending.
    pub fn search(&self, account: AccountId, mailbox: MailboxId, key: &SearchKey) -> Result<Vec<Uid>, EngineError> {
        let view = self.mailbox(account, mailbox)?;
        self.search_view(account, &view, key)
    }

    /// UIDs of the messages of a view that match, ascending.
    pub fn search_view(
        &self,
        account: AccountId,
        view: &MailboxView,
        key: &SearchKey,
    ) -> Result<Vec<Uid>, EngineError> {
        let read = self.kv.snapshot();
        search::search(view, key, &AccountMessages { engine: self, account }, Some((&*read, account.0)))
    }

    /// The messages of a view that match, ordered (RFC 5256 SORT).
    pub fn sort_view(
        &self,
        account: AccountId,
        view: &MailboxView,
        key: &SearchKey,
        criteria: &[SortCriterion],
    ) -> Result<Vec<Uid>, EngineError> {
        self.found(account, view, key, |rows, messages, texts, sheets| {
            let by_relevancy = criteria.iter().any(|criterion| criterion.key == SortKey::Relevancy);
            let scores = if by_relevancy { search::relevancy(rows, key, messages, texts)? } else { Vec::new() };
            search::sort(rows, criteria, &scores, messages, sheets)
        })
    }

    /// The threads of the messages of a view that match (RFC 5256 THREAD).
    pub fn thread_view(
        &self,
        account: AccountId,
        view: &MailboxView,
        key: &SearchKey,
        algorithm: ThreadAlgorithm,
    ) -> Result<Vec<ThreadNode>, EngineError> {
        self.found(account, view, key, |rows, messages, _, sheets| search::thread(rows, algorithm, messages, sheets))
    }

    /// Does something with the entries that match, from one snapshot.
    fn found<T>(
        &self,
        account: AccountId,
        view: &MailboxView,
        key: &SearchKey,
        work: impl FnOnce(&[Row], &dyn Messages, KeptTexts<'_>, Option<&Sheets<'_>>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let read = self.kv.snapshot();
        let (messages, texts) = (AccountMessages { engine: self, account }, Some((&*read, account.0)));
        let rows = search::find(view, key, &messages, texts)?;
        work(&rows, &messages, texts, Sheets::open(texts, &self.sheets)?.as_ref())
    }

    /// How well each of these messages of a view matches what is searched fuzzily, from 1 to 100 among them (RFC 6203),
    /// ascending by UID.
    pub fn relevancy_view(
        &self,
        account: AccountId,
        view: &MailboxView,
        key: &SearchKey,
        uids: &UidSet,
    ) -> Result<Vec<(Uid, u8)>, EngineError> {
        let found = SearchKey::Uids(uids.clone());
        self.found(account, view, &found, |rows, messages, texts, _| {
            let scores = search::relevancy(rows, key, messages, texts)?;
            Ok(rows.iter().map(|row| row.uid).zip(scores).collect())
        })
    }

    /// The previews of these messages (RFC 8970), as far as they are kept.
    pub fn previews_kept(
        &self,
        account: AccountId,
        messages: &[MessageId],
    ) -> Result<Vec<Option<String>>, EngineError> {
        let read = self.kv.snapshot();
        let messages: Vec<u32> = messages.iter().map(|message| message.0).collect();
        match Sheets::open(Some((&*read, account.0)), &self.sheets)? {
            Some(sheets) => search::kept_previews(&sheets, &messages),
            None => Ok(vec![None; messages.len()]),
        }
    }

    /// The preview of a message, made from its beginning.
    pub fn preview(&self, account: AccountId, record: &MessageRecord) -> Result<String, EngineError> {
        let octets = self.read(account, record, 0..text::PREVIEW_OCTETS_MAX as u64)?;
        Ok(text::preview(&octets, &record.skeleton()))
    }

    /// What [`Engine::search`] answers, read from the messages alone; slow. For checks.
    pub fn search_by_reading(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        key: &SearchKey,
    ) -> Result<Vec<Uid>, EngineError> {
        let view = self.mailbox(account, mailbox)?;
        search::search(&view, key, &AccountMessages { engine: self, account }, None)
    }

    /// Removes up to `limit` parts that no message needs any more, and answers how many. Call it now and then.
    pub fn collect_parts(&self, now_unix_s: i64, limit: usize) -> Result<usize, EngineError> {
        let _upkeep = locked(&self.upkeep);
        // While no group is written, so that no reference comes or goes between looking and removing; and while no equal
        // part is staged, which would take over the row of the hash.
        self.committer.exclusive(|| self.parts.standstill(|| self.parts.collect(&self.kv, now_unix_s, limit)))
    }

    /// The parts of the server.
    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// The store below, for reading.
    pub(crate) fn kv_read(&self) -> &dyn Read {
        &*self.kv as &dyn Read
    }

    /// The right to change rows outside of groups. Taken after that to write texts.
    pub(crate) fn upkeep_lock(&self) -> MutexGuard<'_, ()> {
        locked(&self.upkeep)
    }

    /// The right to write texts.
    pub(crate) fn texts_lock(&self) -> MutexGuard<'_, ()> {
        locked(&self.texts)
    }

    /// The right to change what was learned of spam.
    pub(crate) fn learning_lock(&self) -> MutexGuard<'_, ()> {
        locked(&self.learning)
    }

    /// Beyond every message of the account that is written. Does not bring the account into memory.
    pub(crate) fn next_message(&self, account: AccountId) -> Result<u32, EngineError> {
        let row = self.kv.get(Family::Account, &keys::account_state(account.0))?;
        let row = row.ok_or_else(|| EngineError::NotFound(format!("account {}", account.0)))?;
        let totals = Totals::decode(&row);
        totals.map(|totals| totals.next_message).ok_or_else(|| EngineError::Corrupt(format!("account {}", account.0)))
    }

    /// Writes derived rows of an account, unless its removal is planned.
    pub(crate) fn write_derived(&self, account: AccountId, batch: &Batch) -> Result<(), EngineError> {
        let written = self.slot(account).while_there(|| self.kv.write(batch, Durability::Ordered));
        Ok(written.unwrap_or(Ok(()))?)
    }

    /// Runs `work` while no group is written.
    pub(crate) fn exclusive<T>(&self, work: impl FnOnce() -> T) -> T {
        self.committer.exclusive(work)
    }

    /// Runs `work`, which may change rows of an account behind its back, while nothing of that account is planned or
    /// waits and no part is collected. Other accounts go on. `Unavailable` when something always waits.
    pub(crate) fn quiet<T>(
        &self,
        account: AccountId,
        mut work: impl FnMut() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let slot = self.slot(account);
        for _ in 0..QUIET_ATTEMPTS_MAX {
            {
                let _upkeep = locked(&self.upkeep);
                if let Some(result) = slot.when_quiet(&mut work) {
                    return result;
                }
            }
            if !self.commit_pending(Duration::ZERO) {
                self.committer.wait();
            }
        }
        Err(EngineError::Unavailable(format!("account {} is too busy to be repaired", account.0)))
    }

    pub(crate) fn slot(&self, account: AccountId) -> Arc<AccountSlot> {
        let count = self.uses.fetch_add(1, Ordering::Relaxed);
        let found = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&account).cloned();
        let slot = found.unwrap_or_else(|| {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(account).or_insert_with(|| Arc::new(AccountSlot::new(account))))
        });
        slot.touch(count);
        slot
    }

    pub(crate) fn account(&self, account: AccountId) -> Result<Arc<AccountState>, EngineError> {
        let slot = self.slot(account);
        if let Some(state) = slot.published_cached() {
            return Ok(state);
        }
        let state = slot.published(&*self.kv)?;
        self.weigh(&slot);
        Ok(state)
    }

    pub(crate) fn limits_of(&self, account: AccountId) -> QuotaLimits {
        self.directory.published().account(account).map(AccountRecord::limits).unwrap_or_default()
    }

    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Accounts for the memory of an account, and makes others leave when there is too much.
    fn weigh(&self, slot: &Arc<AccountSlot>) {
        let weight = slot.published_cached().map_or(0, |state| state.weight());
        if self.cache.weigh(slot.id, weight) {
            let slots: Vec<_> = self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            self.cache.evict(slots, slot.id);
        }
    }
}

struct AccountMessages<'a> {
    engine: &'a Engine,
    account: AccountId,
}

impl Messages for AccountMessages<'_> {
    fn record(&self, message: u32) -> Result<Option<Arc<MessageRecord>>, EngineError> {
        match self.engine.record(self.account, MessageId(message)) {
            Ok(record) => Ok(Some(record)),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn bytes(&self, record: &MessageRecord, header_only: bool) -> Result<Bytes, EngineError> {
        let until = if header_only { record.header.end } else { record.size_bytes };
        self.engine.read(self.account, record, 0..until)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing(message: MessageId) -> EngineError {
    EngineError::NotFound(format!("message {}", message.0))
}

/// One notice for each account.
fn merged(notices: Vec<ChangeNotice>) -> Vec<ChangeNotice> {
    let mut merged: BTreeMap<AccountId, ChangeNotice> = BTreeMap::new();
    for notice in notices {
        match merged.get_mut(&notice.account) {
            None => {
                merged.insert(notice.account, notice);
            }
            Some(first) => {
                first.modseq = first.modseq.max(notice.modseq);
                first.mailboxes.extend(notice.mailboxes);
            }
        }
    }
    let mut merged: Vec<ChangeNotice> = merged.into_values().collect();
    for notice in &mut merged {
        notice.mailboxes.sort_unstable();
        notice.mailboxes.dedup();
    }
    merged
}

/// Checks the format version and finds the key of content hashes; writes both on the first start.
fn first_start(kv: &SharedKv, options: &EngineOptions) -> Result<[u8; 32], EngineError> {
    let key_row = keys::setting(DEDUP_KEY);
    match kv.get(Family::Sys, keys::SYS_VERSION)? {
        Some(version) if version[..] == [FORMAT_VERSION] => {
            let key = kv.get(Family::Sys, &key_row)?;
            let key = key.and_then(|key| key[..].try_into().ok());
            key.ok_or_else(|| EngineError::Corrupt("the key of content hashes".to_owned()))
        }
        Some(version) => {
            let age = if version[..] < [FORMAT_VERSION][..] { "an older" } else { "a newer" };
            let what = format!("the store was made by {age} version of Rockdove, whose format this one does not read");
            Err(EngineError::Invalid(what))
        }
        None => {
            let mut batch = Batch::default();
            batch.put(Family::Sys, keys::SYS_VERSION, vec![FORMAT_VERSION]);
            batch.put(Family::Sys, key_row, options.dedup_key.to_vec());
            kv.write(&batch, Durability::Synced)?;
            Ok(options.dedup_key)
        }
    }
}
