//! Keeping what is expunged or deleted, bringing it back, and removing it for good.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use bytes::Bytes;
use rockdove_mail::{Keyword, MailboxName, SystemFlags, UidSet};

use super::{
    account::{Hidden, encode_hidden},
    kept::{self, KeptKey, seconds},
    plan::{AccountPlan, MAILBOXES_MAX, Unknown, next, write_base},
    record::MessageRecord,
    segment::{FlagBits, Op, Row, Segment, segment_of, view::flags_of},
};
use crate::{
    QuotaLimits,
    command::{Deleted, EngineError, InternalDate, MailboxId, MessageId, Outcome},
    kv::{Family, Visit, keys},
};

/// Entries brought back by one command, unless a single row has more.
const RESTORE_AT_ONCE: usize = 16_384;
/// Entries removed for good by one command, unless a single segment has more.
const PURGE_AT_ONCE: usize = 2_048;
/// Where messages go of whose mailbox nothing is known.
const RECOVERED: &str = "Recovered";

/// What is kept, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UndeleteLimits {
    /// What went at or before this moment is past its time.
    pub(crate) due_unix_s: i64,
    pub(crate) bytes_max: u64,
}

/// A row of expunged entries that is worked on.
struct Kept {
    key: Bytes,
    place: KeptKey,
    chosen: Vec<Row>,
    rest: Vec<Row>,
}

/// A restore on its way.
struct Restoring<'a> {
    to: Option<&'a MailboxName>,
    limits: QuotaLimits,
    messages: u64,
    mailboxes: u32,
    left: usize,
    more: bool,
}

fn octets(rows: &[Row]) -> u64 {
    rows.iter().map(|row| u64::from(row.size)).sum()
}

impl AccountPlan<'_> {
    fn when(&self) -> u64 {
        u64::try_from(self.now_unix_s).unwrap_or(0)
    }

    fn count_kept(&mut self, bytes: u64, messages: u64) {
        self.state.totals.kept_bytes += bytes;
        self.state.totals.kept_messages += messages;
    }

    fn uncount_kept(&mut self, rows: &[Row]) {
        let totals = &mut self.state.totals;
        totals.kept_bytes = totals.kept_bytes.saturating_sub(octets(rows));
        totals.kept_messages = totals.kept_messages.saturating_sub(rows.len() as u64);
        self.totals_changed = true;
    }

    /// Keeps entries (ascending, of one mailbox) that are about to be expunged.
    pub(super) fn keep(&mut self, mailbox: MailboxId, rows: &[Row]) {
        let (when, modseq) = (self.when(), self.modseq());
        for some in rows.chunk_by(|a, b| segment_of(a.uid) == segment_of(b.uid)) {
            let number = some.first().map_or(0, |row| segment_of(row.uid));
            let key = keys::kept(self.account(), when, modseq, mailbox.0, number);
            self.kept.insert(key, Some(kept::encode(number, some).into()));
        }
        self.count_kept(octets(rows), rows.len() as u64);
    }

    /// Hides a mailbox with all that is in it.
    pub(super) fn hide_mailbox(&mut self, id: MailboxId) -> Result<(), EngineError> {
        self.modseq();
        // Not before anything that was expunged from it, so that what went first is removed first.
        let when = self.when().max(self.last_kept()?);
        let mailbox = Arc::clone(self.state.mailbox(id)?);
        self.state.mailboxes.retain(|other| other.id != id);
        let counters = mailbox.counters;
        let totals = &mut self.state.totals;
        totals.used_bytes = totals.used_bytes.saturating_sub(counters.size_bytes);
        totals.messages = totals.messages.saturating_sub(u64::from(counters.exists));
        self.count_kept(counters.size_bytes, u64::from(counters.exists));
        let account = self.account();
        self.batch.put(Family::Change, keys::hidden(account, id.0), encode_hidden(when, &mailbox.fixed));
        self.batch.put(Family::Account, keys::counters(account, id.0), counters.encode());
        self.batch.delete(Family::Account, keys::mailbox(account, id.0));
        // Whoever gets it back decides anew who else sees it.
        self.drop_rights(id);
        self.drop_annotations(id);
        let at = self.state.hidden.partition_point(|hidden| hidden.mailbox.id < id);
        self.state.hidden.insert(at, Hidden { when, mailbox });
        self.changed.insert(id);
        self.list_changed = true;
        Ok(())
    }

    /// When the last of the expunged messages went, or a little later.
    fn last_kept(&self) -> Result<u64, EngineError> {
        let when = |key: &[u8]| KeptKey::decode(key).map_or(0, |key| key.when);
        let mut last = self.planner.kept.keys().next_back().map_or(0, |key| when(key));
        let prefix = keys::change_kind(self.account(), keys::CHANGE_KEPT);
        self.kv.scan_back(Family::Change, &prefix, &keys::prefix_end(&prefix), &mut |key, _| {
            last = last.max(when(key));
            ControlFlow::Break(())
        })?;
        Ok(last)
    }

    /// Visits the rows of expunged entries as all plans before this one leave them, oldest first.
    fn scan_kept(&self, visit: Visit<'_>) -> Result<(), EngineError> {
        let prefix = keys::change_kind(self.account(), keys::CHANGE_KEPT);
        let mut planned = self.planner.kept.iter().peekable();
        let mut flow = ControlFlow::Continue(());
        self.kv.scan(Family::Change, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            while let Some((ahead, (_, row))) = planned.next_if(|(ahead, _)| ahead[..] <= *key) {
                flow = row.as_ref().map_or(ControlFlow::Continue(()), |row| visit(ahead, row));
                if flow.is_break() || ahead[..] == *key {
                    return flow;
                }
            }
            flow = visit(key, row);
            flow
        })?;
        let mut rest = planned.filter_map(|(key, (_, row))| Some((key, row.as_ref()?)));
        while flow.is_continue()
            && let Some((key, row)) = rest.next()
        {
            flow = visit(key, row);
        }
        Ok(())
    }

    /// The oldest rows with expunged entries that are wanted, of about `limit` of them, and whether there are more.
    fn some_kept(
        &self,
        wanted: &dyn Fn(&KeptKey, &Row) -> bool,
        limit: usize,
    ) -> Result<(Vec<Kept>, bool), EngineError> {
        let (mut found, mut count, mut more, mut damaged) = (Vec::new(), 0, false, false);
        self.scan_kept(&mut |key, row| {
            let entries = KeptKey::decode(key).and_then(|place| Some((place, kept::decode(place.segment, row)?)));
            let Some((place, rows)) = entries else {
                damaged = true;
                return ControlFlow::Break(());
            };
            let (chosen, rest): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| wanted(&place, row));
            if chosen.is_empty() {
                return ControlFlow::Continue(());
            }
            if count >= limit {
                more = true;
                return ControlFlow::Break(());
            }
            count += chosen.len();
            found.push(Kept { key: Bytes::copy_from_slice(key), place, chosen, rest });
            ControlFlow::Continue(())
        })?;
        if damaged {
            return Err(EngineError::Corrupt(format!("expunged messages of account {}", self.account())));
        }
        Ok((found, more))
    }

    /// Takes the chosen entries out of a row.
    fn take_kept(&mut self, kept: &Kept) {
        let left = (!kept.rest.is_empty()).then(|| kept::encode(kept.place.segment, &kept.rest).into());
        self.kept.insert(kept.key.clone(), left);
        self.uncount_kept(&kept.chosen);
    }

    /// Takes wanted entries out of a hidden mailbox, whole segments first to last, until there are `limit`; and whether
    /// there are more.
    fn take_hidden(
        &mut self,
        id: MailboxId,
        wanted: &dyn Fn(&Row) -> bool,
        limit: usize,
    ) -> Result<(Vec<Row>, bool), EngineError> {
        let Some(at) = self.state.hidden.iter().position(|hidden| hidden.mailbox.id == id) else {
            return Ok((Vec::new(), false));
        };
        let segments = self.state.hidden[at].mailbox.all(&**self.kv)?;
        let (mut taken, mut left, mut more) = (Vec::new(), Vec::with_capacity(segments.len()), false);
        for segment in segments.iter() {
            let chosen: Vec<Row> = segment.rows().filter(wanted).collect();
            more |= !chosen.is_empty() && taken.len() >= limit;
            if chosen.is_empty() || taken.len() >= limit {
                left.push(Arc::clone(segment));
                continue;
            }
            if let Some(segment) = self.without(id, segment, &chosen) {
                left.push(Arc::new(segment));
            }
            taken.extend(chosen);
        }
        if taken.is_empty() {
            return Ok((taken, more));
        }
        let highest = left.iter().map(|segment| segment.highest()).max();
        let mailbox = Arc::make_mut(&mut self.state.hidden[at].mailbox);
        mailbox.set_all(Arc::new(left));
        mailbox.counters.remove(&taken);
        mailbox.counters.highest_modseq = mailbox.counters.highest_modseq.max(highest.unwrap_or_default());
        let row = mailbox.counters.encode();
        self.batch.put(Family::Account, keys::counters(self.account(), id.0), row);
        self.uncount_kept(&taken);
        Ok((taken, more))
    }

    /// Writes a segment of a hidden mailbox without some of its entries; `None` when nothing is left of it.
    fn without(&mut self, id: MailboxId, segment: &Segment, gone: &[Row]) -> Option<Segment> {
        let account = self.account();
        if gone.len() < segment.len() {
            let modseq = self.modseq();
            let mut segment = segment.clone();
            let uids: UidSet = gone.iter().map(|row| row.uid).collect();
            segment.apply(modseq, &Op::Expunge { uids });
            write_base(&mut self.batch, (account, id.0), &mut segment);
            return Some(segment);
        }
        self.batch.delete(Family::Segment, keys::segment_base(account, id.0, segment.number));
        for delta in &segment.deltas {
            self.batch.delete(Family::Segment, keys::segment_delta(account, id.0, segment.number, *delta));
        }
        None
    }

    /// Brings back what was asked for, or as much as one command may.
    pub(crate) fn restore(
        &mut self,
        which: &Deleted,
        to: Option<&MailboxName>,
        limits: QuotaLimits,
    ) -> Result<Outcome, EngineError> {
        if let Deleted::Strays(messages) = which {
            return self.restore_strays(messages, to);
        }
        let mut work = Restoring { to, limits, messages: 0, mailboxes: 0, left: RESTORE_AT_ONCE, more: false };
        // By the names before anything comes back.
        let origins = self.origins(which);
        let messages: BTreeSet<u32> = match which {
            Deleted::Messages(messages) => messages.iter().map(|message| message.0).collect(),
            _ => BTreeSet::new(),
        };
        let whole = |when: u64, mailbox: u32| match which {
            Deleted::Messages(_) | Deleted::Strays(_) => false,
            Deleted::Mailbox(_) => origins.contains(&mailbox),
            Deleted::Since(since) => seconds(when) >= *since,
        };
        let mut hidden: Vec<(u64, MailboxId)> =
            self.state.hidden.iter().map(|hidden| (hidden.when, hidden.mailbox.id)).collect();
        hidden.sort_unstable_by(|a, b| b.cmp(a));
        for (when, id) in hidden {
            let all = whole(when, id.0);
            if all && to.is_none() {
                self.unhide(id, &mut work)?;
            } else if all || !messages.is_empty() {
                self.restore_hidden(id, &|row| all || messages.contains(&row.message), &mut work)?;
            }
        }
        let wanted = |place: &KeptKey, row: &Row| whole(place.when, place.mailbox) || messages.contains(&row.message);
        let (found, more) = self.some_kept(&wanted, work.left)?;
        work.more |= more;
        for kept in found {
            self.take_kept(&kept);
            self.put_back(MailboxId(kept.place.mailbox), &kept.chosen, &mut work)?;
        }
        Ok(Outcome::Restored { messages: work.messages, mailboxes: work.mailboxes, more: work.more })
    }

    /// Gives entries to messages that have none, whatever the quota says: they are there already.
    fn restore_strays(&mut self, messages: &[MessageId], to: Option<&MailboxName>) -> Result<Outcome, EngineError> {
        let placed = self.placed()?;
        let strays: BTreeSet<u32> =
            messages.iter().map(|message| message.0).filter(|message| !placed.contains(message)).collect();
        let recovered = MailboxName::new(RECOVERED).map_err(|error| EngineError::Invalid(error.to_string()))?;
        let mut restored = 0;
        for message in strays.iter().copied().take(RESTORE_AT_ONCE) {
            let id = MessageId(message);
            let row = self.kv.get(Family::Message, &keys::message_record(self.account(), message))?;
            let Some(record) = row.and_then(|row| MessageRecord::decode(id, &row)) else { continue };
            let mailbox = self.found_or_created(to.unwrap_or(&recovered))?;
            let date = record.sent().unwrap_or(InternalDate { unix_s: self.now_unix_s, offset_minutes: 0 });
            self.append(mailbox, &Self::new_row(id, record.size_bytes, date, FlagBits::default()))?;
            restored += 1;
        }
        Ok(Outcome::Restored { messages: restored, mailboxes: 0, more: strays.len() > RESTORE_AT_ONCE })
    }

    /// Messages with an entry, seen or not.
    fn placed(&self) -> Result<BTreeSet<u32>, EngineError> {
        let mut placed = BTreeSet::new();
        for mailbox in &self.state.mailboxes {
            for segment in self.segments(mailbox.id)?.iter() {
                placed.extend(segment.rows().map(|row| row.message));
            }
        }
        for hidden in &self.state.hidden {
            for segment in hidden.mailbox.all(&**self.kv)?.iter() {
                placed.extend(segment.rows().map(|row| row.message));
            }
        }
        let mut damaged = false;
        self.scan_kept(&mut |key, row| {
            let rows = KeptKey::decode(key).and_then(|place| kept::decode(place.segment, row));
            damaged |= rows.is_none();
            placed.extend(rows.into_iter().flatten().map(|row| row.message));
            ControlFlow::Continue(())
        })?;
        if damaged {
            return Err(EngineError::Corrupt(format!("expunged messages of account {}", self.account())));
        }
        Ok(placed)
    }

    /// The mailboxes, seen and hidden, that a restore by name is about.
    fn origins(&self, which: &Deleted) -> BTreeSet<u32> {
        let Deleted::Mailbox(name) = which else { return BTreeSet::new() };
        let hidden = self.state.hidden.iter().map(|hidden| &hidden.mailbox);
        let all = self.state.mailboxes.iter().chain(hidden);
        all.filter(|mailbox| mailbox.fixed.name == *name).map(|mailbox| mailbox.id.0).collect()
    }

    fn restore_hidden(
        &mut self,
        id: MailboxId,
        wanted: &dyn Fn(&Row) -> bool,
        work: &mut Restoring<'_>,
    ) -> Result<(), EngineError> {
        let (rows, more) = self.take_hidden(id, wanted, work.left)?;
        work.more |= more;
        if rows.is_empty() { Ok(()) } else { self.put_back(id, &rows, work) }
    }

    /// Shows a hidden mailbox again, under a name that is free, with a UIDVALIDITY that the name has not had.
    fn unhide(&mut self, id: MailboxId, work: &mut Restoring<'_>) -> Result<(), EngineError> {
        if self.state.mailboxes.len() >= MAILBOXES_MAX {
            return Err(EngineError::Limit(format!("an account has at most {MAILBOXES_MAX} mailboxes")));
        }
        let Some(at) = self.state.hidden.iter().position(|hidden| hidden.mailbox.id == id) else { return Ok(()) };
        let counters = self.state.hidden[at].mailbox.counters;
        self.check_mailboxes(work.limits)?;
        self.check_quota(counters.size_bytes, counters.exists as usize, work.limits)?;
        let mut mailbox = self.state.hidden.remove(at).mailbox;
        let name = self.free_name(&mailbox.fixed.name)?;
        if let Some(parent) = name.parent()
            && self.find(&parent).is_none()
        {
            self.create_mailbox(&parent, None)?;
        }
        let modseq = self.modseq();
        let uid_validity = self.next_uid_validity()?;
        let state = Arc::make_mut(&mut mailbox);
        let fixed = state.fixed_mut();
        (fixed.name, fixed.uid_validity) = (name, uid_validity);
        // With the entries that were taken out meanwhile, expunges may be forgotten.
        (state.counters.highest_modseq, state.counters.vanished_floor) = (modseq, modseq);
        let place = self.state.mailboxes.partition_point(|other| other.id < id);
        self.state.mailboxes.insert(place, mailbox);
        let totals = &mut self.state.totals;
        totals.kept_bytes = totals.kept_bytes.saturating_sub(counters.size_bytes);
        totals.kept_messages = totals.kept_messages.saturating_sub(u64::from(counters.exists));
        totals.used_bytes += counters.size_bytes;
        totals.messages += u64::from(counters.exists);
        self.batch.delete(Family::Change, keys::hidden(self.account(), id.0));
        self.fixed_changed.insert(id);
        self.changed.insert(id);
        self.list_changed = true;
        work.mailboxes += 1;
        work.messages += u64::from(counters.exists);
        if counters.deleted > 0 { self.clear_deleted(id) } else { Ok(()) }
    }

    fn clear_deleted(&mut self, id: MailboxId) -> Result<(), EngineError> {
        let deleted = FlagBits { system: SystemFlags::DELETED.bits(), keywords: 0 };
        for segment in self.segments(id)?.iter() {
            let rows: Vec<Row> = segment.rows().filter(|row| row.flags.has(SystemFlags::DELETED)).collect();
            if !rows.is_empty() {
                self.set_flags(id, segment.number, &rows, deleted, FlagBits::default())?;
            }
        }
        Ok(())
    }

    /// This name, or one like it that no mailbox has.
    fn free_name(&self, name: &MailboxName) -> Result<MailboxName, EngineError> {
        if self.find(name).is_none() {
            return Ok(name.clone());
        }
        for base in [name.as_str(), RECOVERED] {
            for number in 1..=MAILBOXES_MAX + 1 {
                let suffix = if number == 1 { " (restored)".to_owned() } else { format!(" (restored {number})") };
                // A name that gets too long this way is given up.
                let Ok(name) = MailboxName::new(&format!("{base}{suffix}")) else { break };
                if self.find(&name).is_none() {
                    return Ok(name);
                }
            }
        }
        Err(EngineError::Limit("no name is free for the mailbox".to_owned()))
    }

    /// Adds entries to the mailbox they came from, or to the one that was asked for.
    fn put_back(&mut self, origin: MailboxId, rows: &[Row], work: &mut Restoring<'_>) -> Result<(), EngineError> {
        self.check_quota(octets(rows), rows.len(), work.limits)?;
        let state = self.state.origin(origin.0).map(|mailbox| Arc::clone(&mailbox.fixed));
        let keywords: Arc<Vec<Keyword>> = state.as_ref().map(|fixed| Arc::clone(&fixed.keywords)).unwrap_or_default();
        let to = match (work.to, state) {
            (None, Some(_)) if self.state.mailbox(origin).is_ok() => origin,
            (Some(name), _) => self.found_or_created(name)?,
            (None, Some(fixed)) => self.found_or_created(&fixed.name)?,
            (None, None) => {
                let name = MailboxName::new(RECOVERED).map_err(|error| EngineError::Invalid(error.to_string()))?;
                self.found_or_created(&name)?
            }
        };
        let mut known: BTreeMap<u64, u64> = BTreeMap::from([(0, 0)]);
        for row in rows {
            let there = if let Some(there) = known.get(&row.flags.keywords) {
                *there
            } else {
                // A message comes back also where a keyword finds no room.
                let bits = self.flag_bits(to, &flags_of(row.flags, &keywords), Unknown::AddWhatFits)?.keywords;
                known.insert(row.flags.keywords, bits);
                bits
            };
            let system = row.flags.system & !SystemFlags::DELETED.bits();
            self.append(to, &Row { flags: FlagBits { system, keywords: there }, ..*row })?;
        }
        work.messages += rows.len() as u64;
        work.left = work.left.saturating_sub(rows.len());
        Ok(())
    }

    fn found_or_created(&mut self, name: &MailboxName) -> Result<MailboxId, EngineError> {
        self.find(name).map_or_else(|| self.create_mailbox(name, None), Ok)
    }

    /// Removes for good what is past its time, or more than is kept (`None`: everything), oldest first, or as much of it as
    /// one command may.
    pub(crate) fn purge(&mut self, limits: Option<UndeleteLimits>) -> Result<Outcome, EngineError> {
        let (found, cut) = self.some_kept(&|_, _| true, PURGE_AT_ONCE)?;
        let mut found = found.into_iter().peekable();
        let mut hidden: Vec<(u64, MailboxId)> =
            self.state.hidden.iter().map(|hidden| (hidden.when, hidden.mailbox.id)).collect();
        hidden.sort_unstable();
        let mut hidden = hidden.into_iter().peekable();
        let (mut count, mut more) = (0, false);
        loop {
            let oldest = [found.peek().map(|kept| kept.place.when), hidden.peek().map(|(when, _)| *when)];
            // Beyond the rows that were read there may be some that went before the next mailbox.
            if cut && found.peek().is_none() {
                more = true;
                break;
            }
            let Some(when) = oldest.into_iter().flatten().min() else { break };
            let goes = limits.is_none_or(|limits| {
                seconds(when) <= limits.due_unix_s
                    || self.state.totals.kept_bytes > limits.bytes_max
                    || self.state.hidden.len() > MAILBOXES_MAX
            });
            more = goes && count >= PURGE_AT_ONCE;
            if !goes || more {
                break;
            }
            // Of the same moment, messages were expunged from the mailbox before it was deleted.
            if let Some(kept) = found.next_if(|kept| kept.place.when == when) {
                self.take_kept(&kept);
                self.drop_messages(&kept.chosen)?;
                count += kept.chosen.len();
            } else if let Some((_, id)) = hidden.peek().copied() {
                let (removed, last) = self.purge_hidden(id)?;
                count += removed;
                if last {
                    hidden.next();
                }
            }
        }
        Ok(Outcome::Purged { messages: count as u64, more })
    }

    /// Removes a segment of a hidden mailbox, and the mailbox with the last of them; whether it was that.
    fn purge_hidden(&mut self, id: MailboxId) -> Result<(usize, bool), EngineError> {
        // One segment at a time, for what is more than is kept may be less than the mailbox.
        let (rows, more) = self.take_hidden(id, &|_| true, 1)?;
        self.drop_messages(&rows)?;
        if !more {
            self.forget_hidden(id);
        }
        Ok((rows.len(), !more))
    }

    /// Removes what is left of a hidden mailbox without messages.
    fn forget_hidden(&mut self, id: MailboxId) {
        let account = self.account();
        self.state.hidden.retain(|hidden| hidden.mailbox.id != id);
        self.batch.delete(Family::Change, keys::hidden(account, id.0));
        self.batch.delete(Family::Account, keys::counters(account, id.0));
        let prefix = keys::mailbox_prefix(account, id.0);
        let end = keys::prefix_end(&prefix);
        self.batch.delete_range(Family::Segment, prefix, end);
        self.totals_changed = true;
    }

    fn next_uid_validity(&mut self) -> Result<u32, EngineError> {
        let now = u32::try_from(self.now_unix_s).unwrap_or(0);
        let totals = &mut self.state.totals;
        totals.last_uid_validity = now.max(next(totals.last_uid_validity, "UIDVALIDITY values")?);
        Ok(totals.last_uid_validity)
    }
}
