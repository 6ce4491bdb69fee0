//! What RFC 9051 and RFC 7162 say about mailboxes, in plain lists, written without a look at how the store does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rockdove_engine::{AccountId, Deleted, Delivered, FlagRow, InternalDate, MailboxId, MessageId, Outcome, Stored};
use rockdove_mail::{FlagUpdate, Flags, Keyword, MailboxName, ModSeq, SpecialUse, SystemFlags, Uid, UidSet};

use crate::deleted::Kept;

/// A command in plain data: messages are bytes.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    AddAccount {
        address: String,
        quota: Option<u64>,
    },
    RemoveAccount {
        address: String,
    },
    SetQuota {
        address: String,
        quota: Option<u64>,
    },
    Create {
        account: AccountId,
        name: MailboxName,
        special_use: Option<SpecialUse>,
    },
    Delete {
        account: AccountId,
        name: MailboxName,
    },
    Rename {
        account: AccountId,
        from: MailboxName,
        to: MailboxName,
    },
    Subscribe {
        account: AccountId,
        name: MailboxName,
        subscribed: bool,
    },
    Deliver {
        content: Content,
        to: Vec<Place>,
    },
    Append {
        account: AccountId,
        mailbox: MailboxId,
        messages: Vec<(Content, Flags, InternalDate)>,
    },
    Store {
        account: AccountId,
        mailbox: MailboxId,
        uids: UidSet,
        update: FlagUpdate,
        flags: Flags,
        unchanged_since: Option<ModSeq>,
    },
    Copy {
        account: AccountId,
        from: MailboxId,
        uids: UidSet,
        to: MailboxId,
    },
    Move {
        account: AccountId,
        from: MailboxId,
        uids: UidSet,
        to: MailboxId,
    },
    Expunge {
        account: AccountId,
        mailbox: MailboxId,
        uids: Option<UidSet>,
        deleted_only: bool,
    },
    Restore {
        account: AccountId,
        which: Deleted,
        to: Option<MailboxName>,
    },
    Purge {
        account: AccountId,
        everything: bool,
    },
}

impl Act {
    /// The accounts whose mail it is about.
    pub(crate) fn accounts(&self) -> Vec<AccountId> {
        match self {
            Self::AddAccount { .. } | Self::RemoveAccount { .. } | Self::SetQuota { .. } => Vec::new(),
            Self::Create { account, .. }
            | Self::Delete { account, .. }
            | Self::Rename { account, .. }
            | Self::Subscribe { account, .. }
            | Self::Append { account, .. }
            | Self::Store { account, .. }
            | Self::Copy { account, .. }
            | Self::Move { account, .. }
            | Self::Expunge { account, .. }
            | Self::Restore { account, .. }
            | Self::Purge { account, .. } => vec![*account],
            Self::Deliver { to, .. } => to.iter().map(|place| place.account).collect(),
        }
    }
}

pub(crate) type Content = Arc<Vec<u8>>;

/// One recipient.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) account: AccountId,
    pub(crate) mailbox: MailboxName,
    pub(crate) trace: Vec<u8>,
    pub(crate) flags: Flags,
    pub(crate) date: InternalDate,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    NotFound,
    Permission,
    Exists,
    Invalid,
    OverQuota,
    Limit,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) uid: Uid,
    pub(crate) id: MessageId,
    pub(crate) system: SystemFlags,
    /// In lower case.
    pub(crate) keywords: BTreeSet<String>,
    pub(crate) modseq: ModSeq,
    pub(crate) date: InternalDate,
    pub(crate) saved: i64,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) id: MailboxId,
    pub(crate) name: MailboxName,
    pub(crate) special_use: Option<SpecialUse>,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: Uid,
    /// Ahead of `uid_next` after a command that could not be written.
    pub(crate) uid_free: Uid,
    pub(crate) highest: ModSeq,
    pub(crate) messages: Vec<Message>,
    pub(crate) gone: Vec<(Uid, ModSeq)>,
    /// It was deleted and came back, with all that it knew of expunges forgotten.
    pub(crate) was_hidden: bool,
    pub(crate) keywords: Vec<Keyword>,
}

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) address: String,
    pub(crate) quota: Option<u64>,
    pub(crate) modseq: ModSeq,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) subscriptions: BTreeSet<MailboxName>,
    /// What was expunged, oldest first.
    pub(crate) kept: Vec<Kept>,
    /// Deleted mailboxes and when, by id.
    pub(crate) hidden: Vec<(i64, Mailbox)>,
    next_message: u32,
    next_mailbox: u32,
    pub(crate) last_validity: u32,
}

/// The whole server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    last_account: u32,
}

impl Mailbox {
    /// The flags of a message, keywords in the order in which the mailbox learned them.
    pub(crate) fn flags(&self, message: &Message) -> Flags {
        let has = |keyword: &&Keyword| message.keywords.contains(&keyword.as_str().to_lowercase());
        Flags { system: message.system, keywords: self.keywords.iter().filter(has).cloned().collect() }
    }

    /// Those that it knows, or has room to learn: no message is refused for a keyword.
    pub(crate) fn fitting(&mut self, keywords: &[Keyword]) -> Vec<Keyword> {
        keywords.iter().filter(|keyword| self.learn(std::slice::from_ref(keyword)).is_ok()).cloned().collect()
    }

    pub(crate) fn learn(&mut self, keywords: &[Keyword]) -> Result<(), No> {
        for keyword in keywords {
            if !self.keywords.contains(keyword) {
                if self.keywords.len() == 64 {
                    return Err(No::Limit);
                }
                self.keywords.push(keyword.clone());
            }
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, message: Message, modseq: ModSeq) -> Uid {
        let uid = self.uid_free;
        self.uid_free += 1;
        self.uid_next = self.uid_free;
        self.highest = modseq;
        self.messages.push(Message { uid, modseq, ..message });
        uid
    }

    pub(crate) fn remove(&mut self, uids: &UidSet, modseq: ModSeq) -> Vec<Message> {
        let (gone, stay): (Vec<Message>, Vec<Message>) =
            std::mem::take(&mut self.messages).into_iter().partition(|message| uids.contains(message.uid));
        self.messages = stay;
        self.gone.extend(gone.iter().map(|message: &Message| (message.uid, modseq)));
        if !gone.is_empty() {
            self.highest = modseq;
        }
        gone
    }
}

pub(crate) fn lower(keywords: &[Keyword]) -> BTreeSet<String> {
    keywords.iter().map(|keyword| keyword.as_str().to_lowercase()).collect()
}

impl Account {
    pub(crate) fn used(&self) -> u64 {
        self.mailboxes.iter().flat_map(|mailbox| &mailbox.messages).map(|message| message.content.len() as u64).sum()
    }

    pub(crate) fn entries(&self) -> u64 {
        self.mailboxes.iter().map(|mailbox| mailbox.messages.len() as u64).sum()
    }

    pub(crate) fn by_name(&self, name: &MailboxName) -> Option<usize> {
        self.mailboxes.iter().position(|mailbox| mailbox.name == *name)
    }

    pub(crate) fn by_id(&self, id: MailboxId) -> Result<usize, No> {
        self.mailboxes.iter().position(|mailbox| mailbox.id == id).ok_or(No::NotFound)
    }

    pub(crate) fn room_for(&self, more: u64) -> Result<(), No> {
        if self.quota.is_some_and(|quota| self.used() + more > quota) { Err(No::OverQuota) } else { Ok(()) }
    }

    /// Creates the mailbox and its missing parents, outermost first.
    pub(crate) fn create(&mut self, now: i64, name: &MailboxName, special_use: Option<SpecialUse>) -> usize {
        if let Some(parent) = name.parent()
            && self.by_name(&parent).is_none()
        {
            self.create(now, &parent, None);
        }
        let validity = (now as u32).max(self.last_validity + 1);
        self.last_validity = validity;
        let id = MailboxId(self.next_mailbox);
        self.next_mailbox += 1;
        self.mailboxes.push(Mailbox {
            id,
            name: name.clone(),
            special_use,
            uid_validity: validity,
            uid_next: 1,
            uid_free: 1,
            highest: self.modseq,
            messages: Vec::new(),
            gone: Vec::new(),
            was_hidden: false,
            keywords: Vec::new(),
        });
        self.mailboxes.len() - 1
    }

    pub(crate) fn new_message(&mut self, content: Content, date: InternalDate, flags: &Flags, now: i64) -> Message {
        let id = MessageId(self.next_message);
        self.next_message += 1;
        let (system, keywords) = (flags.system, lower(&flags.keywords));
        Message { uid: 0, id, system, keywords, modseq: 0, date, saved: now, content }
    }

    fn copy(&mut self, now: i64, from: usize, uids: &UidSet, to: usize) -> (Vec<Uid>, Vec<Uid>) {
        let taken: Vec<Message> =
            self.mailboxes[from].messages.iter().filter(|message| uids.contains(message.uid)).cloned().collect();
        let modseq = self.modseq;
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for message in taken {
            let flags = self.mailboxes[from].flags(&message);
            let keywords = lower(&self.mailboxes[to].fitting(&flags.keywords));
            sources.push(message.uid);
            targets.push(self.mailboxes[to].add(Message { saved: now, keywords, ..message }, modseq));
        }
        (sources, targets)
    }

    fn rename(&mut self, now: i64, from: &MailboxName, to: &MailboxName) -> Result<Outcome, No> {
        self.modseq += 1;
        if from.is_inbox() {
            if self.by_name(to).is_some() {
                return Err(No::Exists);
            }
            let inbox = self.by_name(from).ok_or(No::NotFound)?;
            let target = self.create(now, to, None);
            let all = UidSet::range(1, u32::MAX);
            self.copy(now, inbox, &all, target);
            let modseq = self.modseq;
            self.mailboxes[inbox].remove(&all, modseq);
            return Ok(Outcome::Done);
        }
        if to.is_below(from) {
            return Err(No::Invalid);
        }
        let moves = |name: &MailboxName| name == from || name.is_below(from);
        if !self.mailboxes.iter().any(|mailbox| moves(&mailbox.name)) {
            return Err(No::NotFound);
        }
        // Whether the mailbox may be seen comes first.
        if self.by_name(to).is_some() {
            return Err(No::Exists);
        }
        if let Some(parent) = to.parent()
            && self.by_name(&parent).is_none()
        {
            self.create(now, &parent, None);
        }
        let (moving, staying): (Vec<usize>, Vec<usize>) =
            (0..self.mailboxes.len()).partition(|at| moves(&self.mailboxes[*at].name));
        for at in moving {
            let rest = &self.mailboxes[at].name.as_str()[from.as_str().len()..];
            let name = MailboxName::new(&format!("{to}{rest}")).map_err(|_| No::Limit)?;
            if staying.iter().any(|other| self.mailboxes[*other].name == name) {
                return Err(No::Exists);
            }
            self.mailboxes[at].name = name;
        }
        Ok(Outcome::Done)
    }
}

impl Model {
    /// Does what the command says, or nothing.
    pub(crate) fn apply(&mut self, now: i64, act: &Act) -> Result<Outcome, No> {
        let mut next = self.clone();
        let outcome = next.perform(now, act)?;
        for id in act.accounts() {
            let Some(account) = next.accounts.get_mut(&id) else { continue };
            account.mailboxes.iter_mut().for_each(|mailbox| mailbox.uid_next = mailbox.uid_free);
        }
        *self = next;
        Ok(outcome)
    }

    /// The command was planned and could not be written: nothing of it is there, what it gave out is not given again.
    pub(crate) fn fail(&mut self, now: i64, act: &Act) {
        let mut tried = self.clone();
        if tried.perform(now, act).is_err() {
            return;
        }
        for (id, account) in &mut self.accounts {
            let Some(ahead) = tried.accounts.get(id) else { continue };
            account.modseq = ahead.modseq;
            account.next_message = ahead.next_message;
            account.next_mailbox = ahead.next_mailbox;
            account.last_validity = ahead.last_validity;
            for mailbox in &mut account.mailboxes {
                if let Ok(at) = ahead.by_id(mailbox.id) {
                    mailbox.uid_free = ahead.mailboxes[at].uid_free;
                }
            }
        }
    }

    fn account(&mut self, id: AccountId) -> Result<&mut Account, No> {
        self.accounts.get_mut(&id).ok_or(No::NotFound)
    }

    pub(crate) fn by_address(&self, address: &str) -> Option<AccountId> {
        self.accounts.iter().find(|(_, account)| account.address == address).map(|(id, _)| *id)
    }

    fn perform(&mut self, now: i64, act: &Act) -> Result<Outcome, No> {
        match act {
            Act::AddAccount { address, quota } => self.add_account(now, address, *quota),
            Act::RemoveAccount { address } => {
                let id = self.by_address(address).ok_or(No::NotFound)?;
                self.accounts.remove(&id);
                Ok(Outcome::Done)
            }
            Act::SetQuota { address, quota } => {
                let id = self.by_address(address).ok_or(No::NotFound)?;
                self.account(id)?.quota = *quota;
                Ok(Outcome::Done)
            }
            Act::Create { account, name, special_use } => {
                let account = self.account(*account)?;
                if account.by_name(name).is_some() {
                    return Err(No::Exists);
                }
                account.modseq += 1;
                let at = account.create(now, name, *special_use);
                Ok(Outcome::Mailbox(account.mailboxes[at].id))
            }
            Act::Delete { account, name } => {
                let account = self.account(*account)?;
                if name.is_inbox() {
                    return Err(No::Invalid);
                }
                let at = account.by_name(name).ok_or(No::NotFound)?;
                account.modseq += 1;
                let mailbox = account.mailboxes.remove(at);
                account.hide(now, mailbox);
                Ok(Outcome::Done)
            }
            Act::Rename { account, from, to } => self.account(*account)?.rename(now, from, to),
            Act::Subscribe { account, name, subscribed } => {
                let account = self.account(*account)?;
                let changed = if *subscribed {
                    account.subscriptions.insert(name.clone())
                } else {
                    account.subscriptions.remove(name)
                };
                account.modseq += u64::from(changed);
                Ok(Outcome::Done)
            }
            Act::Deliver { content, to } => self.deliver(now, content, to),
            Act::Append { account, mailbox, messages } => self.append(now, *account, *mailbox, messages),
            Act::Store { account, mailbox, uids, update, flags, unchanged_since } => {
                self.account(*account)?.store(*mailbox, uids, (*update, flags), *unchanged_since)
            }
            Act::Copy { account, from, uids, to } => self.copy(now, *account, (*from, uids, *to), false),
            Act::Move { account, from, uids, to } => self.copy(now, *account, (*from, uids, *to), true),
            Act::Expunge { account, mailbox, uids, deleted_only } => {
                self.account(*account)?.expunge(now, *mailbox, uids.as_ref(), *deleted_only)
            }
            Act::Restore { account, which, to } => self.account(*account)?.restore(now, which, to.as_ref()),
            Act::Purge { account, everything } => Ok(self.account(*account)?.purge(now, *everything)),
        }
    }

    fn add_account(&mut self, now: i64, address: &str, quota: Option<u64>) -> Result<Outcome, No> {
        if self.by_address(address).is_some() {
            return Err(No::Exists);
        }
        self.last_account += 1;
        let id = AccountId(self.last_account);
        let mut account = Account {
            address: address.to_owned(),
            quota,
            modseq: 1,
            mailboxes: Vec::new(),
            subscriptions: BTreeSet::new(),
            kept: Vec::new(),
            hidden: Vec::new(),
            next_message: 1,
            next_mailbox: 1,
            last_validity: 0,
        };
        let uses = [
            ("INBOX", None),
            ("Drafts", Some(SpecialUse::Drafts)),
            ("Sent", Some(SpecialUse::Sent)),
            ("Trash", Some(SpecialUse::Trash)),
            ("Junk", Some(SpecialUse::Junk)),
            ("Archive", Some(SpecialUse::Archive)),
        ];
        for (name, special_use) in uses {
            let name = MailboxName::new(name).expect("a name");
            account.create(now, &name, special_use);
            account.subscriptions.insert(name);
        }
        self.accounts.insert(id, account);
        Ok(Outcome::Account(id))
    }

    fn deliver(&mut self, now: i64, content: &Content, to: &[Place]) -> Result<Outcome, No> {
        let mut delivered = vec![None; to.len()];
        let receiving: BTreeSet<AccountId> = to.iter().map(|place| place.account).collect();
        for id in receiving {
            self.account(id)?.modseq += 1;
        }
        // Accounts are decided in ascending order, so that is the order of refusals.
        let mut order: Vec<usize> = (0..to.len()).collect();
        order.sort_by_key(|at| to[*at].account);
        for number in order {
            let place = &to[number];
            let account = self.account(place.account)?;
            let whole = Arc::new([&place.trace[..], &content[..]].concat());
            account.room_for(whole.len() as u64)?;
            let at = match account.by_name(&place.mailbox) {
                Some(at) => at,
                None => account.create(now, &place.mailbox, None),
            };
            let keywords = account.mailboxes[at].fitting(&place.flags.keywords);
            let flags = Flags { keywords, ..place.flags.clone() };
            let message = account.new_message(whole, place.date, &flags, now);
            let (id, modseq) = (message.id, account.modseq);
            let uid = account.mailboxes[at].add(message, modseq);
            delivered[number] = Some(Delivered { mailbox: account.mailboxes[at].id, uid, message: id });
        }
        Ok(Outcome::Delivered(delivered.into_iter().flatten().collect()))
    }

    fn append(
        &mut self,
        now: i64,
        account: AccountId,
        mailbox: MailboxId,
        messages: &[(Content, Flags, InternalDate)],
    ) -> Result<Outcome, No> {
        let account = self.account(account)?;
        account.room_for(messages.iter().map(|(content, _, _)| content.len() as u64).sum())?;
        let at = account.by_id(mailbox)?;
        account.modseq += u64::from(!messages.is_empty());
        let mut uids = Vec::new();
        for (content, flags, date) in messages {
            let keywords = account.mailboxes[at].fitting(&flags.keywords);
            let flags = Flags { keywords, ..flags.clone() };
            let message = account.new_message(Arc::clone(content), *date, &flags, now);
            let modseq = account.modseq;
            uids.push(account.mailboxes[at].add(message, modseq));
        }
        Ok(Outcome::Appended { uid_validity: account.mailboxes[at].uid_validity, uids })
    }

    fn copy(
        &mut self,
        now: i64,
        account: AccountId,
        (from, uids, to): (MailboxId, &UidSet, MailboxId),
        moves: bool,
    ) -> Result<Outcome, No> {
        let account = self.account(account)?;
        let from = account.by_id(from)?;
        let hit = account.mailboxes[from].messages.iter().filter(|message| uids.contains(message.uid));
        let (count, size) = hit.fold((0, 0), |(count, size), message| (count + 1, size + message.content.len() as u64));
        if !moves {
            account.room_for(size)?;
        }
        let to = account.by_id(to)?;
        account.modseq += u64::from(count > 0);
        let (sources, targets) = account.copy(now, from, uids, to);
        if moves {
            let (gone, modseq) = (sources.iter().copied().collect(), account.modseq);
            account.mailboxes[from].remove(&gone, modseq);
        }
        Ok(Outcome::Copied { uid_validity: account.mailboxes[to].uid_validity, from: sources, to: targets })
    }
}

impl Account {
    fn store(
        &mut self,
        mailbox: MailboxId,
        uids: &UidSet,
        (update, flags): (FlagUpdate, &Flags),
        unchanged_since: Option<ModSeq>,
    ) -> Result<Outcome, No> {
        let at = self.by_id(mailbox)?;
        if update != FlagUpdate::Remove {
            self.mailboxes[at].learn(&flags.keywords)?;
        }
        let next = self.modseq + 1;
        let mailbox = &mut self.mailboxes[at];
        let (mut stored, named) = (Stored::default(), lower(&flags.keywords));
        for place in 0..mailbox.messages.len() {
            let message = &mut mailbox.messages[place];
            if !uids.contains(message.uid) {
                continue;
            }
            if unchanged_since.is_some_and(|limit| message.modseq > limit) {
                stored.modified.insert(message.uid);
                continue;
            }
            let before = (message.system, message.keywords.clone());
            match update {
                FlagUpdate::Replace => (message.system, message.keywords) = (flags.system, named.clone()),
                FlagUpdate::Add => {
                    message.system = message.system.union(flags.system);
                    message.keywords.extend(named.iter().cloned());
                }
                FlagUpdate::Remove => {
                    message.system = message.system.without(flags.system);
                    message.keywords.retain(|keyword| !named.contains(keyword));
                }
            }
            if before != (message.system, message.keywords.clone()) {
                message.modseq = next;
                stored.modseq = next;
            }
            let message = &mailbox.messages[place];
            stored.rows.push(FlagRow { uid: message.uid, flags: mailbox.flags(message), modseq: message.modseq });
        }
        if stored.modseq > 0 {
            mailbox.highest = next;
            self.modseq = next;
        }
        Ok(Outcome::Stored(stored))
    }

    fn expunge(
        &mut self,
        now: i64,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        deleted_only: bool,
    ) -> Result<Outcome, No> {
        let at = self.by_id(mailbox)?;
        let goes = |message: &&Message| {
            uids.is_none_or(|uids| uids.contains(message.uid))
                && (!deleted_only || message.system.contains(SystemFlags::DELETED))
        };
        let gone: UidSet = self.mailboxes[at].messages.iter().filter(goes).map(|message| message.uid).collect();
        if gone.is_empty() {
            return Ok(Outcome::Expunged { uids: gone, modseq: 0 });
        }
        self.modseq += 1;
        let modseq = self.modseq;
        let messages = self.mailboxes[at].remove(&gone, modseq);
        self.keep(now, mailbox, &messages);
        Ok(Outcome::Expunged { uids: gone, modseq })
    }
}
