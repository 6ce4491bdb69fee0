//! Planning: what a command changes in one account, worked out in memory under the account's lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use rockdove_mail::{Flags, Keyword, MailboxName, ModSeq, SpecialUse, SystemFlags, Uid, UidSet};

use super::{
    account::{AccountSlot, AccountState, Pending, Planner},
    commit::Touch,
    ingest::StagedMessage,
    mailbox::{Fixed, MailboxState, Segments},
    record::{self, MessageRecord},
    segment::{
        DELTA_BYTES_MAX, DELTAS_MAX, EXPUNGED_SEGMENTS_MAX, FlagBits, KEYWORDS_MAX, Op, Row, Segment, delta, segment_of,
    },
};
use crate::{
    command::{ChangeNotice, EngineError, InternalDate, MailboxId, MessageId},
    kv::{Batch, Family, SharedKv, keys},
    rights::Actor,
};

/// Mailboxes of an account. RFC 9051 names no limit; every one costs memory while the account is in use.
pub(crate) const MAILBOXES_MAX: usize = 10_000;
/// Message rows read at once while planning.
const READ_AT_ONCE: usize = 256;

/// What becomes of keywords that a mailbox does not know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It learns them, or the command is refused.
    Add,
    /// It learns them while there is room: no message is refused for a keyword.
    AddWhatFits,
    /// They are left out.
    LeaveOut,
}

/// The changes of one command to one account.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a plan")]
pub(crate) struct AccountPlan<'a> {
    pub(crate) kv: &'a SharedKv,
    pub(crate) now_unix_s: i64,
    pub(crate) slot: &'a Arc<AccountSlot>,
    pub(super) planner: &'a mut Planner,
    /// The account as it will be.
    pub(crate) state: AccountState,
    pub(crate) batch: Batch,
    modseq: Option<ModSeq>,
    /// The state row must be written although nobody sees a change.
    pub(super) totals_changed: bool,
    /// Rows of expunged entries that this plan writes (`None`: takes away).
    pub(super) kept: BTreeMap<Bytes, Option<Bytes>>,
    ops: BTreeMap<(MailboxId, u32), Vec<Op>>,
    pub(super) changed: BTreeSet<MailboxId>,
    pub(super) fixed_changed: BTreeSet<MailboxId>,
    pub(super) list_changed: bool,
    /// Annotations have changed, which no mod-sequence tells.
    pub(super) annotated: bool,
    removed: bool,
    pending: BTreeMap<u32, Pending>,
    staged: Vec<Arc<StagedMessage>>,
    /// Who gives the command; `None`: the server itself, which may do everything.
    pub(crate) actor: Option<Actor>,
}

impl<'a> AccountPlan<'a> {
    /// Begins with the newest planned state.
    pub(crate) fn begin(
        kv: &'a SharedKv,
        now_unix_s: i64,
        slot: &'a Arc<AccountSlot>,
        planner: &'a mut Planner,
    ) -> Result<Self, EngineError> {
        let state = slot.planned(planner, &**kv)?;
        Ok(Self::on(kv, now_unix_s, slot, planner, AccountState::clone(&state)))
    }

    /// Begins with an account that is new.
    pub(crate) fn begin_new(
        kv: &'a SharedKv,
        now_unix_s: i64,
        slot: &'a Arc<AccountSlot>,
        planner: &'a mut Planner,
    ) -> Self {
        Self::on(kv, now_unix_s, slot, planner, AccountState::new())
    }

    fn on(
        kv: &'a SharedKv,
        now_unix_s: i64,
        slot: &'a Arc<AccountSlot>,
        planner: &'a mut Planner,
        mut state: AccountState,
    ) -> Self {
        let changed = std::mem::take(&mut state.ahead);
        Self {
            kv,
            now_unix_s,
            slot,
            planner,
            state,
            batch: Batch::default(),
            modseq: None,
            totals_changed: false,
            annotated: false,
            kept: BTreeMap::new(),
            ops: BTreeMap::new(),
            changed,
            fixed_changed: BTreeSet::new(),
            list_changed: false,
            removed: false,
            pending: BTreeMap::new(),
            staged: Vec::new(),
            actor: None,
        }
    }

    pub(super) fn account(&self) -> u32 {
        self.slot.id.0
    }

    /// The mod-sequence of this command: one for all it changes.
    pub(crate) fn modseq(&mut self) -> ModSeq {
        *self.modseq.get_or_insert_with(|| {
            self.state.totals.highest_modseq += 1;
            self.state.totals.highest_modseq
        })
    }

    /// Creates a mailbox and its missing parents.
    pub(crate) fn create_mailbox(
        &mut self,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxId, EngineError> {
        let parent = match name.parent() {
            Some(parent) => Some(self.find(&parent).map_or_else(|| self.create_mailbox(&parent, None), Ok)?),
            None => None,
        };
        if self.state.mailboxes.len() >= MAILBOXES_MAX {
            return Err(EngineError::Limit(format!("an account has at most {MAILBOXES_MAX} mailboxes")));
        }
        let created_modseq = self.modseq();
        let totals = &mut self.state.totals;
        let id = MailboxId(totals.next_mailbox);
        totals.next_mailbox = next(totals.next_mailbox, "mailbox ids")?;
        let now = u32::try_from(self.now_unix_s).unwrap_or(0);
        let uid_validity = now.max(next(totals.last_uid_validity, "UIDVALIDITY values")?);
        totals.last_uid_validity = uid_validity;
        let keywords = Arc::default();
        let fixed = Fixed { name: name.clone(), special_use, uid_validity, created_modseq, keywords };
        self.state.mailboxes.push(Arc::new(MailboxState::new(self.slot.id, id, fixed)));
        self.fixed_changed.insert(id);
        self.changed.insert(id);
        self.list_changed = true;
        if let Some(parent) = parent {
            self.inherit_rights(parent, id);
        }
        Ok(id)
    }

    /// The mailbox of this name, also one that this plan has created.
    pub(crate) fn find(&self, name: &MailboxName) -> Option<MailboxId> {
        if self.list_changed {
            return self.state.mailboxes.iter().find(|mailbox| mailbox.fixed.name == *name).map(|mailbox| mailbox.id);
        }
        self.state.list.by_name(name).map(|mailbox| mailbox.id)
    }

    /// Gives a mailbox a new name.
    pub(crate) fn rename(&mut self, id: MailboxId, name: MailboxName) -> Result<(), EngineError> {
        self.modseq();
        self.state.mailbox_mut(id)?.fixed_mut().name = name;
        self.fixed_changed.insert(id);
        self.list_changed = true;
        Ok(())
    }

    /// Adds or removes a subscription.
    pub(crate) fn subscribe(&mut self, name: &MailboxName, subscribed: bool) {
        self.modseq();
        let mut subscriptions = self.state.list.subscriptions.clone();
        let key = keys::subscription(self.account(), name.as_str());
        match (subscriptions.binary_search(name), subscribed) {
            (Err(at), true) => {
                subscriptions.insert(at, name.clone());
                self.batch.put(Family::Account, key, Bytes::new());
            }
            (Ok(at), false) => {
                subscriptions.remove(at);
                self.batch.delete(Family::Account, key);
            }
            _ => {}
        }
        self.state.set_list(subscriptions);
    }

    /// Flags as bits of this mailbox.
    pub(crate) fn flag_bits(
        &mut self,
        mailbox: MailboxId,
        flags: &Flags,
        unknown: Unknown,
    ) -> Result<FlagBits, EngineError> {
        let mut bits = FlagBits { system: flags.system.bits(), keywords: 0 };
        for keyword in &flags.keywords {
            let table = &self.state.mailbox(mailbox)?.fixed.keywords;
            let place = match table.iter().position(|known| known == keyword) {
                Some(place) => place,
                None if unknown == Unknown::LeaveOut => continue,
                None if unknown == Unknown::AddWhatFits && table.len() >= KEYWORDS_MAX => continue,
                None => self.add_keyword(mailbox, keyword)?,
            };
            bits.keywords |= 1 << place;
        }
        Ok(bits)
    }

    fn add_keyword(&mut self, mailbox: MailboxId, keyword: &Keyword) -> Result<usize, EngineError> {
        let table = Arc::make_mut(&mut self.state.mailbox_mut(mailbox)?.fixed_mut().keywords);
        if table.len() >= KEYWORDS_MAX {
            return Err(EngineError::Limit(format!("a mailbox knows at most {KEYWORDS_MAX} keywords")));
        }
        table.push(keyword.clone());
        let place = table.len() - 1;
        self.fixed_changed.insert(mailbox);
        Ok(place)
    }

    /// Messages whose parts this plan refers to.
    pub(crate) fn take_staged(&mut self) -> Vec<Arc<StagedMessage>> {
        std::mem::take(&mut self.staged)
    }

    /// Holds the parts of a staged message until the records that refer to them are durable. Their rows are written once
    /// for the whole group.
    pub(crate) fn add_parts(&mut self, staged: &Arc<StagedMessage>) {
        if self.staged.last().is_none_or(|last| !Arc::ptr_eq(last, staged)) {
            self.staged.push(Arc::clone(staged));
        }
    }

    /// Writes the record of a new message.
    pub(crate) fn add_message(&mut self, staged: &StagedMessage, trace: &[u8]) -> Result<MessageId, EngineError> {
        let row = record::encode(trace, staged.shared());
        self.add_record(row, staged.parts())
    }

    /// Writes the row of a new message, which needs these parts.
    pub(crate) fn add_record(&mut self, row: Vec<u8>, parts: Vec<u64>) -> Result<MessageId, EngineError> {
        let id = self.state.totals.next_message;
        self.state.totals.next_message = next(id, "message ids")?;
        self.batch.put(Family::Message, keys::message_record(self.account(), id), row);
        for part in &parts {
            self.batch.put(Family::Reference, keys::part_reference(*part, self.account(), id), Bytes::new());
        }
        let pending = Pending { parts: Some(parts), ..Pending::default() };
        self.pending.insert(id, pending);
        Ok(MessageId(id))
    }

    /// Adds an entry at the end of a mailbox and answers its UID. `row` says all but UID and mod-sequence.
    pub(crate) fn append(&mut self, mailbox: MailboxId, row: &Row) -> Result<Uid, EngineError> {
        let modseq = self.modseq();
        let counters = &mut self.state.mailbox_mut(mailbox)?.counters;
        let uid = counters.uid_next;
        counters.uid_next = next(uid, "UIDs in this mailbox")?;
        counters.exists += 1;
        counters.unseen += u32::from(!row.flags.has(SystemFlags::SEEN));
        counters.deleted += u32::from(row.flags.has(SystemFlags::DELETED));
        counters.size_bytes += u64::from(row.size);
        self.state.totals.used_bytes += u64::from(row.size);
        self.state.totals.messages += 1;
        let save_date = u32::try_from(self.now_unix_s).unwrap_or(0);
        self.push_op(mailbox, segment_of(uid), Op::Append(Row { uid, save_date, modseq, ..*row }));
        Ok(uid)
    }

    /// A row for [`AccountPlan::append`].
    pub(crate) fn new_row(message: MessageId, size: u64, date: InternalDate, flags: FlagBits) -> Row {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Row { message: message.0, thread: message.0, size, date, flags, ..Row::default() }
    }

    fn push_op(&mut self, mailbox: MailboxId, segment: u32, op: Op) {
        self.ops.entry((mailbox, segment)).or_default().push(op);
        self.changed.insert(mailbox);
    }

    /// Sets the flags of messages that are there in one segment; all of them must really change. `rows` are the old
    /// entries.
    pub(crate) fn set_flags(
        &mut self,
        mailbox: MailboxId,
        segment: u32,
        rows: &[Row],
        clear: FlagBits,
        set: FlagBits,
    ) -> Result<(), EngineError> {
        self.modseq();
        let counters = &mut self.state.mailbox_mut(mailbox)?.counters;
        for row in rows {
            let flags = row.flags.changed(clear, set);
            let moves = |flag| (u32::from(row.flags.has(flag)), u32::from(flags.has(flag)));
            let (was, is) = moves(SystemFlags::SEEN);
            counters.unseen = (counters.unseen + was).saturating_sub(is);
            let (was, is) = moves(SystemFlags::DELETED);
            counters.deleted = (counters.deleted + is).saturating_sub(was);
        }
        self.judge_flags(mailbox, rows, set)?;
        let uids = rows.iter().map(|row| row.uid).collect();
        self.push_op(mailbox, segment, Op::Flags { uids, clear, set });
        Ok(())
    }

    /// Removes entries (of one mailbox) that are there. Their messages stay; see [`AccountPlan::drop_messages`].
    pub(crate) fn expunge(&mut self, mailbox: MailboxId, rows: &[Row]) -> Result<(), EngineError> {
        self.modseq();
        self.uncount(mailbox, rows)?;
        let mut uids: BTreeMap<u32, UidSet> = BTreeMap::new();
        for row in rows {
            uids.entry(segment_of(row.uid)).or_default().insert(row.uid);
        }
        for (segment, uids) in uids {
            self.push_op(mailbox, segment, Op::Expunge { uids });
        }
        Ok(())
    }

    fn uncount(&mut self, mailbox: MailboxId, rows: &[Row]) -> Result<(), EngineError> {
        self.state.mailbox_mut(mailbox)?.counters.remove(rows);
        let totals = &mut self.state.totals;
        totals.used_bytes = totals.used_bytes.saturating_sub(rows.iter().map(|row| u64::from(row.size)).sum());
        totals.messages = totals.messages.saturating_sub(rows.len() as u64);
        Ok(())
    }

    /// Removes a mailbox with all its rows. Its messages lose these entries.
    pub(crate) fn remove_mailbox(&mut self, id: MailboxId) -> Result<(), EngineError> {
        self.modseq();
        let rows = self.rows(id)?;
        self.uncount(id, &rows)?;
        self.drop_messages(&rows)?;
        self.state.mailboxes.retain(|mailbox| mailbox.id != id);
        self.changed.insert(id);
        let account = self.account();
        let prefix = keys::mailbox_prefix(account, id.0);
        let end = keys::prefix_end(&prefix);
        self.batch.delete_range(Family::Segment, prefix, end);
        self.batch.delete(Family::Account, keys::mailbox(account, id.0));
        self.batch.delete(Family::Account, keys::counters(account, id.0));
        self.drop_rights(id);
        self.drop_annotations(id);
        self.list_changed = true;
        Ok(())
    }

    /// Every entry of a mailbox.
    pub(crate) fn rows(&self, mailbox: MailboxId) -> Result<Vec<Row>, EngineError> {
        let segments = self.segments(mailbox)?;
        Ok(segments.iter().flat_map(|segment| segment.rows()).collect())
    }

    /// Every segment of a mailbox, as it was before this plan.
    pub(crate) fn segments(&self, mailbox: MailboxId) -> Result<Segments, EngineError> {
        self.state.mailbox(mailbox)?.all(&**self.kv)
    }

    /// Counts copies of messages.
    pub(crate) fn add_copies(&mut self, rows: &[Row]) -> Result<(), EngineError> {
        for (message, (extra, more)) in self.counted(rows)? {
            self.set_extra(message, extra.saturating_add(more));
        }
        Ok(())
    }

    /// Takes entries away from messages; one without entries goes, and its parts may be collected.
    pub(crate) fn drop_messages(&mut self, rows: &[Row]) -> Result<(), EngineError> {
        let mut gone = Vec::new();
        for (message, (extra, fewer)) in self.counted(rows)? {
            if fewer <= extra {
                self.set_extra(message, extra - fewer);
                continue;
            }
            if extra > 0 {
                self.batch.delete(Family::Message, keys::message_extra(self.account(), message));
            }
            self.batch.delete(Family::Message, keys::message_record(self.account(), message));
            self.batch.put(Family::Text, keys::text_gone(self.account(), message), Bytes::new());
            self.batch.delete(Family::Spam, keys::spam_message(self.account(), message));
            gone.push(message);
        }
        for some in gone.chunks(READ_AT_ONCE) {
            for (message, parts) in self.parts_of(some)? {
                self.drop_references(message, &parts);
            }
        }
        Ok(())
    }

    fn drop_references(&mut self, message: u32, parts: &[u64]) {
        for part in parts {
            self.batch.delete(Family::Reference, keys::part_reference(*part, self.account(), message));
            self.batch.put(Family::Reference, keys::part_candidate(*part), candidate_since(self.now_unix_s));
        }
    }

    fn set_extra(&mut self, message: u32, extra: u32) {
        let key = keys::message_extra(self.account(), message);
        if extra == 0 {
            self.batch.delete(Family::Message, key);
        } else {
            self.batch.put(Family::Message, key, extra.to_le_bytes().to_vec());
        }
        self.pending.entry(message).or_default().extra = Some(extra);
    }

    /// For each message of `rows`: its entries beyond the first, and how often it is in `rows`.
    fn counted(&self, rows: &[Row]) -> Result<BTreeMap<u32, (u32, u32)>, EngineError> {
        let mut counted: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for row in rows {
            counted.entry(row.message).or_default().1 += 1;
        }
        let mut unknown = Vec::new();
        for (message, count) in &mut counted {
            let planned = [self.pending.get(message), self.planner.pending.get(message)];
            match planned.iter().flatten().find_map(|pending| pending.extra) {
                Some(extra) => count.0 = extra,
                // A message that is only planned has no row yet.
                None if planned.iter().flatten().any(|pending| pending.parts.is_some()) => {}
                None => unknown.push(*message),
            }
        }
        for some in unknown.chunks(READ_AT_ONCE) {
            for (message, row) in some.iter().zip(self.read(some, keys::message_extra)?) {
                let Some(row) = row else { continue };
                let extra = row[..].try_into().map(u32::from_le_bytes).map_err(|_| self.damaged(*message))?;
                counted.entry(*message).or_default().0 = extra;
            }
        }
        Ok(counted)
    }

    /// The parts of messages.
    fn parts_of(&self, messages: &[u32]) -> Result<Vec<(u32, Vec<u64>)>, EngineError> {
        let (mut found, mut unknown) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages {
            match self.planner.pending.get(message).and_then(|pending| pending.parts.clone()) {
                Some(parts) => found.push((*message, parts)),
                None => unknown.push(*message),
            }
        }
        for (message, row) in unknown.iter().zip(self.read(&unknown, keys::message_record)?) {
            // A record that is gone is for fsck to tell; the entry goes all the same.
            let Some(row) = row else { continue };
            let record = MessageRecord::decode(MessageId(*message), &row).ok_or_else(|| self.damaged(*message))?;
            found.push((*message, record.parts()));
        }
        Ok(found)
    }

    /// The record rows of messages, in order; `None` where there is none on disk.
    pub(super) fn record_rows(&self, messages: &[u32]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let mut rows = Vec::with_capacity(messages.len());
        for some in messages.chunks(READ_AT_ONCE) {
            rows.extend(self.read(some, keys::message_record)?);
        }
        Ok(rows)
    }

    fn read(&self, messages: &[u32], key: fn(u32, u32) -> Bytes) -> Result<Vec<Option<Bytes>>, EngineError> {
        let keys: Vec<Bytes> = messages.iter().map(|message| key(self.account(), *message)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        Ok(self.kv.multi_get(Family::Message, &keys)?)
    }

    fn damaged(&self, message: u32) -> EngineError {
        EngineError::Corrupt(format!("message {message} of account {}", self.account()))
    }

    /// Removes the account: nobody finds it from now on. Its messages and what belongs to them go later; see
    /// `Engine::sweep_removed`.
    pub(crate) fn remove_account(&mut self) {
        let prefix = keys::account_prefix(self.account());
        let end = keys::prefix_end(&prefix);
        self.batch.put(Family::Sys, keys::leaving(self.account()), Bytes::new());
        self.batch.delete_range(Family::Account, prefix, end);
        self.changed.extend(self.state.mailboxes.iter().map(|mailbox| mailbox.id));
        self.removed = true;
    }

    /// Works out the rows. Nothing is decided yet: the plan can still be dropped.
    pub(crate) fn prepare(&mut self) -> Result<(), EngineError> {
        if self.removed {
            return Ok(());
        }
        self.write_segments()?;
        self.write_mailboxes();
        if self.list_changed {
            let subscriptions = self.state.list.subscriptions.clone();
            self.state.set_list(subscriptions);
        }
        if self.modseq.is_some() || self.totals_changed {
            let row = self.state.totals.encode();
            self.batch.put(Family::Account, keys::account_state(self.account()), row);
        }
        for (key, row) in &self.kept {
            match row {
                Some(row) => self.batch.put(Family::Change, key.clone(), row.clone()),
                None => self.batch.delete(Family::Change, key.clone()),
            }
        }
        Ok(())
    }

    /// Makes this the account's newest planned state and answers what the committer needs: push it under the same
    /// lock. Everything is prepared before.
    pub(crate) fn conclude(self) -> (Batch, Touch) {
        let told = self.modseq.is_some() || self.totals_changed || self.annotated || self.removed;
        let notice = told.then(|| ChangeNotice {
            account: self.slot.id,
            mailboxes: self.changed.iter().copied().collect(),
            modseq: self.state.totals.highest_modseq,
        });
        let after = (!self.removed).then(|| Arc::new(self.state));
        let planner = self.planner;
        planner.sequence += 1;
        planner.planned.clone_from(&after);
        planner.removed |= self.removed;
        for (message, pending) in self.pending {
            let known = planner.pending.entry(message).or_default();
            known.sequence = planner.sequence;
            known.extra = pending.extra.or(known.extra);
            known.parts = pending.parts.or(known.parts.take());
        }
        for (key, row) in self.kept {
            planner.kept.insert(key, (planner.sequence, row));
        }
        let touch =
            Touch { slot: Arc::clone(self.slot), sequence: planner.sequence, epoch: self.slot.epoch(), after, notice };
        (self.batch, touch)
    }

    /// Applies the ops to copies of their segments, and writes a delta or a new base for each.
    fn write_segments(&mut self) -> Result<(), EngineError> {
        let mut by_mailbox: BTreeMap<MailboxId, Vec<(u32, Vec<Op>)>> = BTreeMap::new();
        for ((mailbox, segment), ops) in std::mem::take(&mut self.ops) {
            by_mailbox.entry(mailbox).or_default().push((segment, ops));
        }
        if by_mailbox.is_empty() {
            return Ok(());
        }
        let modseq = self.modseq();
        for (mailbox, changes) in by_mailbox {
            let only_appends = changes.iter().flat_map(|(_, ops)| ops).all(|op| matches!(op, Op::Append(_)));
            let state = self.state.mailbox(mailbox)?;
            let mut segments = if only_appends { state.tail(&**self.kv)? } else { state.all(&**self.kv)? };
            let list = Arc::make_mut(&mut segments);
            for (number, ops) in changes {
                let at = list.binary_search_by_key(&number, |segment| segment.number).unwrap_or_else(|at| {
                    list.insert(at, Arc::new(Segment::empty(number)));
                    at
                });
                let segment = Arc::make_mut(&mut list[at]);
                for op in &ops {
                    segment.apply(modseq, op);
                }
                write_segment(&mut self.batch, (self.slot.id.0, mailbox.0), segment, modseq, &ops);
            }
            let floor = if only_appends { 0 } else { self.forget_expunged(mailbox, list) };
            let state = self.state.mailbox_mut(mailbox)?;
            state.counters.highest_modseq = modseq;
            state.counters.vanished_floor = state.counters.vanished_floor.max(floor);
            if only_appends {
                state.set_tail(segments);
            } else {
                state.set_all(segments);
            }
        }
        Ok(())
    }

    /// Drops the oldest of the segments that hold nothing but expunges, when there are too many, and answers up to
    /// which mod-sequence expunges are forgotten with them.
    fn forget_expunged(&mut self, mailbox: MailboxId, list: &mut Vec<Arc<Segment>>) -> ModSeq {
        let last = list.last().map(|segment| segment.number);
        let empty = |segment: &Arc<Segment>| segment.is_empty() && Some(segment.number) != last;
        let too_many = list.iter().filter(|segment| empty(segment)).count().saturating_sub(EXPUNGED_SEGMENTS_MAX);
        let mut floor = 0;
        for _ in 0..too_many {
            let oldest = (0..list.len()).filter(|at| empty(&list[*at])).min_by_key(|at| list[*at].highest());
            let Some(at) = oldest else { break };
            let gone = list.remove(at);
            floor = floor.max(gone.highest());
            let prefix = keys::segment_prefix(self.account(), mailbox.0, gone.number);
            let end = keys::prefix_end(&prefix);
            self.batch.delete_range(Family::Segment, prefix, end);
        }
        floor
    }

    fn write_mailboxes(&mut self) {
        let account = self.account();
        for id in &self.fixed_changed {
            if let Ok(mailbox) = self.state.mailbox(*id) {
                self.batch.put(Family::Account, keys::mailbox(account, id.0), mailbox.fixed.encode());
            }
        }
        for id in &self.changed {
            if let Ok(mailbox) = self.state.mailbox(*id) {
                self.batch.put(Family::Account, keys::counters(account, id.0), mailbox.counters.encode());
            }
        }
    }
}

/// The row of a part that may be collected, since this moment.
pub(crate) fn candidate_since(now_unix_s: i64) -> Vec<u8> {
    now_unix_s.to_le_bytes().to_vec()
}

/// Writes a segment whole.
pub(super) fn write_base(batch: &mut Batch, place: (u32, u32), segment: &mut Segment) {
    let (account, mailbox) = place;
    batch.put(Family::Segment, keys::segment_base(account, mailbox, segment.number), segment.encode());
    for delta in segment.deltas.drain(..) {
        batch.delete(Family::Segment, keys::segment_delta(account, mailbox, segment.number, delta));
    }
    segment.delta_bytes = 0;
}

/// Writes what changed in a segment: a delta, or everything when there are many deltas already.
fn write_segment(batch: &mut Batch, place: (u32, u32), segment: &mut Segment, modseq: ModSeq, ops: &[Op]) {
    let (account, mailbox) = place;
    let number = segment.number;
    let row = delta::encode(number, ops);
    if segment.deltas.len() < DELTAS_MAX && segment.delta_bytes + row.len() < DELTA_BYTES_MAX {
        segment.deltas.push(modseq);
        segment.delta_bytes += row.len();
        batch.put(Family::Segment, keys::segment_delta(account, mailbox, number, modseq), row);
        return;
    }
    write_base(batch, place, segment);
}

pub(super) fn next(value: u32, what: &str) -> Result<u32, EngineError> {
    value.checked_add(1).ok_or_else(|| EngineError::Limit(format!("no {what} are left")))
}
