//! One account: what its ground rows say, and what its derived rows should say.
//!
//! Ground: mailboxes, subscriptions, rights, segments, message records. Derived: the account state, the counters of mailboxes,
//! the counts of entries beyond the first, the references to parts. What is given out once (UIDs, mod-sequences, ids) is
//! only ever raised.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use bytes::Bytes;
use rockdove_mail::{MailboxName, ModSeq, SystemFlags, Uid};

use super::{
    deleted::is_leaving,
    fsck::{Finding, Repair},
};
use crate::{
    command::{AccountId, EngineError, MailboxId, MessageId},
    kv::{
        Batch, Family, Read,
        keys::{self, KeyReader},
    },
    rights, search,
    store::{
        account::{Totals, rights_key},
        annotations,
        ingest::record_again,
        mailbox::{Counters, Fixed, load_row},
        parts::PartHead,
        record::{MessageRecord, Piece},
        segment::{Row, Segment},
    },
};

/// Rows asked for at once.
const READ_AT_ONCE: usize = 256;
/// How far the allocators of an account jump when their row is lost: further than what can have been given out and
/// expunged since any surviving row was written, in all likelihood.
const LOST_IDS: u32 = 1 << 16;

type Rows = BTreeMap<(Family, Bytes), Bytes>;

/// What the segments of a mailbox add up to.
#[derive(Debug, Default)]
struct Tally {
    exists: u32,
    unseen: u32,
    deleted: u32,
    size_bytes: u64,
    uid_last: Uid,
    highest: ModSeq,
    segments: u32,
    last_segment: u32,
    /// Some row could not be read, so the sums say nothing.
    damaged: bool,
}

/// Where a message is.
#[derive(Debug)]
struct Places {
    count: u32,
    size: u32,
    /// One of them, to be named.
    mailbox: u32,
    uid: Uid,
}

/// An account that was gone through.
pub(super) struct AccountCheck {
    pub(super) account: AccountId,
    pub(super) findings: Vec<Finding>,
    /// What repairs the findings that can be repaired.
    pub(super) repairs: Batch,
    pub(super) mailboxes: u64,
    pub(super) entries: u64,
    pub(super) messages: u64,
    /// Every record could be read.
    pub(super) all_known: bool,
    /// Messages that are in no mailbox.
    pub(super) strays: Vec<u32>,
    /// Derived rows as they are.
    stored: Rows,
    /// Derived rows as they should be.
    pub(super) derived: Rows,
    pub(super) fixed: BTreeMap<u32, Option<Fixed>>,
    /// Deleted mailboxes.
    pub(super) hidden: BTreeMap<u32, Option<Fixed>>,
    /// Octets and entries that were expunged and are kept, and the highest mod-sequence of these.
    pub(super) kept: (u64, u64, ModSeq),
    /// Some entries could not be read, so nothing follows from one that is missing.
    pub(super) blind: bool,
    tallies: BTreeMap<u32, Tally>,
    places: BTreeMap<u32, Places>,
    records: BTreeSet<u32>,
    /// Messages with a header, and so with text.
    speaking: BTreeSet<u32>,
    /// The segment that is being read.
    open: Vec<Arc<Segment>>,
}

impl AccountCheck {
    /// Reads everything of an account. `listed`: the directory has it.
    pub(super) fn run(read: &dyn Read, account: AccountId, listed: bool) -> Result<Self, EngineError> {
        let mut check = Self {
            account,
            findings: Vec::new(),
            repairs: Batch::default(),
            mailboxes: 0,
            entries: 0,
            messages: 0,
            all_known: true,
            strays: Vec::new(),
            stored: Rows::new(),
            derived: Rows::new(),
            fixed: BTreeMap::new(),
            hidden: BTreeMap::new(),
            kept: (0, 0, 0),
            blind: false,
            tallies: BTreeMap::new(),
            places: BTreeMap::new(),
            records: BTreeSet::new(),
            speaking: BTreeSet::new(),
            open: Vec::new(),
        };
        if is_leaving(read, account)? {
            check.leaving(read, listed)?;
            return Ok(check);
        }
        check.read_account_rows(read)?;
        check.read_hidden(read)?;
        check.read_segments(read)?;
        check.read_kept(read)?;
        let needs = check.read_messages(read)?;
        check.read_references(read, &needs)?;
        check.check_names(listed);
        check.derive();
        check.compare();
        check.check_texts(read, listed)?;
        Ok(check)
    }

    /// Of an account that was removed, messages go with their references, in any order; nothing else is told of them.
    fn leaving(&mut self, read: &dyn Read, listed: bool) -> Result<(), EngineError> {
        if listed {
            self.lost(Family::Sys, &keys::leaving(self.account.0), None, "the account is there and is being removed");
        }
        self.blind = true;
        let needs = self.read_messages(read)?;
        self.stored.clear();
        self.derived.clear();
        self.read_references(read, &needs)?;
        self.compare();
        Ok(())
    }

    pub(super) fn found(&mut self, family: Family, key: &[u8], mailbox: Option<u32>, what: &str, repair: Repair) {
        self.findings.push(Finding {
            account: Some(self.account),
            mailbox: mailbox.map(MailboxId),
            family,
            key: Bytes::copy_from_slice(key),
            what: what.to_owned(),
            repair,
        });
    }

    pub(super) fn lost(&mut self, family: Family, key: &[u8], mailbox: Option<u32>, what: &str) {
        self.found(family, key, mailbox, what, Repair::Impossible);
    }

    /// Visits every row of the account in a family.
    pub(super) fn each(
        &mut self,
        read: &dyn Read,
        family: Family,
        visit: impl Fn(&mut Self, &[u8], &[u8]),
    ) -> Result<(), EngineError> {
        let prefix = keys::account_prefix(self.account.0);
        read.scan(family, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            visit(self, key, row);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    fn read_account_rows(&mut self, read: &dyn Read) -> Result<(), EngineError> {
        self.each(read, Family::Account, |check, key, row| {
            let (kind, rest) = (key.get(4).copied(), key.get(5..).unwrap_or_default());
            let number = <[u8; 4]>::try_from(rest).ok().map(u32::from_be_bytes);
            match (kind, number) {
                (Some(keys::ACCOUNT_STATE), _) if rest.is_empty() => check.store(Family::Account, key, row),
                (Some(keys::ACCOUNT_COUNTERS), Some(_)) => check.store(Family::Account, key, row),
                (Some(keys::ACCOUNT_MAILBOX), Some(mailbox)) => {
                    let fixed = Fixed::decode(row);
                    if fixed.is_none() {
                        check.lost(Family::Account, key, Some(mailbox), "the mailbox row cannot be read");
                    }
                    check.fixed.insert(mailbox, fixed);
                }
                (Some(keys::ACCOUNT_SUBSCRIPTION), _) => {
                    let name = std::str::from_utf8(rest).ok().and_then(|name| MailboxName::new(name).ok());
                    if name.is_none_or(|name| name.as_str().as_bytes() != rest) || !row.is_empty() {
                        check.lost(Family::Account, key, None, "the subscription is not a mailbox name");
                    }
                }
                (Some(keys::ACCOUNT_RIGHTS), _) => match (rights_key(rest), rights::Entry::decode(row)) {
                    // Rows of mailboxes come before rows of rights.
                    (Some((mailbox, _)), Some(_)) if check.fixed.contains_key(&mailbox.0) => {}
                    (Some((mailbox, _)), Some(_)) => {
                        check.lost(
                            Family::Account,
                            key,
                            Some(mailbox.0),
                            "the rights are of a mailbox that is not there",
                        );
                    }
                    (mailbox, _) => {
                        let mailbox = mailbox.map(|(mailbox, _)| mailbox.0);
                        check.lost(Family::Account, key, mailbox, "the row of rights cannot be read");
                    }
                },
                (Some(kind @ (keys::ACCOUNT_SHARED | keys::ACCOUNT_PRIVATE)), _) => {
                    check.annotation(kind, rest, key, row);
                }
                _ => check.lost(Family::Account, key, None, "nobody knows this row"),
            }
        })
    }

    /// Rows of mailboxes come before their annotations.
    fn annotation(&mut self, kind: u8, rest: &[u8], key: &[u8], row: &[u8]) {
        let place = annotations::place(kind, rest).map(|(place, _)| place);
        let (Some((mailbox, reader)), Some(_)) = (place, annotations::decode(row)) else {
            return self.lost(Family::Account, key, None, "the annotation cannot be read");
        };
        let of_server = mailbox == MailboxId(0) && reader == Some(self.account);
        if !of_server && !self.fixed.contains_key(&mailbox.0) {
            self.lost(Family::Account, key, Some(mailbox.0), "the annotation is of a mailbox that is not there");
        }
    }

    fn store(&mut self, family: Family, key: &[u8], row: &[u8]) {
        self.stored.insert((family, Bytes::copy_from_slice(key)), Bytes::copy_from_slice(row));
    }

    fn read_segments(&mut self, read: &dyn Read) -> Result<(), EngineError> {
        let mut last = None;
        let prefix = keys::account_prefix(self.account.0);
        read.scan(Family::Segment, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            let mut reader = KeyReader::new(key.get(4..).unwrap_or_default());
            let (Some(mailbox), Some(number)) = (reader.u32(), reader.u32()) else {
                self.lost(Family::Segment, key, None, "the key is too short");
                return ControlFlow::Continue(());
            };
            if last != Some((mailbox, number)) {
                self.close_segment(last);
                last = Some((mailbox, number));
            }
            self.segment_row(mailbox, key, row);
            ControlFlow::Continue(())
        })?;
        self.close_segment(last);
        Ok(())
    }

    fn segment_row(&mut self, mailbox: u32, key: &[u8], row: &[u8]) {
        let folded = self.open.last().map(|segment| segment.highest());
        if load_row(&mut self.open, key, row).is_none() {
            self.tallies.entry(mailbox).or_default().damaged = true;
            self.lost(Family::Segment, key, Some(mailbox), "the row of entries cannot be read");
            return;
        }
        let delta = self.open.last().and_then(|segment| segment.deltas.last());
        if let (Some(folded), Some(delta)) = (folded, delta)
            && *delta <= folded
        {
            self.lost(Family::Segment, key, Some(mailbox), "the change is not newer than what comes before it");
        }
    }

    fn close_segment(&mut self, place: Option<(u32, u32)>) {
        let segments = std::mem::take(&mut self.open);
        let (Some((mailbox, number)), Some(segment)) = (place, segments.first()) else { return };
        let key = keys::segment_prefix(self.account.0, mailbox, number);
        if let Some(problem) = problem_of(segment) {
            self.lost(Family::Segment, &key, Some(mailbox), problem);
        }
        let known = match self.fixed.get(&mailbox).or_else(|| self.hidden.get(&mailbox)) {
            Some(Some(fixed)) => u32::try_from(fixed.keywords.len()).unwrap_or(u32::MAX),
            _ => u64::BITS,
        };
        if segment.rows().any(|row| row.flags.keywords.checked_shr(known).unwrap_or(0) != 0) {
            self.lost(Family::Segment, &key, Some(mailbox), "an entry has a keyword that the mailbox does not know");
        }
        let tally = self.tallies.entry(mailbox).or_default();
        tally.add(segment);
        self.entries += segment.len() as u64;
        let rows: Vec<Row> = segment.rows().collect();
        self.place(Family::Segment, &key, mailbox, &rows);
    }

    /// Notes entries of messages.
    pub(super) fn place(&mut self, family: Family, key: &[u8], mailbox: u32, rows: &[Row]) {
        let mut sizes_differ = false;
        for row in rows {
            let first = Places { count: 0, size: row.size, mailbox, uid: row.uid };
            let places = self.places.entry(row.message).or_insert(first);
            places.count = places.count.saturating_add(1);
            sizes_differ |= places.size != row.size;
        }
        if sizes_differ {
            self.lost(family, key, Some(mailbox), "an entry has another size than a copy of it");
        }
    }

    /// Reads the message rows and answers which message needs which parts, up to which octet.
    fn read_messages(&mut self, read: &dyn Read) -> Result<Vec<(u32, u64, u64)>, EngineError> {
        let mut needs = Vec::new();
        let prefix = keys::account_prefix(self.account.0);
        read.scan(Family::Message, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            let mut reader = KeyReader::new(key.get(4..).unwrap_or_default());
            match (reader.u32(), reader.u8(), reader.end()) {
                (Some(message), Some(keys::MESSAGE_RECORD), Some(())) => self.record(message, key, row, &mut needs),
                (Some(_), Some(keys::MESSAGE_EXTRA), Some(())) => self.store(Family::Message, key, row),
                _ => self.lost(Family::Message, key, None, "nobody knows this row"),
            }
            ControlFlow::Continue(())
        })?;
        Ok(needs)
    }

    fn record(&mut self, message: u32, key: &[u8], row: &[u8], needs: &mut Vec<(u32, u64, u64)>) {
        self.messages += 1;
        self.records.insert(message);
        let Some(record) = MessageRecord::decode(MessageId(message), &Bytes::copy_from_slice(row)) else {
            self.all_known = false;
            return self.lost(Family::Message, key, None, "the message record cannot be read");
        };
        // An empty line alone is no header.
        if record.header.end > 2 {
            self.speaking.insert(message);
        }
        let Some(inline) = record.kept.octets() else {
            return self.lost(Family::Message, key, None, "the bytes of the message are damaged");
        };
        let (mut length, mut kept) = (record.trace.len() as u64, 0_u64);
        for piece in &record.pieces {
            length = length.saturating_add(piece.length().unwrap_or(u64::MAX));
            match piece {
                Piece::Inline { length } => kept = kept.saturating_add(*length),
                Piece::Part { part, offset, length, .. } => {
                    needs.push((message, *part, offset.saturating_add(*length)));
                }
            }
        }
        if kept != inline.len() as u64 {
            let what = format!("the record keeps {} octets of the message and uses {kept}", inline.len());
            self.lost(Family::Message, key, None, &what);
        } else if kept + record.trace.len() as u64 == record.size_bytes {
            // A message that is whole in its record is looked at again; others would have to be read.
            self.derived_record(&record, &inline, key, row);
        }
        if length != record.size_bytes {
            let what = format!("the message has {length} octets, its record says {}", record.size_bytes);
            self.lost(Family::Message, key, None, &what);
        }
        match self.places.get(&message).map(|places| (u64::from(places.size), places.mailbox)) {
            None if self.is_blind() => {}
            None => self.strays.push(message),
            Some((size, _)) if size == record.size_bytes => {}
            Some((size, mailbox)) => {
                let what = format!("an entry says {size} octets, the message has {}", record.size_bytes);
                self.lost(Family::Message, key, Some(mailbox), &what);
            }
        }
    }

    /// Compares what a record says of its message with the message.
    fn derived_record(&mut self, record: &MessageRecord, octets: &[u8], key: &[u8], row: &[u8]) {
        let again = record_again(record, octets);
        if again != row {
            self.store(Family::Message, key, row);
            self.derived.insert((Family::Message, Bytes::copy_from_slice(key)), again.into());
        }
    }

    /// Some entries could not be read, so nothing follows from one that is missing.
    fn is_blind(&self) -> bool {
        self.blind || self.tallies.values().any(|tally| tally.damaged)
    }

    fn read_references(&mut self, read: &dyn Read, needs: &[(u32, u64, u64)]) -> Result<(), EngineError> {
        for some in needs.chunks(READ_AT_ONCE) {
            let uses = some.iter().map(|(message, part, _)| keys::part_reference(*part, self.account.0, *message));
            let uses: Vec<Bytes> = uses.collect();
            let heads: Vec<Bytes> = some.iter().map(|(_, part, _)| keys::part_head(*part)).collect();
            let (have, heads) = (rows_of(read, &uses)?, rows_of(read, &heads)?);
            for ((key, have), ((message, part, end), head)) in uses.into_iter().zip(have).zip(some.iter().zip(heads)) {
                if let Some(row) = have {
                    self.stored.insert((Family::Reference, key.clone()), row);
                }
                self.derived.insert((Family::Reference, key), Bytes::new());
                if head.and_then(|row| PartHead::decode(&row)).is_some_and(|head| head.length < *end) {
                    let key = keys::message_record(self.account.0, *message);
                    self.lost(Family::Message, &key, None, &format!("part {part} has fewer octets than it needs"));
                }
            }
        }
        Ok(())
    }

    /// What must be there, and what must be there once.
    fn check_names(&mut self, listed: bool) {
        let state = keys::account_state(self.account.0);
        let empty = self.fixed.is_empty() && self.stored.is_empty() && self.tallies.is_empty();
        let empty = empty && self.records.is_empty() && self.hidden.is_empty() && self.kept.1 == 0;
        match (listed, empty) {
            (true, true) => return self.lost(Family::Account, &state, None, "the account has no rows"),
            (false, false) => self.lost(Family::Account, &state, None, "the directory has no such account"),
            _ => {}
        }
        let mut names: BTreeMap<MailboxName, u32> = BTreeMap::new();
        let known: Vec<_> =
            self.fixed.iter().filter_map(|(id, fixed)| Some((*id, fixed.as_ref()?.name.clone()))).collect();
        self.mailboxes = self.fixed.len() as u64;
        for (id, name) in known {
            if let Some(other) = names.insert(name, id) {
                let what = format!("the mailbox has the name of mailbox {other}");
                self.lost(Family::Account, &keys::mailbox(self.account.0, id), Some(id), &what);
            }
        }
        if !empty && !names.contains_key(&MailboxName::inbox()) {
            self.lost(Family::Account, &state, None, "the account has no INBOX");
        }
        let strays: Vec<u32> = self.tallies.keys().copied().filter(|id| !self.knows(*id)).collect();
        for id in strays {
            let key = keys::mailbox_prefix(self.account.0, id);
            self.lost(Family::Segment, &key, Some(id), "the entries are of a mailbox that is not there");
        }
        let missing = self.places.iter().filter(|(message, _)| !self.records.contains(message));
        let missing: Vec<_> = missing.map(|(message, places)| (*message, places.mailbox, places.uid)).collect();
        for (message, mailbox, uid) in missing {
            let key = keys::message_record(self.account.0, message);
            self.lost(Family::Message, &key, Some(mailbox), &format!("the message of UID {uid} is not there"));
        }
    }

    /// Works out the derived rows.
    fn derive(&mut self) {
        let account = self.account.0;
        let blind = self.is_blind();
        let mut sums = Totals::default();
        for (id, fixed) in std::mem::take(&mut self.fixed) {
            let key = (Family::Account, keys::counters(account, id));
            let stored = self.stored.get(&key).and_then(|row| Counters::decode(row));
            let tally = self.tallies.remove(&id).unwrap_or_default();
            let counters = tally.counters(fixed.as_ref().map_or(0, |fixed| fixed.created_modseq), stored);
            sums.add(id, fixed.as_ref().map_or(0, |fixed| fixed.uid_validity), &counters);
            self.derived.insert(key, counters.encode().into());
        }
        for (id, fixed) in std::mem::take(&mut self.hidden) {
            let key = (Family::Account, keys::counters(account, id));
            let stored = self.stored.get(&key).and_then(|row| Counters::decode(row));
            let tally = self.tallies.remove(&id).unwrap_or_default();
            let counters = tally.counters(fixed.as_ref().map_or(0, |fixed| fixed.created_modseq), stored);
            sums.keep(id, fixed.as_ref().map_or(0, |fixed| fixed.uid_validity), &counters);
            self.derived.insert(key, counters.encode().into());
        }
        sums.kept_bytes = sums.kept_bytes.saturating_add(self.kept.0);
        sums.kept_messages = sums.kept_messages.saturating_add(self.kept.1);
        sums.highest_modseq = sums.highest_modseq.max(self.kept.2);
        for (id, tally) in std::mem::take(&mut self.tallies) {
            // Entries of a mailbox that is not there still keep their messages and their numbers.
            sums.add(id, 0, &tally.counters(0, None));
        }
        let used = [self.records.last(), self.places.keys().last()].into_iter().flatten().max();
        sums.next_message = used.map_or(1, |last| last.saturating_add(1));
        let key = (Family::Account, keys::account_state(account));
        let stored = self.stored.get(&key).map(|row| Totals::decode(row));
        if stored.is_some() || self.mailboxes > 0 || self.entries > 0 || self.messages > 0 {
            let mut totals = sums.raised(stored.flatten());
            if let (true, Some(Some(stored))) = (blind, stored) {
                (totals.used_bytes, totals.messages) = (stored.used_bytes, stored.messages);
                (totals.kept_bytes, totals.kept_messages) = (stored.kept_bytes, stored.kept_messages);
            }
            self.derived.insert(key, totals.encode().into());
        }
        if blind {
            let kept = self.stored.iter().filter(|((family, _), _)| *family == Family::Message);
            self.derived.extend(kept.map(|(key, row)| (key.clone(), row.clone())));
            return;
        }
        for (message, places) in self.places.iter().filter(|(_, places)| places.count > 1) {
            let row = (places.count - 1).to_le_bytes().to_vec();
            self.derived.insert((Family::Message, keys::message_extra(account, *message)), row.into());
        }
    }

    fn compare(&mut self) {
        let keys: BTreeSet<_> = self.stored.keys().chain(self.derived.keys()).cloned().collect();
        for (family, key) in keys {
            let place = (family, key.clone());
            let (is, should) = (self.stored.get(&place).cloned(), self.derived.get(&place).cloned());
            if is == should {
                continue;
            }
            let (what, mailbox) = difference(family, &key, is.as_deref(), should.as_deref());
            self.found(family, &key, mailbox, &what, Repair::Possible);
            match should {
                Some(row) => self.repairs.put(family, key, row),
                None => self.repairs.delete(family, key),
            }
        }
    }

    /// Texts are not repaired: they go, and are made again.
    fn check_texts(&mut self, read: &dyn Read, listed: bool) -> Result<(), EngineError> {
        let state = (Family::Account, keys::account_state(self.account.0));
        let stored = self.stored.get(&state).and_then(|row| Totals::decode(row));
        let next = stored.map_or(0, |totals| totals.next_message);
        let mut has_rows = false;
        let prefix = keys::account_prefix(self.account.0);
        read.scan(Family::Text, &prefix, &keys::prefix_end(&prefix), &mut |_, _| {
            has_rows = true;
            ControlFlow::Break(())
        })?;
        let what = if has_rows && !listed {
            Some("texts of an account that is not there".to_owned())
        } else {
            search::check::problem(read, self.account, next, &self.speaking)?
        };
        if let Some(what) = what {
            self.found(Family::Text, &prefix, None, &what, Repair::Possible);
            search::forget(&mut self.repairs, self.account);
        }
        Ok(())
    }

    /// A batch that writes every derived row, and removes those that should not be.
    pub(super) fn rebuilt(&self) -> Batch {
        let mut batch = Batch::default();
        for ((family, key), _) in self.stored.iter().filter(|(place, _)| !self.derived.contains_key(place)) {
            batch.delete(*family, key.clone());
        }
        for ((family, key), row) in &self.derived {
            batch.put(*family, key.clone(), row.clone());
        }
        search::forget(&mut batch, self.account);
        batch
    }
}

impl Tally {
    fn add(&mut self, segment: &Segment) {
        for Row { size, flags, .. } in segment.rows() {
            self.exists += 1;
            self.unseen += u32::from(!flags.has(SystemFlags::SEEN));
            self.deleted += u32::from(flags.has(SystemFlags::DELETED));
            self.size_bytes += u64::from(size);
        }
        let last = segment.uids().chain(segment.gone_since(0)).max();
        self.uid_last = self.uid_last.max(last.unwrap_or_default());
        self.highest = self.highest.max(segment.highest());
        self.segments += 1;
        self.last_segment = segment.number;
    }

    /// The counters that these entries call for. What was given out is never lowered.
    fn counters(&self, created_modseq: ModSeq, stored: Option<Counters>) -> Counters {
        if let (true, Some(stored)) = (self.damaged, stored) {
            return stored;
        }
        let highest = self.highest.max(created_modseq);
        // Without the row it is not known which expunges were forgotten. None, if no segment is missing.
        let is_whole = self.segments == 0 || self.segments - 1 == self.last_segment;
        let floor = if is_whole && !self.damaged { 0 } else { highest };
        let least = stored.unwrap_or(Counters { vanished_floor: floor, ..Counters::default() });
        Counters {
            uid_next: self.uid_last.saturating_add(1).max(least.uid_next),
            highest_modseq: highest.max(least.highest_modseq).max(least.vanished_floor),
            exists: self.exists,
            unseen: self.unseen,
            deleted: self.deleted,
            size_bytes: self.size_bytes,
            vanished_floor: least.vanished_floor,
        }
    }
}

impl Totals {
    fn add(&mut self, mailbox: u32, uid_validity: u32, counters: &Counters) {
        self.highest_modseq = self.highest_modseq.max(counters.highest_modseq);
        self.next_mailbox = self.next_mailbox.max(mailbox.saturating_add(1));
        self.last_uid_validity = self.last_uid_validity.max(uid_validity);
        self.used_bytes = self.used_bytes.saturating_add(counters.size_bytes);
        self.messages = self.messages.saturating_add(u64::from(counters.exists));
    }

    fn keep(&mut self, mailbox: u32, uid_validity: u32, counters: &Counters) {
        let Self { used_bytes, messages, .. } = *self;
        self.add(mailbox, uid_validity, counters);
        (self.used_bytes, self.messages) = (used_bytes, messages);
        self.kept_bytes = self.kept_bytes.saturating_add(counters.size_bytes);
        self.kept_messages = self.kept_messages.saturating_add(u64::from(counters.exists));
    }

    /// With what was given out before, as far as it is known.
    fn raised(self, stored: Option<Self>) -> Self {
        let lost = Self {
            highest_modseq: self.highest_modseq.saturating_add(u64::from(LOST_IDS)),
            next_message: self.next_message.saturating_add(LOST_IDS),
            next_mailbox: self.next_mailbox.saturating_add(LOST_IDS),
            last_uid_validity: self.last_uid_validity,
            ..Self::default()
        };
        let least = stored.unwrap_or(lost);
        Self {
            highest_modseq: self.highest_modseq.max(least.highest_modseq),
            next_message: self.next_message.max(least.next_message),
            next_mailbox: self.next_mailbox.max(least.next_mailbox),
            last_uid_validity: self.last_uid_validity.max(least.last_uid_validity),
            ..self
        }
    }
}

fn rows_of(read: &dyn Read, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    Ok(read.multi_get(Family::Reference, &keys)?)
}

/// What cannot be in a segment.
fn problem_of(segment: &Segment) -> Option<&'static str> {
    let highest = segment.highest();
    if segment.uids().chain(segment.gone_since(0)).any(|uid| uid == 0) {
        return Some("an entry has UID 0");
    }
    if segment.gone_since(0).any(|uid| segment.index(uid).is_some()) {
        return Some("an entry is there and expunged");
    }
    if segment.rows().any(|row| row.modseq == 0 || row.modseq > highest) || segment.gone_since(highest).next().is_some()
    {
        return Some("an entry has a mod-sequence beyond that of its segment");
    }
    None
}

/// How two forms of a derived row differ, and the mailbox it is about.
fn difference(family: Family, key: &[u8], is: Option<&[u8]>, should: Option<&[u8]>) -> (String, Option<u32>) {
    let kind = key.get(4).copied();
    match family {
        Family::Account if kind == Some(keys::ACCOUNT_COUNTERS) => {
            let mailbox = key.get(5..).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
            (told("counters", is, should, Counters::decode), mailbox)
        }
        Family::Account => (told("the state", is, should, Totals::decode), None),
        Family::Message if key.get(8) == Some(&keys::MESSAGE_RECORD) => {
            ("the record says of the message what it is not".to_owned(), None)
        }
        Family::Message => {
            let count = |row: &[u8]| row.try_into().ok().map(u32::from_le_bytes);
            (told("entries beyond the first", is, should, count), None)
        }
        _ => ("the message does not have its part".to_owned(), None),
    }
}

fn told<T: std::fmt::Debug>(
    what: &str,
    is: Option<&[u8]>,
    should: Option<&[u8]>,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> String {
    let form = |row: Option<&[u8]>| match row.map(&decode) {
        None => "missing".to_owned(),
        Some(None) => "unreadable".to_owned(),
        Some(Some(row)) => format!("{row:?}"),
    };
    format!("{what}: {}, should be {}", form(is), form(should))
}
