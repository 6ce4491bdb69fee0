//! Deleted mail that comes back or goes for good, and accounts that are removed.
#![allow(clippy::cast_possible_wrap, reason = "the numbers here are small")]

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Deleted, Delivery, Engine, EngineError, EngineOptions, InternalDate,
    MailboxId, Outcome,
    kv::{Family, SharedKv, keys, memory::MemoryKv},
};
use rockdove_mail::{
    Flags, MailboxName, UidSet,
    search::{SearchField, SearchKey},
};

const NOW: i64 = 1_800_000_000;
const INBOX: MailboxId = MailboxId(1);

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
}

fn options() -> EngineOptions {
    EngineOptions { undelete_s: 100, undelete_bytes_max: 1_000_000, ..EngineOptions::default() }
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).expect("a name")
}

impl House {
    fn new() -> Self {
        let house = Self::open(Arc::new(MemoryKv::recording()));
        house.run(Command::CreateDomain { domain: "a.example".into() });
        house
    }

    fn open(kv: Arc<MemoryKv>) -> Self {
        Self { engine: Engine::open(Arc::clone(&kv) as SharedKv, options()).expect("opens"), kv }
    }

    fn run(&self, command: Command) -> Outcome {
        self.engine.execute(NOW, command).expect("accepted")
    }

    fn account(&self, address: &str) -> AccountId {
        let credential = Credential {
            argon2: "!".into(),
            scram_salt: vec![1],
            scram_iterations: 4096,
            scram_stored_key: [1; 32],
            scram_server_key: [2; 32],
        };
        let command = Command::CreateAccount { address: address.into(), credential, quota_bytes: None };
        let Outcome::Account(id) = self.run(command) else { unreachable!("an account") };
        id
    }

    fn staged(&self, mail: &str) -> Arc<rockdove_engine::StagedMessage> {
        let mut staging = self.engine.stage();
        staging.write(mail.as_bytes()).expect("taken");
        staging.finish().expect("staged")
    }

    fn deliver(&self, mail: &str, accounts: &[AccountId]) {
        let delivery = |account: &AccountId| Delivery {
            account: *account,
            mailbox: MailboxName::inbox(),
            trace_header: Bytes::new(),
            flags: Flags::default(),
            internal_date: InternalDate::default(),
        };
        let deliveries = accounts.iter().map(delivery).collect();
        self.run(Command::Deliver { message: self.staged(mail), deliveries });
    }

    fn append(&self, account: AccountId, mail: &str, count: usize) {
        let message = self.staged(mail);
        let one = AppendMessage { message, flags: Flags::default(), internal_date: InternalDate::default() };
        self.run(Command::Append { account, mailbox: INBOX, messages: vec![one; count] });
    }

    fn expunge(&self, now: i64, account: AccountId, uids: UidSet) {
        let command = Command::Expunge { account, mailbox: INBOX, uids: Some(uids), deleted_only: false };
        self.engine.execute(now, command).expect("accepted");
    }

    fn purge_all(&self, now: i64) {
        let mut from = Some(AccountId(0));
        while let Some(account) = from {
            from = self.engine.purge_some(now, account).expect("a slice");
        }
    }

    fn messages(&self, account: AccountId) -> u64 {
        self.engine.deleted_use(account).expect("there").messages
    }

    fn check(&self) {
        self.engine.fsck(false, &mut |finding| panic!("{finding}")).expect("can be read");
    }

    /// Rows that name an account, by family.
    fn rows_of(&self, account: AccountId) -> Vec<(Family, Bytes)> {
        let prefix = keys::account_prefix(account.0);
        let names = |family: Family, key: &Bytes| match family {
            Family::Sys => *key == keys::account(account.0) || *key == keys::leaving(account.0),
            Family::Reference => key.first() == Some(&keys::REFERENCE_USE) && key[9..].starts_with(&prefix),
            Family::Part => false,
            _ => key.starts_with(&prefix),
        };
        let all = self.kv.dump().into_iter().map(|(family, key, _)| (family, key));
        all.filter(|(family, key)| names(*family, key)).collect()
    }

    fn parts(&self) -> usize {
        self.kv.dump().iter().filter(|(family, _, _)| *family == Family::Part).count()
    }
}

fn large(number: usize) -> String {
    format!("Subject: large {number}\r\n\r\n{}\r\n", format!("word{number} ").repeat(2_000))
}

#[test]
fn a_removed_account_is_gone_at_once_and_leaves_nothing() {
    let mut house = House::new();
    let (ada, ben) = (house.account("ada@a.example"), house.account("ben@a.example"));
    house.deliver(&large(1), &[ada, ben]);
    house.deliver(&large(2), &[ada]);
    house.append(ada, "Subject: small\r\n\r\nx\r\n", 2_500);
    house.run(Command::CreateMailbox { account: ada, name: name("old"), special_use: None });
    let Some(old) = house.engine.mailboxes(ada).expect("there").by_name(&name("old")).map(|found| found.id) else {
        unreachable!("it was created")
    };
    house.run(Command::Copy { account: ada, from: INBOX, uids: UidSet::range(1, 40), to: old });
    house.run(Command::DeleteMailbox { account: ada, name: name("old") });
    house.expunge(NOW, ada, UidSet::range(30, 60));
    while house.engine.catch_up(ada, true).expect("a slice").more {}
    let kept = house.rows_of(ben);
    for family in [Family::Sys, Family::Account, Family::Segment, Family::Message, Family::Change, Family::Text] {
        assert!(house.rows_of(ada).iter().any(|(of, _)| *of == family), "{family:?} has rows to lose");
    }
    house.run(Command::RemoveAccount { address: "ada@a.example".into() });
    let gone = |house: &House| {
        assert!(house.engine.directory().account_by_login("ada@a.example").is_none());
        assert!(matches!(house.engine.mailboxes(ada), Err(EngineError::NotFound(_))));
        assert!(matches!(house.engine.mailbox(ada, INBOX), Err(EngineError::NotFound(_))));
        let create = Command::CreateMailbox { account: ada, name: name("x"), special_use: None };
        assert!(matches!(house.engine.execute(NOW, create), Err(EngineError::NotFound(_))));
        assert!(!house.engine.catch_up(ada, true).expect("nothing to do").more);
    };
    gone(&house);
    house.check();
    // It takes some slices; the machine may die between them, and a new account may come.
    let mut slices = 0;
    while house.engine.sweep_removed(NOW).expect("a slice") {
        slices += 1;
        house = House::open(Arc::new(house.kv.crash_image(house.kv.writes(), slices)));
        gone(&house);
        house.check();
    }
    assert!(slices > 3, "{slices} slices");
    assert_eq!(house.rows_of(ada), []);
    assert_eq!(house.rows_of(ben), kept, "the other account keeps what it has");
    let before = house.parts();
    house.engine.collect_parts(NOW * 2, 100).expect("collects");
    assert_eq!(house.parts(), before - 1, "only what nobody needs is collected");
    let again = house.account("ada@a.example");
    assert!(again > ben, "an id is not used again");
    assert_eq!(house.engine.quota(again).expect("there").messages, 0);
    let record = house.engine.mailbox(ben, INBOX).expect("there").entry(1).expect("a message").message;
    let record = house.engine.record(ben, record).expect("a record");
    assert_eq!(house.engine.read(ben, &record, 0..u64::MAX).expect("readable"), large(1).as_bytes());
    house.check();
}

#[test]
fn what_is_past_its_time_goes_and_nothing_else() {
    let house = House::new();
    let (ada, ben) = (house.account("ada@a.example"), house.account("ben@a.example"));
    for account in [ada, ben] {
        house.append(account, "Subject: small\r\n\r\nx\r\n", 3_000);
    }
    house.expunge(NOW, ada, UidSet::range(1, 2_500));
    house.expunge(NOW + 50, ada, UidSet::range(2_501, 2_600));
    house.expunge(NOW + 50, ben, UidSet::range(1, 10));
    house.purge_all(NOW + 99);
    assert_eq!((house.messages(ada), house.messages(ben)), (2_600, 10));
    house.purge_all(NOW + 100);
    assert_eq!((house.messages(ada), house.messages(ben)), (100, 10));
    house.check();
    house.purge_all(NOW + 150);
    assert_eq!((house.messages(ada), house.messages(ben)), (0, 0));
    house.check();
}

#[test]
fn beyond_the_bound_what_went_first_goes_first() {
    let house = House::new();
    let ada = house.account("ada@a.example");
    let mail = large(1);
    house.append(ada, &mail, 100);
    let fits = 1_000_000 / mail.len();
    for uid in 1..=100 {
        house.expunge(NOW + i64::from(uid) / 10, ada, UidSet::range(uid, uid));
    }
    house.purge_all(NOW + 20);
    assert_eq!(house.messages(ada), fits as u64);
    let mut left = Vec::new();
    let visit = &mut |message: rockdove_engine::DeletedMessage| {
        left.push(message.uid);
        ControlFlow::Continue(())
    };
    house.engine.deleted_messages(ada, visit).expect("can be read");
    let first = 101 - u32::try_from(fits).expect("few");
    assert_eq!(left, (first..=100).collect::<Vec<_>>());
    house.check();
}

#[test]
fn what_comes_back_is_found_at_once_and_comes_back_once() {
    let house = House::new();
    let ada = house.account("ada@a.example");
    house.deliver(&large(7), &[ada]);
    while house.engine.catch_up(ada, true).expect("a slice").more {}
    let find =
        || house.engine.search(ada, INBOX, &SearchKey::Text(SearchField::Body, "WORD7".into())).expect("searches");
    assert_eq!(find(), [1]);
    house.expunge(NOW, ada, UidSet::range(1, 1));
    assert_eq!(find(), [] as [u32; 0]);
    house.engine.collect_parts(NOW * 2, 100).expect("collects");
    while house.engine.catch_up(ada, true).expect("a slice").more {}
    let since = Command::Restore { account: ada, which: Deleted::Since(NOW), to: None };
    assert_eq!(house.run(since.clone()), Outcome::Restored { messages: 1, mailboxes: 0, more: false });
    assert_eq!(find(), [2], "under a new UID");
    assert_eq!(house.run(since), Outcome::Restored { messages: 0, mailboxes: 0, more: false });
    assert_eq!(house.engine.quota(ada).expect("there").messages, 1);
    house.check();
}

#[test]
fn what_comes_back_must_fit_the_quota() {
    let house = House::new();
    let ada = house.account("ada@a.example");
    house.append(ada, &large(1), 2);
    house.expunge(NOW, ada, UidSet::range(1, 2));
    let used = house.engine.quota(ada).expect("there").used_bytes;
    assert_eq!(used, 0, "what is kept is not counted");
    house.run(Command::SetQuota { address: "ada@a.example".into(), quota_bytes: Some(large(1).len() as u64) });
    let restore = Command::Restore { account: ada, which: Deleted::Since(0), to: None };
    assert_eq!(house.engine.execute(NOW, restore), Err(EngineError::OverQuota));
    assert_eq!(house.messages(ada), 2, "nothing has changed");
    house.check();
}
