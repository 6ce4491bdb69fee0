//! What is expunged or deleted and comes back, in the model: in plain lists.

use rockdove_engine::{Deleted, DeletedMailbox, DeletedMessage, DeletedUse, MailboxId, MessageId, Outcome};
use rockdove_mail::{MailboxName, ModSeq, SystemFlags};

use crate::model::{Account, Mailbox, Message, No, lower};

/// For how long histories keep what is expunged: short, so that it happens.
pub(crate) const KEPT_S: u64 = 60;
/// How much of it.
pub(crate) const KEPT_BYTES: u64 = 600_000;

/// What one expunge took of one segment.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    when: i64,
    modseq: ModSeq,
    mailbox: MailboxId,
    segment: u32,
    messages: Vec<Message>,
}

fn size(messages: &[Message]) -> u64 {
    messages.iter().map(|message| message.content.len() as u64).sum()
}

impl Account {
    pub(crate) fn keep(&mut self, now: i64, mailbox: MailboxId, gone: &[Message]) {
        for some in gone.chunk_by(|a, b| a.uid / 1_024 == b.uid / 1_024) {
            let (modseq, segment) = (self.modseq, some[0].uid / 1_024);
            self.kept.push(Kept { when: now, modseq, mailbox, segment, messages: some.to_vec() });
        }
        self.kept.sort_by_key(|kept| (kept.when, kept.modseq, kept.mailbox, kept.segment));
    }

    pub(crate) fn hide(&mut self, now: i64, mailbox: Mailbox) {
        let last = self.kept.last().map_or(0, |kept| kept.when);
        if mailbox.uid_free > 1 {
            self.hidden.push((now.max(last), mailbox));
        }
        self.hidden.sort_by_key(|(_, mailbox)| mailbox.id);
    }

    pub(crate) fn deleted_use(&self) -> DeletedUse {
        let kept = self.kept.iter().map(|kept| &kept.messages);
        let all = kept.chain(self.hidden.iter().map(|(_, mailbox)| &mailbox.messages));
        let add = |sum: DeletedUse, messages: &Vec<Message>| DeletedUse {
            bytes: sum.bytes + size(messages),
            messages: sum.messages + messages.len() as u64,
        };
        all.fold(DeletedUse::default(), add)
    }

    fn origin(&self, id: MailboxId) -> &Mailbox {
        let hidden = self.hidden.iter().map(|(_, mailbox)| mailbox);
        self.mailboxes.iter().chain(hidden).find(|mailbox| mailbox.id == id).expect("what is kept has a mailbox")
    }

    pub(crate) fn deleted_messages(&self) -> Vec<DeletedMessage> {
        let told = |when: i64, origin: &Mailbox, message: &Message| DeletedMessage {
            message: message.id,
            mailbox: origin.id,
            mailbox_name: Some(origin.name.clone()),
            uid: message.uid,
            deleted_unix_s: when,
            flags: origin.flags(message),
            internal_date: message.date,
            size_bytes: message.content.len() as u64,
        };
        let mut all = Vec::new();
        for kept in &self.kept {
            let origin = self.origin(kept.mailbox);
            all.extend(kept.messages.iter().map(|message| told(kept.when, origin, message)));
        }
        for (when, mailbox) in &self.hidden {
            all.extend(mailbox.messages.iter().map(|message| told(*when, mailbox, message)));
        }
        all
    }

    pub(crate) fn deleted_mailboxes(&self) -> Vec<DeletedMailbox> {
        let told = |(when, mailbox): &(i64, Mailbox)| DeletedMailbox {
            mailbox: mailbox.id,
            name: mailbox.name.clone(),
            deleted_unix_s: *when,
            messages: mailbox.messages.len() as u32,
            size_bytes: size(&mailbox.messages),
        };
        self.hidden.iter().map(told).collect()
    }

    pub(crate) fn restore(&mut self, now: i64, which: &Deleted, to: Option<&MailboxName>) -> Result<Outcome, No> {
        let before = self.modseq;
        let named: Vec<MailboxId> = match which {
            Deleted::Mailbox(name) => {
                let hidden = self.hidden.iter().map(|(_, mailbox)| mailbox);
                let all = self.mailboxes.iter().chain(hidden);
                all.filter(|mailbox| mailbox.name == *name).map(|mailbox| mailbox.id).collect()
            }
            _ => Vec::new(),
        };
        let ids: &[MessageId] = if let Deleted::Messages(ids) = which { ids } else { &[] };
        let whole = |when: i64, mailbox: MailboxId| match which {
            Deleted::Messages(_) | Deleted::Strays(_) => false,
            Deleted::Mailbox(_) => named.contains(&mailbox),
            Deleted::Since(since) => when >= *since,
        };
        let (mut messages, mut mailboxes) = (0, 0);
        let mut hidden: Vec<(i64, MailboxId)> = self.hidden.iter().map(|(when, mailbox)| (*when, mailbox.id)).collect();
        hidden.sort_unstable();
        for (when, id) in hidden.into_iter().rev() {
            let at = self.hidden.iter().position(|(_, mailbox)| mailbox.id == id).expect("hidden");
            let all = whole(when, id);
            if all && to.is_none() {
                self.modseq = before + 1;
                mailboxes += 1;
                messages += self.unhide(now, at)?;
                continue;
            }
            let (back, stay): (Vec<Message>, Vec<Message>) = std::mem::take(&mut self.hidden[at].1.messages)
                .into_iter()
                .partition(|message| all || ids.contains(&message.id));
            self.hidden[at].1.messages = stay;
            if !back.is_empty() {
                self.modseq = before + 1;
                messages += self.put_back(now, id, back, to)?;
            }
        }
        for kept in std::mem::take(&mut self.kept) {
            let all = whole(kept.when, kept.mailbox);
            let (back, stay): (Vec<Message>, Vec<Message>) =
                kept.messages.into_iter().partition(|message| all || ids.contains(&message.id));
            if !back.is_empty() {
                self.modseq = before + 1;
                messages += self.put_back(now, kept.mailbox, back, to)?;
            }
            if !stay.is_empty() {
                self.kept.push(Kept { messages: stay, ..kept });
            }
        }
        Ok(Outcome::Restored { messages, mailboxes, more: false })
    }

    fn unhide(&mut self, now: i64, at: usize) -> Result<u64, No> {
        self.room_for(size(&self.hidden[at].1.messages))?;
        let (_, mut mailbox) = self.hidden.remove(at);
        let mut names = (1..).map(|number| match number {
            1 => mailbox.name.clone(),
            2 => crate::history::name(&format!("{} (restored)", mailbox.name)),
            _ => crate::history::name(&format!("{} (restored {})", mailbox.name, number - 1)),
        });
        let name = names.find(|name| self.by_name(name).is_none()).expect("a free name");
        if let Some(parent) = name.parent()
            && self.by_name(&parent).is_none()
        {
            self.create(now, &parent, None);
        }
        mailbox.name = name;
        self.last_validity = (now as u32).max(self.last_validity + 1);
        mailbox.uid_validity = self.last_validity;
        (mailbox.highest, mailbox.was_hidden) = (self.modseq, true);
        for message in mailbox.messages.iter_mut().filter(|message| message.system.contains(SystemFlags::DELETED)) {
            message.system = message.system.without(SystemFlags::DELETED);
            message.modseq = self.modseq;
        }
        let count = mailbox.messages.len() as u64;
        self.mailboxes.push(mailbox);
        self.mailboxes.sort_by_key(|mailbox| mailbox.id);
        Ok(count)
    }

    fn put_back(
        &mut self,
        now: i64,
        origin: MailboxId,
        back: Vec<Message>,
        to: Option<&MailboxName>,
    ) -> Result<u64, No> {
        self.room_for(size(&back))?;
        let from = self.origin(origin).clone();
        let there = self.mailboxes.iter().position(|mailbox| mailbox.id == origin).filter(|_| to.is_none());
        let name = to.unwrap_or(&from.name);
        let at = there.or_else(|| self.by_name(name)).unwrap_or_else(|| self.create(now, name, None));
        let count = back.len() as u64;
        for message in back {
            let mut keywords = from.flags(&message).keywords;
            keywords.retain(|keyword| self.mailboxes[at].learn(std::slice::from_ref(keyword)).is_ok());
            let system = message.system.without(SystemFlags::DELETED);
            let message = Message { system, keywords: lower(&keywords), saved: now, ..message };
            let modseq = self.modseq;
            self.mailboxes[at].add(message, modseq);
        }
        Ok(count)
    }

    pub(crate) fn purge(&mut self, now: i64, everything: bool) -> Outcome {
        let mut messages = 0;
        loop {
            let kept = self.kept.first().map(|kept| kept.when);
            let hidden = self.hidden.iter().enumerate().map(|(at, (when, mailbox))| (*when, mailbox.id, at)).min();
            let Some(when) = kept.into_iter().chain(hidden.map(|(when, _, _)| when)).min() else { break };
            let due = when <= now - KEPT_S as i64 || self.deleted_use().bytes > KEPT_BYTES;
            if !(everything || due) {
                break;
            }
            if kept == Some(when) {
                messages += self.kept.remove(0).messages.len() as u64;
                continue;
            }
            let at = hidden.expect("it is the oldest").2;
            let mailbox = &mut self.hidden[at].1;
            let first = mailbox.messages.first().map(|message| message.uid / 1_024);
            let before = mailbox.messages.len();
            mailbox.messages.retain(|message| Some(message.uid / 1_024) != first);
            messages += (before - mailbox.messages.len()) as u64;
            if mailbox.messages.is_empty() {
                self.hidden.remove(at);
            }
        }
        Outcome::Purged { messages, more: false }
    }
}
