//! The store through the door of the engine.
#![allow(clippy::cast_possible_truncation, clippy::format_push_string, reason = "the numbers and texts here are small")]

mod parts;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use rockdove_mail::{FlagUpdate, Flags, Keyword, MailboxName, SpecialUse, SystemFlags, Uid, UidSet};

use crate::{
    command::{
        AccountId, AppendMessage, Command, Credential, Delivery, EngineError, InternalDate, MailboxId, MessageId,
        Outcome,
    },
    engine::{Engine, EngineOptions},
    kv::{Family, Kv as _, KvError, Read as _, SharedKv, memory::MemoryKv},
    store::{StagedMessage, account::AccountSlot, parts::PART_GRACE_S},
};

const NOW: i64 = 1_800_000_000;

pub(crate) struct House {
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) engine: Arc<Engine>,
}

fn credential() -> Credential {
    Credential {
        argon2: "!".into(),
        scram_salt: vec![1],
        scram_iterations: 4096,
        scram_stored_key: [1; 32],
        scram_server_key: [2; 32],
    }
}

impl House {
    fn new(options: EngineOptions) -> Self {
        let kv = Arc::new(MemoryKv::recording());
        Self::open(kv, options)
    }

    fn open(kv: Arc<MemoryKv>, options: EngineOptions) -> Self {
        let shared: SharedKv = Arc::clone(&kv) as SharedKv;
        Self { engine: Engine::open(shared, options).expect("opens"), kv }
    }

    fn with_accounts(count: u32) -> (Self, Vec<AccountId>) {
        let house = Self::new(EngineOptions::default());
        house.run(Command::CreateDomain { domain: "a.example".into() });
        let accounts = (0..count).map(|number| house.account(&format!("u{number}@a.example"))).collect();
        (house, accounts)
    }

    fn account(&self, address: &str) -> AccountId {
        let command = Command::CreateAccount { address: address.into(), credential: credential(), quota_bytes: None };
        match self.run(command) {
            Outcome::Account(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn run(&self, command: Command) -> Outcome {
        self.engine.execute(NOW, command).expect("accepted")
    }

    fn stage(&self, bytes: &[u8]) -> Arc<StagedMessage> {
        let mut staging = self.engine.stage();
        for chunk in bytes.chunks(10_007) {
            staging.write(chunk).expect("taken");
        }
        let staged = staging.finish().expect("staged");
        assert!(self.engine.staged_octets(&staged).expect("readable") == bytes, "it is read before it is delivered");
        staged
    }

    fn append(&self, account: AccountId, mailbox: MailboxId, bytes: &[u8], flags: Flags) -> Uid {
        let message = self.stage(bytes);
        let internal_date = InternalDate { unix_s: NOW - 5, offset_minutes: 60 };
        let messages = vec![AppendMessage { message, flags, internal_date }];
        match self.run(Command::Append { account, mailbox, messages }) {
            Outcome::Appended { uids, .. } => uids[0],
            other => panic!("{other:?}"),
        }
    }

    fn mailbox(&self, account: AccountId, name: &str) -> MailboxId {
        let list = self.engine.mailboxes(account).expect("there");
        list.by_name(&named(name)).expect("mailbox").id
    }

    fn whole(&self, account: AccountId, message: MessageId) -> Bytes {
        let record = self.engine.record(account, message).expect("record");
        self.engine.read(account, &record, 0..u64::MAX).expect("readable")
    }

    fn again(&self) -> Self {
        Self::open(Arc::clone(&self.kv), EngineOptions::default())
    }

    /// Everything that can be seen of an account.
    fn seen(&self, account: AccountId) -> String {
        let list = self.engine.mailboxes(account).expect("there");
        let mut text = format!("{list:?} {:?}\n", self.engine.quota(account));
        for mailbox in list.mailboxes() {
            let view = self.engine.mailbox(account, mailbox.id).expect("view");
            let entries: Vec<_> = view.changed_since(0).collect();
            assert_eq!(entries.len() as u32, view.exists());
            assert_eq!(view.status(), &self.engine.status(account, mailbox.id).expect("status"));
            let unseen = entries.iter().filter(|entry| !entry.flags.system.contains(SystemFlags::SEEN)).count();
            assert_eq!(unseen as u32, view.status().unseen);
            text += &format!("{:?} {entries:?} {:?}\n", view.status(), view.vanished_since(0));
            for entry in entries {
                let bytes = self.whole(account, entry.message);
                assert_eq!(bytes.len() as u64, entry.size_bytes);
                text += &format!("{}\n", blake3::hash(&bytes));
            }
        }
        text
    }

    fn rows(&self, family: Family) -> usize {
        self.kv.dump().iter().filter(|(of, _, _)| *of == family).count()
    }
}

fn named(name: &str) -> MailboxName {
    MailboxName::new(name).expect("a name")
}

fn mail(subject: &str, body_bytes: usize) -> Vec<u8> {
    let mut mail = format!("From: a@b.example\r\nSubject: {subject}\r\n\r\n").into_bytes();
    let mut hash = blake3::Hasher::new();
    hash.update(subject.as_bytes());
    let mut noise = vec![0; body_bytes];
    hash.finalize_xof().fill(&mut noise);
    mail.extend(noise.iter().map(|byte| b'a' + byte % 26));
    mail.extend_from_slice(b"\r\n");
    mail
}

fn keyword(name: &str) -> Flags {
    Flags { keywords: vec![Keyword::new(name).expect("an atom")], ..Flags::default() }
}

fn deliver(account: AccountId, trace: &str) -> Delivery {
    Delivery {
        account,
        mailbox: MailboxName::inbox(),
        trace_header: Bytes::copy_from_slice(trace.as_bytes()),
        flags: Flags::default(),
        internal_date: InternalDate { unix_s: NOW, offset_minutes: 0 },
    }
}

#[test]
fn a_new_account_has_the_usual_mailboxes() {
    let (house, accounts) = House::with_accounts(1);
    let list = house.engine.mailboxes(accounts[0]).expect("there");
    let names: Vec<_> = list.mailboxes().iter().map(|mailbox| mailbox.name.as_str()).collect();
    assert_eq!(names, ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]);
    assert_eq!(list.subscriptions().len(), 6);
    assert_eq!(list.by_name(&named("Junk")).and_then(|junk| junk.special_use), Some(SpecialUse::Junk));
    assert_eq!(house.again().seen(accounts[0]), house.seen(accounts[0]));
}

#[test]
fn messages_come_out_as_they_went_in() {
    let (house, accounts) = House::with_accounts(1);
    let inbox = house.mailbox(accounts[0], "INBOX");
    for (number, size) in [0, 10, 4_000, 5_000, 262_000, 262_144, 300_000, 1_000_000].into_iter().enumerate() {
        let bytes = mail(&format!("m{number}"), size);
        let uid = house.append(accounts[0], inbox, &bytes, Flags::system(SystemFlags::SEEN));
        let view = house.engine.mailbox(accounts[0], inbox).expect("view");
        let entry = view.entry(uid).expect("there");
        assert_eq!(entry.size_bytes, bytes.len() as u64);
        assert_eq!(house.whole(accounts[0], entry.message), bytes);
        let record = house.engine.record(accounts[0], entry.message).expect("record");
        let middle = record.size_bytes / 3..record.size_bytes / 2;
        let cut = house.engine.read(accounts[0], &record, middle.clone()).expect("readable");
        assert_eq!(cut, bytes[middle.start as usize..middle.end as usize]);
        assert_eq!(&bytes[record.header.end as usize - 4..record.header.end as usize], b"\r\n\r\n");
    }
    assert_eq!(house.again().seen(accounts[0]), house.seen(accounts[0]));
    let empty = house.stage(b"");
    assert_eq!(empty.size_bytes(), 0);
}

#[test]
fn one_body_serves_all_recipients() {
    let (house, accounts) = House::with_accounts(50);
    let bytes = mail("to all", 100_000);
    let message = house.stage(&bytes);
    let deliveries: Vec<_> =
        accounts.iter().map(|account| deliver(*account, &format!("Delivered-To: {}\r\n", account.0))).collect();
    let Outcome::Delivered(delivered) = house.run(Command::Deliver { message, deliveries }) else { panic!() };
    assert_eq!(house.rows(Family::Part), 1);
    for (account, to) in accounts.iter().zip(delivered) {
        let whole = house.whole(*account, to.message);
        assert_eq!(whole, [format!("Delivered-To: {}\r\n", account.0).as_bytes(), &bytes].concat());
        let record = house.engine.record(*account, to.message).expect("record");
        assert_eq!(house.engine.read(*account, &record, record.header.clone()).expect("header").last(), Some(&b'\n'));
    }
    for (number, account) in accounts.iter().enumerate() {
        let mailbox = house.mailbox(*account, "INBOX");
        house.run(Command::Expunge { account: *account, mailbox, uids: None, deleted_only: false });
        let late = NOW + PART_GRACE_S + 1;
        let collected = house.engine.collect_parts(late, 10).expect("collects");
        assert_eq!(collected, usize::from(number + 1 == accounts.len()), "only the last reference frees the part");
    }
    assert_eq!(house.rows(Family::Part) + house.rows(Family::Reference) + house.rows(Family::Message), 0);
}

#[test]
fn abandoned_messages_are_collected_and_live_ones_are_not() {
    let (house, accounts) = House::with_accounts(1);
    let mut staging = house.engine.stage();
    staging.write(&mail("big", 700_000)).expect("taken");
    assert_eq!(house.engine.collect_parts(NOW, 10), Ok(0), "it is still coming in");
    let staged = staging.finish().expect("staged");
    assert_eq!(house.engine.collect_parts(NOW, 10), Ok(0), "it is ready to be delivered");
    drop(staged);
    assert_eq!(house.engine.collect_parts(NOW, 10), Ok(1));
    assert_eq!(house.rows(Family::Part) + house.rows(Family::Reference), 0);
    let inbox = house.mailbox(accounts[0], "INBOX");
    house.append(accounts[0], inbox, &mail("big", 700_000), Flags::default());
    assert_eq!(house.engine.collect_parts(NOW * 2, 10), Ok(0));
    assert_eq!(house.rows(Family::Part), 3);
}

#[test]
fn flags_are_set_added_and_removed() {
    let (house, accounts) = House::with_accounts(1);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    for number in 0..5 {
        house.append(account, mailbox, &mail(&number.to_string(), 10), Flags::default());
    }
    let store = |uids: UidSet, update, flags: Flags, unchanged_since| match house.run(Command::StoreFlags {
        account,
        mailbox,
        uids,
        update,
        flags,
        unchanged_since,
    }) {
        Outcome::Stored(stored) => stored,
        other => panic!("{other:?}"),
    };
    let first = store(UidSet::range(2, 9), FlagUpdate::Add, keyword("$Work"), None);
    assert_eq!(first.rows.len(), 4);
    assert!(first.rows.iter().all(|row| row.modseq == first.modseq));
    let same = store(UidSet::range(2, 3), FlagUpdate::Add, keyword("$WORK"), None);
    assert_eq!((same.modseq, same.rows.len(), same.rows[0].modseq), (0, 2, first.modseq), "nothing changed");
    let seen = Flags::system(SystemFlags::SEEN);
    let late = store(UidSet::range(1, 5), FlagUpdate::Replace, seen.clone(), Some(first.modseq - 1));
    assert_eq!((late.rows.len(), late.modified), (1, UidSet::range(2, 5)));
    let view = house.engine.mailbox(account, mailbox).expect("view");
    assert_eq!(view.first_unseen(), Some(2));
    assert_eq!(view.changed_since(first.modseq).map(|entry| entry.uid).collect::<Vec<_>>(), [1]);
    assert_eq!(view.entry(3).expect("there").flags, keyword("$Work"));
    store(UidSet::range(1, 5), FlagUpdate::Remove, keyword("$work"), None);
    let view = house.engine.mailbox(account, mailbox).expect("view");
    assert!(view.entries(&UidSet::range(2, 5)).all(|entry| entry.flags == Flags::default()));
    assert_eq!(house.again().seen(account), house.seen(account));
}

#[test]
fn copies_share_the_message_and_moves_keep_it() {
    let (house, accounts) = House::with_accounts(1);
    let (account, from) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    let to = house.mailbox(account, "Archive");
    for number in 0..3 {
        house.append(account, from, &mail(&number.to_string(), 5_000), keyword("$A"));
    }
    house.append(account, to, &mail("x", 1), keyword("$B"));
    let records = house.rows(Family::Message);
    let used = house.engine.quota(account).expect("quota");
    let outcome = house.run(Command::Copy { account, from, uids: UidSet::range(1, 2), to });
    let Outcome::Copied { from: sources, to: targets, .. } = outcome else { panic!() };
    assert_eq!((sources, targets), (vec![1, 2], vec![2, 3]));
    assert_eq!(house.rows(Family::Message), records + 2, "a count for each, no record");
    let copied = house.engine.mailbox(account, to).expect("view").entry(2).expect("there");
    assert_eq!(copied.flags, keyword("$A"));
    assert_eq!(house.engine.quota(account).expect("quota").messages, used.messages + 2);
    house.run(Command::Move { account, from, uids: UidSet::range(1, 3), to });
    let view = house.engine.mailbox(account, from).expect("view");
    assert_eq!((view.exists(), view.vanished_since(0), view.uid_next()), (0, UidSet::range(1, 3), 4));
    assert_eq!(house.engine.mailbox(account, to).expect("view").exists(), 6);
    house.run(Command::Expunge { account, mailbox: to, uids: Some(UidSet::range(2, 3)), deleted_only: false });
    assert_eq!(house.engine.mailbox(account, to).expect("view").exists(), 4);
    assert_eq!(house.again().seen(account), house.seen(account));
    house.run(Command::Move { account, from: to, uids: UidSet::range(1, 9), to });
    assert_eq!(house.again().seen(account), house.seen(account));
    house.run(Command::Expunge { account, mailbox: to, uids: None, deleted_only: false });
    assert_eq!(house.rows(Family::Message), 0);
    let empty = house.engine.quota(account).expect("quota");
    assert_eq!((empty.used_bytes, empty.messages), (0, 0));
}

#[test]
fn mailboxes_are_created_renamed_and_deleted() {
    let (house, accounts) = House::with_accounts(1);
    let account = accounts[0];
    let create =
        |name| house.engine.execute(NOW, Command::CreateMailbox { account, name: named(name), special_use: None });
    let rename =
        |from, to| house.engine.execute(NOW, Command::RenameMailbox { account, from: named(from), to: named(to) });
    let delete = |name| house.engine.execute(NOW, Command::DeleteMailbox { account, name: named(name) });
    let first = create("a/b/c").expect("created");
    assert!(matches!(create("a/b"), Err(EngineError::Exists(_))));
    assert!(matches!(create("inbox"), Err(EngineError::Exists(_))));
    assert!(matches!(rename("a", "a/x"), Err(EngineError::Invalid(_))));
    assert!(matches!(rename("nothing", "x"), Err(EngineError::NotFound(_))));
    assert!(matches!(rename("a", "Sent"), Err(EngineError::Exists(_))));
    rename("a", "q/r").expect("renamed");
    assert_eq!(Outcome::Mailbox(house.mailbox(account, "q/r/b/c")), first, "ids survive");
    let mailbox = house.mailbox(account, "q/r/b");
    house.append(account, mailbox, &mail("x", 9_000), Flags::default());
    let validity = house.engine.status(account, mailbox).expect("status").uid_validity;
    delete("q/r/b").expect("deleted");
    assert_eq!(house.rows(Family::Message), 0, "its messages went with it");
    assert!(house.engine.mailboxes(account).expect("list").has_children(&named("q/r/b")));
    assert!(matches!(delete("q/r/b"), Err(EngineError::NotFound(_))));
    assert!(matches!(delete("INBOX"), Err(EngineError::Invalid(_))));
    create("q/r/b").expect("created again");
    let again = house.engine.status(account, house.mailbox(account, "q/r/b")).expect("status");
    assert!(again.uid_validity > validity);
    let inbox = house.mailbox(account, "INBOX");
    house.append(account, inbox, &mail("y", 10), keyword("$K"));
    rename("INBOX", "old/mail").expect("renamed");
    assert_eq!(house.engine.status(account, inbox).expect("status").exists, 0);
    let old = house.engine.mailbox(account, house.mailbox(account, "old/mail")).expect("view");
    assert_eq!(old.entry(1).expect("moved").flags, keyword("$K"));
    house.run(Command::Subscribe { account, name: named("nowhere"), subscribed: true });
    house.run(Command::Subscribe { account, name: named("Sent"), subscribed: false });
    let list = house.engine.mailboxes(account).expect("list");
    assert!(list.is_subscribed(&named("nowhere")) && !list.is_subscribed(&named("Sent")));
    assert_eq!(house.again().seen(account), house.seen(account));
}

#[test]
fn many_messages_fold_and_one_store_writes_few_rows() {
    let (house, accounts) = House::with_accounts(1);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    let message = house.stage(&mail("same", 20));
    let internal_date = InternalDate { unix_s: NOW, offset_minutes: 0 };
    let one = AppendMessage { message, flags: Flags::default(), internal_date };
    for _ in 0..40 {
        house.run(Command::Append { account, mailbox, messages: vec![one.clone(); 100] });
    }
    for _ in 0..300 {
        house.run(Command::Append { account, mailbox, messages: vec![one.clone()] });
    }
    assert_eq!(house.again().seen(account), house.seen(account));
    let writes = house.kv.writes();
    let before = house.kv.dump();
    let flags = Flags::system(SystemFlags::DELETED);
    let uids = UidSet::range(1, u32::MAX);
    house.run(Command::StoreFlags { account, mailbox, uids, update: FlagUpdate::Add, flags, unchanged_since: None });
    assert_eq!(house.kv.writes(), writes + 1);
    let changed = house.kv.dump().iter().filter(|row| before.binary_search(row).is_err()).count();
    assert!(changed <= 5 + 3, "4,300 messages in 5 segments, {changed} rows");
    house.run(Command::Expunge { account, mailbox, uids: Some(UidSet::range(1000, 3000)), deleted_only: true });
    let view = house.engine.mailbox(account, mailbox).expect("view");
    assert_eq!((view.exists(), view.vanished_since(0)), (4300 - 2001, UidSet::range(1000, 3000)));
    assert_eq!((view.uid_at(998), view.uid_at(999), view.position(3001)), (Some(999), Some(3001), 999));
    assert_eq!(view.uid_at(view.exists()), None);
    assert_eq!(house.again().seen(account), house.seen(account));
}

#[test]
fn a_failed_write_leaves_nothing_and_uids_are_not_used_again() {
    let (house, accounts) = House::with_accounts(2);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    house.append(account, mailbox, &mail("1", 10), Flags::default());
    let before = house.seen(account);
    let (failed, asked) = (Arc::new(AtomicUsize::new(0)), 5);
    house.kv.fail_write(0, KvError::Busy("full".into()));
    for number in 0..asked {
        let failed = Arc::clone(&failed);
        let message = house.stage(&mail("2", 10));
        let deliveries = vec![deliver(accounts[number % 2], ""), deliver(accounts[0], "")];
        let done = Box::new(move |outcome: Result<Outcome, EngineError>| {
            assert!(matches!(outcome, Err(EngineError::Unavailable(_))), "{outcome:?}");
            failed.fetch_add(1, Ordering::Relaxed);
        });
        house.engine.submit(NOW, Command::Deliver { message, deliveries }, done);
    }
    while house.engine.commit_pending(std::time::Duration::ZERO) {}
    assert_eq!(failed.load(Ordering::Relaxed), asked);
    assert_eq!(house.again().seen(account), before, "nothing of it is on disk");
    let uid = house.append(account, mailbox, &mail("3", 10), Flags::default());
    assert!(uid > 2, "uid {uid} was given to a message that failed");
    assert_eq!(house.again().seen(account), house.seen(account));
    assert_eq!(house.again().seen(accounts[1]), house.seen(accounts[1]));
}

#[test]
fn uidnext_never_falls_back_after_a_failed_write() {
    let (house, accounts) = House::with_accounts(1);
    let (account, inbox, sent) = (accounts[0], house.mailbox(accounts[0], "INBOX"), house.mailbox(accounts[0], "Sent"));
    house.kv.fail_write(0, KvError::Busy("full".into()));
    let message = house.stage(&mail("1", 10));
    let deliveries = vec![deliver(account, "")];
    assert!(house.engine.execute(NOW, Command::Deliver { message, deliveries }).is_err());
    house.append(account, sent, &mail("2", 10), Flags::default());
    let told = house.engine.status(account, inbox).expect("status").uid_next;
    assert_eq!(house.again().engine.status(account, inbox).expect("status").uid_next, told);
}

#[test]
fn no_message_is_refused_for_a_keyword_too_many() {
    let (house, accounts) = House::with_accounts(1);
    let (account, inbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    let all: Vec<_> = (0..64).map(|number| Keyword::new(&format!("k{number}")).expect("an atom")).collect();
    let flags = Flags { keywords: all, ..Flags::default() };
    let uid = house.append(account, inbox, &mail("1", 10), flags);
    let one_more = Keyword::new("k64").expect("an atom");
    let flags = Flags { keywords: vec![one_more, Keyword::new("K5").expect("an atom")], ..Flags::default() };
    let message = house.stage(&mail("2", 10));
    house
        .run(Command::Deliver { message, deliveries: vec![Delivery { flags: flags.clone(), ..deliver(account, "") }] });
    let delivered = house.engine.mailbox(account, inbox).expect("view").entry(uid + 1).expect("there");
    assert_eq!(delivered.flags, keyword("k5"));
    let uids = UidSet::range(uid, uid);
    let store =
        Command::StoreFlags { account, mailbox: inbox, uids, update: FlagUpdate::Add, flags, unchanged_since: None };
    assert!(matches!(house.engine.execute(NOW, store), Err(EngineError::Limit(_))));
    let full = Flags {
        keywords: vec![Keyword::new("k64").expect("an atom"), Keyword::new("K5").expect("an atom")],
        ..Flags::default()
    };
    let appended = house.append(account, inbox, &mail("3", 10), full.clone());
    house.run(Command::CreateMailbox { account, name: named("other"), special_use: None });
    let other = house.mailbox(account, "other");
    let first = house.append(account, other, &mail("4", 10), full);
    let uids = UidSet::range(first, first);
    let Outcome::Copied { to: copied, .. } = house.run(Command::Copy { account, from: other, to: inbox, uids }) else {
        panic!("copied")
    };
    for uid in [appended, copied[0]] {
        let entry = house.engine.mailbox(account, inbox).expect("view").entry(uid).expect("there");
        assert_eq!(entry.flags, keyword("k5"), "the message is there, and what has room");
    }
}

#[test]
fn a_delivery_to_nobody_leaves_nothing() {
    let (house, _) = House::with_accounts(1);
    let message = house.stage(&mail("1", 9_000));
    assert_eq!(house.run(Command::Deliver { message, deliveries: Vec::new() }), Outcome::Delivered(Vec::new()));
    assert_eq!(house.rows(Family::Part) + house.rows(Family::Reference), 0);
}

#[test]
fn a_mailbox_may_be_renamed_to_the_missing_name_above_it() {
    let (house, accounts) = House::with_accounts(1);
    let account = accounts[0];
    for name in ["x/x/x", "y"] {
        house.run(Command::CreateMailbox { account, name: named(name), special_use: None });
    }
    let below = house.mailbox(account, "x/x/x");
    house.run(Command::DeleteMailbox { account, name: named("x/x") });
    house.run(Command::RenameMailbox { account, from: named("y"), to: named("x/x") });
    house.run(Command::DeleteMailbox { account, name: named("x") });
    house.run(Command::RenameMailbox { account, from: named("x/x"), to: named("x") });
    assert_eq!(house.mailbox(account, "x/x"), below);
}

#[test]
fn an_account_stays_in_memory_while_somebody_reads_it() {
    let slot = AccountSlot::new(AccountId(1));
    let (house, _) = House::with_accounts(1);
    let reading = slot.published(&*house.kv).expect("there");
    assert!(!slot.evict());
    drop(reading);
    assert!(slot.evict());
    assert!(slot.published_cached().is_none());
}

#[test]
fn messages_stay_recent_while_their_account_is_out_of_memory() {
    let (house, accounts) = House::with_accounts(1);
    let (account, inbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    house.append(account, inbox, &mail("1", 10), Flags::default());
    assert!(house.engine.slot(account).evict());
    house.engine.mailbox(account, inbox).expect("view");
    assert_eq!(house.engine.claim_recent(account, inbox, 2), 1);
    assert_eq!(house.engine.claim_recent(account, inbox, 2), 2);
}

#[test]
fn accounts_that_are_only_listed_leave_memory_too() {
    let (house, accounts) = House::with_accounts(30);
    let options = EngineOptions { segment_cache_bytes_max: 20_000, ..EngineOptions::default() };
    let house = House::open(Arc::clone(&house.kv), options);
    let slots: Vec<_> = accounts.iter().map(|account| house.engine.slot(*account)).collect();
    for account in &accounts {
        house.engine.mailboxes(*account).expect("list");
    }
    assert!(slots.iter().filter(|slot| slot.published_cached().is_some()).count() < 15);
}

#[test]
fn what_is_planned_shows_only_when_durable() {
    let (house, accounts) = House::with_accounts(1);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    house.engine.on_change(Box::new(move |notices| listener.lock().expect("lock").extend_from_slice(notices)));
    let view = house.engine.mailbox(account, mailbox).expect("view");
    for number in 0..3 {
        let message = house.stage(&mail(&number.to_string(), 10));
        let command = Command::Deliver { message, deliveries: vec![deliver(account, "")] };
        house.engine.submit(NOW, command, Box::new(|outcome| drop(outcome.expect("accepted"))));
    }
    let all = Some(UidSet::range(1, 2));
    let expunge = Command::Expunge { account, mailbox, uids: all, deleted_only: false };
    house.engine.submit(NOW, expunge, Box::new(|outcome| drop(outcome.expect("accepted"))));
    assert_eq!(house.engine.mailbox(account, mailbox).expect("view").exists(), 0);
    assert!(told.lock().expect("lock").is_empty());
    let writes = house.kv.writes();
    assert!(house.engine.commit_pending(std::time::Duration::ZERO));
    assert_eq!(house.kv.writes(), writes + 1, "one group, one write");
    assert_eq!(house.engine.mailbox(account, mailbox).expect("view").exists(), 1);
    assert_eq!(view.exists(), 0, "a view never changes");
    assert_eq!(told.lock().expect("lock").len(), 1);
    assert_eq!(house.rows(Family::Message), 1, "a message planned and expunged in one group leaves nothing");
    assert_eq!(house.again().seen(account), house.seen(account));
}

#[test]
fn accounts_leave_memory_and_come_back() {
    let kv = Arc::new(MemoryKv::recording());
    let house = House::open(kv, EngineOptions { segment_cache_bytes_max: 20_000, ..EngineOptions::default() });
    house.run(Command::CreateDomain { domain: "a.example".into() });
    let accounts: Vec<_> = (0..30).map(|number| house.account(&format!("u{number}@a.example"))).collect();
    for round in 0..3 {
        for account in &accounts {
            let message = house.stage(&mail(&round.to_string(), 10));
            house.run(Command::Deliver { message, deliveries: vec![deliver(*account, "")] });
        }
    }
    for account in &accounts {
        assert_eq!(house.engine.mailbox(*account, house.mailbox(*account, "INBOX")).expect("view").exists(), 3);
        assert_eq!(house.again().seen(*account), house.seen(*account));
    }
    let options = EngineOptions { segment_cache_bytes_max: 20_000, ..EngineOptions::default() };
    let again = House::open(Arc::clone(&house.kv), options);
    for account in &accounts {
        again.engine.mailboxes(*account).expect("there");
    }
    let there = accounts.iter().filter(|account| again.engine.mailboxes_cached(**account).is_some()).count();
    assert!((1..20).contains(&there), "{there} accounts that were only listed are still in memory");
}

#[test]
fn quota_and_removal() {
    let (house, accounts) = House::with_accounts(2);
    let account = accounts[0];
    let address = "u0@a.example".to_owned();
    house.run(Command::SetQuota { address: address.clone(), quota_bytes: Some(10_000) });
    let message = house.stage(&mail("x", 6_000));
    let both = vec![deliver(accounts[1], ""), deliver(account, "")];
    house.run(Command::Deliver { message: Arc::clone(&message), deliveries: both.clone() });
    let refused = house.engine.execute(NOW, Command::Deliver { message: Arc::clone(&message), deliveries: both });
    assert_eq!(refused, Err(EngineError::OverQuota));
    assert_eq!(house.engine.quota(accounts[1]).expect("quota").messages, 1, "all or none");
    let inbox = house.mailbox(account, "INBOX");
    let copy = Command::Copy { account, from: inbox, uids: UidSet::range(1, 1), to: inbox };
    assert_eq!(house.engine.execute(NOW, copy), Err(EngineError::OverQuota), "copies count");
    drop(message);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    house.engine.on_change(Box::new(move |notices| heard.lock().expect("lock").extend_from_slice(notices)));
    house.run(Command::RemoveAccount { address });
    assert!(told.lock().expect("lock").iter().any(|notice| notice.mailboxes.contains(&inbox)), "who watches it hears");
    assert!(matches!(house.engine.mailboxes(account), Err(EngineError::NotFound(_))));
    let sweep = || while house.engine.sweep_removed(NOW).expect("a slice") {};
    sweep();
    let prefix = account.0.to_be_bytes();
    for family in [Family::Account, Family::Segment, Family::Message] {
        assert!(!house.kv.dump().iter().any(|(of, key, _)| *of == family && key.starts_with(&prefix)));
    }
    assert_eq!(house.engine.collect_parts(NOW * 2, 10), Ok(0), "the other still needs the part");
    house.run(Command::RemoveAccount { address: "u1@a.example".into() });
    sweep();
    assert_eq!(house.engine.collect_parts(NOW * 2, 10), Ok(1));
    assert_eq!(house.rows(Family::Reference), 0);
    assert_ne!(house.account("u0@a.example"), account, "ids do not come twice");
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let house = House::new(EngineOptions { message_size_max: 1_000, ..EngineOptions::default() });
    let mut staging = house.engine.stage();
    assert_eq!(staging.write(&[b'x'; 1_000]), Ok(()));
    assert!(matches!(staging.write(b"y"), Err(EngineError::Limit(_))));
    assert!(matches!(staging.finish(), Err(EngineError::Limit(_))));
    assert!(house.kv.get(Family::Sys, &[0]).expect("reads").is_some());
    drop(house.kv.snapshot());
}

#[test]
fn recent_messages_are_told_once() {
    let (house, accounts) = House::with_accounts(1);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    house.append(account, mailbox, &mail("1", 10), Flags::default());
    assert_eq!(house.engine.claim_recent(account, mailbox, 2), 1);
    assert_eq!(house.engine.claim_recent(account, mailbox, 2), 2);
    house.append(account, mailbox, &mail("2", 10), Flags::default());
    assert_eq!(house.engine.recent_from(account, mailbox, 3), 2, "looking claims nothing");
    assert_eq!(house.engine.claim_recent(account, mailbox, 3), 2);
    assert_eq!(house.engine.recent_from(account, mailbox, 3), 3);
}

#[test]
fn what_needs_no_disk_is_answered_from_memory_alone() {
    let (house, accounts) = House::with_accounts(1);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    for subject in ["1", "2", "3"] {
        house.append(account, mailbox, &mail(subject, 10), Flags::default());
    }
    let again = house.again();
    assert!(again.engine.mailboxes_cached(account).is_none());
    assert!(again.engine.status_cached(account, mailbox).is_none());
    let status = again.engine.status(account, mailbox).expect("status");
    assert_eq!(again.engine.status_cached(account, mailbox), Some(status));
    assert!(again.engine.snapshot_cached(account, mailbox).is_none(), "its entries are not in memory");
    let (view, modseq) = again.engine.snapshot(account, mailbox).expect("snapshot");
    assert!(again.engine.snapshot_cached(account, mailbox).is_some());
    let elsewhere = again.mailbox(account, "Sent");
    again.append(account, elsewhere, &mail("4", 10), Flags::default());
    let (same, later) = again.engine.snapshot(account, mailbox).expect("snapshot");
    assert!(same.same_as(&view) && later > modseq && modseq >= view.highest_modseq());
    assert_eq!(view.uids_from(2), UidSet::range(2, 3));
    assert_eq!(view.uids_from(4), UidSet::new());
    assert_eq!(view.uids_from(0), view.uids());
    assert_eq!(view.highest_modseq_of(&UidSet::range(3, 900)), view.highest_modseq());
    assert!(view.highest_modseq_of(&UidSet::range(1, 2)) < view.highest_modseq());
    assert_eq!(view.highest_modseq_of(&UidSet::range(4, 5_000)), 0);
}

#[test]
fn one_message_takes_the_place_of_another() {
    let (house, accounts) = House::with_accounts(2);
    let (account, other) = (accounts[0], accounts[1]);
    let (drafts, sent) = (house.mailbox(account, "Drafts"), house.mailbox(account, "Sent"));
    house.append(account, drafts, &mail("one", 5_000), Flags::default());
    let limit = house.engine.quota(account).expect("quota").used_bytes + 100;
    house.run(Command::SetQuota { address: "u0@a.example".into(), quota_bytes: Some(limit) });
    let replace = |text: &str, size, to_account, to, uid| {
        let internal_date = InternalDate { unix_s: NOW - 5, offset_minutes: 60 };
        let message = AppendMessage { message: house.stage(&mail(text, size)), flags: Flags::default(), internal_date };
        let (account, mailbox, from_account, from) = (to_account, to, account, drafts);
        house.engine.execute(NOW, Command::Replace { account, mailbox, message, from_account, from, uid })
    };
    // There is no room for both.
    assert!(matches!(replace("two", 5_000, account, drafts, 1), Ok(Outcome::Appended { .. })));
    let view = house.engine.mailbox(account, drafts).expect("view");
    assert_eq!((view.exists(), view.vanished_since(0), view.uid_next()), (1, UidSet::range(1, 1), 3));
    // What is not there is not replaced, and what does not fit replaces nothing.
    let before = house.seen(account);
    assert!(matches!(replace("three", 10, account, drafts, 1), Err(EngineError::Invalid(_))));
    assert!(matches!(replace("three", 50_000, account, sent, 2), Err(EngineError::OverQuota)));
    assert_eq!(house.seen(account), before);
    assert!(matches!(replace("three", 10, account, sent, 2), Ok(Outcome::Appended { .. })));
    house.append(account, drafts, &mail("four", 10), Flags::default());
    let theirs = house.mailbox(other, "INBOX");
    assert!(matches!(replace("five", 9_000, other, theirs, 3), Ok(Outcome::Appended { .. })));
    let exists = |account, mailbox| house.engine.mailbox(account, mailbox).expect("view").exists();
    assert_eq!((exists(account, drafts), exists(account, sent), exists(other, theirs)), (0, 1, 1));
    for account in [account, other] {
        assert_eq!(house.again().seen(account), house.seen(account));
    }
}
