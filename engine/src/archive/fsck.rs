//! Comparing what is derived with what it is derived from.
//!
//! Every batch leaves the store consistent, so a snapshot taken at any moment must be: an account is checked on one
//! snapshot, a part on another, beside traffic and without a lock. Repairs look again before they write: at an account
//! while no change of it is planned or waits, at a part while no group is written.

use std::{collections::BTreeSet, fmt, ops::ControlFlow, sync::Arc};

use bytes::Bytes;

use super::{
    account::AccountCheck,
    parts::{PartCheck, remove_stray_hashes, stray_hashes},
    queue::QueueCheck,
    trace::TraceCheck,
};
use crate::{
    command::{AccountId, Command, Deleted, EngineError, MailboxId, MessageId, Outcome},
    directory::Directory,
    engine::Engine,
    kv::{
        Batch, Durability, Family, Read,
        keys::{self, KeyReader},
    },
    memo::MemoKind,
    spam,
    store::{octets::Take, parts::PART_IDS_PER_BLOCK},
};

/// Parts checked on one snapshot, which must not be held long.
const PARTS_PER_SNAPSHOT: usize = 256;
/// Hash rows checked on one snapshot, or while no group is written.
pub(super) const HASHES_PER_SNAPSHOT: usize = 4_096;
/// Beyond every key.
pub(super) const KEYS_END: [u8; 32] = [0xff; 32];

/// Whether a finding can be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Yes: the row follows from others.
    Possible,
    /// It has been.
    Done,
    /// No: ground is missing or damaged. A backup may have it.
    Impossible,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose; `None` for rows of the whole server.
    pub account: Option<AccountId>,
    /// In which mailbox, when it is about one.
    pub mailbox: Option<MailboxId>,
    /// The family of the row.
    pub family: Family,
    /// The key of the row.
    pub key: Bytes,
    /// What is wrong, in words.
    pub what: String,
    /// What can be done.
    pub repair: Repair,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = self.account {
            write!(f, "account {}: ", account.0)?;
        }
        if let Some(mailbox) = self.mailbox {
            write!(f, "mailbox {}: ", mailbox.0)?;
        }
        write!(f, "{} (row {} ", self.what, self.family.name())?;
        for byte in &self.key {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(match self.repair {
            Repair::Possible => "; can be repaired)",
            Repair::Done => "; repaired)",
            Repair::Impossible => "; cannot be repaired)",
        })
    }
}

/// What a check went through and found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsckSummary {
    /// Accounts.
    pub accounts: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Entries in mailboxes.
    pub entries: u64,
    /// Messages.
    pub messages: u64,
    /// Messages that wait to leave.
    pub queued: u64,
    /// Events of the trace.
    pub events: u64,
    /// Messages that are kept apart.
    pub quarantined: u64,
    /// Parts.
    pub parts: u64,
    /// Findings, repaired ones included.
    pub findings: u64,
    /// Findings that were repaired.
    pub repaired: u64,
}

impl FsckSummary {
    /// Whether everything is as it should be now.
    pub fn is_clean(&self) -> bool {
        self.findings == self.repaired
    }
}

impl Engine {
    /// Compares all derived rows with their ground, calls `report` for every difference, and repairs them when asked.
    /// Reads everything there is; other work goes on meanwhile.
    pub fn fsck(&self, repair: bool, report: &mut dyn FnMut(Finding)) -> Result<FsckSummary, EngineError> {
        let mut run = Run { engine: self, repair, report, summary: FsckSummary::default(), all_known: true };
        let accounts = run.system()?;
        for account in accounts {
            run.account(account)?;
        }
        run.queue()?;
        run.spam()?;
        run.trace()?;
        run.parts()?;
        Ok(run.summary)
    }
}

struct Run<'a> {
    engine: &'a Engine,
    repair: bool,
    report: &'a mut dyn FnMut(Finding),
    summary: FsckSummary,
    /// Every message record could be read, so a part that none of them names is not needed.
    all_known: bool,
}

impl Run<'_> {
    fn tell(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.summary.findings += 1;
            self.summary.repaired += u64::from(finding.repair == Repair::Done);
            (self.report)(finding);
        }
    }

    /// Checks the rows of the whole server, and answers the accounts that have any row.
    fn system(&mut self) -> Result<BTreeSet<AccountId>, EngineError> {
        let engine = self.engine;
        // The rows and the directory in memory are the same only while no group is written.
        let (read, stored, published) = engine.exclusive(|| {
            let read = engine.kv().snapshot();
            (read, Directory::load(&**engine.kv() as &dyn Read), engine.directory())
        });
        let mut findings = Vec::new();
        match stored {
            Ok(stored) if stored == *published => {}
            Ok(_) => findings.push(system_finding(&[keys::SYS_DOMAIN], "the directory in memory is another one")),
            Err(error) => findings.push(system_finding(&[keys::SYS_DOMAIN], &error.to_string())),
        }
        let mut accounts = account_ids(&*read, &mut findings)?;
        accounts.extend(published.accounts().iter().map(|account| account.id));
        check_system_rows(&*read, &mut findings)?;
        self.tell(findings);
        let used = accounts.last().map_or(0, |account| u64::from(account.0));
        self.allocator("account", used, 1)?;
        Ok(accounts)
    }

    /// Checks that an allocator is beyond what is used; it may be absent when nothing is.
    fn allocator(&mut self, name: &str, used: u64, skip: u64) -> Result<(), EngineError> {
        let key = keys::allocator(name);
        let stored = self.engine.kv().get(Family::Sys, &key)?;
        let next = stored.as_deref().and_then(decode_allocator);
        if next.is_some_and(|next| next > used) || (stored.is_none() && used == 0) {
            return Ok(());
        }
        let mut finding = system_finding(&key, &format!("the allocator says {next:?}, {used} is in use"));
        finding.repair = Repair::Possible;
        if self.repair {
            let mut row = vec![1];
            row.extend_from_slice(&used.saturating_add(skip).to_le_bytes());
            let mut batch = Batch::default();
            batch.put(Family::Sys, key, row);
            self.engine.kv().write(&batch, Durability::Synced)?;
            self.engine.parts().forget_ids();
            finding.repair = Repair::Done;
        }
        self.tell(vec![finding]);
        Ok(())
    }

    fn account(&mut self, account: AccountId) -> Result<(), EngineError> {
        let engine = self.engine;
        let look = |read: &dyn Read, directory: &Directory| {
            AccountCheck::run(read, account, directory.account(account).is_some())
        };
        let (read, directory) = engine.exclusive(|| (engine.kv().snapshot(), engine.directory()));
        let mut check = look(&*read, &directory)?;
        drop(read);
        if self.repair && check.findings.iter().any(|finding| finding.repair == Repair::Possible) {
            let _texts = engine.texts_lock();
            check = engine.quiet(account, || {
                let mut check = look(&**engine.kv() as &dyn Read, &engine.directory())?;
                write_repairs(engine, &mut check.findings, &check.repairs)?;
                Ok(check)
            })?;
        }
        self.strays(&mut check);
        let summary = &mut self.summary;
        summary.accounts += 1;
        summary.mailboxes += check.mailboxes;
        summary.entries += check.entries;
        summary.messages += check.messages;
        self.all_known &= check.all_known;
        self.tell(check.findings);
        Ok(())
    }

    /// Messages without an entry get one, in a mailbox of their own.
    fn strays(&mut self, check: &mut AccountCheck) {
        let strays = std::mem::take(&mut check.strays);
        if strays.is_empty() {
            return;
        }
        let has_owner = self.engine.directory().account(check.account).is_some();
        let put_back = if self.repair && has_owner { put_back(self.engine, check.account, &strays) } else { Ok(()) };
        let (repair, why) = match put_back {
            Err(error) => (Repair::Impossible, format!(": {error}")),
            Ok(()) if !has_owner => (Repair::Impossible, String::new()),
            Ok(()) if self.repair => (Repair::Done, String::new()),
            Ok(()) => (Repair::Possible, String::new()),
        };
        for message in strays {
            let key = keys::message_record(check.account.0, message);
            check.found(Family::Message, &key, None, &format!("the message is in no mailbox{why}"), repair);
        }
    }

    fn queue(&mut self) -> Result<(), EngineError> {
        let mut next = Some(0);
        while let Some(from) = next {
            let check = self.queue_rows(&|read| QueueCheck::run(read, from))?;
            next = check.next;
            self.summary.queued += check.messages;
            self.all_known &= check.all_known;
            self.tell(check.findings);
        }
        let mut next = Some(0);
        while let Some(from) = next {
            let check = self.queue_rows(&|read| QueueCheck::quarantine(read, from))?;
            next = check.next;
            self.summary.quarantined += check.messages;
            self.all_known &= check.all_known;
            self.tell(check.findings);
        }
        let check = self.queue_rows(&QueueCheck::strays)?;
        self.tell(check.findings);
        Ok(())
    }

    fn trace(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        let mut next = Some(Bytes::new());
        while let Some(from) = next {
            let mut check = TraceCheck::run(&*engine.kv().snapshot(), &from)?;
            if self.repair && !check.repairs.changes.is_empty() {
                let _writing = engine.tracer().write_lock();
                check = TraceCheck::run(&*engine.kv().snapshot(), &from)?;
                write_repairs(engine, &mut check.findings, &check.repairs)?;
            }
            next = check.next;
            self.summary.events += check.events;
            self.tell(check.findings);
        }
        Ok(())
    }

    /// Looks at rows of the queue, and once more while no group is written when something is to be repaired.
    fn queue_rows(
        &self,
        look: &dyn Fn(&dyn Read) -> Result<QueueCheck, EngineError>,
    ) -> Result<QueueCheck, EngineError> {
        let engine = self.engine;
        let check = look(&*engine.kv().snapshot())?;
        if !self.repair || check.repairs.changes.is_empty() {
            return Ok(check);
        }
        engine.exclusive(|| {
            let mut check = look(&**engine.kv() as &dyn Read)?;
            write_repairs(engine, &mut check.findings, &check.repairs)?;
            Ok(check)
        })
    }

    /// Ground: nothing else tells what was learned.
    fn spam(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        let (read, directory) = engine.exclusive(|| (engine.kv().snapshot(), engine.directory()));
        let mut findings = Vec::new();
        let leaving =
            |account: AccountId| read.get(Family::Sys, &keys::leaving(account.0)).is_ok_and(|row| row.is_some());
        let known = |account: AccountId| directory.account(account).is_some() || leaving(account);
        spam::check::check(&*read, &known, &mut |key, account, what| {
            findings.push(Finding { account, family: Family::Spam, ..system_finding(key, what) });
        })?;
        self.tell(findings);
        Ok(())
    }

    fn parts(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        let mut next = Some(0);
        let mut highest = 0;
        while let Some(mut cursor) = next {
            let read = engine.kv().snapshot();
            let mut page = Vec::new();
            next = None;
            while let Some(part) = super::parts::next_part(&*read, cursor)? {
                if page.len() >= PARTS_PER_SNAPSHOT {
                    next = Some(part);
                    break;
                }
                page.push(PartCheck::run(&*read, engine.parts().hasher(), part, self.all_known)?);
                cursor = part.saturating_add(1);
            }
            drop(read);
            for check in page {
                highest = highest.max(check.part);
                self.part(check)?;
            }
        }
        let mut findings = Vec::new();
        super::parts::check_reference_keys(&*engine.kv().snapshot(), &mut findings)?;
        self.tell(findings);
        self.hashes()?;
        self.allocator("part", highest, PART_IDS_PER_BLOCK)
    }

    /// Checks that every hash row leads to a part with that hash; the other way was looked at with the parts.
    fn hashes(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        let mut next = Some(Bytes::from_static(&[keys::REFERENCE_HASH]));
        while let Some(from) = next {
            let (mut strays, more) = stray_hashes(&*engine.kv().snapshot(), &from, HASHES_PER_SNAPSHOT)?;
            if self.repair && !strays.is_empty() {
                strays = remove_stray_hashes(engine, &from, HASHES_PER_SNAPSHOT)?.0;
            }
            let repair = if self.repair { Repair::Done } else { Repair::Possible };
            let finding = |key| Finding {
                family: Family::Reference,
                repair,
                ..system_finding(key, "the hash leads to no part with these bytes")
            };
            self.tell(strays.iter().map(|key| finding(key)).collect());
            next = more;
        }
        Ok(())
    }

    fn part(&mut self, mut check: PartCheck) -> Result<(), EngineError> {
        let engine = self.engine;
        if self.repair && check.findings.iter().any(|finding| finding.repair == Repair::Possible) {
            let all_known = self.all_known;
            let repair = || {
                let read = engine.kv().snapshot();
                let mut check = PartCheck::run(&*read, engine.parts().hasher(), check.part, all_known)?;
                write_repairs(engine, &mut check.findings, &check.repairs)?;
                Ok::<_, EngineError>(check)
            };
            check = engine.exclusive(|| engine.parts().standstill(repair))?;
        }
        self.summary.parts += u64::from(check.is_there);
        self.tell(check.findings);
        Ok(())
    }
}

fn write_repairs(engine: &Engine, findings: &mut [Finding], repairs: &Batch) -> Result<(), EngineError> {
    if !repairs.changes.is_empty() {
        engine.kv().write(repairs, Durability::Synced)?;
    }
    for finding in findings.iter_mut().filter(|finding| finding.repair == Repair::Possible) {
        finding.repair = Repair::Done;
    }
    Ok(())
}

/// Puts messages that are in no mailbox into one. When they came is not known: they have no save date.
fn put_back(engine: &Engine, account: AccountId, strays: &[u32]) -> Result<(), EngineError> {
    let which = Deleted::Strays(strays.iter().copied().map(MessageId).collect());
    let mut more = true;
    while more {
        let command = Command::Restore { account, which: which.clone(), to: None };
        more = matches!(engine.execute(0, command)?, Outcome::Restored { more: true, .. });
    }
    Ok(())
}

fn system_finding(key: &[u8], what: &str) -> Finding {
    let (key, what) = (Bytes::copy_from_slice(key), what.to_owned());
    Finding { account: None, mailbox: None, family: Family::Sys, key, what, repair: Repair::Impossible }
}

fn decode_allocator(row: &[u8]) -> Option<u64> {
    let mut take = Take::versioned(row, 1)?;
    let next = take.u64()?;
    take.end().map(|()| next)
}

/// The rows of [`Family::Sys`] that are not of the directory.
fn check_system_rows(read: &dyn Read, findings: &mut Vec<Finding>) -> Result<(), EngineError> {
    read.scan(Family::Sys, &[], &KEYS_END, &mut |key, _| {
        let known = match key.split_first() {
            Some((&first, [])) => [first] == *keys::SYS_VERSION,
            Some((&keys::SYS_ALLOCATOR, name)) => [&b"account"[..], b"part", b"group", b"queue"].contains(&name),
            Some((&first, _)) => {
                (keys::SYS_SETTING..=keys::SYS_LEAVING).contains(&first)
                    || (keys::SYS_GROUP..=keys::SYS_SIGNING).contains(&first)
                    || (keys::SYS_FORWARD..=keys::SYS_LIST_MEMBER).contains(&first)
                    || first == keys::SYS_MEMO && MemoKind::of_key(key).is_some()
            }
            None => false,
        };
        if !known {
            findings.push(system_finding(key, "nobody knows this row"));
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// Every account that has a row somewhere.
pub(super) fn account_ids(read: &dyn Read, findings: &mut Vec<Finding>) -> Result<BTreeSet<AccountId>, EngineError> {
    let mut found = BTreeSet::new();
    let leaving = [keys::SYS_LEAVING];
    read.scan(Family::Sys, &leaving, &keys::prefix_end(&leaving), &mut |key, _| {
        found.extend(KeyReader::new(key.get(1..).unwrap_or_default()).u32().map(AccountId));
        ControlFlow::Continue(())
    })?;
    for family in [Family::Account, Family::Segment, Family::Message, Family::Change, Family::Text] {
        let mut cursor = Bytes::new();
        while let Some(key) = first_key(read, family, &cursor)? {
            if let Some(id) = KeyReader::new(&key).u32() {
                found.insert(AccountId(id));
                cursor = keys::prefix_end(&keys::account_prefix(id));
                if cursor.is_empty() {
                    break;
                }
            } else {
                let finding = Finding { family, ..system_finding(&key, "the key is too short") };
                findings.push(finding);
                cursor = [&key[..], &[0]].concat().into();
            }
        }
    }
    Ok(found)
}

/// The first key from `from` on.
fn first_key(read: &dyn Read, family: Family, from: &[u8]) -> Result<Option<Bytes>, EngineError> {
    let mut first = None;
    read.scan(family, from, &KEYS_END, &mut |key, _| {
        first = Some(Bytes::copy_from_slice(key));
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// The accounts of the directory and those that have rows.
pub(super) fn all_accounts(engine: &Engine) -> Result<BTreeSet<AccountId>, EngineError> {
    let directory: Arc<Directory> = engine.directory();
    let mut accounts = account_ids(&*engine.kv().snapshot(), &mut Vec::new())?;
    accounts.extend(directory.accounts().iter().map(|account| account.id));
    Ok(accounts)
}
