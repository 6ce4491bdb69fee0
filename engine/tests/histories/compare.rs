//! Whether everything that can be seen of an engine is what the model says.

use std::ops::ControlFlow;

use rockdove_engine::{AccountId, Engine, Entry, MailboxStatus, QuotaUsage};
use rockdove_mail::{SystemFlags, UidSet, search::SearchKey};

use crate::{
    history::Rng,
    model::{Mailbox, Message, Model},
};

/// UIDs up to which no mailbox forgets an expunge.
const REMEMBERED: u32 = 32 * 1024;

/// Compares everything; `rng` picks what is looked at more closely.
pub(crate) fn compare(engine: &Engine, model: &Model, rng: &mut Rng, when: &str) {
    let ids: Vec<AccountId> = model.accounts.keys().copied().collect();
    let mut known: Vec<AccountId> = engine.directory().accounts().iter().map(|account| account.id).collect();
    known.sort_unstable();
    assert_eq!(known, ids, "{when}: accounts");
    for id in ids {
        compare_account(engine, model, id, rng, when);
    }
}

/// Compares one account.
pub(crate) fn compare_account(engine: &Engine, model: &Model, id: AccountId, rng: &mut Rng, when: &str) {
    let when = &format!("{when}, account {}", id.0);
    let account = &model.accounts[&id];
    let quota = QuotaUsage { used_bytes: account.used(), messages: account.entries(), limit_bytes: account.quota };
    assert_eq!(engine.quota(id), Ok(quota), "{when}: quota");
    let list = engine.mailboxes(id).expect("there");
    let subscriptions: Vec<_> = account.subscriptions.iter().cloned().collect();
    assert_eq!(list.subscriptions(), subscriptions, "{when}: subscriptions");
    let mut mailboxes: Vec<&Mailbox> = account.mailboxes.iter().collect();
    mailboxes.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: Vec<_> =
        list.mailboxes().iter().map(|info| (info.id, &info.name, info.special_use, info.uid_validity)).collect();
    let expected: Vec<_> = mailboxes
        .iter()
        .map(|mailbox| (mailbox.id, &mailbox.name, mailbox.special_use, mailbox.uid_validity))
        .collect();
    assert_eq!(shown, expected, "{when}: list");
    assert_eq!(engine.deleted_use(id), Ok(account.deleted_use()), "{when}: what can be had again");
    assert_eq!(engine.deleted_mailboxes(id), Ok(account.deleted_mailboxes()), "{when}: deleted mailboxes");
    let mut deleted = Vec::new();
    let visit = &mut |message| {
        deleted.push(message);
        ControlFlow::Continue(())
    };
    engine.deleted_messages(id, visit).expect("can be read");
    assert_eq!(deleted, account.deleted_messages(), "{when}: deleted messages");
    for mailbox in mailboxes {
        compare_mailbox(engine, id, mailbox, rng, &format!("{when}, {}", mailbox.name));
    }
}

fn status(mailbox: &Mailbox) -> MailboxStatus {
    let count = |flag| mailbox.messages.iter().filter(|message| message.system.contains(flag)).count() as u32;
    let exists = mailbox.messages.len() as u32;
    MailboxStatus {
        uid_validity: mailbox.uid_validity,
        uid_next: mailbox.uid_next,
        highest_modseq: mailbox.highest,
        exists,
        unseen: exists - count(SystemFlags::SEEN),
        deleted: count(SystemFlags::DELETED),
        size_bytes: mailbox.messages.iter().map(|message| message.content.len() as u64).sum(),
    }
}

fn entry(mailbox: &Mailbox, message: &Message) -> Entry {
    Entry {
        uid: message.uid,
        message: message.id,
        flags: mailbox.flags(message),
        modseq: message.modseq,
        internal_date: message.date,
        save_date_unix_s: message.saved,
        size_bytes: message.content.len() as u64,
    }
}

fn compare_mailbox(engine: &Engine, account: AccountId, mailbox: &Mailbox, rng: &mut Rng, when: &str) {
    let status = status(mailbox);
    assert_eq!(engine.status(account, mailbox.id).as_ref(), Ok(&status), "{when}: status");
    let view = engine.mailbox(account, mailbox.id).expect("there");
    assert_eq!(view.status(), &status, "{when}: view");
    assert_eq!(view.keywords(), mailbox.keywords, "{when}: keywords");
    let entries: Vec<Entry> = mailbox.messages.iter().map(|message| entry(mailbox, message)).collect();
    assert_eq!(view.entries(&UidSet::range(1, u32::MAX)).collect::<Vec<_>>(), entries, "{when}: entries");
    assert_eq!(view.uids(), entries.iter().map(|entry| entry.uid).collect(), "{when}: UIDs");
    let unseen = entries.iter().find(|entry| !entry.flags.system.contains(SystemFlags::SEEN));
    assert_eq!(view.first_unseen(), unseen.map(|entry| entry.uid), "{when}: first unseen");
    for since in [0, status.highest_modseq, rng.below(status.highest_modseq as usize + 1) as u64] {
        let newer: Vec<Entry> = entries.iter().filter(|entry| entry.modseq > since).cloned().collect();
        assert_eq!(view.changed_since(since).collect::<Vec<_>>(), newer, "{when}: changed since {since}");
        let vanished = view.vanished_since(since);
        let gone: UidSet = {
            let mut gone: Vec<_> =
                mailbox.gone.iter().filter(|(_, modseq)| *modseq > since).map(|(uid, _)| *uid).collect();
            gone.sort_unstable();
            gone.into_iter().collect()
        };
        if status.uid_next <= REMEMBERED && !mailbox.was_hidden {
            assert_eq!(vanished, gone, "{when}: vanished since {since}");
        }
        assert!(gone.difference(&vanished).is_empty(), "{when}: vanished since {since}");
        assert!(vanished.intersection(&view.uids()).is_empty(), "{when}: vanished since {since}");
        let found = engine.search(account, mailbox.id, &SearchKey::ModSeq(since + 1)).expect("searches");
        assert_eq!(found, newer.iter().map(|entry| entry.uid).collect::<Vec<_>>(), "{when}: search by mod-sequence");
    }
    for _ in 0..3 {
        let uid = 1 + rng.below(status.uid_next as usize + 2000) as u32;
        let place = entries.partition_point(|entry| entry.uid < uid);
        assert_eq!(view.position(uid) as usize, place, "{when}: position of {uid}");
        assert_eq!(view.uid_at(place as u32), entries.get(place).map(|entry| entry.uid), "{when}: UID at {place}");
        assert_eq!(view.entry(uid), entries.get(place).filter(|entry| entry.uid == uid).cloned(), "{when}: {uid}");
    }
    if !entries.is_empty() {
        compare_bytes(engine, account, rng.pick(&mailbox.messages), rng, when);
    }
}

fn compare_bytes(engine: &Engine, account: AccountId, message: &Message, rng: &mut Rng, when: &str) {
    let record = engine.record(account, message.id).expect("a record");
    let whole = engine.read(account, &record, 0..u64::MAX).expect("readable");
    assert!(whole == message.content[..], "{when}: bytes of UID {}", message.uid);
    let from = rng.below(whole.len());
    let until = from + rng.below(whole.len() - from);
    let piece = engine.read(account, &record, from as u64..until as u64).expect("readable");
    assert!(piece == whole.slice(from..until), "{when}: octets {from} to {until} of UID {}", message.uid);
}
